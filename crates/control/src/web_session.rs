//! Who is logged in on the website: the only file that makes a [`WebLogin`].
//!
//! A session is a row in the store and a cookie in a browser: 256 random bits, of which the store has the hash. Every
//! log-in begins a new one, so nobody can hand somebody else a cookie and wait until it is logged in (session fixation).

use std::{net::IpAddr, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use berth_model::{AccountName, Secret};
use berth_store::{
    AuditKind, BegunSession, LoginSessionRow, LoginWay, NewLoginSession, Role, SecretHash, SessionId,
    SessionLife, Way,
};
use hmac::{Hmac, KeyInit, Mac};
use rand::{RngExt, distr::Alphanumeric};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use time::OffsetDateTime;
use tracing::warn;

use crate::{
    Control, access::expiry, actor::Actor, clock::Clock, error::Error, revocation::Revocation,
    web_error::WebError,
};

/// How long a session lasts.
pub const SESSION_LIFE: SessionLife =
    SessionLife { at_most: Duration::from_secs(90 * 24 * 3600), idle: Duration::from_secs(14 * 24 * 3600) };
/// So long after somebody proved who they are they need not do it again.
const FRESH: Duration = Duration::from_secs(30 * 60);
/// When a session was last seen is written down this often.
const SEEN_EVERY: Duration = Duration::from_secs(60);
/// Letters and digits in a random secret: 62⁴³ > 2²⁵⁶.
pub(crate) const SECRET_LEN: usize = 43;
/// Bytes of a CSRF token that make each another one.
const NONCE: usize = 16;

/// Who asks on the website.
#[derive(Debug, Clone, Copy)]
pub struct Client<'a> {
    /// The client's address.
    pub address: IpAddr,
    /// What the browser says it is.
    pub user_agent: &'a str,
}

/// Proof that somebody is logged in on the website. Ends with the session.
#[derive(Debug, Clone)]
pub struct WebLogin {
    session: LoginSessionRow,
    from: IpAddr,
    cookie: Secret<String>,
    clock: Clock,
    revocation: Revocation,
}

/// A session that has just begun.
#[derive(Debug, Clone)]
pub struct NewSession {
    /// What the browser keeps, and nobody else: letters and digits.
    pub cookie: Secret<String>,
    /// The proof.
    pub login: WebLogin,
}

/// A session as its account sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionInfo {
    /// What names it. Says nothing of its cookie.
    pub id: SessionId,
    /// How its holder logged in.
    pub way: LoginWay,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub created: OffsetDateTime,
    /// When it was last used, to a minute.
    #[serde(with = "time::serde::rfc3339")]
    pub seen: OffsetDateTime,
    /// From where.
    pub address: IpAddr,
    /// What the browser said it is: a stranger's text.
    pub user_agent: String,
    /// It is the one that asks.
    pub current: bool,
}

impl WebLogin {
    /// Who is logged in.
    #[must_use]
    pub fn account(&self) -> &AccountName {
        &self.session.account
    }

    /// What the account may do. Another role ends the session.
    #[must_use]
    pub fn role(&self) -> Role {
        self.session.role
    }

    /// Whether it is an operator's.
    #[must_use]
    pub fn is_operator(&self) -> bool {
        self.role() == Role::Operator
    }

    /// How its holder logged in.
    #[must_use]
    pub fn way(&self) -> LoginWay {
        self.session.way
    }

    /// Which session it is.
    #[must_use]
    pub fn session(&self) -> SessionId {
        self.session.id
    }

    /// Whether its holder proved who they are not long ago: asked for before something dangerous.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.clock.now() < self.session.proved_at + FRESH
    }

    /// Who is told when it ends.
    pub(crate) fn revocation(&self) -> &Revocation {
        &self.revocation
    }

    /// When it ends, unless it is used again.
    pub(crate) fn ends_at(&self) -> OffsetDateTime {
        ends_at(&self.session)
    }

    /// Refuses what is dangerous where the proof is too old.
    pub(crate) fn must_be_fresh(&self) -> Result<(), WebError> {
        if self.is_fresh() { Ok(()) } else { Err(WebError::NotFresh) }
    }

    /// The same login, after its holder proved again who they are.
    pub(crate) fn proved_at(&self, at: OffsetDateTime) -> Self {
        let mut login = self.clone();
        login.session.proved_at = at;
        login
    }

    /// Who acts, for [`Control::acting`].
    #[must_use]
    pub fn actor(&self) -> Actor {
        Actor::account(self.account().clone(), self.role(), Way::Web, self.from)
    }

    /// A token for a form of this session: another one each time, so that compressed pages tell nothing of it.
    #[must_use]
    pub fn csrf(&self) -> String {
        let nonce: [u8; NONCE] = rand::random();
        let mac = self.csrf_mac(&nonce).finalize().into_bytes();
        URL_SAFE_NO_PAD.encode([nonce.as_slice(), mac.as_slice()].concat())
    }

    /// Whether a form's token is of this session.
    #[must_use]
    pub fn csrf_matches(&self, given: &str) -> bool {
        let Ok(given) = URL_SAFE_NO_PAD.decode(given) else { return false };
        let Some((nonce, mac)) = given.split_at_checked(NONCE) else { return false };
        self.csrf_mac(nonce).verify_slice(mac).is_ok()
    }

    fn csrf_mac(&self, nonce: &[u8]) -> Hmac<Sha256> {
        let key = self.cookie.expose().as_bytes();
        let mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
        mac.chain_update(b"csrf ").chain_update(nonce)
    }

    /// Waits until the session ends: by a log-out anywhere, by whatever ends all of the account's, or by time. Whoever
    /// let its holder in ends it then.
    pub async fn ended(&self) {
        tokio::select! {
            () = self.revocation.revoked() => {}
            () = expiry(Some(ends_at(&self.session)), self.clock) => {}
        }
    }
}

/// A session that is not over.
pub(crate) struct LiveSession {
    pub(crate) session: LoginSessionRow,
    pub(crate) revocation: Revocation,
}

/// When a session ends that is not used any more.
pub(crate) fn ends_at(session: &LoginSessionRow) -> OffsetDateTime {
    (session.created_at + SESSION_LIFE.at_most).min(session.seen_at + SESSION_LIFE.idle)
}

/// A new random secret: letters and digits, fit for a cookie and for a path.
pub(crate) fn new_secret() -> Secret<String> {
    Secret::new(rand::rng().sample_iter(Alphanumeric).take(SECRET_LEN).map(char::from).collect())
}

/// The hash of what may be a secret of ours; `None` for a text that cannot be one.
pub(crate) fn hash_of(secret: &Secret<String>) -> Option<SecretHash> {
    let text = secret.expose();
    let is_one = text.len() == SECRET_LEN && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_one.then(|| SecretHash::of(secret))
}

/// A session that is about to begin.
pub(crate) struct Opening {
    cookie: Secret<String>,
    /// What the store is told.
    pub(crate) new: NewLoginSession,
    /// From before the store is told, so that an end right after that is noticed.
    revocation: Revocation,
}

impl Control {
    /// The session of a cookie; `None` where there is none, or it is over.
    ///
    /// Notes that it was seen. A session that ends at the same moment is either not found or ends what is given: there
    /// is no gap.
    ///
    /// # Errors
    /// The store fails.
    pub async fn web_login(&self, cookie: &Secret<String>, from: IpAddr) -> Result<Option<WebLogin>, Error> {
        let Some(hash) = hash_of(cookie) else { return Ok(None) };
        let Some(LiveSession { session, revocation }) = self.live_session(hash).await? else {
            return Ok(None);
        };
        let (clock, now) = (self.settings.clock, self.settings.clock.now());
        if now - session.seen_at >= SEEN_EVERY
            && let Err(error) = self.store.touch_login_session(session.id, from, now).await
        {
            warn!(%error, "the use of a login session was not written down");
        }
        Ok(Some(WebLogin { session, from, cookie: cookie.clone(), clock, revocation }))
    }

    /// The session of a cookie of this hash, if it is not over. Does not count as a use of it.
    pub(crate) async fn live_session(&self, cookie: SecretHash) -> Result<Option<LiveSession>, Error> {
        // Before the look into the store: an end after that look finds this revocation.
        let revocation = self.web.sessions.of(&cookie);
        let session = self.store.login_session(cookie).await?;
        let live = session.filter(|session| ends_at(session) > self.settings.clock.now());
        Ok(live.map(|session| LiveSession { session, revocation }))
    }

    /// Ends the session.
    ///
    /// # Errors
    /// The store fails.
    pub async fn log_out(&self, login: &WebLogin) -> Result<(), Error> {
        let ended = self.store.end_login_session(login.account(), login.session()).await?;
        self.web.end(ended);
        Ok(())
    }

    /// The sessions of the account, the one that was used last first.
    ///
    /// # Errors
    /// The store fails.
    pub async fn web_sessions(&self, login: &WebLogin) -> Result<Vec<SessionInfo>, Error> {
        let now = self.settings.clock.now();
        let rows = self.store.login_sessions(login.account()).await?;
        let live = rows.into_iter().filter(|row| ends_at(row) > now);
        Ok(live
            .map(|row| SessionInfo {
                current: row.id == login.session(),
                id: row.id,
                way: row.way,
                created: row.created_at,
                seen: row.seen_at,
                address: row.address,
                user_agent: row.user_agent,
            })
            .collect())
    }

    /// Ends a session of the account.
    ///
    /// # Errors
    /// [`WebError::Missing`] where the account has no such session; the store fails.
    pub async fn end_session(&self, login: &WebLogin, session: SessionId) -> Result<(), WebError> {
        let ended = self.store.end_login_session(login.account(), session).await?;
        self.web.end([ended.ok_or(WebError::Missing)?]);
        self.note_of(login, AuditKind::SessionEnded, String::new()).await;
        Ok(())
    }

    /// Ends all sessions of the account but this one, and tells how many those were.
    ///
    /// # Errors
    /// The store fails.
    pub async fn end_other_sessions(&self, login: &WebLogin) -> Result<usize, Error> {
        let ended = self.store.end_login_sessions(login.account(), Some(login.session())).await?;
        let count = ended.len();
        self.web.end(ended);
        if count > 0 {
            self.note_of(login, AuditKind::SessionEnded, format!("all others: {count}")).await;
        }
        Ok(count)
    }

    /// Makes a cookie for somebody who is about to be logged in.
    pub(crate) fn opening(&self, way: LoginWay, client: Client<'_>) -> Opening {
        let cookie = new_secret();
        let new = NewLoginSession {
            cookie: SecretHash::of(&cookie),
            way,
            address: client.address,
            user_agent: client.user_agent.to_owned(),
            life: SESSION_LIFE,
        };
        let revocation = self.web.sessions.of(&new.cookie);
        Opening { cookie, new, revocation }
    }

    /// What is given to somebody whose session has begun; what ended by that ends here.
    pub(crate) fn begun(&self, opening: Opening, begun: BegunSession) -> NewSession {
        self.web.end(begun.ended);
        let Opening { cookie, new, revocation } = opening;
        let login = WebLogin {
            session: begun.session,
            from: new.address,
            cookie: cookie.clone(),
            clock: self.settings.clock,
            revocation,
        };
        NewSession { cookie, login }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_differ_and_are_known_as_such() {
        let (one, other) = (new_secret(), new_secret());
        assert_ne!(one.expose(), other.expose());
        assert_eq!(hash_of(&one), Some(SecretHash::of(&one)));
        for text in
            ["", "abc", &"a".repeat(44), &format!("{}-", "a".repeat(42)), &format!("é{}", "a".repeat(41))]
        {
            assert_eq!(hash_of(&Secret::new(text.to_owned())), None, "{text}");
        }
    }
}
