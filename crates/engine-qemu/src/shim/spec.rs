//! What a shim is told at its start, on its standard input: it holds the guest's host key, so it is in no file and on
//! no command line.

use std::{path::PathBuf, time::Duration};

use berth_engine::{EngineError, Guest};
use berth_model::{AccountName, Secret, VmId};
use serde::{Deserialize, Serialize};

use crate::{egress::WayOut, paths::VmPaths, qemu::Machine};

/// The most that is read, in bytes.
pub(crate) const MAX_SPEC: u64 = 2 << 20;

/// One run of a VM.
#[derive(Serialize, Deserialize)]
pub(crate) struct ShimSpec {
    pub(crate) vm: VmId,
    pub(crate) paths: VmPaths,
    pub(crate) qemu: PathBuf,
    pub(crate) machine: Machine,
    pub(crate) way_out: WayOut,
    /// How long the guest may take from a boot to an answer of its sshd.
    pub(crate) boot_within: Duration,
    pub(crate) guest: GuestSpec,
}

/// [`Guest`], as it travels.
#[derive(Serialize, Deserialize)]
pub(crate) struct GuestSpec {
    hostname: String,
    names: Vec<String>,
    user: AccountName,
    authorized_keys: String,
    host_key: String,
}

impl From<&Guest> for GuestSpec {
    fn from(guest: &Guest) -> Self {
        Self {
            hostname: guest.hostname.clone(),
            names: guest.names.clone(),
            user: guest.user.clone(),
            authorized_keys: guest.authorized_keys.clone(),
            host_key: guest.host_key.expose().clone(),
        }
    }
}

impl From<GuestSpec> for Guest {
    fn from(spec: GuestSpec) -> Self {
        let GuestSpec { hostname, names, user, authorized_keys, host_key } = spec;
        Self { hostname, names, user, authorized_keys, host_key: Secret::new(host_key) }
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
