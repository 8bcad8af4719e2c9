//! Who has the site open: a reason for their VMs to stay awake.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use berth_model::AccountName;
use time::OffsetDateTime;

use crate::clock::Clock;

/// The accounts whose owner has the site open, each with the number of open pages and since when there is one.
#[derive(Debug, Clone)]
pub(crate) struct Presence {
    clock: Clock,
    open: Arc<Mutex<BTreeMap<AccountName, (usize, OffsetDateTime)>>>,
}

impl Presence {
    pub(crate) fn new(clock: Clock) -> Self {
        Self { clock, open: Arc::default() }
    }

    /// Since when an account has the site open.
    pub(crate) fn since(&self, account: &AccountName) -> Option<OffsetDateTime> {
        self.lock().get(account).map(|(_, since)| *since)
    }

    pub(crate) fn enter(&self, account: &AccountName) {
        let now = self.clock.now();
        self.lock().entry(account.clone()).or_insert((0, now)).0 += 1;
    }

    /// Tells whether it was the last page.
    pub(crate) fn leave(&self, account: &AccountName) -> bool {
        let mut open = self.lock();
        let Some((pages, _)) = open.get_mut(account) else { return false };
        *pages -= 1;
        let last = *pages == 0;
        if last {
            open.remove(account);
        }
        last
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<AccountName, (usize, OffsetDateTime)>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_page_that_closes_ends_it() {
        let presence = Presence::new(Clock::System);
        let alice: AccountName = "alice".parse().unwrap();
        presence.enter(&alice);
        let since = presence.since(&alice).unwrap();
        presence.enter(&alice);
        assert_eq!(presence.since(&alice), Some(since));
        assert!(!presence.leave(&alice));
        assert!(presence.leave(&alice));
        assert_eq!(presence.since(&alice), None);
        assert!(!presence.leave(&alice));
    }
}
