//! What people do with ssh, through the tunnel and in direct mode.

use std::{fs, time::Duration};

use crate::{
    Test,
    run::{Run, wait_for},
    terminal::Terminal,
    world::{VM, World},
};

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("features::exec_keeps_status_and_streams_apart", |world| exec(&By::tunnel(world))),
    ("features::fifty_megabytes_each_way", |world| bulk(&By::tunnel(world))),
    ("features::sftp_scp_rsync", |world| copies(&By::tunnel(world))),
    ("features::git", |world| git(&By::tunnel(world))),
    ("features::local_and_dynamic_forwards", |world| local_forwards(&By::tunnel(world))),
    ("features::remote_forwards", |world| remote_forwards(&By::tunnel(world))),
    ("features::unix_socket_forwards", |world| unix_forwards(&By::tunnel(world))),
    ("features::agent_forwarding", |world| agent_forwarding(&By::tunnel(world))),
    ("features::the_size_of_the_terminal_and_ctrl_c", |world| terminal(&By::tunnel(world))),
    ("features::control_master_on_both_hops", |world| control_master(&By::tunnel(world))),
    ("features::rekeying_in_mid_transfer", |world| rekey(&By::tunnel(world))),
    ("features::proxy_jump_and_w", jump),
    ("features::half_close", half_close),
    ("direct::exec_keeps_status_and_streams_apart", |world| exec(&By::direct(world))),
    ("direct::fifty_megabytes_each_way", |world| bulk(&By::direct(world))),
    ("direct::sftp_scp_rsync", |world| copies(&By::direct(world))),
    ("direct::git", |world| git(&By::direct(world))),
    ("direct::local_and_dynamic_forwards", |world| local_forwards(&By::direct(world))),
    ("direct::remote_forwards", |world| remote_forwards(&By::direct(world))),
    ("direct::unix_socket_forwards", |world| unix_forwards(&By::direct(world))),
    ("direct::agent_forwarding", |world| agent_forwarding(&By::direct(world))),
    ("direct::the_size_of_the_terminal_and_ctrl_c", |world| terminal(&By::direct(world))),
    ("direct::control_master", |world| control_master(&By::direct(world))),
    ("direct::rekeying_in_mid_transfer", |world| rekey(&By::direct(world))),
    ("direct::without_any_configuration", no_configuration),
    ("direct::other_clients", other_clients),
    ("features::ssh_audit_finds_nothing", ssh_audit),
];

/// The host name of the shared VM, as a member who does without tunnels would write it down.
const DIRECT: &str = "Host vm-0.leeolayvar.koding.kd.io\n  HostName ssh.koding.com\n  HostKeyAlias ssh.koding.com\n  \
                      User vm-0\n";

/// A way to the shared VM, and the home of who takes it. `ssh VM` leads there by either.
struct By<'a> {
    world: &'a World,
    home: String,
    config: &'static str,
    /// In names in the VM, which both share.
    name: &'static str,
    /// The first of ten ports on the laptop.
    port: u16,
}

impl<'a> By<'a> {
    /// The tutorial's, in the tutorial's home.
    fn tunnel(world: &'a World) -> Self {
        let (home, config) = ("home".to_owned(), crate::world::CONFIG);
        Self { world, home, config, name: "tunnel", port: 18080 }
    }

    /// The gateway's own session in the VM, from a home of its own.
    fn direct(world: &'a World) -> Self {
        Self { world, home: String::new(), config: DIRECT, name: "direct", port: 18180 }.with_config("")
    }

    /// The same from a home of its own, with these lines before its configuration.
    fn with_config(&self, lines: &str) -> Self {
        let home = self.world.home_with_key(&["-t", "ed25519", "-N", ""]);
        fs::write(self.world.path(&home).join(".ssh/config"), format!("{lines}{}", self.config)).unwrap();
        Self { home, ..*self }
    }

    fn sh(&self, script: &str) -> Run {
        self.world.sh_at(&self.home, script)
    }

    fn terminal(&self, script: &str) -> Terminal {
        self.world.terminal_at(&self.home, script)
    }
}

fn exec(by: &By<'_>) {
    let _guard = by.world.shared();
    let run = by.sh(&format!("ssh {VM} 'echo out; echo err >&2; exit 7'"));
    assert_eq!((run.code, run.out.as_str(), run.err.as_str()), (Some(7), "out\n", "err\n"));
    let killed = by.sh(&format!("ssh {VM} 'kill -9 $$'"));
    assert_eq!(killed.code, Some(255));
    assert_eq!(by.sh(&format!("echo typed | ssh {VM} cat")).quiet(), "typed\n");
}

fn bulk(by: &By<'_>) {
    let _guard = by.world.shared();
    let name = by.name;
    let script = format!(
        "set -e; head -c 50000000 /dev/urandom >up
         ssh {VM} 'cat >bulk-{name} && sha256sum <bulk-{name}' <up >there
         sha256sum <up >here; cmp here there
         ssh {VM} 'cat bulk-{name}; rm bulk-{name}' >down; cmp up down; rm up down"
    );
    by.sh(&script).quiet();
}

fn copies(by: &By<'_>) {
    let _guard = by.world.shared();
    let to = format!("copied-{}", by.name);
    let script = format!(
        "set -e; mkdir -p copies/deep; cd copies; head -c 300000 /dev/urandom >a; echo b >'deep/with space'
         ssh {VM} mkdir -p {to}
         scp -q a {VM}:{to}/scp-sftp; scp -qO a {VM}:{to}/scp-old; scp -q {VM}:{to}/scp-sftp back1; scp -qO {VM}:{to}/scp-old back2
         cmp a back1; cmp a back2
         printf 'put a {to}/sftp\\nget {to}/sftp back3\\nls -l {to}\\n' | sftp -qb - {VM} >/dev/null; cmp a back3
         rm back?; rsync -a ./ {VM}:{to}/rsync/; rsync -a --delete {VM}:{to}/rsync/ ../rsynced/; diff -r . ../rsynced
         ssh {VM} rm -r {to}; cd; rm -r copies rsynced"
    );
    by.sh(&script).quiet();
}

fn git(by: &By<'_>) {
    let _guard = by.world.shared();
    let repo = format!("repo-{}.git", by.name);
    let script = format!(
        "set -e; export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
         ssh {VM} 'git init -q --bare -b main {repo}'
         git init -q -b main repo; cd repo; head -c 2000000 /dev/urandom >big; git add big; git commit -qm one
         git push -q {VM}:{repo} main; cd ..
         git clone -q -b main {VM}:{repo} cloned; cmp repo/big cloned/big
         ssh {VM} rm -rf {repo}; rm -rf repo cloned"
    );
    by.sh(&script).quiet();
}

/// A shell function that waits until a command succeeds.
const TRY: &str = "try() { for _ in $(seq 100); do \"$@\" >/dev/null 2>&1 && return; sleep 0.2; done; echo \"in vain: $*\" >&2; return 1; }";

fn local_forwards(by: &By<'_>) {
    let _guard = by.world.shared();
    let (local, socks) = (by.port, by.port + 1);
    let script = format!(
        "{TRY}; set -e
         ssh -N -o ExitOnForwardFailure=yes -L {local}:localhost:80 -D {socks} {VM} & trap 'kill %1' EXIT
         try curl -sf http://localhost:{local}/
         curl -sf http://localhost:{local}/ >direct; curl -sf --socks5-hostname localhost:{socks} http://localhost/ >socks
         test -s direct; cmp direct socks"
    );
    by.sh(&script).ok();
}

fn remote_forwards(by: &By<'_>) {
    let _guard = by.world.shared();
    let (local, remote) = (by.port + 2, by.port + 3);
    let script = format!(
        "{TRY}; set -e; mkdir -p served; echo from the laptop >served/page
         (cd served && exec python3 -m http.server -b 127.0.0.1 {local} >/dev/null 2>&1) & server=$!
         trap 'kill $server' EXIT
         try curl -sf http://127.0.0.1:{local}/page
         ssh -o ExitOnForwardFailure=yes -R {remote}:127.0.0.1:{local} {VM} curl -sf http://localhost:{remote}/page"
    );
    assert_eq!(by.sh(&script).ok(), "from the laptop\n");
}

fn unix_forwards(by: &By<'_>) {
    let _guard = by.world.shared();
    let (local, remote) = (by.port + 4, format!("/tmp/to-laptop-{}.sock", by.name));
    let script = format!(
        "{TRY}; set -e
         ssh -N -o ExitOnForwardFailure=yes -L $PWD/to-vm.sock:localhost:80 {VM} & one=$!
         (mkdir -p unix && cd unix && echo unix >page && exec python3 -m http.server -b 127.0.0.1 {local} >/dev/null 2>&1) & two=$!
         trap 'kill $one $two' EXIT
         try curl -sf --unix-socket to-vm.sock http://localhost/
         try curl -sf http://127.0.0.1:{local}/page
         ssh -o ExitOnForwardFailure=yes -R {remote}:127.0.0.1:{local} {VM} \\
           'curl -sf --unix-socket {remote} http://localhost/page; rm {remote}'"
    );
    assert_eq!(by.sh(&script).ok(), "unix\n");
}

fn agent_forwarding(by: &By<'_>) {
    let _guard = by.world.shared();
    let script = format!(
        "eval $(ssh-agent) >/dev/null; trap 'kill $SSH_AGENT_PID' EXIT; ssh-add -q ~/.ssh/id_ed25519
         ssh-add -l >mine; ssh -A {VM} ssh-add -l >theirs; cmp mine theirs && ssh {VM} 'ssh-add -l; test $? = 2'"
    );
    by.sh(&script).ok();
}

fn terminal(by: &By<'_>) {
    let _guard = by.world.shared();
    // The outer terminal tells its name, so that its size can be changed from outside as a window's is.
    let mut terminal = by.terminal(&format!("stty rows 40 cols 100; tty; ssh {VM}"));
    let tty = terminal.expect("\r\n").trim().to_owned();
    terminal.expect(":~$");
    terminal.send("stty size\n");
    terminal.expect("40 100\r\n");
    by.sh(&format!("stty -F {tty} rows 50 cols 132")).ok();
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

fn control_master(by: &By<'_>) {
    let _guard = by.world.shared();
    let by = by.with_config("Host *\n  ControlMaster auto\n  ControlPath ~/.ssh/%C\n  ControlPersist 60\n");
    let masters = match by.name {
        "tunnel" => vec![VM, "leeolayvar@ssh.koding.com"],
        _ => vec![VM],
    };
    let check = |host: &&str| format!("ssh -O check {host} 2>&1 | grep -o 'Master running' >&2; ");
    let exit = |host: &&str| format!("ssh -O exit {host} 2>/dev/null; ");
    let script = format!(
        "ssh {VM} true || exit 1
         for i in $(seq 20); do ssh {VM} \"echo $i\" >out.$i & done; wait
         cat out.* | sort -n
         {}{}true",
        masters.iter().map(check).collect::<String>(),
        masters.iter().map(exit).collect::<String>()
    );
    let run = by.sh(&script);
    assert_eq!(run.err, "Master running\n".repeat(masters.len()));
    assert_eq!(run.ok(), (1..=20).map(|i| format!("{i}\n")).collect::<String>());
}

fn rekey(by: &By<'_>) {
    let _guard = by.world.shared();
    // On both hops: the inner ssh reads this file too.
    let by = by.with_config("Host *\n  RekeyLimit 1M\n");
    let name = by.name;
    let script = format!(
        "set -e; head -c 12000000 /dev/urandom >up
         ssh {VM} 'cat >rekeyed-{name}; cat rekeyed-{name}; rm rekeyed-{name}' <up >down; cmp up down; rm up down"
    );
    by.sh(&script).quiet();
}

/// Nothing but the name of a VM before the gateway's, for OpenSSH and what is made of it.
fn no_configuration(world: &World) {
    let _guard = world.shared();
    let by = By::direct(world);
    let script = "set -e; rm .ssh/config; at=vm-0@ssh.koding.com
         ssh $at 'whoami; hostname'; ssh VM-0.leeolayvar@ssh.koding.com 'echo $HOME'
         echo file >file; scp -q file $at:no-config; scp -qO $at:no-config back; cmp file back
         rsync -a file $at:no-config; echo 'rm no-config' | sftp -qb - $at >/dev/null
         ssh vm-7@ssh.koding.com true 2>no || echo $?; cat no";
    assert_eq!(
        by.sh(script).quiet(),
        "leeolayvar\nvm-0\n/home/leeolayvar\n68\n\
         There is no VM vm-7.leeolayvar.kd.io that you can enter. Yours: vm-0.\n"
    );
}

/// Clients that have nothing to do with OpenSSH.
fn other_clients(world: &World) {
    let _guard = world.shared();
    let by = By::direct(world);
    fs::write(world.path(&by.home).join("clients.py"), include_str!("clients.py")).unwrap();
    let script = "set -e
         puttygen .ssh/id_ed25519 -O private -o id.ppk
         ssh-keyscan -t ed25519 ssh.koding.com >hosts 2>/dev/null
         fingerprint=$(ssh-keygen -lf hosts | cut -d' ' -f2)
         plink='plink -batch -i id.ppk -hostkey '$fingerprint
         echo typed | $plink vm-0@ssh.koding.com 'cat; echo plink >&2; exit 3' 2>&1 || echo $?
         echo file >file; pscp -q -batch -i id.ppk -hostkey $fingerprint file vm-0@ssh.koding.com:by-pscp
         dropbearconvert openssh dropbear .ssh/id_ed25519 id.dropbear 2>/dev/null
         dbclient -y -y -i id.dropbear vm-0@ssh.koding.com 'cat by-pscp; rm by-pscp; exit 4' 2>/dev/null || echo $?
         /usr/bin/python3 clients.py";
    let expected = "typed\nplink\n3\nfile\n4\nparamiko\nasyncssh\n";
    assert_eq!(by.sh(script).ok(), expected);
}

fn ssh_audit(world: &World) {
    let _guard = world.shared();
    let script = format!(
        "ssh -f -N -S audit -M -L 2299:localhost:22 {VM} 2>/dev/null
         for port in 22 2299; do
           echo port $port; ssh-audit -l warn -p $port 127.0.0.1
         done
         ssh -q -S audit -O exit {VM}"
    );
    let said = world.sh(&script).out;
    assert_eq!(said.matches("port").count(), 2, "{said}");
    // Debian 12's knows no ML-KEM and calls NTRU Prime experimental. From 3.3 on it warns of what is not safe from quantum
    // computers: OpenSSH before 9.9 has no ML-KEM, and russh no NTRU Prime, so curve25519 stays.
    let excused = ["unknown algorithm", "experimental algorithm", "quantum"];
    let found = |line: &&str| {
        ["[warn]", "[fail]"].iter().any(|word| line.contains(word))
            && !excused.iter().any(|word| line.contains(word))
    };
    assert_eq!(said.lines().filter(found).collect::<Vec<_>>(), [""; 0], "{said}");
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
