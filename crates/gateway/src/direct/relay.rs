//! One channel, both ways, from the moment that both its halves are open.
//!
//! One task a channel. What the client sends is always taken, into a [`Backlog`] that is bounded by the client's credit:
//! see `backlog.rs`. What the VM sends is taken as long as there is room in a [`Down`], and at a pace after that where
//! others share the line: see `trickle.rs`. Requests pass what waits.

use std::{collections::VecDeque, future::pending, pin::Pin, time::Duration};

use berth_control::{Recording, RecordingWay};
use berth_vm_ssh::{FromVm, Message, Request, ToVm, Window};
use bytes::Bytes;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until, timeout},
};

use tracing::debug;

use super::{
    Direct,
    down::{Down, Item},
    line::Place,
    session::Ask,
    trickle::Trickle,
};
use crate::{
    backlog::{Backlog, Overfull},
    ssh::{Gone, Incoming, Reader, Seat, Writer},
};

/// Who takes nothing for this long, with a full queue, is given up for the sake of other channels.
const STALLED: Duration = Duration::from_secs(60);
/// How long a client that has ended its side may take to close the channel. Closing it first costs memory: see
/// `MAX_CHANNELS_EVER`.
const LAST_WORD: Duration = Duration::from_secs(2);
/// Requests that wait for the VM to take them.
const MAX_WORK: usize = 64;
/// stderr (RFC 4254, 5.2).
const STDERR: u32 = 1;

type Doing<'a, E> = Option<Pin<Box<dyn Future<Output = Result<(), E>> + Send + 'a>>>;

/// Both halves of a channel.
pub(super) struct Ends {
    pub(super) reader: Reader,
    pub(super) writer: Writer,
    pub(super) to_vm: ToVm,
    pub(super) from_vm: FromVm,
}

/// What was sent and asked before the VM's half was open.
pub(super) struct Before {
    pub(super) backlog: Backlog,
    pub(super) ended: bool,
    pub(super) requests: Vec<Request>,
}

impl Before {
    pub(super) fn nothing(seat: &Seat) -> Self {
        Self { backlog: Backlog::new(seat.flow.clone()), ended: false, requests: vec![] }
    }
}

/// Who waits for an answer of the VM.
enum Waiting {
    Client(oneshot::Sender<bool>),
    /// The client was told yes when there was no VM to ask. If it is a no, these words are left.
    Told(Late),
}

/// What a refusal means that comes after its yes.
enum Late {
    Nothing,
    Words(&'static str),
    /// The channel is for nothing now.
    End(&'static str),
}

/// How far the client is told that the VM sends no more data.
///
/// sshd may say so before the status of what ran. The client is told after it: one that has ended its side, too, may close
/// the channel then, as PuTTY does, and russh has no way to say anything in a channel that the client has closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    /// There is a status to come, and no end yet.
    NotYet,
    /// It waits for the status.
    Held,
    /// It goes through when it comes, or has done so.
    AsItComes,
}

/// How a channel ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The client closed it, or may not have it any more.
    ByClient,
    /// The VM closed it, and all that it had said is with the client.
    ByVm,
    /// The VM does not do what the client was told that it does.
    Refused(&'static str),
}

/// What goes on in a channel.
struct State {
    backlog: Backlog,
    /// The client has said that no more will come.
    ended: bool,
    /// It has closed the channel. What it said before that is still for the VM, as it is for an sshd.
    left: bool,
    /// The VM has been told so.
    end_told: bool,
    work: VecDeque<Request>,
    waiting: VecDeque<Waiting>,
    down: Down,
    /// The end of what the VM sends.
    end: Told,
    /// The VM has closed the channel.
    closed: bool,
    refused: Option<&'static str>,
    vm: String,
    has_terminal: bool,
    /// What is kept of what appears on the terminal.
    recording: Option<Recording>,
}

/// Carries a channel to its end, and closes what is open of it. Gives back the client's half where there is something left
/// to be said.
pub(super) async fn relay(
    direct: &Direct,
    seat: &Seat,
    place: &Place,
    mut ends: Ends,
    before: Before,
    asks: Option<mpsc::Receiver<Ask>>,
) -> Option<(Writer, &'static str)> {
    let has_status = asks.is_some();
    let mut state = State::new(direct, before, place, has_status);
    let end = carry(direct, seat, place, &mut ends, &mut state, asks).await;
    let Ends { mut reader, writer, to_vm, .. } = ends;
    match end {
        End::ByClient => {
            let _ = to_vm.close().await;
            let _ = writer.close().await;
        }
        End::ByVm => {
            if state.ended && !seat.is_first {
                let _ = timeout(LAST_WORD, async { while reader.next().await.is_some() {} }).await;
            }
            let _ = writer.close().await;
        }
        End::Refused(what) => {
            let _ = to_vm.close().await;
            return Some((writer, what));
        }
    }
    None
}

async fn carry(
    direct: &Direct,
    seat: &Seat,
    place: &Place,
    Ends { reader, writer, to_vm, from_vm }: &mut Ends,
    state: &mut State,
    mut asks: Option<mpsc::Receiver<Ask>>,
) -> End {
    let (mut sending, mut asking, mut telling): (Doing<'_, _>, Doing<'_, _>, Doing<'_, _>) =
        (None, None, None);
    let (mut sent, mut told) = (Instant::now(), Instant::now());
    let mut trickle = Trickle::default();
    loop {
        if asking.is_none() {
            asking = state.work.pop_front().map(|request| Box::pin(to_vm.ask(request)) as _);
        }
        // What was asked for before it has to be on its way: what early data is for may not run yet.
        if sending.is_none() && asking.is_none() {
            sending = state.next_up().map(|data| up(to_vm, data));
        }
        if telling.is_none() {
            telling = state.down.pop().map(|item| Box::pin(tell(direct, writer, item)) as _);
        }
        match (state.refused, state.closed && telling.is_none()) {
            (Some(what), _) => return End::Refused(what),
            (None, true) => return End::ByVm,
            (None, false) if state.left && sending.is_none() && asking.is_none() => return End::ByClient,
            (None, false) => {}
        }
        let (high, full) = (state.backlog.is_high(), state.down.is_full());
        place.hold(full);
        let (changed, beside_others) = (place.changed(), place.is_shared());
        let trickles = full && beside_others && state.down.has_room_beside_others();
        if !high && !state.left {
            sent = Instant::now();
        }
        if !full {
            told = Instant::now();
        }
        tokio::select! {
            incoming = reader.next(), if !state.left => {
                match incoming.map(|incoming| state.client_says(incoming)) {
                    Some(Ok(())) => {}
                    Some(Err(Overfull)) => return given_up("its client sends more than it may"),
                    None => {
                        telling = None;
                        state.client_left();
                    }
                }
            }
            message = next_from(from_vm, &trickle, trickles), if !state.closed && (!full || trickles) => {
                if trickles {
                    trickle.took(message.as_ref().map_or(0, bytes_of));
                }
                state.vm_says(message);
            }
            () = changed, if full => {}
            _ended_where_the_vm_says_so = done(&mut sending) => sent = Instant::now(),
            _the_same = done(&mut asking) => {}
            told_it = done(&mut telling) => match told_it {
                Ok(()) => told = Instant::now(),
                Err(Gone) => return End::ByClient,
            },
            ask = next_of(&mut asks) => state.asked(direct, ask, place),
            () = sleep_until(sent + STALLED), if high || state.left => {
                if state.left || seat.has_neighbours() {
                    return given_up("the VM takes nothing");
                }
                sent = Instant::now();
            }
            () = sleep_until(told + STALLED), if full => {
                if beside_others {
                    return given_up("its client takes nothing");
                }
                told = Instant::now();
            }
        }
    }
}

/// What the VM says next, at once or at a pace. Nothing is lost when the future is dropped.
async fn next_from(from_vm: &mut FromVm, trickle: &Trickle, trickles: bool) -> Option<Message> {
    if trickles {
        trickle.due().await;
    }
    from_vm.next().await
}

fn bytes_of(message: &Message) -> usize {
    match message {
        Message::Data(data) | Message::Extended(_, data) => data.len(),
        Message::Signal { name, message, .. } => name.len() + message.len(),
        Message::Eof | Message::Status(_) | Message::Granted(_) => 0,
    }
}

/// Ends a channel for the sake of others.
fn given_up(why: &str) -> End {
    debug!(why, "a channel of direct mode was given up");
    End::ByClient
}

impl State {
    fn new(
        direct: &Direct,
        Before { backlog, ended, requests }: Before,
        place: &Place,
        has_status: bool,
    ) -> Self {
        let down = Down::new(direct.client.flow.clone());
        let mut state = Self {
            backlog,
            ended,
            left: false,
            end_told: false,
            work: VecDeque::new(),
            waiting: VecDeque::new(),
            down,
            end: if has_status { Told::NotYet } else { Told::AsItComes },
            closed: false,
            refused: None,
            vm: place.line().vm().to_owned(),
            has_terminal: requests.iter().any(|request| matches!(request, Request::Pty { .. })),
            recording: None,
        };
        for request in requests {
            place.line().asked_for(&request);
            state.records(direct, place, &request);
            state.waiting.extend(late(&request).map(Waiting::Told));
            state.work.push_back(request);
        }
        state
    }

    /// What is sent to the VM next: data, or its end.
    fn next_up(&mut self) -> Option<Option<Bytes>> {
        if let Some(data) = self.backlog.pop() {
            return Some(Some(data));
        }
        (self.ended && !std::mem::replace(&mut self.end_told, true)).then_some(None)
    }

    /// A session with a terminal is recorded where the operator has decided so, and its client is told. On stderr, so that
    /// what is piped from it is what the VM has said.
    fn records(&mut self, direct: &Direct, place: &Place, request: &Request) {
        let Request::Pty { size, .. } = request else { return };
        let control = &direct.client.control;
        if self.recording.is_none()
            && let Some(notice) = control.recording_notice()
        {
            let (columns, rows) = size_of(*size);
            self.recording = control.record(place.line().entry(), RecordingWay::Direct, columns, rows);
            if self.recording.is_some() {
                self.down.push(Item::Extended(STDERR, format!("{notice}\r\n").into()));
            }
        }
    }

    fn appears(&mut self, data: &[u8]) {
        if let Some(recording) = &mut self.recording {
            recording.output(data);
        }
    }

    fn client_says(&mut self, incoming: Incoming) -> Result<(), Overfull> {
        match incoming {
            Incoming::Data(data) if !self.ended && !self.closed => self.backlog.push(data)?,
            Incoming::Eof => self.ended = true,
            Incoming::Resize(window) => {
                if let Some(recording) = &mut self.recording {
                    let (columns, rows) = size_of(window);
                    recording.resized(columns, rows);
                }
                if let Some(Request::Resize(last)) = self.work.back_mut() {
                    *last = window;
                } else if self.work.len() < MAX_WORK {
                    self.work.push_back(Request::Resize(window));
                }
            }
            Incoming::Signal(name) if self.work.len() < MAX_WORK => {
                self.work.push_back(Request::Signal(name));
            }
            // Requests that are answered come as asks.
            Incoming::Data(_)
            | Incoming::Signal(_)
            | Incoming::Pty { .. }
            | Incoming::Shell
            | Incoming::Exec(_)
            | Incoming::Subsystem(_) => {}
        }
        Ok(())
    }

    /// The client has closed the channel, and is told nothing more.
    fn client_left(&mut self) {
        self.left = true;
        self.down.clear();
    }

    fn vm_says(&mut self, message: Option<Message>) {
        match message {
            Some(message) if self.left && !matches!(message, Message::Granted(_)) => {}
            Some(Message::Data(data)) => {
                self.appears(&data);
                self.down.push(Item::Data(data));
            }
            Some(Message::Extended(stream, data)) => {
                self.appears(&data);
                self.down.push(Item::Extended(stream, data));
            }
            Some(Message::Status(status)) => {
                self.down.push(Item::Status(status));
                self.release_end();
            }
            Some(Message::Signal { name, core_dumped, message }) => {
                self.down.push(Item::Signal { name, core_dumped, message });
                self.release_end();
            }
            Some(Message::Eof) => match self.end {
                Told::AsItComes => self.down.push(Item::Eof),
                Told::NotYet | Told::Held => self.end = Told::Held,
            },
            Some(Message::Granted(granted)) => self.answered(granted),
            None => {
                self.release_end();
                self.closed = true;
                self.backlog.clear();
            }
        }
    }

    fn release_end(&mut self) {
        if std::mem::replace(&mut self.end, Told::AsItComes) == Told::Held {
            self.down.push(Item::Eof);
        }
    }

    fn asked(&mut self, direct: &Direct, Ask { request, answer }: Ask, place: &Place) {
        place.line().asked_for(&request);
        self.records(direct, place, &request);
        self.work.push_back(request);
        self.waiting.push_back(Waiting::Client(answer));
    }

    fn answered(&mut self, granted: bool) {
        match self.waiting.pop_front() {
            Some(Waiting::Client(answer)) => {
                // Nobody listens when it took too long.
                let _ = answer.send(granted);
            }
            Some(Waiting::Told(Late::Words(what))) if !granted => {
                let text = super::session::refused(&self.vm, what, self.has_terminal);
                self.down.push(Item::Extended(STDERR, text.into()));
            }
            Some(Waiting::Told(Late::End(what))) if !granted => self.refused = Some(what),
            // An answer to nothing is the VM's own affair.
            Some(Waiting::Told(_)) | None => {}
        }
    }
}

/// What the client should hear if the VM refuses this later; `None` where there is no answer.
fn late(request: &Request) -> Option<Late> {
    match request {
        Request::Env { .. } | Request::Agent => Some(Late::Nothing),
        Request::Pty { .. } => Some(Late::Words("a terminal")),
        Request::X11 { .. } => Some(Late::Words("to forward the display")),
        Request::Shell => Some(Late::End("a shell")),
        Request::Exec(_) => Some(Late::End("to run a program")),
        Request::Subsystem(_) => Some(Late::End("this subsystem")),
        Request::Resize(_) | Request::Signal(_) => None,
    }
}

/// In characters: columns and lines.
fn size_of(window: Window) -> (u16, u16) {
    let small = |count: u32| u16::try_from(count).unwrap_or(u16::MAX);
    (small(window.columns), small(window.rows))
}

fn up(
    to_vm: &ToVm,
    data: Option<Bytes>,
) -> Pin<Box<dyn Future<Output = Result<(), berth_vm_ssh::Error>> + Send + '_>> {
    match data {
        Some(data) => Box::pin(to_vm.data(data)),
        None => Box::pin(to_vm.eof()),
    }
}

async fn tell(direct: &Direct, writer: &Writer, item: Item) -> Result<(), Gone> {
    match item {
        Item::Data(data) => writer.data(data).await,
        Item::Extended(stream, data) => writer.extended(stream, data).await,
        Item::Status(status) => writer.exit_status(status).await,
        Item::Signal { name, core_dumped, message } => {
            direct.caller.exit_signal(writer, name, core_dumped, message).await
        }
        Item::Eof => writer.eof().await,
    }
}

/// Waits until it is done, and for ever where there is nothing to do. It stays as it is when the future is dropped.
async fn done<E>(doing: &mut Doing<'_, E>) -> Result<(), E> {
    let Some(future) = doing else { return pending().await };
    let result = future.await;
    *doing = None;
    result
}

/// The next request, or for ever nothing.
async fn next_of(asks: &mut Option<mpsc::Receiver<Ask>>) -> Ask {
    if let Some(open) = asks {
        if let Some(ask) = open.recv().await {
            return ask;
        }
        *asks = None;
    }
    pending().await
}
