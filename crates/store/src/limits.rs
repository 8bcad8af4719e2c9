//! What an account may have: its VMs, and their sizes together.

use berth_model::AccountName;
use serde::{Deserialize, Serialize};

use crate::{
    NewVm, Store, StoreError,
    convert::{number, saturate},
    sql::{self, Tx},
};

/// What all VMs of one account together may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// VMs.
    pub vms: u32,
    /// Virtual CPUs.
    pub cpus: u32,
    /// Memory in bytes.
    pub memory: u64,
    /// Disk in bytes, as the guests see it.
    pub disk: u64,
}

impl Limits {
    /// No limit at all.
    pub const NONE: Self = Self { vms: u32::MAX, cpus: u32::MAX, memory: u64::MAX, disk: u64::MAX };
}

/// What the operator has set for one account; `None` leaves what holds for all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnLimits {
    /// VMs.
    pub vms: Option<u32>,
    /// Virtual CPUs.
    pub cpus: Option<u32>,
    /// Memory in bytes.
    pub memory: Option<u64>,
    /// Disk in bytes, as the guests see it.
    pub disk: Option<u64>,
}

impl OwnLimits {
    /// What holds for the account, where `all` holds for others.
    #[must_use]
    pub fn or(self, all: Limits) -> Limits {
        Limits {
            vms: self.vms.unwrap_or(all.vms),
            cpus: self.cpus.unwrap_or(all.cpus),
            memory: self.memory.unwrap_or(all.memory),
            disk: self.disk.unwrap_or(all.disk),
        }
    }
}

#[derive(sqlx::FromRow)]
struct Columns {
    max_vms: Option<i64>,
    max_cpus: Option<i64>,
    max_memory: Option<i64>,
    max_disk: Option<i64>,
}

impl TryFrom<Columns> for OwnLimits {
    type Error = StoreError;

    fn try_from(row: Columns) -> Result<Self, StoreError> {
        Ok(Self {
            vms: row.max_vms.map(|value| number("max_vms", value)).transpose()?,
            cpus: row.max_cpus.map(|value| number("max_cpus", value)).transpose()?,
            memory: row.max_memory.map(|value| number("max_memory", value)).transpose()?,
            disk: row.max_disk.map(|value| number("max_disk", value)).transpose()?,
        })
    }
}

const OWN: &str =
    "SELECT max_vms, max_cpus, max_memory, max_disk FROM accounts WHERE name = $1 AND removed_at IS NULL";

impl Store {
    /// What the operator has set for an account.
    ///
    /// # Errors
    /// [`StoreError::NoSuchAccount`].
    pub async fn limits(&self, account: &AccountName) -> Result<OwnLimits, StoreError> {
        let row: Option<Columns> =
            sql::query_as(OWN).bind(account.as_str()).fetch_optional(self.reader()).await?;
        row.ok_or_else(|| StoreError::NoSuchAccount { name: account.clone() })?.try_into()
    }

    /// Sets what an account may have. What it has already stays.
    ///
    /// # Errors
    /// [`StoreError::NoSuchAccount`].
    pub async fn set_limits(&self, account: &AccountName, limits: OwnLimits) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        let changed = sql::query(
            "UPDATE accounts SET max_vms = $2, max_cpus = $3, max_memory = $4, max_disk = $5
             WHERE name = $1 AND removed_at IS NULL",
        )
        .bind(account.as_str())
        .bind(limits.vms.map(i64::from))
        .bind(limits.cpus.map(i64::from))
        .bind(limits.memory.map(saturate))
        .bind(limits.disk.map(saturate))
        .execute(&mut tx)
        .await?;
        match changed.rows_affected() {
            0 => Err(StoreError::NoSuchAccount { name: account.clone() }),
            _ => Ok(tx.commit().await?),
        }
    }
}

#[derive(sqlx::FromRow)]
struct Sums {
    vms: i64,
    cpus: i64,
    memory: i64,
    disk: i64,
}

/// Refuses a VM with which its account, which is locked, would have more than it may. A VM that is being removed counts
/// until it is gone.
pub(crate) async fn check(tx: &mut Tx, new: &NewVm) -> Result<(), StoreError> {
    let (has, limits) = has_and_may(tx, &new.owner, new.limits).await?;
    let over = |what, has, more, limit| over(&new.owner, what, has, more, limit);
    over(Limit::Vms, has.vms, 1, limits.vms.into())?;
    over(Limit::Cpus, has.cpus, new.cpus.into(), limits.cpus.into())?;
    over(Limit::Memory, has.memory, new.memory, limits.memory)?;
    over(Limit::Disk, has.disk, new.disk, limits.disk)
}

/// Refuses so much more disk, if its account, which is locked, would have more than it may. `all` holds where the operator
/// has set nothing for it alone.
pub(crate) async fn check_disk(
    tx: &mut Tx,
    owner: &AccountName,
    all: Limits,
    more: u64,
) -> Result<(), StoreError> {
    let (has, limits) = has_and_may(tx, owner, all).await?;
    // What it has stays, also where that is more than it may have now.
    if more == 0 { Ok(()) } else { over(owner, Limit::Disk, has.disk, more, limits.disk) }
}

fn over(owner: &AccountName, what: Limit, has: i64, more: u64, limit: u64) -> Result<(), StoreError> {
    let has = u64::try_from(has).unwrap_or(0);
    match has.saturating_add(more) > limit {
        true => Err(StoreError::OverLimit { account: owner.clone(), what, has, limit }),
        false => Ok(()),
    }
}

async fn has_and_may(tx: &mut Tx, owner: &AccountName, all: Limits) -> Result<(Sums, Limits), StoreError> {
    let own: Columns = sql::query_as(OWN).bind(owner.as_str()).fetch_one(&mut *tx).await?;
    let has: Sums = sql::query_as(
        "SELECT COUNT(*) AS vms, CAST(COALESCE(SUM(cpus), 0) AS BIGINT) AS cpus,
                CAST(COALESCE(SUM(memory), 0) AS BIGINT) AS memory, CAST(COALESCE(SUM(disk), 0) AS BIGINT) AS disk
         FROM vms WHERE owner = $1 AND removed_at IS NULL",
    )
    .bind(owner.as_str())
    .fetch_one(&mut *tx)
    .await?;
    Ok((has, OwnLimits::try_from(own)?.or(all)))
}

/// Which of the limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// VMs.
    Vms,
    /// Virtual CPUs.
    Cpus,
    /// Bytes of memory.
    Memory,
    /// Bytes of disk.
    Disk,
}

impl Limit {
    /// So much of it, in words.
    pub(crate) fn words(self, amount: u64) -> String {
        let gib =
            |bytes: u64| format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30)).replace(".0 GiB", " GiB");
        match self {
            Self::Vms if amount == 1 => "1 VM".to_owned(),
            Self::Vms => format!("{amount} VMs"),
            Self::Cpus if amount == 1 => "1 CPU".to_owned(),
            Self::Cpus => format!("{amount} CPUs"),
            Self::Memory => format!("{} of memory", gib(amount)),
            Self::Disk => format!("{} of disk", gib(amount)),
        }
    }
}
