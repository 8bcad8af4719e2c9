//! `/help`: the tutorial with the member's own lines, and what can get in the way.

use std::sync::Arc;

use askama::Template;
use axum::{extract::State, http::StatusCode, response::Response};

use crate::{
    Website,
    frame::{Frame, Here},
    problem::Problem,
    visitor::Member,
    way_in::{System, WayIn},
    words::{self, span},
};

#[derive(Template)]
#[template(path = "help.html")]
struct Page {
    frame: Frame,
    way: WayIn,
    vm_domain: String,
    fingerprint: String,
    sleep_after: Option<String>,
}

pub(crate) async fn show(State(website): State<Arc<Website>>, member: Member) -> Result<Response, Problem> {
    let settings = website.control.settings();
    let vms = member.acting.vms(Some(member.account())).await?;
    let host = vms.into_iter().next().map(|vm| vm.host);
    let page = Page {
        frame: Frame::new(&member.visitor, Here::Help),
        way: WayIn::new(&website, &member.visitor, member.account().as_str(), host),
        vm_domain: settings.domains.vm_domain().to_owned(),
        fingerprint: website.site.gateway_fingerprint.clone(),
        sleep_after: settings.idle.sleep_after.map(span),
    };
    words::show(StatusCode::OK, &page)
}
