//! Which `Host` this site answers to.

use std::{net::IpAddr, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{StatusCode, header::HOST, uri::Authority},
    middleware::Next,
    response::Response,
};
use berth_model::Domains;

use crate::{problem::Problem, visitor::Wants};

/// The names of this site.
pub(crate) struct Names {
    app_domain: String,
}

impl Names {
    pub(crate) fn new(domains: &Domains) -> Self {
        Self { app_domain: domains.app_domain().to_owned() }
    }

    /// Whether `authority` is `app_domain` or a name or address of the loopback, with any port or none: a forwarded
    /// port is another one than ours, and it is the name that tells a stranger's page from this site's.
    fn include(&self, authority: &Authority) -> bool {
        // User information in front of the host is for nobody honest here.
        if authority.as_str().contains('@') {
            return false;
        }
        let host = authority.host();
        let address = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        host.eq_ignore_ascii_case(&self.app_domain)
            || host.eq_ignore_ascii_case("localhost")
            || address.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
}

/// Lets a request through if every name in it is this site's.
pub(crate) async fn check(State(names): State<Arc<Names>>, request: Request, next: Next) -> Response {
    let mut hosts = request.headers().get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return refuse(&request, StatusCode::BAD_REQUEST, "A request needs exactly one Host.");
    };
    let Ok(host) = Authority::try_from(host.as_bytes()) else {
        return refuse(&request, StatusCode::BAD_REQUEST, "The Host of this request is not a host name.");
    };
    // A request line with a full address overrides the header (RFC 9112, 3.2.2), so both are looked at.
    if names.include(&host) && request.uri().authority().is_none_or(|asked| names.include(asked)) {
        return next.run(request).await;
    }
    refuse(&request, StatusCode::MISDIRECTED_REQUEST, "There is no site of this name here.")
}

fn refuse(request: &Request, status: StatusCode, what: &'static str) -> Response {
    let next = "Check the address that you typed, or ask the operator for the right one.";
    Problem::new(status, what, next).alone(Wants::of(request.headers()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn included(host: &str) -> bool {
        let domains = Domains::new("koding.com", "kd.io", "koding".parse().unwrap()).unwrap();
        host.parse().is_ok_and(|authority| Names::new(&domains).include(&authority))
    }

    #[test]
    fn own_names_with_and_without_a_port() {
        for host in
            ["koding.com", "KODING.com", "koding.com:8080", "localhost", "localhost:1", "127.0.0.1:8080"]
        {
            assert!(included(host), "{host}");
        }
        assert!(included("127.3.2.1") && included("[::1]") && included("[::1]:8080"));
    }

    #[test]
    fn every_other_name() {
        for host in [
            "evil.example",
            "koding.com.evil.example",
            "evilkoding.com",
            "ssh.koding.com",
            "kd.io",
            "vm-0.alice.koding.kd.io",
            "koding.com.",
            "koding.com@evil.example",
            "evil@koding.com",
            "10.0.0.1",
            "[fe80::1]",
            "",
        ] {
            assert!(!included(host), "{host}");
        }
    }
}
