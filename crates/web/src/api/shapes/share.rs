//! VMs that are shared.

use berth_control::ShareInfo;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

/// A VM that is shared with somebody, or that they were asked for.
#[derive(Serialize, ToSchema)]
pub(crate) struct Share {
    /// The VM's name everywhere.
    #[schema(example = "vm-0.alice.koding")]
    vm: String,
    /// Its host name.
    #[schema(example = "vm-0.alice.koding.kd.io")]
    host: String,
    /// The account that it is shared with, which is their user in it too.
    #[schema(example = "bob")]
    account: String,
    /// They are root in it when they want to.
    sudo: bool,
    /// When they were asked.
    #[serde(with = "time::serde::rfc3339")]
    asked: OffsetDateTime,
    /// Since when they share it; null where they have not accepted.
    #[serde(with = "time::serde::rfc3339::option")]
    accepted: Option<OffsetDateTime>,
    /// Until when they can accept; null where they have.
    #[serde(with = "time::serde::rfc3339::option")]
    accept_by: Option<OffsetDateTime>,
    /// Until when it is shared; null for as long as nobody ends it.
    #[serde(with = "time::serde::rfc3339::option")]
    until: Option<OffsetDateTime>,
}

impl From<ShareInfo> for Share {
    fn from(info: ShareInfo) -> Self {
        Self {
            vm: info.vm.to_string(),
            host: info.host,
            account: info.account.to_string(),
            sudo: info.sudo,
            asked: info.asked,
            accepted: info.accepted,
            accept_by: info.accept_by,
            until: info.until,
        }
    }
}

/// What somebody is let do in a VM.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "sudo": false, "until": "2027-01-01T00:00:00Z" }))]
pub(crate) struct ShareTerms {
    /// They are root in it when they want to.
    #[serde(default)]
    pub(crate) sudo: bool,
    /// Until when it is shared; null for as long as nobody ends it.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub(crate) until: Option<OffsetDateTime>,
}

/// Whether a VM that was offered is wanted.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "accepted": true }))]
pub(crate) struct AcceptShare {
    /// False leaves it.
    pub(crate) accepted: bool,
}
