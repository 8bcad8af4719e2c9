//! CAs whose certificates let members in.

use berth_control::{KrlInfo, TeamCaInfo, TeamCasInfo};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

/// The CAs of the team, and what of their certificates was revoked.
#[derive(Serialize, ToSchema)]
pub(crate) struct TeamCas {
    /// The team’s name.
    #[schema(example = "koding")]
    team: String,
    /// The CAs, in the order in which they were added.
    cas: Vec<TeamCa>,
    /// What was revoked; null where no list was loaded.
    krl: Option<Krl>,
}

/// A CA whose certificates let members in.
#[derive(Serialize, ToSchema)]
pub(crate) struct TeamCa {
    /// Its fingerprint, which names it.
    #[schema(example = "SHA256:nThbg6kXUpJWGl7E1IGOCspRomTxdCARLviKw6E5SY8")]
    fingerprint: String,
    /// What it is called.
    label: String,
    /// Its key, as a line of a .pub file without comment.
    public_key: String,
    /// Since when it counts.
    #[serde(with = "time::serde::rfc3339")]
    added: OffsetDateTime,
}

/// A key revocation list that was loaded.
#[derive(Serialize, ToSchema)]
pub(crate) struct Krl {
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    loaded: OffsetDateTime,
    /// Parts of it that are about certificates of a CA.
    authorities: usize,
    /// Keys in it.
    keys: usize,
}

impl From<TeamCasInfo> for TeamCas {
    fn from(info: TeamCasInfo) -> Self {
        let krl = |KrlInfo { loaded, authorities, keys }| Krl { loaded, authorities, keys };
        Self {
            team: info.team.to_string(),
            cas: info.cas.into_iter().map(TeamCa::from).collect(),
            krl: info.krl.map(krl),
        }
    }
}

impl From<TeamCaInfo> for TeamCa {
    fn from(info: TeamCaInfo) -> Self {
        let TeamCaInfo { fingerprint, label, public_key, added } = info;
        Self { fingerprint, label, public_key, added }
    }
}

/// A CA to be trusted.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "key": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI… office", "label": "office" }))]
pub(crate) struct NewTeamCa {
    /// Its public key, as it stands in a .pub file. Never the private one.
    pub(crate) key: String,
    /// What to call it; its comment where this is not given. 64 characters at most.
    pub(crate) label: Option<String>,
}

/// A key revocation list to be loaded.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "krl": "U1NIS1JMCgAAAAAB…" }))]
pub(crate) struct NewKrl {
    /// What ssh-keygen -k has written, in base64; 512 KiB at most before that.
    pub(crate) krl: String,
}
