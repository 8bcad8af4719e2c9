//! The TCP stack: smoltcp's interface and sockets, and which stream each socket belongs to.
//!
//! Synchronous and without a clock: [`Stack::turn`] is told the time and does a bounded piece of work. A
//! connection's life here:
//!
//! ```text
//!   open ──► Live ──────────────► Over ──► removed by abandon (its Stream was dropped)
//!              │  both ends done,   ▲
//!              │  reset or detach ──┘   (what was received stays readable)
//!              └─ abandon ──► Live, with an Orphan: what we sent is still on its way ──► removed by sweep
//! ```

use std::collections::BTreeMap;

use smoltcp::{
    iface::{Config, Interface, SocketHandle, SocketSet},
    socket::tcp,
    time::{Duration, Instant},
    wire::{HardwareAddress, IpAddress, IpCidr, IpEndpoint},
};

use tokio::sync::watch;

use crate::{
    dial::DialError,
    frame::{Decoder, FrameTooLong, Outbox},
    link::{self, Family, GUEST_V4, GUEST_V6, HOST_V4, HOST_V6},
    port::Port,
};

/// Streams to one guest at a time, those still being dialled or delivered included.
pub(crate) const MAX_STREAMS: usize = 512;

/// Bytes of each of a socket's two buffers: about 1 MiB, which the kernel backs as it is touched.
///
/// Exactly the largest window that a scale of 4 can say. smoltcp takes the unscaled window of its SYN for a
/// scaled one until its first ACK, and would let a guest write past the end of a buffer of any other size.
pub(crate) const SOCKET_BUFFER: usize = 0xffff << 4;

/// A turn looks at no more frames than this, so that a guest that floods leaves time for others.
const FRAMES_A_TURN: usize = 64;

/// No turn adds to an outbox that holds this many bytes. Above it grows by one round, in which every socket
/// may send one frame: a socket with much to send cannot shut the others out.
const OUTBOX_FULL: usize = 256 << 10;

/// How long a dropped stream waits, without progress, for the guest to take what was written to it.
const LINGER: Duration = Duration::from_secs(10);

/// How far the clock jumps when a frozen network goes on. No timer of smoltcp waits for longer (its
/// retransmission and its probe of a closed window back off to a minute), so that all that was lost with the
/// old connection is sent again at once.
pub(crate) const CATCH_UP: Duration = Duration::from_secs(60);

/// So long after it took something last, a guest whose program does not take more is not waited for.
const UNTAKEN: Duration = Duration::from_secs(10);

const FIRST_PORT: u16 = 1 << 15;

/// A connection, for as long as its stream exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Id(u64);

struct Connection {
    socket: Place,
    /// A FIN is to follow what was written, and smoltcp does not know yet.
    finishing: bool,
    /// The link went down under it.
    cut: bool,
    /// So many bytes the guest had not taken, since then, and none was written since.
    untaken: Option<(usize, Instant)>,
    orphan: Option<Orphan>,
}

impl Connection {
    /// Whether the guest has taken nothing for a while of what it has been sent, or might have been: its program does
    /// not read.
    fn is_untaken(&mut self, unsent: usize, now: Instant) -> bool {
        match self.untaken {
            Some((seen, since)) if seen == unsent => now >= since + UNTAKEN,
            _ => {
                self.untaken = Some((unsent, now));
                false
            }
        }
    }
}

enum Place {
    Live(SocketHandle),
    Over(Box<tcp::Socket<'static>>),
}

/// What is left of a stream that was dropped with bytes on their way.
struct Orphan {
    unsent: usize,
    until: Instant,
}

/// What comes from and goes to the guest at the moment.
#[derive(Default)]
pub(crate) struct Wire {
    pub(crate) decoder: Decoder,
    pub(crate) outbox: Outbox,
}

/// What a turn did, and when the next is due.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    /// Frames looked at; more may be waiting if this is not zero.
    pub(crate) frames: usize,
    /// The guest's addresses that were heard from.
    pub(crate) heard: [Option<Family>; 2],
    /// When a socket wants to send; no use while the outbox is full.
    pub(crate) sockets_due: Option<Instant>,
    /// When an orphan's time is up.
    pub(crate) orphans_due: Option<Instant>,
}

pub(crate) struct Stack {
    interface: Interface,
    sockets: SocketSet<'static>,
    connections: BTreeMap<Id, Connection>,
    next_id: u64,
    next_port: u16,
    attached: bool,
    /// The next turn speaks before it hears.
    catching_up: bool,
    /// How many connections there are.
    count: watch::Sender<usize>,
}

impl Stack {
    pub(crate) fn new() -> Self {
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = rand::random();
        let mut outbox = Outbox::default();
        let mut port = Port { packet: None, outbox: &mut outbox };
        let mut interface = Interface::new(config, &mut port, Instant::ZERO);
        interface.update_ip_addrs(|addresses| {
            let pushed = [IpCidr::new(HOST_V4.into(), 30), IpCidr::new(HOST_V6.into(), 64)]
                .into_iter()
                .try_for_each(|address| addresses.push(address));
            debug_assert!(pushed.is_ok(), "smoltcp has room for two addresses");
        });
        Self {
            interface,
            sockets: SocketSet::new(Vec::new()),
            connections: BTreeMap::new(),
            next_id: 0,
            // A guest that wakes may hold connections of an earlier host's end, which died. On their ports a dial
            // would cost a second more: the guest doubts it, smoltcp resets the old connection and tries again.
            next_port: FIRST_PORT | rand::random::<u16>(),
            attached: false,
            catching_up: false,
            count: watch::Sender::new(0),
        }
    }

    /// A guest is there.
    pub(crate) fn attach(&mut self) {
        self.attached = true;
    }

    /// The guest is gone: every stream ends with a reset, after what it had already received.
    pub(crate) fn detach(&mut self) {
        self.attached = false;
        let sockets = &mut self.sockets;
        self.connections.retain(|_, connection| {
            if let Place::Live(handle) = connection.socket {
                sockets.get_mut::<tcp::Socket>(handle).abort();
                connection.cut = true;
                take(sockets, &mut connection.socket, handle);
            }
            connection.orphan.is_none()
        });
        self.catching_up = false;
        self.recount();
    }

    /// Starts a connection to `port`. The SYN goes out with the next turn.
    pub(crate) fn open(&mut self, family: Family, port: u16) -> Result<Id, DialError> {
        if !self.attached {
            return Err(DialError::Detached);
        }
        if self.connections.len() >= MAX_STREAMS {
            return Err(DialError::TooMany);
        }
        let buffer = || tcp::SocketBuffer::new(vec![0; SOCKET_BUFFER]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        socket.set_nagle_enabled(false);
        // A turn takes many segments and then answers them with one ACK: a delay would save nothing.
        socket.set_ack_delay(None);
        let guest: IpAddress = match family {
            Family::V4 => GUEST_V4.into(),
            Family::V6 => GUEST_V6.into(),
        };
        let local_port = self.free_port();
        // Port 0 is the only one that smoltcp cannot reach.
        socket
            .connect(self.interface.context(), IpEndpoint::new(guest, port), local_port)
            .map_err(|_| DialError::Refused)?;
        let id = Id(self.next_id);
        self.next_id += 1;
        let socket = Place::Live(self.sockets.add(socket));
        self.connections
            .insert(id, Connection { socket, finishing: false, cut: false, untaken: None, orphan: None });
        self.recount();
        Ok(id)
    }

    /// The socket behind a stream.
    pub(crate) fn socket(&mut self, id: Id) -> &mut tcp::Socket<'static> {
        let connection = self.connections.get_mut(&id).expect("a connection stays while its stream exists");
        match &mut connection.socket {
            Place::Live(handle) => self.sockets.get_mut(*handle),
            Place::Over(socket) => socket,
        }
    }

    /// Sends a FIN behind what was written. Says whether that is news for the guest.
    pub(crate) fn finish(&mut self, id: Id) -> bool {
        let Some(connection) = self.connections.get_mut(&id) else { return false };
        let Place::Live(handle) = connection.socket else { return false };
        let socket = self.sockets.get_mut::<tcp::Socket>(handle);
        let news = socket.may_send() && !connection.finishing;
        finish(socket, &mut connection.finishing);
        news
    }

    /// Whether a connection ended because the guest went away.
    pub(crate) fn is_cut(&self, id: Id) -> bool {
        self.connections.get(&id).is_none_or(|connection| connection.cut)
    }

    /// The stream is dropped. What it wrote is still delivered, for as long as the guest takes it; then, or at
    /// once if there is nothing, the guest sees a FIN if it had finished and was heard out, else a reset. Says
    /// whether any of that is news for the guest.
    pub(crate) fn abandon(&mut self, id: Id, now: Instant) -> bool {
        use tcp::State;
        let Some(connection) = self.connections.get_mut(&id) else { return false };
        let Place::Live(handle) = connection.socket else {
            self.connections.remove(&id);
            self.recount();
            return false;
        };
        let socket = self.sockets.get_mut::<tcp::Socket>(handle);
        let news = match socket.state() {
            State::Established | State::FinWait1 | State::FinWait2 => true,
            State::CloseWait => !connection.finishing,
            // One has not begun, of the others both have heard the end.
            _ => false,
        };
        if socket.state() == tcp::State::CloseWait && !socket.can_recv() {
            finish(socket, &mut connection.finishing);
        }
        let unsent = unsent(socket, connection.finishing);
        if unsent == 0 {
            socket.abort();
        }
        connection.orphan = Some(Orphan { unsent, until: now + LINGER });
        news
    }

    /// Whether dropped streams still have something to deliver.
    pub(crate) fn has_orphans(&self) -> bool {
        self.connections.values().any(|connection| connection.orphan.is_some())
    }

    /// Whether the guest has not confirmed all that it was sent or is to be sent: bytes, an end, or a dial. That
    /// it is not told yet what arrived from it does not count, nor what its program did not take from one call of this
    /// to another, [`UNTAKEN`] later.
    pub(crate) fn is_pending(&mut self, now: Instant) -> bool {
        use tcp::State;
        let mut pending = false;
        for connection in self.connections.values_mut() {
            let Place::Live(handle) = connection.socket else { continue };
            let socket = self.sockets.get::<tcp::Socket>(handle);
            pending |= match socket.state() {
                State::SynSent | State::SynReceived => true,
                State::Closed => socket.remote_endpoint().is_some(),
                _ => {
                    let unsent = unsent(socket, connection.finishing);
                    unsent > 0 && !connection.is_untaken(unsent, now)
                }
            };
        }
        pending
    }

    /// Something was written to a stream: that nothing was taken before says nothing of it.
    pub(crate) fn wrote(&mut self, id: Id) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.untaken = None;
        }
    }

    /// How many connections there are, with those that wait for their last bytes to be delivered.
    pub(crate) fn count(&self) -> watch::Receiver<usize> {
        self.count.subscribe()
    }

    fn recount(&self) {
        let now = self.connections.len();
        self.count.send_if_modified(|count| std::mem::replace(count, now) != now);
    }

    /// To be called when the clock jumps by [`CATCH_UP`]: every timer of a socket is due, and none of an orphan.
    pub(crate) fn catch_up(&mut self) {
        self.catching_up = true;
        for orphan in self.connections.values_mut().filter_map(|connection| connection.orphan.as_mut()) {
            orphan.until += CATCH_UP;
        }
    }

    /// One bounded piece of work: some frames in, then a round or more of what the sockets have to say.
    pub(crate) fn turn(&mut self, now: Instant, wire: &mut Wire) -> Result<Turn, FrameTooLong> {
        let mut turn = Turn::default();
        if std::mem::take(&mut self.catching_up) {
            // Before an answer is taken for one that took a minute.
            self.round(now, &mut wire.outbox);
        }
        while turn.frames < FRAMES_A_TURN && wire.outbox.len() < OUTBOX_FULL {
            if !self.receive(now, wire, &mut turn)? {
                break;
            }
        }
        self.send(now, &mut wire.outbox);
        turn.orphans_due = self.sweep(now);
        turn.sockets_due = self.interface.poll_at(now, &self.sockets);
        Ok(turn)
    }

    /// Takes every frame that is there, and sends no more than the answers that they must have.
    pub(crate) fn hear_out(&mut self, now: Instant, wire: &mut Wire) -> Result<Turn, FrameTooLong> {
        let mut turn = Turn::default();
        while self.receive(now, wire, &mut turn)? {}
        self.sweep(now);
        Ok(turn)
    }

    /// Takes one frame, if one is there.
    fn receive(&mut self, now: Instant, wire: &mut Wire, turn: &mut Turn) -> Result<bool, FrameTooLong> {
        let Some(frame) = wire.decoder.next_frame()? else { return Ok(false) };
        turn.frames += 1;
        let received = link::receive(frame, &mut wire.outbox);
        match received.heard {
            Some(Family::V4) => turn.heard[0] = received.heard,
            Some(Family::V6) => turn.heard[1] = received.heard,
            None => {}
        }
        if received.packet.is_some() {
            let mut port = Port { packet: received.packet, outbox: &mut wire.outbox };
            self.interface.poll_ingress_single(now, &mut port, &mut self.sockets);
        }
        Ok(true)
    }

    fn send(&mut self, now: Instant, outbox: &mut Outbox) {
        while outbox.len() < OUTBOX_FULL {
            let before = outbox.len();
            self.round(now, outbox);
            if outbox.len() == before {
                break;
            }
        }
    }

    /// Lets every socket send one frame.
    fn round(&mut self, now: Instant, outbox: &mut Outbox) {
        self.interface.poll_egress(now, &mut Port { packet: None, outbox }, &mut self.sockets);
    }

    /// Takes finished sockets out of the stack, and lets orphans go. Says when to look again.
    ///
    /// TIME-WAIT is not waited out: both ends have everything, the link neither loses nor reorders, and after
    /// ten seconds smoltcp would throw away what the stream has not read yet.
    fn sweep(&mut self, now: Instant) -> Option<Instant> {
        let mut due: Option<Instant> = None;
        let sockets = &mut self.sockets;
        self.connections.retain(|_, connection| {
            let Place::Live(handle) = connection.socket else { return true };
            let socket = sockets.get_mut::<tcp::Socket>(handle);
            let reset_sent = socket.state() == tcp::State::Closed && socket.remote_endpoint().is_none();
            if reset_sent || socket.state() == tcp::State::TimeWait {
                take(sockets, &mut connection.socket, handle);
                return connection.orphan.is_none();
            }
            if connection.finishing {
                finish(socket, &mut connection.finishing);
            }
            let Some(orphan) = &mut connection.orphan else { return true };
            let unsent = unsent(socket, connection.finishing);
            if unsent < orphan.unsent {
                *orphan = Orphan { unsent, until: now + LINGER };
            }
            if orphan.until <= now && socket.state() == tcp::State::Closed {
                // Not even its reset can be sent.
                sockets.remove(handle);
                return false;
            }
            if orphan.until <= now || unsent == 0 {
                socket.abort();
                orphan.until = orphan.until.max(now + LINGER);
            }
            due = due.into_iter().chain([orphan.until]).min();
            true
        });
        self.recount();
        due
    }

    /// A port of ours that no socket uses; there are many more of them than sockets.
    fn free_port(&mut self) -> u16 {
        loop {
            self.next_port = FIRST_PORT | self.next_port.wrapping_add(1);
            let mut used = self.sockets.iter().filter_map(|(_, socket)| match socket {
                smoltcp::socket::Socket::Tcp(socket) => socket.local_endpoint(),
                _ => None,
            });
            if !used.any(|endpoint| endpoint.port == self.next_port) {
                return self.next_port;
            }
        }
    }
}

/// Closes the socket's sending half, if it can be now.
///
/// In LAST-ACK smoltcp ignores window updates: bytes that wait for one would wait for ever. So when the guest
/// has finished first, the FIN waits until it has all the bytes.
fn finish(socket: &mut tcp::Socket<'_>, finishing: &mut bool) {
    *finishing = socket.state() == tcp::State::CloseWait && socket.send_queue() > 0;
    if !*finishing {
        socket.close();
    }
}

/// What the guest has not acknowledged: bytes, and the FIN behind them.
fn unsent(socket: &tcp::Socket<'_>, finishing: bool) -> usize {
    use tcp::State;
    match socket.state() {
        State::FinWait1 | State::Closing | State::LastAck => socket.send_queue() + 1,
        State::Closed | State::TimeWait => 0,
        _ => socket.send_queue() + usize::from(finishing),
    }
}

fn take(sockets: &mut SocketSet<'static>, place: &mut Place, handle: SocketHandle) {
    if let smoltcp::socket::Socket::Tcp(socket) = sockets.remove(handle) {
        *place = Place::Over(Box::new(socket));
    }
}

#[cfg(test)]
mod tests;
