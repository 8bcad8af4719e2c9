//! Who does something: decides what they may, and stands in the audit trail.

use std::net::IpAddr;

use berth_model::AccountName;
use berth_store::{AuditKind, NewAudit, Role, Way};

/// Somebody who was let in, and may do something.
#[derive(Debug, Clone)]
pub struct Actor {
    account: Option<AccountName>,
    role: Role,
    way: Way,
    from: Option<IpAddr>,
}

impl Actor {
    /// Somebody on the server itself, who may everything. To be made only where the admin socket is answered.
    #[must_use]
    pub fn host() -> Self {
        Self { account: None, role: Role::Operator, way: Way::Host, from: None }
    }

    /// The owner of an account. Only what proves that makes one: logins.
    pub(crate) fn account(account: AccountName, role: Role, way: Way, from: IpAddr) -> Self {
        Self { account: Some(account), role, way, from: Some(from) }
    }

    /// Whose account acts; `None` for somebody on the server itself.
    #[must_use]
    pub fn name(&self) -> Option<&AccountName> {
        self.account.as_ref()
    }

    /// Whether they may do everything, with everybody's.
    #[must_use]
    pub fn is_operator(&self) -> bool {
        self.role == Role::Operator
    }

    /// What they did to an account, for the audit trail.
    pub(crate) fn event(
        &self,
        kind: AuditKind,
        account: &AccountName,
        subject: String,
        detail: String,
    ) -> NewAudit {
        NewAudit { account: Some(account.clone()), detail, ..self.event_of_nobody(kind, subject) }
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

    /// Whether they may do what an account's owner may.
    #[must_use]
    pub fn may_for(&self, account: &AccountName) -> bool {
        self.is_operator() || self.account.as_ref() == Some(account)
    }
}
