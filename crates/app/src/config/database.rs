//! `[database]`: a database server in place of a file in the state folder.

use std::{fs, path::PathBuf};

use berth_model::Secret;
use berth_store::{Place, Server};
use serde::{Deserialize, Serialize};

use super::Problem;

/// Where the database is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Database {
    /// The address of a PostgreSQL database. Empty: SQLite in the state folder.
    pub(crate) url: String,
    /// The file with the password for it. A file, so that a configuration can be shown to anybody.
    pub(crate) password_file: PathBuf,
}

impl Database {
    pub(super) fn problems(&self) -> Vec<Problem> {
        let mut problems = vec![];
        if self.url.is_empty() {
            if *self != Self::default() {
                problems.push(Problem::new(
                    "database.url",
                    "It is missing, and there is a password for it. Give it.",
                ));
            }
            return problems;
        }
        if has_password(&self.url) {
            let message = "There is a password in it, and a configuration is shown to people. Put it into a file of its own, \
                           database.password_file, and change it.";
            problems.push(Problem::new("database.url", message));
        } else if let Err(error) = Server::parse(&Secret::new(self.url.clone())) {
            problems.push(Problem::new("database.url", error.to_string()));
        }
        if self.password_file.is_relative() && !self.password_file.as_os_str().is_empty() {
            let message = "Give the whole path, from /, of a file with the password in it.";
            problems.push(Problem::new("database.password_file", message));
        }
        problems
    }

    /// Where the database is, if it is not `file`.
    ///
    /// # Errors
    /// A sentence: the password cannot be read.
    pub(crate) fn place(&self, file: PathBuf) -> Result<Place, String> {
        if self.url.is_empty() {
            return Ok(Place::File(file));
        }
        place(&self.url, Some(&self.password_file).filter(|path| !path.as_os_str().is_empty()))
    }
}

/// The place that an address or a path names; the password, if there is one, is in a file.
///
/// # Errors
/// A sentence: it is no address, or the password cannot be read.
pub(crate) fn place(name: &str, password_file: Option<&PathBuf>) -> Result<Place, String> {
    if !name.contains("://") {
        let path = std::path::absolute(name).map_err(|error| format!("{name} is no path: {error}."))?;
        return Ok(Place::File(path));
    }
    let server = Server::parse(&Secret::new(name.to_owned())).map_err(|error| error.to_string())?;
    let Some(path) = password_file else { return Ok(Place::Server(server)) };
    let password = fs::read_to_string(path).map(Secret::new).map_err(|error| {
        format!("The password of the database cannot be read from {}: {error}.", path.display())
    })?;
    let password = Secret::new(password.expose().trim_end_matches(['\r', '\n']).to_owned());
    if password.expose().is_empty() {
        return Err(format!("There is no password in {}.", path.display()));
    }
    Ok(Place::Server(server.with_password(&password)))
}

/// Whether there is a password in an address.
pub(crate) fn has_password(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let (rest, settings) = rest.split_once('?').unwrap_or((rest, ""));
    let authority = rest.split_once('/').map_or(rest, |(authority, _)| authority);
    let user = authority.rsplit_once('@').map_or("", |(user, _)| user);
    user.contains(':') || settings.split('&').any(|setting| setting.starts_with("password="))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(url: &str, password_file: &str) -> Vec<String> {
        let database = Database { url: url.into(), password_file: password_file.into() };
        database
            .problems()
            .into_iter()
            .map(|problem| format!("{}: {}", problem.key, problem.message))
            .collect()
    }

    #[test]
    fn a_password_is_in_a_file_and_nowhere_else() {
        for url in ["postgres://berth:hush@db/berth", "postgres:///berth?user=berth&password=hush"] {
            let problems = problems(url, "");
            assert!(problems[0].contains("Put it into a file"), "{problems:?}");
            assert!(!problems[0].contains("hush"));
        }
        assert_eq!(
            problems("postgres://berth@db:5432/berth?sslmode=require", "/etc/berth/password"),
            [""; 0]
        );
        assert_eq!(problems("", ""), [""; 0]);
        assert_eq!(problems("", "/etc/berth/password").len(), 1);
        assert_eq!(problems("mysql://db/berth", "password").len(), 2);
    }

    #[test]
    fn the_password_is_read_where_the_place_is_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        let database = Database { url: "postgres://berth@db/berth".into(), password_file: file.clone() };
        assert!(database.place(PathBuf::new()).unwrap_err().contains("cannot be read"));
        fs::write(&file, "\n").unwrap();
        assert!(database.place(PathBuf::new()).unwrap_err().contains("no password"));
        fs::write(&file, "hush\n").unwrap();
        assert_eq!(database.place(PathBuf::new()).unwrap().to_string(), "postgres://berth@db:5432/berth");
        let file = Database::default().place("/var/lib/berth/berth.db".into()).unwrap();
        assert_eq!(file.to_string(), "/var/lib/berth/berth.db");
    }
}
