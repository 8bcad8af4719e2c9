//! The Ethernet segment between the guest and the host: two stations, and nothing behind them.
//!
//! Everything that is not TCP is settled here, from one frame to at most one frame: ARP, IPv6 neighbour
//! discovery and DHCP get their answer, all else is dropped. Only TCP between the one guest address and the
//! one host address of its family reaches the stack, which therefore can neither answer for another address,
//! nor forward, nor be fed a fragment. No state: a guest can fill no table.

use smoltcp::{
    phy::ChecksumCapabilities,
    wire::{
        ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol, Icmpv6Message,
        Icmpv6Packet, Icmpv6Repr, IpProtocol, Ipv4Address, Ipv4Packet, Ipv6Address, Ipv6Packet, Ipv6Repr,
        NdiscNeighborFlags, NdiscRepr,
    },
};

use crate::{GUEST_MAC, dhcp, frame::Outbox};

pub(crate) const ETHERNET_HEADER: usize = 14;

/// The host's station; locally administered.
pub(crate) const HOST_MAC: EthernetAddress = EthernetAddress([0x02, 0x62, 0x74, 0x68, 0x00, 0x01]);
pub(crate) const HOST_V4: Ipv4Address = Ipv4Address::new(169, 254, 77, 1);
pub(crate) const GUEST_V4: Ipv4Address = Ipv4Address::new(169, 254, 77, 2);
pub(crate) const HOST_V6: Ipv6Address = Ipv6Address::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
/// What a guest makes of [`GUEST_MAC`] by itself (RFC 4291, appendix A).
pub(crate) const GUEST_V6: Ipv6Address = link_local(GUEST_MAC);

/// NDP is only believed from the same link: nothing that was forwarded still has this (RFC 4861, 7.1.1).
const NDP_HOP_LIMIT: u8 = 255;

/// One of the two ways to the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

/// What a frame comes to once the link has dealt with it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Received<'a> {
    /// The guest spoke from its own address of this family: that address works now.
    pub(crate) heard: Option<Family>,
    /// An IP packet with a TCP segment for the stack.
    pub(crate) packet: Option<&'a [u8]>,
}

/// Takes a frame from the guest, and puts the answer, if it deserves one, into `outbox`.
pub(crate) fn receive<'a>(frame: &'a [u8], outbox: &mut Outbox) -> Received<'a> {
    let Ok(ethernet) = EthernetFrame::new_checked(frame) else { return Received::default() };
    if ethernet.dst_addr() != HOST_MAC && !ethernet.dst_addr().is_multicast() {
        return Received::default();
    }
    let sender = ethernet.src_addr();
    match ethernet.ethertype() {
        EthernetProtocol::Arp => receive_arp(ethernet.payload(), outbox),
        EthernetProtocol::Ipv4 => receive_v4(ethernet.payload(), outbox),
        EthernetProtocol::Ipv6 => receive_v6(sender, ethernet.payload(), outbox),
        EthernetProtocol::Unknown(_) => Received::default(),
    }
}

/// Sends `packet_length` bytes of IP to the guest, written by `fill`.
pub(crate) fn send<R>(outbox: &mut Outbox, packet_length: usize, fill: impl FnOnce(&mut [u8]) -> R) -> R {
    outbox.push(ETHERNET_HEADER + packet_length, |buffer| {
        let mut frame = EthernetFrame::new_unchecked(buffer);
        let result = fill(frame.payload_mut());
        let is_v6 = frame.payload_mut().first().is_some_and(|byte| byte >> 4 == 6);
        frame.set_ethertype(if is_v6 { EthernetProtocol::Ipv6 } else { EthernetProtocol::Ipv4 });
        frame.set_src_addr(HOST_MAC);
        frame.set_dst_addr(EthernetAddress(GUEST_MAC));
        result
    })
}

fn receive_arp<'a>(payload: &[u8], outbox: &mut Outbox) -> Received<'a> {
    let Ok(ArpRepr::EthernetIpv4 {
        operation,
        source_hardware_addr,
        source_protocol_addr,
        target_protocol_addr,
        ..
    }) = ArpPacket::new_checked(payload).and_then(|packet| ArpRepr::parse(&packet))
    else {
        return Received::default();
    };
    if operation == ArpOperation::Request && target_protocol_addr == HOST_V4 {
        let reply = ArpRepr::EthernetIpv4 {
            operation: ArpOperation::Reply,
            source_hardware_addr: HOST_MAC,
            source_protocol_addr: HOST_V4,
            target_hardware_addr: source_hardware_addr,
            target_protocol_addr: source_protocol_addr,
        };
        outbox.push(ETHERNET_HEADER + reply.buffer_len(), |buffer| {
            let mut frame = EthernetFrame::new_unchecked(buffer);
            frame.set_src_addr(HOST_MAC);
            frame.set_dst_addr(source_hardware_addr);
            frame.set_ethertype(EthernetProtocol::Arp);
            reply.emit(&mut ArpPacket::new_unchecked(frame.payload_mut()));
        });
    }
    Received { heard: (source_protocol_addr == GUEST_V4).then_some(Family::V4), packet: None }
}

fn receive_v4<'a>(payload: &'a [u8], outbox: &mut Outbox) -> Received<'a> {
    let Ok(packet) = Ipv4Packet::new_checked(payload) else { return Received::default() };
    if packet.version() != 4 || packet.more_frags() || packet.frag_offset() != 0 {
        return Received::default();
    }
    let from_guest = packet.src_addr() == GUEST_V4;
    let is_tcp = packet.next_header() == IpProtocol::Tcp && packet.dst_addr() == HOST_V4;
    if packet.next_header() == IpProtocol::Udp {
        dhcp::receive(packet.payload(), outbox);
    }
    Received { heard: from_guest.then_some(Family::V4), packet: (from_guest && is_tcp).then_some(payload) }
}

fn receive_v6<'a>(sender: EthernetAddress, payload: &'a [u8], outbox: &mut Outbox) -> Received<'a> {
    let Ok(packet) = Ipv6Packet::new_checked(payload) else { return Received::default() };
    if packet.version() != 6 {
        return Received::default();
    }
    let from_guest = packet.src_addr() == GUEST_V6;
    // A header between (hop-by-hop, fragment) means that it is not for the stack.
    let is_tcp = packet.next_header() == IpProtocol::Tcp && packet.dst_addr() == HOST_V6;
    if packet.next_header() == IpProtocol::Icmpv6 && packet.hop_limit() == NDP_HOP_LIMIT {
        answer_solicitation(sender, &packet, outbox);
    }
    Received { heard: from_guest.then_some(Family::V6), packet: (from_guest && is_tcp).then_some(payload) }
}

/// RFC 4861, 7.2.4. One from the unspecified address asks whether ours is free: the guest has its own, so
/// silence does no harm.
fn answer_solicitation(sender: EthernetAddress, packet: &Ipv6Packet<&[u8]>, outbox: &mut Outbox) {
    let asker = packet.src_addr();
    let checksums = ChecksumCapabilities::default();
    let Ok(icmp) = Icmpv6Packet::new_checked(packet.payload()) else { return };
    if icmp.msg_type() != Icmpv6Message::NeighborSolicit || !asker.is_unicast_link_local() {
        return;
    }
    let Ok(Icmpv6Repr::Ndisc(NdiscRepr::NeighborSolicit { target_addr: HOST_V6, .. })) =
        Icmpv6Repr::parse(&asker, &packet.dst_addr(), &icmp, &checksums)
    else {
        return;
    };
    let advert = Icmpv6Repr::Ndisc(NdiscRepr::NeighborAdvert {
        flags: NdiscNeighborFlags::SOLICITED | NdiscNeighborFlags::OVERRIDE,
        target_addr: HOST_V6,
        lladdr: Some(HOST_MAC.into()),
    });
    let header = Ipv6Repr {
        src_addr: HOST_V6,
        dst_addr: asker,
        next_header: IpProtocol::Icmpv6,
        payload_len: advert.buffer_len(),
        hop_limit: NDP_HOP_LIMIT,
    };
    outbox.push(ETHERNET_HEADER + header.buffer_len() + advert.buffer_len(), |buffer| {
        let mut frame = EthernetFrame::new_unchecked(buffer);
        frame.set_src_addr(HOST_MAC);
        frame.set_dst_addr(sender);
        frame.set_ethertype(EthernetProtocol::Ipv6);
        let mut packet = Ipv6Packet::new_unchecked(frame.payload_mut());
        header.emit(&mut packet);
        let mut icmp = Icmpv6Packet::new_unchecked(packet.payload_mut());
        advert.emit(&HOST_V6, &asker, &mut icmp, &checksums);
    });
}

const fn link_local(mac: [u8; 6]) -> Ipv6Address {
    let [a, b, c, d, e, f] = mac;
    Ipv6Address::new(
        0xfe80,
        0,
        0,
        0,
        u16::from_be_bytes([a ^ 2, b]),
        u16::from_be_bytes([c, 0xff]),
        u16::from_be_bytes([0xfe, d]),
        u16::from_be_bytes([e, f]),
    )
}

#[cfg(test)]
mod tests;
