//! Accounts, what they may have, and the links that let people in.

use berth_control::{AccountInfo, InvitationInfo, Limits, LinkFor, OwnLimits, Role};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

/// As many bytes the database can count; more, and this many, is no limit.
const UNLIMITED: u64 = i64::MAX.unsigned_abs();

/// What an account may do.
#[derive(Clone, Copy, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum AccountRole {
    /// What is its own.
    #[default]
    Member,
    /// Everything.
    Operator,
}

impl From<Role> for AccountRole {
    fn from(role: Role) -> Self {
        match role {
            Role::Member => Self::Member,
            Role::Operator => Self::Operator,
        }
    }
}

impl From<AccountRole> for Role {
    fn from(role: AccountRole) -> Self {
        match role {
            AccountRole::Member => Self::Member,
            AccountRole::Operator => Self::Operator,
        }
    }
}

/// Whose token it is, and what it is for.
#[derive(Serialize, ToSchema)]
pub(crate) struct Own {
    /// The account's name.
    #[schema(example = "alice")]
    pub(crate) name: String,
    /// What it may do.
    pub(crate) role: AccountRole,
    /// What the token is for.
    #[schema(example = json!(["account:read", "vms:read"]))]
    pub(crate) scopes: Vec<&'static str>,
    /// What all its VMs together may have.
    pub(crate) limits: Amounts,
}

/// What all VMs of an account together may have; null for unlimited.
#[derive(Serialize, ToSchema)]
pub(crate) struct Amounts {
    /// VMs.
    vms: Option<u32>,
    /// Virtual CPUs.
    cpus: Option<u32>,
    /// Bytes of memory.
    memory: Option<u64>,
    /// Bytes of disk.
    disk: Option<u64>,
}

impl From<Limits> for Amounts {
    fn from(limits: Limits) -> Self {
        Self {
            vms: Some(limits.vms).filter(|vms| *vms != Limits::NONE.vms),
            cpus: Some(limits.cpus).filter(|cpus| *cpus != Limits::NONE.cpus),
            memory: Some(limits.memory).filter(|memory| *memory < UNLIMITED),
            disk: Some(limits.disk).filter(|disk| *disk < UNLIMITED),
        }
    }
}

/// What an account may have: set for it alone, and in force.
#[derive(Serialize, ToSchema)]
pub(crate) struct LimitsSet {
    /// What is set for it alone; null leaves what holds for all.
    own: OwnAmounts,
    /// What is in force.
    in_force: Amounts,
}

impl From<(OwnLimits, Limits)> for LimitsSet {
    fn from((own, in_force): (OwnLimits, Limits)) -> Self {
        let none = Limits::NONE;
        let own = OwnAmounts {
            vms: own.vms.map(|vms| Amount::of(vms.into(), vms == none.vms)),
            cpus: own.cpus.map(|cpus| Amount::of(cpus.into(), cpus == none.cpus)),
            memory: own.memory.map(|memory| Amount::of(memory, memory >= UNLIMITED)),
            disk: own.disk.map(|disk| Amount::of(disk, disk >= UNLIMITED)),
        };
        Self { own, in_force: in_force.into() }
    }
}

/// What is set for an account alone. What is not given, or null, is what holds for all.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "vms": 20, "memory": "unlimited" }))]
pub(crate) struct OwnAmounts {
    /// VMs.
    vms: Option<Amount>,
    /// Virtual CPUs.
    cpus: Option<Amount>,
    /// Bytes of memory.
    memory: Option<Amount>,
    /// Bytes of disk.
    disk: Option<Amount>,
}

/// A number, or no limit.
#[derive(Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum Amount {
    Number(u64),
    Word(Word),
}

impl Amount {
    fn of(number: u64, unlimited: bool) -> Self {
        if unlimited { Self::Word(Word::Unlimited) } else { Self::Number(number) }
    }
}

/// No limit.
#[derive(Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Word {
    Unlimited,
}

impl From<OwnAmounts> for OwnLimits {
    fn from(amounts: OwnAmounts) -> Self {
        let large = |amount: Option<Amount>| {
            amount.map(|amount| match amount {
                Amount::Number(number) => number,
                Amount::Word(Word::Unlimited) => u64::MAX,
            })
        };
        // The largest number there is means unlimited.
        let small = |amount| large(amount).map(|number| u32::try_from(number).unwrap_or(u32::MAX));
        Self {
            vms: small(amounts.vms),
            cpus: small(amounts.cpus),
            memory: large(amounts.memory),
            disk: large(amounts.disk),
        }
    }
}

/// An account.
#[derive(Serialize, ToSchema)]
pub(crate) struct Account {
    /// Its name.
    #[schema(example = "bob")]
    name: String,
    /// What it may do.
    role: AccountRole,
    /// Since when it is blocked.
    #[serde(with = "time::serde::rfc3339::option")]
    blocked: Option<OffsetDateTime>,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    created: OffsetDateTime,
    /// How many keys it has.
    keys: usize,
    /// How many VMs it has.
    vms: usize,
}

impl From<AccountInfo> for Account {
    fn from(info: AccountInfo) -> Self {
        Self {
            name: info.name.to_string(),
            role: info.role.into(),
            blocked: info.blocked,
            created: info.created,
            keys: info.keys,
            vms: info.vms,
        }
    }
}

/// An account to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "name": "bob" }))]
pub(crate) struct NewAccount {
    /// 2 to 32 small letters, digits and hyphens. Names never change hands: a removed one stays taken.
    pub(crate) name: String,
}

/// What an account may do from now on.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "role": "operator" }))]
pub(crate) struct SetRole {
    /// Another role than the present one ends its sessions.
    pub(crate) role: AccountRole,
}

/// Whether anybody gets in with an account.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "blocked": true }))]
pub(crate) struct Block {
    /// Blocked: its connections and sessions end at once, and its VMs go to sleep.
    pub(crate) blocked: bool,
}

/// What a link is for.
#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LinkPurpose {
    /// To log in, within ten minutes.
    LogIn,
    /// To set a new password, within a day.
    Reset,
}

impl From<LinkPurpose> for LinkFor {
    fn from(purpose: LinkPurpose) -> Self {
        match purpose {
            LinkPurpose::LogIn => Self::LogIn,
            LinkPurpose::Reset => Self::Reset,
        }
    }
}

/// A link to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "for": "reset" }))]
pub(crate) struct NewLink {
    /// What it is for.
    #[serde(rename = "for")]
    pub(crate) purpose: LinkPurpose,
}

/// A link that works once. Whoever has it gets in.
#[derive(Serialize, ToSchema)]
pub(crate) struct Link {
    /// Its address, which is not told again.
    #[schema(example = "https://koding.com/link/…")]
    pub(crate) url: String,
}

/// Somebody to be invited.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "name": "carol", "note": "carol@example.com" }))]
pub(crate) struct NewInvitation {
    /// The new account's name; its owner chooses one where it is not given.
    pub(crate) name: Option<String>,
    /// What the new account may do.
    #[serde(default)]
    pub(crate) role: AccountRole,
    /// Whom it is for, in your words: 100 characters at most.
    #[serde(default)]
    pub(crate) note: String,
}

/// An invitation that nobody has used yet.
#[derive(Serialize, ToSchema)]
pub(crate) struct Invitation {
    /// What names it.
    #[schema(example = "12")]
    id: String,
    /// The new account's name, where it is set.
    name: Option<String>,
    /// What the new account may do.
    role: AccountRole,
    /// Whom it is for.
    note: String,
    /// Who made it; null for somebody on the server itself.
    made_by: Option<String>,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    made: OffsetDateTime,
    /// When it ends.
    #[serde(with = "time::serde::rfc3339")]
    expires: OffsetDateTime,
}

impl From<InvitationInfo> for Invitation {
    fn from(info: InvitationInfo) -> Self {
        Self {
            id: info.id.to_string(),
            name: info.invitation.name.map(|name| name.to_string()),
            role: info.invitation.role.into(),
            note: info.invitation.note,
            made_by: info.made_by.map(|name| name.to_string()),
            made: info.made,
            expires: info.expires,
        }
    }
}

/// An invitation with its link.
#[derive(Serialize, ToSchema)]
pub(crate) struct InvitationMade {
    /// The invitation.
    pub(crate) invitation: Invitation,
    /// Its address, which is not told again. Whoever has it gets in.
    #[schema(example = "https://koding.com/link/…")]
    pub(crate) url: String,
}
