//! `/account/passkeys`: passkeys are made, called and removed. They are listed at `/account`.

use std::sync::Arc;

use askama::Template;
use axum::{extract::State, http::StatusCode, response::Response};
use berth_control::{NewCredential, PasskeyId, PasskeyInfo, WebError};

use super::{account, confirm};
use crate::{
    Website,
    asked::Named,
    fields::Fields,
    frame::{Frame, Here},
    problem::{Problem, web_status},
    visitor::Member,
    words::{self, Moment, go},
};

/// So much of a name is looked at: more than control takes, so that one which is too long is told and not cut.
const MAX_NAME: usize = 200;
/// Where they are listed.
const LIST: &str = "/account#passkeys";

/// A passkey.
pub(crate) struct PasskeyView {
    pub(crate) path: String,
    pub(crate) label: String,
    pub(crate) added: Moment,
    pub(crate) used: Option<(Moment, String)>,
}

impl From<PasskeyInfo> for PasskeyView {
    fn from(info: PasskeyInfo) -> Self {
        Self {
            path: format!("/account/passkeys/{}", info.id),
            label: info.label,
            added: Moment::new(info.added),
            used: info.last_used.map(|used| (Moment::new(used.at), used.from.to_string())),
        }
    }
}

#[derive(Template)]
#[template(path = "passkey.html")]
struct Page {
    frame: Frame,
    passkey: PasskeyView,
    fresh: bool,
    label: String,
    label_wrong: String,
}

/// The passkey of the member that is meant.
async fn find(website: &Website, member: &Member, asked: &str) -> Result<(PasskeyId, PasskeyInfo), Problem> {
    let id: PasskeyId = asked.parse().map_err(|_| Problem::missing())?;
    let all = website.control.identities(&member.login).await?.passkeys;
    all.into_iter().find(|info| info.id == id).map(|info| (id, info)).ok_or_else(Problem::missing)
}

impl Page {
    fn new(member: &Member, info: PasskeyInfo) -> Self {
        Self {
            frame: Frame::new(&member.visitor, Here::Account("profile")),
            fresh: member.login.is_fresh(),
            label: info.label.clone(),
            passkey: info.into(),
            label_wrong: String::new(),
        }
    }
}

pub(crate) async fn show(
    State(website): State<Arc<Website>>,
    member: Member,
    Named(asked): Named,
) -> Result<Response, Problem> {
    let (_, info) = find(&website, &member, &asked).await?;
    words::show(StatusCode::OK, &Page::new(&member, info))
}

/// What the browser is to ask for.
pub(crate) async fn options(
    State(website): State<Arc<Website>>,
    member: Member,
) -> Result<Response, Problem> {
    Ok(words::json(&website.control.begin_passkey(&member.login).await?))
}

pub(crate) async fn add(
    State(website): State<Arc<Website>>,
    member: Member,
    fields: Fields,
) -> Result<Response, Problem> {
    let label = words::plain(fields.get("label"), MAX_NAME);
    let made: NewCredential = fields.json("credential")?;
    match website.control.add_passkey(&member.login, &label, &made).await {
        Ok(_) => Ok(go(LIST)),
        Err(WebError::NotFresh) => Ok(confirm::first(LIST)),
        Err(error @ (WebError::Passkey(_) | WebError::TooManyPasskeys)) => {
            account::with_passkey_refused(&website, &member, label, &error).await
        }
        Err(error) => Err(error.into()),
    }
}

pub(crate) async fn rename(
    State(website): State<Arc<Website>>,
    member: Member,
    Named(asked): Named,
    fields: Fields,
) -> Result<Response, Problem> {
    let (id, info) = find(&website, &member, &asked).await?;
    let label = words::plain(fields.get("label"), MAX_NAME);
    match website.control.rename_passkey(&member.login, id, &label).await {
        Ok(()) => Ok(go(LIST)),
        Err(error @ WebError::Passkey(_)) => {
            let page = Page { label, label_wrong: error.to_string(), ..Page::new(&member, info) };
            words::show(web_status(&error), &page)
        }
        Err(error) => Err(error.into()),
    }
}

pub(crate) async fn remove(
    State(website): State<Arc<Website>>,
    member: Member,
    Named(asked): Named,
) -> Result<Response, Problem> {
    let (id, info) = find(&website, &member, &asked).await?;
    match website.control.remove_passkey(&member.login, id).await {
        Ok(()) => Ok(go(LIST)),
        Err(WebError::NotFresh) => Ok(confirm::first(&PasskeyView::from(info).path)),
        Err(error) => Err(error.into()),
    }
}
