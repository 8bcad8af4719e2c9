//! What a guest may send out: everything but what would reach the host itself.
//!
//! The translator behind this connects from the host, where every address of the host answers and is trusted by more
//! than strangers are. The guest's owner is root there and makes whatever frames they like, so each is judged by its
//! destination, before anybody else sees it. Refused are:
//!
//! - every address that the host has, IPv4 and IPv6, loopback and broadcast addresses with them;
//! - link-local addresses and those where clouds tell a machine its secrets, beyond what makes a link work;
//! - multicast, and IPv4 addresses dressed as IPv6;
//! - whatever is neither ARP, IPv4 nor IPv6.
//!
//! The networks that the host is in are not refused: a VM sees them as every program on the host does.

use std::{
    collections::HashSet,
    fs, io,
    net::{Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use tokio::time::Instant;

/// Addresses come and go; so often is looked.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Where clouds answer the machine that asks, whoever in it asks (169.254.169.254 is link-local anyway).
const METADATA_V4: Ipv4Addr = Ipv4Addr::new(168, 63, 129, 16);
const METADATA_V6: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)];

const ARP: u16 = 0x0806;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
const DNS: u16 = 53;
const DHCP_SERVER: u16 = 67;
const DHCPV6_SERVER: u16 = 547;
/// Router and neighbour solicitation and advertisement (RFC 4861).
const NEIGHBOURS: std::ops::RangeInclusive<u8> = 133..=136;

/// The addresses that are the host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct HostAddresses {
    v4: HashSet<Ipv4Addr>,
    /// Whole networks that are the host: an address of each, and its mask.
    v4_networks: Vec<(u32, u32)>,
    v6: HashSet<Ipv6Addr>,
}

impl HostAddresses {
    fn read() -> io::Result<Self> {
        let mut addresses = Self::default();
        addresses.add_fib_trie(&fs::read_to_string("/proc/net/fib_trie")?);
        addresses.v6 = match fs::read_to_string("/proc/net/if_inet6") {
            Ok(text) => parse_if_inet6(&text),
            // A kernel without IPv6.
            Err(error) if error.kind() == io::ErrorKind::NotFound => HashSet::new(),
            Err(error) => return Err(error),
        };
        Ok(addresses)
    }

    /// Whether an address is one of the host's.
    pub(super) fn has(&self, address: std::net::IpAddr) -> bool {
        match address {
            std::net::IpAddr::V4(v4) => v4.is_loopback() || self.has_v4(v4),
            std::net::IpAddr::V6(v6) => v6.is_loopback() || self.v6.contains(&v6),
        }
    }

    fn has_v4(&self, address: Ipv4Addr) -> bool {
        let bits = address.to_bits();
        self.v4.contains(&address)
            || self.v4_networks.iter().any(|(network, mask)| bits & mask == network & mask)
    }

    /// Local and broadcast addresses out of the kernel's routing tables: a line with the address, and below it its
    /// length and kind.
    fn add_fib_trie(&mut self, text: &str) {
        let mut last: Option<Ipv4Addr> = None;
        for line in text.lines() {
            let line = line.trim_start();
            if let Some(address) = line.strip_prefix("|-- ") {
                last = address.trim().parse().ok();
            } else if line.ends_with(" LOCAL") || line.ends_with(" BROADCAST") {
                let length =
                    line.strip_prefix('/').and_then(|rest| rest.split(' ').next()?.parse::<u32>().ok());
                match (last, length) {
                    (Some(address), Some(length @ 1..=31)) => {
                        self.v4_networks.push((address.to_bits(), u32::MAX << (32 - length)));
                    }
                    (Some(address), Some(32)) => {
                        self.v4.insert(address);
                    }
                    _ => {}
                }
            }
        }
        self.v4_networks.sort_unstable();
        self.v4_networks.dedup();
    }
}

fn parse_if_inet6(text: &str) -> HashSet<Ipv6Addr> {
    text.lines()
        .filter_map(|line| u128::from_str_radix(line.split_whitespace().next()?, 16).ok())
        .map(Ipv6Addr::from)
        .collect()
}

/// What the translator itself answers, and may therefore be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Translator {
    /// It speaks for the host's own router.
    Passt,
    /// It plays a host at .2 and a name server at .3 of this network.
    UserNetwork { network: [u8; 3] },
}

/// The judge. One task has it.
#[derive(Debug)]
pub(super) struct Wall {
    translator: Translator,
    host: Option<HostAddresses>,
    looked: Option<Instant>,
}

impl Wall {
    pub(super) fn new(translator: Translator) -> Self {
        Self { translator, host: None, looked: None }
    }

    /// On a host that has these addresses, as the kernel's `fib_trie` and `if_inet6` tell of them, and never another.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn knowing(translator: Translator, fib_trie: &str, if_inet6: &str) -> Self {
        let mut host = HostAddresses { v6: parse_if_inet6(if_inet6), ..HostAddresses::default() };
        host.add_fib_trie(fib_trie);
        Self { translator, host: Some(host), looked: None }
    }

    /// The host's addresses as they are now; `None` when they cannot be known, and then nothing passes.
    pub(super) fn look(&mut self) -> Option<&HostAddresses> {
        if self.looked.is_none_or(|at| at.elapsed() >= LOOK_EVERY) {
            self.looked = Some(Instant::now());
            self.host = match HostAddresses::read() {
                Ok(addresses) => Some(addresses),
                Err(error) => {
                    tracing::warn!(%error, "the host's addresses cannot be read: nothing leaves the VM");
                    None
                }
            };
        }
        self.host.as_ref()
    }

    /// Whether a frame, from its Ethernet header on, may leave.
    pub(super) fn passes(&self, frame: &[u8]) -> bool {
        let Some(host) = &self.host else { return false };
        self.judge(host, frame).unwrap_or(false)
    }

    /// `None` when the frame ends before its headers do.
    fn judge(&self, host: &HostAddresses, frame: &[u8]) -> Option<bool> {
        let packet = frame.get(14..)?;
        match u16::from_be_bytes(array(frame, 12)?) {
            ARP => Some(true),
            IPV4 => self.judge_v4(host, packet),
            IPV6 => judge_v6(host, packet),
            _ => Some(false),
        }
    }

    fn judge_v4(&self, host: &HostAddresses, packet: &[u8]) -> Option<bool> {
        let first = *packet.first()?;
        if first >> 4 != 4 {
            return Some(false);
        }
        let to = Ipv4Addr::from(array::<4>(packet, 16)?);
        // Only a packet that is no later fragment has ports (RFC 791).
        let whole = u16::from_be_bytes(array(packet, 6)?) & 0x1fff == 0;
        let protocol = *packet.get(9)?;
        let port = match protocol {
            TCP | UDP if whole => Some(u16::from_be_bytes(array(packet, usize::from(first & 15) * 4 + 2)?)),
            _ => None,
        };
        let asks_dhcp = protocol == UDP && port == Some(DHCP_SERVER);
        if to.is_broadcast() {
            return Some(asks_dhcp);
        }
        if let Translator::UserNetwork { network } = self.translator
            && to.octets().starts_with(&network)
        {
            return Some(match to.octets() {
                [_, _, _, 2] => asks_dhcp,
                [_, _, _, 3] => port == Some(DNS),
                _ => false,
            });
        }
        let [high, ..] = to.octets();
        let special = high == 0 || high >= 224 || to.is_loopback() || to.is_link_local() || to == METADATA_V4;
        Some(!special && !host.has_v4(to))
    }
}

fn judge_v6(host: &HostAddresses, packet: &[u8]) -> Option<bool> {
    if *packet.first()? >> 4 != 6 {
        return Some(false);
    }
    let protocol = *packet.get(6)?;
    let to = Ipv6Addr::from(array::<16>(packet, 24)?);
    if to.is_multicast() || to.is_unicast_link_local() {
        // What follows an extension header is not looked for: none of these needs one.
        return Some(match protocol {
            ICMPV6 => NEIGHBOURS.contains(packet.get(40)?),
            UDP => u16::from_be_bytes(array(packet, 42)?) == DHCPV6_SERVER,
            _ => false,
        });
    }
    // ::, ::1, and addresses that carry one of IPv4 (RFC 4291, 2.5.5), which a socket would take for that.
    let carries_v4 = matches!(to.segments(), [0, 0, 0, 0, 0, 0 | 0xffff, _, _]);
    Some(!carries_v4 && !METADATA_V6.contains(&to) && !host.v6.contains(&to))
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FIB: &str = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     \
        +-- 127.0.0.0/8 2 0 2\n           |-- 127.0.0.1\n              /32 host LOCAL\n     \
        |-- 203.0.113.0\n        /24 link UNICAST\n     |-- 203.0.113.2\n        /32 host LOCAL\n     \
        |-- 203.0.113.255\n        /32 link BROADCAST\n     |-- 198.51.100.0\n        /24 host LOCAL\n";
    const INET6: &str = "fd000000000000000000000000000002 04 40 00 80     eth0\n\
        00000000000000000000000000000001 01 80 10 80       lo\nfe8000000000000000fc00fffe000001 04 40 20 80 eth0\n";

    fn wall(translator: Translator) -> Wall {
        Wall::knowing(translator, FIB, INET6)
    }

    fn v4(to: &str, protocol: u8, port: u16) -> Vec<u8> {
        let mut frame = vec![0; 14 + 20 + 8];
        frame[12..14].copy_from_slice(&IPV4.to_be_bytes());
        frame[14] = 0x45;
        frame[23] = protocol;
        frame[30..34].copy_from_slice(&to.parse::<Ipv4Addr>().unwrap().octets());
        frame[36..38].copy_from_slice(&port.to_be_bytes());
        frame
    }

    fn v6(to: &str, protocol: u8, port: u16, kind: u8) -> Vec<u8> {
        let mut frame = vec![0; 14 + 40 + 8];
        frame[12..14].copy_from_slice(&IPV6.to_be_bytes());
        frame[14] = 0x60;
        frame[20] = protocol;
        frame[38..54].copy_from_slice(&to.parse::<Ipv6Addr>().unwrap().octets());
        frame[56..58].copy_from_slice(&port.to_be_bytes());
        if protocol == ICMPV6 {
            frame[54] = kind;
        }
        frame
    }

    #[test]
    fn the_host_is_not_reached_over_ipv4() {
        let wall = wall(Translator::Passt);
        for to in [
            "127.0.0.1",
            "127.9.9.9",
            "0.0.0.0",
            "0.1.2.3",
            "203.0.113.2",
            "203.0.113.255",
            "198.51.100.7",
            "169.254.169.254",
            "168.63.129.16",
            "224.0.0.251",
            "255.255.255.255",
        ] {
            assert!(!wall.passes(&v4(to, TCP, 22)), "{to}");
            assert!(!wall.passes(&v4(to, UDP, DNS)), "{to}");
            assert!(!wall.passes(&v4(to, 1, 0)), "{to}");
        }
        for to in ["203.0.113.1", "203.0.113.3", "1.1.1.1", "10.0.0.1", "223.255.255.254"] {
            assert!(wall.passes(&v4(to, TCP, 22)), "{to}");
        }
        assert!(wall.passes(&v4("255.255.255.255", UDP, DHCP_SERVER)));
        let mut options = v4("255.255.255.255", UDP, DHCP_SERVER);
        options[14] = 0x46;
        assert!(!wall.passes(&options), "ports are looked for behind the options");
        let mut fragment = v4("255.255.255.255", UDP, DHCP_SERVER);
        fragment[21] = 1;
        assert!(!wall.passes(&fragment));
    }

    #[test]
    fn the_host_is_not_reached_over_ipv6() {
        let wall = wall(Translator::Passt);
        for to in [
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:203.0.113.2",
            "fd00::2",
            "fd00:ec2::254",
            "fe80::fc:ff:fe00:1",
            "fe80::1",
            "ff02::1",
        ] {
            assert!(!wall.passes(&v6(to, TCP, 22, 0)), "{to}");
            assert!(!wall.passes(&v6(to, UDP, DNS, 0)), "{to}");
            assert!(!wall.passes(&v6(to, ICMPV6, 0, 128)), "{to}");
            assert!(!wall.passes(&v6(to, 0, 0, 0)), "{to}, behind an extension header");
        }
        for to in ["fd00::1", "2606:4700:4700::1111"] {
            assert!(wall.passes(&v6(to, TCP, 22, 0)), "{to}");
        }
        for to in ["ff02::2", "fe80::1"] {
            assert!(wall.passes(&v6(to, ICMPV6, 0, 133)), "{to}");
            assert!(wall.passes(&v6(to, UDP, DHCPV6_SERVER, 0)), "{to}");
        }
    }

    #[test]
    fn qemus_user_network_is_asked_for_addresses_and_names_only() {
        let wall = wall(Translator::UserNetwork { network: [100, 64, 77] });
        assert!(wall.passes(&v4("100.64.77.2", UDP, DHCP_SERVER)));
        assert!(wall.passes(&v4("100.64.77.3", UDP, DNS)));
        assert!(wall.passes(&v4("100.64.77.3", TCP, DNS)));
        for (to, port) in
            [("100.64.77.2", 22), ("100.64.77.2", DNS), ("100.64.77.3", 22), ("100.64.77.4", 69)]
        {
            assert!(!wall.passes(&v4(to, TCP, port)), "{to}");
        }
        assert!(!wall.passes(&v4("100.64.77.2", TCP, DHCP_SERVER)));
        assert!(wall.passes(&v4("1.1.1.1", TCP, 443)));
    }

    #[test]
    fn other_frames_and_a_host_that_is_not_known() {
        let mut frame = v4("1.1.1.1", TCP, 443);
        frame[12..14].copy_from_slice(&0x8100u16.to_be_bytes());
        let wall = wall(Translator::Passt);
        assert!(!wall.passes(&frame), "a tagged frame");
        frame[12..14].copy_from_slice(&ARP.to_be_bytes());
        assert!(wall.passes(&frame));
        assert!(!Wall::new(Translator::Passt).passes(&frame));
    }

    #[test]
    fn this_host_is_known_to_have_loopback() {
        let mut wall = Wall::new(Translator::Passt);
        let host = wall.look().unwrap();
        assert!(host.v4.contains(&Ipv4Addr::LOCALHOST));
    }

    proptest! {
        #[test]
        fn no_frame_is_too_strange(frame in prop::collection::vec(any::<u8>(), 0..80)) {
            let _judged = wall(Translator::Passt).passes(&frame);
        }

        #[test]
        fn nothing_passes_to_loopback(mut frame in prop::collection::vec(any::<u8>(), 34..80)) {
            frame[12..14].copy_from_slice(&IPV4.to_be_bytes());
            frame[30] = 127;
            prop_assert!(!wall(Translator::Passt).passes(&frame));
        }
    }
}
