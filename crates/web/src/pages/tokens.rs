//! `/account/tokens`: what programs use Berth with in your name.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use askama::Template;
use axum::{extract::State, http::StatusCode, response::Response};
use berth_control::{Scope, TokenError, TokenInfo, WebError};
use time::OffsetDateTime;

use super::confirm::{Confirm, proved};
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
const DAY: Duration = Duration::from_secs(24 * 3600);

#[derive(Template)]
#[template(path = "tokens.html")]
struct Page {
    frame: Frame,
    tokens: Vec<Token>,
    confirm: Confirm,
    fresh: Option<String>,
    name: String,
    name_wrong: String,
    scopes: Vec<Choice>,
    scopes_wrong: String,
    old_wrong: String,
}

struct Token {
    id: String,
    name: String,
    scopes: String,
    used: Option<(Moment, String)>,
    expires: Option<Moment>,
    over: bool,
}

/// A scope to choose.
struct Choice {
    id: &'static str,
    words: &'static str,
    chosen: bool,
}

impl From<TokenInfo> for Token {
    fn from(info: TokenInfo) -> Self {
        let scopes: Vec<_> = info.scopes.iter().map(|scope| scope.as_str()).collect();
        Self {
            id: info.id.to_string(),
            name: info.label,
            scopes: scopes.join(", "),
            used: info.last_used.map(|used| (Moment::new(used.at), used.from.to_string())),
            expires: info.expires.map(Moment::new),
            over: info.expires.is_some_and(|at| at <= OffsetDateTime::now_utc()),
        }
    }
}

fn what(scope: Scope) -> &'static str {
    match scope {
        Scope::VmsRead => "see your VMs",
        Scope::VmsWrite => "make, start, stop and remove your VMs",
        Scope::KeysRead => "see your SSH keys",
        Scope::KeysWrite => "add and remove your SSH keys",
        Scope::AccountRead => "see your account and what happened on it",
        Scope::OpsRead => "see everything on this Berth",
        Scope::OpsWrite => "run this Berth",
    }
}

/// What a member may allow a program.
fn choices(operator: bool, chosen: &BTreeSet<Scope>) -> Vec<Choice> {
    let for_operators = |scope: &Scope| matches!(scope, Scope::OpsRead | Scope::OpsWrite);
    let open = Scope::ALL.iter().copied().filter(|scope| operator || !for_operators(scope));
    open.map(|scope| Choice { id: scope.as_str(), words: what(scope), chosen: chosen.contains(&scope) })
        .collect()
}

impl Page {
    async fn new(website: &Website, member: &Member, chosen: &BTreeSet<Scope>) -> Result<Self, Problem> {
        let infos = website.control.tokens(&member.login).await?;
        Ok(Self {
            frame: Frame::new(&member.visitor, Here::Account("tokens")),
            tokens: infos.into_iter().map(Token::from).collect(),
            confirm: Confirm::of(website, member).await?,
            fresh: None,
            name: String::new(),
            name_wrong: String::new(),
            scopes: choices(member.visitor.is_operator(), chosen),
            scopes_wrong: String::new(),
            old_wrong: String::new(),
        })
    }
}

/// What is ticked before anybody ticks.
fn usual() -> BTreeSet<Scope> {
    BTreeSet::from([Scope::VmsRead])
}

pub(crate) async fn show(State(website): State<Arc<Website>>, member: Member) -> Result<Response, Problem> {
    words::show(StatusCode::OK, &Page::new(&website, &member, &usual()).await?)
}

pub(crate) async fn make(
    State(website): State<Arc<Website>>,
    member: Member,
    fields: Fields,
) -> Result<Response, Problem> {
    let name = words::plain(fields.get("name"), MAX_NAME);
    let chosen: BTreeSet<Scope> = fields.all("scope").filter_map(|scope| scope.parse().ok()).collect();
    let days = match fields.get("days") {
        "0" => None,
        "30" => Some(30),
        "365" => Some(365),
        _ => Some(90),
    };
    let expires = days.map(|days| OffsetDateTime::now_utc() + DAY * days);
    let login = if member.login.is_fresh() {
        Ok(member.login.clone())
    } else {
        proved(&website, &member, &fields).await
    };
    let made = match login {
        Ok(login) => website.control.make_token(&login, &name, chosen.clone(), expires).await,
        Err(error) => Err(error),
    };
    let error = match made {
        Ok((_, token)) => {
            let page = Page::new(&website, &member, &usual()).await?;
            return words::show(StatusCode::OK, &Page { fresh: Some(token.expose().clone()), ..page });
        }
        Err(error) => error,
    };
    let mut page = Page { name, ..Page::new(&website, &member, &chosen).await? };
    match &error {
        WebError::Token(wrong @ TokenError::Label) => page.name_wrong = wrong.to_string(),
        WebError::Token(wrong) => page.scopes_wrong = wrong.to_string(),
        WebError::TooManyTokens => page.name_wrong = error.to_string(),
        WebError::Refused => page.old_wrong = "That is not your password.".into(),
        WebError::TooManyTries { .. } | WebError::Busy => page.old_wrong = error.to_string(),
        _ => return Err(error.into()),
    }
    words::show(web_status(&error), &page)
}

pub(crate) async fn remove(
    State(website): State<Arc<Website>>,
    member: Member,
    Named(id): Named,
) -> Result<Response, Problem> {
    let id = id.parse().map_err(|_| Problem::missing())?;
    website.control.remove_token(&member.login, id).await?;
    Ok(go("/account/tokens"))
}
