//! Which header fields pass between a visitor and a VM.
//!
//! What is said from hop to hop stays on its hop (RFC 9110, 7.6.1). What tells a VM who asks is set here and taken from
//! nobody else. Cookies of this server never get to a VM, and no VM sets one for other hosts than its own.

use std::net::IpAddr;

use axum::http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{
        ALT_SVC, CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, FORWARDED, HOST, PROXY_AUTHENTICATE,
        PROXY_AUTHORIZATION, SET_COOKIE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
    },
};

use crate::cookies::Cookie;

/// Of one hop alone, whether `Connection` names them or not.
const HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];
const CLEAR_SITE_DATA: HeaderName = HeaderName::from_static("clear-site-data");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The protocol that a request asks to change to, if it can be carried: any but other versions of HTTP, which would take
/// the requests that follow past these rules, and TLS.
pub(super) fn protocol(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut asked = headers.get_all(UPGRADE).iter();
    let (Some(protocol), None) = (asked.next(), asked.next()) else { return None };
    let name = protocol.to_str().ok()?.to_ascii_lowercase();
    let barred = ["http", "h2", "h3", "tls"].iter().any(|barred| name.starts_with(barred));
    let one = !name.is_empty() && !name.contains(',');
    (one && !barred && names(headers, UPGRADE.as_str())).then(|| protocol.clone())
}

/// Whether `Connection` names a field.
fn names(headers: &HeaderMap, field: &str) -> bool {
    named(headers).any(|name| name.eq_ignore_ascii_case(field))
}

fn named(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lists = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    lists.flat_map(|list| list.split(',')).map(str::trim)
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    // Host and what cookies are about are nobody's to remove by naming them.
    let named: Vec<HeaderName> = named(headers).filter_map(|name| name.parse().ok()).collect();
    for name in named.iter().filter(|name| ![HOST, COOKIE, SET_COOKIE].contains(name)) {
        headers.remove(name);
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

/// What a VM sees of the header of a request from `peer`. The body's length is left to whoever writes the body.
pub(super) fn to_vm(headers: &mut HeaderMap, peer: IpAddr, proto: &'static str) {
    remove_hop_by_hop(headers);
    headers.remove(CONTENT_LENGTH);
    // It has been answered here, by reading.
    headers.remove(EXPECT);
    let said: Vec<HeaderName> = headers.keys().filter(|name| says_who_asks(name)).cloned().collect();
    for name in said {
        headers.remove(name);
    }
    if let Some(host) = headers.get(HOST).cloned() {
        headers.insert(X_FORWARDED_HOST, host);
    }
    if let Ok(peer) = HeaderValue::try_from(peer.to_string()) {
        headers.insert(X_FORWARDED_FOR, peer);
    }
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(proto));
    hide_own_cookies(headers);
}

/// Whether a field is, or is to many programs behind CGI's rules (RFC 3875, 4.1.18), one that only a proxy says.
fn says_who_asks(name: &HeaderName) -> bool {
    let name = name.as_str().replace('_', "-");
    name.starts_with("x-forwarded") || name == FORWARDED.as_str() || name == "x-real-ip" || name == "proxy"
}

fn hide_own_cookies(headers: &mut HeaderMap) {
    let keep = |pair: &&[u8]| {
        let name = pair.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii();
        !std::str::from_utf8(name).is_ok_and(Cookie::is_ours)
    };
    let kept: Vec<HeaderValue> = headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|list| {
            let pairs: Vec<&[u8]> =
                list.as_bytes().split(|byte| *byte == b';').map(<[u8]>::trim_ascii).filter(keep).collect();
            HeaderValue::from_bytes(&pairs.join(b"; ".as_slice())).ok()
        })
        .filter(|list| !list.is_empty())
        .collect();
    headers.remove(COOKIE);
    for list in kept {
        headers.append(COOKIE, list);
    }
}

/// What a visitor sees of the header of a VM's answer, which came from the host `host`.
pub(super) fn from_vm(headers: &mut HeaderMap, host: &str) {
    remove_hop_by_hop(headers);
    // These reach further than the VM's own host: to another server in its name, and to the cookies of all VMs.
    headers.remove(ALT_SVC);
    headers.remove(CLEAR_SITE_DATA);
    let kept: Vec<HeaderValue> =
        headers.get_all(SET_COOKIE).iter().filter_map(|cookie| own_cookie(cookie, host)).collect();
    headers.remove(SET_COOKIE);
    for cookie in kept {
        headers.append(SET_COOKIE, cookie);
    }
}

/// A cookie that a VM sets for its own host alone. One that names exactly this host would go to those below it too, so it
/// loses that; one that names another, such as a host above, is none.
fn own_cookie(cookie: &HeaderValue, host: &str) -> Option<HeaderValue> {
    let mut parts = cookie.as_bytes().split(|byte| *byte == b';');
    let pair = parts.next()?;
    let name = pair.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii();
    if std::str::from_utf8(name).is_ok_and(Cookie::is_ours) {
        return None;
    }
    let mut kept = vec![pair];
    for part in parts {
        let mut sides = part.splitn(2, |byte| *byte == b'=');
        let attribute = sides.next().unwrap_or_default().trim_ascii();
        if !attribute.eq_ignore_ascii_case(b"domain") {
            kept.push(part);
            continue;
        }
        let domain = sides.next().unwrap_or_default().trim_ascii();
        let domain = domain.strip_prefix(b".").unwrap_or(domain);
        // Without a value it means this host (RFC 6265, 5.2.3).
        if !domain.is_empty() && !domain.eq_ignore_ascii_case(host.as_bytes()) {
            return None;
        }
    }
    HeaderValue::from_bytes(&kept.join(b";".as_slice())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    fn seen_by_vm(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = headers(pairs);
        to_vm(&mut headers, [192, 0, 2, 7].into(), "https");
        headers
    }

    #[test]
    fn what_is_of_the_hop_stays_on_it() {
        let seen = seen_by_vm(&[
            ("host", "vm-0.alice.kd.io"),
            ("connection", "keep-alive, X-Secret, host, cookie"),
            ("connection", "close"),
            ("keep-alive", "timeout=5"),
            ("x-secret", "a"),
            ("te", "trailers"),
            ("trailer", "x"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("proxy-authorization", "Basic abc"),
            ("expect", "100-continue"),
            ("cookie", "a=b"),
            ("authorization", "Bearer x"),
        ]);
        let mut names: Vec<_> = seen.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            ["authorization", "cookie", "host", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"]
        );
    }

    #[test]
    fn who_asks_is_said_by_this_server_alone() {
        let seen = seen_by_vm(&[
            ("host", "vm-0.alice.kd.io:8080"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-for", "10.0.0.2"),
            ("x-forwarded-host", "evil.example"),
            ("x-forwarded-user", "root"),
            ("x_forwarded_for", "10.0.0.1"),
            ("x-forwarded_proto", "gopher"),
            ("x-real-ip", "10.0.0.1"),
            ("forwarded", "for=10.0.0.1"),
            ("proxy", "http://evil.example"),
        ]);
        let mut pairs: Vec<_> =
            seen.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        pairs.sort_unstable();
        assert_eq!(
            pairs,
            [
                ("host", "vm-0.alice.kd.io:8080"),
                ("x-forwarded-for", "192.0.2.7"),
                ("x-forwarded-host", "vm-0.alice.kd.io:8080"),
                ("x-forwarded-proto", "https"),
            ]
        );
    }

    #[test]
    fn our_cookies_are_not_for_vms() {
        let seen = |cookie| {
            let seen = seen_by_vm(&[("cookie", cookie)]);
            seen.get("cookie").map(|cookie| cookie.to_str().unwrap().to_owned())
        };
        assert_eq!(seen("a=b; __Host-berth-pass=x; c=d;e").as_deref(), Some("a=b; c=d; e"));
        assert_eq!(seen("berth-pass-on-loopback=x"), None);
        assert_eq!(seen(" __Host-berth =x;__host-BERTH-form=y"), None);
        assert_eq!(seen("session=berth-on-loopback").as_deref(), Some("session=berth-on-loopback"));
    }

    #[test]
    fn a_vm_sets_cookies_for_its_own_host() {
        let host = "vm-0.alice.koding.kd.io";
        let set = |cookie| own_cookie(&HeaderValue::from_static(cookie), host);
        for cookie in [
            "a=b",
            "a=b; Path=/; HttpOnly",
            "a; domainx=kd.io",
            "a=domain=kd.io",
            "__Host-a=b; Secure; Path=/",
        ] {
            assert_eq!(set(cookie).unwrap(), cookie);
        }
        assert_eq!(set("a=b; Domain=vm-0.alice.koding.kd.io; Path=/").unwrap(), "a=b; Path=/");
        assert_eq!(set("a=b;DOMAIN = .VM-0.alice.koding.KD.io").unwrap(), "a=b");
        assert_eq!(set("a=b; Domain=; Path=/").unwrap(), "a=b; Path=/");
        for cookie in [
            "a=b; Domain=kd.io",
            "a=b; domain=.kd.io",
            "a=b; Domain=koding.kd.io",
            "a=b; Domain=alice.koding.kd.io; Path=/",
            "a=b;domain=koding.com",
            "a=b; Domain=vm-0.alice.koding.kd.io; Domain=kd.io",
            "a=b; Domain=localhost",
            "__Host-berth-pass=x; Secure; Path=/",
            "berth-pass-on-loopback=; Max-Age=0",
        ] {
            assert_eq!(set(cookie), None, "{cookie}");
        }
    }

    #[test]
    fn what_reaches_further_than_the_vm_is_dropped() {
        let mut answer = headers(&[
            ("content-type", "text/html"),
            ("connection", "x-hop"),
            ("x-hop", "1"),
            ("transfer-encoding", "chunked"),
            ("alt-svc", "h2=\":9000\""),
            ("clear-site-data", "\"*\""),
            ("set-cookie", "a=b"),
            ("set-cookie", "c=d; Domain=kd.io"),
            ("set-cookie", "e=f"),
        ]);
        from_vm(&mut answer, "vm-0.alice.kd.io");
        let left: Vec<_> =
            answer.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        assert_eq!(left, [("content-type", "text/html"), ("set-cookie", "a=b"), ("set-cookie", "e=f")]);
    }

    #[test]
    fn protocols_that_can_be_carried() {
        let asked = |connection, upgrade| {
            protocol(&headers(&[("connection", connection), ("upgrade", upgrade)])).is_some()
        };
        assert!(
            asked("Upgrade", "websocket")
                && asked("keep-alive, upgrade", "WebSocket")
                && asked("upgrade", "tcp")
        );
        assert!(!asked("keep-alive", "websocket"));
        for upgrade in ["h2c", "HTTP/2.0", "TLS/1.0", "websocket, h2c", ""] {
            assert!(!asked("upgrade", upgrade), "{upgrade}");
        }
        assert_eq!(protocol(&headers(&[("connection", "upgrade")])), None);
    }
}
