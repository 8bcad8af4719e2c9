//! How much of something each account has open at once.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use berth_model::AccountName;

/// A number for each account, and what it may be at most.
#[derive(Clone)]
pub(crate) struct Slots {
    most: usize,
    open: Arc<Mutex<HashMap<AccountName, usize>>>,
}

/// One of them, free again when it is dropped.
pub(crate) struct Slot {
    slots: Slots,
    account: AccountName,
}

impl Slots {
    pub(crate) fn new(most: usize) -> Self {
        Self { most, open: Arc::default() }
    }

    /// `None` where the account has as many as it may.
    pub(crate) fn open(&self, account: &AccountName) -> Option<Slot> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(account.clone()).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Slot { slots: self.clone(), account: account.clone() })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut open = self.slots.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.account) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.account);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_account_has_its_own_and_gets_them_back() {
        let slots = Slots::new(1);
        let (alice, bob) = ("alice".parse().unwrap(), "bob".parse().unwrap());
        let one = slots.open(&alice).unwrap();
        assert!(slots.open(&alice).is_none());
        assert!(slots.open(&bob).is_some());
        drop(one);
        assert!(slots.open(&alice).is_some());
        assert!(slots.open.lock().unwrap().is_empty());
    }
}
