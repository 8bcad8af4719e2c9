//! Invitations, for operators.

use berth_control::Invitation as Invited;
use serde::Deserialize;
use utoipa::IntoParams;

use super::{
    Refusal,
    call::{Call, Nothing},
    reply::{Done, Made, Shown},
    shapes::{Invitation, InvitationMade, NewInvitation, Page, Paging, page},
};
use crate::words::plain;

/// The longest note.
const MAX_NOTE: usize = 100;

/// Which invitation.
#[derive(Deserialize, IntoParams)]
pub(crate) struct Which {
    /// Its `id`.
    invitation: String,
}

pub(crate) async fn list(call: Call<Nothing, Paging>) -> Result<Shown<Page<Invitation>>, Refusal> {
    let invitations = call.caller.acting.invitations().await?;
    Ok(Shown(page(invitations, &call.query, |invitation| invitation.id)?))
}

pub(crate) async fn add(
    call: Call<Nothing, Nothing, NewInvitation>,
) -> Result<Made<InvitationMade>, Refusal> {
    let NewInvitation { name, role, note } = call.body;
    let name = name.map(|name| name.parse()).transpose();
    let name = name.map_err(|error| Refusal::invalid(format!("name: {error}")))?;
    let invited = Invited { name, role: role.into(), note: plain(&note, MAX_NOTE) };
    let (invitation, url) = call.caller.acting.invite(invited).await?;
    Ok(Made(InvitationMade { invitation: invitation.into(), url: url.expose().clone() }))
}

pub(crate) async fn remove(call: Call<Which>) -> Result<Done, Refusal> {
    let id = call.path.invitation.parse().map_err(|_| Refusal::missing())?;
    call.caller.acting.remove_invitation(id).await?;
    Ok(Done)
}
