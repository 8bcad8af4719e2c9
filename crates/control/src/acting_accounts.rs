//! What operators do with accounts, and the links that let people in.

use std::time::Duration;

use berth_model::{AccountName, Secret};
use berth_store::{
    AuditKind, AuditQuery, Invitation, LinkId, LinkPurpose, LinkRow, NewLink, OwnLimits, Role, Scope,
    SecretHash,
};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::{
    AccountInfo, acting::Acting, audit::AuditInfo, error::Error, keys::push_to, web_error::WebError,
    web_session::new_secret,
};

/// How long a link to log in works.
const LOG_IN: Duration = Duration::from_secs(10 * 60);
/// How long a link to set a new password works.
const RESET: Duration = Duration::from_secs(24 * 3600);
/// How long an invitation works.
const INVITATION: Duration = Duration::from_secs(7 * 24 * 3600);

/// What a link to an account is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkFor {
    /// To log in, within ten minutes.
    LogIn,
    /// To set a new password, within a day. All sessions of the account end by that.
    Reset,
}

/// An invitation that nobody has used yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvitationInfo {
    /// What names it. Says nothing of its link.
    pub id: LinkId,
    /// What it is for.
    pub invitation: Invitation,
    /// Who made it; `None` for somebody on the server itself.
    pub made_by: Option<AccountName>,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub made: OffsetDateTime,
    /// When it ends.
    #[serde(with = "time::serde::rfc3339")]
    pub expires: OffsetDateTime,
}

impl Acting {
    /// As [`crate::Control::accounts`]; for operators.
    ///
    /// # Errors
    /// As there; [`WebError::Missing`] for members.
    pub async fn accounts(&self) -> Result<Vec<AccountInfo>, WebError> {
        self.must_be_operator(Scope::OpsRead)?;
        Ok(self.control.accounts().await?)
    }

    /// As [`crate::Control::add_account`]; for operators.
    ///
    /// # Errors
    /// As there; [`WebError::Missing`] for members.
    pub async fn add_account(&self, name: &AccountName) -> Result<(), WebError> {
        self.must_be_operator(Scope::OpsWrite)?;
        let name = name.clone();
        self.to_the_end(|acting| async move {
            acting.control.add_account(&name).await?;
            acting.note(AuditKind::AccountAdded, &name, String::new(), String::new()).await;
            Ok(())
        })
        .await
    }

    /// As [`crate::Control::remove_account`]; for operators, and not for their own.
    ///
    /// # Errors
    /// As there; [`WebError::Missing`] for members, [`WebError::Yourself`].
    pub async fn remove_account(&self, name: &AccountName) -> Result<(), WebError> {
        self.must_be_another(name)?;
        let name = name.clone();
        self.to_the_end(|acting| async move { acting.try_remove_account(&name).await }).await
    }

    async fn try_remove_account(&self, name: &AccountName) -> Result<(), WebError> {
        let removed = self.control.remove_account(name).await;
        let gone = !self.control.store.account_exists(name).await.unwrap_or(true);
        // It is also gone where one of its VMs could not be removed yet.
        if gone && !matches!(removed, Err(Error::NoSuchAccount(_))) {
            self.note(AuditKind::AccountRemoved, name, String::new(), String::new()).await;
        }
        Ok(removed?)
    }

    /// As [`crate::Control::set_limits`]; for operators.
    ///
    /// # Errors
    /// As there; [`WebError::Missing`] for members.
    pub async fn set_limits(&self, name: &AccountName, limits: OwnLimits) -> Result<(), WebError> {
        self.must_be_operator(Scope::OpsWrite)?;
        let name = name.clone();
        self.to_the_end(|acting| async move {
            acting.control.set_limits(&name, limits).await?;
            let detail = serde_json::to_string(&limits).unwrap_or_default();
            acting.note(AuditKind::LimitsSet, &name, String::new(), detail).await;
            Ok(())
        })
        .await
    }

    /// Gives an account a role, which ends its sessions where it had another one, and its connections into the VMs of the
    /// team; for operators, and not for their own.
    ///
    /// # Errors
    /// There is no such account; [`WebError::Missing`] for members, [`WebError::Yourself`]; the store fails.
    pub async fn set_role(&self, name: &AccountName, role: Role) -> Result<(), WebError> {
        self.must_be_another(name)?;
        let name = name.clone();
        self.to_the_end(|acting| async move { acting.try_set_role(&name, role).await }).await
    }

    async fn try_set_role(&self, name: &AccountName, role: Role) -> Result<(), WebError> {
        let ended = self.control.store.set_role(name, role).await?;
        self.control.web.end(ended);
        // Who was root in the VMs of the team comes again as what they are now.
        self.control.shared.revoke_where(|(vm, member)| vm.is_of_team() && member == name);
        self.control.members_changed().await;
        self.note(AuditKind::RoleSet, name, String::new(), role.as_str().to_owned()).await;
        Ok(())
    }

    /// Blocks an account: its connections, sessions and links end at once, its VMs are put to sleep, and nobody gets in
    /// with anything of it, in the words for what does not exist. For operators, and not for their own.
    ///
    /// Its VMs fall asleep after this has returned.
    ///
    /// # Errors
    /// There is no such account; [`WebError::Missing`] for members, [`WebError::Yourself`]; the store fails.
    pub async fn block_account(&self, name: &AccountName) -> Result<(), WebError> {
        self.must_be_another(name)?;
        let name = name.clone();
        self.to_the_end(|acting| async move { acting.try_block(&name).await }).await
    }

    async fn try_block(&self, name: &AccountName) -> Result<(), WebError> {
        let control = &self.control;
        let visited = control.handles_with_keys_of(name).await;
        let out = control.store.block_account(name, control.settings.clock.now()).await?;
        for key in &out.keys {
            control.revocations.revoke(key);
        }
        control.certificates.revoke_where(|certificate| certificate.account == *name);
        control.web.end(out.cookies_and_tokens);
        control.end_visits(name);
        self.note(AuditKind::AccountBlocked, name, String::new(), String::new()).await;
        control.end_sharing_of(name);
        push_to(&visited).await;
        control.put_to_rest(name).await;
        Ok(())
    }

    /// Lets the owner of an account in again; for operators. Its VMs wake when they are asked for, and always-on ones at
    /// once.
    ///
    /// # Errors
    /// There is no such account; [`WebError::Missing`] for members; the store fails.
    pub async fn unblock_account(&self, name: &AccountName) -> Result<(), WebError> {
        self.must_be_operator(Scope::OpsWrite)?;
        let name = name.clone();
        self.to_the_end(|acting| async move { acting.try_unblock(&name).await }).await
    }

    async fn try_unblock(&self, name: &AccountName) -> Result<(), WebError> {
        if self.control.store.unblock_account(name).await? {
            self.control.policies_changed(name).await?;
            push_to(&self.control.handles_with_keys_of(name).await).await;
            self.note(AuditKind::AccountUnblocked, name, String::new(), String::new()).await;
        }
        Ok(())
    }

    /// Makes a link for the owner of an account, and gives its whole address. A link to log in anybody can have to
    /// their own account; all others are made by operators.
    ///
    /// # Errors
    /// There is no such account, or it is blocked; [`WebError::Missing`] for what is not the actor's; the store fails.
    pub async fn make_link(&self, account: &AccountName, what: LinkFor) -> Result<Secret<String>, WebError> {
        let (purpose, life) = match what {
            LinkFor::LogIn => (LinkPurpose::LogIn(account.clone()), LOG_IN),
            LinkFor::Reset => (LinkPurpose::Reset(account.clone()), RESET),
        };
        match what {
            // What a token is not for it must not get by logging in.
            LinkFor::LogIn if !self.actor.came_by_api() => self.must_be_for(Scope::OpsWrite, account)?,
            LinkFor::LogIn | LinkFor::Reset => self.must_be_operator(Scope::OpsWrite)?,
        }
        if self.actor.came_by_api() && self.actor.name() == Some(account) {
            return Err(WebError::Yourself);
        }
        let detail = match what {
            LinkFor::LogIn => "to log in",
            LinkFor::Reset => "to set a new password",
        };
        let account = account.clone();
        self.to_the_end(|acting| async move {
            let (_, address) = acting.add_link(purpose, life).await?;
            acting.note(AuditKind::LinkMade, &account, String::new(), detail.to_owned()).await;
            Ok(address)
        })
        .await
    }

    /// Makes an invitation, and gives its link's whole address; for operators.
    ///
    /// # Errors
    /// The name is taken; [`WebError::Missing`] for members, [`WebError::TooManyInvitations`]; the store fails.
    pub async fn invite(&self, invitation: Invitation) -> Result<(InvitationInfo, Secret<String>), WebError> {
        self.must_be_operator(Scope::OpsWrite)?;
        if let Some(name) = &invitation.name
            && self.control.store.name_is_taken(name).await?
        {
            return Err(Error::NameTaken(name.to_string()).into());
        }
        self.to_the_end(|acting| async move {
            let (row, address) = acting.add_link(LinkPurpose::Invitation(invitation), INVITATION).await?;
            let info = info(row).ok_or(WebError::LinkGone)?;
            acting.note_invitation(AuditKind::Invited, &info).await;
            Ok((info, address))
        })
        .await
    }

    /// The invitations that nobody has used yet, the newest first; for operators.
    ///
    /// # Errors
    /// [`WebError::Missing`] for members; the store fails.
    pub async fn invitations(&self) -> Result<Vec<InvitationInfo>, WebError> {
        self.must_be_operator(Scope::OpsRead)?;
        let rows = self.control.store.invitations(self.control.settings.clock.now()).await?;
        Ok(rows.into_iter().filter_map(info).collect())
    }

    /// Takes an invitation back; for operators.
    ///
    /// # Errors
    /// [`WebError::Missing`] for members, and where there is no such invitation any more; the store fails.
    pub async fn remove_invitation(&self, id: LinkId) -> Result<(), WebError> {
        self.must_be_operator(Scope::OpsWrite)?;
        self.to_the_end(|acting| async move {
            let row = acting.control.store.remove_invitation(id).await?;
            let info = row.and_then(info).ok_or(WebError::Missing)?;
            acting.note_invitation(AuditKind::InvitationRemoved, &info).await;
            Ok(())
        })
        .await
    }

    /// A page of the audit trail, the latest first; for operators.
    ///
    /// # Errors
    /// [`WebError::Missing`] for members; the store fails.
    pub async fn audit(&self, query: &AuditQuery) -> Result<Vec<AuditInfo>, WebError> {
        self.must_be_operator(Scope::OpsRead)?;
        self.control.tools.ledger.written().await;
        Ok(self.control.store.audit(query).await?.into_iter().map(AuditInfo::from).collect())
    }

    async fn add_link(
        &self,
        purpose: LinkPurpose,
        life: Duration,
    ) -> Result<(LinkRow, Secret<String>), WebError> {
        let (token, now) = (new_secret(), self.control.settings.clock.now());
        let new = NewLink {
            token: SecretHash::of(&token),
            purpose,
            made_by: self.actor.name().cloned(),
            expires_at: now + life,
        };
        let row = self.control.store.add_link(&new, now).await?;
        let address = format!("{}/link/{}", self.control.settings.website, token.expose());
        Ok((row, Secret::new(address)))
    }

    async fn note_invitation(&self, kind: AuditKind, info: &InvitationInfo) {
        let Invitation { name, role, note } = &info.invitation;
        let subject = name.as_ref().map(ToString::to_string).unwrap_or_default();
        let mut event = self.actor.event_of_nobody(kind, subject);
        event.detail = [role.as_str(), note.as_str()].join(if note.is_empty() { "" } else { ": " });
        self.control.note_event(event).await;
    }

    fn must_be_another(&self, account: &AccountName) -> Result<(), WebError> {
        self.must_be_operator(Scope::OpsWrite)?;
        if self.actor.name() == Some(account) { Err(WebError::Yourself) } else { Ok(()) }
    }
}

fn info(row: LinkRow) -> Option<InvitationInfo> {
    let LinkPurpose::Invitation(invitation) = row.purpose else { return None };
    Some(InvitationInfo {
        id: row.id,
        invitation,
        made_by: row.made_by,
        made: row.made_at,
        expires: row.expires_at,
    })
}
