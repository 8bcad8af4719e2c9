//! Passwords: which are good enough, and their hashes.
//!
//! A hash takes 19 MiB and tens of milliseconds of a core (argon2id with the parameters that OWASP names), so there are
//! few at a time, on the threads for blocking work, and those who wait are counted: somebody who tries to log in a
//! thousand times a second costs the server no more than this.

use std::sync::Arc;

use argon2::{
    Algorithm, Argon2, Params, Version,
    password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash},
};
use berth_model::{AccountName, Secret};
use tokio::sync::{Semaphore, TryAcquireError};

use crate::web_error::WebError;

/// KiB, passes, lanes: <https://cheatsheetseries.owasp.org/cheatsheets/Password_Storage_Cheat_Sheet.html>
const COST: (u32, u32, u32) = (19 * 1024, 2, 1);
/// So many are hashed at once.
const AT_ONCE: usize = 2;
/// So many wait for that.
const WAITING: usize = 32;
/// What is checked where there is no password: a hash of nothing, at the same cost.
const NOBODYS: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5J3Mgc2FsdA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// The least number of characters in a password.
pub const MIN_PASSWORD: usize = 12;
/// The greatest number of characters in a password.
pub const MAX_PASSWORD: usize = 1024;
/// So many different characters a password has at least.
const MIN_DIFFERENT: usize = 5;

/// What people choose who are made to choose twelve characters: tried first by everybody who guesses.
const COMMON: &[&str] = &[
    "1234567890",
    "12345",
    "123",
    "0987654321",
    "qwertyuiop",
    "asdfghjkl",
    "zxcvbnm",
    "1q2w3e4r",
    "qazwsx",
    "password",
    "passwort",
    "passw0rd",
    "p@ssw0rd",
    "iloveyou",
    "letmein",
    "welcome",
    "administrator",
    "changeme",
    "trustno1",
    "correcthorsebatterystaple",
    "unknown",
    "football",
    "baseball",
    "princess",
    "sunshine",
    "superman",
    "abcdefghij",
    "secret",
    "berth",
    "koding",
];

/// Why a text is no password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// Fewer than [`MIN_PASSWORD`] characters.
    #[error("A password has at least {MIN_PASSWORD} characters. Three or four words make a good one.")]
    TooShort,
    /// More than [`MAX_PASSWORD`] characters.
    #[error("A password has at most {MAX_PASSWORD} characters.")]
    TooLong,
    /// It is made of the account's name.
    #[error("A password that is made of your name is guessed first. Choose another one.")]
    Name,
    /// It is made of what everybody tries.
    #[error("That password is among the first that are guessed. Three or four words make a better one.")]
    Common,
}

/// Whether an account can have this password.
pub(crate) fn check(password: &Secret<String>, account: &AccountName) -> Result<(), PasswordError> {
    let text = password.expose();
    match text.chars().take(MAX_PASSWORD + 1).count() {
        ..MIN_PASSWORD => return Err(PasswordError::TooShort),
        MIN_PASSWORD..=MAX_PASSWORD => {}
        _ => return Err(PasswordError::TooLong),
    }
    let text = text.to_lowercase();
    if rest_without(&text, &[account.as_str()]) < MIN_DIFFERENT {
        return Err(PasswordError::Name);
    }
    if rest_without(&text, COMMON) < MIN_DIFFERENT {
        return Err(PasswordError::Common);
    }
    Ok(())
}

/// How many different characters are left when all of these are taken out.
fn rest_without(text: &str, words: &[&str]) -> usize {
    let rest = words.iter().fold(text.to_owned(), |rest, word| rest.replace(word, ""));
    let different: std::collections::BTreeSet<char> = rest.chars().collect();
    different.len()
}

/// Where passwords are hashed.
#[derive(Debug, Clone)]
pub(crate) struct Passwords {
    turns: Arc<Semaphore>,
    places: Arc<Semaphore>,
}

impl Passwords {
    pub(crate) fn new() -> Self {
        Self { turns: Arc::new(Semaphore::new(AT_ONCE)), places: Arc::new(Semaphore::new(AT_ONCE + WAITING)) }
    }

    /// The hash of a new password.
    pub(crate) async fn hash(&self, password: &Secret<String>) -> Result<Secret<String>, WebError> {
        let password = password.clone();
        let hash = move || {
            let hash: PasswordHash = argon2().hash_password(password.expose().as_bytes()).ok()?;
            Some(Secret::new(hash.to_string()))
        };
        // Only a system without random numbers fails.
        self.in_turn(hash).await?.ok_or(WebError::Busy)
    }

    /// Whether a password is the one of this hash. Takes as long where there is none.
    pub(crate) async fn verify(
        &self,
        password: &Secret<String>,
        hash: Option<Secret<String>>,
    ) -> Result<bool, WebError> {
        // Longer ones cannot be right; that is no secret.
        if password.expose().chars().take(MAX_PASSWORD + 1).count() > MAX_PASSWORD {
            return Ok(false);
        }
        let (password, somebodys) = (password.clone(), hash.is_some());
        let hash = hash.unwrap_or_else(|| Secret::new(NOBODYS.to_owned()));
        let right =
            move || argon2().verify_password(password.expose().as_bytes(), hash.expose().as_str()).is_ok();
        Ok(self.in_turn(right).await? && somebodys)
    }

    /// Does it on a thread for blocking work, when it is its turn. The turn ends with the work, also when nobody waits
    /// for it any more.
    async fn in_turn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, WebError> {
        let place = match self.places.clone().try_acquire_owned() {
            Ok(place) => place,
            Err(TryAcquireError::NoPermits | TryAcquireError::Closed) => return Err(WebError::Busy),
        };
        let turn = self.turns.clone().acquire_owned().await.map_err(|_| WebError::Busy)?;
        let done = tokio::task::spawn_blocking(move || {
            let _held = (place, turn);
            work()
        });
        match done.await {
            Ok(done) => Ok(done),
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => Err(WebError::Busy),
        }
    }
}

fn argon2() -> Argon2<'static> {
    let (memory, passes, lanes) = COST;
    let params = Params::new(memory, passes, lanes, None).expect("the parameters are within argon2's bounds");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn secret(text: &str) -> Secret<String> {
        Secret::new(text.to_owned())
    }

    #[test]
    fn passwords_that_are_guessed_are_refused() {
        let alice = "alice".parse().unwrap();
        let check = |text: &str| check(&secret(text), &alice);
        for (text, refused) in [
            ("short", PasswordError::TooShort),
            ("elf zeichen", PasswordError::TooShort),
            ("alicealicealice", PasswordError::Name),
            ("Alice2026Alice!", PasswordError::Name),
            ("aaaaaaaaaaaaaaaa", PasswordError::Name),
            ("abababababababab", PasswordError::Name),
            ("Password1234567890", PasswordError::Common),
            ("qwertyuiop123", PasswordError::Common),
            ("password12345", PasswordError::Common),
            ("correcthorsebatterystaple", PasswordError::Common),
        ] {
            assert_eq!(check(text), Err(refused), "{text}");
        }
        assert_eq!(check(&"xyzzy, ".repeat(147)), Err(PasswordError::TooLong));
        for text in ["a lemon, two boats", "Zwölf Boxkämpfer", "gJ7#kd92Lq!x", &"é1ü2ö3".repeat(170)] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
    }

    #[tokio::test]
    async fn a_password_is_known_again_and_no_other_is() {
        let passwords = Passwords::new();
        let hash = passwords.hash(&secret("a lemon, two boats")).await.unwrap();
        assert!(hash.expose().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "what nobody's is like too");
        assert_ne!(passwords.hash(&secret("a lemon, two boats")).await.unwrap().expose(), hash.expose());
        let is = async |text: &str| passwords.verify(&secret(text), Some(hash.clone())).await.unwrap();
        assert!(is("a lemon, two boats").await);
        for other in ["a lemon, two boat", "A lemon, two boats", ""] {
            assert!(!is(other).await, "{other:?}");
        }
        assert!(!passwords.verify(&secret(""), None).await.unwrap());
        assert!(!passwords.verify(&secret(&"x".repeat(5000)), Some(hash.clone())).await.unwrap());
    }

    #[tokio::test]
    async fn nobodys_password_takes_as_long_as_a_wrong_one() {
        let passwords = Passwords::new();
        let hash = passwords.hash(&secret("a lemon, two boats")).await.unwrap();
        let took = async |hash: Option<Secret<String>>| {
            let began = Instant::now();
            assert!(!passwords.verify(&secret("a guess at it"), hash).await.unwrap());
            began.elapsed()
        };
        // The least of several, and of more where they differ: what else this machine does only adds to it.
        let (mut wrong, mut nobodys) = (Duration::MAX, Duration::MAX);
        for _ in 0..40 {
            wrong = wrong.min(took(Some(hash.clone())).await);
            nobodys = nobodys.min(took(None).await);
            if (0.67..1.5).contains(&(nobodys.as_secs_f64() / wrong.as_secs_f64())) {
                return;
            }
        }
        panic!("{nobodys:?} and {wrong:?}");
    }

    #[tokio::test]
    async fn few_are_hashed_at_once_and_not_many_wait() {
        let passwords = Passwords::new();
        let (release, held) = std::sync::mpsc::channel::<()>();
        let held = Arc::new(std::sync::Mutex::new(held));
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..AT_ONCE + WAITING {
            let (passwords, held) = (passwords.clone(), held.clone());
            tasks.spawn(async move { passwords.in_turn(move || held.lock().unwrap().recv().is_err()).await });
        }
        while passwords.places.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(passwords.turns.available_permits(), 0);
        assert!(matches!(passwords.hash(&secret("a lemon, two boats")).await, Err(WebError::Busy)));
        drop(release);
        assert!(tasks.join_all().await.into_iter().all(|done| done.is_ok()));
        assert_eq!(passwords.places.available_permits(), AT_ONCE + WAITING);
    }
}
