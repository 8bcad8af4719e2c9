//! `/account`: who you are here, and your password.

use std::sync::Arc;

use askama::Template;
use axum::{extract::State, http::StatusCode, response::Response};
use berth_control::WebError;
use berth_model::Secret;

use super::{
    confirm::{Confirm, proved},
    oidc::OidcView,
    passkeys::PasskeyView,
};
use crate::{
    Website,
    asked::Query,
    fields::Fields,
    frame::{Frame, Here},
    problem::{Problem, web_status},
    visitor::Member,
    words::{self, go},
};

#[derive(Template)]
#[template(path = "account.html")]
struct Page {
    frame: Frame,
    account: String,
    vms: usize,
    keys: usize,
    confirm: Confirm,
    changed: bool,
    old_wrong: String,
    new_wrong: String,
    passkeys: Vec<PasskeyView>,
    passkey_label: String,
    passkey_wrong: String,
    oidc: Vec<OidcView>,
    oidc_name: Option<String>,
    oidc_wrong: String,
}

impl Page {
    async fn new(website: &Website, member: &Member) -> Result<Self, Problem> {
        let identities = website.control.identities(&member.login).await?;
        Ok(Self {
            frame: Frame::new(&member.visitor, Here::Account("profile")),
            account: member.account().to_string(),
            vms: member.acting.vms(Some(member.account())).await?.len(),
            keys: member.acting.keys(member.account()).await?.len(),
            confirm: Confirm {
                has_password: identities.password_set.is_some(),
                fresh: member.login.is_fresh(),
            },
            changed: false,
            old_wrong: String::new(),
            new_wrong: String::new(),
            passkeys: identities.passkeys.into_iter().map(PasskeyView::from).collect(),
            passkey_label: words::browser(member.visitor.user_agent()),
            passkey_wrong: String::new(),
            oidc: identities.oidc.into_iter().map(OidcView::from).collect(),
            oidc_name: website.control.oidc_name().map(str::to_owned),
            oidc_wrong: String::new(),
        })
    }
}

pub(crate) async fn show(
    State(website): State<Arc<Website>>,
    member: Member,
    query: Query,
) -> Result<Response, Problem> {
    let page = Page { changed: query.get("changed").is_some(), ..Page::new(&website, &member).await? };
    words::show(StatusCode::OK, &page)
}

/// The page with what was wrong with a new passkey.
pub(crate) async fn with_passkey_refused(
    website: &Website,
    member: &Member,
    passkey_label: String,
    error: &WebError,
) -> Result<Response, Problem> {
    let page = Page { passkey_label, passkey_wrong: error.to_string(), ..Page::new(website, member).await? };
    words::show(web_status(error), &page)
}

/// The page with why an account elsewhere was not connected.
pub(crate) async fn with_oidc_refused(
    website: &Website,
    member: &Member,
    error: &WebError,
) -> Result<Response, Problem> {
    let page = Page { oidc_wrong: error.to_string(), ..Page::new(website, member).await? };
    words::show(web_status(error), &page)
}

/// Whoever has a password types it, however fresh the log-in is: a browser left open must not be enough to lock its
/// owner out.
pub(crate) async fn set_password(
    State(website): State<Arc<Website>>,
    member: Member,
    fields: Fields,
) -> Result<Response, Problem> {
    let mut page = Page::new(&website, &member).await?;
    let new = Secret::new(fields.get("password").to_owned());
    let login = if page.confirm.has_password {
        proved(&website, &member, &fields).await
    } else {
        Ok(member.login.clone())
    };
    let done = match login {
        Ok(login) => website.control.set_password(&login, &new).await,
        Err(error) => Err(error),
    };
    let Err(error) = done else { return Ok(go("/account?changed#password")) };
    match &error {
        WebError::Password(wrong) => page.new_wrong = wrong.to_string(),
        WebError::Refused => page.old_wrong = "That is not the password that you have now.".into(),
        WebError::TooManyTries { .. } | WebError::Busy => page.old_wrong = error.to_string(),
        _ => return Err(error.into()),
    }
    words::show(web_status(&error), &page)
}
