//! What fuzzers do with certificates of members.

use std::net::{IpAddr, Ipv4Addr};

use berth_model::{Krl, PublicKey};
use ssh_key::{
    Certificate, PrivateKey,
    certificate::{Builder, CertType},
    private::Ed25519Keypair,
};
use time::{Duration, OffsetDateTime};

use crate::certificate::judge;

/// What a trusted CA has signed. The first byte 0: these very bytes, whoever signed them. Else lines, each with a letter and
/// what it says: `i` id, `p` principal, `o` and `e` option and extension with `=` before the value, `h` for hosts, `f` and
/// `t` seconds before and after now.
///
/// # Panics
/// If one counts that does not name who it is for, is not of now, or has an option against its use.
pub fn certificates(data: &[u8]) {
    let now = OffsetDateTime::UNIX_EPOCH + Duration::days(20_000);
    let from = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));
    let Some((kind, rest)) = data.split_first() else { return };
    let certificate = if *kind == 0 { Certificate::from_bytes(rest).ok() } else { signed(data, now) };
    let Some(certificate) = certificate else { return };
    let authority = PublicKey::from_ssh_key(&certificate.signature_key().clone().into());
    let judged = judge(&certificate, authority.clone(), &Krl::default(), from, now);
    assert!(judge(&certificate, [], &Krl::default(), from, now).is_err(), "one of no trusted CA");
    match judged {
        Ok(judged) => {
            assert!(certificate.verify_signature().is_ok());
            assert_eq!(certificate.cert_type(), CertType::User);
            let seconds = now.unix_timestamp().unsigned_abs();
            assert!((certificate.valid_after()..certificate.valid_before()).contains(&seconds));
            assert!(certificate.critical_options().iter().all(|(name, _)| name == "source-address"));
            let named = |name: &str| certificate.valid_principals().iter().any(|principal| principal == name);
            assert!(!judged.names.is_empty() && judged.names.iter().all(|name| named(name.as_str())));
            let account = judged.names.iter().next().cloned().expect("a name");
            let certificate = judged.of(account);
            let said = certificate.to_string();
            assert!(
                said.len() < 250 && said.is_ascii() && !said.contains(|c: char| c.is_control()),
                "{said:?}"
            );
        }
        Err(error) => {
            let said = error.to_string();
            assert!(said.len() < 300 && !said.contains(|c: char| c.is_control()), "{said:?}");
        }
    }
}

fn signed(data: &[u8], now: OffsetDateTime) -> Option<Certificate> {
    let seconds = now.unix_timestamp().unsigned_abs();
    let text = String::from_utf8_lossy(data);
    let lines = || text.split('\n').filter_map(|line| line.split_at_checked(1));
    let span = |letter: &str| {
        lines()
            .find(|(first, _)| *first == letter)
            .and_then(|(_, rest)| rest.parse::<u64>().ok())
            .unwrap_or(300)
    };
    let key = |seed: u8| PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]));
    let subject = key(1).public_key().key_data().clone();
    let until = seconds.saturating_add(span("t"));
    let mut new = Builder::new(vec![7; 16], subject, seconds.saturating_sub(span("f")), until).ok()?;
    for (letter, rest) in lines().take(64) {
        let (name, value) = rest.split_once('=').unwrap_or((rest, ""));
        // What the library refuses to write is left out.
        let _written = match letter {
            "i" => new.key_id(rest).map(drop),
            "p" => new.valid_principal(rest).map(drop),
            "o" => new.critical_option(name, value).map(drop),
            "e" => new.extension(name, value).map(drop),
            "h" => new.cert_type(CertType::Host).map(drop),
            _ => Ok(()),
        };
    }
    new.sign(&key(2)).ok()
}
