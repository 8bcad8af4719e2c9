//! The ways into the website: a password, and links that work once.
//!
//! Whatever is wrong with a name and a password, the answer is the same and takes as long: there is no such account, it
//! is blocked, it has no password, or it has another one.

use berth_model::{AccountName, Secret};
use berth_store::{AuditKind, BegunSession, LinkPurpose, LoginWay, NewAudit, SecretHash, StoreError, Way};
use time::OffsetDateTime;

use crate::{
    Control,
    error::Error,
    metrics::Door,
    web_error::WebError,
    web_oidc::OidcInfo,
    web_passkeys::PasskeyInfo,
    web_password,
    web_penalties::Try,
    web_session::{Client, NewSession, Opening, WebLogin, hash_of},
};

/// What a link is good for, as it is shown before it is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkInfo {
    /// What it does.
    pub purpose: LinkPurpose,
    /// Who made it; `None` for somebody on the host itself.
    pub made_by: Option<AccountName>,
    /// When it ends, unless it was used.
    pub expires: OffsetDateTime,
}

/// How somebody can log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identities {
    /// When the password was set; `None` without one.
    pub password_set: Option<OffsetDateTime>,
    /// The passkeys in the order in which they were added.
    pub passkeys: Vec<PasskeyInfo>,
    /// The accounts elsewhere in the order in which they were connected.
    pub oidc: Vec<OidcInfo>,
}

impl Control {
    /// Logs somebody in by name and password.
    ///
    /// # Errors
    /// [`WebError::Refused`] for whatever is wrong; [`WebError::TooManyTries`], [`WebError::Busy`]; the store fails.
    pub async fn log_in_by_password(
        &self,
        name: &str,
        password: &Secret<String>,
        client: Client<'_>,
    ) -> Result<NewSession, WebError> {
        let account: Option<AccountName> = name.trim().to_lowercase().parse().ok();
        let this = self.try_by(account.as_ref(), client)?;
        let Some(account) = self.check_password(this, account, password, client).await? else {
            return Err(WebError::Refused);
        };
        let opening = self.opening(LoginWay::Password, client);
        match self.store.add_login_session(&account, &opening.new, self.settings.clock.now()).await {
            Ok(begun) => Ok(self.logged_in(opening, begun).await),
            // Blocked or removed a moment ago.
            Err(StoreError::NoSuchAccount { .. }) => Err(WebError::Refused),
            Err(error) => Err(error.into()),
        }
    }

    /// The account, where this is its password and it may log in. A wrong one is written down.
    async fn check_password(
        &self,
        this: Try,
        account: Option<AccountName>,
        password: &Secret<String>,
        client: Client<'_>,
    ) -> Result<Option<AccountName>, WebError> {
        let found = match &account {
            Some(account) => self.store.password(account).await,
            None => Ok(None),
        };
        let verdict = match found {
            Ok(row) => self.web.passwords.verify(password, row.map(|row| row.hash)).await,
            Err(error) => Err(error.into()),
        };
        match verdict {
            Ok(true) => {
                this.right();
                Ok(account)
            }
            Ok(false) => {
                self.note_refused(account, client).await;
                Ok(None)
            }
            Err(error) => {
                this.undecided();
                Err(error)
            }
        }
    }

    /// The same work whether there is such an account or not. A name that no account has is not written down: it may be
    /// a password in the wrong field.
    async fn note_refused(&self, account: Option<AccountName>, client: Client<'_>) {
        self.tools.metrics.tried(Door::Web, false);
        let known = match &account {
            Some(account) => self.store.account_exists(account).await.unwrap_or(false),
            None => false,
        };
        self.note_event(NewAudit {
            kind: AuditKind::LogInRefused,
            account: account.filter(|_| known),
            actor: None,
            way: Way::Web,
            address: Some(client.address),
            subject: String::new(),
            detail: LoginWay::Password.as_str().to_owned(),
        })
        .await;
    }

    pub(crate) async fn logged_in(&self, opening: Opening, begun: BegunSession) -> NewSession {
        self.tools.metrics.tried(Door::Web, true);
        let new = self.begun(opening, begun);
        let detail = new.login.way().as_str().to_owned();
        self.note_of(&new.login, AuditKind::LogIn, detail).await;
        new
    }

    /// Writes down what the holder of a session did to their own account.
    pub(crate) async fn note_of(&self, login: &WebLogin, kind: AuditKind, detail: String) {
        self.note(&login.actor(), kind, login.account(), String::new(), detail).await;
    }

    /// What a link is good for. Does not use it up: programs that look at mail follow links too.
    ///
    /// # Errors
    /// [`WebError::LinkGone`], [`WebError::TooManyTries`]; the store fails.
    pub async fn look_at_link(
        &self,
        token: &Secret<String>,
        client: Client<'_>,
    ) -> Result<LinkInfo, WebError> {
        let (this, hash) = self.try_link(token, client)?;
        let link = self.store.link(hash, self.settings.clock.now()).await;
        let link = decide(this, link)?;
        Ok(LinkInfo { purpose: link.purpose, made_by: link.made_by, expires: link.expires_at })
    }

    /// Logs somebody in by a link for that, which is used up.
    ///
    /// # Errors
    /// As those of [`Control::look_at_link`].
    pub async fn log_in_by_link(
        &self,
        token: &Secret<String>,
        client: Client<'_>,
    ) -> Result<NewSession, WebError> {
        let (this, hash) = self.try_link(token, client)?;
        let opening = self.opening(LoginWay::Link, client);
        let begun = self.store.log_in_by_link(hash, &opening.new, self.settings.clock.now()).await;
        Ok(self.logged_in(opening, decide(this, begun)?).await)
    }

    /// Gives an account a new password by a link for that, which is used up, ends all its sessions and logs its owner
    /// in.
    ///
    /// # Errors
    /// As those of [`Control::look_at_link`]; [`WebError::Password`], and the link can be used again.
    pub async fn reset_password(
        &self,
        token: &Secret<String>,
        new: &Secret<String>,
        client: Client<'_>,
    ) -> Result<NewSession, WebError> {
        let LinkPurpose::Reset(account) = self.look_at_link(token, client).await?.purpose else {
            return Err(WebError::LinkGone);
        };
        web_password::check(new, &account)?;
        let password = self.web.passwords.hash(new).await?;
        let (this, hash) = self.try_link(token, client)?;
        let opening = self.opening(LoginWay::Link, client);
        let now = self.settings.clock.now();
        let begun = self.store.reset_password(hash, &password, &opening.new, now).await;
        let new = self.logged_in(opening, decide(this, begun)?).await;
        self.note_of(&new.login, AuditKind::PasswordReset, String::new()).await;
        Ok(new)
    }

    /// Makes an account by an invitation, which is used up, and logs its owner in. Without a password there has to be
    /// another way in before the session ends.
    ///
    /// # Errors
    /// As those of [`Control::look_at_link`]; [`WebError::Name`], [`WebError::Password`] and a name that is taken
    /// ([`Error::NameTaken`]), and the invitation can be used again.
    pub async fn accept_invitation(
        &self,
        token: &Secret<String>,
        name: &str,
        password: Option<&Secret<String>>,
        client: Client<'_>,
    ) -> Result<NewSession, WebError> {
        let LinkInfo { purpose, made_by, .. } = self.look_at_link(token, client).await?;
        let LinkPurpose::Invitation(invitation) = purpose else { return Err(WebError::LinkGone) };
        let name = match invitation.name {
            Some(preset) => preset,
            None => name.trim().to_lowercase().parse()?,
        };
        let password = match password {
            Some(password) => {
                web_password::check(password, &name)?;
                Some(self.web.passwords.hash(password).await?)
            }
            None => None,
        };
        let (this, hash) = self.try_link(token, client)?;
        let opening = self.opening(LoginWay::Invitation, client);
        let now = self.settings.clock.now();
        let begun = self.store.accept_invitation(hash, &name, password.as_ref(), &opening.new, now).await;
        let new = self.begun(opening, decide(this, begun)?);
        let by = made_by.map_or_else(|| "the operator".to_owned(), |by| by.to_string());
        self.note_of(&new.login, AuditKind::AccountAdded, format!("invited by {by}")).await;
        self.note_of(&new.login, AuditKind::LogIn, LoginWay::Invitation.as_str().to_owned()).await;
        Ok(new)
    }

    /// Has the holder of a session prove by the account's password who they are. What is given is fresh.
    ///
    /// # Errors
    /// As those of [`Control::log_in_by_password`].
    pub async fn prove(
        &self,
        login: &WebLogin,
        password: &Secret<String>,
        client: Client<'_>,
    ) -> Result<WebLogin, WebError> {
        let this = self.try_by(Some(login.account()), client)?;
        match self.check_password(this, Some(login.account().clone()), password, client).await? {
            Some(account) => {
                let now = self.settings.clock.now();
                self.store.prove_login_session(&account, login.session(), now).await?;
                Ok(login.proved_at(now))
            }
            None => Err(WebError::Refused),
        }
    }

    /// Sets the account's password and ends its other sessions.
    ///
    /// # Errors
    /// [`WebError::NotFresh`], [`WebError::Password`], [`WebError::Busy`]; the store fails.
    pub async fn set_password(&self, login: &WebLogin, new: &Secret<String>) -> Result<(), WebError> {
        login.must_be_fresh()?;
        web_password::check(new, login.account())?;
        let hash = self.web.passwords.hash(new).await?;
        let now = self.settings.clock.now();
        let ended = self.store.set_password(login.account(), &hash, Some(login.session()), now).await?;
        self.web.end(ended);
        self.note_of(login, AuditKind::PasswordSet, String::new()).await;
        Ok(())
    }

    /// How the account's owner can log in.
    ///
    /// # Errors
    /// The store fails.
    pub async fn identities(&self, login: &WebLogin) -> Result<Identities, Error> {
        let password = self.store.password(login.account()).await?;
        let passkeys = self.store.passkeys(login.account()).await?;
        let oidc = self.store.oidc_identities(login.account()).await?;
        Ok(Identities {
            password_set: password.map(|row| row.set_at),
            passkeys: passkeys.into_iter().map(PasskeyInfo::from).collect(),
            oidc: oidc.into_iter().map(OidcInfo::from).collect(),
        })
    }

    pub(crate) fn try_by(&self, account: Option<&AccountName>, client: Client<'_>) -> Result<Try, WebError> {
        self.web.penalties.begin(account, client.address).map_err(|wait| WebError::TooManyTries { wait })
    }

    /// A link is of no account before it is found.
    fn try_link(&self, token: &Secret<String>, client: Client<'_>) -> Result<(Try, SecretHash), WebError> {
        let this = self.try_by(None, client)?;
        match hash_of(token) {
            Some(hash) => Ok((this, hash)),
            None => Err(WebError::LinkGone),
        }
    }
}

/// What a link led to. One that was there was right, also where something else was refused.
fn decide<T>(this: Try, found: Result<Option<T>, StoreError>) -> Result<T, WebError> {
    match found {
        Ok(Some(found)) => {
            this.right();
            Ok(found)
        }
        Ok(None) => Err(WebError::LinkGone),
        Err(error) => {
            this.undecided();
            Err(error.into())
        }
    }
}
