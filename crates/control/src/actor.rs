//! Who does something: decides what they may, and stands in the audit trail.

use std::{collections::BTreeSet, net::IpAddr};

use berth_model::AccountName;
use berth_store::{AuditKind, NewAudit, Role, Scope, Way};

use crate::error::Error;

/// Somebody who was let in, and may do something.
#[derive(Debug, Clone)]
pub struct Actor {
    account: Option<AccountName>,
    role: Role,
    way: Way,
    from: Option<IpAddr>,
    /// What they may beside; `None` for everything.
    scopes: Option<BTreeSet<Scope>>,
}

impl Actor {
    /// Somebody on the server itself, who may everything. To be made only where the admin socket is answered.
    #[must_use]
    pub fn host() -> Self {
        Self { account: None, role: Role::Operator, way: Way::Host, from: None, scopes: None }
    }

    /// The owner of an account. Only what proves that makes one: logins.
    pub(crate) fn account(account: AccountName, role: Role, way: Way, from: IpAddr) -> Self {
        Self { account: Some(account), role, way, from: Some(from), scopes: None }
    }

    /// The same, for these things alone.
    pub(crate) fn limited_to(self, scopes: BTreeSet<Scope>) -> Self {
        Self { scopes: Some(scopes), ..self }
    }

    /// Whose account acts; `None` for somebody on the server itself.
    #[must_use]
    pub fn name(&self) -> Option<&AccountName> {
        self.account.as_ref()
    }

    /// From where they come; `None` for somebody on the server itself.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        self.from
    }

    /// Whether they came by the HTTP API.
    pub(crate) fn came_by_api(&self) -> bool {
        self.way == Way::Api
    }

    /// Whether they may do this, as far as an operator is asked for it.
    pub(crate) fn operates(&self, what: Scope) -> bool {
        self.role == Role::Operator && self.has(what.of_operators())
    }

    fn has(&self, scope: Scope) -> bool {
        self.scopes.as_ref().is_none_or(|scopes| scopes.contains(&scope))
    }

    /// Whether they may do this to an account, and what is its.
    ///
    /// # Errors
    /// [`Error::NotInScope`] for one's own account, `missing` for any other.
    pub(crate) fn may(
        &self,
        what: Scope,
        account: &AccountName,
        missing: impl FnOnce() -> Error,
    ) -> Result<(), Error> {
        let own = self.account.as_ref() == Some(account);
        if self.operates(what) || (own && self.has(what)) {
            Ok(())
        } else if own {
            Err(Error::NotInScope(what))
        } else {
            Err(missing())
        }
    }

    /// What they did to an account, for the audit trail. What is the team's is about no account.
    pub(crate) fn event(
        &self,
        kind: AuditKind,
        account: &AccountName,
        subject: String,
        detail: String,
    ) -> NewAudit {
        let account = Some(account.clone()).filter(|account| !account.is_of_teams());
        NewAudit { account, detail, ..self.event_of_nobody(kind, subject) }
    }

    /// The same for what is about no account.
    pub(crate) fn event_of_nobody(&self, kind: AuditKind, subject: String) -> NewAudit {
        NewAudit {
            kind,
            account: None,
            actor: self.account.clone(),
            way: self.way,
            address: self.from,
            subject,
            detail: String::new(),
        }
    }
}
