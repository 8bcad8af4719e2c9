//! What counts as one source of connections.

use std::net::IpAddr;

/// What one customer has at least: an IPv4 address, also one that was mapped into IPv6, or an IPv6 /64.
pub(crate) fn source_of(from: IpAddr) -> IpAddr {
    masked(from, 32, 64)
}

/// What one customer may have: an IPv4 /24 or an IPv6 /48.
pub(crate) fn neighbourhood_of(from: IpAddr) -> IpAddr {
    masked(from, 24, 48)
}

fn masked(from: IpAddr, v4: u32, v6: u32) -> IpAddr {
    match from.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4((address.to_bits() & (u32::MAX << (32 - v4))).into()),
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & (u128::MAX << (128 - v6))).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks() {
        for (from, source, neighbourhood) in [
            ("192.0.2.77", "192.0.2.77", "192.0.2.0"),
            ("::ffff:192.0.2.77", "192.0.2.77", "192.0.2.0"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::", "2001:db8:1::"),
        ] {
            let from: IpAddr = from.parse().expect("an address");
            assert_eq!(source_of(from).to_string(), source);
            assert_eq!(neighbourhood_of(from).to_string(), neighbourhood);
        }
    }
}
