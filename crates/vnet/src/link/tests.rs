use proptest::{collection::vec, prelude::*};
use smoltcp::wire::{
    DhcpMessageType, DhcpPacket, DhcpRepr, Ipv4Repr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber, UdpPacket,
    UdpRepr,
};

use super::*;

const SUMS: fn() -> ChecksumCapabilities = ChecksumCapabilities::default;

fn frame(
    to: EthernetAddress,
    kind: EthernetProtocol,
    length: usize,
    fill: impl FnOnce(&mut [u8]),
) -> Vec<u8> {
    let mut bytes = vec![0; ETHERNET_HEADER + length];
    let mut frame = EthernetFrame::new_unchecked(&mut bytes[..]);
    frame.set_src_addr(EthernetAddress(GUEST_MAC));
    frame.set_dst_addr(to);
    frame.set_ethertype(kind);
    fill(frame.payload_mut());
    bytes
}

fn arp(from: Ipv4Address, target: Ipv4Address) -> Vec<u8> {
    let request = ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Request,
        source_hardware_addr: EthernetAddress(GUEST_MAC),
        source_protocol_addr: from,
        target_hardware_addr: EthernetAddress([0; 6]),
        target_protocol_addr: target,
    };
    frame(EthernetAddress::BROADCAST, EthernetProtocol::Arp, request.buffer_len(), |payload| {
        request.emit(&mut ArpPacket::new_unchecked(payload));
    })
}

fn solicitation(from: Ipv6Address, target: Ipv6Address, hop_limit: u8) -> Vec<u8> {
    let ask = Icmpv6Repr::Ndisc(NdiscRepr::NeighborSolicit { target_addr: target, lladdr: None });
    let header = Ipv6Repr {
        src_addr: from,
        dst_addr: HOST_V6,
        next_header: IpProtocol::Icmpv6,
        payload_len: ask.buffer_len(),
        hop_limit,
    };
    frame(HOST_MAC, EthernetProtocol::Ipv6, header.buffer_len() + ask.buffer_len(), |payload| {
        let mut packet = Ipv6Packet::new_unchecked(payload);
        header.emit(&mut packet);
        ask.emit(&from, &HOST_V6, &mut Icmpv6Packet::new_unchecked(packet.payload_mut()), &SUMS());
    })
}

fn syn_v4(from: Ipv4Address, to: Ipv4Address) -> Vec<u8> {
    let tcp = TcpRepr {
        src_port: 1000,
        dst_port: 22,
        control: TcpControl::Syn,
        seq_number: TcpSeqNumber(1),
        ack_number: None,
        window_len: 1000,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &[],
    };
    let ip = Ipv4Repr {
        src_addr: from,
        dst_addr: to,
        next_header: IpProtocol::Tcp,
        payload_len: tcp.buffer_len(),
        hop_limit: 64,
    };
    frame(HOST_MAC, EthernetProtocol::Ipv4, ip.buffer_len() + tcp.buffer_len(), |payload| {
        let mut packet = Ipv4Packet::new_unchecked(payload);
        ip.emit(&mut packet, &SUMS());
        let mut segment = TcpPacket::new_unchecked(packet.payload_mut());
        tcp.emit(&mut segment, &from.into(), &to.into(), &SUMS());
    })
}

fn dhcp(edit: impl FnOnce(&mut DhcpRepr<'_>)) -> Vec<u8> {
    let mut question = DhcpRepr {
        message_type: DhcpMessageType::Discover,
        transaction_id: 77,
        secs: 0,
        client_hardware_address: EthernetAddress(GUEST_MAC),
        client_ip: Ipv4Address::UNSPECIFIED,
        your_ip: Ipv4Address::UNSPECIFIED,
        server_ip: Ipv4Address::UNSPECIFIED,
        router: None,
        subnet_mask: None,
        relay_agent_ip: Ipv4Address::UNSPECIFIED,
        broadcast: false,
        requested_ip: None,
        client_identifier: None,
        server_identifier: None,
        parameter_request_list: None,
        dns_servers: None,
        max_size: None,
        lease_duration: None,
        renew_duration: None,
        rebind_duration: None,
        additional_options: &[],
    };
    edit(&mut question);
    let udp = UdpRepr { src_port: 68, dst_port: 67 };
    let ip = Ipv4Repr {
        src_addr: Ipv4Address::UNSPECIFIED,
        dst_addr: Ipv4Address::BROADCAST,
        next_header: IpProtocol::Udp,
        payload_len: udp.header_len() + question.buffer_len(),
        hop_limit: 64,
    };
    let length = ip.buffer_len() + ip.payload_len;
    frame(EthernetAddress::BROADCAST, EthernetProtocol::Ipv4, length, |payload| {
        let mut packet = Ipv4Packet::new_unchecked(payload);
        ip.emit(&mut packet, &SUMS());
        let (from, to) = (ip.src_addr.into(), ip.dst_addr.into());
        let mut datagram = UdpPacket::new_unchecked(packet.payload_mut());
        udp.emit(
            &mut datagram,
            &from,
            &to,
            question.buffer_len(),
            |payload| {
                question.emit(&mut DhcpPacket::new_unchecked(payload)).unwrap();
            },
            &SUMS(),
        );
    })
}

/// The answer to a frame, if there is one, without its length.
fn answer(frame: &[u8]) -> Option<Vec<u8>> {
    let mut outbox = Outbox::default();
    receive(frame, &mut outbox);
    outbox.pending().get(4..).map(<[u8]>::to_vec)
}

/// Type, address, server and the options of the answer to a DHCP question.
fn lease(frame: &[u8]) -> Option<(DhcpMessageType, Ipv4Address, Vec<u8>)> {
    let answer = answer(frame)?;
    let ethernet = EthernetFrame::new_checked(&answer[..]).unwrap();
    let ip = Ipv4Packet::new_checked(ethernet.payload()).unwrap();
    assert!(ip.verify_checksum());
    let udp = UdpPacket::new_checked(ip.payload()).unwrap();
    assert!(udp.verify_checksum(&ip.src_addr().into(), &ip.dst_addr().into()));
    let packet = DhcpPacket::new_checked(udp.payload()).unwrap();
    let repr = DhcpRepr::parse(&packet).unwrap();
    assert_eq!((repr.transaction_id, repr.router, repr.server_identifier), (77, None, Some(HOST_V4)));
    assert!(repr.dns_servers.is_none());
    let kinds = packet.options().map(|option| option.kind).collect();
    Some((repr.message_type, repr.your_ip, kinds))
}

#[test]
fn the_guest_makes_this_address_of_its_mac() {
    assert_eq!(GUEST_V6.to_string(), "fe80::62:74ff:fe68:2");
    assert_eq!(GUEST_MAC[0] & 0b11, 0b10, "unicast, locally administered");
}

#[test]
fn arp_is_answered_for_the_host_alone() {
    let reply = answer(&arp(GUEST_V4, HOST_V4)).unwrap();
    let ethernet = EthernetFrame::new_checked(&reply[..]).unwrap();
    assert_eq!(ethernet.dst_addr(), EthernetAddress(GUEST_MAC));
    let ArpRepr::EthernetIpv4 { operation, source_hardware_addr, source_protocol_addr, .. } =
        ArpRepr::parse(&ArpPacket::new_checked(ethernet.payload()).unwrap()).unwrap()
    else {
        panic!("not ARP for IPv4")
    };
    assert_eq!(
        (operation, source_hardware_addr, source_protocol_addr),
        (ArpOperation::Reply, HOST_MAC, HOST_V4)
    );
    // A probe for its own address before it takes it (RFC 5227) must meet silence.
    assert_eq!(answer(&arp(Ipv4Address::UNSPECIFIED, GUEST_V4)), None);
    assert_eq!(answer(&arp(GUEST_V4, Ipv4Address::new(169, 254, 77, 3))), None);
    assert_eq!(answer(&arp(GUEST_V4, Ipv4Address::new(10, 0, 0, 1))), None);
}

#[test]
fn a_solicitation_is_answered_for_the_host_alone() {
    let reply = answer(&solicitation(GUEST_V6, HOST_V6, 255)).unwrap();
    let ethernet = EthernetFrame::new_checked(&reply[..]).unwrap();
    let ip = Ipv6Packet::new_checked(ethernet.payload()).unwrap();
    assert_eq!((ip.src_addr(), ip.dst_addr(), ip.hop_limit()), (HOST_V6, GUEST_V6, 255));
    let icmp = Icmpv6Packet::new_checked(ip.payload()).unwrap();
    let repr = Icmpv6Repr::parse(&HOST_V6, &GUEST_V6, &icmp, &SUMS()).unwrap();
    let Icmpv6Repr::Ndisc(NdiscRepr::NeighborAdvert { target_addr, lladdr, .. }) = repr else {
        panic!("not an advertisement: {repr:?}")
    };
    assert_eq!((target_addr, lladdr), (HOST_V6, Some(HOST_MAC.into())));

    assert_eq!(answer(&solicitation(GUEST_V6, GUEST_V6, 255)), None);
    assert_eq!(answer(&solicitation(Ipv6Address::UNSPECIFIED, HOST_V6, 255)), None);
    assert_eq!(answer(&solicitation(GUEST_V6, HOST_V6, 64)), None, "it came through a router");
}

#[test]
fn only_tcp_between_the_two_addresses_reaches_the_stack() {
    let mut outbox = Outbox::default();
    let good = syn_v4(GUEST_V4, HOST_V4);
    let received = receive(&good, &mut outbox);
    assert_eq!(received, Received { heard: Some(Family::V4), packet: Some(&good[14..]) });
    for (from, to) in [
        (GUEST_V4, Ipv4Address::new(127, 0, 0, 1)),
        (GUEST_V4, Ipv4Address::new(169, 254, 77, 3)),
        (Ipv4Address::new(169, 254, 77, 1), HOST_V4),
        (Ipv4Address::new(127, 0, 0, 1), HOST_V4),
        (Ipv4Address::UNSPECIFIED, HOST_V4),
    ] {
        assert_eq!(receive(&syn_v4(from, to), &mut outbox).packet, None, "{from} to {to}");
    }
    let mut fragment = good.clone();
    fragment[14 + 6] = 0x20;
    assert_eq!(receive(&fragment, &mut outbox).packet, None);
    let mut elsewhere = good.clone();
    elsewhere[..6].copy_from_slice(&[2, 0, 0, 0, 0, 9]);
    assert_eq!(receive(&elsewhere, &mut outbox), Received::default());
    let mut version = good;
    version[14] = 0x65;
    assert_eq!(receive(&version, &mut outbox), Received::default());
    assert_eq!(outbox.len(), 0);
}

#[test]
fn dhcp_offers_and_confirms_one_address() {
    let (kind, address, options) = lease(&dhcp(|_| {})).unwrap();
    assert_eq!((kind, address), (DhcpMessageType::Offer, GUEST_V4));
    assert!(!options.contains(&3) && !options.contains(&6), "a router or a name server in {options:?}");

    let request = |wanted, server| {
        lease(&dhcp(|question| {
            question.message_type = DhcpMessageType::Request;
            question.requested_ip = wanted;
            question.server_identifier = server;
        }))
    };
    let kind = |answer: Option<(DhcpMessageType, Ipv4Address, Vec<u8>)>| answer.map(|answer| answer.0);
    let other = Ipv4Address::new(192, 168, 1, 5);
    assert_eq!(kind(request(Some(GUEST_V4), Some(HOST_V4))), Some(DhcpMessageType::Ack));
    assert_eq!(kind(request(Some(GUEST_V4), None)), Some(DhcpMessageType::Ack));
    assert_eq!(kind(request(Some(other), Some(HOST_V4))), Some(DhcpMessageType::Nak));
    assert_eq!(kind(request(None, None)), Some(DhcpMessageType::Nak));
    assert_eq!(request(Some(GUEST_V4), Some(other)), None, "it chose another server");
    assert_eq!(lease(&dhcp(|question| question.message_type = DhcpMessageType::Release)), None);
}

#[test]
fn dhcp_gives_the_client_identifier_back() {
    let (.., options) =
        lease(&dhcp(|question| question.client_identifier = Some(EthernetAddress(GUEST_MAC)))).unwrap();
    assert!(options.contains(&61));
}

proptest! {
    #[test]
    fn one_frame_gets_at_most_one_short_answer(kind in 0..4_usize, tail in vec(any::<u8>(), 0..400)) {
        let kind = [[0x08, 0x06], [0x08, 0x00], [0x86, 0xdd], [0x12, 0x34]][kind];
        let frame = [&HOST_MAC.0[..], &GUEST_MAC, &kind, &tail].concat();
        prop_assert!(answer(&frame).is_none_or(|answer| answer.len() < 700));
    }

    #[test]
    fn no_damage_to_a_good_frame_makes_it_panic(
        which in 0..5_usize, at in 12..400_usize, byte in any::<u8>(), cut in 0..500_usize,
    ) {
        let mut frame = match which {
            0 => arp(GUEST_V4, HOST_V4),
            1 => solicitation(GUEST_V6, HOST_V6, 255),
            2 => syn_v4(GUEST_V4, HOST_V4),
            _ => dhcp(|question| question.client_identifier = Some(EthernetAddress(GUEST_MAC))),
        };
        if let Some(damaged) = frame.get_mut(at) {
            *damaged = byte;
        }
        frame.truncate(cut.max(14));
        prop_assert!(answer(&frame).is_none_or(|answer| answer.len() < 700));
    }
}
