//! `/ops/accounts/NAME`: one account, and what an operator can do for it.

use askama::Template;
use axum::{http::StatusCode, response::Response};
use berth_control::{AccountInfo, LinkFor, Role, WebError};
use berth_model::AccountName;

use super::limits::{LimitField, fields};
use crate::{
    asked::Named,
    fields::Fields,
    frame::{Frame, Here},
    problem::{Problem, web_status},
    views::VmView,
    visitor::{Member, Operator},
    words::{self, Moment, go},
};

#[derive(Template)]
#[template(path = "ops_account.html")]
struct Page {
    frame: Frame,
    name: String,
    operator: bool,
    blocked: Option<Moment>,
    created: Moment,
    keys: usize,
    vms: Vec<VmView>,
    /// It is the operator's own.
    own: bool,
    limits: Vec<LimitField>,
    link: Option<String>,
    link_is_reset: bool,
    wrong: Option<String>,
}

/// The account of a name, if there is one.
pub(crate) async fn find(member: &Member, name: &str) -> Result<AccountInfo, Problem> {
    let name = name.parse().map_err(|_| Problem::missing())?;
    Ok(member.acting.account(&name).await?)
}

impl Page {
    async fn new(member: &Member, info: AccountInfo) -> Result<Self, Problem> {
        let vms = member.acting.vms(Some(&info.name)).await?;
        Ok(Self {
            frame: Frame::new(&member.visitor, Here::Ops("accounts")),
            own: info.name == *member.account(),
            limits: fields(member, &info.name).await?,
            name: info.name.to_string(),
            operator: info.role == Role::Operator,
            blocked: info.blocked.map(Moment::new),
            created: Moment::new(info.created),
            keys: info.keys,
            vms: vms.iter().map(VmView::new).collect(),
            link: None,
            link_is_reset: false,
            wrong: None,
        })
    }
}

pub(crate) async fn show(Operator(member): Operator, Named(name): Named) -> Result<Response, Problem> {
    let info = find(&member, &name).await?;
    words::show(StatusCode::OK, &Page::new(&member, info).await?)
}

/// Makes a link to log in or to choose a new password, which is shown once.
pub(crate) async fn make_link(
    Operator(member): Operator,
    Named(name): Named,
    fields: Fields,
) -> Result<Response, Problem> {
    let info = find(&member, &name).await?;
    let link_is_reset = fields.get("to") == "reset";
    let what = if link_is_reset { LinkFor::Reset } else { LinkFor::LogIn };
    match member.acting.make_link(&info.name, what).await {
        Ok(link) => {
            let page =
                Page { link: Some(link.expose().clone()), link_is_reset, ..Page::new(&member, info).await? };
            words::show(StatusCode::OK, &page)
        }
        Err(error) => refused(&member, info, &error).await,
    }
}

pub(crate) async fn block(
    Operator(member): Operator,
    Named(name): Named,
    fields: Fields,
) -> Result<Response, Problem> {
    let info = find(&member, &name).await?;
    let done = match fields.get("to") {
        "block" => member.acting.block_account(&info.name).await,
        "unblock" => member.acting.unblock_account(&info.name).await,
        _ => Ok(()),
    };
    after(&member, info, done).await
}

pub(crate) async fn set_role(
    Operator(member): Operator,
    Named(name): Named,
    fields: Fields,
) -> Result<Response, Problem> {
    let info = find(&member, &name).await?;
    let done = match fields.get("to").parse::<Role>() {
        Ok(role) => member.acting.set_role(&info.name, role).await,
        Err(_) => Ok(()),
    };
    after(&member, info, done).await
}

/// The account as it is after something was done to it, or what went wrong.
pub(crate) async fn after(
    member: &Member,
    info: AccountInfo,
    done: Result<(), WebError>,
) -> Result<Response, Problem> {
    match done {
        Ok(()) => Ok(go(&path(&info.name))),
        Err(error) => refused(member, info, &error).await,
    }
}

/// The account with what was wrong in the form of its limits.
pub(crate) async fn with_limits_refused(
    member: &Member,
    info: AccountInfo,
    limits: Vec<LimitField>,
) -> Result<Response, Problem> {
    let page = Page { limits, ..Page::new(member, info).await? };
    words::show(StatusCode::UNPROCESSABLE_ENTITY, &page)
}

async fn refused(member: &Member, info: AccountInfo, error: &WebError) -> Result<Response, Problem> {
    let page = Page { wrong: Some(error.to_string()), ..Page::new(member, info).await? };
    words::show(web_status(error), &page)
}

fn path(name: &AccountName) -> String {
    format!("/ops/accounts/{name}")
}
