//! What the tests of several crates share: an engine in memory, the suite that every engine passes, an sshd in memory,
//! and a real OpenSSH client in a folder of its own.
//!
//! Owns no product code and is a dev-dependency only. [`FakeEngine`] keeps time with tokio's clock, so tests may pause
//! it; [`OpenSsh`] runs processes, so tests that use it may not.

mod conformance;
mod fake;
mod openssh;
mod sshd;

pub use conformance::{Bench, conformance};
pub use fake::{FakeEngine, Service, Verb};
pub use openssh::{OpenSsh, Output};
pub use sshd::Sshd;
