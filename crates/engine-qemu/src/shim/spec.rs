//! What a shim is told at its start, on its standard input: it holds the guest's host key, so it is in no file and on
//! no command line.

use std::path::PathBuf;

use berth_engine::{EngineError, Guest, GuestUser};
use berth_model::{AccountName, Secret, VmId};
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use crate::{egress::WayOut, paths::VmPaths, qemu::Machine};

/// The most that is read, in bytes.
pub(crate) const MAX_SPEC: u64 = 2 << 20;

/// One run of a VM.
#[derive(Serialize, Deserialize)]
pub(crate) struct ShimSpec {
    pub(crate) vm: VmId,
    pub(crate) paths: VmPaths,
    pub(crate) qemu: PathBuf,
    /// What leads out on this host now.
    pub(crate) way_out: WayOut,
    /// Files and folders beside its own that it reads: images, and what its disk is a layer over.
    pub(crate) reads: Vec<PathBuf>,
    /// Whether VMs run with KVM here, which whoever runs QEMU has to be let use.
    pub(crate) kvm: bool,
    pub(crate) begin: Begin,
}

/// What a shim finds, and what it does at first.
#[derive(Serialize, Deserialize)]
#[serde(tag = "from", rename_all = "snake_case")]
#[expect(clippy::large_enum_variant, reason = "a process has one")]
pub(crate) enum Begin {
    /// The VM is off: it boots. Without a guest it is made one to fork VMs from, which is to be put to sleep when it
    /// runs.
    Boot { machine: Machine, guest: Option<GuestSpec> },
    /// The VM is asleep: it waits to be woken, or does what is left to do.
    Asleep,
}

/// [`Guest`], as it travels.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct GuestSpec {
    hostname: String,
    names: Vec<String>,
    #[serde(deserialize_with = "owner")]
    user: AccountName,
    authorized_keys: String,
    #[serde(default)]
    others: Vec<GuestUser>,
    host_key: String,
    /// A server that is older than this shim does not say it.
    #[serde(default)]
    host_certificate: String,
}

/// Whose a VM is: an account's, or its team's.
fn owner<'de, D: Deserializer<'de>>(from: D) -> Result<AccountName, D::Error> {
    AccountName::owner_from(&String::deserialize(from)?).map_err(D::Error::custom)
}

impl std::fmt::Debug for GuestSpec {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("GuestSpec").field("user", &self.user).finish_non_exhaustive()
    }
}

impl From<&Guest> for GuestSpec {
    fn from(guest: &Guest) -> Self {
        Self {
            hostname: guest.hostname.clone(),
            names: guest.names.clone(),
            user: guest.user.clone(),
            authorized_keys: guest.authorized_keys.clone(),
            others: guest.others.clone(),
            host_key: guest.host_key.expose().clone(),
            host_certificate: guest.host_certificate.clone(),
        }
    }
}

impl From<GuestSpec> for Guest {
    fn from(spec: GuestSpec) -> Self {
        let GuestSpec { hostname, names, user, authorized_keys, others, host_key, host_certificate } = spec;
        let host_key = Secret::new(host_key);
        Self { hostname, names, user, authorized_keys, others, host_key, host_certificate }
    }
}

/// What a shim says once on its standard output, as one line of JSON.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "shim", rename_all = "snake_case")]
pub(crate) enum Hello {
    /// It owns the VM and answers on its socket.
    Owns,
    /// Another shim owns the VM.
    Busy,
    /// It could not begin.
    Failed {
        /// A sentence for the operator, without a full stop.
        reason: String,
    },
}

/// The text for a shim's standard input.
pub(crate) fn to_text(spec: &ShimSpec) -> Result<Vec<u8>, EngineError> {
    let text = serde_json::to_vec(spec)
        .map_err(|error| EngineError::Broken { reason: format!("the VM cannot be described: {error}") })?;
    if text.len() as u64 > MAX_SPEC {
        return Err(EngineError::Broken { reason: "the account has too many keys".to_owned() });
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_of_the_team_arrives_as_it_was_sent() {
        for user in [AccountName::of_teams(), "alice".parse().unwrap()] {
            let guest = Guest {
                hostname: "shared-0".into(),
                names: vec!["shared-0.koding.kd.io".into()],
                user: user.clone(),
                authorized_keys: String::new(),
                others: vec![],
                host_key: Secret::new("key".into()),
                host_certificate: String::new(),
            };
            let sent = serde_json::to_string(&GuestSpec::from(&guest)).unwrap();
            let came: Guest = serde_json::from_str::<GuestSpec>(&sent).unwrap().into();
            assert_eq!((came.user, came.hostname), (user, guest.hostname));
        }
        assert!(serde_json::from_str::<GuestSpec>(r#"{"user":"root"}"#).is_err());
    }
}
