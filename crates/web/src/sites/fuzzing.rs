//! What fuzzers do with the headers that pass between visitors and VMs.

use axum::http::header::{
    ALT_SVC, CONNECTION, CONTENT_LENGTH, COOKIE, HOST, SET_COOKIE, TE, TRANSFER_ENCODING, UPGRADE,
};

use super::fields;
use crate::{cookies::Cookie, fuzzing::headers};

const VM_HOST: &str = "vm-0.alice.kd.io";

/// Headers, as a visitor sends them and as a VM does.
///
/// # Panics
/// If what is of the hop, what says who asks, or a cookie of this server's gets through, or a cookie reaches beyond its host.
pub fn site_headers(data: &[u8]) {
    let asked = headers(data);
    if let Some(protocol) = fields::protocol(&asked) {
        let name = protocol.to_str().expect("a protocol is text").to_ascii_lowercase();
        assert!(!name.is_empty() && !name.starts_with("h2") && !name.starts_with("http"), "{name}");
    }

    let mut seen = asked.clone();
    fields::to_vm(&mut seen, [192, 0, 2, 7].into(), "https");
    for gone in [CONNECTION, TE, TRANSFER_ENCODING, UPGRADE, CONTENT_LENGTH] {
        assert!(!seen.contains_key(&gone), "{gone} gets to the VM");
    }
    assert_eq!(seen.get_all(HOST).iter().count(), asked.get_all(HOST).iter().count(), "the host stays");
    for (name, own) in [("x-forwarded-for", "192.0.2.7"), ("x-forwarded-proto", "https")] {
        let said: Vec<_> = seen.get_all(name).iter().collect();
        assert_eq!(said, [own], "{name}");
    }
    for name in seen.keys().map(|name| name.as_str().replace('_', "-")) {
        let forwarded = name.strip_prefix("x-forwarded");
        assert!(forwarded.is_none_or(|rest| ["-for", "-proto", "-host"].contains(&rest)), "{name}");
        assert!(!["forwarded", "x-real-ip", "proxy"].contains(&name.as_str()), "{name}");
    }
    for list in seen.get_all(COOKIE) {
        for pair in list.as_bytes().split(|byte| *byte == b';') {
            let name = pair.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii();
            assert!(!std::str::from_utf8(name).is_ok_and(Cookie::is_ours), "{pair:?} gets to the VM");
        }
    }
    let mut twice = seen.clone();
    fields::to_vm(&mut twice, [192, 0, 2, 7].into(), "https");
    assert_eq!(twice, seen, "what went through goes through");

    let mut seen = asked;
    fields::from_vm(&mut seen, VM_HOST);
    for gone in [CONNECTION, TRANSFER_ENCODING, UPGRADE, ALT_SVC] {
        assert!(!seen.contains_key(&gone), "{gone} gets to the visitor");
    }
    for cookie in seen.get_all(SET_COOKIE) {
        let text = cookie.as_bytes().to_ascii_lowercase();
        let mut parts = text.split(|byte| *byte == b';');
        let name = parts.next().unwrap_or_default().split(|byte| *byte == b'=').next().unwrap_or_default();
        assert!(!std::str::from_utf8(name.trim_ascii()).is_ok_and(Cookie::is_ours), "{cookie:?}");
        // As a browser reads it (RFC 6265, 5.2): the name is up to the first =, without white space.
        let domain = |part: &[u8]| {
            part.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii() == b"domain"
        };
        assert!(!parts.any(domain), "{cookie:?} names a domain");
    }
}
