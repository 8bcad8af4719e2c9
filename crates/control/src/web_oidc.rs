//! Logging in with an account elsewhere: OpenID Connect's code flow with PKCE, and one issuer that the operator chose.
//!
//! Nothing is remembered between the two halves: the browser carries one of the `Challenges` in a cookie, and state,
//! nonce and PKCE's verifier are made from that with the server's key. An answer counts in the browser that asked, once,
//! for five minutes.
//!
//! Who speaks HTTPS is somebody else: an [`Https`]. What the issuer says of itself is kept for an hour.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use berth_model::Secret;
use berth_store::{AuditKind, LoginWay, OidcId, OidcIdentity, OidcRow};
use form_urlencoded::Serializer;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use tokio::{sync::Mutex, time::Instant};
use tracing::warn;

use crate::{
    Control,
    keys::KeyUse,
    oidc::{Discovery, Expected, IdTokenError, Keys, is_safe, verify},
    web_error::WebError,
    web_session::{Client, NewSession, WebLogin},
};

/// How long what the issuer says of itself is good for.
const GOOD_FOR: Duration = Duration::from_secs(3600);
/// A key that is not known is asked for again this often at most.
const ASK_AGAIN: Duration = Duration::from_secs(60);
/// One that does not answer is asked again this often at most.
const ASK_AFTER_FAILURE: Duration = Duration::from_secs(5);
/// What a challenge is for.
const TO_LOG_IN: &str = "oidc log in";

/// The issuer that people can log in with.
#[derive(Debug, Clone)]
pub struct OidcSettings {
    /// What people call it: a button says `Log in with …`.
    pub name: String,
    /// Its address, to the letter as it says itself: no slash that is not its own.
    pub issuer: String,
    /// What it knows this installation by.
    pub client_id: String,
    /// The secret that it gave out for that.
    pub client_secret: Secret<String>,
}

/// Why there was no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HttpsError {
    /// Nobody could be reached, or in time.
    #[error("it cannot be reached: {0}")]
    Unreachable(String),
    /// The answer's status is none of success.
    #[error("it answered with status {0}")]
    Status(u16),
    /// The answer is larger than it may be.
    #[error("its answer is too large")]
    TooLarge,
}

/// How an issuer is spoken to: with certificates checked, no redirect followed, ten seconds in all, and at most 256 KiB of
/// an answer.
#[async_trait]
pub trait Https: Send + Sync {
    /// The body of what is there.
    async fn get(&self, address: &str) -> Result<Vec<u8>, HttpsError>;

    /// Sends a form (`application/x-www-form-urlencoded`), with the value of `Authorization` where there is one.
    async fn post(
        &self,
        address: &str,
        authorization: Option<&Secret<String>>,
        form: &Secret<String>,
    ) -> Result<Vec<u8>, HttpsError>;
}

/// An account elsewhere, as its owner sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OidcInfo {
    /// What names it here.
    pub id: OidcId,
    /// The issuer's address.
    pub issuer: String,
    /// What people call it: a text of the issuer's.
    pub label: String,
    /// When it was connected.
    #[serde(with = "time::serde::rfc3339")]
    pub added: OffsetDateTime,
    /// When and from where somebody last logged in with it.
    pub last_used: Option<KeyUse>,
}

impl From<OidcRow> for OidcInfo {
    fn from(row: OidcRow) -> Self {
        Self {
            id: row.id,
            issuer: row.identity.issuer,
            label: row.identity.label,
            added: row.added_at,
            last_used: row.last_used.map(|used| KeyUse { at: used.at, from: used.from }),
        }
    }
}

/// What the browser is to do.
#[derive(Debug, Clone)]
pub struct OidcStart {
    /// Where it goes.
    pub address: String,
    /// What it keeps meanwhile, for five minutes: `HttpOnly`, `SameSite=Lax`.
    pub cookie: Secret<String>,
}

/// What the issuer sent the browser back with.
#[derive(Debug, Clone)]
pub struct OidcAnswer {
    /// The cookie of [`OidcStart`].
    pub cookie: Secret<String>,
    /// `state` of the query.
    pub state: String,
    /// `code` of the query.
    pub code: Secret<String>,
}

/// What came of it.
#[derive(Debug)]
pub enum OidcDone {
    /// Somebody logged in.
    LoggedIn(NewSession),
    /// The account of the login has one elsewhere from now on.
    Connected(OidcInfo),
}

/// Why that did not work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OidcError {
    /// The operator chose no issuer.
    #[error("Logging in with an account elsewhere is not set up here.")]
    NotOffered,
    /// The issuer does not answer, or not as it should; the log says more.
    #[error("{name} does not answer as it should. Try again, or log in another way.")]
    Issuer {
        /// Its name.
        name: String,
    },
    /// It is no answer to what this browser was asked, or it comes too late.
    #[error("That took too long, or was answered before. Try again.")]
    Stale,
    /// It lets in to no account here.
    #[error(
        "{label} at {name} is not connected with an account here. Log in another way first, and connect it under Account."
    )]
    NotConnected {
        /// What the issuer calls the person.
        label: String,
        /// The issuer's name.
        name: String,
    },
    /// It lets in to an account already. To whose is not told.
    #[error("That account is connected already: with yours, or with another one here.")]
    Connected,
}

/// The issuer, and what it says of itself.
pub(crate) struct Issuer {
    settings: OidcSettings,
    https: Arc<dyn Https>,
    asked: Mutex<Asked>,
}

#[derive(Default)]
struct Asked {
    known: Option<Known>,
    /// When it last did not answer.
    failed: Option<Instant>,
}

#[derive(Clone)]
struct Known {
    discovery: Discovery,
    keys: Keys,
    at: Instant,
}

impl Issuer {
    fn failed(&self, why: &dyn std::fmt::Display) -> WebError {
        warn!(issuer = %self.settings.issuer, %why, "the issuer of OpenID Connect did not do as it should");
        OidcError::Issuer { name: self.settings.name.clone() }.into()
    }

    /// What it says of itself, not older than this.
    async fn known(&self, age: Duration) -> Result<Known, WebError> {
        let mut asked = self.asked.lock().await;
        if let Some(known) = asked.known.as_ref().filter(|known| known.at.elapsed() < age) {
            return Ok(known.clone());
        }
        // Those who waited meanwhile do not wait for the same once more.
        if asked.failed.is_some_and(|at| at.elapsed() < ASK_AFTER_FAILURE) {
            return Err(self.failed(&"it did not answer a moment ago"));
        }
        let known = self.ask().await;
        asked.failed = known.is_err().then(Instant::now);
        Ok(asked.known.insert(known?).clone())
    }

    async fn ask(&self) -> Result<Known, WebError> {
        let at = format!("{}/.well-known/openid-configuration", self.settings.issuer.trim_end_matches('/'));
        let text = self.https.get(&at).await.map_err(|error| self.failed(&error))?;
        let discovery = Discovery::parse(&text, &self.settings.issuer)
            .ok_or_else(|| self.failed(&"its configuration is another's, or not safe"))?;
        let text = self.https.get(&discovery.jwks_uri).await.map_err(|error| self.failed(&error))?;
        let keys = Keys::parse(&text).ok_or_else(|| self.failed(&"its keys cannot be read"))?;
        Ok(Known { discovery, keys, at: Instant::now() })
    }

    /// The ID token for a code.
    async fn redeem(
        &self,
        code: &Secret<String>,
        verifier: &Secret<String>,
        back: &str,
    ) -> Result<String, WebError> {
        #[derive(Deserialize)]
        struct Tokens {
            id_token: String,
        }
        let (id, secret) = (self.settings.client_id.as_str(), self.settings.client_secret.expose().as_str());
        let discovery = self.known(GOOD_FOR).await?.discovery;
        let mut fields = vec![
            ("grant_type", "authorization_code"),
            ("code", code.expose()),
            ("redirect_uri", back),
            ("code_verifier", verifier.expose()),
        ];
        let authorization = if discovery.secret_in_form() {
            fields.extend([("client_id", id), ("client_secret", secret)]);
            None
        } else {
            // Encoded as in a form before they are joined: RFC 6749, 2.3.1.
            let encode = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
            let pair = STANDARD.encode(format!("{}:{}", encode(id), encode(secret)));
            Some(Secret::new(format!("Basic {pair}")))
        };
        let form = Secret::new(Serializer::new(String::new()).extend_pairs(fields).finish());
        let answer = self.https.post(&discovery.token_endpoint, authorization.as_ref(), &form).await;
        let tokens: Tokens = match answer {
            Ok(answer) => serde_json::from_slice(&answer).map_err(|_| self.failed(&"it gave no ID token"))?,
            // A code that is over, or was used.
            Err(HttpsError::Status(400 | 401)) => return Err(OidcError::Stale.into()),
            Err(error) => return Err(self.failed(&error)),
        };
        Ok(tokens.id_token)
    }

    async fn identify(
        &self,
        token: &str,
        nonce: &Secret<String>,
        now: OffsetDateTime,
    ) -> Result<OidcIdentity, WebError> {
        let OidcSettings { issuer, client_id, .. } = &self.settings;
        let expected = Expected { issuer, client_id, nonce: nonce.expose(), now };
        let identity = match verify(token, &self.known(GOOD_FOR).await?.keys, &expected) {
            // It has new ones from time to time.
            Err(IdTokenError::UnknownKey) => verify(token, &self.known(ASK_AGAIN).await?.keys, &expected),
            identity => identity,
        };
        identity.map_err(|error| self.failed(&error))
    }
}

impl Control {
    /// Has people log in with an account elsewhere. To be called once, at the start; what is said later does not count.
    ///
    /// # Errors
    /// What it asks can be read on the way: the issuer's address does not begin with `https://`.
    pub fn offer_oidc(&self, settings: OidcSettings, https: Arc<dyn Https>) -> Result<(), HttpsError> {
        if !is_safe(&settings.issuer) {
            let why = format!("{} does not begin with https://", settings.issuer);
            return Err(HttpsError::Unreachable(why));
        }
        let _said_before = self.web.issuer.set(Issuer { settings, https, asked: Mutex::default() });
        Ok(())
    }

    /// What people call the issuer, where there is one.
    #[must_use]
    pub fn oidc_name(&self) -> Option<&str> {
        self.web.issuer.get().map(|issuer| issuer.settings.name.as_str())
    }

    /// Begins a log-in with an account elsewhere.
    ///
    /// # Errors
    /// [`WebError::Oidc`].
    pub async fn begin_oidc_log_in(&self) -> Result<OidcStart, WebError> {
        self.begin_oidc(TO_LOG_IN).await
    }

    /// Begins to connect an account elsewhere with that of a login.
    ///
    /// # Errors
    /// [`WebError::NotFresh`], [`WebError::Oidc`].
    pub async fn begin_oidc_connect(&self, login: &WebLogin) -> Result<OidcStart, WebError> {
        login.must_be_fresh()?;
        self.begin_oidc(&to_connect(login)).await
    }

    /// Ends what [`Control::begin_oidc_log_in`] or [`Control::begin_oidc_connect`] began, in the browser that began it;
    /// `login` is its login, if it has one.
    ///
    /// # Errors
    /// [`WebError::Oidc`], [`WebError::NotFresh`], [`WebError::TooManyTries`], [`WebError::TooManyOidcIdentities`]; the
    /// store fails.
    pub async fn finish_oidc(
        &self,
        login: Option<&WebLogin>,
        answer: &OidcAnswer,
        client: Client<'_>,
    ) -> Result<OidcDone, WebError> {
        let this = self.try_by(None, client)?;
        let issuer = self.web.issuer.get().ok_or(OidcError::NotOffered)?;
        let (cookie, now) = (answer.cookie.expose().as_str(), self.settings.clock.now());
        let challenges = &self.web.challenges;
        let connect = login.filter(|login| challenges.read(&to_connect(login), cookie, now).is_some());
        let purpose = connect.map_or_else(|| TO_LOG_IN.to_owned(), to_connect);
        let asked = challenges.read(&purpose, cookie, now).ok_or(OidcError::Stale)?;
        // Which of their first characters are alike tells nothing of use: a state is for one cookie.
        let state = challenges.secret_of("state", cookie);
        if Sha256::digest(state.expose()) != Sha256::digest(&answer.state) || !challenges.use_up(asked, now) {
            return Err(OidcError::Stale.into());
        }
        let token =
            issuer.redeem(&answer.code, &challenges.secret_of("verifier", cookie), &self.back()).await?;
        let identity = issuer.identify(&token, &challenges.secret_of("nonce", cookie), now).await?;
        let done = match connect {
            Some(login) => OidcDone::Connected(self.connect_oidc(login, &identity).await?),
            None => OidcDone::LoggedIn(self.log_in_by_oidc(issuer, identity, client).await?),
        };
        this.right();
        Ok(done)
    }

    async fn log_in_by_oidc(
        &self,
        issuer: &Issuer,
        identity: OidcIdentity,
        client: Client<'_>,
    ) -> Result<NewSession, WebError> {
        let opening = self.opening(LoginWay::Oidc, client);
        let begun = self.store.log_in_by_oidc(&identity, &opening.new, self.settings.clock.now()).await?;
        let begun = begun.ok_or_else(|| OidcError::NotConnected {
            label: identity.label,
            name: issuer.settings.name.clone(),
        })?;
        Ok(self.logged_in(opening, begun).await)
    }

    async fn connect_oidc(&self, login: &WebLogin, identity: &OidcIdentity) -> Result<OidcInfo, WebError> {
        login.must_be_fresh()?;
        let row = self.store.add_oidc(login.account(), identity, self.settings.clock.now()).await?;
        let row = row.ok_or(OidcError::Connected)?;
        self.note_oidc(login, AuditKind::OidcAdded, &row).await;
        Ok(row.into())
    }

    /// Takes an account elsewhere from the account of a login. Sessions that it began go on.
    ///
    /// # Errors
    /// [`WebError::NotFresh`], [`WebError::Missing`] where the account has none of that id; the store fails.
    pub async fn remove_oidc(&self, login: &WebLogin, id: OidcId) -> Result<(), WebError> {
        login.must_be_fresh()?;
        let row = self.store.remove_oidc(login.account(), id).await?.ok_or(WebError::Missing)?;
        self.note_oidc(login, AuditKind::OidcRemoved, &row).await;
        Ok(())
    }

    async fn begin_oidc(&self, purpose: &str) -> Result<OidcStart, WebError> {
        let issuer = self.web.issuer.get().ok_or(OidcError::NotOffered)?;
        let discovery = issuer.known(GOOD_FOR).await?.discovery;
        let challenges = &self.web.challenges;
        let cookie = challenges.make(purpose, self.settings.clock.now());
        let verifier = challenges.secret_of("verifier", &cookie);
        let query = Serializer::new(String::new())
            .append_pair("response_type", "code")
            .append_pair("client_id", &issuer.settings.client_id)
            .append_pair("redirect_uri", &self.back())
            .append_pair("scope", "openid email profile")
            .append_pair("state", challenges.secret_of("state", &cookie).expose())
            .append_pair("nonce", challenges.secret_of("nonce", &cookie).expose())
            .append_pair("code_challenge", &URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.expose())))
            .append_pair("code_challenge_method", "S256")
            .finish();
        let joint = if discovery.authorization_endpoint.contains('?') { '&' } else { '?' };
        let address = format!("{}{joint}{query}", discovery.authorization_endpoint);
        Ok(OidcStart { address, cookie: Secret::new(cookie) })
    }

    /// Where the issuer sends the browser back to.
    fn back(&self) -> String {
        format!("{}/log-in/oidc", self.settings.website)
    }

    async fn note_oidc(&self, login: &WebLogin, kind: AuditKind, row: &OidcRow) {
        let (label, issuer) = (row.identity.label.clone(), row.identity.issuer.clone());
        self.note(&login.actor(), kind, login.account(), label, issuer).await;
    }
}

fn to_connect(login: &WebLogin) -> String {
    format!("oidc connect {}", login.session())
}
