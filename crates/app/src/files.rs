//! How many files this process may have open, connections among them.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit so that so many files may be open in this process and in those that it starts, or as many as root may have
/// here; gives how many may be.
pub(crate) fn allow(files: u64) -> u64 {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let more = Rlimit { current: Some(files), maximum: Some(files) };
    if maximum.is_none_or(|most| most >= files) || setrlimit(Resource::Nofile, more).is_err() {
        allow_many();
    }
    getrlimit(Resource::Nofile).current.map_or(files, |current| current.min(files))
}

/// Raises the limit as far as the system lets it. The usual one of 1024 is for programs that select(2): a connection through
/// the gateway takes two.
pub(crate) fn allow_many() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::warn!(?current, %error, "the limit of open files stays as it is");
    }
}
