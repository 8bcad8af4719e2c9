//! Where a database server is, and who we are to it.

use std::{env, fmt, net::IpAddr};

use berth_model::Secret;
use sqlx::postgres::{PgConnectOptions, PgSslMode};

/// A database on a PostgreSQL server. Shown, it is its address without the password.
#[derive(Clone)]
pub struct Server(Box<PgConnectOptions>);

/// Why a text is no address of a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "It is no address of a PostgreSQL database. Write it as postgres://user@host:5432/database?sslmode=verify-full."
)]
pub struct ServerError;

impl Server {
    /// Reads an address: `postgres://user:password@host:port/database`, with the settings of libpq behind a `?`: `host` (a
    /// folder with a socket in it, too), `sslmode`, `sslrootcert`, `sslcert`, `sslkey`. What it does not say comes from the
    /// variables of libpq's environment and from `.pgpass`.
    ///
    /// Where it says no `sslmode`, a server on another machine has to prove who it is: private keys go there.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(address: &Secret<String>) -> Result<Self, ServerError> {
        let address = address.expose();
        if !address.starts_with("postgres://") && !address.starts_with("postgresql://") {
            return Err(ServerError);
        }
        // What is wrong with it may be the password.
        let options: PgConnectOptions = address.parse().map_err(|_| ServerError)?;
        let says =
            address.contains("sslmode=") || address.contains("ssl-mode=") || env::var("PGSSLMODE").is_ok();
        let here = options.get_socket().is_some() || is_here(options.get_host());
        let options = if says || here { options } else { options.ssl_mode(PgSslMode::VerifyFull) };
        Ok(Self(Box::new(options.application_name("berth"))))
    }

    /// The same, with this password.
    #[must_use]
    pub fn with_password(self, password: &Secret<String>) -> Self {
        Self(Box::new(self.0.password(password.expose())))
    }

    pub(super) fn options(&self) -> &PgConnectOptions {
        &self.0
    }
}

/// Whether nobody is on the way there.
fn is_here(host: &str) -> bool {
    host.starts_with('/')
        || host == "localhost"
        || host.trim_matches(['[', ']']).parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (user, database) = (self.0.get_username(), self.0.get_database());
        let database = database.unwrap_or(user);
        match self.0.get_socket() {
            Some(folder) => write!(f, "postgres:///{database}?host={}&user={user}", folder.display()),
            None => write!(f, "postgres://{user}@{}:{}/{database}", self.0.get_host(), self.0.get_port()),
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Server({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(address: &str) -> Result<Server, ServerError> {
        Server::parse(&Secret::new(address.to_owned()))
    }

    #[test]
    fn an_address_is_shown_without_its_password() {
        for (address, shown) in [
            (
                "postgres://berth:hush@db.example.com:6432/inventory",
                "postgres://berth@db.example.com:6432/inventory",
            ),
            ("postgresql://berth:hush@[::1]/berth?sslmode=disable", "postgres://berth@[::1]:5432/berth"),
            (
                "postgres:///berth?host=/run/pg&user=berth&password=hush",
                "postgres:///berth?host=/run/pg&user=berth",
            ),
        ] {
            let server = server(address).unwrap().with_password(&Secret::new("hush".to_owned()));
            assert_eq!(server.to_string(), shown);
            assert!(!format!("{server:?}").contains("hush"));
        }
    }

    #[test]
    fn what_is_no_address_is_refused_without_a_word_of_it() {
        for address in ["", "berth.db", "mysql://berth@db/berth", "postgres://berth:hush@db:port/berth"] {
            let error = server(address).unwrap_err();
            assert!(!error.to_string().contains("hush"), "{address}");
        }
    }

    #[test]
    fn a_server_elsewhere_has_to_prove_who_it_is_unless_its_address_says_otherwise() {
        for (address, proves) in [
            ("postgres://berth@db.example.com/berth", true),
            ("postgres://berth@192.0.2.1/berth", true),
            ("postgres://berth@db.example.com/berth?sslmode=require", false),
            ("postgres://berth@localhost/berth", false),
            ("postgres://berth@127.0.0.1/berth", false),
            ("postgres://berth@[::1]/berth", false),
            ("postgres:///berth?host=/run/pg", false),
        ] {
            let mode = server(address).unwrap().options().get_ssl_mode();
            assert_eq!(matches!(mode, PgSslMode::VerifyFull), proves, "{address}");
        }
    }
}
