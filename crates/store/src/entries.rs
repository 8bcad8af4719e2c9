//! The VMs that an account may ask for, looked up at once: it is done for each connection.

use berth_model::{AccountName, VmId, VmName};
use time::OffsetDateTime;

use crate::{
    Store, StoreError,
    convert::{optional_time, text, to_millis, vm_name},
    sql,
};

/// A VM of an account's own, of those who are everybody, or one that is shared with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryRow {
    /// The VM.
    pub vm: VmId,
    /// Its name.
    pub name: VmName,
    /// How it is shared with the account; `None` where it is not, but its own or everybody's.
    pub share: Option<EntryShare>,
}

/// How a VM is shared with an account that was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryShare {
    /// Whether the account has accepted.
    pub accepted: bool,
    /// Whether it is root in it when it wants to.
    pub sudo: bool,
    /// Until when it is shared.
    pub ends_at: Option<OffsetDateTime>,
}

#[derive(sqlx::FromRow)]
struct Columns {
    id: String,
    owner: String,
    team: String,
    number: i64,
    shared: i64,
    sudo: i64,
    accepted_at: Option<i64>,
    ends_at: Option<i64>,
}

impl TryFrom<Columns> for EntryRow {
    type Error = StoreError;

    fn try_from(row: Columns) -> Result<Self, StoreError> {
        let ends_at = optional_time("ends_at of a share", row.ends_at)?;
        Ok(Self {
            vm: text("VM's id", &row.id)?,
            name: vm_name(row.number, &row.owner, &row.team)?,
            share: (row.shared != 0).then_some(EntryShare {
                accepted: row.accepted_at.is_some(),
                sudo: row.sudo != 0,
                ends_at,
            }),
        })
    }
}

impl Store {
    /// The VMs of `account`, those that are shared with it, also where it has not accepted, and those of `everybody`; each in
    /// the order of owner, team and number. Not those that are being removed, nor shared ones of blocked owners.
    ///
    /// # Errors
    /// Only those of the database itself.
    pub async fn entries(
        &self,
        account: &AccountName,
        everybody: &AccountName,
        at: OffsetDateTime,
    ) -> Result<Vec<EntryRow>, StoreError> {
        let rows: Vec<Columns> = sql::query_as(
            "SELECT id, owner, team, number, CAST(0 AS BIGINT) AS shared, CAST(0 AS BIGINT) AS sudo,
                    CAST(NULL AS BIGINT) AS accepted_at, CAST(NULL AS BIGINT) AS ends_at,
                    CASE WHEN owner = $1 THEN 0 ELSE 2 END AS place
             FROM vms
             WHERE owner IN ($1, $2) AND removing_at IS NULL AND removed_at IS NULL
             UNION ALL
             SELECT vms.id, vms.owner, vms.team, vms.number, 1, shares.sudo, shares.accepted_at, shares.ends_at, 1
             FROM shares
             JOIN vms ON vms.id = shares.vm
             JOIN accounts AS guests ON guests.name = shares.account
             JOIN accounts AS owners ON owners.name = vms.owner
             WHERE shares.account = $1 AND (shares.accepted_at IS NOT NULL OR shares.accept_by > $3)
               AND (shares.ends_at IS NULL OR shares.ends_at > $3)
               AND vms.removing_at IS NULL AND vms.removed_at IS NULL
               AND owners.blocked_at IS NULL AND owners.removed_at IS NULL
               AND guests.blocked_at IS NULL AND guests.removed_at IS NULL
             ORDER BY place, owner, team, number",
        )
        .bind(account.as_str())
        .bind(everybody.as_str())
        .bind(to_millis(at))
        .fetch_all(self.reader())
        .await?;
        rows.into_iter().map(TryInto::try_into).collect()
    }
}
