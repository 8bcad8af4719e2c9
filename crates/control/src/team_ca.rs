//! The CAs that operators trust to say who is a member: which there are, what they have taken back, and how that ends.
//!
//! What is trusted at a moment is one value that is replaced as a whole. Whoever logs in takes their switch first and
//! looks at it then, so that a removal finds them or they find the removal.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use berth_model::{AccountName, KeyOptions, Krl, PublicKey, TeamName, parse_pasted};
use berth_store::{AddedTeamCa, AuditKind, MAX_TEAM_CAS, Scope, Store, TeamCaRow};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::{Control, acting::Acting, error::Error, web_error::WebError};

/// The most characters of what a CA is called.
const MAX_LABEL: usize = 64;

/// A CA whose certificates let members in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TeamCaInfo {
    /// `SHA256:…`, which names it.
    pub fingerprint: String,
    /// What the operator calls it.
    pub label: String,
    /// Its key, as a line of a `.pub` file without comment.
    pub public_key: String,
    /// Since when it counts.
    #[serde(with = "time::serde::rfc3339")]
    pub added: OffsetDateTime,
}

/// What was taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct KrlInfo {
    /// When the list was loaded.
    #[serde(with = "time::serde::rfc3339")]
    pub loaded: OffsetDateTime,
    /// Parts of it that are about certificates of a CA.
    pub authorities: usize,
    /// Keys in it.
    pub keys: usize,
}

/// The CAs of a team.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TeamCasInfo {
    /// Which team.
    pub team: TeamName,
    /// The CAs, in the order in which they were added.
    pub cas: Vec<TeamCaInfo>,
    /// What of their certificates was taken back; `None` where no list was ever loaded.
    pub krl: Option<KrlInfo>,
}

/// What is trusted.
pub(crate) struct Trusted {
    cas: Vec<TeamCaRow>,
    pub(crate) krl: Krl,
    loaded: Option<OffsetDateTime>,
}

impl Trusted {
    pub(crate) fn authorities(&self) -> impl Iterator<Item = PublicKey> {
        self.cas.iter().map(|ca| ca.key.clone())
    }
}

/// The CAs of the installation's team.
pub(crate) struct TeamCas(RwLock<Arc<Trusted>>);

impl fmt::Debug for TeamCas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TeamCas").finish_non_exhaustive()
    }
}

impl TeamCas {
    pub(crate) async fn open(store: &Store, team: &TeamName) -> Result<Self, Error> {
        Ok(Self(RwLock::new(Arc::new(read(store, team).await?))))
    }

    pub(crate) fn trusted(&self) -> Arc<Trusted> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The lines of an authorized_keys file that let in who has a certificate for this account, until then (sshd(8)).
    pub(crate) fn trust_lines(&self, account: &AccountName, until: Option<OffsetDateTime>) -> String {
        let expiry = match until {
            Some(_) => format!("{},", KeyOptions { expires: until, ..KeyOptions::default() }),
            None => String::new(),
        };
        let line = |ca: &TeamCaRow| {
            format!("cert-authority,{expiry}principals=\"{account}\" {}\n", ca.key.to_openssh())
        };
        self.trusted().cas.iter().map(line).collect()
    }
}

async fn read(store: &Store, team: &TeamName) -> Result<Trusted, Error> {
    let cas = store.team_cas(team).await?;
    let (krl, loaded) = match store.team_krl(team).await? {
        // Without it, whom it takes out would be in again.
        Some((krl, loaded)) => (Krl::read(&krl).map_err(|_| Error::TeamKrlDamaged)?, Some(loaded)),
        None => (Krl::default(), None),
    };
    Ok(Trusted { cas, krl, loaded })
}

impl Control {
    /// Whether certificates let anybody in here.
    #[must_use]
    pub fn trusts_certificates(&self) -> bool {
        !self.tools.team_cas.trusted().cas.is_empty()
    }

    fn team_cas(&self) -> TeamCasInfo {
        let trusted = self.tools.team_cas.trusted();
        let (authorities, keys) = trusted.krl.size();
        TeamCasInfo {
            team: self.settings.domains.team().clone(),
            cas: trusted.cas.iter().map(info).collect(),
            krl: trusted.loaded.map(|loaded| KrlInfo { loaded, authorities, keys }),
        }
    }

    /// Takes up what the store has, and ends what it does not allow any more.
    pub(crate) async fn team_cas_changed(&self) -> Result<TeamCasInfo, Error> {
        let trusted = Arc::new(read(&self.store, self.settings.domains.team()).await?);
        *self.tools.team_cas.0.write().unwrap_or_else(PoisonError::into_inner) = trusted.clone();
        self.certificates.revoke_where(|certificate| {
            trusted.cas.iter().all(|ca| ca.key != certificate.authority)
                || certificate.is_revoked_by(&trusted.krl)
        });
        Ok(self.team_cas())
    }
}

impl Acting {
    /// The CAs whose certificates let members in, and what of them was taken back; for operators.
    ///
    /// # Errors
    /// [`WebError::Missing`] for members.
    pub fn team_cas(&self) -> Result<TeamCasInfo, WebError> {
        self.must_be_operator(Scope::OpsRead)?;
        Ok(self.control.team_cas())
    }

    /// Has the certificates of a CA let members in, whose `.pub` file is pasted; for operators. `label` names it; without
    /// it the comment does, or else the algorithm. VMs that run hear of it in a moment.
    ///
    /// # Errors
    /// What is pasted is not one public key; there are as many as there can be; [`WebError::Missing`] for members; the
    /// store fails.
    pub async fn add_team_ca(&self, pasted: &str, label: Option<&str>) -> Result<TeamCasInfo, WebError> {
        self.must_be_operator(Scope::OpsWrite)?;
        let pasted: Vec<_> = parse_pasted(pasted).map_err(Error::from)?;
        let [key] = <[_; 1]>::try_from(pasted).map_err(|_| Error::NotOneTeamCa)?;
        let pasted = key.map_err(Error::NoTeamCa)?;
        if pasted.options != KeyOptions::default() {
            return Err(Error::TeamCaWithOptions.into());
        }
        let algorithm = pasted.key.algorithm();
        let named = [label, Some(pasted.comment.as_str())].into_iter().flatten();
        let named = named.map(str::trim).find(|text| !text.is_empty());
        let label: String =
            named.unwrap_or(&algorithm).chars().filter(|c| !c.is_control()).take(MAX_LABEL).collect();
        self.to_the_end(|acting| async move { acting.try_add_team_ca(&pasted.key, &label).await }).await
    }

    async fn try_add_team_ca(&self, key: &PublicKey, label: &str) -> Result<TeamCasInfo, WebError> {
        let (store, team) = (&self.control.store, self.control.settings.domains.team());
        let now = self.control.settings.clock.now();
        match store.add_team_ca(team, key, label, now).await.map_err(Error::from)? {
            AddedTeamCa::Added => {}
            AddedTeamCa::AlreadyThere => return Ok(self.control.team_cas()),
            AddedTeamCa::TooMany => return Err(Error::TooManyTeamCas { most: MAX_TEAM_CAS }.into()),
        }
        let now = self.control.team_cas_changed().await?;
        self.note_team_ca(key.fingerprint().to_string(), format!("added: {label}")).await;
        self.control.push_to_all();
        Ok(now)
    }

    /// Has the certificates of the CA with this fingerprint or label let nobody in any more; connections that they opened
    /// end at once. For operators.
    ///
    /// # Errors
    /// There is no such CA; [`WebError::Missing`] for members; the store fails.
    pub async fn remove_team_ca(&self, which: &str) -> Result<TeamCasInfo, WebError> {
        self.must_be_operator(Scope::OpsWrite)?;
        let which = which.to_owned();
        self.to_the_end(|acting| async move { acting.try_remove_team_ca(&which).await }).await
    }

    async fn try_remove_team_ca(&self, which: &str) -> Result<TeamCasInfo, WebError> {
        let trusted = self.control.tools.team_cas.trusted();
        let named = |ca: &&TeamCaRow| ca.key.fingerprint().to_string() == which || ca.label == which;
        let missing = || Error::NoSuchTeamCa(which.to_owned());
        let mut found = trusted.cas.iter().filter(named);
        let (Some(ca), None) = (found.next(), found.next()) else { return Err(missing().into()) };
        if !self.control.store.remove_team_ca(ca.id).await.map_err(Error::from)? {
            return Err(missing().into());
        }
        let now = self.control.team_cas_changed().await?;
        self.note_team_ca(ca.key.fingerprint().to_string(), format!("removed: {}", ca.label)).await;
        self.control.push_to_all();
        Ok(now)
    }

    /// Puts a key revocation list (OpenSSH's PROTOCOL.krl) in the place of the last one. Connections that were opened by
    /// what it takes back end at once. For operators.
    ///
    /// # Errors
    /// It is none, or not understood, and nothing has changed; [`WebError::Missing`] for members; the store fails.
    pub async fn load_team_krl(&self, file: &[u8]) -> Result<TeamCasInfo, WebError> {
        self.must_be_operator(Scope::OpsWrite)?;
        Krl::read(file).map_err(Error::Krl)?;
        let file = file.to_owned();
        self.to_the_end(|acting| async move { acting.try_load_team_krl(&file).await }).await
    }

    async fn try_load_team_krl(&self, file: &[u8]) -> Result<TeamCasInfo, WebError> {
        let (store, team) = (&self.control.store, self.control.settings.domains.team());
        store.set_team_krl(team, file, self.control.settings.clock.now()).await.map_err(Error::from)?;
        let now = self.control.team_cas_changed().await?;
        let what = now.krl.map(|krl| format!("{} parts about CAs, {} keys", krl.authorities, krl.keys));
        self.note_team_ca(team.to_string(), format!("revocations loaded: {}", what.unwrap_or_default()))
            .await;
        Ok(now)
    }

    async fn note_team_ca(&self, subject: String, detail: String) {
        let mut event = self.actor.event_of_nobody(AuditKind::TeamCa, subject);
        event.detail = detail;
        self.control.note_event(event).await;
    }
}

fn info(row: &TeamCaRow) -> TeamCaInfo {
    TeamCaInfo {
        fingerprint: row.key.fingerprint().to_string(),
        label: row.label.clone(),
        public_key: row.key.to_openssh(),
        added: row.added_at,
    }
}
