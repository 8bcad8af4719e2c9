//! The bytes between a channel and a VM.
//!
//! One task a channel, both directions in it. Upwards each message of the client goes to the VM as it is; what the VM
//! does not take at once waits in a [`Backlog`], so that the client's messages are always taken. Downwards what the VM
//! has is read into room on the stack of the poll and copied out in its exact size: a tunnel in which nothing moves
//! holds no buffer.
//!
//! Where the VM's side begins with an ssh identification it is listened to, or left out: see `early.rs`.

use std::{
    future::{pending, poll_fn},
    io,
    mem::MaybeUninit,
    pin::{Pin, pin},
    sync::Arc,
    task::{Poll, ready},
    time::Duration,
};

use berth_engine::Stream;
use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncWriteExt, ReadBuf, ReadHalf, WriteHalf},
    sync::oneshot,
    time::{Instant, sleep_until, timeout},
};

use crate::{
    backlog::{Backlog, Flow, Overfull},
    early::{Ear, Heard, Search},
    refusal::status,
    ssh::{Gone, Incoming, Reader, Writer},
};

/// The most that is read from a VM at a time: what fits into one packet of ours.
const CHUNK: usize = 32 * 1024;
/// A VM that takes nothing for this long, with a full backlog, is given up for the sake of other channels.
const STALLED: Duration = Duration::from_secs(60);
/// How long a VM may take to identify itself when its client has been told already, and so has stopped counting.
const GREETING: Duration = Duration::from_secs(30);

/// How a tunnel ends before both sides have said all that they had.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The client closed the channel, or cannot be written to.
    ByClient,
    /// The client sends more than it may.
    Overfull,
    /// The VM takes nothing, and other channels of the connection suffer from it.
    Stalled,
    /// The VM's side failed.
    ByVm,
    /// The client was told what the VM did not keep. Nothing of the VM's was passed on.
    Unkept(Unkept),
}

/// What an early identification came to when it was not right.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unkept {
    /// The VM has another one now.
    Changed,
    /// The VM says nothing.
    Silent,
    /// The VM ended the connection without one.
    Ended,
}

/// What the VM's side begins with.
pub(crate) enum Greeting {
    /// Bytes like all others.
    Any,
    /// An identification, which is passed on and told.
    Heard(oneshot::Sender<String>),
    /// The identification that the client has had already. Another one is told.
    Promised(String, oneshot::Sender<String>),
}

impl From<Overfull> for Cut {
    fn from(Overfull: Overfull) -> Self {
        Self::Overfull
    }
}

impl From<Gone> for Cut {
    fn from(Gone: Gone) -> Self {
        Self::ByClient
    }
}

/// What comes from the client, from before there is anybody to give it to.
pub(crate) struct Upstream {
    reader: Reader,
    backlog: Backlog,
    /// The client has said that no more will come.
    ended: bool,
    /// Nobody wants it any more.
    refused: bool,
}

impl Upstream {
    pub(crate) fn new(reader: Reader, flow: Arc<Flow>) -> Self {
        Self { reader, backlog: Backlog::new(flow), ended: false, refused: false }
    }

    /// Takes one message. Nothing is lost when the future is dropped.
    pub(crate) async fn take(&mut self) -> Result<(), Cut> {
        let incoming = self.reader.next().await;
        self.keep(incoming)
    }

    fn keep(&mut self, incoming: Option<Incoming>) -> Result<(), Cut> {
        match incoming.ok_or(Cut::ByClient)? {
            Incoming::Data(data) if !self.ended && !self.refused => self.backlog.push(data)?,
            Incoming::Eof => self.ended = true,
            // A session starts one thing; whatever else is asked has been refused already.
            Incoming::Data(_)
            | Incoming::Pty { .. }
            | Incoming::Shell
            | Incoming::Exec(_)
            | Incoming::Subsystem(_)
            | Incoming::Resize(_)
            | Incoming::Signal(_) => {}
        }
        Ok(())
    }

    /// Waits until the client has closed the channel.
    pub(crate) async fn closed(&mut self) {
        while self.reader.next().await.is_some() {}
    }
}

/// Carries bytes both ways until both sides have ended theirs.
pub(crate) async fn splice(
    up: &mut Upstream,
    writer: &Writer,
    vm: Box<dyn Stream>,
    greeting: Greeting,
    has_neighbours: impl Fn() -> bool,
) -> Result<(), Cut> {
    let (from_vm, to_vm) = tokio::io::split(vm);
    let mut feed = Feed { to_vm, unflushed: false, done: false };
    let mut pour = pin!(pour(from_vm, writer, greeting));
    let mut poured = false;
    let mut moved = Instant::now();
    while !(poured && feed.done) {
        let Upstream { reader, backlog, ended, .. } = up;
        let is_high = backlog.is_high();
        tokio::select! {
            incoming = reader.next() => up.keep(incoming)?,
            fed = feed.step(backlog, *ended) => {
                moved = Instant::now();
                if fed.is_err() {
                    // The VM may still be saying something; what it is sent is lost.
                    feed.done = true;
                    up.refused = true;
                    up.backlog.clear();
                }
            }
            result = &mut pour, if !poured => {
                result?;
                poured = true;
            }
            () = sleep_until(moved + STALLED), if is_high => {
                if has_neighbours() {
                    return Err(Cut::Stalled);
                }
                moved = Instant::now();
            }
        }
    }
    Ok(())
}

/// The way to the VM.
struct Feed {
    to_vm: WriteHalf<Box<dyn Stream>>,
    unflushed: bool,
    /// The VM has been told that no more will come, or does not want more.
    done: bool,
}

impl Feed {
    /// Does the next thing that there is to do, or waits for ever. Nothing is lost when the future is dropped.
    async fn step(&mut self, backlog: &mut Backlog, ended: bool) -> io::Result<()> {
        if self.done {
            pending::<()>().await;
        }
        if !backlog.is_empty() {
            let n = self.to_vm.write(backlog.front()).await?;
            if n == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.unflushed = true;
            backlog.wrote(n);
        } else if self.unflushed {
            self.to_vm.flush().await?;
            self.unflushed = false;
        } else if ended {
            self.to_vm.shutdown().await?;
            self.done = true;
        } else {
            pending::<()>().await;
        }
        Ok(())
    }
}

/// Carries what the VM says to the client, and the end of it.
async fn pour(
    mut from_vm: ReadHalf<Box<dyn Stream>>,
    writer: &Writer,
    greeting: Greeting,
) -> Result<(), Cut> {
    let mut ear = None;
    match greeting {
        Greeting::Any => {}
        Greeting::Heard(tell) => ear = Some(Ear::new(tell)),
        Greeting::Promised(line, tell) => {
            // In a box of its own, so that tunnels that promise nothing have no room for it.
            let keeping = Box::pin(timeout(GREETING, keep_promise(&mut from_vm, &line, tell)));
            let rest = keeping.await.unwrap_or(Err(Unkept::Silent)).map_err(Cut::Unkept)?;
            if !rest.is_empty() {
                writer.data(rest).await?;
            }
        }
    }
    loop {
        let data = chunk(&mut from_vm).await.map_err(|_| Cut::ByVm)?;
        if data.is_empty() {
            writer.exit_status(status::DONE).await?;
            return Ok(writer.eof().await?);
        }
        ear = ear.and_then(|ear: Ear| ear.hear(&data));
        writer.data(data).await?;
    }
}

/// Waits for the identification that the client has had, and gives what came behind it.
async fn keep_promise(
    from_vm: &mut ReadHalf<Box<dyn Stream>>,
    promised: &str,
    tell: oneshot::Sender<String>,
) -> Result<Bytes, Unkept> {
    let mut search = Search::default();
    loop {
        let mut data = chunk(from_vm).await.unwrap_or_default();
        if data.is_empty() {
            return Err(Unkept::Ended);
        }
        match search.hear(&data) {
            Heard::More => {}
            Heard::Identification { line, rest } if line == promised => return Ok(data.split_off(rest)),
            Heard::Identification { line, .. } => {
                // Nobody listens when the tunnel is being ended.
                let _ = tell.send(line);
                return Err(Unkept::Changed);
            }
            Heard::Nothing => return Err(Unkept::Changed),
        }
    }
}

/// What there is to be read, at least a byte; nothing at the end.
async fn chunk(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Bytes> {
    poll_fn(|cx| {
        let mut room = [const { MaybeUninit::uninit() }; CHUNK];
        let mut buf = ReadBuf::uninit(&mut room);
        ready!(Pin::new(&mut *from).poll_read(cx, &mut buf))?;
        Poll::Ready(Ok(Bytes::copy_from_slice(buf.filled())))
    })
    .await
}
