//! The operations, one row each.

use axum::http::Method;
use berth_control::Scope;

use super::{
    account, accounts, audit, invitations, keys,
    operation::{
        About, At,
        Chapter::{self, Account, Accounts, Keys, Operators, Vms},
        row,
    },
    shares, team_cas, team_vms, vms,
};
use crate::routes::{KRL, PASTE, Row};

fn get(path: &'static str, scope: Scope) -> At {
    At { method: Method::GET, path, scope }
}

fn post(path: &'static str, scope: Scope) -> At {
    At { method: Method::POST, path, scope }
}

fn put(path: &'static str, scope: Scope) -> At {
    At { method: Method::PUT, path, scope }
}

fn delete(path: &'static str, scope: Scope) -> At {
    At { method: Method::DELETE, path, scope }
}

fn about(chapter: Chapter, id: &'static str, what: &'static str) -> About {
    About { chapter, id, what }
}

/// All of them, in the order of the reference.
pub(crate) fn rows() -> Vec<Row> {
    let mut rows = members();
    rows.extend(operators());
    rows
}

fn members() -> Vec<Row> {
    use Scope::{AccountRead, KeysRead, KeysWrite, VmsRead, VmsWrite};
    vec![
        row(get("/api/v1/vms", VmsRead), about(Vms, "list_vms", "Your VMs."), vms::list),
        row(
            post("/api/v1/vms", VmsWrite),
            about(Vms, "add_vm", "Makes a VM. It is off until it is started or somebody connects."),
            vms::add,
        ),
        row(get("/api/v1/vms/{vm}", VmsRead), about(Vms, "get_vm", "One VM."), vms::show),
        row(
            delete("/api/v1/vms/{vm}", VmsWrite),
            about(Vms, "remove_vm", "Removes a VM and all that is on its disk. This cannot be undone."),
            vms::remove,
        ),
        row(
            post("/api/v1/vms/{vm}/start", VmsWrite),
            about(Vms, "start_vm", "Starts or wakes a VM."),
            vms::start,
        ),
        row(
            post("/api/v1/vms/{vm}/stop", VmsWrite),
            about(Vms, "stop_vm", "Turns a VM off. Its disk is kept."),
            vms::stop,
        ),
        row(
            post("/api/v1/vms/{vm}/sleep", VmsWrite),
            about(Vms, "sleep_vm", "Puts a VM to sleep. Its programs go on where they were when it wakes."),
            vms::sleep,
        ),
        row(
            post("/api/v1/vms/{vm}/rebuild", VmsWrite),
            about(Vms, "rebuild_vm", "Gives a VM a new disk from the newest image. This cannot be undone."),
            vms::rebuild,
        ),
        row(
            put("/api/v1/vms/{vm}/disk", VmsWrite),
            about(Vms, "resize_vm", "Makes a VM’s disk larger."),
            vms::resize,
        ),
        row(
            put("/api/v1/vms/{vm}/always-on", VmsWrite),
            about(Vms, "set_always_on", "Has a VM never sleep, or sleep again."),
            vms::always_on,
        ),
        row(
            put("/api/v1/vms/{vm}/snooze", VmsWrite),
            about(Vms, "snooze_vm", "Keeps a VM awake for a while. It does not wake one."),
            vms::snooze,
        ),
        row(
            put("/api/v1/vms/{vm}/title", VmsWrite),
            about(Vms, "set_title", "Writes on a VM what it is for."),
            vms::set_title,
        ),
        row(
            get("/api/v1/vms/{vm}/ports", VmsRead),
            about(Vms, "list_ports", "Who may see what the ports of a VM serve to browsers."),
            vms::ports,
        ),
        row(
            put("/api/v1/vms/{vm}/ports/{port}", VmsWrite),
            about(Vms, "set_port", "Shares a port of a VM, or takes it back."),
            vms::set_port,
        ),
        row(
            get("/api/v1/vms/{vm}/shares", VmsRead),
            about(Vms, "list_shares", "With whom a VM is shared, and who was asked."),
            shares::list,
        ),
        row(
            put("/api/v1/vms/{vm}/shares/{account}", VmsWrite),
            about(
                Vms,
                "share_vm",
                "Asks somebody to share a VM, which they have a week to accept; or changes what they are let do in it.",
            ),
            shares::share,
        ),
        row(
            delete("/api/v1/vms/{vm}/shares/{account}", VmsWrite),
            about(Vms, "unshare_vm", "Takes a VM back. Their connections into it end at once."),
            shares::take_back,
        ),
        row(
            get("/api/v1/shared-vms", VmsRead),
            about(
                Vms,
                "list_shared_vms",
                "The VMs of others that are shared with you, or that you were asked for.",
            ),
            shares::with_me,
        ),
        row(
            put("/api/v1/shared-vms/{vm}", VmsWrite),
            about(Vms, "accept_share", "Accepts that a VM is shared with you, or leaves it."),
            shares::accept,
        ),
        row(
            delete("/api/v1/shared-vms/{vm}", VmsWrite),
            about(Vms, "leave_share", "Leaves a VM that is shared with you, or does not accept it."),
            shares::leave,
        ),
        row(
            get("/api/v1/team-vms", VmsRead),
            about(
                Vms,
                "list_team_vms",
                "The VMs of the team, into which every member is let as a user of their own.",
            ),
            team_vms::list,
        ),
        row(
            get("/api/v1/vms/{vm}/why", VmsRead),
            about(Vms, "why_vm", "Why a VM is awake, or when and why it fell asleep."),
            vms::why,
        ),
        row(
            get("/api/v1/vms/{vm}/boot-log", VmsRead),
            about(Vms, "get_boot_log", "What a VM’s console printed since its last start."),
            vms::boot_log,
        ),
        row(get("/api/v1/keys", KeysRead), about(Keys, "list_keys", "Your SSH keys."), keys::list),
        row(
            post("/api/v1/keys", KeysWrite),
            about(
                Keys,
                "add_keys",
                "Adds SSH keys, each judged by itself. They count in your running VMs at once.",
            ),
            keys::add,
        )
        .with_most(PASTE),
        row(
            put("/api/v1/keys/{key}/label", KeysWrite),
            about(Keys, "rename_key", "Calls an SSH key something else."),
            keys::rename,
        ),
        row(
            delete("/api/v1/keys/{key}", KeysWrite),
            about(Keys, "remove_key", "Removes an SSH key. The connections that it opened end at once."),
            keys::remove,
        ),
        row(
            get("/api/v1/account", AccountRead),
            about(Account, "get_account", "Whose token this is, and what it is for."),
            account::show,
        ),
        row(
            get("/api/v1/account/activity", AccountRead),
            about(Account, "list_activity", "What happened on your account, the latest first."),
            account::activity,
        ),
    ]
}

fn operators() -> Vec<Row> {
    use Scope::{OpsRead, OpsWrite};
    vec![
        row(
            get("/api/v1/accounts", OpsRead),
            about(Accounts, "list_accounts", "All accounts."),
            accounts::list,
        ),
        row(
            post("/api/v1/accounts", OpsWrite),
            about(
                Accounts,
                "add_account",
                "Makes an account that nobody can log in to yet: make a link for it.",
            ),
            accounts::add,
        ),
        row(
            get("/api/v1/accounts/{account}", OpsRead),
            about(Accounts, "get_account_of", "One account."),
            accounts::show,
        ),
        row(
            delete("/api/v1/accounts/{account}", OpsWrite),
            about(
                Accounts,
                "remove_account",
                "Removes an account with its keys and VMs. This cannot be undone, and its name stays taken.",
            ),
            accounts::remove,
        ),
        row(
            put("/api/v1/accounts/{account}/role", OpsWrite),
            about(Accounts, "set_role", "Makes an account an operator’s, or a member’s again."),
            accounts::set_role,
        ),
        row(
            put("/api/v1/accounts/{account}/blocked", OpsWrite),
            about(Accounts, "block_account", "Blocks an account, or lets its owner in again."),
            accounts::block,
        ),
        row(
            get("/api/v1/accounts/{account}/limits", OpsRead),
            about(Accounts, "get_limits", "What all VMs of an account together may have."),
            accounts::limits,
        ),
        row(
            put("/api/v1/accounts/{account}/limits", OpsWrite),
            about(Accounts, "set_limits", "Sets what an account may have. What it has already stays."),
            accounts::set_limits,
        ),
        row(
            post("/api/v1/accounts/{account}/links", OpsWrite),
            about(Accounts, "make_link", "Makes a link that works once, to log in or to set a new password."),
            accounts::make_link,
        ),
        row(
            get("/api/v1/accounts/{account}/vms", OpsRead),
            about(Accounts, "list_vms_of", "The VMs of an account."),
            accounts::list_vms,
        ),
        row(
            post("/api/v1/accounts/{account}/vms", OpsWrite),
            about(Accounts, "add_vm_for", "Makes a VM for an account."),
            accounts::add_vm,
        ),
        row(
            get("/api/v1/accounts/{account}/keys", OpsRead),
            about(Accounts, "list_keys_of", "The SSH keys of an account."),
            keys::list_of,
        ),
        row(
            post("/api/v1/accounts/{account}/keys", OpsWrite),
            about(Accounts, "add_keys_for", "Adds SSH keys to an account."),
            keys::add_of,
        )
        .with_most(PASTE),
        row(
            delete("/api/v1/accounts/{account}/keys/{key}", OpsWrite),
            about(Accounts, "remove_key_of", "Removes an SSH key of an account."),
            keys::remove_of,
        ),
        row(
            get("/api/v1/all-vms", OpsRead),
            about(Operators, "list_all_vms", "Everybody’s VMs."),
            vms::list_all,
        ),
        row(
            post("/api/v1/team-vms", OpsWrite),
            about(Operators, "add_team_vm", "Makes a VM for the team."),
            team_vms::add,
        ),
        row(
            get("/api/v1/team-cas", OpsRead),
            about(Operators, "list_team_cas", "The CAs whose certificates let members in, and what was revoked."),
            team_cas::list,
        ),
        row(
            post("/api/v1/team-cas", OpsWrite),
            about(Operators, "add_team_ca", "Has the certificates of a CA let members in."),
            team_cas::add,
        )
        .with_most(PASTE),
        row(
            delete("/api/v1/team-cas/{ca}", OpsWrite),
            about(
                Operators,
                "remove_team_ca",
                "Trusts a CA no more. Connections by its certificates end at once.",
            ),
            team_cas::remove,
        ),
        row(
            put("/api/v1/team-krl", OpsWrite),
            about(
                Operators,
                "load_team_krl",
                "Loads a key revocation list in the place of the last one. Connections by what is in it end at once.",
            ),
            team_cas::revoke,
        )
        .with_most(KRL),
        row(
            get("/api/v1/connections", OpsRead),
            about(Operators, "list_connections", "The connections into VMs that are open now, 1000 at most."),
            vms::connections,
        ),
        row(
            get("/api/v1/invitations", OpsRead),
            about(Operators, "list_invitations", "The invitations that nobody has used yet."),
            invitations::list,
        ),
        row(
            post("/api/v1/invitations", OpsWrite),
            about(Operators, "invite", "Makes an invitation: a link that works once, for a week."),
            invitations::add,
        ),
        row(
            delete("/api/v1/invitations/{invitation}", OpsWrite),
            about(Operators, "remove_invitation", "Takes an invitation back."),
            invitations::remove,
        ),
        row(
            get("/api/v1/audit", OpsRead),
            about(Operators, "list_audit", "What happened and who did it, the latest first."),
            audit::list,
        ),
    ]
}
