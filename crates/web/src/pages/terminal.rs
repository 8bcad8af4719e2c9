//! `/vms/NAME/terminal`: a shell in the VM. What it shows comes over [`crate::terminal`].

use std::sync::Arc;

use askama::Template;
use axum::{extract::State, http::StatusCode, response::Response};

use crate::{
    Website,
    asked::{Named, Query},
    frame::{Frame, Here},
    own_vm::EnterableVm,
    problem::Problem,
    terminal::number,
    visitor::Member,
    words,
};

#[derive(Template)]
#[template(path = "terminal.html")]
struct Page {
    frame: Frame,
    label: String,
    /// Where the page tells of the VM.
    page: String,
    path: String,
    number: u8,
    /// Others may be let watch.
    own: bool,
    /// What is said where it is recorded.
    recorded: Option<&'static str>,
}

pub(crate) async fn show(
    State(website): State<Arc<Website>>,
    member: Member,
    Named(asked): Named,
    query: Query,
) -> Result<Response, Problem> {
    let vm = EnterableVm::find(&member, &asked).await?;
    let label = vm.label();
    let page = Page {
        // A terminal that nobody types into is no reason to be awake.
        frame: Frame::new(&member.visitor, Here::Elsewhere).still(),
        page: vm.page(),
        path: format!("/vms/{label}/terminal"),
        own: matches!(vm, EnterableVm::Own(_)),
        recorded: website.control.recording_notice(),
        label,
        number: number(&query),
    };
    words::show(StatusCode::OK, &page)
}
