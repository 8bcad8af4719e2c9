//! What the connections of each account have open together.
//!
//! Nothing is remembered of an account that has no connection. Concurrency: one lock, held for a few instructions, when a
//! connection comes or goes; channels are counted without it.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use berth_model::AccountName;

use crate::{backlog::Pool, limit::Limit, settings::Limits};

/// See the module.
pub(crate) struct Accounts {
    limits: Limits,
    open: Mutex<HashMap<AccountName, Arc<Account>>>,
}

/// What one account has open.
struct Account {
    connections: AtomicUsize,
    channels: AtomicUsize,
    memory: Arc<Pool>,
}

/// The place of a connection that has logged in; given back when dropped.
pub(crate) struct Member {
    accounts: Arc<Accounts>,
    name: AccountName,
    account: Arc<Account>,
}

impl Accounts {
    pub(crate) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self { limits, open: Mutex::default() })
    }

    /// A place for one more connection of an account, unless it has as many as it may.
    pub(crate) fn join(self: &Arc<Self>, name: &AccountName) -> Option<Member> {
        let mut open = self.lock();
        let account = open.entry(name.clone()).or_insert_with(|| {
            let memory = Arc::new(Pool::new(self.limits.memory_per_account, Limit::MemoryPerAccount));
            Arc::new(Account { connections: AtomicUsize::new(0), channels: AtomicUsize::new(0), memory })
        });
        // Changed under the lock alone.
        if account.connections.load(Ordering::Relaxed) >= self.limits.connections_per_account {
            return None;
        }
        account.connections.fetch_add(1, Ordering::Relaxed);
        Some(Member { accounts: self.clone(), name: name.clone(), account: account.clone() })
    }

    /// All connections that have logged in.
    pub(crate) fn connections(&self) -> usize {
        self.lock().values().map(|account| account.connections.load(Ordering::Relaxed)).sum()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<AccountName, Arc<Account>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Member {
    /// What waits of the account's channels.
    pub(crate) fn memory(&self) -> Arc<Pool> {
        self.account.memory.clone()
    }

    /// Counts one more channel; whether there may be so many.
    pub(crate) fn open_channel(&self) -> bool {
        self.account.channels.fetch_add(1, Ordering::Relaxed) < self.accounts.limits.channels_per_account
    }

    /// Counts one channel less.
    pub(crate) fn close_channel(&self) {
        self.account.channels.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let mut open = self.accounts.lock();
        if self.account.connections.fetch_sub(1, Ordering::Relaxed) == 1 {
            open.remove(&self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_fills_only_its_own_places() {
        let limits = Limits { connections_per_account: 2, channels_per_account: 3, ..Limits::default() };
        let accounts = Accounts::new(limits);
        let (alice, bob) = ("alice".parse().expect("a name"), "bob".parse().expect("a name"));
        let (first, second) = (accounts.join(&alice).expect("one"), accounts.join(&alice).expect("two"));
        assert!(accounts.join(&alice).is_none());
        let other = accounts.join(&bob).expect("his own");
        assert_eq!([&first, &second, &first, &second].map(Member::open_channel), [true, true, true, false]);
        assert!(other.open_channel());
        first.close_channel();
        first.close_channel();
        assert!(second.open_channel(), "one was given back");
        assert_eq!(accounts.connections(), 3);
        drop(first);
        assert!(accounts.join(&alice).is_some());
        drop((second, other));
        assert!(accounts.lock().is_empty(), "nothing stays");
    }
}
