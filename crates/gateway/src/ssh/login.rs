//! Who is at the other end.
//!
//! The key is the identity, the user name is not looked at. A key counts once its owner has signed with it. An offer (a
//! key without a signature, RFC 4252, section 7) says nothing about who is there; its answer says whether the key is on
//! an account here, never on whose, as every sshd does: a client that had to sign with each of its keys would ask the
//! person for the passphrases and touches of keys that are not known here. So it is where the operator trusts a CA: an
//! offered certificate cannot be told from an offered key then.
//!
//! A client without a key that counts is told why through a keyboard-interactive request without prompts, which always
//! fails: it is the only text that OpenSSH shows before a log-in that is not shown after one too. Unknown keys are not
//! let in to be told so: an agent's later, right key would never be tried.

use std::{net::IpAddr, sync::Arc};

use berth_control::{Control, KnownKey, Login, LoginError};
use berth_model::{Fingerprint, PublicKey};
use russh::{
    MethodKind, MethodSet,
    keys::{Algorithm, Certificate, ssh_key},
    server::Auth,
};
use tracing::{debug, info};

use super::config::methods;
use crate::{leash::Hand, limit::Limit, refusal::words, text::in_ascii};

/// Keys that are on an account here and may be offered: a question that costs its asker nothing, and whoever knows a
/// public key can ask.
const MAX_OFFERS: usize = 64;

/// The log-in of one connection.
pub(super) struct Door {
    control: Arc<Control>,
    from: IpAddr,
    /// Keys that may fail.
    tries: usize,
    hand: Hand,
    login: Option<Login>,
    offers: usize,
    /// The key that was offered last, where it counts.
    known: Option<KnownKey>,
    failed: usize,
    /// Why the last key did not count, where that is said.
    why_not: Option<String>,
    /// Why a certificate did not count, where certificates do. A client tries the key in it for itself, too, and that one
    /// is on no account mostly: that is not why its owner is not let in.
    why_not_certificate: Option<String>,
    /// Which one that was.
    last: Option<Fingerprint>,
}

impl Drop for Door {
    /// Who goes without having logged in was refused, if they have tried at all.
    fn drop(&mut self) {
        // Of certificates it has been written down already, each with its reason.
        let only_certificates = self.last.is_none() && self.why_not_certificate.is_some();
        if self.login.is_none() && self.failed > 0 && !only_certificates {
            self.control.note_refused_key(self.from, self.last.as_ref());
        }
    }
}

impl Door {
    pub(super) fn new(control: Arc<Control>, from: IpAddr, tries: usize, hand: Hand) -> Self {
        Self {
            control,
            from,
            tries,
            hand,
            login: None,
            known: None,
            offers: 0,
            failed: 0,
            why_not: None,
            why_not_certificate: None,
            last: None,
        }
    }

    /// Whose connection this is, once somebody has logged in.
    pub(super) fn login(&self) -> Option<&Login> {
        self.login.as_ref()
    }

    /// How many keys were refused.
    pub(super) fn refused(&self) -> usize {
        self.failed
    }

    /// A key without a signature. Of a certificate russh shows the key alone here, so where certificates let people in
    /// every key has to be signed with before it is known what it is.
    pub(super) async fn offered(&mut self, key: &ssh_key::PublicKey, algorithm: &Algorithm) -> Auth {
        let key = self.looked_at(key, algorithm);
        self.offers += 1;
        if self.offers > MAX_OFFERS {
            return self.refuse(None);
        }
        match key {
            Ok(key) if !self.control.trusts_certificates() && !self.is_known(&key).await => {
                self.refuse(Some(self.control.unknown(&key).to_string()))
            }
            Ok(_) if self.failed < self.tries => Auth::Accept,
            Ok(_) => self.refuse(None),
            Err(why) => self.refuse(Some(why)),
        }
    }

    /// A store that fails counts as yes: the client signs, and is told what is wrong.
    async fn is_known(&mut self, key: &PublicKey) -> bool {
        match self.control.knows(key).await {
            Ok(known) => {
                self.known = known;
                self.known.is_some()
            }
            Err(_) => true,
        }
    }

    /// A key whose owner has signed.
    pub(super) async fn proven(&mut self, key: &ssh_key::PublicKey, algorithm: &Algorithm) -> Auth {
        let key = match self.looked_at(key, algorithm) {
            Ok(key) => key,
            Err(why) => return self.refuse(Some(why)),
        };
        match self.control.log_in(&key, self.known.take(), self.from).await {
            Ok(login) => {
                info!(account = %login.account(), key = %login.fingerprint(), from = %self.from, "logged in");
                self.login = Some(login);
                Auth::Accept
            }
            Err(error) => {
                debug!(key = %key.fingerprint(), from = %self.from, %error, "not logged in");
                let why = error.to_string();
                if matches!(error, LoginError::Unavailable) {
                    return self.turn_down(Some(why));
                }
                self.refuse(match (error, &self.why_not_certificate) {
                    (LoginError::UnknownKey { .. }, Some(_)) => None,
                    (LoginError::UnknownKey { .. }, None) => Some(self.or_out_of_time(why)),
                    (_, _) => Some(why),
                })
            }
        }
    }

    /// A certificate whose owner has signed with the key in it.
    pub(super) async fn certificate(&mut self, certificate: &Certificate) -> Auth {
        if !self.control.trusts_certificates() {
            return self.refuse(Some(words::CERTIFICATE.to_owned()));
        }
        match self.control.log_in_by_certificate(certificate, self.from).await {
            Ok(login) => {
                let shown = login.certificate().map(ToString::to_string).unwrap_or_default();
                info!(account = %login.account(), certificate = shown, from = %self.from, "logged in");
                self.login = Some(login);
                Auth::Accept
            }
            Err(error) => {
                debug!(from = %self.from, %error, "not logged in by a certificate");
                self.why_not_certificate = Some(error.to_string());
                if matches!(error, LoginError::Unavailable) {
                    self.turn_down(None)
                } else {
                    self.refuse(None)
                }
            }
        }
    }

    /// A client that has run out of keys asks to be asked something: `answered` is false; it has read the text: true.
    pub(super) fn last_words(&mut self, answered: bool) -> Auth {
        if answered {
            // So that the text is not shown again.
            return refused_but_for(MethodKind::PublicKey);
        }
        let said = [&self.why_not_certificate, &self.why_not].into_iter().flatten();
        let mut text = said.map(String::as_str).collect::<Vec<_>>().join(" ");
        if text.is_empty() {
            text = self.or_out_of_time(words::NO_KEY.to_owned());
        }
        Auth::Partial { name: "".into(), instructions: in_ascii(&text).into(), prompts: [].as_slice().into() }
    }

    fn or_out_of_time(&self, why: String) -> String {
        let full_stop = if why.ends_with('.') { "" } else { "." };
        let certificates = self.control.trusts_certificates();
        if certificates { format!("{why}{full_stop} {}", words::OUT_OF_TIME) } else { why }
    }

    fn looked_at(&mut self, key: &ssh_key::PublicKey, algorithm: &Algorithm) -> Result<PublicKey, String> {
        let key = key_of(key, algorithm);
        self.last = key.as_ref().ok().map(PublicKey::fingerprint);
        key
    }

    /// Refuses a key. After the last one that may fail, only the last words are left to be asked for.
    fn refuse(&mut self, why: Option<String>) -> Auth {
        self.hand.refused();
        self.turn_down(why)
    }

    /// The same, where it is no fault of who offers it: nobody pays for a store that fails.
    fn turn_down(&mut self, why: Option<String>) -> Auth {
        self.failed += 1;
        if self.failed < self.tries {
            self.why_not = why;
            return reject();
        }
        self.hand.reach(Limit::LoginTries);
        self.why_not = Some(words::too_many_keys(self.tries));
        refused_but_for(MethodKind::KeyboardInteractive)
    }
}

/// No, and these are the ways.
pub(super) fn reject() -> Auth {
    Auth::Reject { proceed_with_methods: Some(methods()), partial_success: false }
}

/// No, and this is the only way left.
fn refused_but_for(method: MethodKind) -> Auth {
    Auth::Reject { proceed_with_methods: Some(MethodSet::from(&[method][..])), partial_success: false }
}

/// The key, unless it is of a kind that no account can have or is used in a way that proves nothing.
fn key_of(key: &ssh_key::PublicKey, algorithm: &Algorithm) -> Result<PublicKey, String> {
    if matches!(algorithm, Algorithm::Rsa { hash: None }) {
        return Err(words::SHA1.to_owned());
    }
    PublicKey::from_ssh_key(key).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_control::Settings;
    use berth_engine::VmSpec;
    use berth_model::{AccountName, Domains};
    use berth_store::Store;
    use berth_testkit::FakeEngine;
    use russh::keys::{HashAlg, PrivateKey};
    use std::net::Ipv4Addr;

    const MAX_KEYS: usize = 6;

    async fn door_with(keys: &[&PrivateKey]) -> Door {
        door_of(&Store::in_memory(&"koding".parse().unwrap()).await.unwrap(), keys).await
    }

    async fn door_of(store: &Store, keys: &[&PrivateKey]) -> Door {
        let team = "koding".parse().unwrap();
        let domains = Domains::new("koding.com", "kd.io", team).unwrap();
        let vm = VmSpec { cpus: 1, memory: 1 << 28, disk: 1 << 30 };
        let settings = Settings::new(domains, vm, "https://koding.com".into());
        let control = Control::open(settings, store.clone(), Arc::new(FakeEngine::new())).await.unwrap();
        let alice: AccountName = "alice".parse().unwrap();
        control.add_account(&alice).await.unwrap();
        for key in keys {
            control.add_keys(&alice, &key.public_key().to_openssh().unwrap(), None).await.unwrap();
        }
        Door::new(control, Ipv4Addr::LOCALHOST.into(), MAX_KEYS, Hand::default())
    }

    fn new_key(algorithm: Algorithm) -> PrivateKey {
        PrivateKey::random(&mut rand::rng(), algorithm).unwrap()
    }

    fn told(auth: &Auth) -> &str {
        let Auth::Partial { instructions, prompts, .. } = auth else { panic!("no text: {auth:?}") };
        assert!(prompts.is_empty(), "nothing is asked");
        instructions
    }

    #[tokio::test]
    async fn a_key_that_is_offered_and_not_proven_counts_for_nothing() {
        let (known, strange) = (new_key(Algorithm::Ed25519), new_key(Algorithm::Ed25519));
        let mut door = door_with(&[&known]).await;
        assert_eq!(door.offered(known.public_key(), &Algorithm::Ed25519).await, Auth::Accept);
        assert!(door.login().is_none());
        assert!(
            door.offered(strange.public_key(), &Algorithm::Ed25519).await != Auth::Accept,
            "no need to sign"
        );
        assert!(door.login().is_none());
        assert!(matches!(door.last_words(true), Auth::Reject { partial_success: false, .. }));
        assert!(door.proven(strange.public_key(), &Algorithm::Ed25519).await != Auth::Accept);
        assert!(door.login().is_none());
        let fingerprint = strange.public_key().fingerprint(HashAlg::Sha256).to_string();
        assert!(told(&door.last_words(false)).ends_with(&fingerprint));
        assert_eq!(door.proven(known.public_key(), &Algorithm::Ed25519).await, Auth::Accept);
        assert_eq!(door.login().unwrap().account().as_str(), "alice");
    }

    #[tokio::test]
    async fn nobody_pays_for_a_store_that_fails() {
        let known = new_key(Algorithm::Ed25519);
        let store = Store::in_memory(&"koding".parse().unwrap()).await.unwrap();
        let mut door = door_of(&store, &[&known]).await;
        store.close().await;
        assert!(door.proven(known.public_key(), &Algorithm::Ed25519).await != Auth::Accept);
        assert!(door.login().is_none() && !door.hand.was_refused());
        let mut door = door_with(&[]).await;
        assert!(door.proven(known.public_key(), &Algorithm::Ed25519).await != Auth::Accept);
        assert!(door.hand.was_refused(), "a key that is unknown is its owner's fault");
    }

    #[tokio::test]
    async fn where_a_ca_is_trusted_an_offer_says_nothing_and_still_counts_for_nothing() {
        let (known, strange, ca) =
            (new_key(Algorithm::Ed25519), new_key(Algorithm::Ed25519), new_key(Algorithm::Ed25519));
        let mut door = door_with(&[&known]).await;
        let host = door.control.acting(berth_control::Actor::host());
        host.add_team_ca(&ca.public_key().to_openssh().unwrap(), None).await.unwrap();
        for key in [&known, &strange, &ca] {
            assert_eq!(door.offered(key.public_key(), &Algorithm::Ed25519).await, Auth::Accept);
            assert!(door.login().is_none());
        }
        assert!(door.proven(strange.public_key(), &Algorithm::Ed25519).await != Auth::Accept);
        assert!(door.proven(ca.public_key(), &Algorithm::Ed25519).await != Auth::Accept, "a CA is nobody");
        assert!(door.login().is_none());
        assert_eq!(door.refused(), 2);
    }

    #[tokio::test]
    async fn after_six_keys_that_failed_a_right_one_is_too_late() {
        let known = new_key(Algorithm::Ed25519);
        let mut door = door_with(&[&known]).await;
        for n in 1..=MAX_KEYS {
            let strange = new_key(Algorithm::Ed25519);
            assert!(door.offered(strange.public_key(), &Algorithm::Ed25519).await != Auth::Accept, "key {n}");
        }
        let answer = door.offered(known.public_key(), &Algorithm::Ed25519).await;
        assert_eq!(answer, refused_but_for(MethodKind::KeyboardInteractive));
        assert_eq!(told(&door.last_words(false)), words::too_many_keys(MAX_KEYS));
        assert_eq!(door.hand.reached(), Some(Limit::LoginTries));
    }

    #[tokio::test]
    async fn a_known_key_cannot_be_asked_for_without_end() {
        let known = new_key(Algorithm::Ed25519);
        let mut door = door_with(&[&known]).await;
        for _ in 0..MAX_OFFERS {
            assert_eq!(door.offered(known.public_key(), &Algorithm::Ed25519).await, Auth::Accept);
        }
        for _ in 0..MAX_KEYS {
            assert!(door.offered(known.public_key(), &Algorithm::Ed25519).await != Auth::Accept);
        }
        assert_eq!(door.hand.reached(), Some(Limit::LoginTries));
    }

    #[tokio::test]
    async fn keys_that_nobody_can_have_and_sha1_are_refused_at_the_offer() {
        let rsa = new_key(Algorithm::Rsa { hash: None });
        let mut door = door_with(&[&rsa]).await;
        assert!(door.offered(rsa.public_key(), &Algorithm::Rsa { hash: None }).await != Auth::Accept);
        assert!(told(&door.last_words(false)).contains("SHA-1"));
        assert!(door.proven(rsa.public_key(), &Algorithm::Rsa { hash: None }).await != Auth::Accept);
        assert!(door.login().is_none());
        let sha2 = Algorithm::Rsa { hash: Some(HashAlg::Sha512) };
        assert_eq!(door.offered(rsa.public_key(), &sha2).await, Auth::Accept);
    }
}
