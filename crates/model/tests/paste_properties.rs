//! Any key in any format, wrapped at any width, is the same key; and no text is a key that it is not.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use berth_model::{PublicKey, parse_pasted};
use proptest::prelude::*;

fn blob(fields: &[&[u8]]) -> Vec<u8> {
    let length = |field: &[u8]| u32::try_from(field.len()).expect("short").to_be_bytes();
    fields.iter().flat_map(|field| [&length(field), *field].concat()).collect()
}

fn line(fields: &[&[u8]]) -> String {
    let name = fields.first().map(|name| String::from_utf8_lossy(name)).expect("a name");
    format!("{name} {}", STANDARD.encode(blob(fields)))
}

fn ed25519_point(seed: [u8; 32]) -> [u8; 32] {
    ed25519_dalek::SigningKey::from_bytes(&seed).verifying_key().to_bytes()
}

/// The uncompressed point of a scalar that is small enough for each curve.
macro_rules! point {
    ($curve:ident, $seed:expr, $size:expr) => {{
        let mut scalar = [0; $size];
        scalar[$size - 32..].copy_from_slice(&$seed);
        scalar[$size - 32] &= 0x7f;
        scalar[$size - 1] |= 1;
        let secret = $curve::SecretKey::from_slice(&scalar).expect("a scalar");
        use p256::elliptic_curve::sec1::ToSec1Point as _;
        secret.public_key().to_sec1_point(false).as_bytes().to_vec()
    }};
}

fn ecdsa(curve: &str, point: &[u8]) -> String {
    line(&[format!("ecdsa-sha2-{curve}").as_bytes(), curve.as_bytes(), point])
}

fn rsa(bytes: Vec<u8>) -> String {
    let mut modulus = bytes;
    *modulus.first_mut().expect("bytes") |= 0x80;
    *modulus.last_mut().expect("bytes") |= 1;
    line(&[b"ssh-rsa", &[1, 0, 1], &[vec![0], modulus].concat()])
}

/// `type base64` of every accepted type.
fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<[u8; 32]>().prop_map(|seed| line(&[b"ssh-ed25519", &ed25519_point(seed)])),
        any::<[u8; 32]>().prop_map(|seed| ecdsa("nistp256", &point!(p256, seed, 32))),
        any::<[u8; 32]>().prop_map(|seed| ecdsa("nistp384", &point!(p384, seed, 48))),
        any::<[u8; 32]>().prop_map(|seed| ecdsa("nistp521", &point!(p521, seed, 66))),
        prop::collection::vec(any::<u8>(), 256..400).prop_map(rsa),
        (any::<[u8; 32]>(), "ssh:[a-z]{0,20}").prop_map(|(seed, application)| line(&[
            b"sk-ssh-ed25519@openssh.com",
            &ed25519_point(seed),
            application.as_bytes()
        ])),
        (any::<[u8; 32]>(), "ssh:[a-z]{0,20}").prop_map(|(seed, application)| line(&[
            b"sk-ecdsa-sha2-nistp256@openssh.com",
            b"nistp256",
            &point!(p256, seed, 32),
            application.as_bytes()
        ])),
    ]
}

#[derive(Clone, Copy, Debug)]
enum Format {
    Line,
    Options,
    Quoted,
    Bare,
    Rfc4716,
    Putty,
}

fn format() -> impl Strategy<Value = Format> {
    use Format::{Bare, Line, Options, Putty, Quoted, Rfc4716};
    prop::sample::select(vec![Line, Options, Quoted, Bare, Rfc4716, Putty])
}

fn write(key: &str, format: Format, comment: &str) -> String {
    let blob = key.split(' ').nth(1).expect("a blob");
    let armour = |width, comment: &str| {
        let body = wrap(blob, width);
        format!("---- BEGIN SSH2 PUBLIC KEY ----\nComment: {comment}\n{body}\n---- END SSH2 PUBLIC KEY ----")
    };
    match format {
        Format::Line => format!("{key} {comment}"),
        Format::Options => {
            format!("from=\"192.0.2.0/24,!192.0.2.1\",expiry-time=\"20301231\" {key} {comment}")
        }
        Format::Quoted => format!("\"{key} {comment}\""),
        Format::Bare => blob.to_owned(),
        Format::Rfc4716 => armour(70, &format!("\"{comment}, converted\"")),
        Format::Putty => armour(64, &format!("\"{comment}\"")),
    }
}

fn wrap(text: &str, width: usize) -> String {
    let fold = |line: &str| {
        let chars: Vec<char> = line.chars().collect();
        chars.chunks(width).map(|chunk| chunk.iter().collect::<String>()).collect::<Vec<_>>().join("\n")
    };
    text.lines().map(fold).collect::<Vec<_>>().join("\n")
}

/// What a mail program or a system does to every line.
fn decorate(text: &str, how: u8) -> String {
    match how % 4 {
        0 => text.to_owned(),
        1 => text.replace('\n', "\r\n") + "\r\n",
        2 => text.lines().map(|line| format!("> {line}  \n")).collect(),
        _ => format!("\u{feff}{}", text.replace('\n', "\n    ")),
    }
}

/// Words that no parser could take for a part of a key.
const COMMENT: &str = "([a-z0-9]{1,9}@[a-z0-9.]{1,9})?";

proptest! {
    #[test]
    fn any_key_in_any_format_at_any_width_is_the_same_key(
        key in key(), format in format(), comment in COMMENT, width in 2_usize..120, how: u8,
    ) {
        let text = decorate(&wrap(&write(&key, format, &comment), width), how);
        let found = parse_pasted(&text).expect("a paste");
        prop_assert_eq!(found.len(), 1, "{}\n{:?}", text, found);
        let pasted = found.into_iter().next().expect("one").expect(&text);
        prop_assert_eq!(pasted.key.to_openssh(), key.as_str());
        prop_assert_eq!(pasted.options.from.len(), if matches!(format, Format::Options) { 2 } else { 0 });
        prop_assert_eq!(PublicKey::from_openssh(&key), Ok(pasted.key));
    }

    #[test]
    fn many_wrapped_keys_stay_apart(
        keys in prop::collection::vec((key(), format()), 1..6), width in 2_usize..120, how: u8,
    ) {
        let texts: Vec<String> = keys.iter().map(|(key, format)| wrap(&write(key, *format, "a@b"), width)).collect();
        let text = decorate(&texts.join("\n"), how);
        let found = parse_pasted(&text).expect("a paste");
        let found: Vec<_> = found.into_iter().map(|found| found.map(|pasted| pasted.key.to_openssh())).collect();
        let expected: Vec<_> = keys.into_iter().map(|(key, _)| Ok(key)).collect();
        prop_assert_eq!(found, expected, "{}", text);
    }

    #[test]
    fn a_cut_key_is_no_key(key in key(), cut: prop::sample::Index, width in 8_usize..120, comment in COMMENT) {
        let start = key.find(' ').expect("a blob");
        let end = start + 1 + cut.index(key.trim_end_matches('=').len() - start - 1);
        let text = wrap(&format!("{} {comment}", &key[..end]), width);
        for found in parse_pasted(&text).expect("a paste") {
            prop_assert!(found.is_err(), "{}\n{:?}", text, found);
        }
    }

    #[test]
    fn what_is_accepted_reads_back(text in "(?s).{0,300}", key in key(), at: prop::sample::Index, extra in "(?s).{0,8}") {
        let mut changed = key;
        changed.insert_str(at.index(changed.len()), &extra);
        for text in [text, changed] {
            for pasted in parse_pasted(&text).into_iter().flatten().flatten() {
                let line = format!("{} {}", pasted.key.to_openssh(), pasted.comment);
                let line = format!("{} {line}", pasted.options);
                let again = parse_pasted(line.trim()).expect("a paste");
                prop_assert_eq!(again, vec![Ok(pasted)]);
            }
        }
    }

    #[test]
    fn pieces_of_pastes_panic_nowhere(
        pieces in prop::collection::vec(prop::sample::select(vec![
            "ssh-rsa", "ssh-ed25519 ", "AAAAB3NzaC1yc2EAAAADAQAB", "AAAAC3NzaC1lZDI1NTE5AAAAI", "AAAA", "\n", "\n\n", " ",
            "\"", "from=\"", "=", ",", "no-pty", "#", "> ", "---- BEGIN SSH2 PUBLIC KEY ----", "---- END", "\\", "é",
            "Comment: ", "--", "BEGIN", "1 2 3", "SHA256:", "\u{1b}[200~", "MIIE", "-cert-v01@openssh.com", "==",
        ]), 0..60),
    ) {
        let text = pieces.concat();
        for error in parse_pasted(&text).into_iter().flatten().filter_map(Result::err) {
            prop_assert!(!error.to_string().chars().any(char::is_control));
        }
    }
}
