//! Sessions that are recorded, of a real sshd and a real tmux.

use crate::{
    Test, page,
    world::{VM, World},
};

pub(crate) const TESTS: &[(&str, Test)] = &[("recordings::sessions_with_a_terminal_are_recorded", recorded)];

fn recorded(world: &World) {
    let _guard = world.alone();
    world.configure("[recording]\nsessions = true\n");
    // A password is asked for as programs do, and a character comes in two pieces.
    let script = r#"ssh -tt vm-0@ssh.koding.com 'stty -echo; printf "Password: "; read -r word; stty echo
                    printf "sm\303"; sleep 0.3; printf "\270r\n"'"#;
    let mut direct = world.terminal(script);
    direct.expect("This session is recorded: all that appears");
    direct.expect("Password: ");
    direct.send("s3cret\r");
    let (_, status) = direct.finish();
    assert_eq!(status, Some(0));
    let quiet = world.sh("ssh -o LogLevel=ERROR vm-0@ssh.koding.com 'echo quiet'").quiet();
    assert_eq!(quiet, "quiet\n");
    let hello = world.sh("ssh leeolayvar@ssh.koding.com </dev/null 2>&1").out;
    assert!(hello.contains("Sessions with a terminal that this gateway carries are recorded"), "{hello}");
    world.sh(&format!("ssh {VM} true")).ok();

    let mut terminal = page::opened(world, 11);
    terminal.expect("leeolayvar@vm-0");
    terminal.send("echo in-the-$((2 + 3))-page; exit\r");
    terminal.expect("[exit]");
    terminal.finish();

    let list = world.admin(&["recording", "list"]).ok();
    let lines: Vec<Vec<&str>> = list.lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!(lines.len(), 2, "the page's and the one by ssh -tt: {list}");
    let (in_page, direct) = (&lines[0], &lines[1]);
    assert!(in_page[0].contains("_web_") && direct[0].contains("_direct_"), "{list}");
    assert!(lines.iter().all(|line| line[5] == "complete" && line[1] == "leeolayvar"), "{list}");
    let shown = world.admin(&["recording", "show", direct[0]]).ok();
    assert!(shown.starts_with("{\"version\":2,"), "{shown}");
    assert!(
        shown.contains("Password: ") && shown.contains("ør\\r\\n") && !shown.contains("s3cret"),
        "{shown}"
    );
    assert!(world.admin(&["recording", "show", in_page[0]]).ok().contains("in-the-5-page"));
    world.admin(&["recording", "remove", in_page[0]]).ok();
    world.admin(&["recording", "show", in_page[0]]).fails();

    let trail = world.admin(&["audit", "--about", "leeolayvar", "-n", "40"]).ok();
    for what in ["session_recorded", "recording_opened", "recording_removed", ", end to end"] {
        assert!(trail.contains(what), "{what}: {trail}");
    }
    world.configure("");
}
