//! Whose a request is, by its `Host`: this site's, a VM's, or nobody's.

use std::{net::IpAddr, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{HeaderValue, Method, StatusCode, header::HOST, uri::Authority},
    middleware::Next,
    response::Response,
};
use berth_model::{Domains, VmName};

use crate::{Website, headers, problem::Problem, sites, visitor::Wants};

/// The names that are answered to.
pub(crate) struct Names {
    domains: Domains,
}

/// Whose a host name is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Whose {
    /// This site's.
    Own,
    /// A VM's, or that of none below the VMs' domain.
    Vms(VmHost),
    /// Somebody else's.
    Foreign,
}

/// The host of a site of a VM, as a browser shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct VmHost {
    /// In lower case, with the port where one is said.
    pub(crate) authority: String,
    /// Without the port.
    pub(crate) name: String,
    /// What it stands for; `None` where that is nothing.
    pub(crate) site: Option<(VmName, u16)>,
}

/// Why a request cannot be anybody's.
type Refusal = (StatusCode, &'static str);

impl Names {
    pub(crate) fn new(domains: &Domains) -> Self {
        Self { domains: domains.clone() }
    }

    /// Whose `authority` is, with any port or none: a forwarded port is another one than ours, and it is the name that
    /// tells a stranger's page from this site's. This site has `app_domain` and the names and addresses of the loopback.
    pub(crate) fn whose(&self, authority: &Authority) -> Whose {
        let host = authority.host();
        // A host and perhaps a port. User information in front of them is for nobody honest here, and the library takes
        // what is no port for one: `vm[x.kd.io:8]0`.
        let port = authority.as_str().strip_prefix(host).map(|rest| rest.strip_prefix(':').unwrap_or(rest));
        if !port.is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit())) {
            return Whose::Foreign;
        }
        let address = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        if host.eq_ignore_ascii_case(self.domains.app_domain())
            || host.eq_ignore_ascii_case("localhost")
            || address.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
        {
            Whose::Own
        } else if self.domains.is_of_vms(host) {
            Whose::Vms(VmHost {
                authority: authority.as_str().to_ascii_lowercase(),
                name: host.to_ascii_lowercase(),
                site: self.domains.resolve_site(host),
            })
        } else {
            Whose::Foreign
        }
    }

    /// Whose a request is, if every name in it says the same.
    pub(crate) fn whose_request(&self, request: &Request) -> Result<Whose, Refusal> {
        let mut hosts = request.headers().get_all(HOST).iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else {
            return Err((StatusCode::BAD_REQUEST, "A request needs exactly one Host."));
        };
        let Ok(host) = Authority::try_from(host.as_bytes()) else {
            return Err((StatusCode::BAD_REQUEST, "The Host of this request is not a host name."));
        };
        let asked = request.uri();
        if asked.authority().is_some() && asked.scheme().is_none() && request.method() != Method::CONNECT {
            return Err((StatusCode::BAD_REQUEST, "The address of this request is none (RFC 9112, 3.2)."));
        }
        let whose = self.whose(&host);
        // A request line with a full address overrides the header (RFC 9112, 3.2.2), so both are looked at.
        let agrees = asked.authority().is_none_or(|asked| self.whose(asked) == whose);
        match whose {
            Whose::Own | Whose::Vms(_) if agrees => Ok(whose),
            _ => Err((StatusCode::MISDIRECTED_REQUEST, "There is no site of this name here.")),
        }
    }
}

/// Lets a request through if it is this site's, and takes it to the VM if it is a VM's.
pub(crate) async fn dispatch(
    State(website): State<Arc<Website>>,
    mut request: Request,
    next: Next,
) -> Response {
    named(&mut request);
    match website.names.whose_request(&request) {
        Ok(Whose::Vms(host)) => sites::answer(website, host, request).await,
        Ok(_) => next.run(request).await,
        Err(refusal) => headers::with(refuse(&request, refusal)),
    }
}

/// HTTP/2 has the host in its `:authority` (RFC 9113, 8.3.1); everything here looks at `Host`.
fn named(request: &mut Request) {
    if request.version() == axum::http::Version::HTTP_2
        && !request.headers().contains_key(HOST)
        && let Some(authority) = request.uri().authority()
        && let Ok(host) = HeaderValue::from_str(authority.as_str())
    {
        request.headers_mut().insert(HOST, host);
    }
}

fn refuse(request: &Request, (status, what): Refusal) -> Response {
    let next = "Check the address that you typed, or ask the operator for the right one.";
    Problem::new(status, what, next).alone(Wants::of(request.headers()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whose(host: &str) -> Option<Whose> {
        let domains = Domains::new("koding.com", "kd.io", "koding".parse().unwrap()).unwrap();
        host.parse().ok().map(|authority| Names::new(&domains).whose(&authority))
    }

    #[test]
    fn own_names_with_and_without_a_port() {
        for host in
            ["koding.com", "KODING.com", "koding.com:8080", "localhost", "localhost:1", "127.0.0.1:8080"]
        {
            assert_eq!(whose(host), Some(Whose::Own), "{host}");
        }
        assert_eq!((whose("127.3.2.1"), whose("[::1]:8080")), (Some(Whose::Own), Some(Whose::Own)));
    }

    #[test]
    fn names_of_vms_and_of_none() {
        let vm = |host: &str| match whose(host) {
            Some(Whose::Vms(host)) => host,
            other => panic!("{host}: {other:?}"),
        };
        let host = vm("VM-0--3000.Alice.kd.io:8080");
        assert_eq!(
            (host.authority.as_str(), host.name.as_str()),
            ("vm-0--3000.alice.kd.io:8080", "vm-0--3000.alice.kd.io")
        );
        assert_eq!(host.site, Some(("vm-0.alice.koding".parse().unwrap(), 3000)));
        for host in ["kd.io", "www.kd.io", "vm-0.kd.io", "x.vm-0.alice.koding.kd.io", "vm-0--0.alice.kd.io"] {
            assert_eq!(vm(host).site, None, "{host}");
        }
    }

    #[test]
    fn every_other_name() {
        for host in [
            "evil.example",
            "koding.com.evil.example",
            "evilkoding.com",
            "ssh.koding.com",
            "evilkd.io",
            "vm-0.alice.kd.io.",
            "koding.com.",
            "koding.com@evil.example",
            "evil@koding.com",
            "evil@vm-0.alice.kd.io",
            "vm-0[x.kd.io:8]0",
            "10.0.0.1",
            "[fe80::1]",
        ] {
            assert_eq!(whose(host), Some(Whose::Foreign), "{host}");
        }
        assert_eq!(whose(""), None);
    }
}
