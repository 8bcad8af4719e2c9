//! What can be refused or go wrong, in whole sentences for the person who asked.

use berth_engine::EngineError;
use berth_model::{AccountName, KeyError, KrlError, PasteError, VmName};
use berth_store::{MAX_SHARES, Scope, StoreError};
use time::OffsetDateTime;

use crate::{certificate::CertificateError, lifecycle::Refusal};

/// The sort of an error: what HTTP, ssh and exit codes are made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// What was asked makes no sense as it stands.
    Invalid,
    /// It is not known who asks.
    Unauthenticated,
    /// Who asks may not.
    Denied,
    /// There is no such thing, or none that the asker may know of.
    Missing,
    /// It clashes with what there is.
    Conflict,
    /// It does not work now and may later.
    Unavailable,
}

/// Why an administrative request was refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name is, or was, somebody's.
    #[error("The name {0} is taken, or was once: names never change hands. Choose another.")]
    NameTaken(String),
    /// No account has this name.
    #[error("There is no account {0}. See: berth admin account list")]
    NoSuchAccount(AccountName),
    /// Nothing in the paste could be taken.
    #[error(transparent)]
    Paste(#[from] PasteError),
    /// No key of the account is meant by this.
    #[error("{account} has no key {which:?}. See: berth admin key list {account}")]
    NoSuchKey {
        /// Whose keys were searched.
        account: AccountName,
        /// What was asked for.
        which: String,
    },
    /// Several keys are meant by this.
    #[error(
        "{account} has more than one key {which:?}. Name it by its fingerprint: berth admin key list {account}"
    )]
    AmbiguousKey {
        /// Whose keys were searched.
        account: AccountName,
        /// What was asked for.
        which: String,
    },
    /// No VM is meant by this.
    #[error("There is no VM {0:?}. See: berth admin vm list")]
    NoSuchVm(String),
    /// It was taken back by somebody who asked later.
    #[error("{0} was stopped by somebody else in the meantime.")]
    Overruled(VmName),
    /// It is being removed.
    #[error("{0} is being removed.")]
    BeingRemoved(VmName),
    /// It is getting a new disk.
    #[error("{0} is being rebuilt. Wait until that is done.")]
    Rebuilding(VmName),
    /// Nobody waits for its new disk any more.
    #[error("The server is stopped, and {0} is rebuilt when it starts again.")]
    RebuildGoesOn(VmName),
    /// It did not get a new disk.
    #[error("{vm} could not be rebuilt: {reason}. Nothing was lost: it has the disk that it had.")]
    NotRebuilt {
        /// Which VM.
        vm: VmName,
        /// A clause without a full stop.
        reason: String,
    },
    /// Its disk would be smaller than it is.
    #[error(
        "{vm} has a disk of {}, and a disk only grows: a smaller one could lose files. Ask for more than that.",
        gigabytes(*.has)
    )]
    SmallerDisk {
        /// Which VM.
        vm: VmName,
        /// The bytes that it has.
        has: u64,
    },
    /// The host does not have that much.
    #[error(
        "The host has {} of disk left, and {vm} would need {} more. Nothing was changed.",
        gigabytes(*.free), gigabytes(*.more)
    )]
    NoRoomForDisk {
        /// Which VM.
        vm: VmName,
        /// Bytes that would come to its disk.
        more: u64,
        /// Bytes that are free on the host.
        free: u64,
    },
    /// Its disk can be replaced when it is off.
    #[error("{0} is not off. Stop it first: berth admin vm stop {0}")]
    NotOff(VmName),
    /// The file that was to be its disk cannot be that.
    #[error("The file cannot be the disk of {vm}: {reason}. Nothing was changed.")]
    UnfitDisk {
        /// Which VM.
        vm: VmName,
        /// A clause without a full stop.
        reason: String,
    },
    /// Another server is taking its place, or has.
    #[error("This server is being replaced by a newer one, which does that: connect once more.")]
    Replaced,
    /// Something is under way that two servers must not do at once.
    #[error(
        "The server cannot be replaced now: {}. Nothing has happened; try again when that is done.",
        .0.as_ref().map_or_else(|| "something is being changed".to_owned(), |vm| format!("{vm} is being stopped, rebuilt or removed"))
    )]
    NotQuiet(Option<VmName>),
    /// It is on its way from one thing to another, again and again.
    #[error("The disk of {0} was not copied: it was started and stopped meanwhile. Try again.")]
    Restless(VmName),
    /// It cannot sleep, since it does not run.
    #[error("{0} is not running, so it cannot be put to sleep.")]
    NotRunning(VmName),
    /// Somebody is connecting to it.
    #[error("Somebody is connecting to {0} at this moment. Try again.")]
    InUse(VmName),
    /// It never sleeps.
    #[error("{0} is always-on. Take that back first: berth admin vm always-on {0} off")]
    AlwaysOn(VmName),
    /// The token that it was asked with is for other things.
    #[error("This token may not do that: it lacks the scope {0}.")]
    NotInScope(Scope),
    /// It was decided who may see a port that nobody can.
    #[error("Port {port} of a VM cannot be seen on the web. Ports 80 and 1024 to 65535 can.")]
    NoSite {
        /// Which port.
        port: u16,
    },
    /// It is decided about too many ports of one VM.
    #[error("It is decided for {most} ports of this VM who may see them. Take one of them back first.")]
    TooManyPorts {
        /// So many there can be.
        most: usize,
    },
    /// It is shared with its own owner.
    #[error("{0} is theirs already: share it with another account.")]
    OwnVm(VmName),
    /// It is everybody's who could be asked.
    #[error("{0} is the team's: every member is let into it.")]
    TeamVm(VmName),
    /// It is shared until a time that is over.
    #[error("That moment is over. Choose one that is to come.")]
    OverAlready,
    /// It is shared with too many.
    #[error(
        "{0} is shared with {MAX_SHARES} accounts, and more are not possible. Take it back from one of them first."
    )]
    TooManyShares(VmName),
    /// It is not shared with that account.
    #[error("{vm} is not shared with {account}.")]
    NotShared {
        /// Which VM.
        vm: VmName,
        /// Which account.
        account: AccountName,
    },
    /// It was to stay awake for too long.
    #[error("A VM can be told to stay awake for a week at most. For longer, mark it always-on.")]
    TooLong,
    /// The VM did not come up.
    #[error("{vm} could not start: {reason}. Nothing was lost.")]
    StartFailed {
        /// Which VM.
        vm: VmName,
        /// A clause without a full stop.
        reason: String,
    },
    /// The VM did not wake.
    #[error(
        "{vm} could not be woken: {reason}. Nothing on its disk was lost. To give up what was in its memory and start it from its \
         disk: berth admin vm start --from-disk {vm}"
    )]
    WakeFailed {
        /// Which VM.
        vm: VmName,
        /// A clause without a full stop.
        reason: String,
    },
    /// The engine could not do it.
    #[error("{vm}: {cause}.")]
    Engine {
        /// Which VM.
        vm: VmName,
        /// What the engine says.
        cause: EngineError,
    },
    /// The key that signs for log-ins to VMs cannot be read.
    #[error(
        "The key that signs for log-ins to VMs is damaged in the database (table user_ca). Restore the database from a \
         backup; or delete that row, and a new key is made at the next start."
    )]
    UserCaDamaged,
    /// A key that signs certificates of hosts cannot be read.
    #[error(
        "A key that signs certificates of hosts is damaged in the database (table host_cas). Restore the database from a \
         backup; or delete that row, and a new key is made at the next start, which clients have to be told of."
    )]
    HostCaDamaged,
    /// No key that signs certificates of hosts is meant by this.
    #[error("There is no host CA {0}. See: berth admin host-ca list")]
    NoSuchHostCa(String),
    /// There is no place for another key that signs certificates of hosts.
    #[error(
        "There are {most} host CAs already: one that signs, and one before or after it. Remove one first."
    )]
    TooManyHostCas {
        /// So many there can be.
        most: usize,
    },
    /// The key that signs certificates of hosts cannot go.
    #[error("This host CA signs. Have another one sign first: berth admin host-ca use FINGERPRINT")]
    HostCaSigns,
    /// No CA of members is meant by this.
    #[error("There is no CA {0:?}, or more than one. Name it by its fingerprint: berth admin team ca list")]
    NoSuchTeamCa(String),
    /// There is no place for another CA of members.
    #[error("There are {most} CAs already, and more are not possible. Remove one first.")]
    TooManyTeamCas {
        /// So many there can be.
        most: usize,
    },
    /// What was given is not one key.
    #[error("Give one public key: the .pub file of the CA.")]
    NotOneTeamCa,
    /// What was given cannot sign.
    #[error(transparent)]
    NoTeamCa(KeyError),
    /// What was given has options before it.
    #[error("Give the CA's key without options before it.")]
    TeamCaWithOptions,
    /// What was given takes nothing back.
    #[error(transparent)]
    Krl(KrlError),
    /// What was taken back cannot be read.
    #[error(
        "The list of revoked certificates is damaged in the database (table team_krls). Restore the database from a backup; or \
         delete that row and load the list again: berth admin team ca revoke FILE"
    )]
    TeamKrlDamaged,
    /// There is no such recording.
    #[error("There is no recording {0:?}. See: berth admin recording list")]
    NoSuchRecording(String),
    /// The files of recordings cannot be read or written.
    #[error("The recordings cannot be got at: {0}.")]
    Recordings(String),
    /// The store refused or failed. Nothing was changed.
    #[error(transparent)]
    Store(StoreError),
}

impl Error {
    /// The sort of this error.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Error::Paste(_)
            | Error::TooLong
            | Error::NoSite { .. }
            | Error::OwnVm(_)
            | Error::TeamVm(_)
            | Error::OverAlready
            | Error::NotOneTeamCa
            | Error::NoTeamCa(_)
            | Error::TeamCaWithOptions
            | Error::Krl(_)
            | Error::UnfitDisk { .. }
            | Error::SmallerDisk { .. } => Kind::Invalid,
            Error::NoSuchAccount(_)
            | Error::NoSuchKey { .. }
            | Error::NoSuchVm(_)
            | Error::NoSuchHostCa(_)
            | Error::NoSuchRecording(_)
            | Error::NoSuchTeamCa(_)
            | Error::NotShared { .. } => Kind::Missing,
            Error::NameTaken(_)
            | Error::AmbiguousKey { .. }
            | Error::Overruled(_)
            | Error::NotRunning(_)
            | Error::NotOff(_)
            | Error::Restless(_)
            | Error::NotQuiet(_)
            | Error::InUse(_)
            | Error::AlwaysOn(_)
            | Error::TooManyPorts { .. }
            | Error::TooManyHostCas { .. }
            | Error::TooManyTeamCas { .. }
            | Error::HostCaSigns
            | Error::TooManyShares(_)
            | Error::Rebuilding(_)
            | Error::BeingRemoved(_) => Kind::Conflict,
            Error::NotInScope(_) | Error::Store(StoreError::OverLimit { .. }) => Kind::Denied,
            Error::StartFailed { .. }
            | Error::WakeFailed { .. }
            | Error::NotRebuilt { .. }
            | Error::RebuildGoesOn(_)
            | Error::NoRoomForDisk { .. }
            | Error::Engine { .. }
            | Error::Recordings(_)
            | Error::Replaced
            | Error::UserCaDamaged
            | Error::HostCaDamaged
            | Error::TeamKrlDamaged
            | Error::Store(_) => Kind::Unavailable,
        }
    }

    pub(crate) fn refused(vm: &VmName, refusal: Refusal) -> Self {
        let vm = vm.clone();
        match refusal {
            Refusal::Overruled => Error::Overruled(vm),
            Refusal::Removed => Error::BeingRemoved(vm),
            Refusal::Rebuilding => Error::Rebuilding(vm),
            Refusal::InUse => Error::InUse(vm),
            Refusal::NotRunning => Error::NotRunning(vm),
            Refusal::Engine(EngineError::WakeFailed { reason }) => Error::WakeFailed { vm, reason },
            Refusal::Engine(EngineError::StartFailed { reason }) => Error::StartFailed { vm, reason },
            Refusal::Engine(cause) => Error::Engine { vm, cause },
        }
    }

    pub(crate) fn not_rebuilt(vm: &VmName, refusal: Refusal) -> Self {
        match refusal {
            // It sleeps as before, and there is something to do about it.
            Refusal::Engine(EngineError::WakeFailed { .. }) => Self::refused(vm, refusal),
            Refusal::Engine(cause) => Self::NotRebuilt { vm: vm.clone(), reason: cause.to_string() },
            refusal => Self::refused(vm, refusal),
        }
    }
}

/// Bytes as people say them.
fn gigabytes(bytes: u64) -> String {
    format!("{:.1} GB", bytes as f64 / f64::from(1 << 30)).replace(".0 GB", " GB")
}

impl From<StoreError> for Error {
    fn from(cause: StoreError) -> Self {
        match cause {
            StoreError::NameTaken { name } => Error::NameTaken(name.to_string()),
            StoreError::NoSuchAccount { name } => Error::NoSuchAccount(name),
            cause @ StoreError::OverLimit { .. } => Error::Store(cause),
            cause => {
                tracing::error!(error = ?cause, "the store failed");
                Error::Store(cause)
            }
        }
    }
}

/// Why a verified key does not let its owner in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// It belongs to no account.
    #[error(
        "This key is not on any account here. Add it at {website}/account/keys and try again. Fingerprint: {fingerprint}"
    )]
    UnknownKey {
        /// The website's address.
        website: String,
        /// The key that was offered.
        fingerprint: berth_model::Fingerprint,
    },
    /// Its time is over.
    #[error("This key expired on {}. Add a new one at {website}/account/keys and try again.", .on.date())]
    Expired {
        /// When.
        on: OffsetDateTime,
        /// The website's address.
        website: String,
    },
    /// Its `from=` does not name the client's address.
    #[error(
        "This key may not be used from this address (its from= option). Use it from one that it names, or change it at {website}/account/keys."
    )]
    WrongAddress {
        /// The website's address.
        website: String,
    },
    /// It is a certificate that does not count.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// It cannot be found out now.
    #[error("Berth cannot check keys right now. Try again in a minute.")]
    Unavailable,
}

impl LoginError {
    /// The sort of this error.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            LoginError::UnknownKey { .. } => Kind::Unauthenticated,
            LoginError::Expired { .. } | LoginError::WrongAddress { .. } | LoginError::Certificate(_) => {
                Kind::Denied
            }
            LoginError::Unavailable => Kind::Unavailable,
        }
    }
}

/// Why a login may not connect to what it named. Unknown and forbidden are one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// There is none of that name, or it is somebody else's.
    #[error("There is no VM {asked} that you can enter. {}", what_is_yours(.account, .yours))]
    NoSuchVm {
        /// What was asked for, cut short and safe to print.
        asked: String,
        /// Who asked.
        account: AccountName,
        /// What the login could enter.
        yours: Vec<VmName>,
    },
    /// What was asked for is the beginning of the name of one that the login can enter.
    #[error("A VM is asked for by its whole name here: {whole}.")]
    ShortName {
        /// The whole name.
        whole: String,
    },
    /// The VM is the login's, the port is not to be had.
    #[error("Port {port} is not open to you on a VM. Ports 22, 80 and 1024 to 65535 are.")]
    PortNotAllowed {
        /// What was asked for.
        port: u32,
    },
    /// The certificate that it was logged in with is for shells alone.
    #[error("Your certificate lets you in on port 22 alone: it has no permit-port-forwarding.")]
    NoForwarding,
    /// It cannot be found out now.
    #[error("Berth cannot look up your VMs right now. Try again in a minute.")]
    Unavailable,
}

impl EntryError {
    /// The sort of this error.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            EntryError::NoSuchVm { .. } | EntryError::ShortName { .. } => Kind::Missing,
            EntryError::PortNotAllowed { .. } | EntryError::NoForwarding => Kind::Denied,
            EntryError::Unavailable => Kind::Unavailable,
        }
    }
}

fn what_is_yours(account: &AccountName, vms: &[VmName]) -> String {
    let (yours, others): (Vec<&VmName>, Vec<&VmName>) = vms.iter().partition(|vm| vm.owner == *account);
    let (teams, shared): (Vec<&VmName>, Vec<&VmName>) = others.into_iter().partition(|vm| vm.is_of_team());
    let mut text = match yours.as_slice() {
        [] => "You have no VM yet: make one on the website.".to_owned(),
        yours => {
            let labels: Vec<_> = yours.iter().map(|vm| vm.label()).collect();
            format!("Yours: {}.", labels.join(", "))
        }
    };
    for (whose, vms) in [("Shared with you", shared), ("The team's", teams)] {
        if !vms.is_empty() {
            let names: Vec<_> = vms.iter().map(ToString::to_string).collect();
            text.push_str(&format!(" {whose}: {}.", names.join(", ")));
        }
    }
    text
}

/// Why a connection that is allowed could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The VM was off and did not come up.
    #[error("{} could not start: {reason}. Nothing was lost.", .vm.label())]
    StartFailed {
        /// Which VM.
        vm: VmName,
        /// A clause without a full stop.
        reason: String,
    },
    /// The VM was asleep and did not wake.
    #[error(
        "{} could not be woken: {reason}. Nothing on its disk was lost. If it stays so, ask the operator of this server to start it \
         from its disk, which gives up what was open in it.",
        .vm.label()
    )]
    WakeFailed {
        /// Which VM.
        vm: VmName,
        /// A clause without a full stop.
        reason: String,
    },
    /// It runs, and no program listens on that port.
    #[error("{} is running, but nothing in it listens on port {port}.", .vm.label())]
    Refused {
        /// Which VM.
        vm: VmName,
        /// Which port.
        port: u16,
    },
    /// It runs and does not answer.
    #[error("{} is running but does not answer on port {port}. If this goes on, ask the operator to stop and start it.", .vm.label())]
    Silent {
        /// Which VM.
        vm: VmName,
        /// Which port.
        port: u16,
    },
    /// Somebody stopped it in this moment.
    #[error("{} was stopped while it was starting. Connect again to start it.", .vm.label())]
    Stopped {
        /// Which VM.
        vm: VmName,
    },
    /// It was removed.
    #[error("{} was removed.", .vm.label())]
    Removed {
        /// Which VM.
        vm: VmName,
    },
    /// It was shared, and is no longer.
    #[error("{vm} is not shared with you any more.")]
    NotShared {
        /// Which VM.
        vm: VmName,
    },
    /// The host cannot.
    #[error("{} cannot be reached: {reason}. Ask the operator of this server.", .vm.label())]
    Unavailable {
        /// Which VM.
        vm: VmName,
        /// A clause without a full stop.
        reason: String,
    },
}

impl ConnectError {
    /// The sort of this error.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            ConnectError::Removed { .. } | ConnectError::NotShared { .. } => Kind::Missing,
            ConnectError::StartFailed { .. }
            | ConnectError::WakeFailed { .. }
            | ConnectError::Refused { .. }
            | ConnectError::Silent { .. }
            | ConnectError::Stopped { .. }
            | ConnectError::Unavailable { .. } => Kind::Unavailable,
        }
    }

    pub(crate) fn refused(vm: &VmName, refusal: Refusal) -> Self {
        let vm = vm.clone();
        match refusal {
            Refusal::Overruled | Refusal::InUse | Refusal::NotRunning | Refusal::Rebuilding => {
                ConnectError::Stopped { vm }
            }
            Refusal::Removed => ConnectError::Removed { vm },
            Refusal::Engine(EngineError::WakeFailed { reason }) => ConnectError::WakeFailed { vm, reason },
            Refusal::Engine(EngineError::StartFailed { reason } | EngineError::NoRoom { reason }) => {
                ConnectError::StartFailed { vm, reason }
            }
            Refusal::Engine(cause) => ConnectError::Unavailable { vm, reason: cause.to_string() },
        }
    }
}
