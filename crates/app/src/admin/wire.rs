//! What the two ends of the admin socket say to each other: the one file that both sides share.
//!
//! A connection carries one request: the client sends one line of JSON, the server answers with lines of JSON, any
//! number of [`Reply::Progress`] and then one [`Reply::Done`] or [`Reply::Failed`], and closes. When the client closes
//! first, what it asked for goes on as far as it does by itself.

use std::{path::PathBuf, time::Duration};

use berth_control::{
    AccountInfo, AddedKey, AuditId, AuditInfo, Grown, Home, HostCaInfo, InvitationInfo, KeyInfo, Kind,
    Limits, LinkFor, OwnLimits, RecordingInfo, Role, ShareInfo, Status, TeamCasInfo, VmInfo, WebError,
};
use berth_model::VmName;
use serde::{Deserialize, Serialize};

/// The version of everything below. Both ends are usually one binary; during an upgrade they are not.
pub(crate) const VERSION: u32 = 3;
/// The most bytes of a request with its line's end. A paste of keys is the longest.
pub(crate) const MAX_REQUEST: u64 = 1 << 20;
/// The most bytes of an answer's line.
pub(crate) const MAX_REPLY: u64 = 64 << 20;
/// So long may a client take to send its request.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// The request's line.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Envelope {
    /// [`VERSION`] of the client.
    pub(crate) version: u32,
    /// Kept as it came until the version is known to be ours.
    pub(crate) request: serde_json::Value,
}

/// What the operator asks for. Names are text here: the server judges them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Request {
    /// Makes an account.
    AccountAdd { name: String },
    /// All accounts.
    AccountList {},
    /// Removes an account, its keys and its VMs.
    AccountRemove { name: String },
    /// How an account's ssh finds the way.
    AccountWayIn { name: String },
    /// What an account may have.
    AccountLimits { name: String },
    /// Sets what an account may have: `limits` over what is set for it alone now, or over nothing with `afresh`.
    AccountSetLimits { name: String, limits: OwnLimits, afresh: bool },
    /// Gives an account a role.
    AccountSetRole { name: String, role: Role },
    /// Shuts an account out, or lets it in again.
    AccountBlock { name: String, blocked: bool },
    /// Makes a link for the owner of an account.
    AccountLink { name: String, what: LinkFor },
    /// Makes an invitation: a link that an account is made with.
    AccountInvite { name: Option<String>, role: Role, note: String },
    /// Puts a new server in the place of this one.
    Upgrade {},
    /// Copies the database, for a backup.
    Backup {},
    /// A page of the audit trail.
    Audit { query: AuditSearch },
    /// The keys that sign certificates of hosts.
    HostCaList {},
    /// Makes the next one.
    HostCaAdd {},
    /// Has one of them sign.
    HostCaUse { fingerprint: String },
    /// Forgets one that does not.
    HostCaRemove { fingerprint: String },
    /// The CAs whose certificates let members in.
    TeamCaList {},
    /// Has the certificates of one let members in.
    TeamCaAdd { pasted: String, label: Option<String> },
    /// Has those of one let nobody in.
    TeamCaRemove { which: String },
    /// Makes a VM for the team.
    TeamVmAdd {},
    /// Loads a key revocation list, in base64.
    TeamCaRevoke { krl: String },
    /// Adds the keys in a paste.
    KeyAdd { account: String, pasted: String, label: Option<String> },
    /// The keys of an account.
    KeyList { account: String },
    /// Removes a key by fingerprint, id or label.
    KeyRemove { account: String, which: String },
    /// What was recorded of sessions.
    RecordingList {},
    /// Where a recording is.
    RecordingOpen { name: String },
    /// Removes a recording.
    RecordingRemove { name: String },
    /// Makes a VM.
    VmAdd { account: String },
    /// The VMs of an account, or all.
    VmList { account: Option<String> },
    /// One VM.
    VmShow { vm: String },
    /// Starts or wakes a VM and waits until it answers; with `from_disk`, what a sleep has kept is given up.
    VmStart { vm: String, from_disk: bool },
    /// Wakes a VM that is asleep and waits until it answers.
    VmWake { vm: String },
    /// Puts a VM to sleep and waits until it sleeps.
    VmSleep { vm: String },
    /// Has a VM always be on, or no more.
    VmAlwaysOn { vm: String, on: bool },
    /// Keeps a VM awake for so many seconds from now; 0 for no longer.
    VmSnooze { vm: String, seconds: u64 },
    /// Stops a VM and waits until it is off.
    VmStop { vm: String },
    /// Gives a VM a new disk and waits until it has it.
    VmRebuild { vm: String, home: Home },
    /// Makes the disk of a VM so many bytes large.
    VmResize { vm: String, disk: u64 },
    /// Copies a VM's disk.
    VmDiskCopy { vm: String },
    /// Gives a VM that is off the disk in this file.
    VmDiskReplace { vm: String, file: PathBuf },
    /// Asks an account to share a VM, for so many seconds where that is given.
    VmShare { vm: String, account: String, sudo: bool, seconds: Option<u64> },
    /// Takes a VM back from an account.
    VmUnshare { vm: String, account: String },
    /// With whom a VM is shared.
    VmShares { vm: String },
    /// Removes a VM and its disk.
    VmRemove { vm: String },
    /// The end of a VM's console.
    VmLog { vm: String },
}

impl Request {
    /// Whether the answer waits for a VM.
    pub(crate) fn waits(&self) -> bool {
        match self {
            Self::VmStart { .. }
            | Self::VmWake { .. }
            | Self::VmSleep { .. }
            | Self::VmStop { .. }
            | Self::VmRebuild { .. }
            | Self::VmResize { .. }
            | Self::VmDiskCopy { .. }
            | Self::VmDiskReplace { .. }
            | Self::VmRemove { .. }
            | Self::AccountRemove { .. }
            | Self::Upgrade {} => true,
            Self::AccountAdd { .. }
            | Self::AccountList {}
            | Self::AccountWayIn { .. }
            | Self::AccountLimits { .. }
            | Self::AccountSetLimits { .. }
            | Self::AccountSetRole { .. }
            | Self::AccountBlock { .. }
            | Self::AccountLink { .. }
            | Self::AccountInvite { .. }
            | Self::Backup {}
            | Self::Audit { .. }
            | Self::HostCaList {}
            | Self::HostCaAdd {}
            | Self::HostCaUse { .. }
            | Self::HostCaRemove { .. }
            | Self::TeamVmAdd {}
            | Self::TeamCaList {}
            | Self::TeamCaAdd { .. }
            | Self::TeamCaRemove { .. }
            | Self::TeamCaRevoke { .. }
            | Self::KeyAdd { .. }
            | Self::KeyList { .. }
            | Self::KeyRemove { .. }
            | Self::RecordingList {}
            | Self::RecordingOpen { .. }
            | Self::RecordingRemove { .. }
            | Self::VmAdd { .. }
            | Self::VmList { .. }
            | Self::VmShow { .. }
            | Self::VmAlwaysOn { .. }
            | Self::VmSnooze { .. }
            | Self::VmShare { .. }
            | Self::VmUnshare { .. }
            | Self::VmShares { .. }
            | Self::VmLog { .. } => false,
        }
    }
}

/// Which lines of the audit trail are wanted: those for which all holds that is given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct AuditSearch {
    /// About this account.
    pub(crate) about: Option<String>,
    /// Done by this account.
    pub(crate) by: Option<String>,
    /// Of this sort.
    pub(crate) kind: Option<String>,
    /// With this text in them.
    pub(crate) text: Option<String>,
    /// Not older than so many seconds.
    pub(crate) seconds: Option<u64>,
    /// Before this line.
    pub(crate) before: Option<AuditId>,
}

/// One line of the answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reply {
    /// It goes on.
    Progress(Progress),
    /// It is done.
    Done(Box<Answer>),
    /// It is not done.
    Failed(Failure),
}

/// What is going on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub(crate) enum Progress {
    /// A VM is being started.
    Starting {
        vm: String,
        /// What its last boot took.
        usual_ms: Option<u64>,
    },
    /// A VM is being woken.
    Waking { vm: String },
    /// The host has no memory for it right now.
    Queued {
        vm: String,
        /// So many others came first.
        ahead: usize,
        /// A clause without a full stop.
        reason: String,
    },
    /// The VM answers.
    Ready { vm: String, took_ms: u64 },
}

/// What came of the request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    Account(AccountInfo),
    Accounts(Vec<AccountInfo>),
    WayIn(WayIn),
    Limits(AccountLimits),
    /// A link for one person.
    Link {
        address: String,
    },
    Invited {
        invitation: InvitationInfo,
        address: String,
    },
    Audit(Vec<AuditInfo>),
    /// Another server serves.
    Upgraded(Upgraded),
    /// The database as it was, for whoever asked to take away and to delete.
    DatabaseCopied {
        path: PathBuf,
        /// The file that the server has its configuration from.
        config: Option<PathBuf>,
    },
    /// The one that signs first.
    HostCas(Vec<HostCaInfo>),
    TeamCas(TeamCasInfo),
    AddedKeys {
        keys: Vec<AddedKey>,
        /// The running VMs whose guests have not taken the change.
        behind: Vec<VmName>,
    },
    RemovedKey {
        key: KeyInfo,
        /// The running VMs whose guests have not taken the change.
        behind: Vec<VmName>,
    },
    Keys(Vec<KeyInfo>),
    Vm(VmInfo),
    /// Its disk is larger.
    Resized {
        vm: VmInfo,
        /// When its guest has the room.
        room: Grown,
    },
    Vms(Vec<VmInfo>),
    /// A copy of its disk, for whoever asked to take away.
    DiskCopied {
        vm: VmName,
        path: PathBuf,
    },
    Share(ShareInfo),
    Shares(Vec<ShareInfo>),
    Recordings {
        /// Whether sessions are recorded now.
        on: bool,
        all: Vec<RecordingInfo>,
    },
    /// A recording is in this file, and so many bytes of it are whole lines.
    RecordingAt {
        path: PathBuf,
        whole: u64,
    },
    /// What had this name is no more.
    Removed {
        name: String,
    },
    Log {
        text: String,
    },
}

/// Which server serves now, and which has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Upgraded {
    /// The process that serves.
    pub(crate) serves: u32,
    /// The one that has served.
    pub(crate) left: u32,
    /// Connections into VMs that it has yet.
    pub(crate) connections: usize,
}

/// What an account may have, and what it has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AccountLimits {
    /// The account's name.
    pub(crate) account: String,
    /// What is set for it alone.
    pub(crate) own: OwnLimits,
    /// What holds for it in all.
    pub(crate) limits: Limits,
    /// What its VMs have together.
    pub(crate) has: Limits,
}

/// How ssh gets to the VMs of an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WayIn {
    /// The account's name.
    pub(crate) account: String,
    /// The gateway's name.
    pub(crate) gateway: String,
    /// An address of the gateway that this machine reaches.
    pub(crate) address: std::net::SocketAddr,
    /// The domain of the VMs.
    pub(crate) vm_domain: String,
    /// The file that knows the gateway's and the VMs' host keys.
    pub(crate) known_hosts: std::path::PathBuf,
    /// The website.
    pub(crate) website: String,
}

/// Why a request was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failure {
    /// The sort of it, for programs.
    pub(crate) kind: FailureKind,
    /// Whole sentences, for people.
    pub(crate) message: String,
}

/// The sorts of failure, as `--json` prints them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FailureKind {
    /// The command line makes no sense.
    Usage,
    /// A value makes no sense.
    Invalid,
    /// Who asks is not allowed to.
    Denied,
    /// There is no such thing.
    Missing,
    /// It clashes with what there is.
    Conflict,
    /// It does not work now and may later.
    Unavailable,
}

impl From<Kind> for FailureKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Invalid => Self::Invalid,
            Kind::Unauthenticated | Kind::Denied => Self::Denied,
            Kind::Missing => Self::Missing,
            Kind::Conflict => Self::Conflict,
            Kind::Unavailable => Self::Unavailable,
        }
    }
}

impl Failure {
    pub(crate) fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl From<berth_control::Error> for Failure {
    fn from(error: berth_control::Error) -> Self {
        Self::new(error.kind().into(), error.to_string())
    }
}

impl From<WebError> for Failure {
    fn from(error: WebError) -> Self {
        Self::new(error.kind().into(), error.to_string())
    }
}

impl From<berth_control::Progress> for Progress {
    fn from(progress: berth_control::Progress) -> Self {
        let ms = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        match progress {
            berth_control::Progress::Starting { vm, was: Status::Asleep | Status::Waking, .. } => {
                Self::Waking { vm: vm.to_string() }
            }
            berth_control::Progress::Starting { vm, usual, .. } => {
                Self::Starting { vm: vm.to_string(), usual_ms: usual.map(ms) }
            }
            berth_control::Progress::Queued { vm, ahead, reason } => {
                Self::Queued { vm: vm.to_string(), ahead, reason }
            }
            berth_control::Progress::Ready { vm, took } => {
                Self::Ready { vm: vm.to_string(), took_ms: ms(took) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_on_the_wire() {
        let request = Request::KeyAdd { account: "alice".into(), pasted: "x".into(), label: None };
        let line = serde_json::to_string(&request).unwrap();
        assert_eq!(line, r#"{"do":"key_add","account":"alice","pasted":"x","label":null}"#);
        assert_eq!(serde_json::from_str::<Request>(&line).unwrap(), request);

        let reply = Reply::Progress(Progress::Starting { vm: "vm-0.alice.main".into(), usual_ms: None });
        let line = serde_json::to_string(&reply).unwrap();
        assert_eq!(line, r#"{"progress":{"what":"starting","vm":"vm-0.alice.main","usual_ms":null}}"#);
        assert_eq!(serde_json::from_str::<Reply>(&line).unwrap(), reply);

        let reply = Reply::Failed(Failure::new(FailureKind::Conflict, "No."));
        assert_eq!(
            serde_json::to_string(&reply).unwrap(),
            r#"{"failed":{"kind":"conflict","message":"No."}}"#
        );
    }

    #[test]
    fn what_is_not_a_request() {
        for line in [
            "{}",
            "[]",
            r#"{"do":"account_burn","name":"x"}"#,
            r#"{"do":"account_add"}"#,
            r#"{"do":"account_add","name":"x","force":true}"#,
            r#"{"do":"vm_start","vm":7,"from_disk":false}"#,
            r#"{"do":"vm_start","vm":"vm-0.alice"}"#,
            r#"{"do":"vm_snooze","vm":"vm-0.alice","seconds":-1}"#,
        ] {
            assert!(serde_json::from_str::<Request>(line).is_err(), "{line}");
        }
    }
}
