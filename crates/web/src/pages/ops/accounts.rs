//! `/ops`: who is here, and who is invited.

use askama::Template;
use axum::{http::StatusCode, response::Response};
use berth_control::{AccountInfo, Invitation, InvitationInfo, Role};
use berth_model::AccountName;

use crate::{
    asked::{Named, Query},
    fields::Fields,
    frame::{Frame, Here},
    problem::Problem,
    visitor::{Member, Operator},
    words::{self, Moment, go},
};

/// So many accounts are shown at once; the search finds the others.
const SHOWN: usize = 200;
/// The longest note of an invitation.
const MAX_NOTE: usize = 100;

#[derive(Template)]
#[template(path = "ops_accounts.html")]
struct Page {
    frame: Frame,
    query: String,
    accounts: Vec<Account>,
    /// How many are not shown.
    more: usize,
    invitations: Vec<Invited>,
    link: Option<String>,
    note: String,
    name: String,
    name_wrong: String,
}

struct Account {
    name: String,
    operator: bool,
    blocked: bool,
    vms: usize,
    keys: usize,
    created: Moment,
}

struct Invited {
    id: String,
    note: String,
    name: String,
    by: String,
    expires: Moment,
}

impl From<AccountInfo> for Account {
    fn from(info: AccountInfo) -> Self {
        Self {
            name: info.name.to_string(),
            operator: info.role == Role::Operator,
            blocked: info.blocked.is_some(),
            vms: info.vms,
            keys: info.keys,
            created: Moment::new(info.created),
        }
    }
}

impl From<InvitationInfo> for Invited {
    fn from(info: InvitationInfo) -> Self {
        Self {
            id: info.id.to_string(),
            note: info.invitation.note,
            name: info.invitation.name.map(|name| name.to_string()).unwrap_or_default(),
            by: info.made_by.map_or_else(|| "the operator".to_owned(), |name| name.to_string()),
            expires: Moment::new(info.expires),
        }
    }
}

impl Page {
    async fn new(member: &Member, query: String) -> Result<Self, Problem> {
        let mut found = member.acting.accounts().await?;
        found.retain(|account| account.name.as_str().contains(&query.to_lowercase()));
        let invitations = member.acting.invitations().await?;
        Ok(Self {
            frame: Frame::new(&member.visitor, Here::Ops("accounts")),
            query,
            more: found.len().saturating_sub(SHOWN),
            accounts: found.into_iter().take(SHOWN).map(Account::from).collect(),
            invitations: invitations.into_iter().map(Invited::from).collect(),
            link: None,
            note: String::new(),
            name: String::new(),
            name_wrong: String::new(),
        })
    }
}

pub(crate) async fn show(Operator(member): Operator, query: Query) -> Result<Response, Problem> {
    words::show(StatusCode::OK, &Page::new(&member, query.search()).await?)
}

pub(crate) async fn invite(Operator(member): Operator, fields: Fields) -> Result<Response, Problem> {
    let (note, name) =
        (words::plain(fields.get("note"), MAX_NOTE), words::plain(fields.get("name"), MAX_NOTE));
    let parsed = if name.is_empty() { Ok(None) } else { name.parse::<AccountName>().map(Some) };
    let preset = match parsed {
        Ok(preset) => preset,
        Err(error) => {
            let page = Page {
                note,
                name,
                name_wrong: error.to_string(),
                ..Page::new(&member, String::new()).await?
            };
            return words::show(StatusCode::UNPROCESSABLE_ENTITY, &page);
        }
    };
    let role = if fields.get("operator").is_empty() { Role::Member } else { Role::Operator };
    let (_, link) = member.acting.invite(Invitation { name: preset, role, note }).await?;
    let page = Page { link: Some(link.expose().clone()), ..Page::new(&member, String::new()).await? };
    words::show(StatusCode::OK, &page)
}

pub(crate) async fn remove_invitation(
    Operator(member): Operator,
    Named(id): Named,
) -> Result<Response, Problem> {
    let id = id.parse().map_err(|_| Problem::missing())?;
    member.acting.remove_invitation(id).await?;
    Ok(go("/ops#invitations"))
}
