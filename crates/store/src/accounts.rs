//! Accounts and teams, and the namespace that they share.

use berth_model::{AccountName, TeamName, VmName};
use time::OffsetDateTime;

use crate::{
    KeyRow, Role, SecretHash, Store, StoreError, VmRow,
    audit::containing,
    convert::{number, optional_time, saturate, text, time, to_millis},
    ids::next_id,
    keys, links, oidc, passkeys, sessions, shares,
    sql::{self, Builder, Tx},
    tokens, vms,
};

/// A live account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountRow {
    /// Its name, and its VMs' Linux user.
    pub name: AccountName,
    /// What it may do.
    pub role: Role,
    /// When it was added.
    pub created_at: OffsetDateTime,
    /// Since when it is blocked.
    pub blocked_at: Option<OffsetDateTime>,
    /// How many keys it has.
    pub keys: usize,
    /// How many VMs it has, those included that are being removed.
    pub vms: usize,
}

/// Which accounts somebody wants to see, in the order of their names: those for which everything holds that is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountsQuery {
    /// With this in their name.
    pub text: String,
    /// After this name.
    pub after: Option<AccountName>,
    /// Those that are blocked, or those that are not.
    pub blocked: Option<bool>,
    /// So many at most.
    pub most: usize,
}

/// What an account had when it was removed.
#[derive(Clone, Debug)]
pub struct RemovedAccount {
    /// Its keys, in the order in which they were added. They are gone.
    pub keys: Vec<KeyRow>,
    /// The VMs of others that were shared with it, or that it was asked to share. They are shared with it no more.
    pub shared: Vec<VmName>,
    /// Its VMs, in the order of their names. They are marked as being removed.
    pub vms: Vec<VmRow>,
    /// The cookies of its sessions, and its tokens. They are gone.
    pub cookies_and_tokens: Vec<SecretHash>,
}

#[derive(sqlx::FromRow)]
struct Columns {
    name: String,
    role: String,
    created_at: i64,
    blocked_at: Option<i64>,
    keys: i64,
    vms: i64,
}

impl TryFrom<Columns> for AccountRow {
    type Error = StoreError;

    fn try_from(row: Columns) -> Result<Self, StoreError> {
        Ok(Self {
            name: text("account name", &row.name)?,
            role: text("role", &row.role)?,
            created_at: time("created_at", row.created_at)?,
            blocked_at: optional_time("blocked_at", row.blocked_at)?,
            keys: number("number of keys", row.keys)?,
            vms: number("number of VMs", row.vms)?,
        })
    }
}

const SELECT: &str = "SELECT name, role, created_at, blocked_at,
            (SELECT COUNT(*) FROM keys WHERE keys.account = accounts.name) AS keys,
            (SELECT COUNT(*) FROM vms WHERE vms.owner = accounts.name AND vms.removed_at IS NULL) AS vms
     FROM accounts
     WHERE removed_at IS NULL AND name <> 'shared'";

impl Store {
    /// Adds an account: a member, or, where it is the first one ever, the operator.
    ///
    /// # Errors
    /// [`StoreError::NameTaken`] where an account or a team has, or once had, the name.
    pub async fn add_account(&self, name: &AccountName, at: OffsetDateTime) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        insert(&mut tx, name, Role::Member, at).await?;
        Ok(tx.commit().await?)
    }

    /// Removes an account: its keys and all else that lets people in are gone, its name stays taken, and its VMs are
    /// marked as being removed.
    ///
    /// Gives exactly what the account had, for the caller to end what the keys opened, and to remove the VMs and then
    /// say so with [`Store::finish_removing`].
    ///
    /// # Errors
    /// [`StoreError::NoSuchAccount`], also when it was removed before.
    pub async fn remove_account(
        &self,
        name: &AccountName,
        at: OffsetDateTime,
    ) -> Result<RemovedAccount, StoreError> {
        let mut tx = self.write().await?;
        lock_account(&mut tx, name).await?;
        sql::query("UPDATE accounts SET removed_at = $2 WHERE name = $1")
            .bind(name.as_str())
            .bind(to_millis(at))
            .execute(&mut tx)
            .await?;
        let keys = keys::remove_all(&mut tx, name).await?;
        let shared = shares::remove_all(&mut tx, name).await?;
        let vms = vms::begin_removing_all(&mut tx, name, at).await?;
        let mut cookies_and_tokens = sessions::end_all(&mut tx, name, None).await?;
        cookies_and_tokens.extend(tokens::remove_all(&mut tx, name).await?);
        passkeys::remove_all(&mut tx, name).await?;
        oidc::remove_all(&mut tx, name).await?;
        links::remove_all(&mut tx, name).await?;
        sql::query("DELETE FROM passwords WHERE account = $1").bind(name.as_str()).execute(&mut tx).await?;
        tx.commit().await?;
        Ok(RemovedAccount { keys, shared, vms, cookies_and_tokens })
    }

    /// The live accounts in the order of their names.
    ///
    /// # Errors
    /// Only those of the database itself.
    pub async fn accounts(&self) -> Result<Vec<AccountRow>, StoreError> {
        self.accounts_page(&AccountsQuery { most: usize::MAX, ..AccountsQuery::default() }).await
    }

    /// Some of the live accounts in the order of their names.
    ///
    /// # Errors
    /// Only those of the database itself.
    pub async fn accounts_page(&self, query: &AccountsQuery) -> Result<Vec<AccountRow>, StoreError> {
        let mut sql = Builder::new(SELECT);
        if !query.text.is_empty() {
            sql.push(" AND name LIKE ").push_bind(containing(&query.text)).push(" ESCAPE '!'");
        }
        if let Some(after) = &query.after {
            sql.push(" AND name > ").push_bind(after.as_str());
        }
        match query.blocked {
            Some(true) => sql.push(" AND blocked_at IS NOT NULL"),
            Some(false) => sql.push(" AND blocked_at IS NULL"),
            None => &mut sql,
        };
        sql.push(" ORDER BY name LIMIT ").push_bind(saturate(query.most));
        let rows: Vec<Columns> = sql.build().fetch_all(self.reader()).await?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    /// A live account.
    ///
    /// # Errors
    /// Only those of the database itself.
    pub async fn account(&self, name: &AccountName) -> Result<Option<AccountRow>, StoreError> {
        let mut sql = Builder::new(SELECT);
        sql.push(" AND name = ").push_bind(name.as_str());
        let row: Option<Columns> = sql.build().fetch_optional(self.reader()).await?;
        row.map(TryInto::try_into).transpose()
    }

    /// How many live accounts there are.
    ///
    /// # Errors
    /// Only those of the database itself.
    pub async fn count_accounts(&self) -> Result<usize, StoreError> {
        let count =
            sql::query_scalar("SELECT COUNT(*) FROM accounts WHERE removed_at IS NULL AND name <> 'shared'");
        number("number of accounts", count.fetch_one(self.reader()).await?)
    }

    /// Whether there is such an account that was not removed.
    ///
    /// # Errors
    /// Only those of the database itself.
    pub async fn account_exists(&self, name: &AccountName) -> Result<bool, StoreError> {
        let found = sql::query("SELECT 1 FROM accounts WHERE name = $1 AND removed_at IS NULL")
            .bind(name.as_str())
            .fetch_optional(self.reader())
            .await?;
        Ok(found.is_some())
    }

    /// Whether an account or a team has, or once had, a name.
    ///
    /// # Errors
    /// Only those of the database itself.
    pub async fn name_is_taken(&self, name: &AccountName) -> Result<bool, StoreError> {
        let found = sql::query("SELECT 1 FROM names WHERE name = $1")
            .bind(name.as_str())
            .fetch_optional(self.reader())
            .await?;
        Ok(found.is_some())
    }

    pub(crate) async fn ensure_team(&self, name: &TeamName) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        sql::query("INSERT INTO names (name, kind) VALUES ($1, 'team') ON CONFLICT (name) DO NOTHING")
            .bind(name.as_str())
            .execute(&mut tx)
            .await?;
        let kind: String = sql::query_scalar("SELECT kind FROM names WHERE name = $1")
            .bind(name.as_str())
            .fetch_one(&mut tx)
            .await?;
        if kind != "team" {
            return Err(StoreError::TeamNameTaken { team: name.clone() });
        }
        sql::query("INSERT INTO teams (name) VALUES ($1) ON CONFLICT (name) DO NOTHING")
            .bind(name.as_str())
            .execute(&mut tx)
            .await?;
        Ok(tx.commit().await?)
    }
}

/// Adds an account of that role, or the operator where it is the first one ever.
pub(crate) async fn insert(
    tx: &mut Tx,
    name: &AccountName,
    role: Role,
    at: OffsetDateTime,
) -> Result<(), StoreError> {
    let free =
        sql::query("INSERT INTO names (name, kind) VALUES ($1, 'account') ON CONFLICT (name) DO NOTHING")
            .bind(name.as_str())
            .execute(&mut *tx)
            .await?;
    if free.rows_affected() == 0 {
        return Err(StoreError::NameTaken { name: name.clone() });
    }
    let role = if next_id(tx, "accounts").await? == 1 { Role::Operator } else { role };
    sql::query("INSERT INTO accounts (name, role, created_at) VALUES ($1, $2, $3)")
        .bind(name.as_str())
        .bind(role.as_str())
        .bind(to_millis(at))
        .execute(&mut *tx)
        .await?;
    Ok(())
}

/// Begins a change of what belongs to a live account: until the transaction ends, no other one begins.
pub(crate) async fn lock_account(tx: &mut Tx, name: &AccountName) -> Result<(), StoreError> {
    let locked =
        sql::query("UPDATE accounts SET generation = generation + 1 WHERE name = $1 AND removed_at IS NULL")
            .bind(name.as_str())
            .execute(&mut *tx)
            .await?;
    match locked.rows_affected() {
        0 => Err(StoreError::NoSuchAccount { name: name.clone() }),
        _ => Ok(()),
    }
}
