//! SSH keys: one's own, and anybody's for operators.

use axum::http::StatusCode;
use berth_model::AccountName;
use serde::Deserialize;
use utoipa::IntoParams;

use super::{
    Refusal,
    accounts::Which,
    call::{self, Call, Nothing},
    gate::Caller,
    reply::{Done, Shown},
    shapes::{Key, KeyLabel, NewKeys, Page, Verdict},
};
use crate::words::plain;

/// The longest name of a key.
const MAX_LABEL: usize = 64;

/// Which key.
#[derive(Deserialize, IntoParams)]
pub(crate) struct WhichKey {
    /// Its fingerprint, `SHA256:…`, with `/` written as `%2F`.
    key: String,
}

/// Which key of whom.
#[derive(Deserialize, IntoParams)]
pub(crate) struct WhoseKey {
    /// The account's name.
    account: String,
    /// The key's fingerprint, `SHA256:…`, with `/` written as `%2F`.
    key: String,
}

pub(crate) async fn list(call: Call) -> Result<Shown<Page<Key>>, Refusal> {
    keys_of(&call.caller, call.caller.account()).await
}

pub(crate) async fn list_of(call: Call<Which>) -> Result<Shown<Page<Key>>, Refusal> {
    keys_of(&call.caller, &call::account(&call.path.account)?).await
}

pub(crate) async fn add(call: Call<Nothing, Nothing, NewKeys>) -> Result<Shown<Page<Verdict>>, Refusal> {
    add_to(&call.caller, call.caller.account(), &call.body).await
}

pub(crate) async fn add_of(call: Call<Which, Nothing, NewKeys>) -> Result<Shown<Page<Verdict>>, Refusal> {
    add_to(&call.caller, &call::account(&call.path.account)?, &call.body).await
}

pub(crate) async fn rename(call: Call<WhichKey, Nothing, KeyLabel>) -> Result<Shown<Key>, Refusal> {
    let which = fingerprint(&call.path.key)?;
    let label = plain(&call.body.label, MAX_LABEL);
    if label.is_empty() {
        return Err(Refusal::invalid("label: A key has to have one."));
    }
    let key = call.caller.acting.rename_key(call.caller.account(), which, &label).await?;
    Ok(Shown(Key::from(key)))
}

pub(crate) async fn remove(call: Call<WhichKey>) -> Result<Done, Refusal> {
    remove_from(&call.caller, call.caller.account(), &call.path.key).await
}

pub(crate) async fn remove_of(call: Call<WhoseKey>) -> Result<Done, Refusal> {
    remove_from(&call.caller, &call::account(&call.path.account)?, &call.path.key).await
}

async fn keys_of(caller: &Caller, account: &AccountName) -> Result<Shown<Page<Key>>, Refusal> {
    let keys = caller.acting.keys(account).await?;
    Ok(Shown(Page::whole(keys.into_iter().map(Key::from).collect())))
}

/// Where not one of them is the account's afterwards, that is an error, so that a script notices.
async fn add_to(
    caller: &Caller,
    account: &AccountName,
    new: &NewKeys,
) -> Result<Shown<Page<Verdict>>, Refusal> {
    let label = new.label.as_deref().map(|label| plain(label, MAX_LABEL)).filter(|label| !label.is_empty());
    let judged = caller.acting.add_keys(account, &new.keys, label.as_deref()).await?;
    let verdicts: Vec<Verdict> = judged.into_iter().map(Verdict::from).collect();
    let refused: Vec<&str> = verdicts.iter().filter_map(Verdict::refused).collect();
    if refused.len() == verdicts.len() {
        return Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, refused.join(" ")));
    }
    Ok(Shown(Page::whole(verdicts)))
}

async fn remove_from(caller: &Caller, account: &AccountName, which: &str) -> Result<Done, Refusal> {
    caller.acting.remove_key(account, fingerprint(which)?).await?;
    Ok(Done)
}

/// It alone names exactly one; anything else may be what somebody called another key.
fn fingerprint(which: &str) -> Result<&str, Refusal> {
    if which.starts_with("SHA256:") { Ok(which) } else { Err(Refusal::missing()) }
}
