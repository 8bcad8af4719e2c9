//! People on the website, for the tests of it.

use std::{net::IpAddr, sync::OnceLock};

use berth_control::{
    Acting, Actor, AuditInfo, AuditQuery, Client, Invitation, LinkFor, NewSession, Role, WebError, WebLogin,
};
use berth_model::Secret;

use crate::world::{HOME, World, account};

pub(crate) const PASSWORD: &str = "a lemon, two boats";
pub(crate) const ELSEWHERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 1));

pub(crate) fn secret(text: &str) -> Secret<String> {
    Secret::new(text.to_owned())
}

pub(crate) fn client(address: IpAddr) -> Client<'static> {
    Client { address, user_agent: "Mozilla/5.0 (test)" }
}

/// A second world's cookie, or a random one: never of this world.
pub(crate) fn strangers_cookie() -> Secret<String> {
    secret(&"x".repeat(43))
}

/// The hash of [`PASSWORD`], made once for all tests.
static HASH: OnceLock<Secret<String>> = OnceLock::new();

impl World {
    pub(crate) fn host(&self) -> Acting {
        self.control.acting(Actor::host())
    }

    pub(crate) fn by(&self, login: &WebLogin) -> Acting {
        self.control.acting(login.actor())
    }

    /// Gives an account [`PASSWORD`].
    pub(crate) async fn has_password(&self, name: &str) {
        let hash = match HASH.get() {
            Some(hash) => hash.clone(),
            None => {
                let login = self.log_in_by_link(name).await.login;
                self.control.set_password(&login, &secret(PASSWORD)).await.unwrap();
                self.control.log_out(&login).await.unwrap();
                let row = self.store.password(&account(name)).await.unwrap().unwrap();
                HASH.get_or_init(|| row.hash).clone()
            }
        };
        self.store.set_password(&account(name), &hash, None, time::OffsetDateTime::UNIX_EPOCH).await.unwrap();
    }

    pub(crate) async fn try_password(&self, name: &str, password: &str) -> Result<NewSession, WebError> {
        self.control.log_in_by_password(name, &secret(password), client(HOME)).await
    }

    pub(crate) async fn link(&self, name: &str, what: LinkFor) -> Secret<String> {
        token(&self.host().make_link(&account(name), what).await.unwrap())
    }

    pub(crate) async fn invitation(&self, name: Option<&str>, role: Role) -> Secret<String> {
        let invitation = Invitation { name: name.map(account), role, note: "carol@example.com".to_owned() };
        token(&self.host().invite(invitation).await.unwrap().1)
    }

    pub(crate) async fn log_in_by_link(&self, name: &str) -> NewSession {
        let link = self.link(name, LinkFor::LogIn).await;
        self.control.log_in_by_link(&link, client(HOME)).await.unwrap()
    }

    /// Whether a cookie lets in.
    pub(crate) async fn lets_in(&self, cookie: &Secret<String>) -> bool {
        self.control.web_login(cookie, HOME).await.unwrap().is_some()
    }

    /// The words for what happened, the first first.
    pub(crate) async fn trail(&self) -> Vec<String> {
        let lines = self.host().audit(&AuditQuery::default()).await.unwrap();
        lines.iter().rev().map(words).collect()
    }
}

pub(crate) fn words(line: &AuditInfo) -> String {
    let who =
        |name: &Option<berth_model::AccountName>| name.as_ref().map_or("-".to_owned(), ToString::to_string);
    format!(
        "{} {} by {}/{} {} {}",
        line.kind.as_str(),
        who(&line.account),
        who(&line.actor),
        line.way.as_str(),
        line.subject,
        line.detail
    )
    .trim()
    .replace("  ", " ")
}

/// What is behind the last slash of a link.
pub(crate) fn token(link: &Secret<String>) -> Secret<String> {
    let (website, token) = link.expose().rsplit_once('/').unwrap();
    assert_eq!(website, "https://koding.com/link");
    secret(token)
}
