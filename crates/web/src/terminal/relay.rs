//! Bytes both ways, with a bound both ways.
//!
//! What is shown: above [`SHOWN_WINDOW`] bytes that the page has not drawn the VM is not read, its sshd's window fills,
//! and the program in it waits. What is typed: the page sends at most [`TYPED_WINDOW`] bytes that the VM has not taken;
//! they are queued here, so that a program which does not read cannot keep the page's words on what it has drawn from
//! being heard.

use std::collections::VecDeque;

use axum::extract::ws::Message;
use berth_vm_ssh::{Event, Input, Size};
use bytes::Bytes;
use futures::{FutureExt, Sink, Stream, future::BoxFuture};

use super::{
    audience::Audience,
    browser::{Browser, Gone},
    shell::{self, Shell},
    wire::{FromPage, SHOWN_WINDOW, TYPED_WINDOW, ToPage},
};

/// What is on its way into the VM.
pub(crate) enum Work {
    Typed(Bytes),
    Size(Size),
}

/// What has been typed and not yet sent.
#[derive(Default)]
pub(crate) struct Queue {
    work: VecDeque<Work>,
    bytes: usize,
}

impl Queue {
    /// A page that sends more than it may is none of ours.
    pub(crate) fn typed(&mut self, data: Bytes) -> Result<(), Gone> {
        self.bytes += data.len();
        if self.bytes > TYPED_WINDOW {
            return Err(Gone);
        }
        if !data.is_empty() {
            self.work.push_back(Work::Typed(data));
        }
        Ok(())
    }

    /// Of sizes that wait only the last one matters.
    pub(crate) fn resized(&mut self, size: Size) {
        if let Some(Work::Size(last)) = self.work.back_mut() {
            *last = size;
        } else {
            self.work.push_back(Work::Size(size));
        }
    }

    /// What goes next. It counts until it was [`Queue::taken`].
    pub(crate) fn next(&mut self) -> Option<Work> {
        self.work.pop_front()
    }

    /// How many there are that were not taken.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// So many bytes are gone.
    pub(crate) fn taken(&mut self, bytes: usize) {
        self.bytes -= bytes;
    }
}

/// Carries a terminal until its shell ends, and gives the last word. `size` is what the page has by now.
pub(crate) async fn relay<S, E>(
    browser: &mut Browser<S>,
    shell: &mut Shell,
    size: Size,
    audience: &mut Audience,
) -> Result<ToPage, Gone>
where
    S: Stream<Item = Result<Message, E>> + Sink<Message> + Unpin,
{
    let Shell { connection, input, output, recording, .. } = shell;
    let mut listing = shell::list(connection).boxed().fuse();
    let (mut queue, mut undrawn, mut exit) = (Queue::default(), 0, None);
    queue.resized(size);
    let mut working: Option<BoxFuture<'_, usize>> = None;
    loop {
        if working.is_none() {
            working = queue.next().map(|work| carried(input, work).boxed());
        }
        tokio::select! {
            said = browser.next() => match said? {
                FromPage::Typed(data) => queue.typed(data)?,
                FromPage::Size { columns, rows } => {
                    queue.resized(Size::new(columns, rows));
                    audience.resized(columns, rows);
                    if let Some(recording) = recording {
                        recording.resized(columns, rows);
                    }
                }
                FromPage::Share { typing } => {
                    audience.wanted(typing);
                    listing = shell::list(connection).boxed().fuse();
                }
                FromPage::Unshare => audience.unshare(),
                FromPage::Drawn { bytes } if bytes <= undrawn => undrawn -= bytes,
                FromPage::Wake => {}
                FromPage::Drawn { .. } | FromPage::Open { .. } => return Err(Gone),
            },
            event = output.next(), if undrawn < SHOWN_WINDOW => match event {
                Some(Event::Data(data) | Event::Errors(data)) => {
                    undrawn += data.len();
                    if let Some(recording) = recording {
                        recording.output(&data);
                    }
                    browser.show(data).await?;
                }
                Some(Event::Exit(status)) => exit = Some(Some(status)),
                Some(Event::Signal(_)) => exit = Some(None),
                None => {
                    if exit.is_some() {
                        audience.shell_ended();
                    }
                    return Ok(exit.map_or(ToPage::Lost, |status| ToPage::Exit { status }));
                }
            },
            bytes = async { working.as_mut().expect("there is some").await }, if working.is_some() => {
                working = None;
                queue.taken(bytes);
                if bytes > 0 {
                    browser.say(&ToPage::Taken { bytes }).await?;
                }
            }
            open = &mut listing => {
                if let Some(word) = audience.found(&open).await {
                    browser.say(&word).await?;
                }
                let open = open.iter().map(|listed| listed.number).collect();
                browser.say(&ToPage::List { open }).await?;
            }
            word = audience.changed() => browser.say(&word).await?,
        }
    }
}

/// Sends one thing, and tells how many bytes of the queue it was. Where the connection has ended, its output says so.
pub(crate) async fn carried(input: &Input, work: Work) -> usize {
    match work {
        Work::Typed(data) => {
            let bytes = data.len();
            let _ended = input.data(data).await;
            bytes
        }
        Work::Size(size) => {
            let _ended = input.resize(size).await;
            0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_is_bounded_and_sizes_do_not_pile_up() {
        let mut queue = Queue::default();
        for columns in 1..500 {
            queue.resized(Size::new(columns, 24));
        }
        assert_eq!(queue.work.len(), 1);
        queue.typed(Bytes::from(vec![b'a'; TYPED_WINDOW])).unwrap();
        assert_eq!(queue.typed(Bytes::new()), Ok(()));
        assert_eq!(queue.typed(Bytes::from_static(b"b")), Err(Gone));
    }
}
