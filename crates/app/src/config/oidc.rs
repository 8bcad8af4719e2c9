//! `[oidc]`: an issuer that members can log in with.

use std::{fs, path::PathBuf};

use berth_control::OidcSettings;
use berth_model::Secret;
use serde::{Deserialize, Serialize};

use super::Problem;

/// The settings of the issuer. Without an `issuer` there is none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Oidc {
    /// What people call it.
    pub(crate) name: String,
    /// Its address, as it says itself.
    pub(crate) issuer: String,
    /// What it knows this installation by.
    pub(crate) client_id: String,
    /// The file with the secret that it gave out for that. A file, so that a configuration can be shown to anybody.
    pub(crate) client_secret_file: PathBuf,
}

impl Oidc {
    pub(super) fn problems(&self) -> Vec<Problem> {
        let mut problems = vec![];
        if self.issuer.is_empty() {
            if *self != Self::default() {
                problems.push(Problem::new(
                    "oidc.issuer",
                    "It is missing, so nobody could log in with it. Give its address.",
                ));
            }
            return problems;
        }
        if !self.issuer.starts_with("https://") {
            problems.push(Problem::new("oidc.issuer", "Give an address that begins with https://."));
        }
        if self.client_id.is_empty() {
            problems.push(Problem::new("oidc.client_id", "It is missing. The issuer gives one out."));
        }
        if !self.client_secret_file.is_absolute() {
            let message = "Give the whole path, from /, of a file with the secret in it.";
            problems.push(Problem::new("oidc.client_secret_file", message));
        }
        problems
    }

    /// What control is told; nothing where there is no issuer.
    ///
    /// # Errors
    /// A sentence: the secret cannot be read.
    pub(crate) fn settings(&self) -> Result<Option<OidcSettings>, String> {
        if self.issuer.is_empty() {
            return Ok(None);
        }
        let path = &self.client_secret_file;
        let secret = fs::read_to_string(path).map(Secret::new).map_err(|error| {
            format!("oidc.client_secret_file: {} cannot be read: {error}.", path.display())
        })?;
        let secret = Secret::new(secret.expose().trim().to_owned());
        if secret.expose().is_empty() {
            return Err(format!("oidc.client_secret_file: There is nothing in {}.", path.display()));
        }
        let name = if self.name.is_empty() { host(&self.issuer) } else { &self.name };
        Ok(Some(OidcSettings {
            name: name.to_owned(),
            issuer: self.issuer.clone(),
            client_id: self.client_id.clone(),
            client_secret: secret,
        }))
    }
}

fn host(address: &str) -> &str {
    let rest = address.trim_start_matches("https://");
    rest.split(['/', ':']).next().unwrap_or(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn oidc(secret: &std::path::Path) -> Oidc {
        Oidc {
            issuer: "https://id.koding.com/team".into(),
            client_id: "berth".into(),
            client_secret_file: secret.to_owned(),
            ..Oidc::default()
        }
    }

    #[test]
    fn the_secret_comes_from_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        assert!(oidc(&path).settings().unwrap_err().contains("cannot be read"));
        fs::write(&path, "\n").unwrap();
        assert!(oidc(&path).settings().unwrap_err().contains("There is nothing in"));
        fs::write(&path, "hush\n").unwrap();
        let settings = oidc(&path).settings().unwrap().unwrap();
        assert_eq!(
            (settings.name.as_str(), settings.client_secret.expose().as_str()),
            ("id.koding.com", "hush")
        );
        assert!(Oidc::default().settings().unwrap().is_none());
    }

    #[test]
    fn what_is_missing_is_named() {
        let keys = |oidc: &Oidc| oidc.problems().iter().map(|problem| problem.key).collect::<Vec<_>>();
        assert_eq!(keys(&Oidc::default()), [""; 0]);
        assert_eq!(keys(&oidc("/run/secret".as_ref())), [""; 0]);
        assert_eq!(keys(&Oidc { name: "x".into(), ..Oidc::default() }), ["oidc.issuer"]);
        let wrong = Oidc { issuer: "http://x".into(), ..Oidc::default() };
        assert_eq!(keys(&wrong), ["oidc.issuer", "oidc.client_id", "oidc.client_secret_file"]);
    }
}
