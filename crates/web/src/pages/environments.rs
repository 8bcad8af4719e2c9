//! `/`: what this is, for somebody unknown; your environments, for a member.

use std::sync::Arc;

use askama::Template;
use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};

use super::shared::{self, SharedView};
use crate::{
    Site, Website,
    frame::{Frame, Here},
    problem::{self, Problem, status},
    views::VmView,
    visitor::{Member, Visitor},
    way_in,
    words::{self, go, span},
};

#[derive(Template)]
#[template(path = "out.html")]
pub(crate) struct Out {
    frame: Frame,
    config: String,
    command: String,
    gateway: String,
    fingerprint: String,
    on_this_machine: bool,
}

impl Out {
    pub(crate) fn new(site: &Site, frame: Frame) -> Self {
        let domains = &site.domains;
        Self {
            frame,
            config: way_in::config(domains, site.ssh_port, "alice"),
            command: format!("ssh {}", way_in::first_host(domains, "alice")),
            gateway: domains.gateway_host(),
            fingerprint: site.gateway_fingerprint.clone(),
            on_this_machine: domains.app_domain().ends_with("localhost"),
        }
    }
}

#[derive(Template)]
#[template(path = "environments.html")]
struct Environments {
    frame: Frame,
    csrf: String,
    vms: Vec<VmView>,
    keys: usize,
    sleep_after: Option<String>,
    team: Vec<VmView>,
    shared: Vec<SharedView>,
    new_wrong: Option<String>,
}

/// The part of the page that changes.
#[derive(Template)]
#[template(path = "vm_list.html")]
pub(crate) struct List {
    pub(crate) vms: Vec<VmView>,
    csrf: String,
}

impl List {
    pub(crate) async fn of(member: &Member) -> Result<Self, Problem> {
        let vms = member.acting.vms(Some(member.account())).await?;
        Ok(Self { vms: vms.iter().map(VmView::new).collect(), csrf: member.visitor.token() })
    }
}

/// What went wrong on this page, where it is shown.
pub(crate) enum Wrong {
    /// With the VM of this label.
    Vm(String, String),
    /// With making a new one.
    New(String),
}

pub(crate) async fn show_page(
    website: &Website,
    member: &Member,
    code: StatusCode,
    wrong: Option<Wrong>,
) -> Result<Response, Problem> {
    let List { mut vms, csrf } = List::of(member).await?;
    let mut new_wrong = None;
    match wrong {
        Some(Wrong::Vm(label, words)) => {
            if let Some(vm) = vms.iter_mut().find(|vm| vm.label == label) {
                vm.wrong = Some(words);
            }
        }
        Some(Wrong::New(words)) => new_wrong = Some(words),
        None => {}
    }
    let page = Environments {
        frame: Frame::new(&member.visitor, Here::Environments).live("/live/environments".into()),
        csrf,
        vms,
        keys: member.acting.keys(member.account()).await?.len(),
        sleep_after: website.control.settings().idle.sleep_after.map(span),
        team: member.acting.team_vms().await?.iter().map(|vm| VmView::of_team(vm, member)).collect(),
        shared: shared::of(member).await?,
        new_wrong,
    };
    words::show(code, &page)
}

pub(crate) async fn show(
    State(website): State<Arc<Website>>,
    visitor: Visitor,
    member: Result<Member, Problem>,
) -> Result<Response, Problem> {
    if visitor.login().is_some() {
        return show_page(&website, &member?, StatusCode::OK, None).await;
    }
    words::show(StatusCode::OK, &Out::new(&website.site, Frame::new(&visitor, Here::Elsewhere)))
}

/// Makes a VM.
pub(crate) async fn add(State(website): State<Arc<Website>>, member: Member) -> Result<Response, Problem> {
    match member.acting.add_vm(member.account()).await {
        Ok(_) => Ok(go("/").into_response()),
        Err(error) => {
            let wrong = Wrong::New(problem::words(&error));
            show_page(&website, &member, status(error.kind()), Some(wrong)).await
        }
    }
}
