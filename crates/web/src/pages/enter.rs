//! `/enter`: takes a member to a site of a VM that not everybody may see, with a ticket by which the VM's host knows them.

use std::sync::Arc;

use askama::Template;
use axum::{
    extract::State,
    http::{
        HeaderMap, HeaderValue, StatusCode, Uri,
        header::{HOST, REFRESH},
        uri::Authority,
    },
    response::Response,
};
use berth_control::SiteRefusal;

use crate::{
    Website,
    asked::Query,
    frame::{Frame, Here},
    host::{VmHost, Whose},
    problem::Problem,
    sites::{DOOR, scheme},
    visitor::Member,
    words,
};

#[derive(Template)]
#[template(path = "enter.html")]
struct Page {
    frame: Frame,
    host: String,
    to: String,
}

/// A page and not a redirect: whoever has just logged in comes here by a form, and browsers do not let a form's answer
/// lead to another site (`form-action`).
pub(crate) async fn show(
    State(website): State<Arc<Website>>,
    member: Member,
    query: Query,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let asked = query.get("to").and_then(|to| Place::of(&website, &headers, to));
    let Place { host, path } = asked.ok_or_else(no_site)?;
    let (vm, port) = host.site.as_ref().ok_or_else(no_site)?;
    let visitor = website.control.as_visitor(&member.login);
    match website.control.enter_site(Some(&visitor), vm, *port).await {
        Ok(_) => {}
        Err(SiteRefusal::LogIn | SiteRefusal::Missing) => return Err(no_site()),
        Err(refusal @ SiteRefusal::Unavailable) => {
            let next = "Nothing was done.";
            return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, refusal.to_string(), next));
        }
    }
    let ticket = website.control.site_ticket(&member.login, &host.authority);
    let query = form_urlencoded::Serializer::new(String::new())
        .append_pair("ticket", ticket.expose())
        .append_pair("to", &path)
        .finish();
    let to = format!("{}://{}{DOOR}?{query}", scheme(&website), host.authority);
    let refresh = HeaderValue::try_from(format!("0;url={to}")).map_err(|_| no_site())?;
    let frame = Frame { live: None, ..Frame::new(&member.visitor, Here::Elsewhere) };
    let mut page = words::show(StatusCode::OK, &Page { frame, host: host.authority, to })?;
    page.headers_mut().insert(REFRESH, refresh);
    Ok(page)
}

/// Unknown and forbidden are one.
fn no_site() -> Problem {
    let what = "There is no site of this name here.";
    Problem::new(StatusCode::NOT_FOUND, what, "Check the address that you typed.")
}

/// A page of a VM's site.
struct Place {
    host: VmHost,
    path: String,
}

impl Place {
    /// From a whole address, which anybody may have written: one of a VM of this server, by the scheme and on the port
    /// that this site itself is asked on.
    fn of(website: &Website, headers: &HeaderMap, to: &str) -> Option<Self> {
        let here = Authority::try_from(headers.get(HOST)?.as_bytes()).ok()?;
        let parts = to.parse::<Uri>().ok()?.into_parts();
        let authority = parts.authority?;
        let ours = parts.scheme?.as_str() == scheme(website) && authority.port_u16() == here.port_u16();
        let Whose::Vms(host) = website.names.whose(&authority) else { return None };
        let path = parts.path_and_query.map_or_else(|| "/".to_owned(), |path| path.as_str().to_owned());
        ours.then_some(Self { host, path })
    }
}
