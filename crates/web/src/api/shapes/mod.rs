//! What the API takes and gives, as JSON. A field that is not known is refused on the way in.

mod account;
mod audit;
mod key;
mod page;
mod share;
mod team_ca;
mod vm;

use serde::Serialize;
use utoipa::ToSchema;

pub(crate) use self::{
    account::{
        Account, Block, Invitation, InvitationMade, LimitsSet, Link, NewAccount, NewInvitation, NewLink, Own,
        OwnAmounts, SetRole,
    },
    audit::{AuditFilter, Event},
    key::{Key, KeyLabel, NewKeys, Verdict},
    page::{Page, Paging, page},
    share::{AcceptShare, Share, ShareTerms},
    team_ca::{NewKrl, NewTeamCa, TeamCas},
    vm::{
        AlwaysOn, BootLog, Connection, NewVm, Port, Rebuild, Resize, SetAccess, SetTitle, Snooze, Start, Vm,
        Wait, Why,
    },
};

/// What went wrong.
#[derive(Serialize, ToSchema)]
pub(crate) struct Error {
    error: ErrorInfo,
}

/// A kind for programs and a sentence for people.
#[derive(Serialize, ToSchema)]
pub(crate) struct ErrorInfo {
    /// `invalid`, `unauthenticated`, `denied`, `missing`, `wrong_method`, `too_slow`, `conflict`, `too_large`,
    /// `unsupported`, `too_many`, `unavailable` or `broken`.
    #[schema(example = "denied")]
    kind: String,
    /// What is, and what to do.
    #[schema(example = "This token may not do that: it lacks the scope vms:write.")]
    message: String,
}
