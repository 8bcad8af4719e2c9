//! Passkeys: added by who is logged in, and a way in without a name or a password.
//!
//! What a browser is asked is one of the `Challenges`, for one purpose.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use berth_model::AccountName;
use berth_store::{AuditKind, LoginWay, MAX_PASSKEY_LABEL, NewPasskey, PasskeyId, PasskeyRow, PasskeyUse};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use crate::{
    Control,
    keys::KeyUse,
    web_challenges::ANSWER,
    web_error::WebError,
    web_session::{Client, NewSession, WebLogin},
    webauthn::{ALGORITHMS, Assertion, NewCredential, PasskeyError, RelyingParty},
};

/// A passkey as its owner sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PasskeyInfo {
    /// What names it.
    pub id: PasskeyId,
    /// What its owner calls it.
    pub label: String,
    /// When it was added.
    #[serde(with = "time::serde::rfc3339")]
    pub added: OffsetDateTime,
    /// When and from where it was used last.
    pub last_used: Option<KeyUse>,
}

impl From<PasskeyRow> for PasskeyInfo {
    fn from(row: PasskeyRow) -> Self {
        Self {
            id: row.id,
            label: row.passkey.label,
            added: row.added_at,
            last_used: row.last_used.map(|used| KeyUse { at: used.at, from: used.from }),
        }
    }
}

impl Control {
    /// What a browser is asked in order to make a passkey: the options of `navigator.credentials.create` in JSON
    /// (`PublicKeyCredentialCreationOptionsJSON`). The answer is for [`Control::add_passkey`].
    ///
    /// # Errors
    /// [`WebError::NotFresh`]; the store fails.
    pub async fn begin_passkey(&self, login: &WebLogin) -> Result<Value, WebError> {
        login.must_be_fresh()?;
        let site = self.site();
        let name = login.account().as_str();
        let known = self.store.passkeys(login.account()).await?;
        let exclude: Vec<Value> =
            known.iter().map(|row| json!({ "type": "public-key", "id": row.passkey.credential })).collect();
        let algorithms: Vec<Value> =
            ALGORITHMS.iter().map(|algorithm| json!({ "type": "public-key", "alg": algorithm })).collect();
        Ok(json!({
            "rp": { "id": site.id, "name": site.id },
            "user": { "id": user_handle(&site, login.account()), "name": name, "displayName": name },
            "challenge": self.web.challenges.make(&to_add(login), self.settings.clock.now()),
            "pubKeyCredParams": algorithms,
            "timeout": ANSWER.as_millis() as u64,
            "excludeCredentials": exclude,
            "authenticatorSelection": {
                "residentKey": "required", "requireResidentKey": true, "userVerification": "required",
            },
            "attestation": "none",
        }))
    }

    /// Adds the passkey that a browser made.
    ///
    /// # Errors
    /// [`WebError::NotFresh`], [`WebError::Passkey`], [`WebError::TooManyPasskeys`]; the store fails.
    pub async fn add_passkey(
        &self,
        login: &WebLogin,
        label: &str,
        new: &NewCredential,
    ) -> Result<PasskeyInfo, WebError> {
        login.must_be_fresh()?;
        let (label, now, site) = (checked(label)?, self.settings.clock.now(), self.site());
        let mut asked = None;
        let credential = new.accept(&site, |challenge| {
            asked = self.web.challenges.read(&to_add(login), challenge, now);
            asked.is_some()
        })?;
        if !asked.is_some_and(|asked| self.web.challenges.use_up(asked, now)) {
            return Err(PasskeyError::Challenge.into());
        }
        let new = NewPasskey {
            label,
            credential: credential.id,
            user_handle: user_handle(&site, login.account()),
            algorithm: credential.algorithm,
            public_key: credential.public_key,
            sign_count: credential.sign_count,
        };
        let row = self.store.add_passkey(login.account(), &new, now).await?;
        let row = row.ok_or(PasskeyError::AlreadyThere)?;
        self.note_passkey(login, AuditKind::PasskeyAdded, &row).await;
        Ok(row.into())
    }

    /// Gives a passkey of the account another name.
    ///
    /// # Errors
    /// [`WebError::Missing`] where the account has no such passkey, [`WebError::Passkey`]; the store fails.
    pub async fn rename_passkey(&self, login: &WebLogin, id: PasskeyId, label: &str) -> Result<(), WebError> {
        let renamed = self.store.rename_passkey(login.account(), id, &checked(label)?).await?;
        if renamed { Ok(()) } else { Err(WebError::Missing) }
    }

    /// Removes a passkey of the account. Sessions that it began go on.
    ///
    /// # Errors
    /// [`WebError::NotFresh`], [`WebError::Missing`] where the account has no such passkey; the store fails.
    pub async fn remove_passkey(&self, login: &WebLogin, id: PasskeyId) -> Result<(), WebError> {
        login.must_be_fresh()?;
        let row = self.store.remove_passkey(login.account(), id).await?.ok_or(WebError::Missing)?;
        self.note_passkey(login, AuditKind::PasskeyRemoved, &row).await;
        Ok(())
    }

    /// What a browser is asked in order to log somebody in, whoever they are: the options of
    /// `navigator.credentials.get` in JSON (`PublicKeyCredentialRequestOptionsJSON`). The answer is for
    /// [`Control::log_in_by_passkey`].
    #[must_use]
    pub fn begin_passkey_log_in(&self) -> Value {
        self.request("log in", &[])
    }

    /// Logs somebody in by what their passkey signed.
    ///
    /// # Errors
    /// [`WebError::PasskeyRefused`] for whatever is wrong; [`WebError::TooManyTries`]; the store fails.
    pub async fn log_in_by_passkey(
        &self,
        assertion: &Assertion,
        client: Client<'_>,
    ) -> Result<NewSession, WebError> {
        let this = self.try_by(None, client)?;
        let (_, used) = self.verified(assertion, "log in", client).await?;
        let opening = self.opening(LoginWay::Passkey, client);
        let begun = self.store.log_in_by_passkey(used, &opening.new, self.settings.clock.now()).await?;
        let begun = begun.ok_or(WebError::PasskeyRefused)?;
        this.right();
        Ok(self.logged_in(opening, begun).await)
    }

    /// What a browser is asked in order to prove that the holder of a session is still its account's owner. The answer
    /// is for [`Control::prove_by_passkey`].
    ///
    /// # Errors
    /// The store fails.
    pub async fn begin_passkey_proof(&self, login: &WebLogin) -> Result<Value, WebError> {
        let known = self.store.passkeys(login.account()).await?;
        let allowed: Vec<Value> =
            known.iter().map(|row| json!({ "type": "public-key", "id": row.passkey.credential })).collect();
        Ok(self.request(&to_prove(login), &allowed))
    }

    /// Has the holder of a session prove by a passkey of the account who they are. What is given is fresh.
    ///
    /// # Errors
    /// As those of [`Control::log_in_by_passkey`].
    pub async fn prove_by_passkey(
        &self,
        login: &WebLogin,
        assertion: &Assertion,
        client: Client<'_>,
    ) -> Result<WebLogin, WebError> {
        let this = self.try_by(None, client)?;
        let (_, used) = self.verified(assertion, &to_prove(login), client).await?;
        let now = self.settings.clock.now();
        if !self.store.prove_by_passkey(used, login.session(), now).await? {
            return Err(WebError::PasskeyRefused);
        }
        this.right();
        Ok(login.proved_at(now))
    }

    /// The use of a passkey that is there and signed what it was asked for this.
    async fn verified(
        &self,
        assertion: &Assertion,
        purpose: &str,
        client: Client<'_>,
    ) -> Result<(AccountName, PasskeyUse), WebError> {
        let (now, site) = (self.settings.clock.now(), self.site());
        let row = self.store.passkey(assertion.credential()).await?.ok_or(WebError::PasskeyRefused)?;
        if assertion.user_handle().is_some_and(|handle| handle != row.passkey.user_handle) {
            return Err(WebError::PasskeyRefused);
        }
        let mut asked = None;
        let (algorithm, key) = (row.passkey.algorithm, row.passkey.public_key.as_str());
        let sign_count = assertion
            .verify(&site, algorithm, key, |challenge| {
                asked = self.web.challenges.read(purpose, challenge, now);
                asked.is_some()
            })
            .map_err(|_| WebError::PasskeyRefused)?;
        if !asked.is_some_and(|asked| self.web.challenges.use_up(asked, now)) {
            return Err(WebError::PasskeyRefused);
        }
        Ok((row.account, PasskeyUse { id: row.id, sign_count, from: client.address }))
    }

    fn request(&self, purpose: &str, allowed: &[Value]) -> Value {
        json!({
            "rpId": self.site().id,
            "challenge": self.web.challenges.make(purpose, self.settings.clock.now()),
            "timeout": ANSWER.as_millis() as u64,
            "allowCredentials": allowed,
            "userVerification": "required",
        })
    }

    fn site(&self) -> RelyingParty {
        RelyingParty::of(&self.settings.website)
    }

    async fn note_passkey(&self, login: &WebLogin, kind: AuditKind, row: &PasskeyRow) {
        let label = row.passkey.label.clone();
        self.note(&login.actor(), kind, login.account(), label, String::new()).await;
    }
}

fn to_add(login: &WebLogin) -> String {
    format!("add {}", login.session())
}

fn to_prove(login: &WebLogin) -> String {
    format!("prove {}", login.session())
}

/// What authenticators know an account by: names never change hands, so it is the same for ever.
fn user_handle(site: &RelyingParty, account: &AccountName) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(format!("berth {} {account}", site.id)))
}

fn checked(label: &str) -> Result<String, PasskeyError> {
    let label = label.trim();
    match label.chars().count() {
        1..=MAX_PASSKEY_LABEL => Ok(label.to_owned()),
        _ => Err(PasskeyError::Label),
    }
}
