//! `/ops/team`: the VMs of the team, and the CAs whose certificates let its members in.

use askama::Template;
use axum::{http::StatusCode, response::Response};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use berth_control::{Error, KrlInfo, TeamCaInfo, WebError};
use berth_model::KrlError;

use crate::{
    fields::Fields,
    frame::{Frame, Here},
    problem::{self, Problem},
    views::VmView,
    visitor::{Member, Operator},
    words::{self, Moment, go},
};

/// So much of what was typed is shown again: a key of RSA fits.
const MAX_TYPED: usize = 2000;

#[derive(Template)]
#[template(path = "ops_team.html")]
struct Page {
    frame: Frame,
    vms: Vec<VmView>,
    cas: Vec<Ca>,
    krl: Option<Revoked>,
    /// What was typed, and what is wrong with it.
    typed: String,
    label: String,
    ca_wrong: String,
    krl_wrong: String,
}

struct Ca {
    label: String,
    fingerprint: String,
    added: Moment,
}

struct Revoked {
    loaded: Moment,
    authorities: usize,
    keys: usize,
}

impl From<TeamCaInfo> for Ca {
    fn from(info: TeamCaInfo) -> Self {
        Self { label: info.label, fingerprint: info.fingerprint, added: Moment::new(info.added) }
    }
}

impl From<KrlInfo> for Revoked {
    fn from(info: KrlInfo) -> Self {
        let KrlInfo { loaded, authorities, keys } = info;
        Self { loaded: Moment::new(loaded), authorities, keys }
    }
}

impl Page {
    async fn new(member: &Member) -> Result<Self, Problem> {
        let trusted = member.acting.team_cas()?;
        Ok(Self {
            frame: Frame::new(&member.visitor, Here::Ops("team")),
            vms: member.acting.team_vms().await?.iter().map(VmView::new).collect(),
            cas: trusted.cas.into_iter().map(Ca::from).collect(),
            krl: trusted.krl.map(Revoked::from),
            typed: String::new(),
            label: String::new(),
            ca_wrong: String::new(),
            krl_wrong: String::new(),
        })
    }
}

pub(crate) async fn show(Operator(member): Operator) -> Result<Response, Problem> {
    words::show(StatusCode::OK, &Page::new(&member).await?)
}

pub(crate) async fn add_vm(Operator(member): Operator) -> Result<Response, Problem> {
    member.acting.add_team_vm().await?;
    Ok(go("/ops/team"))
}

/// Trusts a CA (`key`, `label`).
pub(crate) async fn add_ca(Operator(member): Operator, fields: Fields) -> Result<Response, Problem> {
    let (typed, label) = (fields.get("key"), fields.get("label"));
    match member.acting.add_team_ca(typed, Some(label)).await {
        Ok(_) => Ok(go("/ops/team#cas")),
        Err(WebError::Other(error)) => {
            // A private key is not shown again.
            let shown = if matches!(error, Error::Paste(_)) { "" } else { typed };
            let (typed, label) = (words::plain(shown, MAX_TYPED), words::plain(label, MAX_TYPED));
            let page = Page { typed, label, ca_wrong: problem::words(&error), ..Page::new(&member).await? };
            words::show(problem::status(error.kind()), &page)
        }
        Err(error) => Err(error.into()),
    }
}

/// Trusts a CA (`ca`, its fingerprint) no more.
pub(crate) async fn remove_ca(Operator(member): Operator, fields: Fields) -> Result<Response, Problem> {
    member.acting.remove_team_ca(fields.get("ca")).await?;
    Ok(go("/ops/team#cas"))
}

/// Loads a key revocation list (`krl`, in base64).
pub(crate) async fn load_krl(Operator(member): Operator, fields: Fields) -> Result<Response, Problem> {
    let text: String = fields.get("krl").split_ascii_whitespace().collect();
    let loaded = match STANDARD.decode(text) {
        Ok(krl) => member.acting.load_team_krl(&krl).await,
        Err(_) => Err(Error::Krl(KrlError::NotAKrl).into()),
    };
    match loaded {
        Ok(_) => Ok(go("/ops/team#revoked")),
        Err(WebError::Other(error)) => {
            let krl_wrong = problem::words(&error);
            let page = Page { krl_wrong, ..Page::new(&member).await? };
            words::show(problem::status(error.kind()), &page)
        }
        Err(error) => Err(error.into()),
    }
}
