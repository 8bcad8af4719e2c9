//! What is dangerous asks once more who it is, when that was proved too long ago; and `/account/confirm`, which asks.

use std::sync::Arc;

use askama::Template;
use axum::{extract::State, http::StatusCode, response::Response};
use berth_control::{Assertion, WebError, WebLogin};
use berth_model::Secret;

use crate::{
    Website,
    asked::Query,
    fields::Fields,
    frame::{Frame, Here},
    origin::own_path,
    problem::{Problem, web_status},
    visitor::Member,
    way_in,
    words::{self, go},
};

/// What a page has to ask for.
pub(crate) struct Confirm {
    /// The account has a password to confirm with.
    pub(crate) has_password: bool,
    /// It was proved in the last half an hour.
    pub(crate) fresh: bool,
}

impl Confirm {
    pub(crate) async fn of(website: &Website, member: &Member) -> Result<Self, Problem> {
        Ok(Self {
            has_password: website.control.identities(&member.login).await?.password_set.is_some(),
            fresh: member.login.is_fresh(),
        })
    }

    /// It takes the page that asks.
    pub(crate) fn elsewhere(&self) -> bool {
        !self.fresh && !self.has_password
    }

    /// The page has a field for the password.
    pub(crate) fn by_password(&self) -> bool {
        !self.fresh && self.has_password
    }
}

/// The login after its holder has typed the password of now.
///
/// # Errors
/// It is another password; somebody tries too often; it cannot be found out now.
pub(crate) async fn proved(
    website: &Website,
    member: &Member,
    fields: &Fields,
) -> Result<WebLogin, WebError> {
    let old = Secret::new(fields.get("old").to_owned());
    website.control.prove(&member.login, &old, member.visitor.client()).await
}

#[derive(Template)]
#[template(path = "confirm.html")]
struct Page {
    frame: Frame,
    to: String,
    account: String,
    has_password: bool,
    has_passkeys: bool,
    ssh_log_in: String,
    wrong: String,
    old_wrong: String,
}

impl Page {
    async fn new(website: &Website, member: &Member, to: &str) -> Result<Self, Problem> {
        let identities = website.control.identities(&member.login).await?;
        Ok(Self {
            frame: Frame::new(&member.visitor, Here::Account("")),
            to: own_path(to).unwrap_or("/account").to_owned(),
            account: member.account().to_string(),
            has_password: identities.password_set.is_some(),
            has_passkeys: !identities.passkeys.is_empty(),
            ssh_log_in: way_in::log_in_command(website, Some(member.account())),
            wrong: String::new(),
            old_wrong: String::new(),
        })
    }
}

/// The page that asks, and what to go on with after it.
pub(crate) fn first(to: &str) -> Response {
    let to: String = form_urlencoded::byte_serialize(to.as_bytes()).collect();
    go(&format!("/account/confirm?to={to}"))
}

pub(crate) async fn show(
    State(website): State<Arc<Website>>,
    member: Member,
    query: Query,
) -> Result<Response, Problem> {
    let page = Page::new(&website, &member, query.get("to").unwrap_or_default()).await?;
    words::show(StatusCode::OK, &page)
}

pub(crate) async fn by_password(
    State(website): State<Arc<Website>>,
    member: Member,
    fields: Fields,
) -> Result<Response, Problem> {
    let page = Page::new(&website, &member, fields.get("to")).await?;
    match proved(&website, &member, &fields).await {
        Ok(_) => Ok(go(&page.to)),
        Err(error) => {
            let old_wrong = match error {
                WebError::Refused => "That is not your password.".to_owned(),
                WebError::TooManyTries { .. } | WebError::Busy => error.to_string(),
                error => return Err(error.into()),
            };
            words::show(web_status(&error), &Page { old_wrong, ..page })
        }
    }
}

/// What the browser is to ask for.
pub(crate) async fn passkey_options(
    State(website): State<Arc<Website>>,
    member: Member,
) -> Result<Response, Problem> {
    Ok(words::json(&website.control.begin_passkey_proof(&member.login).await?))
}

pub(crate) async fn by_passkey(
    State(website): State<Arc<Website>>,
    member: Member,
    fields: Fields,
) -> Result<Response, Problem> {
    let page = Page::new(&website, &member, fields.get("to")).await?;
    let assertion: Assertion = fields.json("credential")?;
    let client = member.visitor.client();
    match website.control.prove_by_passkey(&member.login, &assertion, client).await {
        Ok(_) => Ok(go(&page.to)),
        Err(error @ (WebError::PasskeyRefused | WebError::TooManyTries { .. })) => {
            words::show(web_status(&error), &Page { wrong: error.to_string(), ..page })
        }
        Err(error) => Err(error.into()),
    }
}
