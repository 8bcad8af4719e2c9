//! What can go wrong in the store, in sentences for the person who asked.

use std::path::PathBuf;

use berth_model::{AccountName, TeamName};

use crate::{
    keys::MAX_KEYS, limits::Limit, links::MAX_INVITATIONS, oidc::MAX_OIDC_IDENTITIES, passkeys::MAX_PASSKEYS,
    shares::MAX_SHARES, tokens::MAX_TOKENS,
};

/// Why the store did not do what it was asked. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// An account or a team has the name, or had it once.
    #[error("The name {name} is taken, or was: names never change hands. Choose another one.")]
    NameTaken {
        /// The name that was asked for.
        name: AccountName,
    },
    /// The default team's name is that of an account, perhaps of a removed one.
    #[error("The team cannot be called {team}: an account has or had that name. Give team another name.")]
    TeamNameTaken {
        /// The name in the configuration.
        team: TeamName,
    },
    /// There is no such account, or not any more.
    #[error("There is no account {name}.")]
    NoSuchAccount {
        /// The name that was asked for.
        name: AccountName,
    },
    /// There is no such team.
    #[error("There is no team {name}.")]
    NoSuchTeam {
        /// The name that was asked for.
        name: TeamName,
    },
    /// There is no such VM, or it is being removed.
    #[error("There is no such VM.")]
    NoSuchVm,
    /// The VM is shared with [`MAX_SHARES`] accounts.
    #[error(
        "This VM is shared with {MAX_SHARES} accounts, and more are not possible. Take it back from one first."
    )]
    TooManyShares,
    /// The account has the key already.
    #[error("The account {account} has this key already.")]
    SameAccountHasKey {
        /// The account.
        account: AccountName,
    },
    /// Another account has the key. Whose is not told.
    #[error("This key is on another account. A key is on one account only: use another key.")]
    AnotherAccountHasKey,
    /// The account has [`MAX_KEYS`] keys.
    #[error("The account {account} has {MAX_KEYS} keys, and more are not possible. Remove one first.")]
    TooManyKeys {
        /// The account.
        account: AccountName,
    },
    /// The account has [`MAX_TOKENS`] tokens.
    #[error("The account {account} has {MAX_TOKENS} tokens, and more are not possible. Remove one first.")]
    TooManyTokens {
        /// The account.
        account: AccountName,
    },
    /// The account has [`MAX_PASSKEYS`] passkeys.
    #[error(
        "The account {account} has {MAX_PASSKEYS} passkeys, and more are not possible. Remove one first."
    )]
    TooManyPasskeys {
        /// The account.
        account: AccountName,
    },
    /// The account has [`MAX_OIDC_IDENTITIES`] accounts elsewhere.
    #[error(
        "{MAX_OIDC_IDENTITIES} accounts elsewhere let in to {account}, and more are not possible. Remove one first."
    )]
    TooManyOidcIdentities {
        /// The account.
        account: AccountName,
    },
    /// There are [`MAX_INVITATIONS`] invitations.
    #[error(
        "There are {MAX_INVITATIONS} invitations that nobody has used yet. Take some of them back first."
    )]
    TooManyInvitations,
    /// With one more VM the account would have more than it may.
    #[error(
        "{account} has {}, and may have {}. Remove a VM first, or ask the operator for more.",
        .what.words(*.has), .what.words(*.limit)
    )]
    OverLimit {
        /// The account.
        account: AccountName,
        /// What there would be too much of.
        what: Limit,
        /// What it has.
        has: u64,
        /// What it may have.
        limit: u64,
    },
    /// A later version of the schema is in the file.
    #[error(
        "The database {database} was made by a newer Berth. Start that version, or put back the copy from before the \
         upgrade."
    )]
    Newer {
        /// The database.
        database: String,
    },
    /// A database, but not one of this program.
    #[error(
        "The database {database} was not made by this version of Berth or an older one. Use another one."
    )]
    Foreign {
        /// The database.
        database: String,
    },
    /// The database on a server cannot be opened.
    #[error("The database {database} cannot be opened: {error}.")]
    Server {
        /// The database.
        database: String,
        /// What the server said, or what is wrong on the way to it. It is told with the sentence, and not again as its source.
        error: sqlx::Error,
    },
    /// The database on a server is none that this program can work with.
    #[error("The database {database} cannot be used: {why}")]
    Unfit {
        /// The database.
        database: String,
        /// A sentence.
        why: &'static str,
    },
    /// The database is from before this program, which has not been started with it.
    #[error(
        "The database {database} is not up to date. Start this version of Berth with it once, and try again."
    )]
    Older {
        /// The database.
        database: String,
    },
    /// There is something in the database already.
    #[error("The database {database} is in use already. Give one with nothing in it.")]
    NotEmpty {
        /// The database.
        database: String,
    },
    /// What was copied is not what it was.
    #[error("The copy of the table {table} is not the same. Nothing was kept of it; please report this.")]
    Differs {
        /// The table.
        table: &'static str,
    },
    /// The file cannot be read as a database.
    #[error(
        "The database {} is damaged, or is no database. Move it away, and put back a copy from a backup.",
        .path.display()
    )]
    Damaged {
        /// The database.
        path: PathBuf,
    },
    /// The file cannot be created, opened or made private.
    #[error("The file of the database, {}, cannot be opened.", .path.display())]
    File {
        /// The database.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Others kept the database busy for longer than a caller should wait.
    #[error("The database is busy. Try again.")]
    Busy,
    /// The database server is not there, or does not answer in time.
    #[error(
        "The database server does not answer. Try again in a moment; if it goes on, the operator has to look at it."
    )]
    Away(#[source] sqlx::Error),
    /// No room on the disk.
    #[error("The disk that the database is on is full. Make room and try again.")]
    DiskFull,
    /// A row says something that this version cannot read.
    #[error("The database has a {what} that this version of Berth cannot read.")]
    Unreadable {
        /// The column.
        what: &'static str,
        /// What is wrong with it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Anything else that the database reports.
    #[error("The database could not do that. Try again; if it goes on, the server's log says why.")]
    Database(#[source] sqlx::Error),
}
