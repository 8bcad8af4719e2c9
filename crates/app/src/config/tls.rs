//! `[http.tls]`: the website by https.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use berth_web::tls::{AcmeSettings, CertificateFiles, TlsSettings};
use serde::{Deserialize, Serialize};

use super::{Problem, ssh::listen_problems};

/// The settings of https. Without an address to listen on there is none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct HttpTls {
    /// The addresses that the website listens on by https.
    pub(crate) listen: Vec<SocketAddr>,
    /// The files of certificates, each with its chain.
    pub(crate) certificates: Vec<PathBuf>,
    /// The files of their keys, in the same order.
    pub(crate) keys: Vec<PathBuf>,
    /// The directory of an authority that gives certificates out by ACME.
    pub(crate) acme: String,
    /// Whom the authority may write to.
    pub(crate) acme_email: String,
    /// The file of the certificate that an authority of one's own is known by.
    pub(crate) acme_root: PathBuf,
    /// Whether names of VMs get certificates when somebody comes for them by https.
    pub(crate) acme_vms: bool,
}

impl HttpTls {
    /// Whether the website is served by https.
    pub(crate) fn is_on(&self) -> bool {
        !self.listen.is_empty()
    }

    pub(super) fn problems(&self, app_domain: &str, plain: &[SocketAddr]) -> Vec<Problem> {
        let problem = |key, message: &str| Some(Problem::new(key, message));
        if !self.is_on() {
            let said = *self != Self::default();
            let message =
                "It is empty, so nothing is served by https. Give an address, for example \"0.0.0.0:443\".";
            return problem("http.tls.listen", message).filter(|_| said).into_iter().collect();
        }
        let mut problems = listen_problems("http.tls.listen", "0.0.0.0:443", &self.listen);
        let both = self.listen.iter().find(|address| address.port() != 0 && plain.contains(address));
        problems.extend(both.map(|address| {
            let message = format!("{address} is in http.listen too. One address is for http or for https.");
            Problem::new("http.tls.listen", message)
        }));
        if self.certificates.is_empty() && self.acme.is_empty() {
            let message =
                "There is no certificate. Give files (certificates and keys), or an authority (acme).";
            problems.extend(problem("http.tls.certificates", message));
        }
        if self.certificates.len() != self.keys.len() {
            let message = "Each certificate has its key: give as many files of keys, in the same order.";
            problems.extend(problem("http.tls.keys", message));
        }
        let whole = |path: &PathBuf| path.is_absolute();
        if !self.certificates.iter().all(whole) {
            problems.extend(problem("http.tls.certificates", "Give whole paths, from /."));
        }
        if !self.keys.iter().all(whole) {
            problems.extend(problem("http.tls.keys", "Give whole paths, from /."));
        }
        problems.extend(self.acme_problems(app_domain, plain));
        problems
    }

    fn acme_problems(&self, app_domain: &str, plain: &[SocketAddr]) -> Vec<Problem> {
        let problem = |key, message: &str| Some(Problem::new(key, message));
        let mut problems = vec![];
        if self.acme.is_empty() {
            if !self.acme_email.is_empty() || self.acme_vms || !self.acme_root.as_os_str().is_empty() {
                problems.extend(problem(
                    "http.tls.acme",
                    "It is missing. Give the address of the authority’s directory.",
                ));
            }
            return problems;
        }
        if !self.acme.starts_with("https://") {
            let message = "Give the address of a directory that begins with https://.";
            problems.extend(problem("http.tls.acme", message));
        }
        let here_only = app_domain == "localhost" || app_domain.ends_with(".localhost");
        if here_only && self.acme_root.as_os_str().is_empty() {
            let message = "No public authority gives a certificate for a name that is this machine’s alone. Set app_domain \
                           to a name on the internet, or leave https off: it is not needed on one machine.";
            problems.extend(problem("http.tls.acme", message));
        }
        if plain.is_empty() {
            let message = "The authority asks by http, on port 80. Give an address to listen on for that.";
            problems.extend(problem("http.listen", message));
        }
        if self.acme_email.contains([' ', ':', ','])
            || (!self.acme_email.is_empty() && !self.acme_email.contains('@'))
        {
            problems.extend(problem("http.tls.acme_email", "That is not an e-mail address."));
        }
        if !self.acme_root.as_os_str().is_empty() && !self.acme_root.is_absolute() {
            problems.extend(problem("http.tls.acme_root", "Give a whole path, from /."));
        }
        problems
    }

    /// The pairs of files.
    pub(crate) fn files(&self) -> Vec<CertificateFiles> {
        let pairs = self.certificates.iter().zip(&self.keys);
        pairs
            .map(|(certificate, key)| CertificateFiles { certificate: certificate.clone(), key: key.clone() })
            .collect()
    }

    /// What the website is told; `folder` is where it keeps what an authority gives.
    pub(crate) fn settings(&self, folder: &Path) -> TlsSettings {
        let acme = (!self.acme.is_empty()).then(|| AcmeSettings {
            directory: self.acme.clone(),
            contact: (!self.acme_email.is_empty()).then(|| format!("mailto:{}", self.acme_email)),
            root: Some(self.acme_root.clone()).filter(|root| !root.as_os_str().is_empty()),
            folder: folder.to_owned(),
            vm_names: self.acme_vms,
        });
        TlsSettings { files: self.files(), acme }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str, app_domain: &str) -> Vec<&'static str> {
        let tls: HttpTls = toml::from_str(text).unwrap();
        let plain = ["0.0.0.0:80".parse().unwrap()];
        tls.problems(app_domain, &plain).into_iter().map(|problem| problem.key).collect()
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let files = "certificates = [\"/c.pem\"]\nkeys = [\"/k.pem\"]\n";
        let on = "listen = [\"0.0.0.0:443\"]\n";
        let acme = "acme = \"https://ca.example/dir\"\n";
        for (text, problems) in [
            (String::new(), &[][..]),
            (format!("{on}{files}"), &[]),
            (format!("{on}{acme}acme_email = \"ops@koding.com\""), &[]),
            (files.to_owned(), &["http.tls.listen"]),
            (on.to_owned(), &["http.tls.certificates"]),
            (format!("listen = [\"0.0.0.0:80\"]\n{files}"), &["http.tls.listen"]),
            (format!("{on}certificates = [\"/c.pem\"]"), &["http.tls.keys"]),
            (
                format!("{on}certificates = [\"c.pem\"]\nkeys = [\"k.pem\"]"),
                &["http.tls.certificates", "http.tls.keys"],
            ),
            (format!("{on}{files}acme_vms = true"), &["http.tls.acme"]),
            (format!("{on}acme = \"http://ca.example\""), &["http.tls.acme"]),
            (format!("{on}{acme}acme_email = \"ops\""), &["http.tls.acme_email"]),
            (format!("{on}{acme}acme_root = \"ca.pem\""), &["http.tls.acme_root"]),
        ] {
            assert_eq!(keys(&text, "koding.com"), problems, "{text}");
        }
        assert_eq!(keys(&format!("{on}{acme}"), "berth.localhost"), ["http.tls.acme"]);
    }
}
