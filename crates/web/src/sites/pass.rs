//! Who a visitor is: by a cookie that this host of a VM has set for itself, in exchange for a ticket from the website.

use axum::{
    http::{
        HeaderMap, HeaderName, Method, StatusCode, Uri,
        header::{CACHE_CONTROL, LOCATION, ORIGIN, REFERRER_POLICY, SET_COOKIE},
        request::Parts,
        uri::Authority,
    },
    response::{IntoResponse, Response},
};
use berth_control::{Error, SiteVisitor};
use berth_model::Secret;

use super::{Asks, Visit, notice::Notice};
use crate::{Website, cookies::Cookie, origin};

/// Below this, every host of a VM has what is this server's, and nothing of it ever gets to the VM.
pub(crate) const OWN_PATHS: &str = "/.berth/";
/// Where a ticket is brought to.
pub(crate) const DOOR: &str = "/.berth/enter";
/// A longer path is not come back to after a log-in; the site's first page is.
const MAX_BACK: usize = 200;
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

impl Visit<'_> {
    /// Who shows the pass that comes with a request; `None` where there is none that counts.
    pub(super) async fn visitor(&self, parts: &Parts) -> Result<Option<SiteVisitor>, Error> {
        if self.asks == Asks::Otherwise && is_from_elsewhere(&parts.headers) {
            return Ok(None);
        }
        self.holder(&parts.headers).await
    }

    async fn holder(&self, headers: &HeaderMap) -> Result<Option<SiteVisitor>, Error> {
        match Cookie::Pass.read(headers, self.website.secure) {
            Some(pass) => self.website.control.site_visitor(&Secret::new(pass), &self.host.authority).await,
            None => Ok(None),
        }
    }

    /// Takes a browser to the website, which knows who it is, to come back with a ticket.
    pub(super) fn to_the_website(&self, parts: &Parts) -> Response {
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        redirect(&self.address_of_entrance(if path.len() <= MAX_BACK { path } else { "/" }))
    }

    /// Where the website makes a ticket for this host, to come back to `path`.
    pub(super) fn address_of_entrance(&self, path: &str) -> String {
        let to = format!("{}://{}{path}", scheme(self.website), self.host.authority);
        let to: String = form_urlencoded::byte_serialize(to.as_bytes()).collect();
        format!("{}/enter?to={to}", address_of_website(self.website, &self.host.authority))
    }

    /// What is asked of this server on the VM's host.
    pub(super) async fn at_the_door(&self, asked: &Uri, method: &Method, headers: &HeaderMap) -> Response {
        if asked.path() != DOOR || *method != Method::GET {
            return Notice::missing().told(headers);
        }
        let query: Vec<(String, String)> =
            form_urlencoded::parse(asked.query().unwrap_or_default().as_bytes()).into_owned().collect();
        let get =
            |name: &str| query.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.as_str());
        let to = origin::own_path(get("to")).unwrap_or("/");
        let ticket = Secret::new(get("ticket").to_owned());
        match self.website.control.redeem_site_ticket(&ticket, &self.host.authority).await {
            Ok(Some(pass)) => {
                let mut response = redirect(to);
                if let Some(cookie) = Cookie::Pass.set(pass.expose(), self.website.secure) {
                    response.headers_mut().append(SET_COOKIE, cookie);
                }
                response
            }
            // Somebody went back, or loaded the address again.
            Ok(None) if matches!(self.holder(headers).await, Ok(Some(_))) => redirect(to),
            Ok(None) => Notice::spent_ticket(to).told(headers),
            Err(error) => {
                tracing::warn!(%error, "a ticket cannot be looked at");
                Notice::unavailable().told(headers)
            }
        }
    }
}

/// Whether the page of another site made the browser send this: then a pass counts for nothing, since all VMs are one
/// site to a browser and it sends the cookie along. A window that somebody opens is nobody's request but theirs.
fn is_from_elsewhere(headers: &HeaderMap) -> bool {
    let site = headers.get(SEC_FETCH_SITE).map(|site| site.as_bytes());
    let by_site = !matches!(site, None | Some(b"same-origin" | b"none"));
    by_site || (headers.contains_key(ORIGIN) && !origin::is_own(headers))
}

pub(crate) fn scheme(website: &Website) -> &'static str {
    if website.secure { "https" } else { "http" }
}

/// The website, on the port that the visitor came to a VM's host by: a forwarded one is another one than ours.
pub(super) fn address_of_website(website: &Website, here: &str) -> String {
    let address = &website.control.settings().website;
    let host = address.parse::<Uri>().ok().and_then(|uri| uri.host().map(str::to_owned));
    let port = here.parse::<Authority>().ok().and_then(|here| here.port_u16());
    match (host, port) {
        (Some(host), Some(port)) => format!("{}://{host}:{port}", scheme(website)),
        (Some(host), None) => format!("{}://{host}", scheme(website)),
        (None, _) => address.clone(),
    }
}

fn redirect(to: &str) -> Response {
    let headers = [(LOCATION, to), (CACHE_CONTROL, "no-store"), (REFERRER_POLICY, "no-referrer")];
    (StatusCode::SEE_OTHER, headers).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn elsewhere(pairs: &[(&'static str, &'static str)]) -> bool {
        let host = [("host", "vm-0--3000.alice.kd.io")];
        let headers = pairs.iter().chain(&host);
        is_from_elsewhere(
            &headers
                .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
                .collect(),
        )
    }

    #[test]
    fn pages_of_other_vms_are_elsewhere() {
        assert!(!elsewhere(&[]));
        assert!(!elsewhere(&[("sec-fetch-site", "none")]));
        assert!(!elsewhere(&[("sec-fetch-site", "same-origin")]));
        let own = ("origin", "https://vm-0--3000.alice.kd.io");
        assert!(!elsewhere(&[own]));
        assert!(!elsewhere(&[own, ("sec-fetch-site", "same-origin")]));
        assert!(elsewhere(&[("sec-fetch-site", "same-site")]));
        assert!(elsewhere(&[("sec-fetch-site", "cross-site")]));
        assert!(elsewhere(&[own, ("sec-fetch-site", "same-site")]));
        for origin in ["https://vm-0.bob.kd.io", "https://vm-0--3001.alice.kd.io", "null", ""] {
            assert!(elsewhere(&[("origin", origin)]), "{origin}");
        }
    }
}
