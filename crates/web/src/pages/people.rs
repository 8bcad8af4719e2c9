//! The part of a VM's page about the people that it is shared with, and what is done there.

use std::sync::Arc;

use axum::{extract::State, http::StatusCode, response::Response};
use berth_control::{Error, Kind, ShareInfo, ShareTerms};
use berth_model::AccountName;
use time::{Duration, OffsetDateTime};

use super::vm;
use crate::{
    Website,
    asked::Named,
    fields::Fields,
    own_vm::OwnVm,
    problem::{self, Problem},
    visitor::Member,
    words::{self, Moment, go},
};

/// So much of what was typed as a name is shown again.
const MAX_TYPED: usize = 40;

/// What the part shows.
#[derive(Default)]
pub(crate) struct People {
    pub(crate) rows: Vec<PersonView>,
    /// What was typed, and what is wrong with it.
    pub(crate) typed: String,
    pub(crate) wrong: String,
}

/// One person.
pub(crate) struct PersonView {
    pub(crate) name: String,
    pub(crate) accepted: bool,
    pub(crate) sudo: bool,
    /// Until when, or until when they can accept.
    pub(crate) until: Option<Moment>,
}

impl From<ShareInfo> for PersonView {
    fn from(info: ShareInfo) -> Self {
        Self {
            name: info.account.to_string(),
            accepted: info.accepted.is_some(),
            sudo: info.sudo,
            until: info.accept_by.or(info.until).map(Moment::new),
        }
    }
}

impl People {
    pub(crate) async fn of(member: &Member, vm: &OwnVm) -> Result<Self, Problem> {
        let shares = member.acting.shares(vm.name()).await?;
        let rows = shares.into_iter().map(PersonView::from).collect();
        Ok(Self { rows, ..Self::default() })
    }
}

/// Asks somebody (`account`) to share the VM, or changes what they are let do there.
pub(crate) async fn share(
    State(website): State<Arc<Website>>,
    member: Member,
    Named(asked): Named,
    fields: Fields,
) -> Result<Response, Problem> {
    let vm = OwnVm::find(&member, &asked).await?;
    let typed = fields.get("account").trim();
    let terms = ShareTerms { sudo: fields.get("sudo") == "yes", until: until(fields.get("days")) };
    let refused: (StatusCode, String) = match typed.to_ascii_lowercase().parse::<AccountName>() {
        Ok(account) => match member.acting.share_vm(vm.name(), &account, terms).await {
            Ok(_) => return Ok(go(&format!("/vms/{}#people", vm.name().label()))),
            Err(error) => match error.kind() {
                Kind::Invalid | Kind::Conflict => (problem::status(error.kind()), problem::words(&error)),
                Kind::Missing => {
                    (StatusCode::UNPROCESSABLE_ENTITY, format!("There is nobody called {account} here."))
                }
                _ => return Err(error.into()),
            },
        },
        Err(wrong) => (problem::status(Kind::Invalid), wrong.to_string()),
    };
    let (code, wrong) = refused;
    let people = People { typed: words::plain(typed, MAX_TYPED), wrong, ..People::of(&member, &vm).await? };
    vm::show_with_people(&website, &member, &vm, people, code).await
}

/// Takes the VM back from somebody.
pub(crate) async fn take_back(
    member: Member,
    Named(asked): Named,
    fields: Fields,
) -> Result<Response, Problem> {
    let vm = OwnVm::find(&member, &asked).await?;
    let account = fields.get("account").parse().map_err(|_| Problem::missing())?;
    match member.acting.unshare_vm(vm.name(), &account).await {
        // They may have left in the same moment.
        Ok(_) | Err(Error::NotShared { .. }) => Ok(go(&format!("/vms/{}#people", vm.name().label()))),
        Err(error) => Err(error.into()),
    }
}

/// So many days from now; without a number for as long as nobody ends it.
fn until(days: &str) -> Option<OffsetDateTime> {
    const LONGEST: u16 = 3650;
    let days: u16 = days.parse().ok()?;
    Some(OffsetDateTime::now_utc() + Duration::days(days.clamp(1, LONGEST).into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_days_from_now_or_no_end() {
        assert_eq!(until(""), None);
        let week = until("7").unwrap() - OffsetDateTime::now_utc();
        assert!(week > Duration::days(6) && week <= Duration::days(7));
        assert!(until("65535").unwrap() - OffsetDateTime::now_utc() < Duration::days(3651));
    }
}
