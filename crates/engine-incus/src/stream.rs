//! A connection into a VM that calls it when something is sent while it sleeps.
//!
//! A container that stands still keeps its connections, and its kernel takes bytes for it: nobody in it would ever read
//! them. So whoever sends notes that the VM is called, and it is woken.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::notes::Note;

pub(crate) struct Calling<S> {
    stream: S,
    note: Arc<Note>,
}

impl<S> Calling<S> {
    pub(crate) fn new(stream: S, note: Arc<Note>) -> Self {
        Self { stream, note }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Calling<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Calling<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.note.call();
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.note.call();
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl<S> Drop for Calling<S> {
    fn drop(&mut self) {
        self.note.call();
    }
}

#[cfg(test)]
mod tests {
    use berth_model::VmId;
    use tokio::io::AsyncWriteExt;

    use super::*;
    use crate::notes::Notes;

    #[tokio::test]
    async fn who_sends_to_a_vm_that_sleeps_calls_it() {
        let notes = Notes::default();
        let note = notes.of(&VmId::random());
        let (ours, _theirs) = tokio::io::duplex(100);
        let mut stream = Calling::new(ours, Arc::clone(&note));
        stream.write_all(b"awake").await.unwrap();
        assert!(!note.is_called(), "one that runs is not called");
        note.fell_asleep();
        let mut changes = note.changes();
        stream.write_all(b"asleep").await.unwrap();
        assert!(note.is_called() && changes.has_changed().unwrap());
        changes.mark_unchanged();
        stream.write_all(b"again").await.unwrap();
        assert!(!changes.has_changed().unwrap(), "once is enough");
        note.awoke();
        assert!(!note.is_called());
        note.fell_asleep();
        drop(stream);
        assert!(note.is_called(), "the end of a connection is for it to hear, too");
    }
}
