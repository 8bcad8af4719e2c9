//! The terminal in the page: the certificate that a real sshd takes, tmux, the sleep.

use crate::{
    Test,
    terminal::Terminal,
    world::{VM, World},
};

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("page::a_terminal_outlives_its_page_and_sleeps_with_its_vm", outlives),
    ("page::who_is_logged_out_has_no_terminal", logged_out),
    ("page::a_terminal_is_watched_together", watched),
];

/// The terminal of this number, in a page that has just been opened.
pub(crate) fn opened(world: &World, number: u32) -> Terminal {
    opened_by(world, "leeolayvar", &number.to_string())
}

fn opened_by(world: &World, account: &str, which: &str) -> Terminal {
    std::fs::write(world.path("home/page.py"), include_str!("page.py")).unwrap();
    let link = world.admin(&["account", "link", account]).ok();
    let mut page = world.terminal(&format!("python3 page.py {} {which}", link.trim()));
    page.expect("[open]");
    page
}

fn outlives(world: &World) {
    let _guard = world.alone();
    let mut page = opened(world, 7);
    page.expect("leeolayvar@vm-0");
    page.send("cd /tmp; kept=precious; tty; seq 60; echo size $(stty size)\r");
    page.expect("size 24 80");

    assert_eq!(world.admin(&["vm", "sleep", VM]).ok(), format!("{VM} is asleep.\n"));
    assert_eq!(world.status(VM), "asleep");
    page.send("echo $kept in $PWD\r");
    page.expect("precious in /tmp");
    world.until(VM, "running");

    // The page is gone; the next one finds the shell, with what has scrolled by before.
    drop(page);
    let mut page = opened(world, 7);
    page.expect("3\r\n4\r\n5\r\n");
    page.expect("precious in /tmp");
    page.send("echo still $kept\r");
    page.expect("still precious");
    page.send("exit\r");
    page.expect("[exit]");
    page.finish();
}

fn logged_out(world: &World) {
    let _guard = world.shared();
    let mut page = opened(world, 8);
    page.expect("leeolayvar@vm-0");
    // What a new password does, and a block.
    world.admin(&["account", "role", "leeolayvar", "member"]).ok();
    page.expect("[logged_out]");
    page.finish();
    world.admin(&["account", "role", "leeolayvar", "operator"]).ok();
}

fn watched(world: &World) {
    let _guard = world.alone();
    let mut hers = opened(world, 9);
    hers.expect("leeolayvar@vm-0");
    hers.send("echo on-the-$((40 + 2))\r");
    hers.expect("on-the-42");
    hers.send("\u{1d}{\"is\": \"share\", \"typing\": false}\r");
    hers.expect("[shared http://koding.com");
    let link = hers.expect(" read-only ]").replace(" read-only ]", "");

    // What is on the screen is there at once.
    let mut his = opened_by(world, "mallory", &link);
    his.expect("on-the-42");
    hers.expect(" read-only mallory]");
    his.send("echo intruded\r");
    hers.send("echo still-$((1 + 1))\r");
    his.expect("still-2");
    assert!(!hers.expect("still-2").contains("intruded"));

    hers.send("\u{1d}{\"is\": \"share\", \"typing\": true}\r");
    his.expect(" typing mallory]");
    his.send("echo by-$((3 + 4)) $(id -un)\r");
    hers.expect("by-7 leeolayvar");
    // More than anybody's page takes at once: who watches gets the screen as it is at the end.
    hers.send("seq 20000; echo done-$((5 + 6))\r");
    hers.expect("done-11");
    his.expect("done-11");

    hers.send("\u{1d}{\"is\": \"unshare\"}\r");
    his.expect("[over]");
    his.finish();
    hers.send("exit\r");
    hers.expect("[exit]");
    hers.finish();
    let trail = world.admin(&["audit", "--about", "leeolayvar"]).ok();
    for line in ["terminal_shared", "terminal_watched", "terminal_left", "terminal_unshared"] {
        assert!(trail.contains(line), "{line}: {trail}");
    }
}
