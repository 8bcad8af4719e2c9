//! What the website's log-in has in memory. All of it may be lost: who waits after wrong tries, whose turn it is to
//! have a password hashed, what a passkey was asked, and who is to be told that a session has ended.

use std::sync::OnceLock;

use berth_model::VmId;
use berth_store::SecretHash;

use crate::{
    public_sites::PublicSites, revocation::Revocations, sites::Passes, stage::Stages,
    web_challenges::Challenges, web_oidc::Issuer, web_password::Passwords, web_penalties::Penalties,
};

/// See the module.
pub(crate) struct Web {
    pub(crate) passwords: Passwords,
    pub(crate) penalties: Penalties,
    pub(crate) challenges: Challenges,
    /// The one that the operator chose, if any.
    pub(crate) issuer: OnceLock<Issuer>,
    /// Those who were let in by a cookie, or a token, by its hash.
    pub(crate) sessions: Revocations<SecretHash>,
    /// What visitors of the sites of VMs show.
    pub(crate) passes: Passes,
    /// Those who look at a VM's sites: told when something else is decided about who may.
    pub(crate) sites: Revocations<VmId>,
    /// What of them everybody may see.
    pub(crate) public: PublicSites,
    /// The terminals that are open.
    pub(crate) stages: Stages,
    /// Those who watch one, by the link that they came by.
    pub(crate) watched: Revocations<SecretHash>,
}

impl Web {
    pub(crate) fn new() -> Self {
        Self {
            passwords: Passwords::new(),
            penalties: Penalties::default(),
            challenges: Challenges::new(),
            issuer: OnceLock::new(),
            sessions: Revocations::default(),
            passes: Passes::new(),
            sites: Revocations::default(),
            public: PublicSites::default(),
            stages: Stages::default(),
            watched: Revocations::default(),
        }
    }

    /// Ends what these let in: they are gone from the store.
    pub(crate) fn end(&self, gone: impl IntoIterator<Item = SecretHash>) {
        for hash in gone {
            self.sessions.revoke(&hash);
        }
    }
}
