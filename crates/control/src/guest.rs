//! What a guest is told: its names, its account's keys, who else is let in, its host key and the certificate of that.

use berth_engine::{EngineError, Guest, GuestUser};
use berth_model::{AccountName, Secret, VmId, VmName};
use berth_store::{MAX_SHARES, MemberRow, StoreError};
use ssh_key::PrivateKey;
use time::OffsetDateTime;
use tracing::{error, warn};

use crate::{supervisor::Tools, team_vms::has_sudo};

/// Bytes of keys of one guest that are brought into a VM: with as many guests as there can be it is still a script that a
/// guest agent takes.
const MOST_OF_GUEST: usize = 16 << 10;
/// Bytes of keys of all members that are brought into a VM of the team, with the same reason.
const MOST_OF_GUESTS: usize = MAX_SHARES * MOST_OF_GUEST;

/// All that is put into a guest when it boots.
pub(crate) async fn guest_of(tools: &Tools, id: VmId, name: &VmName) -> Result<Guest, EngineError> {
    let vm = tools.store.vm(name).await.map_err(broken)?;
    let vm = vm.filter(|vm| vm.id == id).ok_or(EngineError::Missing)?;
    let names = tools.settings.domains.names_of(name);
    Ok(Guest {
        hostname: name.label(),
        user: name.owner.clone(),
        authorized_keys: authorized_keys(tools, id, &name.owner).await?,
        host_certificate: certificate(tools, name, &names, &vm.host_key),
        others: if name.is_of_team() { members(tools, id).await? } else { guests_of(tools, id).await? },
        host_key: vm.host_key,
        names,
    })
}

/// The certificate by which clients know the guest; empty where it cannot be signed: they know it by its key then.
fn certificate(tools: &Tools, name: &VmName, names: &[String], host_key: &Secret<String>) -> String {
    let key = PrivateKey::from_openssh(host_key.expose()).ok();
    let line = key.and_then(|key| tools.host_cas.certify(key.public_key(), &name.to_string(), names));
    line.map(|line| line + "\n").unwrap_or_default()
}

/// The account's keys as the sshd of one of its guests reads them, and the authority whose certificates count there.
///
/// `from=` is left out: inside, every connection comes from the gateway, which has checked the address where it is
/// known. `expiry-time=` stays, so that a key also ends where a guest has lost touch with Berth.
async fn authorized_keys(tools: &Tools, vm: VmId, account: &AccountName) -> Result<String, EngineError> {
    let mut text =
        format!("# Written by Berth from {}/account/keys; changes here are lost.\n", tools.settings.website);
    for line in key_lines(tools, account, None).await? {
        text.push_str(&line);
    }
    if account.is_of_teams() {
        // Nobody comes as that.
        return Ok(text);
    }
    text.push_str(&tools.user_ca.trust_line(vm, account, None));
    text.push_str(&tools.team_cas.trust_lines(account, None));
    Ok(text)
}

/// Who is let in beside the owner. Their keys end when what is shared with them does, in the guest too.
async fn guests_of(tools: &Tools, vm: VmId) -> Result<Vec<GuestUser>, EngineError> {
    let mut guests = vec![];
    for share in tools.store.guests_of(vm, tools.settings.clock.now()).await.map_err(broken)? {
        guests.push(guest(tools, vm, share.account, share.uid, share.sudo, share.ends_at).await?);
    }
    Ok(guests)
}

/// Who is let into a VM of the team: its members, as many as their keys have room for.
async fn members(tools: &Tools, vm: VmId) -> Result<Vec<GuestUser>, EngineError> {
    let (mut members, mut len) = (vec![], 0);
    for MemberRow { name, uid, role } in tools.store.members().await.map_err(broken)? {
        let guest = guest(tools, vm, name, uid, has_sudo(role), None).await?;
        len += guest.authorized_keys.len();
        if len > MOST_OF_GUESTS {
            warn!(member = %guest.name, "the team has more keys than are brought into a VM");
            break;
        }
        members.push(guest);
    }
    Ok(members)
}

/// Somebody who is let in beside the owner, until then, with as many of their keys as there is room for.
async fn guest(
    tools: &Tools,
    vm: VmId,
    name: AccountName,
    uid: u32,
    sudo: bool,
    until: Option<OffsetDateTime>,
) -> Result<GuestUser, EngineError> {
    let mut text = tools.user_ca.trust_line(vm, &name, until);
    text.push_str(&tools.team_cas.trust_lines(&name, until));
    for line in key_lines(tools, &name, until).await? {
        if text.len() + line.len() > MOST_OF_GUEST {
            warn!(guest = %name, "a guest has more keys than are brought into a VM");
            break;
        }
        text.push_str(&line);
    }
    Ok(GuestUser { name, uid, sudo, authorized_keys: text })
}

/// The account's keys that have not expired, none of which counts after `until`.
async fn key_lines(
    tools: &Tools,
    account: &AccountName,
    until: Option<OffsetDateTime>,
) -> Result<Vec<String>, EngineError> {
    let now = OffsetDateTime::now_utc();
    let mut lines = vec![];
    for row in tools.store.keys(account).await.map_err(broken)? {
        let mut options = row.options;
        if options.expires.is_some_and(|expires| expires <= now) {
            continue;
        }
        options.from.clear();
        options.expires = options.expires.into_iter().chain(until).min();
        let options = options.to_string();
        let space = if options.is_empty() { "" } else { " " };
        lines.push(format!("{options}{space}{}\n", row.key.to_openssh()));
    }
    Ok(lines)
}

/// A store that fails, in an engine's words: the member can do nothing about it, the operator reads the log.
pub(crate) fn broken(cause: StoreError) -> EngineError {
    error!(error = ?cause, "the store failed");
    EngineError::Broken { reason: "Berth's database does not answer".into() }
}
