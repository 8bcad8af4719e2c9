//! How this Berth is: figures, and what an operator should do something about, in words.

use std::time::Duration;

use berth_engine::{About, EngineError, Room};
use berth_model::VmName;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tokio::time::timeout;

use crate::{
    Control, VmCounts, VmRoom,
    error::Error,
    status::{Status, shown},
};

/// So many VMs that failed are named.
const MAX_NAMED: usize = 20;
/// An engine may look for KVM the first time that it is asked.
const ABOUT_WITHIN: Duration = Duration::from_secs(3);
/// With less than this, VMs will soon find the disk full.
const LITTLE_DISK: u64 = 10 << 30;

/// See the module.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Health {
    /// Berth's version.
    pub version: String,
    /// Since when this server runs. Its database was found whole at that moment.
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
    /// How many accounts there are.
    pub accounts: usize,
    /// What the VMs do.
    pub vms: VmCounts,
    /// Bytes of the database.
    pub database: u64,
    /// What runs the VMs; `None` where it cannot tell.
    pub engine: Option<String>,
    /// It translates what VMs run instead of letting the processor run it.
    pub emulated: bool,
    /// Bytes of memory that all VMs which are awake may have together; `None` where there is no bound.
    pub memory: Option<u64>,
    /// Bytes of it that they have.
    pub memory_taken: u64,
    /// How many VMs wait for memory.
    pub waiting: usize,
    /// Free bytes of memory on the host; `None` where it is not known.
    pub memory_free: Option<u64>,
    /// Free bytes on the disk that VMs are on; `None` as there.
    pub disk_free: Option<u64>,
    /// VMs that failed or could not be woken, and why: a clause without a full stop. The first few.
    pub failed: Vec<(VmName, String)>,
    /// What to do something about, the most pressing first.
    pub warnings: Vec<Warning>,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// What is: a sentence.
    pub what: String,
    /// What to do: a sentence.
    pub next: String,
}

impl Warning {
    fn new(what: impl Into<String>, next: &str) -> Self {
        Self { what: what.into(), next: next.to_owned() }
    }
}

impl Control {
    /// How this Berth is.
    ///
    /// # Errors
    /// The store fails. An engine that cannot tell is a warning.
    pub async fn health(&self) -> Result<Health, Error> {
        let about = timeout(ABOUT_WITHIN, self.engine.about()).await.unwrap_or(Err(EngineError::TimedOut));
        let room = self.engine.room().await;
        let VmRoom { vms, memory, memory_taken, waiting } = self.vm_room();
        let mut health = Health {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            since: self.since,
            accounts: self.store.count_accounts().await?,
            vms,
            database: self.store.size().await?,
            engine: None,
            emulated: false,
            memory,
            memory_taken,
            waiting,
            memory_free: None,
            disk_free: None,
            failed: self.failed(),
            warnings: vec![],
        };
        match about {
            Ok(About { name, emulated }) => (health.engine, health.emulated) = (Some(name), emulated),
            Err(error) => health.warnings.push(Warning::new(
                format!("What runs the VMs cannot tell how it is: {error}."),
                "New VMs may not start. See the server’s log.",
            )),
        }
        if let Ok(Room { memory_free, disk_free, .. }) = room {
            (health.memory_free, health.disk_free) = (Some(memory_free), Some(disk_free));
        }
        let found = warnings(&health);
        health.warnings.extend(found);
        Ok(health)
    }

    fn failed(&self) -> Vec<(VmName, String)> {
        let mut failed = vec![];
        self.tools.handles.each(|handle| {
            if failed.len() == MAX_NAMED {
                return;
            }
            // A look at the status comes first: it costs less than the reason, and most are well.
            if !matches!(handle.status(), Status::Failed | Status::Asleep) {
                return;
            }
            if let (Status::Failed | Status::Asleep, Some(reason)) = shown(&handle.state()) {
                failed.push((handle.name.clone(), reason));
            }
        });
        failed
    }
}

/// What the figures mean for an operator.
fn warnings(health: &Health) -> Vec<Warning> {
    let mut found = vec![];
    if let Some(free) = health.disk_free.filter(|free| *free < LITTLE_DISK) {
        found.push(Warning::new(
            format!("The disk that VMs are on has {} MB left.", free >> 20),
            "Make room on it or remove VMs: guests that find it full stop.",
        ));
    }
    if health.waiting > 0 {
        found.push(Warning::new(
            format!("{} for memory.", count(health.waiting, "VM waits", "VMs wait")),
            "Ask who is always-on whether that has to be, or give VMs more of the host: host.memory in the configuration.",
        ));
    }
    if let Some(memory) = health.memory.filter(|memory| health.memory_taken > *memory) {
        found.push(Warning::new(
            format!(
                "VMs have {} MB of memory, and are to have {} MB.",
                health.memory_taken >> 20,
                memory >> 20
            ),
            "It was lowered while they ran. It is right again when some of them have slept.",
        ));
    }
    if !health.failed.is_empty() {
        found.push(Warning::new(
            format!("{} or could not be woken.", count(health.failed.len(), "VM failed", "VMs failed")),
            "Why is below. Its owner can start it again on its page.",
        ));
    }
    if health.emulated {
        found.push(Warning::new(
            "VMs are emulated, since KVM does not work here: they are five to ten times slower.",
            "On a machine with KVM, let the server’s user into the group kvm and start it again.",
        ));
    }
    found
}

fn count(count: usize, one: &str, more: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { more })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health() -> Health {
        Health {
            version: String::new(),
            since: OffsetDateTime::UNIX_EPOCH,
            accounts: 1,
            vms: VmCounts::default(),
            database: 1,
            engine: None,
            emulated: false,
            memory: Some(8 << 30),
            memory_taken: 1 << 30,
            waiting: 0,
            memory_free: Some(1 << 30),
            disk_free: Some(100 << 30),
            failed: vec![],
            warnings: vec![],
        }
    }

    #[test]
    fn nothing_is_said_where_all_is_well_and_each_thing_where_it_is_not() {
        assert_eq!(warnings(&health()), []);
        let failed = vec![("vm-0.alice.koding".parse().unwrap(), "it burnt down".to_owned())];
        let bad = Health {
            disk_free: Some(3 << 30),
            waiting: 2,
            memory_taken: 9 << 30,
            failed,
            emulated: true,
            ..health()
        };
        let said: Vec<_> = warnings(&bad).into_iter().map(|warning| warning.what).collect();
        assert_eq!(
            said,
            [
                "The disk that VMs are on has 3072 MB left.",
                "2 VMs wait for memory.",
                "VMs have 9216 MB of memory, and are to have 8192 MB.",
                "1 VM failed or could not be woken.",
                "VMs are emulated, since KVM does not work here: they are five to ten times slower.",
            ]
        );
    }
}
