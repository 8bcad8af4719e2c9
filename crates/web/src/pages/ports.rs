//! The part of a VM's page about its ports: who may see what they serve.

use std::sync::Arc;

use axum::{extract::State, http::StatusCode, response::Response};
use berth_control::{Error, Kind, PortAccess, PortInfo};

use super::vm;
use crate::{
    Website,
    asked::Named,
    fields::Fields,
    own_vm::OwnVm,
    problem::{self, Problem},
    sites::scheme,
    visitor::Member,
    words::{self, go},
};

/// So much of what was typed as a port is shown again.
const MAX_TYPED: usize = 16;

/// What the part shows.
pub(crate) struct Ports {
    pub(crate) rows: Vec<PortView>,
    /// What was typed, and what is wrong with it.
    pub(crate) typed: String,
    pub(crate) wrong: String,
}

/// One port.
pub(crate) struct PortView {
    pub(crate) port: u16,
    pub(crate) access: &'static str,
    pub(crate) who: &'static str,
    pub(crate) usual: bool,
    pub(crate) address: String,
}

impl Ports {
    pub(crate) async fn of(website: &Website, member: &Member, vm: &OwnVm) -> Result<Self, Problem> {
        let ports = member.acting.ports(vm.name()).await?;
        let rows = ports.into_iter().map(|port| PortView::new(website, &port)).collect();
        Ok(Self { rows, typed: String::new(), wrong: String::new() })
    }
}

impl PortView {
    fn new(website: &Website, info: &PortInfo) -> Self {
        Self {
            port: info.port,
            access: info.access.as_str(),
            who: who(info.access),
            usual: info.usual,
            address: address(website, &info.host),
        }
    }
}

fn who(access: PortAccess) -> &'static str {
    match access {
        PortAccess::Public => "everybody",
        PortAccess::Team => "everybody with an account here",
        PortAccess::Owner => "only you",
    }
}

/// As it is typed into a browser: with the port of the website where that is not the usual one.
pub(super) fn address(website: &Website, host: &str) -> String {
    let site = &website.control.settings().website;
    let port = site.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    match port {
        Some(port) => format!("{}://{host}:{port}/", scheme(website)),
        None => format!("{}://{host}/", scheme(website)),
    }
}

/// Decides who may see a port (`access`), or takes that back.
pub(crate) async fn set(
    State(website): State<Arc<Website>>,
    member: Member,
    Named(asked): Named,
    fields: Fields,
) -> Result<Response, Problem> {
    let vm = OwnVm::find(&member, &asked).await?;
    let typed = fields.get("port").trim();
    let access = match fields.get("access") {
        "" => Ok(None),
        word => word.parse::<PortAccess>().map(Some).map_err(|_| "Choose who may see it.".to_owned()),
    };
    let port = typed.parse::<u16>().map_err(|_| "A port is a number: 80, or 1024 to 65535.".to_owned());
    let refused = match (port, access) {
        (Ok(port), Ok(access)) => match member.acting.set_port(vm.name(), port, access).await {
            Ok(()) => return Ok(go(&format!("/vms/{}#ports", vm.name().label()))),
            Err(error @ (Error::NoSite { .. } | Error::TooManyPorts { .. })) => {
                (problem::status(error.kind()), error.to_string())
            }
            Err(error) => return Err(error.into()),
        },
        (Err(wrong), _) | (_, Err(wrong)) => (problem::status(Kind::Invalid), wrong),
    };
    let (code, wrong): (StatusCode, String) = refused;
    let ports =
        Ports { typed: words::plain(typed, MAX_TYPED), wrong, ..Ports::of(&website, &member, &vm).await? };
    vm::show_with_ports(&website, &member, &vm, ports, code).await
}
