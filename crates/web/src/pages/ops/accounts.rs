//! `/ops`: who is here, and who is invited.

use askama::Template;
use axum::{http::StatusCode, response::Response};
use berth_control::{AccountInfo, AccountsQuery, Invitation, InvitationInfo, Role};
use berth_model::AccountName;

use crate::{
    asked::{Named, Query},
    fields::Fields,
    frame::{Frame, Here},
    pager::{Pager, ROWS},
    problem::Problem,
    visitor::{Member, Operator},
    words::{self, Moment, go},
};

/// The longest note of an invitation.
const MAX_NOTE: usize = 100;

#[derive(Template)]
#[template(path = "ops_accounts.html")]
struct Page {
    frame: Frame,
    query: String,
    accounts: Vec<Account>,
    pager: Pager,
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
    async fn new(member: &Member, text: String, after: Option<&str>) -> Result<Self, Problem> {
        let asked = AccountsQuery {
            text: text.clone(),
            after: after.and_then(|after| after.parse().ok()),
            most: ROWS,
            ..AccountsQuery::default()
        };
        let found = member.acting.accounts_page(&asked).await?;
        let last = found.rows.last().filter(|_| found.more).map(|account| account.name.as_str());
        let invitations = member.acting.invitations().await?;
        Ok(Self {
            frame: Frame::new(&member.visitor, Here::Ops("accounts")),
            pager: Pager::new("/ops", &[("q", &text)], after, last),
            query: text,
            accounts: found.rows.into_iter().map(Account::from).collect(),
            invitations: invitations.into_iter().map(Invited::from).collect(),
            link: None,
            note: String::new(),
            name: String::new(),
            name_wrong: String::new(),
        })
    }
}

pub(crate) async fn show(Operator(member): Operator, query: Query) -> Result<Response, Problem> {
    words::show(StatusCode::OK, &Page::new(&member, query.search(), query.after()).await?)
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
                ..Page::new(&member, String::new(), None).await?
            };
            return words::show(StatusCode::UNPROCESSABLE_ENTITY, &page);
        }
    };
    let role = if fields.get("operator").is_empty() { Role::Member } else { Role::Operator };
    let (_, link) = member.acting.invite(Invitation { name: preset, role, note }).await?;
    let page = Page { link: Some(link.expose().clone()), ..Page::new(&member, String::new(), None).await? };
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
