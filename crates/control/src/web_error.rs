//! Why something was refused that has to do with being logged in on the website.

use std::time::Duration;

use berth_model::NameError;
use berth_store::{MAX_INVITATIONS, MAX_OIDC_IDENTITIES, MAX_PASSKEYS, MAX_TOKENS, StoreError};

use crate::{
    error::{Error, Kind},
    tokens::TokenError,
    web_oidc::OidcError,
    web_password::PasswordError,
    webauthn::PasskeyError,
};

/// Why somebody was not logged in, or may not do what they asked for.
#[derive(Debug, thiserror::Error)]
pub enum WebError {
    /// One of them is wrong. Which, and whether there is such an account, is not told.
    #[error("That name and that password do not belong together. Try again, or ask the operator for a link.")]
    Refused,
    /// Too many wrong ones came from there.
    #[error("Too many tries went wrong from where you are. Try again in {}.", in_words(*.wait))]
    TooManyTries {
        /// How long to wait.
        wait: Duration,
    },
    /// It was used, it is over, it was taken back, or it never was.
    #[error("This link does not work any more: it works once, and not for long. Ask for a new one.")]
    LinkGone,
    /// It was too long ago that the holder of the session proved who they are.
    #[error("Confirm first that it is you.")]
    NotFresh,
    /// The new password is not one to have.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// The new token is not one to have.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The new passkey is not one to have.
    #[error(transparent)]
    Passkey(#[from] PasskeyError),
    /// It is not there, or not right. Which is not told.
    #[error("That passkey does not let you in here. Log in another way, and add it once more.")]
    PasskeyRefused,
    /// An account elsewhere did not let in, or could not be connected.
    #[error(transparent)]
    Oidc(#[from] OidcError),
    /// The new name is not one to have.
    #[error(transparent)]
    Name(#[from] NameError),
    /// It is for operators, who alone are told.
    #[error("There is no such thing, or none for you.")]
    Missing,
    /// It would leave the one who asks without what they need to take it back.
    #[error(
        "You cannot do that to your own account. Ask another operator, or do it on the server: berth admin."
    )]
    Yourself,
    /// Invitations are sent out and not used.
    #[error(
        "There are {MAX_INVITATIONS} invitations that nobody has used yet. Take some of them back first."
    )]
    TooManyInvitations,
    /// The account has too many.
    #[error("You have {MAX_TOKENS} tokens, and more are not possible. Remove one first.")]
    TooManyTokens,
    /// The account has too many.
    #[error("You have {MAX_PASSKEYS} passkeys, and more are not possible. Remove one first.")]
    TooManyPasskeys,
    /// The account has too many.
    #[error(
        "You have connected {MAX_OIDC_IDENTITIES} accounts, and more are not possible. Remove one first."
    )]
    TooManyOidcIdentities,
    /// So many log in at this moment that this one would have to wait for too long.
    #[error("Too many people are logging in at this moment. Try again in a few seconds.")]
    Busy,
    /// Anything that the rest of Berth refuses.
    #[error(transparent)]
    Other(Error),
}

impl WebError {
    /// The sort of this error.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            WebError::Refused | WebError::PasskeyRefused => Kind::Unauthenticated,
            WebError::NotFresh | WebError::Yourself => Kind::Denied,
            WebError::LinkGone | WebError::Missing => Kind::Missing,
            WebError::Password(_) | WebError::Name(_) | WebError::Token(_) | WebError::Passkey(_) => {
                Kind::Invalid
            }
            WebError::TooManyInvitations
            | WebError::TooManyTokens
            | WebError::TooManyPasskeys
            | WebError::TooManyOidcIdentities => Kind::Conflict,
            WebError::TooManyTries { .. } | WebError::Busy => Kind::Unavailable,
            WebError::Oidc(OidcError::NotOffered) => Kind::Missing,
            WebError::Oidc(OidcError::Issuer { .. }) => Kind::Unavailable,
            WebError::Oidc(OidcError::Stale) => Kind::Invalid,
            WebError::Oidc(OidcError::NotConnected { .. }) => Kind::Unauthenticated,
            WebError::Oidc(OidcError::Connected) => Kind::Conflict,
            WebError::Other(error) => error.kind(),
        }
    }
}

impl From<Error> for WebError {
    fn from(error: Error) -> Self {
        WebError::Other(error)
    }
}

impl From<StoreError> for WebError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::TooManyInvitations => WebError::TooManyInvitations,
            StoreError::TooManyTokens { .. } => WebError::TooManyTokens,
            StoreError::TooManyPasskeys { .. } => WebError::TooManyPasskeys,
            StoreError::TooManyOidcIdentities { .. } => WebError::TooManyOidcIdentities,
            error => WebError::Other(error.into()),
        }
    }
}

/// A pause as a person says it, rounded up.
fn in_words(wait: Duration) -> String {
    match wait.as_secs() + u64::from(wait.subsec_nanos() > 0) {
        0 | 1 => "a second".to_owned(),
        seconds @ 2..=90 => format!("{seconds} seconds"),
        seconds => format!("{} minutes", seconds.div_ceil(60)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_told_as_people_say_it_and_never_too_short() {
        let told = |millis| in_words(Duration::from_millis(millis));
        assert_eq!(told(0), "a second");
        assert_eq!(told(4_001), "5 seconds");
        assert_eq!(told(90_000), "90 seconds");
        assert_eq!(told(90_001), "2 minutes");
        assert_eq!(told(15 * 60_000), "15 minutes");
    }
}
