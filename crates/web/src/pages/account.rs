//! `/account`: who you are here, and your password.

use std::sync::Arc;

use askama::Template;
use axum::{extract::State, http::StatusCode, response::Response};
use berth_control::WebError;
use berth_model::Secret;

use super::confirm::{Confirm, proved};
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
}

impl Page {
    async fn new(website: &Website, member: &Member) -> Result<Self, Problem> {
        Ok(Self {
            frame: Frame::new(&member.visitor, Here::Account("profile")),
            account: member.account().to_string(),
            vms: member.acting.vms(Some(member.account())).await?.len(),
            keys: member.acting.keys(member.account()).await?.len(),
            confirm: Confirm::of(website, member).await?,
            changed: false,
            old_wrong: String::new(),
            new_wrong: String::new(),
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
