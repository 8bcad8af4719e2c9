//! What fuzzers do with what browsers and other clients say to the website. Every function panics where something does
//! not hold.

use axum::{
    extract::{Request, ws::Message},
    http::{HeaderMap, HeaderValue, header::HOST},
};
use berth_model::Domains;
use serde_json::Value;

use crate::{
    host::{Names, Whose},
    terminal::wire::FromPage,
};

pub use crate::sites::fuzzing::site_headers;

/// Headers out of lines of `name: value`; what is none is left out.
pub(crate) fn headers(data: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in data.split(|byte| *byte == b'\n').take(64) {
        let mut sides = line.splitn(2, |byte| *byte == b':');
        let (name, value) = (sides.next().unwrap_or_default(), sides.next().unwrap_or_default());
        if let (Ok(name), Ok(value)) = (name.try_into(), HeaderValue::from_bytes(value.trim_ascii())) {
            let name: axum::http::HeaderName = name;
            headers.append(name, value);
        }
    }
    headers
}

/// A request: the address in its first line, and headers.
///
/// # Panics
/// If it is taken for this site's or a VM's while a name in it says anything else.
pub fn http_hosts(data: &[u8]) {
    let domains = Domains::new("koding.com", "kd.io", "koding".parse().expect("a name")).expect("domains");
    let line = data.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let mut request = Request::new(axum::body::Body::empty());
    if let Ok(uri) = line.try_into() {
        *request.uri_mut() = uri;
    }
    *request.headers_mut() = headers(data.get(line.len() + 1..).unwrap_or_default());
    let hosts: Vec<&HeaderValue> = request.headers().get_all(HOST).iter().collect();
    let Ok(whose) = Names::new(&domains).whose_request(&request) else { return };
    let [host] = hosts.as_slice() else { panic!("{} hosts in one request", hosts.len()) };
    let authorities = [host.to_str().ok(), request.uri().authority().map(|authority| authority.as_str())];
    for authority in authorities.into_iter().flatten() {
        let authority = authority.to_ascii_lowercase();
        assert!(!authority.contains('@'), "{authority}");
        let port = authority.rfind(':').filter(|at| !authority.get(*at..).unwrap_or_default().contains(']'));
        let name = authority.get(..port.unwrap_or(authority.len())).unwrap_or_default();
        let of_vms = name == "kd.io" || name.ends_with(".kd.io");
        match &whose {
            Whose::Own => assert!(
                ["koding.com", "localhost"].contains(&name)
                    || name.starts_with("127.")
                    || name.starts_with('['),
                "{name} is not this site's"
            ),
            Whose::Vms(host) => {
                assert!(of_vms, "{name} is not a VM's");
                assert_eq!((host.name.as_str(), host.authority.as_str()), (name, authority.as_str()));
                if let Some((vm, port)) = &host.site {
                    let canonical = domains.site(vm, *port);
                    assert_eq!(domains.resolve_site(&canonical), Some((vm.clone(), *port)), "{canonical}");
                }
            }
            Whose::Foreign => panic!("{name} is nobody's and let through"),
        }
    }
}

/// A message of a terminal's page; the first byte chooses its kind.
///
/// # Panics
/// If a text is understood that says something else, or what is typed comes out as anything but what was typed.
pub fn terminal_messages(data: &[u8]) {
    let Some((kind, body)) = data.split_first() else { return };
    let message = match (kind % 4, std::str::from_utf8(body)) {
        (0, Ok(text)) => Message::Text(text.into()),
        (1, _) => Message::Ping(body.to_vec().into()),
        (2, _) => Message::Close(None),
        _ => Message::Binary(body.to_vec().into()),
    };
    let text = match &message {
        Message::Text(text) => Some(text.to_string()),
        _ => None,
    };
    match (FromPage::read(message), text) {
        (Ok(Some(FromPage::Typed(typed))), None) => assert_eq!(typed.as_ref(), body),
        (Ok(Some(said)), Some(text)) => judge(&said, &text),
        (Ok(None), None) => assert_eq!(kind % 4, 1, "only a ping says nothing"),
        (Err(_), _) => assert_ne!(kind % 4, 3, "whatever is typed is typed"),
        (said, text) => panic!("{text:?} is taken for {said:?}"),
    }
}

/// Compares what was understood with the JSON that it was.
fn judge(said: &FromPage, text: &str) {
    let json: Value = serde_json::from_str(text).expect("what is understood is JSON");
    // An object, or serde's other form of a tagged enum: a list that begins with the tag.
    let Some(tag) = json.get("is").or_else(|| json.get(0)).and_then(Value::as_str) else {
        panic!("{text} has no tag");
    };
    let number = |key: &str, at: usize| json.get(key).or_else(|| json.get(at)).and_then(Value::as_u64);
    let flag = |key: &str, at: usize| json.get(key).or_else(|| json.get(at)).and_then(Value::as_bool);
    let size = |columns: u16, rows: u16| {
        assert_eq!(number("columns", 1), Some(columns.into()), "{text}");
        assert_eq!(number("rows", 2), Some(rows.into()), "{text}");
    };
    let meant = match said {
        FromPage::Open { columns, rows, again } => {
            size(*columns, *rows);
            assert_eq!(flag("again", 3), Some(*again), "{text}");
            "open"
        }
        FromPage::Size { columns, rows } => {
            size(*columns, *rows);
            "size"
        }
        FromPage::Drawn { bytes } => {
            assert_eq!(number("bytes", 1), u64::try_from(*bytes).ok(), "{text}");
            "drawn"
        }
        FromPage::Wake => "wake",
        FromPage::Share { typing } => {
            assert_eq!(flag("typing", 1), Some(*typing), "{text}");
            "share"
        }
        FromPage::Unshare => "unshare",
        FromPage::Typed(_) => panic!("{text} is taken for what was typed"),
    };
    assert_eq!(tag, meant, "{text}");
}
