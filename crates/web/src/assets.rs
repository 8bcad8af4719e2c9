//! The files that pages refer to: named after their contents, compressed at build time, embedded in the binary.

use axum::{
    http::{
        HeaderMap, HeaderValue,
        header::{ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, VARY},
    },
    response::{IntoResponse, Response},
};

/// One file in the forms in which it is sent.
pub(crate) struct Asset {
    /// Where it is; another one when its content is another one.
    pub(crate) path: &'static str,
    kind: &'static str,
    plain: &'static [u8],
    gzip: &'static [u8],
    brotli: &'static [u8],
}

include!(concat!(env!("OUT_DIR"), "/assets.rs"));

/// Those of every page but the terminal.
pub(crate) const COMMON: [&Asset; 6] = [&STYLE, &SCRIPT, &PASSKEY, &HTMX, &HX_SSE, &ICON];
/// Those of the pages of terminals alone.
pub(crate) const TERMINAL: [&Asset; 9] = [
    &TERMINAL_STYLE,
    &TERMINAL_LINE,
    &TERMINAL_LOOK,
    &TERMINAL_SCRIPT,
    &WATCH_SCRIPT,
    &XTERM_STYLE,
    &XTERM,
    &XTERM_FIT,
    &XTERM_WEB_LINKS,
];

impl Asset {
    /// The smallest form that the client takes.
    pub(crate) fn answer(&self, asked: &HeaderMap) -> Response {
        let (encoding, bytes) = if accepts(asked, "br") {
            (Some("br"), self.brotli)
        } else if accepts(asked, "gzip") {
            (Some("gzip"), self.gzip)
        } else {
            (None, self.plain)
        };
        let mut response = bytes.into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.kind));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable"));
        headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
        if let Some(encoding) = encoding {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding));
        }
        response
    }
}

/// Whether a coding is named without being ruled out (RFC 9110, 12.5.3). A wildcard alone gets the plain form.
fn accepts(asked: &HeaderMap, coding: &str) -> bool {
    let lists = asked.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    lists.flat_map(|list| list.split(',')).any(|item| {
        let mut parts = item.split(';').map(str::trim);
        let named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(coding));
        let weight = parts.find_map(|part| part.strip_prefix("q=")).map_or(Ok(1.0), str::parse::<f32>);
        named && weight.is_ok_and(|weight| weight > 0.0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(accept: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static(accept))])
    }

    #[test]
    fn a_coding_is_taken_when_it_is_named_and_not_ruled_out() {
        assert!(accepts(&asked("gzip, deflate, br"), "br"));
        assert!(accepts(&asked("GZIP;q=0.5"), "gzip"));
        assert!(!accepts(&asked("gzip;q=0, br;q=x"), "gzip"));
        assert!(!accepts(&asked("gzip;q=0, br;q=x"), "br"));
        assert!(!accepts(&asked("*"), "br"));
        assert!(!accepts(&HeaderMap::new(), "gzip"));
    }

    #[test]
    fn what_a_first_visit_loads_is_small() {
        let packed: usize = COMMON.iter().map(|asset| asset.gzip.len()).sum();
        assert!(packed < 60_000, "{packed} bytes leave too little of 100 KB for the page");
        for asset in COMMON.iter().chain(&TERMINAL) {
            assert!(asset.brotli.len() <= asset.gzip.len(), "{}", asset.path);
        }
    }
}
