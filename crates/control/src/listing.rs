//! Lists that are too long to be read at once: a page at a time, in the order of their names.

use std::collections::BTreeMap;

use berth_model::{AccountName, TeamName, VmId, VmName, VmNumber};
use berth_store::AccountsQuery;
use serde::{Deserialize, Serialize};

use crate::{AccountInfo, Control, VmInfo, error::Error, status::Status};

/// Which VMs somebody wants to see: those for which everything holds that is given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VmsQuery {
    /// With this in their name (`vm-0.alice.koding`), in lower case.
    pub text: String,
    /// In this state.
    pub status: Option<Status>,
    /// After this one.
    pub after: Option<VmName>,
    /// So many at most.
    pub most: usize,
}

/// Part of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page<T> {
    /// What is on it.
    pub rows: Vec<T>,
    /// There is more after it.
    pub more: bool,
}

/// How many VMs do what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmCounts {
    /// They can be connected to.
    pub running: usize,
    /// They are asleep.
    pub asleep: usize,
    /// They start, wake, or shut down.
    pub changing: usize,
    /// They are off, or are being removed.
    pub off: usize,
    /// They are off because something went wrong.
    pub failed: usize,
    /// Connections into all of them.
    pub connections: usize,
}

/// What the VMs do, and the memory that they do it in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmRoom {
    /// What they do.
    pub vms: VmCounts,
    /// Bytes of memory that all which are awake may have together; `None` where there is no bound.
    pub memory: Option<u64>,
    /// Bytes of it that they have.
    pub memory_taken: u64,
    /// How many wait for some.
    pub waiting: usize,
}

/// A member of the team, as other members see them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TeamMember {
    /// Their name.
    pub name: AccountName,
    /// The canonical host names of their VMs.
    pub hosts: Vec<String>,
}

/// The order of lists: what belongs together stands together.
type Key = (AccountName, TeamName, VmNumber);

fn key(vm: &VmName) -> Key {
    (vm.owner.clone(), vm.team.clone(), vm.number)
}

impl Control {
    /// How many VMs do what, and how many connections there are into them.
    #[must_use]
    pub fn vm_counts(&self) -> VmCounts {
        let mut counts = VmCounts::default();
        self.tools.handles.each(|handle| {
            counts.connections += handle.activity.connections();
            match handle.status() {
                Status::Running => counts.running += 1,
                Status::Asleep => counts.asleep += 1,
                Status::Waking | Status::Starting | Status::Stopping | Status::Rebuilding => {
                    counts.changing += 1;
                }
                Status::Off | Status::Removing => counts.off += 1,
                Status::Failed => counts.failed += 1,
            }
        });
        counts
    }

    /// What the VMs do, and what there is for them.
    #[must_use]
    pub fn vm_room(&self) -> VmRoom {
        let (memory, memory_taken, waiting) = self.tools.room.figures();
        let memory = (memory < u64::MAX).then_some(memory);
        VmRoom { vms: self.vm_counts(), memory, memory_taken, waiting }
    }

    /// Some VMs in the order of owner, team and number.
    ///
    /// # Errors
    /// The store fails.
    pub async fn vms_page(&self, query: &VmsQuery) -> Result<Page<VmInfo>, Error> {
        let ids = self.matching(query);
        let more = ids.len() > query.most;
        let ids: Vec<VmId> = ids.into_values().take(query.most).collect();
        let mut rows = self.store.vms_by_id(&ids).await?;
        rows.sort_by_cached_key(|row| key(&row.name));
        let rows = rows.iter().map(|row| self.info(row, self.handle(&row.name).as_ref())).collect();
        Ok(Page { rows, more })
    }

    /// The first of those that match, and one more.
    fn matching(&self, query: &VmsQuery) -> BTreeMap<Key, VmId> {
        let after = query.after.as_ref().map(key);
        let mut first: BTreeMap<Key, VmId> = BTreeMap::new();
        self.tools.handles.each(|handle| {
            let name = &handle.name;
            let comes_after =
                |(owner, team, number): &Key| (&name.owner, &name.team, name.number) > (owner, team, *number);
            let full = first.len() > query.most;
            let beyond = full && first.last_key_value().is_some_and(|(last, _)| comes_after(last));
            let matches = !beyond
                && after.as_ref().is_none_or(comes_after)
                && query.status.is_none_or(|status| handle.status() == status)
                && (query.text.is_empty() || name.to_string().contains(&query.text));
            if matches {
                first.insert(key(name), handle.id);
                if full {
                    first.pop_last();
                }
            }
        });
        first
    }

    /// Some accounts in the order of their names.
    ///
    /// # Errors
    /// The store fails.
    pub async fn accounts_page(&self, query: &AccountsQuery) -> Result<Page<AccountInfo>, Error> {
        let one_more = AccountsQuery { most: query.most.saturating_add(1), ..query.clone() };
        let mut rows = self.store.accounts_page(&one_more).await?;
        let more = rows.len() > query.most;
        rows.truncate(query.most);
        Ok(Page { rows: rows.into_iter().map(AccountInfo::from).collect(), more })
    }

    /// The account of a name.
    ///
    /// # Errors
    /// There is none; the store fails.
    pub async fn account(&self, name: &AccountName) -> Result<AccountInfo, Error> {
        let row = self.store.account(name).await?;
        row.map(AccountInfo::from).ok_or_else(|| Error::NoSuchAccount(name.clone()))
    }

    /// Some members, those who are not blocked, with the names of their VMs: for every member to see. `text` is part of
    /// their names.
    ///
    /// # Errors
    /// The store fails.
    pub async fn team(
        &self,
        text: &str,
        after: Option<AccountName>,
        most: usize,
    ) -> Result<Page<TeamMember>, Error> {
        let query = AccountsQuery { text: text.to_owned(), after, blocked: Some(false), most };
        let Page { rows, more } = self.accounts_page(&query).await?;
        let mut members: BTreeMap<AccountName, Vec<String>> =
            rows.into_iter().map(|account| (account.name, vec![])).collect();
        let owners: Vec<&AccountName> = members.keys().collect();
        for vm in self.store.vm_names(&owners).await? {
            if let Some(hosts) = members.get_mut(&vm.owner) {
                hosts.push(self.settings.domains.canonical(&vm));
            }
        }
        let rows = members.into_iter().map(|(name, hosts)| TeamMember { name, hosts }).collect();
        Ok(Page { rows, more })
    }
}
