//! `/link/TOKEN`: one-time links to log in, to choose a new password, and to make an account. Looking at one uses nothing
//! up, since programs look at the links in messages before people do; only the form does.

use std::sync::Arc;

use askama::Template;
use axum::{extract::State, http::StatusCode, response::Response};
use berth_control::{Error, LinkPurpose, WebError};
use berth_model::Secret;

use super::log_in::enter;
use crate::{
    Website,
    asked::Named,
    fields::Fields,
    frame::{Frame, Here},
    problem::{self, Problem, web_status},
    visitor::Visitor,
    words,
};

/// The most characters of a name, with room for what is wrong about it to be seen.
const MAX_NAME: usize = 64;

#[derive(Template)]
#[template(path = "link.html")]
struct LogIn {
    frame: Frame,
    account: String,
    action: String,
}

#[derive(Template)]
#[template(path = "reset.html")]
struct Reset {
    frame: Frame,
    account: String,
    action: String,
    wrong: String,
}

#[derive(Template)]
#[template(path = "invitation.html")]
struct Invitation {
    frame: Frame,
    action: String,
    invited_by: Option<String>,
    name_is_set: bool,
    name: String,
    name_wrong: String,
    password_wrong: String,
}

/// The page of a link: what it is for, and a button.
enum Page {
    LogIn(LogIn),
    Reset(Reset),
    Invitation(Invitation),
}

impl Page {
    async fn of(website: &Website, visitor: &Visitor, token: &str) -> Result<Self, Problem> {
        let link = website.control.look_at_link(&Secret::new(token.to_owned()), visitor.client()).await?;
        let (frame, action) = (Frame::new(visitor, Here::LogIn), format!("/link/{token}"));
        Ok(match link.purpose {
            LinkPurpose::LogIn(account) => Self::LogIn(LogIn { frame, account: account.to_string(), action }),
            LinkPurpose::Reset(account) => {
                Self::Reset(Reset { frame, account: account.to_string(), action, wrong: String::new() })
            }
            LinkPurpose::Invitation(invitation) => Self::Invitation(Invitation {
                frame,
                action,
                invited_by: link.made_by.map(|name| name.to_string()),
                name_is_set: invitation.name.is_some(),
                name: invitation.name.map(|name| name.to_string()).unwrap_or_default(),
                name_wrong: String::new(),
                password_wrong: String::new(),
            }),
        })
    }

    fn show(&self, code: StatusCode) -> Result<Response, Problem> {
        match self {
            Self::LogIn(page) => words::show(code, page),
            Self::Reset(page) => words::show(code, page),
            Self::Invitation(page) => words::show(code, page),
        }
    }

    /// The page once more, with what was wrong beside the field that it is about; other errors are no part of it.
    fn refused(mut self, error: WebError) -> Result<Response, Problem> {
        match (&mut self, &error) {
            (Self::Reset(page), WebError::Password(wrong)) => page.wrong = wrong.to_string(),
            (Self::Invitation(page), WebError::Password(wrong)) => page.password_wrong = wrong.to_string(),
            (Self::Invitation(page), WebError::Name(wrong)) => page.name_wrong = wrong.to_string(),
            (Self::Invitation(page), WebError::Other(taken @ Error::NameTaken(_))) => {
                page.name_wrong = problem::words(taken);
            }
            _ => return Err(error.into()),
        }
        self.show(web_status(&error))
    }
}

pub(crate) async fn show(
    State(website): State<Arc<Website>>,
    visitor: Visitor,
    Named(token): Named,
) -> Result<Response, Problem> {
    Page::of(&website, &visitor, &token).await?.show(StatusCode::OK)
}

/// Uses it up.
pub(crate) async fn follow(
    State(website): State<Arc<Website>>,
    visitor: Visitor,
    Named(token): Named,
    fields: Fields,
) -> Result<Response, Problem> {
    let mut page = Page::of(&website, &visitor, &token).await?;
    let (control, client, token) = (&website.control, visitor.client(), Secret::new(token));
    let password = Secret::new(fields.get("password").to_owned());
    let (followed, next) = match &mut page {
        Page::LogIn(_) => (control.log_in_by_link(&token, client).await, "/"),
        Page::Reset(_) => (control.reset_password(&token, &password, client).await, "/"),
        Page::Invitation(page) => {
            if !page.name_is_set {
                page.name = words::plain(fields.get("name"), MAX_NAME);
            }
            // Nobody who is new here has a key yet, so a password is what they come back with.
            (control.accept_invitation(&token, &page.name, Some(&password), client).await, "/account/keys")
        }
    };
    match followed {
        Ok(session) => Ok(enter(&website, &visitor, &session, next).await),
        Err(error) => page.refused(error),
    }
}
