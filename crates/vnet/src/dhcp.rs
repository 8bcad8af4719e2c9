//! The DHCPv4 server: one address, for ever, no router, no name server.
//!
//! Stateless (RFC 2131, table 3, without the memory): there is one guest and one lease, so that every question
//! has the same answer whoever asks and however often.

use smoltcp::{
    phy::ChecksumCapabilities,
    wire::{
        DHCP_CLIENT_PORT, DHCP_SERVER_PORT, DhcpMessageType, DhcpOption, DhcpPacket, DhcpRepr, IpProtocol,
        Ipv4Address, Ipv4Packet, Ipv4Repr, UdpPacket, UdpRepr,
    },
};

use crate::{
    frame::Outbox,
    link::{self, GUEST_V4, HOST_V4},
};

const NETMASK: Ipv4Address = Ipv4Address::new(255, 255, 255, 252);
/// RFC 2131, 3.3: this many seconds mean "infinity", and no client starts a timer for it.
const FOR_EVER: u32 = u32::MAX;

const OPTION_REQUESTED_ADDRESS: u8 = 50;
const OPTION_MESSAGE_TYPE: u8 = 53;
const OPTION_SERVER: u8 = 54;
const OPTION_CLIENT_ID: u8 = 61;

/// Takes a UDP datagram from the guest; answers it if it is DHCP for this server.
pub(crate) fn receive(datagram: &[u8], outbox: &mut Outbox) {
    let Ok(udp) = UdpPacket::new_checked(datagram) else { return };
    if udp.dst_port() != DHCP_SERVER_PORT || udp.src_port() != DHCP_CLIENT_PORT {
        return;
    }
    let Ok(question) = DhcpPacket::new_checked(udp.payload()) else { return };
    if let Some(message_type) = judge(&question) {
        answer(&question, message_type, outbox);
    }
}

fn option<'a>(question: &'a DhcpPacket<&[u8]>, kind: u8) -> Option<&'a [u8]> {
    question.options().find(|option| option.kind == kind).map(|option| option.data)
}

fn address_option(question: &DhcpPacket<&[u8]>, kind: u8) -> Option<Ipv4Address> {
    option(question, kind).and_then(|data| <[u8; 4]>::try_from(data).ok()).map(Ipv4Address::from)
}

/// The type of the answer, if there is one to give.
fn judge(question: &DhcpPacket<&[u8]>) -> Option<DhcpMessageType> {
    let &[message_type] = option(question, OPTION_MESSAGE_TYPE)? else { return None };
    match DhcpMessageType::from(message_type) {
        DhcpMessageType::Discover => Some(DhcpMessageType::Offer),
        DhcpMessageType::Request => {
            // It has chosen another server's offer.
            if address_option(question, OPTION_SERVER).is_some_and(|server| server != HOST_V4) {
                return None;
            }
            // RFC 2131, 4.3.2: a client that renews says its address in ciaddr, others in an option.
            let wanted = address_option(question, OPTION_REQUESTED_ADDRESS).unwrap_or(question.client_ip());
            Some(if wanted == GUEST_V4 { DhcpMessageType::Ack } else { DhcpMessageType::Nak })
        }
        _ => None,
    }
}

fn answer(question: &DhcpPacket<&[u8]>, message_type: DhcpMessageType, outbox: &mut Outbox) {
    let is_lease = message_type != DhcpMessageType::Nak;
    // RFC 6842: the client's identifier comes back unchanged.
    let client_id =
        option(question, OPTION_CLIENT_ID).map(|data| DhcpOption { kind: OPTION_CLIENT_ID, data });
    let dhcp = DhcpRepr {
        message_type,
        transaction_id: question.transaction_id(),
        secs: 0,
        client_hardware_address: question.client_hardware_address(),
        client_ip: Ipv4Address::UNSPECIFIED,
        your_ip: if is_lease { GUEST_V4 } else { Ipv4Address::UNSPECIFIED },
        server_ip: Ipv4Address::UNSPECIFIED,
        router: None,
        subnet_mask: is_lease.then_some(NETMASK),
        relay_agent_ip: Ipv4Address::UNSPECIFIED,
        broadcast: true,
        requested_ip: None,
        client_identifier: None,
        server_identifier: Some(HOST_V4),
        parameter_request_list: None,
        dns_servers: None,
        max_size: None,
        lease_duration: is_lease.then_some(FOR_EVER),
        renew_duration: None,
        rebind_duration: None,
        additional_options: client_id.as_slice(),
    };
    let udp = UdpRepr { src_port: DHCP_SERVER_PORT, dst_port: DHCP_CLIENT_PORT };
    let ip = Ipv4Repr {
        src_addr: HOST_V4,
        dst_addr: Ipv4Address::BROADCAST,
        next_header: IpProtocol::Udp,
        payload_len: udp.header_len() + dhcp.buffer_len(),
        hop_limit: 64,
    };
    let checksums = ChecksumCapabilities::default();
    link::send(outbox, ip.buffer_len() + ip.payload_len, |buffer| {
        let mut packet = Ipv4Packet::new_unchecked(buffer);
        ip.emit(&mut packet, &checksums);
        udp.emit(
            &mut UdpPacket::new_unchecked(packet.payload_mut()),
            &HOST_V4.into(),
            &Ipv4Address::BROADCAST.into(),
            dhcp.buffer_len(),
            |payload| {
                let emitted = dhcp.emit(&mut DhcpPacket::new_unchecked(payload));
                debug_assert!(emitted.is_ok(), "buffer_len made room for every option");
            },
            &checksums,
        );
    });
}
