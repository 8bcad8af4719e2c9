use proptest::{collection::vec, prelude::*};
use smoltcp::{
    phy::ChecksumCapabilities,
    wire::{
        EthernetAddress, EthernetFrame, EthernetProtocol, IpProtocol, Ipv6Packet, Ipv6Repr, TcpControl,
        TcpPacket, TcpRepr, TcpSeqNumber,
    },
};

use super::*;
use crate::{GUEST_MAC, MTU, frame::MAX_FRAME, link::HOST_MAC};

const PORT: u16 = 22;
const OURS: i32 = 5_000;

/// A stack, and a guest whose every segment is written by hand.
struct Bench {
    stack: Stack,
    wire: Wire,
    now: Instant,
    host_port: u16,
    /// The host's next sequence number, as the guest expects it.
    theirs: TcpSeqNumber,
    /// What the guest sends is changed on its way.
    damaged: bool,
}

#[derive(Debug, Clone)]
struct Seen {
    control: TcpControl,
    seq: TcpSeqNumber,
    payload: usize,
}

fn segment(control: TcpControl, seq: i32, payload: &[u8]) -> TcpRepr<'_> {
    TcpRepr {
        src_port: PORT,
        dst_port: 0,
        control,
        seq_number: TcpSeqNumber(seq),
        ack_number: Some(TcpSeqNumber(0)),
        window_len: 0xffff,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload,
    }
}

impl Bench {
    fn new() -> Self {
        let mut stack = Stack::new();
        stack.attach();
        let now = Instant::from_secs(1);
        Self { stack, wire: Wire::default(), now, host_port: 0, theirs: TcpSeqNumber(0), damaged: false }
    }

    /// A connection of which the guest has accepted the SYN, with the largest window there is.
    fn accepted(&mut self) -> Id {
        let id = self.stack.open(Family::V6, PORT).unwrap();
        let syn = self.turn().pop().unwrap();
        assert_eq!(syn.control, TcpControl::Syn);
        self.theirs = syn.seq + 1;
        let accept = TcpRepr {
            window_scale: Some(14),
            max_seg_size: Some(65_000),
            sack_permitted: true,
            ..segment(TcpControl::Syn, OURS - 1, &[])
        };
        self.put(accept);
        id
    }

    fn is_pending(&mut self) -> bool {
        self.stack.is_pending(self.now)
    }

    /// A segment from the guest, acknowledging what `theirs` says; the ports are filled in.
    fn put(&mut self, tcp: TcpRepr<'_>) {
        let ack_number = tcp.ack_number.map(|offset| TcpSeqNumber(self.theirs.0.wrapping_add(offset.0)));
        let tcp = TcpRepr { dst_port: self.host_port, ack_number, ..tcp };
        let ip = Ipv6Repr {
            src_addr: GUEST_V6,
            dst_addr: HOST_V6,
            next_header: IpProtocol::Tcp,
            payload_len: tcp.buffer_len(),
            hop_limit: 64,
        };
        let mut bytes = vec![0; 14 + ip.buffer_len() + tcp.buffer_len()];
        let mut frame = EthernetFrame::new_unchecked(&mut bytes[..]);
        frame.set_src_addr(EthernetAddress(GUEST_MAC));
        frame.set_dst_addr(HOST_MAC);
        frame.set_ethertype(EthernetProtocol::Ipv6);
        let mut packet = Ipv6Packet::new_unchecked(frame.payload_mut());
        ip.emit(&mut packet);
        let mut tcp_packet = TcpPacket::new_unchecked(packet.payload_mut());
        tcp.emit(&mut tcp_packet, &GUEST_V6.into(), &HOST_V6.into(), &ChecksumCapabilities::default());
        if self.damaged
            && let Some(last) = bytes.last_mut()
        {
            *last ^= 1;
        }
        self.put_frame(&bytes);
    }

    fn put_frame(&mut self, frame: &[u8]) {
        let room = self.wire.decoder.room();
        room[..4].copy_from_slice(&(frame.len() as u32).to_be_bytes());
        room[4..4 + frame.len()].copy_from_slice(frame);
        self.wire.decoder.filled(4 + frame.len());
    }

    /// Turns until nothing more happens; gives what the guest would see.
    fn turn(&mut self) -> Vec<Seen> {
        let mut seen = Vec::new();
        for _ in 0..100 {
            let turn = self.stack.turn(self.now, &mut self.wire).unwrap();
            assert!(turn.frames <= FRAMES_A_TURN);
            assert!(self.wire.outbox.len() <= OUTBOX_FULL + MAX_STREAMS * (4 + MAX_FRAME));
            let sent = self.read_outbox();
            let done = sent.is_empty() && turn.frames == 0;
            seen.extend(sent);
            if done {
                break;
            }
        }
        seen
    }

    fn read_outbox(&mut self) -> Vec<Seen> {
        let bytes = self.wire.outbox.pending().to_vec();
        self.wire.outbox.sent(bytes.len());
        let mut rest = &bytes[..];
        let mut seen = Vec::new();
        while let Some((prefix, after)) = rest.split_first_chunk::<4>() {
            let (frame, after) = after.split_at(u32::from_be_bytes(*prefix) as usize);
            rest = after;
            let frame = EthernetFrame::new_checked(frame).unwrap();
            let packet = Ipv6Packet::new_checked(frame.payload()).unwrap();
            assert_eq!((packet.src_addr(), packet.dst_addr()), (HOST_V6, GUEST_V6));
            let tcp = TcpPacket::new_checked(packet.payload()).unwrap();
            assert!(tcp.verify_checksum(&HOST_V6.into(), &GUEST_V6.into()));
            self.host_port = tcp.src_port();
            let control = match (tcp.syn(), tcp.fin(), tcp.rst()) {
                (true, ..) => TcpControl::Syn,
                (_, true, _) => TcpControl::Fin,
                (.., true) => TcpControl::Rst,
                _ => TcpControl::None,
            };
            let (seq, payload) = (tcp.seq_number(), tcp.payload().len());
            seen.push(Seen { control, seq, payload });
        }
        seen
    }

    fn live(&self) -> usize {
        self.stack.sockets.iter().count()
    }
}

fn resets(seen: &[Seen]) -> usize {
    seen.iter().filter(|seen| seen.control == TcpControl::Rst).count()
}

#[test]
fn an_idle_connection_needs_no_timer() {
    let mut bench = Bench::new();
    let id = bench.accepted();
    bench.turn();
    bench.put(segment(TcpControl::Psh, OURS, b"hello"));
    bench.turn();
    let turn = bench.stack.turn(bench.now, &mut bench.wire).unwrap();
    assert_eq!((turn.sockets_due, turn.orphans_due), (None, None));
    assert_eq!(bench.stack.socket(id).recv_queue(), 5);
}

#[test]
fn what_came_before_both_ends_outlives_time_wait() {
    let mut bench = Bench::new();
    let id = bench.accepted();
    bench.turn();
    bench.stack.finish(id);
    bench.turn();
    bench.put(segment(TcpControl::Fin, OURS, b"last words"));
    bench.theirs += 1;
    bench.put(segment(TcpControl::None, OURS + 11, &[]));
    bench.turn();
    assert_eq!(bench.live(), 0, "the socket has left the stack");
    bench.now += Duration::from_secs(3600);
    bench.turn();
    let mut buffer = [0; 32];
    assert_eq!(bench.stack.socket(id).recv_slice(&mut buffer), Ok(10));
    assert_eq!(bench.stack.socket(id).recv_slice(&mut buffer), Err(tcp::RecvError::Finished));
    bench.stack.abandon(id, bench.now);
    assert!(bench.stack.connections.is_empty());
}

#[test]
fn a_segment_whose_sum_is_wrong_is_as_if_it_were_lost() {
    let mut bench = Bench::new();
    let id = bench.accepted();
    bench.turn();
    bench.damaged = true;
    bench.put(segment(TcpControl::Psh, OURS, b"mixed up"));
    bench.turn();
    assert!(!bench.stack.socket(id).can_recv());
    bench.damaged = false;
    bench.put(segment(TcpControl::Psh, OURS, b"as it was"));
    bench.turn();
    let mut buffer = [0; 32];
    assert_eq!(bench.stack.socket(id).recv_slice(&mut buffer), Ok(9));
}

#[test]
fn dropping_with_nothing_on_its_way_resets_and_frees_at_once() {
    for unread in [&b""[..], b"unread"] {
        let mut bench = Bench::new();
        let id = bench.accepted();
        bench.put(segment(TcpControl::Psh, OURS, unread));
        bench.turn();
        bench.stack.abandon(id, bench.now);
        assert_eq!(resets(&bench.turn()), 1);
        assert!(bench.stack.connections.is_empty());
        assert_eq!(bench.live(), 0);
    }
}

#[test]
fn dropping_after_their_end_finishes_politely() {
    let mut bench = Bench::new();
    let id = bench.accepted();
    bench.turn();
    bench.put(segment(TcpControl::Fin, OURS, &[]));
    bench.turn();
    bench.stack.abandon(id, bench.now);
    let seen = bench.turn();
    assert_eq!(resets(&seen), 0);
    assert!(seen.iter().any(|seen| seen.control == TcpControl::Fin));
    bench.theirs += 1;
    bench.put(segment(TcpControl::None, OURS + 1, &[]));
    bench.turn();
    assert!(bench.stack.connections.is_empty());
}

#[test]
fn dropping_waits_for_what_is_on_its_way_then_resets() {
    let mut bench = Bench::new();
    let id = bench.accepted();
    bench.turn();
    bench.stack.socket(id).send_slice(b"on its way").unwrap();
    bench.stack.abandon(id, bench.now);
    let seen = bench.turn();
    assert_eq!(resets(&seen), 0);
    assert!(bench.stack.has_orphans());
    bench.theirs += 10;
    bench.put(segment(TcpControl::None, OURS, &[]));
    assert_eq!(resets(&bench.turn()), 1);
    assert!(bench.stack.connections.is_empty());
}

#[test]
fn dropping_does_not_wait_for_ever() {
    let mut bench = Bench::new();
    let id = bench.accepted();
    bench.turn();
    bench.stack.socket(id).send_slice(b"nobody takes this").unwrap();
    bench.stack.finish(id);
    bench.stack.abandon(id, bench.now);
    bench.turn();
    let turn = bench.stack.turn(bench.now, &mut bench.wire).unwrap();
    bench.now = turn.orphans_due.unwrap();
    assert_eq!(resets(&bench.turn()), 1);
    assert!(bench.stack.connections.is_empty());
}

/// In LAST-ACK smoltcp is deaf to window updates.
#[test]
fn a_window_that_opens_late_lets_the_rest_through() {
    let mut bench = Bench::new();
    let id = bench.accepted();
    bench.turn();
    bench.put(TcpRepr { window_len: 0, ..segment(TcpControl::Fin, OURS, &[]) });
    bench.turn();
    bench.stack.socket(id).send_slice(&[7; 1000]).unwrap();
    bench.stack.finish(id);
    bench.turn();
    bench.put(segment(TcpControl::None, OURS + 1, &[]));
    let sent: usize = bench.turn().iter().map(|seen| seen.payload).sum();
    assert!(sent >= 999, "{sent} bytes went out");
    bench.theirs += 1000;
    bench.put(segment(TcpControl::None, OURS + 1, &[]));
    assert!(bench.turn().iter().any(|seen| seen.control == TcpControl::Fin));
}

#[test]
fn the_number_of_streams_has_a_limit() {
    let mut bench = Bench::new();
    let ids: Vec<_> = (0..MAX_STREAMS).map(|_| bench.stack.open(Family::V4, PORT).unwrap()).collect();
    assert_eq!(bench.stack.open(Family::V4, PORT).unwrap_err(), DialError::TooMany);
    let ports: std::collections::BTreeSet<_> =
        ids.iter().map(|id| bench.stack.socket(*id).local_endpoint().unwrap().port).collect();
    assert_eq!(ports.len(), MAX_STREAMS);
    bench.stack.detach();
    bench.stack.attach();
    assert_eq!(bench.live(), 0);
    for id in ids {
        assert!(bench.stack.is_cut(id));
        bench.stack.abandon(id, bench.now);
    }
    assert!(bench.stack.open(Family::V4, PORT).is_ok());
}

/// Before our first ACK goes out, smoltcp lets in what the window of its SYN seems to allow.
#[test]
fn a_guest_cannot_write_past_the_receive_buffer() {
    let mut bench = Bench::new();
    let id = bench.accepted();
    let early = [SOCKET_BUFFER as i32 - 30_000, SOCKET_BUFFER as i32 + 100_000, 2_000_000];
    for offset in early {
        bench.put(segment(TcpControl::None, OURS + offset, &[1; 60_000]));
    }
    for offset in (0..40).map(|number| number * 60_000) {
        bench.turn();
        bench.put(segment(TcpControl::None, OURS + offset, &[1; 60_000]));
    }
    bench.turn();
    let received = bench.stack.socket(id).recv_queue();
    assert!((SOCKET_BUFFER - 16..=SOCKET_BUFFER).contains(&received), "{received} bytes");
}

impl Bench {
    /// What the clock and the stack do at the end of a freeze.
    fn catch_up(&mut self) {
        self.stack.catch_up();
        self.now += CATCH_UP;
    }
}

#[test]
fn what_is_unconfirmed_is_sent_again_when_it_goes_on() {
    for back_off in 0..10 {
        let mut bench = Bench::new();
        let id = bench.accepted();
        bench.turn();
        assert!(!bench.is_pending());
        bench.stack.socket(id).send_slice(b"key").unwrap();
        assert!(bench.is_pending());
        bench.turn();
        for _ in 0..back_off {
            bench.now = bench.stack.turn(bench.now, &mut bench.wire).unwrap().sockets_due.unwrap();
            assert_eq!(bench.turn().len(), 1);
        }
        bench.catch_up();
        let seen = bench.turn();
        assert_eq!(seen.iter().map(|seen| seen.payload).collect::<Vec<_>>(), [3], "after {back_off} times");
        bench.theirs += 3;
        bench.put(segment(TcpControl::None, OURS, &[]));
        bench.turn();
        assert!(!bench.is_pending());
    }
}

#[test]
fn a_closed_window_is_probed_when_it_goes_on() {
    let mut bench = Bench::new();
    let id = bench.accepted();
    bench.turn();
    bench.put(TcpRepr { window_len: 0, ..segment(TcpControl::None, OURS, &[]) });
    bench.turn();
    bench.stack.socket(id).send_slice(b"key").unwrap();
    let mut waited = Duration::ZERO;
    for _ in 0..8 {
        let due = bench.stack.turn(bench.now, &mut bench.wire).unwrap().sockets_due.unwrap();
        (waited, bench.now) = (due - bench.now, due);
        bench.turn();
    }
    assert_eq!(waited, CATCH_UP, "the longest back-off there is");
    bench.catch_up();
    assert_eq!(bench.turn().iter().map(|seen| seen.payload).collect::<Vec<_>>(), [1]);
    bench.put(segment(TcpControl::None, OURS, &[]));
    assert_eq!(bench.turn().iter().map(|seen| seen.payload).collect::<Vec<_>>(), [3]);
}

#[test]
fn going_on_leaves_an_idle_connection_idle() {
    let mut bench = Bench::new();
    let _id = bench.accepted();
    bench.turn();
    bench.catch_up();
    assert!(bench.turn().is_empty());
    let turn = bench.stack.turn(bench.now, &mut bench.wire).unwrap();
    assert_eq!((turn.sockets_due, turn.orphans_due), (None, None));
}

/// A round trip is not taken to have lasted a minute, after which the next loss would cost as much.
#[test]
fn going_on_teaches_no_patience() {
    let mut bench = Bench::new();
    let id = bench.accepted();
    bench.turn();
    for freezes in 0..8 {
        bench.stack.socket(id).send_slice(b"key").unwrap();
        bench.turn();
        bench.catch_up();
        bench.theirs += 3;
        bench.put(segment(TcpControl::None, OURS, &[]));
        bench.turn();
        bench.stack.socket(id).send_slice(b"key").unwrap();
        bench.turn();
        bench.theirs += 3;
        bench.put(segment(TcpControl::None, OURS, &[]));
        bench.turn();
        bench.stack.socket(id).send_slice(b"key").unwrap();
        bench.turn();
        let due = bench.stack.turn(bench.now, &mut bench.wire).unwrap().sockets_due.unwrap();
        assert!(due - bench.now <= Duration::from_secs(1), "{} after {freezes}", due - bench.now);
        bench.theirs += 3;
        bench.put(segment(TcpControl::None, OURS, &[]));
        bench.turn();
    }
}

#[test]
fn a_dropped_stream_lingers_after_it_goes_on() {
    let mut bench = Bench::new();
    let id = bench.accepted();
    bench.turn();
    bench.stack.socket(id).send_slice(b"last words").unwrap();
    assert!(bench.stack.abandon(id, bench.now), "the guest has not heard of it");
    bench.catch_up();
    let seen = bench.turn();
    assert_eq!((seen.len(), resets(&seen)), (1, 0));
    bench.now += LINGER - Duration::from_secs(1);
    assert_eq!(resets(&bench.turn()), 0);
    bench.now += Duration::from_secs(1);
    bench.turn();
    assert_eq!(resets(&bench.turn()), 1);
    assert_eq!(*bench.stack.count().borrow(), 0);
}

#[test]
fn what_is_pending_and_what_is_news() {
    let mut bench = Bench::new();
    let id = bench.stack.open(Family::V6, PORT).unwrap();
    assert!(bench.is_pending(), "a dial");
    assert!(!bench.stack.abandon(id, bench.now), "that was given up");
    bench.turn();
    assert!(!bench.is_pending());

    let id = bench.accepted();
    bench.put(segment(TcpControl::Psh, OURS, b"unread"));
    bench.turn();
    assert!(!bench.is_pending(), "what is not read");
    assert!(bench.stack.finish(id));
    assert!(bench.is_pending(), "an end");
    assert!(!bench.stack.finish(id), "which is news once");
    bench.turn();
    bench.theirs += 1;
    bench.put(segment(TcpControl::Fin, OURS + 6, &[]));
    bench.turn();
    assert!(!bench.is_pending());
    assert!(!bench.stack.abandon(id, bench.now), "both ends were heard");

    let id = bench.accepted();
    bench.turn();
    assert!(bench.stack.abandon(id, bench.now));
    assert!(bench.is_pending(), "a reset");
    bench.turn();
    assert!(!bench.is_pending());
}

#[derive(Debug, Clone)]
enum Act {
    CatchUp,
    Segment { control: TcpControl, seq: i32, ack: Option<i32>, window: u16, payload: usize },
    Turn,
    Wait(u64),
    Write(usize),
    Read(usize),
    Finish,
    Abandon,
}

fn near() -> impl Strategy<Value = i32> {
    prop_oneof![
        6 => -3..40_i32,
        3 => prop::sample::select(vec![0xffff, 0x10000, SOCKET_BUFFER as i32, SOCKET_BUFFER as i32 - 1, 2 << 20]),
        4 => -70_000..2_200_000_i32,
        1 => any::<i32>(),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    use TcpControl::{Fin, None as Plain, Psh, Rst, Syn};
    let control = prop::sample::select(vec![Plain, Plain, Plain, Psh, Fin, Fin, Syn, Rst]);
    let window = prop_oneof![Just(0), Just(0xffff), any::<u16>()];
    let payload = prop_oneof![3 => Just(0_usize), 3 => 1..50_usize, 1 => 60_000..65_000_usize];
    let ack = prop::option::weighted(0.9, near());
    prop_oneof![
        12 => (control, near(), ack, window, payload)
            .prop_map(|(control, seq, ack, window, payload)| Act::Segment { control, seq, ack, window, payload }),
        6 => Just(Act::Turn),
        2 => (0..20_000_u64).prop_map(Act::Wait),
        2 => (0..100_000_usize).prop_map(Act::Write),
        2 => (0..2_000_000_usize).prop_map(Act::Read),
        1 => Just(Act::Finish),
        1 => Just(Act::Abandon),
        1 => Just(Act::CatchUp),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_segment_makes_it_panic(accept in any::<bool>(), acts in vec(act(), 1..60)) {
        let mut bench = Bench::new();
        let mut id = if accept {
            Some(bench.accepted())
        } else {
            let id = bench.stack.open(Family::V6, PORT).unwrap();
            let syn = bench.turn().pop().unwrap();
            bench.theirs = syn.seq + 1;
            Some(id)
        };
        let mut buffer = vec![0; 2_000_000];
        for act in acts {
            match act {
                Act::Segment { control, seq, ack, window, payload } => {
                    if bench.wire.decoder.room().len() < 4 + MAX_FRAME {
                        bench.turn();
                    }
                    let payload = vec![9; payload];
                    let tcp = segment(control, OURS.wrapping_add(seq), &payload);
                    bench.put(TcpRepr { ack_number: ack.map(TcpSeqNumber), window_len: window, ..tcp });
                }
                Act::Turn => { bench.turn(); }
                Act::CatchUp => bench.catch_up(),
                Act::Wait(millis) => bench.now += Duration::from_millis(millis),
                Act::Write(count) => if let Some(id) = id {
                    let _ = bench.stack.socket(id).send_slice(&buffer[..count]);
                },
                Act::Read(count) => if let Some(id) = id {
                    let _ = bench.stack.socket(id).recv_slice(&mut buffer[..count]);
                },
                Act::Finish => if let Some(id) = id { bench.stack.finish(id); },
                Act::Abandon => if let Some(id) = id.take() { bench.stack.abandon(id, bench.now); },
            }
            prop_assert!(bench.stack.connections.len() <= 1);
        }
        bench.turn();
        if let Some(id) = id {
            bench.stack.abandon(id, bench.now);
        }
        // Twice its patience, and the stack is empty whatever the guest did.
        for _ in 0..4 {
            bench.turn();
            bench.now += LINGER;
        }
        bench.turn();
        prop_assert!(bench.stack.connections.is_empty());
        prop_assert_eq!(bench.live(), 0);
    }

    #[test]
    fn no_frame_makes_it_panic(frames in vec(vec(any::<u8>(), 0..200), 1..30)) {
        let mut bench = Bench::new();
        let _id = bench.accepted();
        for frame in frames {
            bench.put_frame(&frame);
        }
        bench.stack.turn(bench.now, &mut bench.wire).unwrap();
        prop_assert!(bench.wire.outbox.len() < MTU * 4);
    }
}
