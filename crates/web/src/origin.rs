//! Whether a request was made by a page of this site, as the visitor's browser tells it.

use axum::http::{
    HeaderMap, HeaderName, Uri,
    header::{HOST, ORIGIN},
    uri::Authority,
};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Whether the browser says that this site itself made the request. Silence is a no: every browser in use says it with
/// what it sends for a form (Fetch standard, "append a request Origin header"). So is `null`, which is what pages that
/// hide where they are from say.
///
/// The host is compared with `Host`, which has been found to be a name of this site; the scheme is not, since a proxy
/// in front may have taken off the TLS.
pub(crate) fn is_own(headers: &HeaderMap) -> bool {
    let mut origins = headers.get_all(ORIGIN).iter();
    let origin = match (origins.next(), origins.next()) {
        (None, _) => None,
        (Some(origin), None) => Some(origin),
        _ => return false,
    };
    let site = headers.get(SEC_FETCH_SITE).map(|site| site.as_bytes());
    let same_host = || {
        let (authority, usual) = origin?.to_str().ok().and_then(authority)?;
        let host = headers.get(HOST)?.to_str().ok()?.parse().ok()?;
        same(&authority, &host, usual).then_some(())
    };
    match (origin, site) {
        (None, None) => false,
        (None, Some(site)) => site == b"same-origin",
        (Some(_), None) => same_host().is_some(),
        (Some(_), Some(site)) => site == b"same-origin" && same_host().is_some(),
    }
}

/// The host and port of `https://host:port`, which has nothing else, and the port that is meant where none is said.
fn authority(origin: &str) -> Option<(Authority, u16)> {
    let parts = origin.parse::<Uri>().ok()?.into_parts();
    let usual = match parts.scheme?.as_str() {
        "http" => 80,
        "https" => 443,
        _ => return None,
    };
    let bare = parts.path_and_query.is_none_or(|path| path.as_str() == "/");
    let authority = parts.authority.filter(|authority| bare && !authority.as_str().contains('@'))?;
    Some((authority, usual))
}

fn same(one: &Authority, other: &Authority, usual: u16) -> bool {
    let port = |authority: &Authority| authority.port_u16().unwrap_or(usual);
    one.host().eq_ignore_ascii_case(other.host()) && port(one) == port(other)
}

/// A path on this site to go to, from a field that anybody may have filled: nothing that a browser would take for
/// another host, or for a header's end.
pub(crate) fn own_path(path: &str) -> Option<&str> {
    const MAX: usize = 512;
    let own = path.starts_with('/') && !path.starts_with("//") && !path.contains('\\');
    let plain = path.len() <= MAX && path.chars().all(|c| c.is_ascii_graphic());
    (own && plain).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn own(origin: Option<&'static str>, site: Option<&'static str>) -> bool {
        let mut headers = HeaderMap::from_iter([(HOST, HeaderValue::from_static("koding.com:8080"))]);
        headers.extend(origin.map(|origin| (ORIGIN, HeaderValue::from_static(origin))));
        headers.extend(site.map(|site| (SEC_FETCH_SITE, HeaderValue::from_static(site))));
        is_own(&headers)
    }

    #[test]
    fn pages_of_this_site() {
        assert!(own(Some("http://koding.com:8080"), None));
        assert!(own(Some("https://KODING.com:8080"), Some("same-origin")));
        assert!(own(None, Some("same-origin")));
    }

    #[test]
    fn everybody_else() {
        for origin in [
            "null",
            "https://evil.example",
            "http://koding.com",
            "http://koding.com:8081",
            "http://vm-0.koding.com:8080",
            "http://koding.com:8080.evil.example",
            "http://koding.com:8080@evil.example",
            "http://evil@koding.com:8080",
            "ftp://koding.com:8080",
            "koding.com:8080",
            "",
        ] {
            assert!(!own(Some(origin), None), "{origin}");
            assert!(!own(Some(origin), Some("same-origin")), "{origin}");
        }
        for site in ["cross-site", "same-site", "none", ""] {
            assert!(!own(None, Some(site)), "{site}");
            assert!(!own(Some("http://koding.com:8080"), Some(site)), "{site}");
        }
        assert!(!own(None, None));
    }

    #[test]
    fn two_origins_are_none() {
        let mut headers = HeaderMap::from_iter([(HOST, HeaderValue::from_static("koding.com"))]);
        headers.append(ORIGIN, HeaderValue::from_static("https://koding.com"));
        headers.append(ORIGIN, HeaderValue::from_static("https://koding.com"));
        assert!(!is_own(&headers));
    }

    #[test]
    fn only_paths_of_this_site_are_gone_to() {
        for path in ["/", "/vms/vm-0", "/account/keys?x=//y#z"] {
            assert_eq!(own_path(path), Some(path));
        }
        let long = format!("/{}", "a".repeat(512));
        for path in [
            "",
            "vms",
            "//evil.example",
            "/\\evil.example",
            "https://evil.example",
            "/\t/evil",
            "/a\r\nb",
            "/ü",
            &long,
        ] {
            assert_eq!(own_path(path), None, "{path}");
        }
    }
}
