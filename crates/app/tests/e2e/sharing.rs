//! A VM that is shared: a user of their own in a real guest, and how that ends.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::{
    Test,
    run::wait_for,
    world::{VM, World},
};

pub(crate) const TESTS: &[(&str, Test)] = &[("sharing::a_guest_comes_works_and_is_out_again", guest)];

/// Accepts what mallory was asked, as she does on the website.
const ACCEPT: &str = r#"
set -e
token() { sed -n 's/.*name="csrf" value="\([^"]*\)".*/\1/p' | head -n 1; }
ask() { curl -sS --fail -c jar -b jar -H 'Origin: http://koding.com' "$@"; }
rm -f jar
ask --data-urlencode "csrf=$(ask "$LINK" | token)" "$LINK"
ask --data-urlencode "csrf=$(ask http://koding.com/ | token)" --data vm=vm-0.leeolayvar.koding http://koding.com/shared/accept
"#;

fn accept(world: &World) {
    let link = world.admin(&["account", "link", "mallory"]).ok();
    world.sh_at("mallory", &format!("LINK='{}'\n{ACCEPT}", link.trim())).ok();
}

fn guest(world: &World) {
    let _guard = world.alone();
    let asked = world.admin(&["vm", "share", VM, "mallory", "--sudo"]).ok();
    assert!(asked.starts_with("mallory was asked to share vm-0.leeolayvar.koding"), "{asked}");
    let refused = world.sh_at("mallory", &format!("ssh {VM} true")).fails();
    assert!(refused.contains(&format!("There is no VM {VM} that you can enter.")), "{refused}");

    accept(world);
    let seen = world.sh_at("mallory", &format!("ssh {VM} 'id -un; sudo id -u; pwd; echo kept >kept'")).ok();
    assert_eq!(seen, "mallory\n0\n/home/mallory\n");
    // What the owner has is the owner's, and the other way round.
    world.sh(&format!("ssh {VM} 'test ! -r /home/mallory/kept && echo hers >/tmp/hers'")).ok();
    world.sh_at("mallory", &format!("ssh {VM} 'cat /tmp/hers && ! rm /tmp/hers'")).ok();

    taken_back_in_mid_session(world);
    let refused = world.sh_at("mallory", &format!("ssh {VM} true")).fails();
    assert!(refused.contains(&format!("There is no VM {VM} that you can enter.")), "{refused}");
    let inside = "sudo sh -c 'cat /home/mallory/kept; ls /run/berth/keys; cat /etc/sudoers.d/berth-guests; pgrep -u mallory'";
    let left = world.sh(&format!("ssh {VM} {inside:?}; true")).ok();
    assert_eq!(left, "kept\nleeolayvar\n", "her home is all that is left");

    // Once more, without sudo: the same user, who finds what she had.
    world.admin(&["vm", "share", VM, "mallory", "--for", "1h"]).ok();
    accept(world);
    let seen =
        world.sh_at("mallory", &format!("ssh {VM} 'cat kept; sudo -n true 2>/dev/null || echo no'")).ok();
    assert_eq!(seen, "kept\nno\n");
    // What happens to one that sleeps is done when it wakes.
    world.admin(&["vm", "sleep", VM]).ok();
    world.admin(&["vm", "unshare", VM, "mallory"]).ok();
    let keys = world.sh(&format!("ssh {VM} ls /run/berth/keys")).ok();
    assert_eq!(keys, "leeolayvar\n");
    ids_are_kept_apart(world);
    let trail = world.admin(&["audit", "--kind", "connection", "--by", "mallory"]).ok();
    assert!(trail.contains("vm-0.leeolayvar.koding\tport 22 by SHA256:"), "{trail}");
}

/// Nobody who is made in the VM gets the id of a guest who may come later, and a guest whose id is taken stays out.
fn ids_are_kept_apart(world: &World) {
    let in_vm = |script: &str| world.sh(&format!("ssh {VM} '{script}'")).ok();
    let made = in_vm("sudo useradd somebody && id -u somebody && sudo userdel somebody");
    assert!(made.trim().parse::<u32>().unwrap() < 60_000, "{made}");
    in_vm("uid=$(id -u mallory) && sudo userdel mallory && sudo useradd -M -u $uid other");
    world.admin(&["vm", "share", VM, "mallory", "--sudo"]).ok();
    accept(world);
    world.sh_at("mallory", &format!("ssh {VM} true")).fails();
    world.admin(&["vm", "unshare", VM, "mallory"]).ok();
    assert_eq!(in_vm("ls /run/berth/keys; id -un other; sudo userdel other"), "leeolayvar\nother\n");
}

fn taken_back_in_mid_session(world: &World) {
    let mut page = world.terminal_at("mallory", &format!("ssh {VM}"));
    page.expect("mallory@vm-0");
    page.send("sleep 1000 & echo started\r");
    page.expect("started\r\n");
    let began = Instant::now();
    thread::scope(|scope| {
        let taking = scope.spawn(|| world.admin(&["vm", "unshare", VM, "mallory"]).ok());
        page.expect("vm-0.leeolayvar.koding is not shared with you any more.");
        let took = began.elapsed();
        assert!(took < Duration::from_secs(1), "{took:?}");
        taking.join().unwrap();
    });
    page.finish();
    let runs = format!("ssh {VM} pgrep -u mallory");
    wait_for("what she ran has ended", Duration::from_secs(10), || world.sh(&runs).code == Some(1));
}
