//! VMs that are shared with other accounts than their owner's: asked, accepted, ended.

use berth_model::{AccountName, VmId, VmName};
use time::OffsetDateTime;

use crate::{
    Role, Store, StoreError,
    convert::{number, optional_time, text, time, to_millis, vm_name},
    ids::next_id,
    roles::lock_unblocked,
    sql::{self, Tx},
};

/// A VM is shared with so many accounts at most, those included that have not accepted.
pub const MAX_SHARES: usize = 32;

/// What is told of a share when it is asked.
#[derive(Clone, Debug)]
pub struct NewShare {
    /// The VM.
    pub vm: VmId,
    /// With whom.
    pub account: AccountName,
    /// Whether they are root in it when they want to.
    pub sudo: bool,
    /// Until when it can be accepted: after now.
    pub accept_by: OffsetDateTime,
    /// Until when it is shared: after now.
    pub ends_at: Option<OffsetDateTime>,
}

/// A VM that is shared, or that somebody was asked to share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareRow {
    /// The VM.
    pub vm: VmId,
    /// Its name.
    pub name: VmName,
    /// With whom.
    pub account: AccountName,
    /// Their Linux user id in it, as in every VM that is not their own.
    pub uid: u32,
    /// Whether they are root in it when they want to.
    pub sudo: bool,
    /// When it was asked.
    pub made_at: OffsetDateTime,
    /// Until when it can be accepted.
    pub accept_by: OffsetDateTime,
    /// Since when it is accepted.
    pub accepted_at: Option<OffsetDateTime>,
    /// Until when it is shared.
    pub ends_at: Option<OffsetDateTime>,
}

/// Somebody who is let into the VMs of their team.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberRow {
    /// Their name.
    pub name: AccountName,
    /// Their Linux user id in every VM that is not their own.
    pub uid: u32,
    /// What they may do.
    pub role: Role,
}

#[derive(sqlx::FromRow)]
struct Columns {
    vm: String,
    owner: String,
    team: String,
    number: i64,
    account: String,
    uid: i64,
    sudo: i64,
    made_at: i64,
    accept_by: i64,
    accepted_at: Option<i64>,
    ends_at: Option<i64>,
}

impl TryFrom<Columns> for ShareRow {
    type Error = StoreError;

    fn try_from(row: Columns) -> Result<Self, StoreError> {
        Ok(Self {
            vm: text("VM's id", &row.vm)?,
            name: vm_name(row.number, &row.owner, &row.team)?,
            account: text("account of a share", &row.account)?,
            uid: number("uid of an account", row.uid)?,
            sudo: row.sudo != 0,
            made_at: time("made_at of a share", row.made_at)?,
            accept_by: time("accept_by of a share", row.accept_by)?,
            accepted_at: optional_time("accepted_at of a share", row.accepted_at)?,
            ends_at: optional_time("ends_at of a share", row.ends_at)?,
        })
    }
}

/// Of all shares, for a condition to follow.
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT shares.vm, vms.owner, vms.team, vms.number, shares.account, guest_uids.uid, shares.sudo,
                    shares.made_at, shares.accept_by, shares.accepted_at, shares.ends_at
             FROM shares
             JOIN vms ON vms.id = shares.vm
             JOIN guest_uids ON guest_uids.account = shares.account
             JOIN accounts AS guests ON guests.name = shares.account
             JOIN accounts AS owners ON owners.name = vms.owner
             ",
            $rest
        )
    };
}

impl Store {
    /// Asks an account to share a VM. One that was asked before has what it is asked now; who has accepted need not do it
    /// again.
    ///
    /// # Errors
    /// [`StoreError::NoSuchAccount`], also for a blocked one; [`StoreError::NoSuchVm`], also for one that is being
    /// removed; [`StoreError::TooManyShares`] for one more than [`MAX_SHARES`]; [`StoreError::Database`] for times that
    /// are over.
    pub async fn share(&self, new: &NewShare, at: OffsetDateTime) -> Result<ShareRow, StoreError> {
        let mut tx = self.write().await?;
        lock_unblocked(&mut tx, &new.account).await?;
        lock_vm(&mut tx, new.vm).await?;
        delete_ended(&mut tx, new.vm, at).await?;
        let others: i64 = sql::query_scalar("SELECT COUNT(*) FROM shares WHERE vm = $1 AND account <> $2")
            .bind(new.vm.to_string())
            .bind(new.account.as_str())
            .fetch_one(&mut tx)
            .await?;
        if usize::try_from(others).unwrap_or(usize::MAX) >= MAX_SHARES {
            return Err(StoreError::TooManyShares);
        }
        ensure_uid(&mut tx, &new.account).await?;
        // Who has accepted keeps the times of that.
        sql::query(
            "INSERT INTO shares (vm, account, sudo, made_at, accept_by, ends_at) VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT (vm, account) DO UPDATE SET sudo = excluded.sudo, ends_at = excluded.ends_at,
                 made_at = CASE WHEN shares.accepted_at IS NULL THEN excluded.made_at ELSE shares.made_at END,
                 accept_by = CASE WHEN shares.accepted_at IS NULL THEN excluded.accept_by ELSE shares.accept_by END",
        )
        .bind(new.vm.to_string())
        .bind(new.account.as_str())
        .bind(i64::from(new.sudo))
        .bind(to_millis(at))
        .bind(to_millis(new.accept_by))
        .bind(new.ends_at.map(to_millis))
        .execute(&mut tx)
        .await?;
        let row = one(&mut tx, new.vm, &new.account).await?;
        tx.commit().await?;
        row.ok_or(StoreError::NoSuchVm)
    }

    /// Accepts a share, and gives it; one that was accepted before stays as it is. `None` where there is none, or none any
    /// more.
    ///
    /// # Errors
    /// Only those of the database itself.
    pub async fn accept_share(
        &self,
        vm: VmId,
        account: &AccountName,
        at: OffsetDateTime,
    ) -> Result<Option<ShareRow>, StoreError> {
        let mut tx = self.write().await?;
        sql::query(
            "UPDATE shares SET accepted_at = $3
             WHERE vm = $1 AND account = $2 AND accepted_at IS NULL AND accept_by > $3
               AND (ends_at IS NULL OR ends_at > $3)",
        )
        .bind(vm.to_string())
        .bind(account.as_str())
        .bind(to_millis(at))
        .execute(&mut tx)
        .await?;
        let row = one(&mut tx, vm, account).await?;
        tx.commit().await?;
        let is_live = |row: &ShareRow| row.accepted_at.is_some() && row.ends_at.is_none_or(|ends| ends > at);
        Ok(row.filter(is_live))
    }

    /// Ends a share, accepted or not, and gives what it was; `None` where there is none.
    ///
    /// # Errors
    /// Only those of the database itself.
    pub async fn remove_share(
        &self,
        vm: VmId,
        account: &AccountName,
    ) -> Result<Option<ShareRow>, StoreError> {
        let mut tx = self.write().await?;
        let row = one(&mut tx, vm, account).await?;
        sql::query("DELETE FROM shares WHERE vm = $1 AND account = $2")
            .bind(vm.to_string())
            .bind(account.as_str())
            .execute(&mut tx)
            .await?;
        tx.commit().await?;
        Ok(row)
    }

    /// With whom a VM is shared, and who was asked and can still accept; in the order of their names. Those of blocked
    /// accounts are among them.
    ///
    /// # Errors
    /// Only those of the database itself.
    pub async fn shares_of(&self, vm: VmId, at: OffsetDateTime) -> Result<Vec<ShareRow>, StoreError> {
        let rows: Vec<Columns> = sql::query_as(select!(
            "WHERE shares.vm = $1 AND (shares.accepted_at IS NOT NULL OR shares.accept_by > $2)
               AND (shares.ends_at IS NULL OR shares.ends_at > $2)
             ORDER BY shares.account"
        ))
        .bind(vm.to_string())
        .bind(to_millis(at))
        .fetch_all(self.reader())
        .await?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    /// Who is a guest of a VM: with whom it is shared, and who has accepted and is not blocked; in the order of their
    /// names.
    ///
    /// # Errors
    /// Only those of the database itself.
    pub async fn guests_of(&self, vm: VmId, at: OffsetDateTime) -> Result<Vec<ShareRow>, StoreError> {
        let rows: Vec<Columns> = sql::query_as(select!(
            "WHERE shares.vm = $1 AND shares.accepted_at IS NOT NULL
               AND (shares.ends_at IS NULL OR shares.ends_at > $2)
               AND guests.blocked_at IS NULL AND guests.removed_at IS NULL
             ORDER BY shares.account"
        ))
        .bind(vm.to_string())
        .bind(to_millis(at))
        .fetch_all(self.reader())
        .await?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    /// Who is let into the VMs of their team: all accounts that are not blocked, by name.
    ///
    /// # Errors
    /// Only those of the database itself.
    pub async fn members(&self) -> Result<Vec<MemberRow>, StoreError> {
        let mut tx = self.write().await?;
        let without: Vec<(String,)> = sql::query_as(
            "SELECT name FROM accounts WHERE removed_at IS NULL AND blocked_at IS NULL AND name <> 'shared'
               AND NOT EXISTS (SELECT 1 FROM guest_uids WHERE guest_uids.account = accounts.name)
             ORDER BY name",
        )
        .fetch_all(&mut tx)
        .await?;
        for (name,) in without {
            ensure_uid(&mut tx, &text("account name", &name)?).await?;
        }
        let rows: Vec<(String, i64, String)> = sql::query_as(
            "SELECT accounts.name, guest_uids.uid, accounts.role FROM accounts
             JOIN guest_uids ON guest_uids.account = accounts.name
             WHERE accounts.removed_at IS NULL AND accounts.blocked_at IS NULL
             ORDER BY accounts.name",
        )
        .fetch_all(&mut tx)
        .await?;
        tx.commit().await?;
        let row = |(name, uid, role): (String, i64, String)| {
            let (name, role) = (text("account name", &name)?, text("role", &role)?);
            Ok(MemberRow { name, uid: number("uid of an account", uid)?, role })
        };
        rows.into_iter().map(row).collect()
    }

    /// The VMs that are shared with an account, or that it was asked to share and can still accept; in the order of owner,
    /// team and number. Not those of blocked owners, nor those that are being removed.
    ///
    /// # Errors
    /// Only those of the database itself.
    pub async fn shares_with(
        &self,
        account: &AccountName,
        at: OffsetDateTime,
    ) -> Result<Vec<ShareRow>, StoreError> {
        let rows: Vec<Columns> = sql::query_as(select!(
            "WHERE shares.account = $1 AND (shares.accepted_at IS NOT NULL OR shares.accept_by > $2)
               AND (shares.ends_at IS NULL OR shares.ends_at > $2)
               AND vms.removing_at IS NULL AND vms.removed_at IS NULL
               AND owners.blocked_at IS NULL AND owners.removed_at IS NULL
               AND guests.blocked_at IS NULL AND guests.removed_at IS NULL
             ORDER BY vms.owner, vms.team, vms.number"
        ))
        .bind(account.as_str())
        .bind(to_millis(at))
        .fetch_all(self.reader())
        .await?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    /// Ends all shares whose time is over, and gives them.
    ///
    /// # Errors
    /// Only those of the database itself.
    pub async fn end_shares(&self, at: OffsetDateTime) -> Result<Vec<ShareRow>, StoreError> {
        let over: Vec<Columns> = sql::query_as(select!(
            "WHERE (shares.accepted_at IS NULL AND shares.accept_by <= $1) OR shares.ends_at <= $1"
        ))
        .bind(to_millis(at))
        .fetch_all(self.reader())
        .await?;
        if over.is_empty() {
            return Ok(vec![]);
        }
        let mut tx = self.write().await?;
        let mut ended = vec![];
        for row in over {
            // It may have been asked anew since.
            let gone = sql::query(
                "DELETE FROM shares WHERE vm = $1 AND account = $2
                   AND ((accepted_at IS NULL AND accept_by <= $3) OR ends_at <= $3)",
            )
            .bind(&row.vm)
            .bind(&row.account)
            .bind(to_millis(at))
            .execute(&mut tx)
            .await?;
            if gone.rows_affected() > 0 {
                ended.push(row.try_into()?);
            }
        }
        tx.commit().await?;
        Ok(ended)
    }
}

/// Ends all shares with an account and all of its VMs, and gives the names of the VMs that were shared with it.
pub(crate) async fn remove_all(tx: &mut Tx, account: &AccountName) -> Result<Vec<VmName>, StoreError> {
    let rows: Vec<Columns> = sql::query_as(select!("WHERE shares.account = $1"))
        .bind(account.as_str())
        .fetch_all(&mut *tx)
        .await?;
    sql::query("DELETE FROM shares WHERE account = $1 OR vm IN (SELECT id FROM vms WHERE owner = $1)")
        .bind(account.as_str())
        .execute(&mut *tx)
        .await?;
    rows.into_iter().map(|row| Ok(ShareRow::try_from(row)?.name)).collect()
}

/// The VM's row is the lock that keeps two changes of its shares apart.
async fn lock_vm(tx: &mut Tx, vm: VmId) -> Result<(), StoreError> {
    let found =
        sql::query("UPDATE vms SET generation = generation + 1 WHERE id = $1 AND removing_at IS NULL")
            .bind(vm.to_string())
            .execute(&mut *tx)
            .await?;
    if found.rows_affected() == 0 { Err(StoreError::NoSuchVm) } else { Ok(()) }
}

async fn delete_ended(tx: &mut Tx, vm: VmId, at: OffsetDateTime) -> Result<(), StoreError> {
    sql::query(
        "DELETE FROM shares
         WHERE vm = $1 AND ((accepted_at IS NULL AND accept_by <= $2) OR ends_at <= $2)",
    )
    .bind(vm.to_string())
    .bind(to_millis(at))
    .execute(&mut *tx)
    .await?;
    Ok(())
}

async fn ensure_uid(tx: &mut Tx, account: &AccountName) -> Result<(), StoreError> {
    let has = sql::query("SELECT 1 FROM guest_uids WHERE account = $1")
        .bind(account.as_str())
        .fetch_optional(&mut *tx)
        .await?;
    if has.is_none() {
        let uid = next_id(tx, "guest_uids").await?;
        sql::query("INSERT INTO guest_uids (account, uid) VALUES ($1, $2)")
            .bind(account.as_str())
            .bind(uid)
            .execute(&mut *tx)
            .await?;
    }
    Ok(())
}

async fn one(tx: &mut Tx, vm: VmId, account: &AccountName) -> Result<Option<ShareRow>, StoreError> {
    let row: Option<Columns> = sql::query_as(select!("WHERE shares.vm = $1 AND shares.account = $2"))
        .bind(vm.to_string())
        .bind(account.as_str())
        .fetch_optional(&mut *tx)
        .await?;
    row.map(TryInto::try_into).transpose()
}
