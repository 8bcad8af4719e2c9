//! Who is at the other end.
//!
//! The key is the identity, the user name is not looked at. A key counts once its owner has signed with it; an offer
//! (a key without a signature) is only ever answered by whether to go on.
//!
//! A client without a key that counts is told why through a keyboard-interactive request without prompts, which always
//! fails: it is the only text that OpenSSH shows before a log-in that is not shown after one too. Unknown keys are not
//! let in to be told so: an agent's later, right key would never be tried.

use std::{net::IpAddr, sync::Arc};

use berth_control::{Control, Login};
use berth_model::PublicKey;
use russh::{
    MethodKind, MethodSet,
    keys::{Algorithm, ssh_key},
    server::{Auth, PublicKeyOffer, VerifiedPublicKey},
};
use tracing::{debug, info};

use super::config::methods;
use crate::{refusal::words, text::in_ascii};

/// The log-in of one connection.
pub(super) struct Door {
    control: Arc<Control>,
    from: IpAddr,
    login: Option<Login>,
    /// Why the last key did not count.
    why_not: Option<String>,
}

impl Door {
    pub(super) fn new(control: Arc<Control>, from: IpAddr) -> Self {
        Self { control, from, login: None, why_not: None }
    }

    /// Whose connection this is, once somebody has logged in.
    pub(super) fn login(&self) -> Option<&Login> {
        self.login.as_ref()
    }

    /// A key without a signature.
    pub(super) fn offered(&mut self, offer: PublicKeyOffer<'_>) -> Auth {
        match key_of(offer.public_key, offer.algorithm) {
            Ok(_) => Auth::Accept,
            Err(why) => self.refuse(why),
        }
    }

    /// A key whose owner has signed.
    pub(super) async fn proven(&mut self, key: VerifiedPublicKey<'_>) -> Auth {
        let key = match key_of(key.public_key, key.algorithm) {
            Ok(key) => key,
            Err(why) => return self.refuse(why),
        };
        match self.control.log_in(&key, self.from).await {
            Ok(login) => {
                info!(account = %login.account(), key = %login.fingerprint(), from = %self.from, "logged in");
                self.login = Some(login);
                Auth::Accept
            }
            Err(error) => {
                debug!(key = %key.fingerprint(), from = %self.from, %error, "not logged in");
                self.refuse(error.to_string())
            }
        }
    }

    /// A certificate whose owner has signed.
    pub(super) fn certificate(&mut self) -> Auth {
        self.refuse(words::CERTIFICATE.to_owned())
    }

    /// A client that has run out of keys asks to be asked something: `answered` is false; it has read the text: true.
    pub(super) fn last_words(&mut self, answered: bool) -> Auth {
        if answered {
            // Only keys are left to try, so that the text is not shown again.
            return Auth::Reject {
                proceed_with_methods: Some(MethodSet::from(&[MethodKind::PublicKey][..])),
                partial_success: false,
            };
        }
        let text = self.why_not.as_deref().unwrap_or(words::NO_KEY);
        Auth::Partial { name: "".into(), instructions: in_ascii(text).into(), prompts: [].as_slice().into() }
    }

    fn refuse(&mut self, why: String) -> Auth {
        self.why_not = Some(why);
        reject()
    }
}

/// No, and these are the ways.
pub(super) fn reject() -> Auth {
    Auth::Reject { proceed_with_methods: Some(methods()), partial_success: false }
}

/// The key, unless it is of a kind that no account can have or is used in a way that proves nothing.
fn key_of(key: &ssh_key::PublicKey, algorithm: &Algorithm) -> Result<PublicKey, String> {
    if matches!(algorithm, Algorithm::Rsa { hash: None }) {
        return Err(words::SHA1.to_owned());
    }
    PublicKey::from_ssh_key(key).map_err(|error| error.to_string())
}
