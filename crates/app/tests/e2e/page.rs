//! The terminal in the page: the certificate that a real sshd takes, tmux, the sleep.

use crate::{
    Test,
    terminal::Terminal,
    world::{VM, World},
};

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("page::a_terminal_outlives_its_page_and_sleeps_with_its_vm", outlives),
    ("page::who_is_logged_out_has_no_terminal", logged_out),
];

/// The terminal of this number, in a page that has just been opened.
fn opened(world: &World, number: u32) -> Terminal {
    std::fs::write(world.path("home/page.py"), include_str!("page.py")).unwrap();
    let link = world.admin(&["account", "link", "leeolayvar"]).ok();
    let mut page = world.terminal(&format!("python3 page.py {} {number}", link.trim()));
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
