//! A session channel into a VM, and the wait for the VM before it.
//!
//! A VM that runs is asked first: the channel is opened when the VM has opened its half, and each request gets the VM's
//! answer. A VM that has to come up is waited for in an open channel, since that is where the person is told: requests are
//! said yes to then and asked of the VM later.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use berth_control::Progress;
use berth_vm_ssh::{FromVm, Request, ToVm};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::{
    Direct,
    line::{Kind, Place},
    relay::{Before, Ends, relay},
};
use crate::{
    progress::Telling,
    refusal::{Refusal, status},
    session::Person,
    ssh::{Incoming, Opening, Reader, Seat, Writer},
    text::for_terminal,
};

/// So long a VM may take to answer a request. The client's other channels wait with it.
const PATIENCE: Duration = Duration::from_secs(30);
/// Things that happen while a VM starts and are not told yet.
const UNTOLD: usize = 8;
/// The most requests, and bytes in them, that wait for a VM to come up.
const MAX_EARLY: (usize, usize) = (256, 64 * 1024);

/// A request that the client waits to have answered.
pub(crate) struct Ask {
    pub(super) request: Request,
    pub(super) answer: oneshot::Sender<bool>,
}

/// Asks what runs in a session.
#[derive(Clone)]
pub(crate) struct Asker(mpsc::Sender<Ask>);

/// An asker, and what the session is asked.
pub(crate) fn asker() -> (Asker, mpsc::Receiver<Ask>) {
    let (ask, asks) = mpsc::channel(1);
    (Asker(ask), asks)
}

impl Asker {
    /// Whether the VM does it. A VM that does not say so in half a minute does not.
    pub(crate) async fn ask(&self, request: Request) -> bool {
        let (answer, answered) = oneshot::channel();
        let asking =
            async { self.0.send(Ask { request, answer }).await.is_ok() && answered.await == Ok(true) };
        timeout(PATIENCE, asking).await.unwrap_or(false)
    }

    /// Whether the session has ended.
    pub(crate) fn is_over(&self) -> bool {
        self.0.is_closed()
    }
}

/// The VM's half of a session.
struct Inside {
    place: Place,
    to_vm: ToVm,
    from_vm: FromVm,
}

/// Carries a session that a client has asked for.
pub(crate) async fn by_session(direct: Arc<Direct>, seat: Seat, opening: Opening, asks: mpsc::Receiver<Ask>) {
    let (progress, mut news) = mpsc::channel(UNTOLD);
    // In a box, which is gone when the bytes begin to flow.
    let mut getting_in = Box::pin(inside(&direct, progress));
    let first = tokio::select! {
        biased;
        got_in = &mut getting_in => {
            drop(getting_in);
            let (reader, writer) = opening.accept().await;
            return match got_in {
                Ok(inside) => run(&direct, &seat, inside, (reader, writer), Before::nothing(&seat), asks).await,
                Err(refusal) => turn_away(&refusal, reader, writer, asks, false).await,
            };
        }
        Some(first) = news.recv() => first,
    };
    let (mut reader, writer) = opening.accept().await;
    let mut early = Early { before: Before::nothing(&seat), bytes: 0, started: false };
    let (mut asks, is_terminal) = (asks, AtomicBool::new(false));
    let waited = {
        let told = tell(&writer, &is_terminal, first, news);
        let mut waiting = pin!(async { tokio::join!(getting_in, told).0 });
        loop {
            tokio::select! {
                got_in = &mut waiting => break Some(got_in),
                incoming = reader.next() => if !early.keep(incoming) { break None },
                Some(ask) = asks.recv() => early.asked(ask, &is_terminal),
            }
        }
    };
    match waited {
        Some(Ok(inside)) => run(&direct, &seat, inside, (reader, writer), early.before, asks).await,
        Some(Err(refusal)) if early.started => {
            drop(reader);
            let person = Person::new(writer, is_terminal.into_inner());
            person.leave(refusal.line(), refusal.exit_status()).await;
        }
        // It was told sooner than the client has asked for anything.
        Some(Err(refusal)) => turn_away(&refusal, reader, writer, asks, is_terminal.into_inner()).await,
        None => {
            let _ = writer.close().await;
        }
    }
}

/// What comes while the VM comes up.
struct Early {
    before: Before,
    bytes: usize,
    /// The client has asked for something to run.
    started: bool,
}

impl Early {
    /// Keeps what the client sends; whether it still wants the channel, and keeps to its credit.
    fn keep(&mut self, incoming: Option<Incoming>) -> bool {
        match incoming {
            None => return false,
            Some(Incoming::Data(data)) => return self.before.backlog.push(data).is_ok(),
            Some(Incoming::Eof) => self.before.ended = true,
            Some(Incoming::Resize(window)) => self.keep_request(Request::Resize(window)),
            // Nothing runs that a signal could be for. Requests that are answered come as asks.
            Some(
                Incoming::Signal(_)
                | Incoming::Pty { .. }
                | Incoming::Shell
                | Incoming::Exec(_)
                | Incoming::Subsystem(_),
            ) => {}
        }
        true
    }

    /// Says yes, for now.
    fn asked(&mut self, Ask { request, answer }: Ask, is_terminal: &AtomicBool) {
        if matches!(request, Request::Pty { .. }) {
            is_terminal.store(true, Ordering::Relaxed);
        }
        self.started |= starts(&request);
        self.keep_request(request);
        let _ = answer.send(true);
    }

    /// Keeps a request, and forgets it where there are too many: nobody needs so many.
    fn keep_request(&mut self, request: Request) {
        let requests = &mut self.before.requests;
        if let (Request::Resize(window), Some(Request::Resize(last))) = (&request, requests.last_mut()) {
            *last = *window;
            return;
        }
        self.bytes += request.bytes();
        if requests.len() < MAX_EARLY.0 && self.bytes <= MAX_EARLY.1 {
            requests.push(request);
        }
    }
}

/// Tells the person what is waited for, until it is there.
async fn tell(
    writer: &Writer,
    is_terminal: &AtomicBool,
    first: Progress,
    mut news: mpsc::Receiver<Progress>,
) {
    let mut telling = Telling::new();
    let say = async |text: String| {
        let text = if is_terminal.load(Ordering::Relaxed) { for_terminal(&text) } else { text };
        // Somebody who is gone is told nothing.
        let _ = writer.stderr(text).await;
    };
    say(telling.words(&first)).await;
    while let Some(progress) = news.recv().await {
        say(telling.words(&progress)).await;
    }
    if let Some(end) = telling.end() {
        say(end).await;
    }
}

/// Waits for the request that starts something, so that there is a terminal or none, and says why it is in vain.
async fn turn_away(
    refusal: &Refusal,
    mut reader: Reader,
    writer: Writer,
    mut asks: mpsc::Receiver<Ask>,
    mut is_terminal: bool,
) {
    loop {
        tokio::select! {
            incoming = reader.next() => if incoming.is_none() {
                return;
            },
            ask = asks.recv() => {
                let Some(Ask { request, answer }) = ask else { return };
                is_terminal |= matches!(request, Request::Pty { .. });
                let starts = starts(&request);
                let _ = answer.send(true);
                if starts {
                    break;
                }
            }
        }
    }
    drop(reader);
    Person::new(writer, is_terminal).leave(refusal.line(), refusal.exit_status()).await;
}

/// Whether a request has something run in a session.
fn starts(request: &Request) -> bool {
    matches!(request, Request::Shell | Request::Exec(_) | Request::Subsystem(_))
}

async fn inside(direct: &Arc<Direct>, progress: mpsc::Sender<Progress>) -> Result<Inside, Refusal> {
    let place = direct.place(Kind::Session, progress).await?;
    let (to_vm, from_vm) = place.line().connection().carried_session().await?;
    Ok(Inside { place, to_vm, from_vm })
}

async fn run(
    direct: &Direct,
    seat: &Seat,
    Inside { place, to_vm, from_vm }: Inside,
    (reader, writer): (Reader, Writer),
    before: Before,
    asks: mpsc::Receiver<Ask>,
) {
    let ends = Ends { reader, writer, to_vm, from_vm };
    let has_terminal = before.requests.iter().any(|request| matches!(request, Request::Pty { .. }));
    if let Some((writer, what)) = relay(direct, seat, &place, ends, before, Some(asks)).await {
        let text = refused(place.line().vm(), what, false);
        Person::new(writer, has_terminal).leave(text, status::UNAVAILABLE).await;
    }
}

/// That a VM does not do what its client was told that it does.
pub(super) fn refused(vm: &str, what: &str, has_terminal: bool) -> String {
    let text = format!("The sshd in {vm} refused {what}.\n");
    if has_terminal { for_terminal(&text) } else { text }
}
