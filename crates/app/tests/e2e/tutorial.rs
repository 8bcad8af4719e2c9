//! The main job, word for word.

use std::fs;

use crate::{
    Test,
    world::{VM, World},
};

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("tutorial::a_shell_with_the_four_lines_of_config", shell),
    ("tutorial::the_very_first_connection", first_connection),
    ("tutorial::nothing_but_the_output_is_printed", no_noise),
    ("tutorial::there_is_no_authorized_keys", no_authorized_keys),
    ("tutorial::every_name_of_the_vm", names),
    ("tutorial::a_key_with_a_passphrase", passphrase),
    ("tutorial::a_key_with_a_passphrase_in_an_agent", agent),
    ("tutorial::a_passphrase_is_asked_only_for_a_key_that_counts", no_needless_passphrase),
    ("tutorial::every_type_of_key", key_types),
    ("tutorial::the_hello_page_of_apache", hello_page),
];

fn shell(world: &World) {
    let _guard = world.shared();
    world.sh(&format!("ssh {VM} true")).ok();
    let mut terminal = world.terminal(&format!("ssh {VM}"));
    let seen = terminal.expect("leeolayvar@vm-0:~$");
    // Bash may set the window's title and bracketed paste; no line is printed before the prompt.
    assert!(!seen.contains('\n'), "{seen:?}");
    terminal.send("pwd; id -un; hostname; tty >/dev/null && echo at a terminal\n");
    terminal.expect("/home/leeolayvar\r\nleeolayvar\r\nvm-0\r\nat a terminal\r\n");
    terminal.expect("leeolayvar@vm-0:~$");
    terminal.send("exit 3\n");
    let (rest, code) = terminal.finish();
    assert_eq!(code, Some(3), "{rest}");
}

fn first_connection(world: &World) {
    let _guard = world.shared();
    let home = world.home_with_key(&["-t", "ed25519", "-N", ""]);
    fs::remove_file(world.path(&home).join(".ssh/known_hosts")).unwrap();
    let mut terminal = world.terminal_at(&home, &format!("ssh {VM}"));
    for host in ["ssh.koding.com", VM] {
        terminal.expect(&format!("The authenticity of host '{host}"));
        terminal.expect("(yes/no/[fingerprint])?");
        terminal.send("yes\n");
    }
    terminal.expect("leeolayvar@vm-0:~$");
    terminal.send("exit\n");
    assert_eq!(terminal.finish().1, Some(0));
    // The keys that were shown are those that `berth` publishes.
    let seen = fs::read_to_string(world.path(&home).join(".ssh/known_hosts")).unwrap();
    let known = fs::read_to_string(world.path("state/known_hosts")).unwrap();
    for line in seen.lines() {
        let key = line.split(' ').nth(2).unwrap();
        assert!(known.contains(key), "{line} is not in {known}");
    }
}

fn no_noise(world: &World) {
    let _guard = world.shared();
    assert_eq!(world.sh(&format!("ssh {VM} echo hello")).quiet(), "hello\n");
    assert_eq!(world.sh(&format!("ssh {VM} 'cd; pwd'")).quiet(), "/home/leeolayvar\n");
}

fn no_authorized_keys(world: &World) {
    let _guard = world.shared();
    let found = world
        .sh(&format!("ssh {VM} 'sudo find / -xdev -name \"authorized_keys*\" -not -path \"/usr/*\" -print'"))
        .ok();
    assert_eq!(found, "");
}

fn names(world: &World) {
    let _guard = world.shared();
    for name in ["vm-0.leeolayvar.kd.io", "leeolayvar.koding.kd.io", "leeolayvar.kd.io"] {
        assert_eq!(world.sh(&format!("ssh {name} hostname")).quiet(), "vm-0\n", "{name}");
    }
    // Case does not count, though OpenSSH's own `Host *.kd.io` minds it.
    let banner = world.sh("ssh leeolayvar@ssh.koding.com nc VM-0.Leeolayvar.Koding.KD.io 22 </dev/null").out;
    assert!(banner.starts_with("SSH-2.0-"), "{banner}");
}

fn passphrase(world: &World) {
    let _guard = world.shared();
    let home = world.home_with_key(&["-t", "ed25519", "-N", "correct horse"]);
    let mut terminal = world.terminal_at(&home, &format!("ssh {VM}"));
    for _hop in 0..2 {
        terminal.expect("Enter passphrase for key");
        terminal.send("correct horse\n");
    }
    terminal.expect("leeolayvar@vm-0:~$");
}

fn agent(world: &World) {
    let _guard = world.shared();
    let home = world.home_with_key(&["-t", "ed25519", "-N", "correct horse"]);
    let script = format!(
        "printf '#!/bin/sh\\necho correct horse\\n' >askpass; chmod +x askpass
         eval $(ssh-agent) >/dev/null; trap 'kill $SSH_AGENT_PID' EXIT
         SSH_ASKPASS=$PWD/askpass SSH_ASKPASS_REQUIRE=force ssh-add -q ~/.ssh/id_ed25519
         ssh -o BatchMode=yes {VM} echo through an agent"
    );
    assert_eq!(world.sh_at(&home, &script).ok(), "through an agent\n");
}

fn no_needless_passphrase(world: &World) {
    let _guard = world.shared();
    let home = world.home_with_key(&["-t", "ed25519", "-N", ""]);
    // OpenSSH tries id_rsa before id_ed25519.
    let script = format!(
        "ssh-keygen -q -t rsa -N 'another one' -f ~/.ssh/id_rsa
         printf '#!/bin/sh\\necho asked >~/asked\\n' >askpass; chmod +x askpass
         SSH_ASKPASS=$PWD/askpass SSH_ASKPASS_REQUIRE=force ssh {VM} echo in; test ! -e asked"
    );
    // The second hop is the VM's sshd, which knows the same keys.
    assert_eq!(world.sh_at(&home, &script).ok(), "in\n");
}

fn key_types(world: &World) {
    let _guard = world.shared();
    let kinds: &[&[&str]] = &[
        &["-t", "ed25519"],
        &["-t", "ecdsa", "-b", "256"],
        &["-t", "ecdsa", "-b", "384"],
        &["-t", "ecdsa", "-b", "521"],
        &["-t", "rsa", "-b", "2048"],
        &["-t", "rsa", "-b", "4096"],
    ];
    for kind in kinds {
        let home = world.home_with_key(&[kind, &["-N", ""][..]].concat());
        assert_eq!(world.sh_at(&home, &format!("ssh {VM} echo in")).quiet(), "in\n", "{kind:?}");
    }
}

fn hello_page(world: &World) {
    let _guard = world.shared();
    let page = world
        .sh(&format!("ssh {VM} 'curl -sS --retry 20 --retry-connrefused --retry-delay 1 http://localhost/'"))
        .quiet();
    let file = world.sh(&format!("ssh {VM} cat Web/index.html")).quiet();
    assert_eq!(page, file);
    assert!(page.contains("Web/index.html") || page.contains("~/Web"), "the page says where it lies: {page}");
    // From outside, through the gateway.
    let reply = world.sh("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | ssh leeolayvar@ssh.koding.com nc vm-0.leeolayvar.koding.kd.io 80").ok();
    assert!(reply.contains(page.trim_end()), "{reply}");
}
