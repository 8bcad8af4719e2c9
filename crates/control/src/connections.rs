//! Who is connected to what, now.

use std::{
    net::IpAddr,
    sync::atomic::{AtomicU64, Ordering},
};

use berth_model::VmName;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::{Control, activity::LogIn};

/// A connection into a VM that goes through this server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionInfo {
    /// Who opened it: the name of an account, or what a stranger is called.
    pub by: String,
    /// From where.
    pub from: IpAddr,
    /// The VM.
    pub vm: VmName,
    /// Its port.
    pub port: u16,
    /// Since when.
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
    /// Bytes that went into the VM.
    pub sent: u64,
    /// Bytes that came out of it.
    pub received: u64,
}

/// One of them while it is open. Its bytes are counted by the connection itself.
#[derive(Debug)]
pub(crate) struct OpenConnection {
    pub(crate) by: String,
    pub(crate) from: IpAddr,
    pub(crate) port: u16,
    pub(crate) since: OffsetDateTime,
    sent: AtomicU64,
    received: AtomicU64,
    pub(crate) log_in: LogIn,
}

impl OpenConnection {
    pub(crate) fn new(by: String, from: IpAddr, port: u16, since: OffsetDateTime, log_in: LogIn) -> Self {
        Self { by, from, port, since, sent: AtomicU64::new(0), received: AtomicU64::new(0), log_in }
    }

    pub(crate) fn sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// That went into the VM, and that came out of it, so far.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        (self.sent.load(Ordering::Relaxed), self.received.load(Ordering::Relaxed))
    }

    fn info(&self, vm: &VmName) -> ConnectionInfo {
        ConnectionInfo {
            by: self.by.clone(),
            from: self.from,
            vm: vm.clone(),
            port: self.port,
            since: self.since,
            sent: self.sent.load(Ordering::Relaxed),
            received: self.received.load(Ordering::Relaxed),
        }
    }
}

impl Control {
    /// The connections into VMs that are open now and have `text` in who, from where or to what, the latest first: at
    /// most so many, and how many there are in all. A lobby, and whoever waits for a VM, has none yet.
    #[must_use]
    pub fn connections(&self, text: &str, most: usize) -> (Vec<ConnectionInfo>, usize) {
        let mut found = vec![];
        self.tools.handles.each(|handle| {
            let infos = handle.activity.open().into_iter().map(|open| open.info(&handle.name));
            found.extend(infos.filter(|info| has(info, text)));
        });
        let count = found.len();
        found.sort_by_key(|info| std::cmp::Reverse(info.since));
        found.truncate(most);
        (found, count)
    }
}

fn has(info: &ConnectionInfo, text: &str) -> bool {
    text.is_empty()
        || info.by.contains(text)
        || info.from.to_string().contains(text)
        || info.vm.to_string().contains(text)
}
