//! The lobby, and what its `config` is worth: no question, whatever happens to a VM but that another one answers.

use std::{fs, time::Duration};

use crate::{
    Test,
    run::wait_for,
    world::{VM, World},
};

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("lobby::at_a_terminal_and_without", at_a_terminal_and_without),
    ("lobby::the_printed_config_is_all_that_ssh_needs", printed_config),
    ("lobby::a_rebuilt_vm_asks_nothing_and_an_impostor_is_noticed", rebuilt_and_impostor),
];

const LOBBY: &str = "ssh leeolayvar@ssh.koding.com";

fn at_a_terminal_and_without(world: &World) {
    let _guard = world.shared();
    world.sh(&format!("ssh {VM} true")).ok();
    let mut terminal = world.terminal(LOBBY);
    terminal.expect("Hello leeolayvar. vm-0 is running");
    terminal.expect("berth> ");
    // Completed, and what is typed ahead waits for its turn.
    terminal.send("wh\tvm-0\rhistroy\r");
    terminal.expect("vm-0 is awake because");
    terminal.expect("There is no command \"histroy\" here.");
    terminal.expect("berth> ");
    terminal.send("\x1b[A\x1b[A\r");
    terminal.expect("vm-0 is awake because");
    terminal.send("\x04");
    assert_eq!(terminal.finish().1, Some(0));

    let list = world.sh(&format!("{LOBBY} vms")).quiet();
    assert!(list.starts_with(&format!("vm-0\trunning\t{VM}\t")), "{list}");
    let list = world.sh(&format!("echo vms --json | {LOBBY} 2>/dev/null")).ok();
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    assert_eq!(list["vms"][0]["host"], VM);
    let ran = world.sh(&format!("{LOBBY} start vm-99"));
    assert_eq!(
        (ran.code, ran.err.starts_with("There is no VM vm-99 of yours.")),
        (Some(1), true),
        "{ran:#?}"
    );
    assert_eq!(world.sh(&format!("{LOBBY} vms all")).code, Some(2));
}

/// A home whose ssh knows nothing but what `config` printed.
fn home_with_printed_config(world: &World) -> String {
    let home = world.home_with_key(&["-t", "ed25519", "-N", ""]);
    let ssh = world.path(&home).join(".ssh");
    fs::write(ssh.join("config"), "Host elsewhere\n  User nobody").unwrap();
    let learn = format!("{LOBBY} config >>~/.ssh/config && rm ~/.ssh/known_hosts*");
    world.sh_at(&home, &learn).quiet();
    home
}

fn printed_config(world: &World) {
    let _guard = world.shared();
    world.sh(&format!("ssh {VM} true")).ok();
    let home = home_with_printed_config(world);
    let sh = |script: &str| world.sh_at(&home, script);
    let config = fs::read_to_string(world.path(&home).join(".ssh/config")).unwrap();
    assert!(config.contains("StrictHostKeyChecking yes"), "{config}");
    for name in [VM, "vm-0.leeolayvar.kd.io", "leeolayvar.koding.kd.io", "leeolayvar.kd.io"] {
        assert_eq!(sh(&format!("ssh {name} hostname")).quiet(), "vm-0\n", "{name}");
    }
    assert!(sh("ssh ssh.koding.com vms").quiet().starts_with("vm-0\t"));
    // Both hops are known by certificate, and nothing was written down.
    let told = sh(&format!("ssh -v {VM} true")).err;
    assert!(
        told.contains(
            "Host 'vm-0.leeolayvar.koding.kd.io' is known and matches the ED25519-CERT host certificate."
        ),
        "{told}"
    );
    assert!(!world.path(&home).join(".ssh/known_hosts").exists());
    // For who keeps a known_hosts.
    sh("ssh ssh.koding.com known-hosts >~/known").quiet();
    let options = "-o KnownHostsCommand=none -o UserKnownHostsFile=~/known -o BatchMode=yes";
    let hop = format!("-o ProxyCommand='ssh {options} ssh.koding.com nc %h %p'");
    assert_eq!(sh(&format!("ssh {options} {hop} {VM} hostname")).quiet(), "vm-0\n");
}

fn rebuilt_and_impostor(world: &World) {
    let _guard = world.alone();
    let name = &world.new_vm();
    let home = home_with_printed_config(world);
    let ssh = |words: &str| world.sh_at(&home, &format!("ssh {name} {words}"));
    let shown = "cat /etc/ssh/ssh_host_ed25519_key-cert.pub";
    let before = ssh(shown).ok();
    assert!(before.starts_with("ssh-ed25519-cert-v01@openssh.com "), "{before}");
    world.admin(&["vm", "rebuild", name, "--discard-home", "--yes"]).ok();
    assert_eq!(ssh(shown).ok(), before);

    // Another authority signs: the VM shows its certificate in a moment, and who has been told of both asks nothing.
    let list = |words: &[&str]| -> serde_json::Value {
        serde_json::from_str(&world.admin(&[&["host-ca"], words, &["--json"]].concat()).ok()).unwrap()
    };
    let cas = list(&["add"]);
    let [first, second] = [0, 1].map(|n| cas["host_cas"][n]["fingerprint"].as_str().unwrap().to_owned());
    let told_of_both = home_with_printed_config(world);
    list(&["use", &second]);
    wait_for("the VM shows it", Duration::from_secs(60), || {
        let now = world.sh_at(&told_of_both, &format!("ssh {name} {shown}")).ok();
        now.starts_with("ssh-ed25519-cert-v01@openssh.com ") && now != before
    });
    world.sh_at(&told_of_both, &format!("ssh {name} hostname")).ok();
    assert!(ssh("true").fails().contains("Host key verification failed."), "who was told of the first alone");
    // One that sleeps does so when it wakes.
    world.admin(&["vm", "sleep", name]).ok();
    list(&["use", &first]);
    list(&["remove", &second]);
    assert_eq!(ssh(shown).ok(), before);

    // Its owner puts another key in it, as somebody in the middle would have one.
    let swap = "'sudo rm /etc/ssh/ssh_host_ed25519_key* && sudo ssh-keygen -q -t ed25519 -N \"\" -f \
                /etc/ssh/ssh_host_ed25519_key && sudo systemctl reload ssh'";
    ssh(swap).ok();
    assert!(ssh("true").fails().contains("Host key verification failed."));
    world.admin(&["vm", "remove", name, "--yes"]).ok();
}
