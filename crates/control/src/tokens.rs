//! Tokens for the HTTP API: the only file that makes an [`ApiLogin`].
//!
//! A token is `berth_`, 256 random bits and a checksum, all letters and digits: programs that look for leaked secrets
//! know one when they see it, and one that was cut when it was copied is refused before anybody is asked. It is shown
//! once; the store has its hash.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use berth_model::{AccountName, Secret};
use berth_store::{AuditKind, MAX_TOKEN_LABEL, NewToken, Role, Scope, SecretHash, TokenId, TokenRow, Way};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tracing::warn;

use crate::{
    Control,
    access::expiry,
    actor::Actor,
    clock::Clock,
    error::Error,
    keys::KeyUse,
    metrics::Door,
    revocation::Revocation,
    web_error::WebError,
    web_session::{SECRET_LEN, WebLogin, new_secret},
};

const PREFIX: &str = "berth_";
/// Base 62 digits of a CRC-32.
const CHECKSUM_LEN: usize = 6;
/// When a token was last used is written down this often.
const USED_EVERY: Duration = Duration::from_secs(60);

/// A token as its owner sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenInfo {
    /// What names it. Says nothing of the token itself.
    pub id: TokenId,
    /// What its owner calls it.
    pub label: String,
    /// What it is for.
    pub scopes: BTreeSet<Scope>,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    pub made: OffsetDateTime,
    /// When it ends, or ended.
    #[serde(with = "time::serde::rfc3339::option")]
    pub expires: Option<OffsetDateTime>,
    /// When, to a minute, and from where it was used last.
    pub last_used: Option<KeyUse>,
}

impl From<TokenRow> for TokenInfo {
    fn from(row: TokenRow) -> Self {
        Self {
            id: row.id,
            label: row.label,
            scopes: row.scopes,
            made: row.made_at,
            expires: row.expires_at,
            last_used: row.last_used.map(|used| KeyUse { at: used.at, from: used.from }),
        }
    }
}

/// Proof that a request comes with an account's token. Ends with it.
#[derive(Debug, Clone)]
pub struct ApiLogin {
    token: TokenRow,
    from: IpAddr,
    clock: Clock,
    revocation: Revocation,
}

impl ApiLogin {
    /// Whose token it is.
    #[must_use]
    pub fn account(&self) -> &AccountName {
        &self.token.account
    }

    /// The account's role; what of it the token is for, its scopes say.
    #[must_use]
    pub fn role(&self) -> Role {
        self.token.role
    }

    /// What the token is for.
    #[must_use]
    pub fn scopes(&self) -> &BTreeSet<Scope> {
        &self.token.scopes
    }

    /// Who acts, for [`Control::acting`], which asks the scopes.
    #[must_use]
    pub fn actor(&self) -> Actor {
        Actor::account(self.account().clone(), self.role(), Way::Api, self.from)
            .limited_to(self.token.scopes.clone())
    }

    /// Waits until the token is removed or over, or its account is blocked, removed or gets another role.
    pub async fn ended(&self) {
        tokio::select! {
            () = self.revocation.revoked() => {}
            () = expiry(self.token.expires_at, self.clock) => {}
        }
    }
}

impl Control {
    /// Makes a token for the account of a login, and gives it, which nobody can do again.
    ///
    /// # Errors
    /// [`WebError::NotFresh`]; [`WebError::Token`] for what no token can be; the account has too many; the store fails.
    pub async fn make_token(
        &self,
        login: &WebLogin,
        label: &str,
        scopes: BTreeSet<Scope>,
        expires: Option<OffsetDateTime>,
    ) -> Result<(TokenInfo, Secret<String>), WebError> {
        login.must_be_fresh()?;
        let (label, now) = (label.trim(), self.settings.clock.now());
        check(label, &scopes, expires, login.role(), now)?;
        let token = new_token();
        let new =
            NewToken { hash: SecretHash::of(&token), label: label.to_owned(), scopes, expires_at: expires };
        let row = self.store.add_token(login.account(), &new, now).await?;
        let scopes: Vec<&str> = row.scopes.iter().map(|scope| scope.as_str()).collect();
        let (kind, label) = (AuditKind::TokenAdded, row.label.clone());
        self.note(&login.actor(), kind, login.account(), label, scopes.join(" ")).await;
        Ok((row.into(), token))
    }

    /// The tokens of the account, the newest first, those included that are over.
    ///
    /// # Errors
    /// The store fails.
    pub async fn tokens(&self, login: &WebLogin) -> Result<Vec<TokenInfo>, Error> {
        Ok(self.store.tokens(login.account()).await?.into_iter().map(TokenInfo::from).collect())
    }

    /// Removes a token of the account: what it let in ends at once.
    ///
    /// # Errors
    /// [`WebError::Missing`] where the account has no such token; the store fails.
    pub async fn remove_token(&self, login: &WebLogin, id: TokenId) -> Result<(), WebError> {
        let removed = self.store.remove_token(login.account(), id).await?;
        let (label, hash) = removed.ok_or(WebError::Missing)?;
        self.web.end([hash]);
        let kind = AuditKind::TokenRemoved;
        self.note(&login.actor(), kind, login.account(), label, String::new()).await;
        Ok(())
    }

    /// Lets a request in that comes with a token; `None` where it is nobody's, or over.
    ///
    /// A token that is removed at the same moment is either not found or ends what is given: there is no gap.
    ///
    /// # Errors
    /// The store fails.
    pub async fn api_login(&self, bearer: &Secret<String>, from: IpAddr) -> Result<Option<ApiLogin>, Error> {
        if !is_token(bearer.expose()) {
            return Ok(None);
        }
        let hash = SecretHash::of(bearer);
        // Before the look into the store: a removal after that look finds this revocation.
        let revocation = self.web.sessions.of(&hash);
        let (clock, now) = (self.settings.clock, self.settings.clock.now());
        let found = self.store.token(hash).await?;
        let Some(token) = found.filter(|token| token.expires_at.is_none_or(|expires| expires > now)) else {
            self.tools.metrics.tried(Door::Api, false);
            return Ok(None);
        };
        let login = ApiLogin { token, from, clock, revocation };
        let used = login.token.last_used;
        if used.is_none_or(|used| now - used.at >= USED_EVERY || used.from != from) {
            self.tools.metrics.tried(Door::Api, true);
            let label = login.token.label.clone();
            let event = login.actor().event(AuditKind::LogIn, login.account(), label, "token".to_owned());
            if let Err(error) = self.store.touch_token(login.token.id, from, &event, now).await {
                warn!(%error, "the use of a token was not written down");
            }
        }
        Ok(Some(login))
    }
}

/// Why there can be no such token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Without a name nobody knows which one to remove.
    #[error("Give the token a name of at most {MAX_TOKEN_LABEL} characters, for you to know it by.")]
    Label,
    /// It would be for nothing.
    #[error("Choose what the token is for.")]
    NoScope,
    /// It would be for what its owner may not do.
    #[error("Only operators can make tokens that are for operators.")]
    ForOperators,
    /// It would be over before it begins.
    #[error("Choose a day to come for the token's end.")]
    Over,
}

fn check(
    label: &str,
    scopes: &BTreeSet<Scope>,
    expires: Option<OffsetDateTime>,
    role: Role,
    now: OffsetDateTime,
) -> Result<(), TokenError> {
    let for_operators = scopes.contains(&Scope::OpsRead) || scopes.contains(&Scope::OpsWrite);
    if label.is_empty() || label.chars().count() > MAX_TOKEN_LABEL {
        Err(TokenError::Label)
    } else if scopes.is_empty() {
        Err(TokenError::NoScope)
    } else if for_operators && role != Role::Operator {
        Err(TokenError::ForOperators)
    } else if expires.is_some_and(|expires| expires <= now + Duration::from_secs(1)) {
        Err(TokenError::Over)
    } else {
        Ok(())
    }
}

fn new_token() -> Secret<String> {
    let random = new_secret();
    Secret::new(format!("{PREFIX}{}{}", random.expose(), checksum(random.expose())))
}

/// Whether a text may be a token of ours: no typing error, and not cut.
fn is_token(text: &str) -> bool {
    let Some(rest) = text.strip_prefix(PREFIX) else { return false };
    rest.is_ascii()
        && rest.bytes().all(|byte| byte.is_ascii_alphanumeric())
        && rest
            .split_at_checked(SECRET_LEN)
            .is_some_and(|(random, sum)| sum.len() == CHECKSUM_LEN && sum == checksum(random))
}

fn checksum(text: &str) -> String {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut rest = crc32fast::hash(text.as_bytes());
    let mut digits = [b'0'; CHECKSUM_LEN];
    for digit in digits.iter_mut().rev() {
        *digit = DIGITS.get(usize::try_from(rest % 62).unwrap_or(0)).copied().unwrap_or(b'0');
        rest /= 62;
    }
    digits.map(char::from).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_known_as_one_and_a_damaged_one_is_not() {
        let token = new_token();
        let text = token.expose();
        assert!(is_token(text) && text.len() == 55, "{text}");
        for at in 0..text.len() {
            let mut other = text.clone().into_bytes();
            other[at] = if other[at] == b'x' { b'y' } else { b'x' };
            assert!(!is_token(&String::from_utf8(other).unwrap()), "{at}");
            assert!(!is_token(&text[..at]));
        }
        for other in
            ["", "berth_", &format!("{text}0"), &format!("{text}\n"), &format!("berth_{}", "é".repeat(30))]
        {
            assert!(!is_token(other), "{other}");
        }
    }

    #[test]
    fn the_checksum_is_crc_32_in_base_62() {
        // CRC-32 of these nine digits is 0xcbf43926 (the usual check value).
        assert_eq!(checksum("123456789"), "3jZRME");
        assert_eq!(checksum(""), "000000");
    }
}
