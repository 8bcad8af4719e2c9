//! `doctor`: what can be seen of a member's side from here, and what they can do about it. Pure.

use berth_control::KeyInfo;
use serde::Serialize;
use time::OffsetDateTime;

use super::{
    client::Client,
    list::{day, is_soon},
};

/// The first OpenSSH that has no trouble with anything here. Those before it may be told less, and have known holes.
const OPENSSH: (u32, u32) = (8, 5);
/// The first PuTTY that tunnels ssh through ssh by itself, and the first that keeps keys of ECDSA P-521 to itself.
const PUTTY: (u32, u32) = (0, 81);

/// What is known of a connection.
pub(super) struct Seen {
    /// The key that opened it; `None` when it has been removed since.
    pub(super) key: Option<KeyInfo>,
    /// The certificate that opened it instead.
    pub(super) certificate: Option<String>,
    /// Keys that were refused before it.
    pub(super) refused_keys: usize,
    pub(super) client: Client,
    /// What follows `ssh` to get here.
    pub(super) gateway: String,
    pub(super) now: OffsetDateTime,
}

/// One thing that was looked at.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// `agent`, `key`, `client`, `host_trust`
    pub(super) about: &'static str,
    /// What is: a sentence.
    pub(super) is: String,
    /// What to do; `None` where all is well.
    pub(super) todo: Option<String>,
}

fn well(about: &'static str, is: String) -> Finding {
    Finding { about, is, todo: None }
}

fn ill(about: &'static str, is: String, todo: impl Into<String>) -> Finding {
    Finding { about, is, todo: Some(todo.into()) }
}

/// Looks at everything.
pub(super) fn examine(seen: &Seen) -> Vec<Finding> {
    vec![offers(seen), key(seen), client(seen), trust(seen)]
}

fn offers(seen: &Seen) -> Finding {
    let key = seen.key.as_ref().map(|key| key.label.as_str());
    let label = seen.certificate.as_deref().or(key).unwrap_or("a key");
    match seen.refused_keys {
        0 => well("agent", format!("ssh came with the right key at once: {label}.")),
        n => {
            let keys = if n == 1 { "1 key".to_owned() } else { format!("{n} keys") };
            ill(
                "agent",
                format!(
                    "ssh offered {keys} that count for nothing here before the right one, {label}; six are one too many."
                ),
                "Name the right one in ~/.ssh/config, below the lines of config: IdentityFile FILE and IdentitiesOnly yes.",
            )
        }
    }
}

fn key(seen: &Seen) -> Finding {
    if let Some(certificate) = &seen.certificate {
        return well("key", format!("You came by a {certificate}. Who signed it says how long it is good."));
    }
    let Some(key) = &seen.key else {
        return ill(
            "key",
            "The key of this connection is not yours any more.".to_owned(),
            "Come with another one.",
        );
    };
    match key.expires {
        Some(expires) if is_soon(expires, seen.now) => ill(
            "key",
            format!("The key {} expires on {}.", key.label, day(expires)),
            "Add another one before that: keys add",
        ),
        Some(expires) => well("key", format!("The key {} is good until {}.", key.label, day(expires))),
        None => well("key", format!("The key {} does not expire.", key.label)),
    }
}

fn client(seen: &Seen) -> Finding {
    let client = &seen.client;
    match client {
        Client::OpenSsh { version, .. } if *version < OPENSSH => ill(
            "client",
            format!("{client} is old."),
            format!(
                "Update it: {}.{} or newer knows the hosts here by itself, and is safer.",
                OPENSSH.0, OPENSSH.1
            ),
        ),
        Client::Putty { version } if *version < PUTTY => ill(
            "client",
            format!("{client} is old."),
            format!("Update it to {}.{} or newer: older ones give ECDSA P-521 keys away.", PUTTY.0, PUTTY.1),
        ),
        Client::OpenSsh { .. } | Client::Putty { .. } => {
            well("client", format!("{client} is recent enough."))
        }
        Client::Other(_) => well("client", format!("{client} is not known to this check.")),
    }
}

/// What a client knows cannot be seen from here: that is told, and what it should know.
fn trust(seen: &Seen) -> Finding {
    let (what, gateway) = ("An ssh that asks whether to trust a host here lacks the lines of", &seen.gateway);
    let lines = if seen.client.takes_known_hosts_in_its_configuration() { "config" } else { "known-hosts" };
    well(
        "host_trust",
        format!("{what}: ssh {gateway} {lines}. One that says that a key has changed is right to stop."),
    )
}

/// For people.
pub(super) fn said(findings: &[Finding]) -> String {
    let line = |finding: &Finding| match &finding.todo {
        None => format!("{}\n", finding.is),
        Some(todo) => format!("{} {todo}\n", finding.is),
    };
    findings.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::{Duration, macros::datetime};

    const NOW: OffsetDateTime = datetime!(2026-03-01 12:00 UTC);

    fn seen(expires: Option<Duration>, refused_keys: usize, client: &str) -> Seen {
        let fingerprint = "SHA256:nThbg6kXUpJWGl7E1IGOCspRomTxdCARLviKw6E5SY8";
        Seen {
            key: Some(KeyInfo {
                id: "1".into(),
                label: "laptop".into(),
                algorithm: "ssh-ed25519".into(),
                fingerprint: fingerprint.parse().unwrap(),
                comment: String::new(),
                options: String::new(),
                added: NOW,
                expires: expires.map(|left| NOW + left),
                last_used: None,
            }),
            certificate: None,
            refused_keys,
            client: Client::of(client.as_bytes()),
            gateway: "alice@ssh.koding.com".into(),
            now: NOW,
        }
    }

    fn ills(seen: &Seen) -> Vec<&'static str> {
        examine(seen).iter().filter(|finding| finding.todo.is_some()).map(|finding| finding.about).collect()
    }

    #[test]
    fn what_is_well_and_what_is_not() {
        let new = "SSH-2.0-OpenSSH_10.0";
        assert_eq!(ills(&seen(None, 0, new)), <[&str; 0]>::default());
        assert_eq!(ills(&seen(Some(Duration::days(60)), 0, new)), <[&str; 0]>::default());
        assert_eq!(ills(&seen(Some(Duration::days(3)), 0, new)), ["key"]);
        assert_eq!(ills(&seen(None, 4, new)), ["agent"]);
        assert_eq!(ills(&seen(None, 0, "SSH-2.0-OpenSSH_7.4")), ["client"]);
        assert_eq!(ills(&seen(None, 0, "SSH-2.0-PuTTY_Release_0.70")), ["client"]);
        assert_eq!(ills(&seen(None, 0, "SSH-2.0-dropbear_2022.83")), <[&str; 0]>::default());
        assert_eq!(ills(&Seen { key: None, ..seen(None, 0, new) }), ["key"]);
        let certificate = Some("certificate \"desk-7\", serial 7, of SHA256:…".to_owned());
        let certified = Seen { key: None, certificate, ..seen(None, 0, new) };
        assert_eq!(ills(&certified), <[&str; 0]>::default());
        assert!(said(&examine(&certified)).contains("You came by a certificate \"desk-7\", serial 7"));
    }

    #[test]
    fn it_says_what_to_do() {
        let text = said(&examine(&seen(None, 1, "SSH-2.0-OpenSSH_for_Windows_8.1")));
        assert!(
            text.contains("ssh offered 1 key that count for nothing") || text.contains("1 key"),
            "{text}"
        );
        assert!(text.contains("IdentityFile FILE and IdentitiesOnly yes"), "{text}");
        assert!(text.contains("OpenSSH for Windows 8.1 is old. Update it: 8.5 or newer"), "{text}");
        assert!(text.contains("ssh alice@ssh.koding.com known-hosts."), "{text}");
    }
}
