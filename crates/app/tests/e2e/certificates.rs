//! A member who has no key on their account, but a certificate of a CA that the operator trusts.

use std::{
    fs,
    time::{Duration, Instant},
};

use crate::{
    Test,
    run::wait_for,
    world::{VM, World},
};

pub(crate) const TESTS: &[(&str, Test)] =
    &[("certificates::one_is_enough_for_every_way_until_it_is_revoked", certificate)];

fn certificate(world: &World) {
    // Where a CA is trusted, unknown keys are told other words.
    let _guard = world.alone();
    let home = world.new_home("certified");
    let ssh = world.path(&home).join(".ssh");
    fs::copy(world.path("state/known_hosts"), ssh.join("known_hosts")).unwrap();
    let config = fs::read_to_string(ssh.join("config")).unwrap().replace("certified", "leeolayvar");
    fs::write(ssh.join("config"), config).unwrap();
    let at = |script: &str| world.sh_at(&home, script);
    at("cd .ssh && ssh-keygen -q -t ed25519 -N '' -f ca && ssh-keygen -q -s ca -I desk-7 -z 7 -n leeolayvar -V +1h id_ed25519")
        .ok();
    let refused = at(&format!("ssh {VM} true")).fails();
    assert!(refused.contains("This key is not on any account here."), "{refused}");

    let ca = ssh.join("ca.pub");
    let added = world.admin(&["team", "ca", "add", "--name", "office", ca.to_str().unwrap()]).ok();
    assert!(added.starts_with("office\tSHA256:"), "{added}");
    let known = "sudo grep -c 'principals=\"leeolayvar\"' /run/berth/keys/leeolayvar";
    wait_for("the VM trusts the CA", Duration::from_secs(20), || {
        world.sh(&format!("ssh {VM} {known:?}")).out.trim() == "1"
    });
    // The tunnel, in which the VM's own sshd has the certificate before it, then direct mode.
    assert_eq!(at(&format!("ssh {VM} id -un")).ok(), "leeolayvar\n");
    assert_eq!(at("ssh -o LogLevel=ERROR vm-0@ssh.koding.com id -un").ok(), "leeolayvar\n");
    // What it does not permit is refused by the VM's sshd, which the gateway tells so.
    at("cd .ssh && ssh-keygen -q -s ca -I desk-7 -z 7 -n leeolayvar -V +1h -O clear id_ed25519").ok();
    let refused = at("ssh -tt vm-0@ssh.koding.com true").fails();
    assert!(refused.contains("PTY allocation request failed"), "{refused}");

    let mut page = world.terminal_at(&home, "ssh -T vm-0@ssh.koding.com");
    page.send("echo h''ere\n");
    page.expect("here");
    at("cd .ssh && echo 'serial: 7' >spec && ssh-keygen -q -k -f krl -s ca.pub spec").ok();
    let (krl, began) = (ssh.join("krl"), Instant::now());
    world.admin(&["team", "ca", "revoke", krl.to_str().unwrap()]).ok();
    let (_, code) = page.finish();
    assert!(code != Some(0) && began.elapsed() < Duration::from_secs(10), "{code:?}");
    let refused = at(&format!("ssh {VM} true")).fails();
    assert!(refused.contains("This certificate was revoked."), "{refused}");
    let trail = world.admin(&["audit", "--kind", "log_in", "desk-7"]).ok();
    assert!(trail.contains("certificate \"desk-7\", serial 7, of SHA256:"), "{trail}");
    world.admin(&["team", "ca", "remove", "office"]).ok();
}
