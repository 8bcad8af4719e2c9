//! What fuzzers do with the private network: a guest that says whatever it likes, and what must hold all the same.
//!
//! Bytes are read as the acts of a guest and of those who have streams into it, so that inputs stay meaningful when they are
//! cut and mixed. Every function panics where something does not hold.

use smoltcp::{
    phy::ChecksumCapabilities,
    time::{Duration, Instant},
    wire::{
        ArpPacket, ArpRepr, DHCP_CLIENT_PORT, DHCP_SERVER_PORT, DhcpPacket, EthernetAddress, EthernetFrame,
        EthernetProtocol, Icmpv6Packet, IpProtocol, Ipv4Packet, Ipv4Repr, Ipv6Packet, Ipv6Repr, TcpControl,
        TcpPacket, TcpRepr, TcpSeqNumber, UdpPacket, UdpRepr,
    },
};

use crate::{
    GUEST_MAC,
    frame::{MAX_FRAME, Outbox},
    link::{self, ETHERNET_HEADER, Family, GUEST_V4, GUEST_V6, HOST_MAC, HOST_V4, HOST_V6, Received},
    stack::{Id, MAX_STREAMS, SOCKET_BUFFER, Stack, Wire},
};

/// What is left of the input.
struct Acts<'a>(&'a [u8]);

impl<'a> Acts<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    fn u16(&mut self) -> u16 {
        u16::from_be_bytes([self.byte().unwrap_or_default(), self.byte().unwrap_or_default()])
    }
}

fn framed(kind: EthernetProtocol, length: usize, fill: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut bytes = vec![0; ETHERNET_HEADER + length];
    let mut frame = EthernetFrame::new_unchecked(&mut bytes[..]);
    frame.set_src_addr(EthernetAddress(GUEST_MAC));
    frame.set_dst_addr(HOST_MAC);
    frame.set_ethertype(kind);
    fill(frame.payload_mut());
    bytes
}

fn v4(protocol: IpProtocol, length: usize, fill: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let ip = Ipv4Repr {
        src_addr: GUEST_V4,
        dst_addr: HOST_V4,
        next_header: protocol,
        payload_len: length,
        hop_limit: 64,
    };
    framed(EthernetProtocol::Ipv4, ip.buffer_len() + length, |buffer| {
        let mut packet = Ipv4Packet::new_unchecked(buffer);
        ip.emit(&mut packet, &ChecksumCapabilities::default());
        fill(packet.payload_mut());
    })
}

fn v6(protocol: IpProtocol, length: usize, fill: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let ip = Ipv6Repr {
        src_addr: GUEST_V6,
        dst_addr: HOST_V6,
        next_header: protocol,
        payload_len: length,
        hop_limit: 255,
    };
    framed(EthernetProtocol::Ipv6, ip.buffer_len() + length, |buffer| {
        let mut packet = Ipv6Packet::new_unchecked(buffer);
        ip.emit(&mut packet);
        fill(packet.payload_mut());
    })
}

/// One frame with a question to the link: ARP, neighbour discovery, DHCP, or anything. The first byte chooses what is put
/// right around the rest of it.
///
/// # Panics
/// If a frame is answered with more than one, with a large one, from another station, or with anything in a lease but the
/// guest's address; or if a packet reaches the stack that is not TCP between the two.
pub fn neighbours(data: &[u8]) {
    let Some((how, data)) = data.split_first() else { return };
    let data = data.get(..2048).unwrap_or(data);
    let copy = |buffer: &mut [u8]| buffer.copy_from_slice(data);
    let frame = match how % 4 {
        0 => data.to_vec(),
        1 => framed(EthernetProtocol::Arp, data.len(), copy),
        2 => v4(IpProtocol::Udp, data.len() + 8, |buffer| {
            let udp = UdpRepr { src_port: DHCP_CLIENT_PORT, dst_port: DHCP_SERVER_PORT };
            let mut datagram = UdpPacket::new_unchecked(buffer);
            let sums = ChecksumCapabilities::default();
            udp.emit(&mut datagram, &GUEST_V4.into(), &HOST_V4.into(), data.len(), copy, &sums);
        }),
        _ => v6(IpProtocol::Icmpv6, data.len(), |buffer| {
            copy(buffer);
            if let Ok(mut icmp) = Icmpv6Packet::new_checked(buffer) {
                icmp.fill_checksum(&GUEST_V6, &HOST_V6);
            }
        }),
    };
    let mut outbox = Outbox::default();
    let received = link::receive(&frame, &mut outbox);
    judge_received(&received);
    judge_answer(&frame, outbox.pending());
}

fn judge_received(received: &Received<'_>) {
    let Some(packet) = received.packet else { return };
    assert!(received.heard.is_some(), "whoever has a packet for the stack was heard");
    match packet.first().map(|byte| byte >> 4) {
        Some(4) => {
            let packet = Ipv4Packet::new_checked(packet).expect("what the stack gets is a packet");
            assert_eq!((packet.src_addr(), packet.dst_addr()), (GUEST_V4, HOST_V4));
            assert_eq!(packet.next_header(), IpProtocol::Tcp);
            assert!(!packet.more_frags() && packet.frag_offset() == 0, "a fragment");
        }
        Some(6) => {
            let packet = Ipv6Packet::new_checked(packet).expect("what the stack gets is a packet");
            assert_eq!((packet.src_addr(), packet.dst_addr()), (GUEST_V6, HOST_V6));
            assert_eq!(packet.next_header(), IpProtocol::Tcp);
        }
        version => panic!("a packet of version {version:?} for the stack"),
    }
}

fn judge_answer(question: &[u8], answer: &[u8]) {
    let Some((prefix, frame)) = answer.split_first_chunk::<4>() else { return };
    assert_eq!(u32::from_be_bytes(*prefix) as usize, frame.len(), "one frame is answered with one");
    assert!(frame.len() <= question.len() + 512, "{} bytes for {}", frame.len(), question.len());
    let frame = EthernetFrame::new_checked(frame).expect("an answer is a frame");
    assert_eq!(frame.src_addr(), HOST_MAC);
    match frame.ethertype() {
        EthernetProtocol::Arp => {
            let packet = ArpPacket::new_checked(frame.payload()).expect("ARP");
            let Ok(ArpRepr::EthernetIpv4 { source_protocol_addr, source_hardware_addr, .. }) =
                ArpRepr::parse(&packet)
            else {
                panic!("an answer is ARP for IPv4");
            };
            assert_eq!((source_protocol_addr, source_hardware_addr), (HOST_V4, HOST_MAC));
        }
        EthernetProtocol::Ipv4 => {
            let packet = Ipv4Packet::new_checked(frame.payload()).expect("IPv4");
            assert_eq!(packet.src_addr(), HOST_V4);
            let udp = UdpPacket::new_checked(packet.payload()).expect("UDP");
            let lease = DhcpPacket::new_checked(udp.payload()).expect("DHCP");
            assert!(lease.your_ip() == GUEST_V4 || lease.your_ip().is_unspecified());
            for option in lease.options() {
                // A router and name servers are nobody's to give here.
                assert!(!matches!(option.kind, 3 | 6), "option {}", option.kind);
            }
        }
        EthernetProtocol::Ipv6 => {
            let packet = Ipv6Packet::new_checked(frame.payload()).expect("IPv6");
            assert_eq!(packet.src_addr(), HOST_V6);
            assert!(packet.dst_addr().is_unicast_link_local());
        }
        EthernetProtocol::Unknown(kind) => panic!("an answer of type {kind:x}"),
    }
}

/// The byte that stands so far into what the guest says on every connection.
fn said(at: u32) -> u8 {
    (at.wrapping_mul(0x9e37_79b1) >> 24) as u8
}

/// The same for what is written to the guest.
fn written(at: u32) -> u8 {
    !said(at)
}

/// One stream, and the guest's end of it.
struct Talk {
    id: Id,
    family: Family,
    port: u16,
    /// The number before our first byte, from our SYN.
    ours: Option<TcpSeqNumber>,
    /// The number before the guest's first byte.
    theirs: u32,
    read: u32,
    wrote: u32,
}

struct World {
    stack: Stack,
    wire: Wire,
    now: Instant,
    talks: Vec<Talk>,
}

/// So many streams are enough to get into each other's way.
const TALKS: usize = 4;
const GUEST_PORT: u16 = 22;

/// A whole conversation: frames of the guest, right ones and others, between what people do with streams into it.
///
/// The guest's data is a function of its place, and so is what is written to it. So whatever the guest sends twice, out of
/// order, overlapping or beside the window, what is read has to be exactly that, and so has every segment that goes out.
///
/// # Panics
/// If that does not hold, or a buffer is larger than it may be.
pub fn guest_frames(data: &[u8]) {
    let mut world =
        World { stack: Stack::new(), wire: Wire::default(), now: Instant::from_secs(1), talks: Vec::new() };
    world.stack.attach();
    let mut acts = Acts(data);
    while let Some(act) = acts.byte() {
        if world.act(act, &mut acts).is_none() {
            break;
        }
    }
}

impl World {
    /// `None` when the stream of frames is out of step for good.
    fn act(&mut self, act: u8, acts: &mut Acts<'_>) -> Option<()> {
        let which = usize::from(act >> 4);
        match act & 15 {
            0 => self.open(if which & 1 == 0 { Family::V6 } else { Family::V4 }),
            1 => self.write(which, acts.u16()),
            2 => self.read(which, acts.u16()),
            3 => self.finish(which),
            4 => self.abandon(which),
            5 => {
                self.now += Duration::from_millis(u64::from(acts.u16()) * 8);
                self.turn()?;
            }
            6 => {
                self.now += crate::stack::CATCH_UP;
                self.stack.catch_up();
                self.turn()?;
            }
            7 => {
                let count = usize::from(acts.byte()?);
                let bytes = acts.take(count);
                self.put(bytes);
                self.turn()?;
            }
            8 => {
                let count = usize::from(acts.byte()?);
                let frame = acts.take(count).to_vec();
                self.put_frame(&frame);
                self.turn()?;
            }
            9 => {
                self.stack.detach();
                self.stack.attach();
            }
            10 => {
                let _pending = self.stack.is_pending(self.now);
            }
            _ => {
                self.segment(which, acts);
                self.turn()?;
            }
        }
        Some(())
    }

    fn open(&mut self, family: Family) {
        if self.talks.len() == TALKS {
            return;
        }
        let Ok(id) = self.stack.open(family, GUEST_PORT) else { return };
        let port = self.stack.socket(id).local_endpoint().map_or(0, |endpoint| endpoint.port);
        self.talks.push(Talk { id, family, port, ours: None, theirs: 0x1000, read: 0, wrote: 0 });
    }

    fn write(&mut self, which: usize, count: u16) {
        let Some(talk) = self.talks.get_mut(which) else { return };
        let socket = self.stack.socket(talk.id);
        let bytes: Vec<u8> = (0..u32::from(count)).map(|at| written(talk.wrote + at)).collect();
        if let Ok(taken) = socket.send_slice(&bytes) {
            talk.wrote += taken as u32;
            self.stack.wrote(talk.id);
        }
        assert!(self.stack.socket(talk.id).send_queue() <= SOCKET_BUFFER);
    }

    fn read(&mut self, which: usize, count: u16) {
        let Some(talk) = self.talks.get_mut(which) else { return };
        let socket = self.stack.socket(talk.id);
        assert!(socket.recv_queue() <= SOCKET_BUFFER);
        let mut bytes = vec![0; usize::from(count)];
        let read = socket.recv_slice(&mut bytes).unwrap_or(0);
        for (at, byte) in (talk.read..).zip(bytes.iter().take(read)) {
            assert_eq!(*byte, said(at), "byte {at} of what the guest said");
        }
        talk.read += read as u32;
    }

    fn finish(&mut self, which: usize) {
        if let Some(talk) = self.talks.get(which) {
            self.stack.finish(talk.id);
        }
    }

    fn abandon(&mut self, which: usize) {
        if which < self.talks.len() {
            let talk = self.talks.remove(which);
            self.stack.abandon(talk.id, self.now);
        }
    }

    fn put(&mut self, bytes: &[u8]) {
        let room = self.wire.decoder.room();
        let count = room.len().min(bytes.len());
        if let (Some(room), Some(bytes)) = (room.get_mut(..count), bytes.get(..count)) {
            room.copy_from_slice(bytes);
        }
        self.wire.decoder.filled(count);
    }

    fn put_frame(&mut self, frame: &[u8]) {
        let length = (frame.len() as u32).to_be_bytes();
        self.put(&[&length, frame].concat());
    }

    /// A segment on a connection, with sums that are right: where it begins, what it confirms and how large it makes the
    /// window is the input's to say.
    fn segment(&mut self, which: usize, acts: &mut Acts<'_>) {
        let Some(talk) = self.talks.get(which % TALKS) else { return };
        let (flags, from, confirmed, window) =
            (acts.byte().unwrap_or_default(), acts.u16(), acts.u16(), acts.u16());
        let control = match flags & 7 {
            0 | 1 => TcpControl::None,
            2 => TcpControl::Psh,
            3 => TcpControl::Fin,
            4 => TcpControl::Rst,
            _ => TcpControl::Syn,
        };
        // The end of what the guest says is where the input first says so, and what it says beyond is still the same.
        let start = if control == TcpControl::Syn { 0 } else { u32::from(from).wrapping_sub(64) };
        let payload: Vec<u8> = if control == TcpControl::Syn || flags & 8 == 0 {
            Vec::new()
        } else {
            (0..u32::from(acts.u16() % 2048)).map(|at| said(start.wrapping_add(at))).collect()
        };
        // One before its data is the guest's SYN.
        let first = if control == TcpControl::Syn {
            talk.theirs.wrapping_sub(1)
        } else {
            talk.theirs.wrapping_add(start)
        };
        let ours = talk.ours.map_or(0, |number| number.0);
        let tcp = TcpRepr {
            src_port: GUEST_PORT,
            dst_port: talk.port,
            control,
            seq_number: TcpSeqNumber(first as i32),
            ack_number: (flags & 16 == 0).then(|| TcpSeqNumber(ours.wrapping_add(i32::from(confirmed)))),
            window_len: window,
            window_scale: (control == TcpControl::Syn).then_some(flags >> 5),
            max_seg_size: (control == TcpControl::Syn).then_some(window),
            sack_permitted: flags & 32 != 0,
            sack_ranges: [None; 3],
            timestamp: None,
            payload: &payload,
        };
        let sums = ChecksumCapabilities::default();
        let frame = match talk.family {
            Family::V4 => v4(IpProtocol::Tcp, tcp.buffer_len(), |buffer| {
                let mut packet = TcpPacket::new_unchecked(buffer);
                tcp.emit(&mut packet, &GUEST_V4.into(), &HOST_V4.into(), &sums);
            }),
            Family::V6 => v6(IpProtocol::Tcp, tcp.buffer_len(), |buffer| {
                let mut packet = TcpPacket::new_unchecked(buffer);
                tcp.emit(&mut packet, &GUEST_V6.into(), &HOST_V6.into(), &sums);
            }),
        };
        self.put_frame(&frame);
    }

    fn turn(&mut self) -> Option<()> {
        // What waits in the decoder is bounded, and so is what one turn takes of it.
        for _ in 0..8 {
            let turn = self.stack.turn(self.now, &mut self.wire).ok()?;
            self.look_at_outbox();
            if turn.frames == 0 {
                break;
            }
        }
        assert!(*self.stack.count().borrow() <= MAX_STREAMS);
        Some(())
    }

    /// Takes all that goes to the guest.
    fn look_at_outbox(&mut self) {
        let mut rest = self.wire.outbox.pending();
        // A full outbox gets one round more: a frame of each stream.
        assert!(rest.len() <= (256 << 10) + (MAX_STREAMS + 1) * MAX_FRAME);
        while let Some((prefix, after)) = rest.split_first_chunk::<4>() {
            let (frame, after) = after.split_at(u32::from_be_bytes(*prefix) as usize);
            look_at(frame, &mut self.talks);
            rest = after;
        }
        assert!(rest.is_empty(), "frames are whole");
        let all = self.wire.outbox.len();
        self.wire.outbox.sent(all);
    }
}

fn look_at(frame: &[u8], talks: &mut [Talk]) {
    assert!(frame.len() <= MAX_FRAME);
    let frame = EthernetFrame::new_checked(frame).expect("what goes out is a frame");
    assert_eq!(frame.src_addr(), HOST_MAC);
    let segment = match frame.ethertype() {
        EthernetProtocol::Ipv4 => {
            let packet = Ipv4Packet::new_checked(frame.payload()).expect("IPv4");
            (packet.next_header() == IpProtocol::Tcp).then(|| packet.payload())
        }
        EthernetProtocol::Ipv6 => {
            let packet = Ipv6Packet::new_checked(frame.payload()).expect("IPv6");
            (packet.next_header() == IpProtocol::Tcp).then(|| packet.payload())
        }
        _ => None,
    };
    let Some(tcp) = segment.map(|bytes| TcpPacket::new_checked(bytes).expect("TCP")) else { return };
    let Some(talk) = talks.iter_mut().find(|talk| talk.port == tcp.src_port()) else { return };
    if tcp.syn() {
        talk.ours = Some(tcp.seq_number() + 1);
        return;
    }
    let (Some(ours), false) = (talk.ours, tcp.payload().is_empty()) else { return };
    let start = tcp.seq_number().0.wrapping_sub(ours.0) as u32;
    // One byte before the data is what a question whether the guest still lives has.
    for (at, byte) in (start..).zip(tcp.payload()).filter(|(at, _)| *at < talk.wrote) {
        assert_eq!(*byte, written(at), "byte {at} of what was written");
    }
    assert!(start == u32::MAX || start + tcp.payload().len() as u32 <= talk.wrote, "more than was written");
}
