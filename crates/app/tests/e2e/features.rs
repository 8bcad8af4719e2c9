//! What people do with ssh, through the tunnel.

use std::time::Duration;

use crate::{
    Test,
    run::wait_for,
    world::{VM, World},
};

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("features::exec_keeps_status_and_streams_apart", exec),
    ("features::fifty_megabytes_each_way", bulk),
    ("features::sftp_scp_rsync", copies),
    ("features::git", git),
    ("features::local_and_dynamic_forwards", local_forwards),
    ("features::remote_forwards", remote_forwards),
    ("features::unix_socket_forwards", unix_forwards),
    ("features::agent_forwarding", agent_forwarding),
    ("features::the_size_of_the_terminal_and_ctrl_c", terminal),
    ("features::control_master_on_both_hops", control_master),
    ("features::rekeying_in_mid_transfer", rekey),
    ("features::proxy_jump_and_w", jump),
    ("features::half_close", half_close),
];

fn exec(world: &World) {
    let _guard = world.shared();
    let run = world.sh(&format!("ssh {VM} 'echo out; echo err >&2; exit 7'"));
    assert_eq!((run.code, run.out.as_str(), run.err.as_str()), (Some(7), "out\n", "err\n"));
    let killed = world.sh(&format!("ssh {VM} 'kill -9 $$'"));
    assert_eq!(killed.code, Some(255));
    assert_eq!(world.sh(&format!("echo typed | ssh {VM} cat")).quiet(), "typed\n");
}

fn bulk(world: &World) {
    let _guard = world.shared();
    let script = format!(
        "set -e; head -c 50000000 /dev/urandom >up
         ssh {VM} 'cat >bulk && sha256sum <bulk' <up >there
         sha256sum <up >here; cmp here there
         ssh {VM} 'cat bulk; rm bulk' >down; cmp up down; rm up down"
    );
    world.sh(&script).quiet();
}

fn copies(world: &World) {
    let _guard = world.shared();
    let script = format!(
        "set -e; mkdir -p copies/deep; cd copies; head -c 300000 /dev/urandom >a; echo b >'deep/with space'
         ssh {VM} mkdir -p copied
         scp -q a {VM}:copied/scp-sftp; scp -qO a {VM}:copied/scp-old; scp -q {VM}:copied/scp-sftp back1; scp -qO {VM}:copied/scp-old back2
         cmp a back1; cmp a back2
         printf 'put a copied/sftp\\nget copied/sftp back3\\nls -l copied\\n' | sftp -qb - {VM} >/dev/null; cmp a back3
         rm back?; rsync -a ./ {VM}:copied/rsync/; rsync -a --delete {VM}:copied/rsync/ ../rsynced/; diff -r . ../rsynced
         ssh {VM} rm -r copied; cd; rm -r copies rsynced"
    );
    world.sh(&script).quiet();
}

fn git(world: &World) {
    let _guard = world.shared();
    let script = format!(
        "set -e; export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
         ssh {VM} 'git init -q --bare -b main repo.git'
         git init -q -b main repo; cd repo; head -c 2000000 /dev/urandom >big; git add big; git commit -qm one
         git push -q {VM}:repo.git main; cd ..
         git clone -q -b main {VM}:repo.git cloned; cmp repo/big cloned/big
         ssh {VM} rm -rf repo.git; rm -rf repo cloned"
    );
    world.sh(&script).quiet();
}

/// A shell function that waits until a command succeeds.
const TRY: &str = "try() { for _ in $(seq 100); do \"$@\" >/dev/null 2>&1 && return; sleep 0.2; done; echo \"in vain: $*\" >&2; return 1; }";

fn local_forwards(world: &World) {
    let _guard = world.shared();
    let script = format!(
        "{TRY}; set -e
         ssh -N -o ExitOnForwardFailure=yes -L 18080:localhost:80 -D 18081 {VM} & trap 'kill %1' EXIT
         try curl -sf http://localhost:18080/
         curl -sf http://localhost:18080/ >direct; curl -sf --socks5-hostname localhost:18081 http://localhost/ >socks
         test -s direct; cmp direct socks"
    );
    world.sh(&script).ok();
}

fn remote_forwards(world: &World) {
    let _guard = world.shared();
    let script = format!(
        "{TRY}; set -e; mkdir -p served; echo from the laptop >served/page
         (cd served && exec python3 -m http.server -b 127.0.0.1 18090 >/dev/null 2>&1) & server=$!
         trap 'kill $server' EXIT
         try curl -sf http://127.0.0.1:18090/page
         ssh -o ExitOnForwardFailure=yes -R 18091:127.0.0.1:18090 {VM} curl -sf http://localhost:18091/page"
    );
    assert_eq!(world.sh(&script).ok(), "from the laptop\n");
}

fn unix_forwards(world: &World) {
    let _guard = world.shared();
    let script = format!(
        "{TRY}; set -e
         ssh -N -o ExitOnForwardFailure=yes -L $PWD/to-vm.sock:localhost:80 {VM} & one=$!
         (mkdir -p unix && cd unix && echo unix >page && exec python3 -m http.server -b 127.0.0.1 18095 >/dev/null 2>&1) & two=$!
         trap 'kill $one $two' EXIT
         try curl -sf --unix-socket to-vm.sock http://localhost/
         try curl -sf http://127.0.0.1:18095/page
         ssh -o ExitOnForwardFailure=yes -R /tmp/to-laptop.sock:127.0.0.1:18095 {VM} \\
           'curl -sf --unix-socket /tmp/to-laptop.sock http://localhost/page; rm /tmp/to-laptop.sock'"
    );
    assert_eq!(world.sh(&script).ok(), "unix\n");
}

fn agent_forwarding(world: &World) {
    let _guard = world.shared();
    let script = format!(
        "eval $(ssh-agent) >/dev/null; trap 'kill $SSH_AGENT_PID' EXIT; ssh-add -q ~/.ssh/id_ed25519
         ssh-add -l >mine; ssh -A {VM} ssh-add -l >theirs; cmp mine theirs && ssh {VM} 'ssh-add -l; test $? = 2'"
    );
    world.sh(&script).ok();
}

fn terminal(world: &World) {
    let _guard = world.shared();
    // The outer terminal tells its name, so that its size can be changed from outside as a window's is.
    let mut terminal = world.terminal(&format!("stty rows 40 cols 100; tty; ssh {VM}"));
    let tty = terminal.expect("\r\n").trim().to_owned();
    terminal.expect(":~$");
    terminal.send("stty size\n");
    terminal.expect("40 100\r\n");
    world.sh(&format!("stty -F {tty} rows 50 cols 132")).ok();
    // Bash ends its bracketed paste with a carriage return before it prints. The new size travels in a message of its own.
    wait_for("the new size arrives", Duration::from_secs(30), || {
        terminal.send("echo \"[$(stty size)]\"\n");
        terminal.expect("\r[");
        terminal.expect("]") == "50 132]"
    });
    terminal.send("sleep 1000; echo not reached\n");
    terminal.expect("not reached\r\n");
    std::thread::sleep(Duration::from_millis(500));
    terminal.send("\u{3}");
    terminal.expect("^C");
    terminal.expect(":~$");
    terminal.send("echo still here\n");
    terminal.expect("\rstill here\r\n");
}

fn control_master(world: &World) {
    let _guard = world.shared();
    let home = world.home_with_key(&["-t", "ed25519", "-N", ""]);
    let config = format!(
        "{}Host *\n  ControlMaster auto\n  ControlPath ~/.ssh/%C\n  ControlPersist 60\n",
        crate::world::CONFIG
    );
    std::fs::write(world.path(&home).join(".ssh/config"), config).unwrap();
    let script = format!(
        "ssh {VM} true || exit 1
         for i in $(seq 20); do ssh {VM} \"echo $i\" >out.$i & done; wait
         cat out.* | sort -n
         ssh -O check {VM} 2>&1 | grep -o 'Master running' >&2
         ssh -O check leeolayvar@ssh.koding.com 2>&1 | grep -o 'Master running' >&2
         ssh -O exit {VM} 2>/dev/null; ssh -O exit leeolayvar@ssh.koding.com 2>/dev/null; true"
    );
    let run = world.sh_at(&home, &script);
    assert_eq!(run.err, "Master running\nMaster running\n");
    assert_eq!(run.ok(), (1..=20).map(|i| format!("{i}\n")).collect::<String>());
}

fn rekey(world: &World) {
    let _guard = world.shared();
    let home = world.home_with_key(&["-t", "ed25519", "-N", ""]);
    // On both hops: the inner ssh reads this file too.
    let config = format!("Host *\n  RekeyLimit 1M\n{}", crate::world::CONFIG);
    std::fs::write(world.path(&home).join(".ssh/config"), config).unwrap();
    let script = format!(
        "set -e; head -c 12000000 /dev/urandom >up; ssh {VM} 'cat >rekeyed; cat rekeyed; rm rekeyed' <up >down; cmp up down; rm up down"
    );
    world.sh_at(&home, &script).quiet();
}

fn jump(world: &World) {
    let _guard = world.shared();
    let through =
        world.sh(&format!("ssh -F none -J leeolayvar@ssh.koding.com leeolayvar@{VM} hostname")).quiet();
    assert_eq!(through, "vm-0\n");
    let banner = world.sh(&format!("ssh -W {VM}:22 leeolayvar@ssh.koding.com </dev/null")).out;
    assert!(banner.starts_with("SSH-2.0-"), "{banner}");
}

fn half_close(world: &World) {
    let _guard = world.shared();
    // The request ends, the answer comes after it.
    let server = "import socket\ns = socket.create_server((\"\", 4567)); c, _ = s.accept(); n = 0\n\
                  while d := c.recv(65536): n += len(d)\nc.sendall(b\"%d\\n\" % n); c.close()\n";
    std::fs::write(world.path("home/count.py"), server).unwrap();
    let script = format!(
        "set -e; scp -q count.py {VM}:; ssh {VM} 'nohup python3 count.py >/dev/null 2>&1 </dev/null &'
         for _ in $(seq 50); do
           head -c 1000000 /dev/zero | ssh leeolayvar@ssh.koding.com nc {VM} 4567 2>/dev/null && exit; sleep 0.2
         done; exit 1"
    );
    assert_eq!(world.sh(&script).ok(), "1000000\n");
}
