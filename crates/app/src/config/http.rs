//! `[http]`: the website.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::{Problem, ssh::listen_problems, tls::HttpTls};

/// The website's settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Http {
    /// The addresses that the website listens on.
    pub(crate) listen: Vec<SocketAddr>,
    /// The website's address as members type it. Empty: `app_domain` and the port of the first address, of https where
    /// there is one.
    pub(crate) url: String,
    /// Whether programs on this machine may read the metrics without a token.
    pub(crate) metrics_on_loopback: bool,
    pub(crate) tls: HttpTls,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 8080))],
            url: String::new(),
            metrics_on_loopback: false,
            tls: HttpTls::default(),
        }
    }
}

impl Http {
    pub(super) fn problems(&self, app_domain: &str) -> Vec<Problem> {
        let mut problems = listen_problems("http.listen", "127.0.0.1:8080", &self.listen);
        if !self.url.is_empty() && !is_url(&self.url) {
            let message = format!(
                "{:?} is not the address of a website. Give one such as \"https://koding.com\".",
                self.url
            );
            problems.push(Problem::new("http.url", message));
        }
        if self.tls.is_on() && self.url.starts_with("http://") {
            let message = "Members come by https (http.tls), so it begins with https://.";
            problems.push(Problem::new("http.url", message));
        }
        problems.extend(self.tls.problems(app_domain, &self.listen));
        problems
    }

    pub(super) fn website(&self, app_domain: &str) -> String {
        if !self.url.is_empty() {
            return self.url.trim_end_matches('/').to_owned();
        }
        if let Some(first) = self.tls.listen.first() {
            return match first.port() {
                443 => format!("https://{app_domain}"),
                port => format!("https://{app_domain}:{port}"),
            };
        }
        match self.listen.first().map_or(80, SocketAddr::port) {
            80 => format!("http://{app_domain}"),
            port => format!("http://{app_domain}:{port}"),
        }
    }
}

/// Whether a text is safe to print to members as the beginning of a link.
fn is_url(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")) else {
        return false;
    };
    !rest.is_empty()
        && rest
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'[' | b']' | b'/' | b'_'))
}
