//! What a cluster tells of an instance, and what it means for a VM. Pure.
//!
//! Berth's own facts of a VM are keys in the instance's configuration, so that they are where the instance is and no second
//! place can say something else:
//!
//! | key | means |
//! |---|---|
//! | `user.berth.vm` | the VM's id; an instance without it is not Berth's |
//! | `user.berth.made` | it was made whole: one without it is what an interrupted making left |
//! | `user.berth.ready` | which of its boots Berth has provisioned, and sshd answered in |
//! | `user.berth.ended` | how it came to be off, or `up` since it was started |
//! | `user.berth.user` | the account whose VM it is |
//! | `user.berth.disk` | the size of its disk in bytes |

use std::{collections::HashMap, net::IpAddr, time::Duration};

use berth_engine::{Ending, Observed, Usage};
use berth_model::VmId;
use serde::Deserialize;

/// What names of instances begin with.
const PREFIX: &str = "berth-";
/// After the name of a VM: what it is being replaced with.
const ANEW: &str = "-anew";

pub(crate) const VM: &str = "user.berth.vm";
pub(crate) const MADE: &str = "user.berth.made";
pub(crate) const READY: &str = "user.berth.ready";
pub(crate) const ENDED: &str = "user.berth.ended";
pub(crate) const USER: &str = "user.berth.user";
pub(crate) const DISK: &str = "user.berth.disk";

/// The values of [`ENDED`]; what failed has its reason after a colon.
pub(crate) const UP: &str = "up";
pub(crate) const STOPPED: &str = "stopped";
pub(crate) const KILLED: &str = "killed";
const FAILED: &str = "failed:";

/// Incus' codes of what an instance is doing.
mod code {
    pub(super) const STARTED: u16 = 101;
    pub(super) const STOPPED: u16 = 102;
    pub(super) const RUNNING: u16 = 103;
    pub(super) const STARTING: u16 = 106;
    pub(super) const STOPPING: u16 = 107;
    pub(super) const ABORTING: u16 = 108;
    pub(super) const FREEZING: u16 = 109;
    pub(super) const FROZEN: u16 = 110;
    pub(super) const THAWED: u16 = 111;
}

/// The name of a VM's instance.
pub(crate) fn name(vm: &VmId) -> String {
    format!("{PREFIX}{vm}")
}

/// The name of what a VM's instance is being replaced with.
pub(crate) fn name_anew(vm: &VmId) -> String {
    format!("{PREFIX}{vm}{ANEW}")
}

/// The VM whose instance, or what is to be that, has this name.
pub(crate) fn vm_of(name: &str) -> Option<VmId> {
    let id = name.strip_prefix(PREFIX)?;
    id.strip_suffix(ANEW).unwrap_or(id).parse().ok()
}

/// Why a VM could not run, as a value of [`ENDED`].
pub(crate) fn failed(reason: &str) -> String {
    format!("{FAILED}{}", reason.chars().filter(|c| !c.is_control()).take(200).collect::<String>())
}

/// An instance with its state.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Instance {
    #[serde(default)]
    pub(crate) config: HashMap<String, String>,
    #[serde(default)]
    status_code: u16,
    #[serde(default)]
    status: String,
    #[serde(default)]
    pub(crate) stateful: bool,
    /// The member that it is on.
    #[serde(default)]
    pub(crate) location: String,
    #[serde(default)]
    pub(crate) state: Option<State>,
}

/// What it is doing on its machine.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct State {
    #[serde(default)]
    pid: i64,
    #[serde(default)]
    started_at: String,
    #[serde(default)]
    cpu: Cpu,
    #[serde(default)]
    memory: Memory,
    /// `null` for one that is off.
    #[serde(default)]
    network: Option<HashMap<String, Nic>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Cpu {
    /// Nanoseconds.
    #[serde(default)]
    usage: i64,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Memory {
    #[serde(default)]
    usage: i64,
}

#[derive(Debug, Clone, Deserialize)]
struct Nic {
    #[serde(default)]
    addresses: Vec<NicAddress>,
}

#[derive(Debug, Clone, Deserialize)]
struct NicAddress {
    #[serde(default)]
    family: String,
    address: String,
    #[serde(default)]
    scope: String,
}

/// What the engine itself is doing to a VM at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Doing {
    Booting,
    Waking,
    Stopping,
}

impl Instance {
    pub(crate) fn key(&self, key: &str) -> &str {
        self.config.get(key).map_or("", String::as_str)
    }

    /// Whether it was made whole, and by Berth for this VM.
    pub(crate) fn is_whole(&self, vm: &VmId) -> bool {
        self.key(VM) == vm.to_string() && !self.key(MADE).is_empty()
    }

    /// Which boot this is; none where nothing runs.
    pub(crate) fn boot(&self) -> Option<String> {
        let state = self.state.as_ref().filter(|state| state.pid > 0)?;
        Some(format!("{} {}", state.pid, state.started_at))
    }

    fn is_ready(&self) -> bool {
        self.boot().is_some_and(|boot| boot == self.key(READY))
    }

    /// Whether its processes stand still, or its memory is on a disk.
    pub(crate) fn is_asleep(&self) -> bool {
        self.status_code == code::FROZEN || (self.status_code == code::STOPPED && self.stateful)
    }

    pub(crate) fn is_off(&self) -> bool {
        self.status_code == code::STOPPED && !self.stateful
    }

    /// What a VM is doing; an error is a status that an instance has when its machine cannot tell.
    pub(crate) fn observed(&self, doing: Option<Doing>, called: bool) -> Result<Observed, String> {
        match (self.status_code, doing) {
            (code::STOPPED, Some(Doing::Booting)) => Ok(Observed::Booting),
            (_, Some(Doing::Waking)) => Ok(Observed::Waking),
            (code::STOPPING | code::ABORTING, _) | (_, Some(Doing::Stopping)) => Ok(Observed::Stopping),
            (code::STOPPED, None) if self.stateful => Ok(Observed::Asleep { called }),
            (code::STOPPED, _) => Ok(Observed::Off { ended: self.ended() }),
            (code::FROZEN, _) => Ok(Observed::Asleep { called }),
            (code::STARTED | code::STARTING, _) => Ok(Observed::Booting),
            (code::RUNNING | code::FREEZING | code::THAWED, _) => {
                Ok(if self.is_ready() { Observed::Running } else { Observed::Booting })
            }
            _ => Err(self.status.clone()),
        }
    }

    fn ended(&self) -> Option<Ending> {
        match self.key(ENDED) {
            "" => None,
            STOPPED => Some(Ending::Stopped),
            KILLED => Some(Ending::Killed),
            // A machine that goes down has no time to note what becomes of its instances.
            UP if self.key("volatile.last_state.power") == "RUNNING" => {
                Some(Ending::Failed { reason: "the machine that it ran on went down".to_owned() })
            }
            UP => Some(Ending::PoweredOff),
            other => Some(Ending::Failed {
                reason: other.strip_prefix(FAILED).unwrap_or("it did not come up").trim().to_owned(),
            }),
        }
    }

    /// By which others on the cluster's network reach it: IPv4 before IPv6, as its network cards are named.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        let nics = self.state.as_ref()?.network.as_ref()?;
        let mut nics: Vec<_> = nics.iter().filter(|(name, _)| name.as_str() != "lo").collect();
        nics.sort_by_key(|(name, _)| name.as_str());
        let addresses = || nics.iter().flat_map(|(_, nic)| &nic.addresses).filter(|at| at.scope == "global");
        let of = |family: &'static str| addresses().find(move |at| at.family == family);
        of("inet").or_else(|| of("inet6"))?.address.parse().ok()
    }

    /// What it has used since it booted. What it read and wrote, a cluster does not tell.
    pub(crate) fn usage(&self) -> Usage {
        let state = self.state.as_ref();
        let number =
            |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok()).unwrap_or_default();
        Usage {
            cpu: Duration::from_nanos(number(state.map(|state| state.cpu.usage))),
            disk: 0,
            memory: number(state.map(|state| state.memory.usage)),
        }
    }
}

#[cfg(test)]
mod tests;
