//! Certificates from an authority that speaks ACME (RFC 8555), proved by http-01: the authority asks the plain listener.
//!
//! One task asks, for one name after the other: `app_domain`, and by wish the names of VMs for which somebody came by
//! https. What it is given is kept in a folder of the state folder: `account.json`, and a file for each name. When each is
//! renewed follows from its dates; what went wrong is tried again later, and later still.

mod folder;

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use berth_control::Control;
use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, ChallengeType, Error, Identifier, NewAccount, NewOrder,
    Order, OrderStatus, RetryPolicy,
};
use rand::RngExt;
use time::OffsetDateTime;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};

use self::folder::Folder;
use super::{TlsError, pair::Pair, shelf::Shelf};

/// So long may the authority take for all of one certificate.
const PATIENCE: Duration = Duration::from_secs(180);
/// So often it is looked whether something is to be renewed.
const LOOK: Duration = Duration::from_secs(3600);
/// The first pause after a failure; each further one is twice as long.
const PAUSE: Duration = Duration::from_secs(60);
const PAUSE_AT_MOST: Duration = Duration::from_secs(12 * 3600);
/// So many names wait at once to be asked for; more are told nothing, and come again.
const QUEUE: usize = 64;
/// So many new certificates for VMs in a week. Public authorities give 50 for a registered domain.
const VMS_A_WEEK: usize = 40;
const WEEK: time::Duration = time::Duration::days(7);

/// Which authority, and what for.
#[derive(Debug, Clone)]
pub struct AcmeSettings {
    /// The address of its directory.
    pub directory: String,
    /// Whom it may write to, as `mailto:ops@koding.com`.
    pub contact: Option<String>,
    /// A file with the certificate that the authority's own server is known by, for one that is not public.
    pub root: Option<PathBuf>,
    /// Where the account's key and the certificates are kept. Made, for its owner alone, where it is not there.
    pub folder: PathBuf,
    /// Whether a VM's name gets a certificate when somebody comes for it by https.
    pub vm_names: bool,
}

/// See the module.
pub(super) struct Acme {
    settings: AcmeSettings,
    folder: Folder,
    shelf: Arc<Shelf>,
    control: Arc<Control>,
    /// What the authority is told, by the token that it asks with.
    challenges: Mutex<HashMap<String, String>>,
    wanted: mpsc::Sender<String>,
    asked_for: Mutex<Option<mpsc::Receiver<String>>>,
    /// Names that failed, and when they are tried again.
    failed: Mutex<BTreeMap<String, Failure>>,
}

#[derive(Debug, Clone, Copy)]
struct Failure {
    times: u32,
    again: Instant,
}

impl Acme {
    pub(super) fn open(
        settings: AcmeSettings,
        shelf: Arc<Shelf>,
        control: Arc<Control>,
    ) -> Result<Self, TlsError> {
        let folder = Folder::make(&settings.folder)?;
        for (name, pair) in folder.certificates()? {
            shelf.set_issued(name, Arc::new(pair));
        }
        let (wanted, asked_for) = mpsc::channel(QUEUE);
        Ok(Self {
            settings,
            folder,
            shelf,
            control,
            challenges: Mutex::default(),
            wanted,
            asked_for: Mutex::new(Some(asked_for)),
            failed: Mutex::default(),
        })
    }

    pub(super) fn challenge(&self, token: &str) -> Option<String> {
        self.challenges.lock().unwrap_or_else(PoisonError::into_inner).get(token).cloned()
    }

    /// Waits until there is a certificate for `name`, if there is going to be one.
    pub(super) async fn wait_for(&self, name: &str) {
        let mut changes = self.shelf.changes();
        if self.shelf.find(name).is_some() || !self.may_have(name).await || self.has_failed(name) {
            return;
        }
        if self.wanted.try_send(name.to_owned()).is_err() {
            return;
        }
        while self.shelf.find(name).is_none() && !self.has_failed(name) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Whether a name is one of ours that certificates are for.
    async fn may_have(&self, name: &str) -> bool {
        let domains = &self.control.settings().domains;
        if self.shelf.has_file_for(name) {
            return false;
        }
        name == domains.app_domain()
            || (self.settings.vm_names && self.control.has_site(name).await.unwrap_or(false))
    }

    fn has_failed(&self, name: &str) -> bool {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.get(name).is_some_and(|failure| failure.again > Instant::now())
    }

    /// Asks for certificates, for ever. Only the first caller does.
    pub(super) async fn run(&self) {
        let taken = self.asked_for.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut asked_for) = taken else { return std::future::pending().await };
        let mut account = None;
        loop {
            for name in self.due() {
                self.get(&mut account, &name).await;
            }
            let look = sleep_until(self.next_look());
            tokio::pin!(look);
            loop {
                tokio::select! {
                    () = &mut look => break,
                    Some(name) = asked_for.recv() => self.get(&mut account, &name).await,
                }
            }
        }
    }

    /// The names whose certificate is missing or to be renewed.
    fn due(&self) -> Vec<String> {
        let now = OffsetDateTime::now_utc();
        let app = self.control.settings().domains.app_domain().to_owned();
        let mut names = self.shelf.issued();
        names.entry(app.clone()).or_insert(None);
        let is_due = |pair: &Option<Arc<Pair>>| pair.as_ref().is_none_or(|pair| renew_at(pair) <= now);
        let due = names.into_iter().filter(|(name, pair)| is_due(pair) && !self.has_failed(name));
        due.map(|(name, _)| name).filter(|name| *name == app || self.settings.vm_names).collect()
    }

    fn next_look(&self) -> Instant {
        let app = self.control.settings().domains.app_domain();
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let hour = Instant::now() + LOOK;
        failed.get(app).map_or(hour, |failure| failure.again.min(hour))
    }

    /// Asks for one, unless there is a good one.
    async fn get(&self, account: &mut Option<Account>, name: &str) {
        let now = OffsetDateTime::now_utc();
        let known = self.shelf.find(name);
        let is_good = known.as_ref().is_some_and(|pair| renew_at(pair) > now);
        if is_good || self.has_failed(name) || !self.may_have(name).await {
            return;
        }
        let is_new_vm = known.is_none() && name != self.control.settings().domains.app_domain();
        if is_new_vm && self.shelf.issued_since(now - WEEK) >= VMS_A_WEEK {
            tracing::warn!(
                name,
                "no certificate: {VMS_A_WEEK} new ones were asked for this week, which is the limit"
            );
            return self.note_failure(name);
        }
        let got = timeout(PATIENCE, self.issue(account, name)).await;
        // Answers that nobody waits for any more.
        self.challenges.lock().unwrap_or_else(PoisonError::into_inner).clear();
        match got.unwrap_or_else(|_| Err(Failed::Slow)) {
            Ok(pair) => {
                tracing::info!(name, ends = %pair.ends.date(), "the authority gave a certificate");
                self.failed.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
                self.shelf.set_issued(name.to_owned(), Arc::new(pair));
            }
            Err(error) => {
                tracing::warn!(name, %error, "the authority gave no certificate; it is asked again later");
                // The account may be what is wrong.
                *account = None;
                self.note_failure(name);
            }
        }
    }

    fn note_failure(&self, name: &str) {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        // Only names that may have one come here, and a VM that is gone is not asked for any more.
        failed.retain(|_, failure| failure.again + PAUSE_AT_MOST > Instant::now());
        let times = failed.get(name).map_or(0, |failure| failure.times);
        let pause = PAUSE.saturating_mul(2_u32.saturating_pow(times)).min(PAUSE_AT_MOST);
        let pause = pause.mul_f64(rand::rng().random_range(1.0..1.25));
        failed.insert(name.to_owned(), Failure { times: times + 1, again: Instant::now() + pause });
        drop(failed);
        self.shelf.told();
    }

    async fn issue(&self, account: &mut Option<Account>, name: &str) -> Result<Pair, Failed> {
        let account = match account {
            Some(account) => account,
            None => account.insert(self.account().await?),
        };
        let mut order = account.new_order(&NewOrder::new(&[Identifier::Dns(name.to_owned())])).await?;
        self.answer(&mut order).await?;
        let patience = RetryPolicy::new().timeout(PATIENCE);
        if order.poll_ready(&patience).await? != OrderStatus::Ready {
            return Err(why(&mut order).await);
        }
        let key = order.finalize().await?;
        let chain = order.poll_certificate(&patience).await?;
        let pair = Pair::read(chain.as_bytes(), key.as_bytes(), OffsetDateTime::now_utc())?;
        self.folder.keep(name, &format!("{key}{chain}")).map_err(Failed::Kept)?;
        Ok(pair)
    }

    /// Has an answer ready for each question of the authority, and says so.
    async fn answer(&self, order: &mut Order) -> Result<(), Failed> {
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization?;
            if authorization.status == AuthorizationStatus::Valid {
                continue;
            }
            let mut challenge = authorization.challenge(ChallengeType::Http01).ok_or(Failed::NotByHttp)?;
            let answer = challenge.key_authorization().as_str().to_owned();
            let token = challenge.token.clone();
            self.challenges.lock().unwrap_or_else(PoisonError::into_inner).insert(token, answer);
            challenge.set_ready().await?;
        }
        Ok(())
    }

    /// The account there, made at the first time.
    async fn account(&self) -> Result<Account, Failed> {
        let builder = match &self.settings.root {
            Some(root) => Account::builder_with_root(root)?,
            None => Account::builder()?,
        };
        if let Some(kept) = self.folder.account(&self.settings.directory).map_err(Failed::Kept)? {
            let credentials: AccountCredentials =
                serde_json::from_str(&kept).map_err(|error| Failed::Kept(error.into()))?;
            return Ok(builder.from_credentials(credentials).await?);
        }
        let contact: Vec<&str> = self.settings.contact.iter().map(String::as_str).collect();
        let new =
            NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
        let (account, credentials) = builder.create(&new, self.settings.directory.clone(), None).await?;
        let credentials = serde_json::to_string(&credentials).map_err(|error| Failed::Kept(error.into()))?;
        self.folder.keep_account(&self.settings.directory, &credentials).map_err(Failed::Kept)?;
        tracing::info!(directory = %self.settings.directory, "an account was made at the authority");
        Ok(account)
    }
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Authority(#[from] Error),
    #[error("it refused: {0}")]
    Refused(String),
    #[error("it does not ask by http (http-01)")]
    NotByHttp,
    #[error("what it gave is of no use: {0}")]
    Useless(#[from] super::PairError),
    #[error("it cannot be kept: {0}")]
    Kept(std::io::Error),
    #[error("it took longer than three minutes")]
    Slow,
}

/// What the authority says of an order that it refused.
async fn why(order: &mut Order) -> Failed {
    let mut said = vec![];
    let mut authorizations = order.authorizations();
    while let Some(Ok(authorization)) = authorizations.next().await {
        said.extend(
            authorization
                .challenges
                .iter()
                .filter_map(|challenge| challenge.error.as_ref())
                .map(ToString::to_string),
        );
    }
    Failed::Refused(if said.is_empty() { "it does not say why".to_owned() } else { said.join("; ") })
}

/// After two thirds of its time, and up to a twentieth later: another moment for each certificate, so that many made at
/// once are not renewed at once.
fn renew_at(pair: &Pair) -> OffsetDateTime {
    let life = pair.ends - pair.begins;
    let spread: u32 = pair.names.iter().flat_map(|name| name.bytes()).map(u32::from).sum::<u32>() % 100;
    pair.begins + life * 2 / 3 + life * spread / 2000
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::pair::tests::made;

    #[test]
    fn renewals_leave_a_quarter_of_the_time_and_are_spread() {
        let moments: Vec<_> = ["koding.com", "vm-0.alice.kd.io", "vm-1.alice.kd.io", "bob.kd.io"]
            .map(|name| {
                let (certificate, key) = made(&[name], false);
                let pair =
                    Pair::read(certificate.as_bytes(), key.as_bytes(), OffsetDateTime::now_utc()).unwrap();
                let used = renew_at(&pair) - pair.begins;
                assert!(used >= time::Duration::days(60) && used < time::Duration::days(65), "{used}");
                used
            })
            .into();
        assert!(moments.windows(2).any(|two| two[0] != two[1]));
    }
}
