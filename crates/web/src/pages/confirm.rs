//! What is dangerous asks once more who it is, when that was proved too long ago.

use berth_control::{WebError, WebLogin};
use berth_model::Secret;

use crate::{Website, fields::Fields, problem::Problem, visitor::Member, way_in};

/// What a page has to ask for.
pub(crate) struct Confirm {
    /// The account has a password to confirm with.
    pub(crate) has_password: bool,
    /// It was proved in the last half an hour.
    pub(crate) fresh: bool,
    /// How to get a link to log in with, for who has no password.
    pub(crate) ssh_log_in: String,
}

impl Confirm {
    pub(crate) async fn of(website: &Website, member: &Member) -> Result<Self, Problem> {
        Ok(Self {
            has_password: website.control.identities(&member.login).await?.password_set.is_some(),
            fresh: member.login.is_fresh(),
            ssh_log_in: way_in::log_in_command(website, Some(member.account())),
        })
    }

    /// Only a new log-in helps.
    pub(crate) fn by_link(&self) -> bool {
        !self.fresh && !self.has_password
    }

    /// The page has a field for the password.
    pub(crate) fn by_password(&self) -> bool {
        !self.fresh && self.has_password
    }
}

/// The login after its holder has typed the password of now.
///
/// # Errors
/// It is another password; somebody tries too often; it cannot be found out now.
pub(crate) async fn proved(
    website: &Website,
    member: &Member,
    fields: &Fields,
) -> Result<WebLogin, WebError> {
    let old = Secret::new(fields.get("old").to_owned());
    website.control.prove(&member.login, &old, member.visitor.client()).await
}
