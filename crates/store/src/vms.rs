//! VMs: what each was made as, what it is called, and how far its removal has come.

use std::time::Duration;

use berth_model::{AccountName, Secret, TeamName, Title, VmId, VmName};
use time::OffsetDateTime;

use crate::{
    Limits, Rebuild, Store, StoreError,
    accounts::lock_account,
    convert::{duration, number, optional_time, saturate, text, time, to_millis, vm_name},
    limits,
    sql::{self, Builder, Query, Tx},
};

/// What is told of a VM when it is added.
#[derive(Clone, Debug)]
pub struct NewVm {
    /// Its id: a new random one.
    pub id: VmId,
    /// The account that it belongs to.
    pub owner: AccountName,
    /// The team in whose namespace it is.
    pub team: TeamName,
    /// Virtual CPUs, at least 1.
    pub cpus: u32,
    /// Memory in bytes, at least 1.
    pub memory: u64,
    /// The size of the disk in bytes, at least 1.
    pub disk: u64,
    /// A new ssh host key, private, in OpenSSH's format; it is used only if no earlier VM had the same name.
    pub host_key: Secret<String>,
    /// What the account may have in all, where the operator has set nothing for it alone.
    pub limits: Limits,
}

/// A VM that is there, or is being removed.
#[derive(Clone, Debug)]
pub struct VmRow {
    /// Its id, for life.
    pub id: VmId,
    /// Its number, owner and team. No other live VM has the same.
    pub name: VmName,
    /// Virtual CPUs.
    pub cpus: u32,
    /// Memory in bytes.
    pub memory: u64,
    /// The size of the disk in bytes.
    pub disk: u64,
    /// Its ssh host key, private, in OpenSSH's format. Every VM that ever had this name has it.
    pub host_key: Secret<String>,
    /// When it was added.
    pub created_at: OffsetDateTime,
    /// When its removal was asked for. It is not finished.
    pub removing_at: Option<OffsetDateTime>,
    /// How long its last boot took.
    pub last_boot: Option<Duration>,
    /// How long its last wake took.
    pub last_wake: Option<Duration>,
    /// What its owner calls it.
    pub title: Option<Title>,
    /// It starts with the server, never sleeps, and is started again when it stops by itself.
    pub always_on: bool,
    /// A person turned it off.
    pub turned_off: bool,
    /// It does not sleep before this.
    pub snoozed_until: Option<OffsetDateTime>,
    /// The last time that it was used, and what for.
    pub used: Option<Noted>,
    /// The last time that it was put to sleep, and why.
    pub slept: Option<Noted>,
    /// The last identification line of its sshd, without the line's end.
    pub identification: Option<String>,
    /// It is being rebuilt, and what is to become of its home.
    pub rebuilding: Option<Rebuild>,
    /// When it was last rebuilt.
    pub rebuilt_at: Option<OffsetDateTime>,
    /// How many changes this row has seen.
    pub generation: u64,
}

/// A moment, and what it was about in the words of whoever noted it: at least a character.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Noted {
    /// When.
    pub at: OffsetDateTime,
    /// What.
    pub what: String,
}

#[derive(sqlx::FromRow)]
struct Columns {
    id: String,
    owner: String,
    team: String,
    number: i64,
    cpus: i64,
    memory: i64,
    disk: i64,
    host_key: String,
    created_at: i64,
    removing_at: Option<i64>,
    last_boot_ms: Option<i64>,
    last_wake_ms: Option<i64>,
    title: Option<String>,
    generation: i64,
    always_on: i64,
    turned_off: i64,
    snoozed_until: Option<i64>,
    used_at: Option<i64>,
    used_for: Option<String>,
    slept_at: Option<i64>,
    slept_for: Option<String>,
    identification: Option<String>,
    rebuilding: Option<String>,
    rebuilt_at: Option<i64>,
}

impl TryFrom<Columns> for VmRow {
    type Error = StoreError;

    fn try_from(row: Columns) -> Result<Self, StoreError> {
        Ok(Self {
            id: text("VM's id", &row.id)?,
            name: vm_name(row.number, &row.owner, &row.team)?,
            cpus: number("VM's cpus", row.cpus)?,
            memory: number("VM's memory", row.memory)?,
            disk: number("VM's disk", row.disk)?,
            host_key: Secret::new(row.host_key),
            created_at: time("created_at", row.created_at)?,
            removing_at: optional_time("removing_at", row.removing_at)?,
            last_boot: row.last_boot_ms.map(|millis| duration("last_boot_ms", millis)).transpose()?,
            last_wake: row.last_wake_ms.map(|millis| duration("last_wake_ms", millis)).transpose()?,
            title: row.title.map(|title| text("VM's title", &title)).transpose()?,
            generation: number("generation", row.generation)?,
            always_on: row.always_on != 0,
            turned_off: row.turned_off != 0,
            snoozed_until: optional_time("snoozed_until", row.snoozed_until)?,
            used: noted("used_at", row.used_at, row.used_for)?,
            slept: noted("slept_at", row.slept_at, row.slept_for)?,
            identification: row.identification,
            rebuilding: row.rebuilding.map(|home| text("rebuilding", &home)).transpose()?,
            rebuilt_at: optional_time("rebuilt_at", row.rebuilt_at)?,
        })
    }
}

fn noted(what: &'static str, at: Option<i64>, text: Option<String>) -> Result<Option<Noted>, StoreError> {
    let at = optional_time(what, at)?;
    Ok(at.zip(text).map(|(at, what)| Noted { at, what }))
}

impl Store {
    /// Adds a VM under the lowest number that no live VM of its owner and team has.
    ///
    /// A VM under a name that an earlier one had gets that one's host key, so that what clients know of the host
    /// stays right.
    ///
    /// # Errors
    /// [`StoreError::NoSuchAccount`] and [`StoreError::NoSuchTeam`]; [`StoreError::OverLimit`] where the account would
    /// have more than it may; [`StoreError::Database`] where the id is taken or a size is 0.
    pub async fn add_vm(&self, new: &NewVm, at: OffsetDateTime) -> Result<VmRow, StoreError> {
        let mut tx = self.write().await?;
        lock_account(&mut tx, &new.owner).await?;
        limits::check(&mut tx, new).await?;
        let row: Columns = sql::query_as(
            "WITH free AS (
                 SELECT MIN(candidate.number) AS number
                 FROM (SELECT 0 AS number
                       UNION ALL
                       SELECT number + 1 FROM vms WHERE owner = $2 AND team = $3 AND removed_at IS NULL) AS candidate
                 WHERE NOT EXISTS (SELECT 1 FROM vms AS taken
                                   WHERE taken.owner = $2 AND taken.team = $3 AND taken.removed_at IS NULL
                                     AND taken.number = candidate.number)
             )
             INSERT INTO vms (id, owner, team, number, cpus, memory, disk, host_key, created_at)
             SELECT $1, $2, $3, free.number, $4, $5, $6,
                    COALESCE((SELECT earlier.host_key FROM vms AS earlier
                              WHERE earlier.owner = $2 AND earlier.team = $3 AND earlier.number = free.number
                              LIMIT 1), $7),
                    $8
             FROM free
             RETURNING *",
        )
        .bind(new.id.to_string())
        .bind(new.owner.as_str())
        .bind(new.team.as_str())
        .bind(i64::from(new.cpus))
        .bind(saturate(new.memory))
        .bind(saturate(new.disk))
        .bind(new.host_key.expose())
        .bind(to_millis(at))
        .fetch_one(&mut tx)
        .await
        .map_err(|error| missing_team(error, &new.team))?;
        tx.commit().await?;
        row.try_into()
    }

    /// The live VM of this name, also while it is being removed.
    ///
    /// # Errors
    /// Only those of the database itself.
    pub async fn vm(&self, name: &VmName) -> Result<Option<VmRow>, StoreError> {
        let row: Option<Columns> = sql::query_as(
            "SELECT * FROM vms WHERE owner = $1 AND team = $2 AND number = $3 AND removed_at IS NULL",
        )
        .bind(name.owner.as_str())
        .bind(name.team.as_str())
        .bind(i64::from(name.number.0))
        .fetch_optional(self.reader())
        .await?;
        row.map(TryInto::try_into).transpose()
    }

    /// The live VMs of one account, or all, those included that are being removed, also of an account that was
    /// removed; in the order of owner, team and number.
    ///
    /// # Errors
    /// Only those of the database itself.
    pub async fn vms(&self, owner: Option<&AccountName>) -> Result<Vec<VmRow>, StoreError> {
        let rows: Vec<Columns> =
            match owner {
                Some(owner) => sql::query_as(
                    "SELECT * FROM vms WHERE owner = $1 AND removed_at IS NULL ORDER BY owner, team, number",
                )
                .bind(owner.as_str())
                .fetch_all(self.reader())
                .await?,
                None => {
                    sql::query_as("SELECT * FROM vms WHERE removed_at IS NULL ORDER BY owner, team, number")
                        .fetch_all(self.reader())
                        .await?
                }
            };
        rows.into_iter().map(TryInto::try_into).collect()
    }

    /// Of these VMs the live ones, in no order.
    ///
    /// # Errors
    /// Only those of the database itself; more than some thousand at once is one.
    pub async fn vms_by_id(&self, ids: &[VmId]) -> Result<Vec<VmRow>, StoreError> {
        if ids.is_empty() {
            return Ok(vec![]);
        }
        let mut sql = Builder::new("SELECT * FROM vms WHERE removed_at IS NULL AND id IN (");
        sql.push_list(ids.iter().map(VmId::to_string)).push(")");
        let rows: Vec<Columns> = sql.build().fetch_all(self.reader()).await?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    /// What the VMs of these accounts are called, in the order of owner, team and number, without those that are being
    /// removed.
    ///
    /// # Errors
    /// Only those of the database itself; more than some thousand accounts at once is one.
    pub async fn vm_names(&self, owners: &[&AccountName]) -> Result<Vec<VmName>, StoreError> {
        if owners.is_empty() {
            return Ok(vec![]);
        }
        let mut sql = Builder::new(
            "SELECT owner, team, number FROM vms WHERE removed_at IS NULL AND removing_at IS NULL AND owner IN (",
        );
        sql.push_list(owners.iter().map(|owner| owner.as_str())).push(") ORDER BY owner, team, number");
        let rows: Vec<(String, String, i64)> = sql.build().fetch_all(self.reader()).await?;
        let name = |(whose, team, of): (String, String, i64)| vm_name(of, &whose, &team);
        rows.into_iter().map(name).collect()
    }

    /// Writes down that a VM is to be removed, and gives it. Asked again it keeps the first time; `None` where the VM
    /// is removed.
    ///
    /// # Errors
    /// Only those of the database itself.
    pub async fn begin_removing(&self, id: VmId, at: OffsetDateTime) -> Result<Option<VmRow>, StoreError> {
        let mut tx = self.write().await?;
        let row: Option<Columns> = sql::query_as(
            "UPDATE vms SET removing_at = COALESCE(removing_at, $2), generation = generation + 1
             WHERE id = $1 AND removed_at IS NULL
             RETURNING *",
        )
        .bind(id.to_string())
        .bind(to_millis(at))
        .fetch_optional(&mut tx)
        .await?;
        tx.commit().await?;
        row.map(TryInto::try_into).transpose()
    }

    /// Writes down that nothing of a VM is left: its number is free again. `false`, and nothing is done, where that
    /// was written down before or [`Store::begin_removing`] was not.
    ///
    /// # Errors
    /// Only those of the database itself.
    pub async fn finish_removing(&self, id: VmId, at: OffsetDateTime) -> Result<bool, StoreError> {
        let mut tx = self.write().await?;
        let finished = sql::query(
            "UPDATE vms SET removed_at = $2, generation = generation + 1
             WHERE id = $1 AND removing_at IS NOT NULL AND removed_at IS NULL",
        )
        .bind(id.to_string())
        .bind(to_millis(at))
        .execute(&mut tx)
        .await?;
        tx.commit().await?;
        Ok(finished.rows_affected() > 0)
    }

    /// Writes down whether a VM is always on. Does nothing where it is removed.
    ///
    /// # Errors
    /// Only those of the database itself.
    pub async fn set_always_on(&self, id: VmId, always_on: bool) -> Result<(), StoreError> {
        let change = sql::query(
            "UPDATE vms SET always_on = $2, generation = generation + 1 WHERE id = $1 AND removed_at IS NULL",
        );
        self.change(change.bind(id.to_string()).bind(i64::from(always_on))).await
    }

    /// Writes down whether a person turned a VM off. Does nothing where it is removed.
    ///
    /// # Errors
    /// Only those of the database itself.
    pub async fn set_turned_off(&self, id: VmId, turned_off: bool) -> Result<(), StoreError> {
        let change = sql::query(
            "UPDATE vms SET turned_off = $2, generation = generation + 1
             WHERE id = $1 AND removed_at IS NULL AND turned_off <> $2",
        );
        self.change(change.bind(id.to_string()).bind(i64::from(turned_off))).await
    }

    /// Writes down until when a VM does not sleep. Does nothing where it is removed.
    ///
    /// # Errors
    /// Only those of the database itself.
    pub async fn set_snoozed(&self, id: VmId, until: Option<OffsetDateTime>) -> Result<(), StoreError> {
        let change = sql::query(
            "UPDATE vms SET snoozed_until = $2, generation = generation + 1 WHERE id = $1 AND removed_at IS NULL",
        );
        self.change(change.bind(id.to_string()).bind(until.map(to_millis))).await
    }

    /// Writes down when a VM was last used. Does nothing where it is removed, or a later use was written down.
    ///
    /// # Errors
    /// Only those of the database itself; an empty text is one.
    pub async fn set_used(&self, id: VmId, used: &Noted) -> Result<(), StoreError> {
        let change = sql::query(
            "UPDATE vms SET used_at = $2, used_for = $3, generation = generation + 1
             WHERE id = $1 AND removed_at IS NULL AND (used_at IS NULL OR used_at <= $2)",
        );
        self.change(change.bind(id.to_string()).bind(to_millis(used.at)).bind(used.what.clone())).await
    }

    /// Writes down when a VM was put to sleep. Does nothing where it is removed.
    ///
    /// # Errors
    /// Only those of the database itself; an empty text is one.
    pub async fn set_slept(&self, id: VmId, slept: &Noted) -> Result<(), StoreError> {
        let change = sql::query(
            "UPDATE vms SET slept_at = $2, slept_for = $3, generation = generation + 1
             WHERE id = $1 AND removed_at IS NULL",
        );
        self.change(change.bind(id.to_string()).bind(to_millis(slept.at)).bind(slept.what.clone())).await
    }

    /// Writes down the identification line of a VM's sshd. Does nothing where it is removed.
    ///
    /// # Errors
    /// Only those of the database itself; a text that is no such line (RFC 4253, 4.2) is one.
    pub async fn set_identification(&self, id: VmId, line: &str) -> Result<(), StoreError> {
        let change = sql::query(
            "UPDATE vms SET identification = $2, generation = generation + 1
             WHERE id = $1 AND removed_at IS NULL AND (identification IS NULL OR identification <> $2)",
        );
        self.change(change.bind(id.to_string()).bind(line.to_owned())).await
    }

    async fn change(&self, change: Query) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        change.execute(&mut tx).await?;
        Ok(tx.commit().await?)
    }

    /// Writes down how long the last boot of a VM took, to the millisecond. Does nothing where it is removed.
    ///
    /// # Errors
    /// Only those of the database itself.
    pub async fn set_last_boot(&self, id: VmId, took: Duration) -> Result<(), StoreError> {
        let change = sql::query(
            "UPDATE vms SET last_boot_ms = $2, generation = generation + 1 WHERE id = $1 AND removed_at IS NULL",
        );
        self.change(change.bind(id.to_string()).bind(saturate(took.as_millis()))).await
    }

    /// Writes down how long the last wake of a VM took, to the millisecond. Does nothing where it is removed.
    ///
    /// # Errors
    /// Only those of the database itself.
    pub async fn set_last_wake(&self, id: VmId, took: Duration) -> Result<(), StoreError> {
        let change = sql::query(
            "UPDATE vms SET last_wake_ms = $2, generation = generation + 1 WHERE id = $1 AND removed_at IS NULL",
        );
        self.change(change.bind(id.to_string()).bind(saturate(took.as_millis()))).await
    }

    /// Writes down what a VM is called by its owner; `None` for nothing. Does nothing where it is removed.
    ///
    /// # Errors
    /// Only those of the database itself.
    pub async fn set_title(&self, id: VmId, title: Option<&Title>) -> Result<(), StoreError> {
        let change = sql::query(
            "UPDATE vms SET title = $2, generation = generation + 1 WHERE id = $1 AND removed_at IS NULL",
        );
        self.change(change.bind(id.to_string()).bind(title.map(|title| title.as_str().to_owned()))).await
    }
}

/// Marks every live VM of an account as being removed, and gives them in the order of their names.
pub(crate) async fn begin_removing_all(
    tx: &mut Tx,
    owner: &AccountName,
    at: OffsetDateTime,
) -> Result<Vec<VmRow>, StoreError> {
    let rows: Vec<Columns> = sql::query_as(
        "UPDATE vms SET removing_at = COALESCE(removing_at, $2), generation = generation + 1
         WHERE owner = $1 AND removed_at IS NULL
         RETURNING *",
    )
    .bind(owner.as_str())
    .bind(to_millis(at))
    .fetch_all(&mut *tx)
    .await?;
    let mut vms: Vec<VmRow> = rows.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?;
    vms.sort_by_cached_key(|vm| (vm.name.team.clone(), vm.name.number));
    Ok(vms)
}

/// The owner's row is locked: only the team can be what a new row's foreign keys do not find.
fn missing_team(error: sqlx::Error, team: &TeamName) -> StoreError {
    match error.as_database_error().is_some_and(|error| error.is_foreign_key_violation()) {
        true => StoreError::NoSuchTeam { name: team.clone() },
        false => error.into(),
    }
}
