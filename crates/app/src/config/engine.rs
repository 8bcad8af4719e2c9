//! `[engine]`: what runs the VMs.

use std::path::{Path, PathBuf};

use berth_engine_incus::{Address, IncusConfig, Kind, Reach, TlsFiles};
use serde::{Deserialize, Serialize};

use super::{Problem, Vm};

/// The engines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum EngineKind {
    /// VMs on this machine.
    #[default]
    Qemu,
    /// VMs in a cluster of Incus.
    Incus,
}

/// What VMs are in a cluster.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Instances {
    /// System containers.
    #[default]
    Container,
    /// Virtual machines.
    Vm,
}

/// How VMs in a cluster are reached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ReachBy {
    /// By the addresses that they say they have.
    Network,
    /// Through the cluster's API: programs are reached from within the VM, whatever its owner says of its addresses.
    #[default]
    Api,
}

/// The engine's settings. All but the kind are for a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Engine {
    /// Which engine.
    pub(crate) kind: EngineKind,
    /// Members of the cluster: the first one that answers is asked.
    pub(crate) address: Vec<String>,
    /// The certificate by which the cluster knows Berth.
    pub(crate) certificate: PathBuf,
    /// Its key.
    pub(crate) key: PathBuf,
    /// The cluster's certificate.
    pub(crate) server_certificate: PathBuf,
    /// The cluster's project that has the VMs.
    pub(crate) project: String,
    /// The profiles of each instance.
    pub(crate) profiles: Vec<String>,
    /// The storage pool of the disks.
    pub(crate) pool: String,
    /// The alias of the image that VMs are made from.
    pub(crate) image: String,
    /// What VMs are.
    pub(crate) instances: Instances,
    /// How they are reached.
    pub(crate) reach: ReachBy,
}

impl Default for Engine {
    fn default() -> Self {
        Self {
            kind: EngineKind::Qemu,
            address: vec![],
            certificate: PathBuf::new(),
            key: PathBuf::new(),
            server_certificate: PathBuf::new(),
            project: "default".into(),
            profiles: vec!["default".into()],
            pool: "default".into(),
            image: "berth".into(),
            instances: Instances::default(),
            reach: ReachBy::default(),
        }
    }
}

/// An address of a member: `https://host:port`, or the path of a socket.
fn address(text: &str) -> Option<Address> {
    if text.starts_with('/') {
        return Some(Address::Unix(text.into()));
    }
    let host = text.strip_prefix("https://")?.trim_end_matches('/');
    let plain = host.chars().all(|c| c.is_ascii_alphanumeric() || ".:-[]".contains(c));
    let (name, port) = host.rsplit_once(':')?;
    (plain && !name.is_empty() && port.parse::<u16>().is_ok()).then(|| Address::Https(host.into()))
}

impl Engine {
    pub(crate) fn is_a_cluster(&self) -> bool {
        self.kind == EngineKind::Incus
    }

    pub(super) fn problems(&self, vm: &Vm) -> Vec<Problem> {
        let mut problems = vec![];
        if !self.is_a_cluster() {
            return problems;
        }
        if self.address.is_empty() {
            let message = "Say where the cluster is, for example [\"https://10.0.0.11:8443\"].";
            problems.push(Problem::new("engine.address", message));
        }
        for text in self.address.iter().filter(|text| address(text).is_none()) {
            let message = format!(
                "{text:?} is no address of a member. Give https://, its host and its port, or the path of its socket."
            );
            problems.push(Problem::new("engine.address", message));
        }
        if self.address.iter().any(|text| text.starts_with("https://")) {
            for (key, path) in [
                ("engine.certificate", &self.certificate),
                ("engine.key", &self.key),
                ("engine.server_certificate", &self.server_certificate),
            ] {
                problems.extend(file_problem(key, path));
            }
        }
        if !vm.internet {
            let message = "In a cluster, the profile's network decides what VMs reach. Set it to true.";
            problems.push(Problem::new("vm.internet", message));
        }
        problems
    }

    /// What the engine is told. Only where there are no problems.
    pub(crate) fn cluster(&self) -> IncusConfig {
        let secure = self.address.iter().any(|text| text.starts_with("https://"));
        IncusConfig {
            addresses: self.address.iter().filter_map(|text| address(text)).collect(),
            tls: secure.then(|| TlsFiles {
                certificate: self.certificate.clone(),
                key: self.key.clone(),
                server: self.server_certificate.clone(),
            }),
            project: self.project.clone(),
            profiles: self.profiles.clone(),
            pool: self.pool.clone(),
            image: self.image.clone(),
            kind: match self.instances {
                Instances::Container => Kind::Container,
                Instances::Vm => Kind::Vm,
            },
            reach: match self.reach {
                ReachBy::Network => Reach::Network,
                ReachBy::Api => Reach::Api,
            },
        }
    }
}

fn file_problem(key: &'static str, path: &Path) -> Option<Problem> {
    let message = if path.as_os_str().is_empty() {
        "A cluster that is asked by https needs this file; docs/operating.md says how to make it.".to_owned()
    } else if path.is_relative() {
        format!("{path:?} does not begin with /. Give the whole path.")
    } else {
        return None;
    };
    Some(Problem::new(key, message))
}
