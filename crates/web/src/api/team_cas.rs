//! CAs whose certificates let members in, for operators.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{
    Refusal,
    call::{Call, Nothing},
    reply::{Done, Shown},
    shapes::{NewKrl, NewTeamCa, TeamCas},
};

/// Which CA.
#[derive(Deserialize, IntoParams)]
pub(crate) struct Which {
    /// Its fingerprint, `SHA256:…`, with `/` written as `%2F`.
    ca: String,
}

pub(crate) async fn list(call: Call) -> Result<Shown<TeamCas>, Refusal> {
    Ok(Shown(call.caller.acting.team_cas()?.into()))
}

pub(crate) async fn add(call: Call<Nothing, Nothing, NewTeamCa>) -> Result<Shown<TeamCas>, Refusal> {
    let NewTeamCa { key, label } = call.body;
    Ok(Shown(call.caller.acting.add_team_ca(&key, label.as_deref()).await?.into()))
}

pub(crate) async fn remove(call: Call<Which>) -> Result<Done, Refusal> {
    call.caller.acting.remove_team_ca(&call.path.ca).await?;
    Ok(Done)
}

pub(crate) async fn revoke(call: Call<Nothing, Nothing, NewKrl>) -> Result<Shown<TeamCas>, Refusal> {
    let krl = STANDARD.decode(call.body.krl).map_err(|_| Refusal::invalid("krl: That is not base64."))?;
    Ok(Shown(call.caller.acting.load_team_krl(&krl).await?.into()))
}
