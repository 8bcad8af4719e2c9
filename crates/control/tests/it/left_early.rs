//! Whoever asks for something may be gone before it is done: what was changed is written down all the same.

use std::time::Duration;

use berth_control::{HostCaInfo, Invitation, LinkFor, OwnLimits, PortAccess, Role, ShareTerms, Status};
use berth_testkit::Verb;
use futures::FutureExt;
use tokio::time::{sleep, timeout};

use crate::world::{World, account, new_key, no_progress, vm};

const ALICES: &str = "vm-0.alice.koding";
const BOBS: &str = "vm-0.bob.koding";

/// Drops what was asked for after one look at it, and waits until these lines are in the trail.
async fn left<T, E>(world: &World, asked: impl Future<Output = Result<T, E>>, lines: &[&str]) {
    assert!(asked.now_or_never().is_none(), "nobody can leave early: {lines:?}");
    let missing = async || {
        let trail = world.trail().await;
        lines.iter().find(|line| trail.iter().all(|written| written != *line)).copied()
    };
    until(async || missing().await.is_none()).await;
    assert_eq!(missing().await, None, "{:#?}", world.trail().await);
}

/// Waits until this holds, or for so long that it never will.
async fn until(holds: impl AsyncFn() -> bool) {
    for _ in 0..1000 {
        if holds().await {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn keys_that_change() {
    let (world, ..) = World::new().await;
    let (host, bob, key) = (world.host(), account("bob"), new_key());
    let (pasted, fingerprint) = (key.to_openssh(), key.fingerprint());
    let added = format!("key_added bob by -/host {fingerprint} laptop");
    left(&world, host.add_keys(&bob, &pasted, Some("laptop")), &[&added]).await;
    let renamed = format!("key_renamed bob by -/host {fingerprint} desk");
    left(&world, host.rename_key(&bob, "laptop", "desk"), &[&renamed]).await;
    let removed = format!("key_removed bob by -/host {fingerprint} desk");
    left(&world, host.remove_key(&bob, "desk"), &[&removed]).await;
    assert_eq!(world.control.keys(&bob).await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_is_shared() {
    let (world, ..) = World::new().await;
    let (hers, bob) = (vm(ALICES), account("bob"));
    let owner = world.by(&world.log_in_by_link("alice").await.login);
    let guest = world.by(&world.log_in_by_link("bob").await.login);
    // Each of the two reads their own line.
    let line = |what: &str, whose: &str, by: &str, detail: &str| {
        format!("{what} {whose} by {by}/web {ALICES} {detail}")
    };
    let both = |what, by, detail| [line(what, "alice", by, detail), line(what, "bob", by, detail)];
    let ask = || owner.share_vm(&hers, &bob, ShareTerms::default());
    let [one, other] = both("vm_shared", "alice", "bob, without sudo");
    left(&world, ask(), &[&one, &other]).await;
    let [one, other] = both("share_accepted", "bob", "bob");
    left(&world, guest.accept_share(&hers), &[&one, &other]).await;
    let [one, other] = both("vm_unshared", "alice", "bob");
    left(&world, owner.unshare_vm(&hers, &bob), &[&one, &other]).await;
    ask().await.unwrap();
    let [one, other] = both("share_left", "bob", "bob");
    left(&world, guest.leave_share(&hers), &[&one, &other]).await;
    assert_eq!(owner.shares(&hers).await.unwrap(), []);
}

#[tokio::test]
async fn vms() {
    let (world, ..) = World::new().await;
    let (host, his) = (world.host(), vm(BOBS));
    let line = |what: &str| format!("{what} bob by -/host {BOBS}");
    left(&world, host.start_vm(&his, no_progress()), &[&line("vm_started")]).await;
    left(&world, host.sleep_vm(&his), &[&line("vm_slept")]).await;
    left(&world, host.boot_vm(&his, no_progress()), &[&(line("vm_started") + " from its disk")]).await;
    left(&world, host.stop_vm(&his), &[&line("vm_stopped")]).await;
    let hour = Duration::from_secs(3600);
    left(&world, host.snooze_vm(&his, hour), &[&(line("vm_snoozed") + " 3600 s")]).await;
    left(&world, host.set_always_on(&his, true), &[&(line("vm_always_on") + " on")]).await;
    let title = "build".parse().unwrap();
    left(&world, host.set_title(&his, Some(&title)), &[&(line("vm_titled") + " build")]).await;
    let everybody = Some(PortAccess::Public);
    let port = line("vm_port") + " 3000: public";
    left(&world, host.set_port(&his, 3000, everybody), &[&port]).await;
    left(&world, host.resize_vm(&his, 20 << 30), &[&(line("vm_resized") + " 20480 MB of disk")]).await;
    left(&world, host.add_vm(&account("bob")), &["vm_added bob by -/host vm-1.bob.koding"]).await;
    left(&world, host.remove_vm(&his), &[&line("vm_removed")]).await;
    left(&world, host.add_team_vm(), &["vm_added - by -/host shared-0.koding"]).await;
}

#[tokio::test]
async fn accounts() {
    let (world, ..) = World::new().await;
    let (host, bob) = (world.host(), account("bob"));
    left(&world, host.add_account(&account("carol")), &["account_added carol by -/host"]).await;
    left(&world, host.set_role(&bob, Role::Operator), &["role_set bob by -/host operator"]).await;
    let limits = OwnLimits::default();
    let set = format!("limits_set bob by -/host {}", serde_json::to_string(&limits).unwrap());
    left(&world, host.set_limits(&bob, limits), &[&set]).await;
    left(&world, host.block_account(&bob), &["account_blocked bob by -/host"]).await;
    left(&world, host.unblock_account(&bob), &["account_unblocked bob by -/host"]).await;
    left(&world, host.make_link(&bob, LinkFor::LogIn), &["link_made bob by -/host to log in"]).await;
    let invitation = Invitation { name: None, role: Role::Member, note: "dora".to_owned() };
    left(&world, host.invite(invitation), &["invited - by -/host member: dora"]).await;
    let [invited] = <[_; 1]>::try_from(host.invitations().await.unwrap()).unwrap();
    let back = "invitation_removed - by -/host member: dora";
    left(&world, host.remove_invitation(invited.id), &[back]).await;
    left(&world, host.remove_account(&bob), &["account_removed bob by -/host"]).await;
}

/// A list that takes nothing back (PROTOCOL.krl).
fn empty_krl() -> Vec<u8> {
    let (version, numbers, texts) = (1_u32.to_be_bytes(), [0; 3 * 8], [0; 2 * 4]);
    [b"SSHKRL\n\0".as_slice(), &version, &numbers, &texts].concat()
}

#[tokio::test]
async fn cas() {
    let (world, ..) = World::new().await;
    let (host, key) = (world.host(), new_key());
    let (pasted, fingerprint, list) = (key.to_openssh(), key.fingerprint(), empty_krl());
    let line = |what: &str| format!("team_ca - by -/host {fingerprint} {what}: office");
    left(&world, host.add_team_ca(&pasted, Some("office")), &[&line("added")]).await;
    assert_eq!(host.team_cas().unwrap().cas.len(), 1, "it counts");
    left(&world, host.remove_team_ca("office"), &[&line("removed")]).await;
    assert_eq!(host.team_cas().unwrap().cas, [], "it does not count any more");
    let loaded = "team_ca - by -/host koding revocations loaded: 0 parts about CAs, 0 keys";
    left(&world, host.load_team_krl(&list), &[loaded]).await;
    assert!(host.team_cas().unwrap().krl.is_some());

    let next = |cas: &[HostCaInfo]| cas.iter().find(|ca| !ca.signs).unwrap().fingerprint.clone();
    assert!(host.add_host_ca().now_or_never().is_none());
    until(async || world.control.host_cas().len() == 2).await;
    let second = next(&world.control.host_cas());
    let line = |which: &str, what: &str| format!("host_ca - by -/host {which} {what}");
    left(&world, host.use_host_ca(&second), &[&line(&second, "added"), &line(&second, "signs")]).await;
    until(async || next(&world.control.host_cas()) != second).await;
    let first = next(&world.control.host_cas());
    left(&world, host.remove_host_ca(&first), &[&line(&first, "removed")]).await;
    until(async || world.control.host_cas().len() == 1).await;
    assert_eq!(world.control.host_cas().len(), 1);
}

#[tokio::test]
async fn a_start_that_nobody_waits_for_does_not_hold_up_the_end_of_the_server() {
    let (world, ..) = World::new().await;
    world.engine.delay(Verb::Start, Duration::from_secs(3600));
    assert!(world.host().start_vm(&vm(BOBS), no_progress()).now_or_never().is_none());
    until(async || world.control.vms(None).await.unwrap()[1].status == Status::Starting).await;
    timeout(Duration::from_secs(60), world.control.close()).await.expect("it ends");
}
