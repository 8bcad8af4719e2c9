//! What the tests of several crates share: an engine in memory, the suite that every engine passes, an sshd in memory,
//! a real OpenSSH client and a real PostgreSQL server, each in a folder of its own.
//!
//! Owns no product code and is a dev-dependency only. [`FakeEngine`] keeps time with tokio's clock, so tests may pause
//! it; [`OpenSsh`] runs processes, so tests that use it may not. [`Postgres`] ends with its process.

mod conformance;
mod fake;
mod openssh;
mod postgres;
mod sshd;

pub use conformance::{Bench, conformance};
pub use fake::{FakeEngine, Service, Verb};
pub use openssh::{OpenSsh, Output};
pub use postgres::Postgres;
pub use sshd::Sshd;
