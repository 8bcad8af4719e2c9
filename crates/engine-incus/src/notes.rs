//! What the engine remembers of a VM: what it is doing to it, and whether somebody calls while it sleeps. Nothing of it
//! outlives the engine.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use berth_engine::Usage;
use berth_model::VmId;
use tokio::sync::watch;

use crate::instance::Doing;

/// Of all VMs.
#[derive(Default)]
pub(crate) struct Notes {
    vms: Mutex<HashMap<VmId, Arc<Note>>>,
}

/// Of one VM.
#[derive(Default)]
pub(crate) struct Note {
    doing: Mutex<Option<Doing>>,
    /// Its processes stand still: whoever sends it something calls it.
    asleep: AtomicBool,
    called: AtomicBool,
    /// What it had used when it last woke.
    slept_after: Mutex<Usage>,
    /// Counts what may have changed.
    changes: watch::Sender<u64>,
}

/// Says that something is being done, until it is dropped.
pub(crate) struct Deed {
    note: Arc<Note>,
}

impl Notes {
    pub(crate) fn of(&self, vm: &VmId) -> Arc<Note> {
        Arc::clone(self.vms.lock().unwrap_or_else(PoisonError::into_inner).entry(*vm).or_default())
    }

    pub(crate) fn forget(&self, vm: &VmId) {
        if let Some(note) = self.vms.lock().unwrap_or_else(PoisonError::into_inner).remove(vm) {
            note.change();
        }
    }

    /// Something may have happened to a VM; to any of them where it is not known to which.
    pub(crate) fn change(&self, vm: Option<&VmId>) {
        let vms = self.vms.lock().unwrap_or_else(PoisonError::into_inner);
        match vm {
            Some(vm) => vms.get(vm).into_iter().for_each(|note| note.change()),
            None => vms.values().for_each(|note| note.change()),
        }
    }
}

impl Note {
    /// Notes what is being done, for as long as the deed is held.
    pub(crate) fn begin(self: &Arc<Self>, doing: Doing) -> Deed {
        *self.doing() = Some(doing);
        self.change();
        Deed { note: Arc::clone(self) }
    }

    pub(crate) fn is_doing(&self) -> Option<Doing> {
        *self.doing()
    }

    fn doing(&self) -> std::sync::MutexGuard<'_, Option<Doing>> {
        self.doing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn change(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    pub(crate) fn fell_asleep(&self) {
        self.called.store(false, Ordering::Relaxed);
        self.asleep.store(true, Ordering::Release);
    }

    pub(crate) fn awoke(&self) {
        self.asleep.store(false, Ordering::Release);
        self.called.store(false, Ordering::Relaxed);
        self.change();
    }

    /// Bytes are sent to the VM, or the end of a connection. No matter where it runs.
    pub(crate) fn call(&self) {
        if self.asleep.load(Ordering::Acquire) && !self.called.swap(true, Ordering::Relaxed) {
            self.change();
        }
    }

    pub(crate) fn is_called(&self) -> bool {
        self.called.load(Ordering::Relaxed)
    }

    pub(crate) fn woke_with(&self, usage: Usage) {
        *self.slept_after.lock().unwrap_or_else(PoisonError::into_inner) = usage;
    }

    /// What was used since the VM woke, of what was used since it booted.
    pub(crate) fn since_it_woke(&self, usage: Usage) -> Usage {
        let before = *self.slept_after.lock().unwrap_or_else(PoisonError::into_inner);
        Usage { cpu: usage.cpu.checked_sub(before.cpu).unwrap_or(usage.cpu), ..usage }
    }
}

impl Drop for Deed {
    fn drop(&mut self) {
        *self.note.doing() = None;
        self.note.change();
    }
}
