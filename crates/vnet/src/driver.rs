//! The task that moves bytes between QEMU's socket and the stack.
//!
//! One task a network. It owns the socket and the frames on it; the stack is shared with the streams, which
//! read and write their socket's buffers in place.
//!
//! While no guest is attached, or the network is frozen, nothing moves and no timer runs; while one is attached
//! and silent, the task waits for its socket alone. A frozen network keeps its socket without looking at it.

use std::{
    io::{self, Read},
    os::fd::AsFd,
    sync::Arc,
    time::Duration,
};

use tokio::{io::Interest, net::UnixStream};

use crate::{
    frame::FrameTooLong,
    shared::{Change, Phase, Shared, State},
    stack::{Turn, Wire},
};

/// If the stack wants a turn at once but the last did nothing, it gets it after this.
const PAUSE: Duration = Duration::from_millis(1);

/// Bytes that are read of what a guest had sent when it was frozen: more than a unix socket holds.
const LAST_WORDS: usize = 1 << 20;

/// QEMU's end of the wire, and what is on it.
struct Line {
    connection: UnixStream,
    wire: Wire,
}

/// What the driver is to do next.
enum Step {
    Change(Change),
    Exchange,
    Settle,
    Wait,
    End,
}

impl State {
    fn step(&mut self, has_line: bool) -> Step {
        if let Some(change) = self.change.take() {
            return Step::Change(change);
        }
        match self.phase() {
            _ if self.abandoned && !self.stack.has_orphans() => Step::End,
            Phase::Running if has_line => Step::Exchange,
            // What is not delivered yet never will be: nobody is left to thaw it.
            _ if self.abandoned => Step::End,
            // The guest went away by itself. One that is frozen may come back on another connection.
            Phase::Running => {
                self.stack.detach();
                Step::Wait
            }
            Phase::Freezing => Step::Settle,
            Phase::Frozen | Phase::Called => Step::Wait,
        }
    }

    /// Whether [`State::step`] would say anything but [`Step::Exchange`].
    fn interrupts(&self) -> bool {
        let over = self.abandoned && !self.stack.has_orphans();
        over || self.change.is_some() || self.phase() != Phase::Running
    }
}

/// Runs until the last handle and stream are gone and what they sent is delivered.
pub(crate) async fn run(shared: Arc<Shared>) {
    let _reset = ResetOnExit(&shared);
    let mut line: Option<Line> = None;
    loop {
        let step = shared.lock().step(line.is_some());
        match (step, &mut line) {
            (Step::Change(Change::To(connection)), _) => {
                line = Some(Line { connection, wire: Wire::default() });
            }
            (Step::Change(Change::ToNone), _) => line = None,
            (Step::Exchange, Some(open)) => {
                let ended = exchange(&shared, open).await.unwrap_or_else(|error| {
                    warn_of(&error);
                    Exchanged::Ended
                });
                if let Exchanged::Ended = ended {
                    line = None;
                }
            }
            (Step::Settle, _) => settle(&shared, &mut line),
            (Step::Wait | Step::Exchange, _) => shared.kick.notified().await,
            (Step::End, _) => return,
        }
    }
}

/// However the task ends, no stream waits for it.
struct ResetOnExit<'a>(&'a Shared);

impl Drop for ResetOnExit<'_> {
    fn drop(&mut self) {
        self.0.lock().stack.detach();
    }
}

fn warn_of(error: &io::Error) {
    tracing::warn!(error = error as &dyn std::error::Error, "the guest's network connection is dropped");
}

/// Hears what the guest had said before it was stopped, and stops the clock.
fn settle(shared: &Shared, line: &mut Option<Line>) {
    let mut state = shared.lock();
    if state.phase() != Phase::Freezing {
        return;
    }
    if let Some(open) = line
        && let Err(error) = hear_out(shared, &mut state, open)
    {
        warn_of(&error);
        *line = None;
    }
    state.settle();
}

/// The answers stay in the outbox: a guest that goes on over this connection gets them.
fn hear_out(shared: &Shared, state: &mut State, line: &mut Line) -> io::Result<()> {
    // Tokio reads nothing from a socket before it has polled it again: what came last would be missed.
    let connection = line.connection.as_fd().try_clone_to_owned()?;
    let mut connection = std::os::unix::net::UnixStream::from(connection);
    let mut left = LAST_WORDS;
    while left > 0 {
        let received = match connection.read(line.wire.decoder.room()) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock || is_hangup(&error) => 0,
            Err(error) => return Err(error),
        };
        line.wire.decoder.filled(received);
        let now = state.clock.now();
        let turn = state.stack.hear_out(now, &mut line.wire).map_err(out_of_step)?;
        shared.note_heard(&turn);
        if received + turn.frames == 0 {
            break;
        }
        left = left.saturating_sub(received);
    }
    Ok(())
}

/// Why an exchange ended without an error.
enum Exchanged {
    /// The driver has something else to do first.
    Interrupted,
    /// QEMU closed the connection, and all that it sent is heard.
    Ended,
}

async fn exchange(shared: &Shared, Line { connection, wire }: &mut Line) -> io::Result<Exchanged> {
    let mut ended = false;
    loop {
        let received = match connection.try_read(wire.decoder.room()) {
            Ok(0) if !wire.decoder.room().is_empty() => {
                ended = true;
                0
            }
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) if is_hangup(&error) => {
                ended = true;
                0
            }
            Err(error) => return Err(error),
        };
        wire.decoder.filled(received);
        let turn = {
            let mut state = shared.lock();
            if state.interrupts() {
                return Ok(Exchanged::Interrupted);
            }
            let now = state.clock.now();
            state.stack.turn(now, wire).map_err(out_of_step)?
        };
        shared.note_heard(&turn);
        let sent = if ended { discard(wire) } else { flush(connection, wire)? };
        if ended && turn.frames == 0 {
            return Ok(Exchanged::Ended);
        }
        if received + turn.frames + sent > 0 {
            tokio::task::yield_now().await;
        } else {
            idle(shared, connection, wire, &turn).await?;
        }
    }
}

fn out_of_step(error: FrameTooLong) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// Frames that came before the end still count, answers to them do not.
fn discard(wire: &mut Wire) -> usize {
    wire.outbox.sent(wire.outbox.len());
    0
}

/// Writes what the socket takes.
fn flush(connection: &UnixStream, wire: &mut Wire) -> io::Result<usize> {
    let mut sent = 0;
    while wire.outbox.len() > 0 {
        match connection.try_write(wire.outbox.pending()) {
            Ok(count) => {
                wire.outbox.sent(count);
                sent += count;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            // What it sent before it hung up is still to be read, and then the end.
            Err(error) if is_hangup(&error) => {
                wire.outbox.sent(wire.outbox.len());
            }
            Err(error) => return Err(error),
        }
    }
    Ok(sent)
}

fn is_hangup(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

/// Waits until another turn can do something.
async fn idle(shared: &Shared, connection: &UnixStream, wire: &mut Wire, turn: &Turn) -> io::Result<()> {
    let blocked = wire.outbox.len() > 0;
    let due =
        if blocked { turn.orphans_due } else { turn.sockets_due.into_iter().chain(turn.orphans_due).min() };
    let due = due.map(|due| shared.lock().clock.until(due).max(PAUSE));
    let interest = match (wire.decoder.room().is_empty(), blocked) {
        (false, false) => Interest::READABLE,
        (false, true) => Interest::READABLE | Interest::WRITABLE,
        // Frames are left in the decoder only for want of room in the outbox.
        (true, _) => Interest::WRITABLE,
    };
    tokio::select! {
        () = shared.kick.notified() => Ok(()),
        ready = connection.ready(interest) => ready.map(drop),
        () = async {
            match due {
                Some(due) => tokio::time::sleep(due).await,
                None => std::future::pending().await,
            }
        } => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        sync::atomic::{AtomicUsize, Ordering},
        task::{Context, Wake, Waker},
    };

    use smoltcp::wire::{ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol};

    use super::*;
    use crate::{
        GUEST_MAC,
        link::{Family, GUEST_V4, HOST_V4},
        shared::Heard,
    };

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How often a driver with a dial that nobody answers wakes up in an hour.
    async fn wakes_in_an_hour(frozen: bool) -> usize {
        let shared = Arc::new(Shared::new());
        let (host, _qemu) = UnixStream::pair().unwrap();
        shared.attach(host);
        shared.lock().stack.open(Family::V6, 22).unwrap();
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(wakes.clone());
        let mut context = Context::from_waker(&waker);
        let mut driver = pin!(run(shared.clone()));
        let mut freeze = pin!(shared.freeze());
        for second in 0..3600 {
            if frozen && second == 2 {
                assert!(freeze.as_mut().poll(&mut context).is_pending());
                assert!(driver.as_mut().poll(&mut context).is_pending());
                assert!(freeze.as_mut().poll(&mut context).is_ready());
                wakes.0.store(0, Ordering::Relaxed);
            }
            assert!(driver.as_mut().poll(&mut context).is_pending());
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        wakes.0.load(Ordering::Relaxed)
    }

    #[tokio::test(start_paused = true)]
    async fn a_frozen_network_does_nothing() {
        assert_eq!(wakes_in_an_hour(true).await, 0);
        assert!(wakes_in_an_hour(false).await > 50);
    }

    /// The guest's question for the host's address, as QEMU sends it.
    fn question() -> Vec<u8> {
        let arp = ArpRepr::EthernetIpv4 {
            operation: ArpOperation::Request,
            source_hardware_addr: EthernetAddress(GUEST_MAC),
            source_protocol_addr: GUEST_V4,
            target_hardware_addr: EthernetAddress([0; 6]),
            target_protocol_addr: HOST_V4,
        };
        let mut bytes = vec![0; 4 + 14 + arp.buffer_len()];
        bytes[3] = 14 + arp.buffer_len() as u8;
        let mut frame = EthernetFrame::new_unchecked(&mut bytes[4..]);
        frame.set_src_addr(EthernetAddress(GUEST_MAC));
        frame.set_dst_addr(EthernetAddress::BROADCAST);
        frame.set_ethertype(EthernetProtocol::Arp);
        arp.emit(&mut ArpPacket::new_unchecked(frame.payload_mut()));
        bytes
    }

    /// What is on the socket counts, even if tokio has not seen it yet; the answer is for the guest that goes on.
    #[tokio::test(start_paused = true)]
    async fn a_freeze_hears_the_guest_out_first() {
        let shared = Arc::new(Shared::new());
        let (host, qemu) = UnixStream::pair().unwrap();
        let mut qemu = qemu.into_std().unwrap();
        shared.attach(host);
        let mut context = Context::from_waker(Waker::noop());
        let mut driver = pin!(run(shared.clone()));
        assert!(driver.as_mut().poll(&mut context).is_pending());

        io::Write::write_all(&mut qemu, &question().repeat(1000)).unwrap();
        let mut freeze = pin!(shared.freeze());
        assert!(freeze.as_mut().poll(&mut context).is_pending());
        assert!(driver.as_mut().poll(&mut context).is_pending());
        assert!(freeze.as_mut().poll(&mut context).is_ready());
        assert_eq!(*shared.heard.borrow(), Heard { v4: true, v6: false });

        let mut answers = [0; 100_000];
        assert_eq!(qemu.read(&mut answers).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        shared.thaw();
        tokio::task::yield_now().await;
        assert!(driver.as_mut().poll(&mut context).is_pending());
        assert_eq!(qemu.read(&mut answers).unwrap(), 1000 * question().len());
    }
}
