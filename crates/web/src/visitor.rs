//! Who asks.

use std::{net::IpAddr, sync::Arc};

use axum::{
    extract::FromRequestParts,
    http::{
        HeaderMap, HeaderName, HeaderValue,
        header::{ACCEPT, CONTENT_TYPE, SET_COOKIE, USER_AGENT},
        request::Parts,
    },
    response::Response,
};
use berth_control::{Acting, Client, WebLogin};
use berth_model::{AccountName, Secret};
use rand::distr::{Alphanumeric, SampleString};
use subtle::ConstantTimeEq;

use crate::{Website, api::gate::has_token, cookies::Cookie, listen::Peer, problem::Problem};

/// So much of what a browser says of itself is looked at.
const MAX_USER_AGENT: usize = 256;
const FORM_TOKEN: usize = 32;
const HX_REQUEST: HeaderName = HeaderName::from_static("hx-request");

/// Who asks, and how they want to be answered. The guard puts it into every request.
#[derive(Clone)]
pub(crate) struct Visitor {
    login: Option<WebLogin>,
    /// What forms of somebody unknown are compared with.
    form: String,
    /// What is in every form that this answer shows.
    token: String,
    form_is_new: bool,
    secure: bool,
    peer: IpAddr,
    user_agent: String,
    wants: Wants,
}

/// What an answer should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wants {
    /// A page.
    Page,
    /// A page of which a script takes a part.
    Part,
    /// A stream of events.
    Events,
    /// Data.
    Json,
}

impl Wants {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
        if accept.contains("text/event-stream") {
            Self::Events
        } else if headers.contains_key(HX_REQUEST) {
            Self::Part
        } else if accept.contains("application/json") && !accept.contains("text/html") {
            Self::Json
        } else {
            Self::Page
        }
    }
}

impl Visitor {
    /// Looks at the cookies of a request. A cookie that means nothing is as none.
    ///
    /// # Errors
    /// It cannot be found out now.
    pub(crate) async fn of(website: &Website, request: &Parts) -> Result<Self, Problem> {
        let (headers, secure) = (&request.headers, website.secure);
        let peer = Peer::of(&request.extensions);
        // Who comes with a token comes as a program, and is nobody on the pages.
        let cookie = Cookie::LogIn.read(headers, secure).filter(|_| !has_token(headers));
        let login = match cookie {
            Some(cookie) => website.control.web_login(&Secret::new(cookie), peer).await?,
            None => None,
        };
        let form = Cookie::Form.read(headers, secure);
        let agent = headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
        let form_is_new = form.is_none();
        let form = form.unwrap_or_else(|| Alphanumeric.sample_string(&mut rand::rng(), FORM_TOKEN));
        Ok(Self {
            token: login.as_ref().map_or_else(|| form.clone(), WebLogin::csrf),
            login,
            form_is_new,
            form,
            secure,
            peer,
            user_agent: agent.chars().take(MAX_USER_AGENT).collect(),
            wants: Wants::of(headers),
        })
    }

    pub(crate) fn login(&self) -> Option<&WebLogin> {
        self.login.as_ref()
    }

    pub(crate) fn is_operator(&self) -> bool {
        self.login().is_some_and(WebLogin::is_operator)
    }

    pub(crate) fn wants(&self) -> Wants {
        self.wants
    }

    pub(crate) fn user_agent(&self) -> &str {
        &self.user_agent
    }

    /// Who asks, for control's lists.
    pub(crate) fn client(&self) -> Client<'_> {
        Client { address: self.peer, user_agent: &self.user_agent }
    }

    /// What is in every form that this visitor is shown.
    pub(crate) fn token(&self) -> String {
        self.token.clone()
    }

    /// Whether a form has what it was shown with.
    pub(crate) fn made_the_form(&self, token: &str) -> bool {
        match &self.login {
            Some(login) => login.csrf_matches(token),
            // A new one was never shown.
            None => !self.form_is_new && bool::from(token.as_bytes().ct_eq(self.form.as_bytes())),
        }
    }

    /// Marks the browser of somebody unknown, so that the forms that it is shown can be told from a stranger's.
    pub(crate) fn mark(&self, response: &mut Response) {
        let kind = response.headers().get(CONTENT_TYPE).map_or(&[][..], HeaderValue::as_bytes);
        // Files are kept by caches, which must not hand a cookie on.
        if kind.starts_with(b"text/html")
            && self.login.is_none()
            && self.form_is_new
            && let Some(cookie) = Cookie::Form.set(&self.form, self.secure)
        {
            response.headers_mut().append(SET_COOKIE, cookie);
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Visitor {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts.extensions.get::<Self>().cloned().ok_or_else(Problem::broken)
    }
}

/// Somebody who is logged in.
#[derive(Clone)]
pub(crate) struct Member {
    pub(crate) login: WebLogin,
    pub(crate) visitor: Visitor,
    /// What they do goes this way: it asks whether they may, and writes it down.
    pub(crate) acting: Acting,
}

impl Member {
    pub(crate) fn account(&self) -> &AccountName {
        self.login.account()
    }
}

impl FromRequestParts<Arc<Website>> for Member {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, website: &Arc<Website>) -> Result<Self, Problem> {
        let visitor = Visitor::from_request_parts(parts, website).await?;
        // The route's row has seen to it.
        let login = visitor.login.clone().ok_or_else(Problem::broken)?;
        let acting = website.control.acting(login.actor());
        Ok(Self { login, visitor, acting })
    }
}

/// A member who runs this Berth.
#[derive(Clone)]
pub(crate) struct Operator(pub(crate) Member);

impl FromRequestParts<Arc<Website>> for Operator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, website: &Arc<Website>) -> Result<Self, Problem> {
        let member = Member::from_request_parts(parts, website).await?;
        // The route's row has seen to it.
        if member.visitor.is_operator() { Ok(Self(member)) } else { Err(Problem::broken()) }
    }
}

/// Sets or takes back a cookie on a response.
pub(crate) fn with_cookie(mut response: Response, cookie: Option<HeaderValue>) -> Response {
    if let Some(cookie) = cookie {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    response
}
