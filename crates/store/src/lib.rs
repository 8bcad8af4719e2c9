//! Accounts, keys, log-ins and VMs in a database.
//!
//! Owns the facts that outlive a restart, the rules that hold between them, and the SQL; nobody else writes any. Owns
//! no conclusions: what a VM is doing is asked of its engine, whether somebody may enter is decided in
//! `berth-control`. Knows no clock: times are parameters, and are kept to the millisecond.
//!
//! ```text
//!   names ─┬─ accounts ─┬─ keys      a key's row goes when the key is removed
//!          │            ├─ vms       a VM's row stays: its name keeps its host key
//!          │            │   ├─ ports   who may see them
//!          │            │   └─ shares  with which other accounts
//!          │            └─ passwords, login sessions, links, tokens: hashes only
//!          │            ├─ passkeys, OIDC identities: nothing secret
//!          └─ teams ──────┘
//!   audit        what happened; refers to nothing, so that it outlives what it is about
//! ```
//!
//! # Concurrency
//! A [`Store`] is cheap to clone and may be used from any number of tasks, and by several processes. Every call that
//! changes something is one transaction, and when it returns, its change is on disk. On an error nothing has changed.
//! When the future of a call is dropped, all of its change happens or nothing, and before any later one begins; which
//! of the two, only a look can tell.
//!
//! Additions to an account, and its removal, begin by raising the generation of the account's row, so that they happen
//! one after the other in a database with row locks too.
//!
//! # Which database
//! SQLite in a file, or PostgreSQL on a server. There is one text of each statement, which both take (`sql` runs it on
//! either); all that only one of them has (pragmas, locks, error codes) is in a module of its own, `sqlite` and `postgres`,
//! and so are the migrations. Nothing else knows which it is, and every test runs on both.

mod accounts;
mod audit;
mod convert;
mod database;
mod disks;
mod entries;
mod error;
mod hash;
mod host_cas;
mod ids;
mod keys;
mod limits;
mod links;
mod oidc;
mod passkeys;
mod passwords;
mod place;
mod ports;
mod postgres;
mod roles;
mod sessions;
mod shares;
mod sql;
mod sqlite;
mod team_cas;
#[cfg(test)]
mod tests;
mod tokens;
mod user_ca;
mod vms;
mod words;

pub use accounts::{AccountRow, AccountsQuery, RemovedAccount};
pub use audit::{AUDIT_PAGE, AuditEntry, AuditId, AuditKind, AuditQuery, AuditRow, NewAudit, Traffic, Way};
pub use database::{Changes, Store, schema_version};
pub use disks::Rebuild;
pub use entries::{EntryRow, EntryShare};
pub use error::StoreError;
pub use hash::{SecretHash, SecretHashError};
pub use host_cas::{HostCaRow, MAX_HOST_CAS};
pub use keys::{KeyId, KeyRow, LastUse, MAX_KEYS, NewKey};
pub use limits::{Limit, Limits, OwnLimits};
pub use links::{Invitation, LinkId, LinkPurpose, LinkRow, MAX_INVITATIONS, MAX_LINKS, NewLink};
pub use oidc::{MAX_OIDC_IDENTITIES, OidcId, OidcIdentity, OidcRow};
pub use passkeys::{MAX_PASSKEY_LABEL, MAX_PASSKEYS, NewPasskey, PasskeyId, PasskeyRow, PasskeyUse};
pub use passwords::PasswordRow;
pub use place::{Copied, Place};
pub use ports::{MAX_PORTS, PortAccess, PortRow, SiteRow};
pub use postgres::{Server, ServerError};
pub use roles::{Role, ShutOut};
pub use sessions::{
    BegunSession, LoginSessionRow, LoginWay, MAX_LOGIN_SESSIONS, NewLoginSession, SessionId, SessionLife,
};
pub use shares::{MAX_SHARES, MemberRow, NewShare, ShareRow};
pub use team_cas::{AddedTeamCa, MAX_TEAM_CAS, TeamCaRow};
pub use tokens::{MAX_TOKEN_LABEL, MAX_TOKENS, NewToken, Scope, TokenId, TokenRow};
pub use vms::{NewVm, Noted, VmRow};
pub use words::Unknown;
