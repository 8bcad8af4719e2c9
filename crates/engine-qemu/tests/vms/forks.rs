//! VMs that are forked from one guest: quick to get, and nobody's copy.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use berth_engine::{Engine, Guest, Observed};
use berth_model::{Secret, VmId};
use berth_testkit::Output;
use tokio::{
    net::TcpListener,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::{
    bench::{Bench, PATIENCE, image_dir},
    rebuild,
};

/// What `keepawake`, the terminals and the journal take to be seen.
const SOON: Duration = Duration::from_secs(60);

pub(crate) async fn forks() {
    let bench = Bench::new(image_dir()).await;
    a_template_is_made_once(&bench).await;
    let (one, two) = (VmId::random(), VmId::random());
    let others = somebody_else(&bench).await;
    a_fork_is_quick(&bench, &one).await;
    fork(&bench, &two, &others).await;
    they_share_nothing(&bench, &one, &two, &others).await;
    a_journal_of_its_own(&bench, &one).await;
    leases_are_told(&bench, &one).await;
    a_line_on_every_terminal(&bench, &one).await;
    a_fresh_vm_asleep_is_small(&bench, &one).await;
    a_fork_that_boots_is_nobody_s_copy_either(&bench, &two).await;
    for vm in [one, two] {
        bench.engine.remove(&vm).await.expect("it is removed");
    }
    rebuild::rebuilds(&bench).await;
    assert_eq!(bench.engine.list().await, Ok(vec![]), "a template is no VM");
}

async fn a_template_is_made_once(bench: &Bench) {
    println!(" a template");
    let started = Instant::now();
    let made = timeout(PATIENCE, bench.engine.prepare(&bench.spec)).await.expect("it is made in time");
    if let Err(error) = made {
        panic!("{error:?}");
    }
    println!("  made in {:.1?}", started.elapsed());
    let again = Instant::now();
    bench.another_engine().prepare(&bench.spec).await.expect("it is there");
    assert!(again.elapsed() < Duration::from_secs(20), "nothing is made again: {:?}", again.elapsed());
    assert_eq!(bench.engine.list().await, Ok(vec![]), "it is no VM");
    assert_eq!(fs::read_dir(bench.state.path().join("run")).expect("a folder").count(), 0, "nothing runs");
    println!("  {} MB on the disk", allocated(&bench.state.path().join("templates")) >> 20);
}

async fn a_fork_is_quick(bench: &Bench, vm: &VmId) {
    println!(" a fork");
    let started = Instant::now();
    bench.engine.create(vm, &bench.spec).await.expect("it is made");
    println!("  created in {:.2?}", started.elapsed());
    assert_eq!(bench.engine.observe(vm).await, Ok(Observed::Asleep { called: false }));
    bench.start(vm).await;
    println!("  from create to running {:.2?}", started.elapsed());
    let shell = ssh(bench, vm, &["-tt"], "alice", "vm", "", b"echo $((40 + 2)); exit\n").await;
    println!("  from create to the end of the first shell {:.2?}", started.elapsed());
    assert!(String::from_utf8_lossy(&shell.stdout).contains("\n42\r\n"), "{shell:?}");
    let seen =
        bench.prints(vm, "whoami; hostname; pwd; hostname -f; sudo -n id -u; cat Web/index.html").await;
    let expected = "alice\nvm-0\n/home/alice\nvm-0.alice.koding.kd.io\n0\n<!doctype html>";
    assert!(seen.starts_with(expected) && seen.contains("Hello from vm-0.alice.koding.kd.io"), "{seen}");
    assert_eq!(bench.prints(vm, "stat -c '%a %U' ~ ~/Web; ls /home").await, "711 alice\n755 alice\nalice");
}

/// Another account, with a VM of its own.
async fn somebody_else(bench: &Bench) -> Guest {
    let host = bench.ssh.new_key("host-of-bob", &["-t", "ed25519"]).await;
    bench.ssh.add_known_host("vm-of-bob", &host);
    Guest {
        hostname: "vm-3".to_owned(),
        names: vec!["vm-3.bob.koding.kd.io".to_owned()],
        user: "bob".parse().expect("a name"),
        authorized_keys: bench.guest.authorized_keys.clone(),
        others: vec![],
        host_key: Secret::new(fs::read_to_string(bench.ssh.file("host-of-bob")).expect("the key is made")),
        host_certificate: String::new(),
    }
}

async fn fork(bench: &Bench, vm: &VmId, guest: &Guest) {
    bench.engine.create(vm, &bench.spec).await.expect("it is made");
    let started = timeout(PATIENCE, bench.engine.start(vm, &bench.spec, guest)).await.expect("in time");
    started.unwrap_or_else(|error| panic!("{error:?}\n{}", bench.shim_log(vm)));
}

async fn ssh(
    bench: &Bench,
    vm: &VmId,
    options: &[&str],
    user: &str,
    host: &str,
    command: &str,
    input: &[u8],
) -> Output {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("it is bound").port().to_string();
    let (engine, vm) = (Arc::clone(&bench.engine), *vm);
    let mut bridge = JoinSet::new();
    bridge.spawn(async move {
        let (mut client, _) = listener.accept().await.expect("ssh connects");
        let mut stream = engine.dial(&vm, 22).await.expect("the VM answers");
        drop(tokio::io::copy_bidirectional(&mut client, &mut stream).await);
    });
    let (user, host) = (format!("User={user}"), format!("HostKeyAlias={host}"));
    let key = bench.ssh.file("member");
    let key = key.to_str().expect("a plain name");
    let mut words = vec!["-p", &port, "-i", key, "-o", &user, "-o", &host];
    words.extend_from_slice(options);
    words.push("vm");
    if !command.is_empty() {
        words.push(command);
    }
    bench.ssh.run("ssh", &words, input).await
}

/// What must be a guest's own, one thing a line.
const DRAWS: &str = "cat /etc/machine-id /proc/sys/kernel/random/uuid; sudo sha256sum /var/lib/systemd/random-seed; \
    cut -d ' ' -f 2 /etc/ssh/ssh_host_ed25519_key.pub; sudo sha256sum /etc/ssh/ssh_host_ed25519_key; \
    for i in 1 2 3 4; do head -c 16 /dev/urandom | sha256sum; done; \
    python3 -c 'import os, secrets; print(os.getrandom(16).hex()); print(secrets.token_hex())'; \
    sudo busctl call org.freedesktop.systemd1 / org.freedesktop.DBus.Peer GetMachineId";

async fn they_share_nothing(bench: &Bench, one: &VmId, two: &VmId, others: &Guest) {
    println!(" two of them");
    let draw = async |vm: &VmId, user: &str, host: &str| {
        let drawn = ssh(bench, vm, &[], user, host, DRAWS, b"").await;
        assert_eq!(drawn.status, Some(0), "{}", drawn.stderr);
        String::from_utf8(drawn.stdout).expect("text").lines().map(str::to_owned).collect::<Vec<_>>()
    };
    // ssh itself has compared the host keys with those that each was given.
    let (first, second) = tokio::join!(draw(one, "alice", "vm"), draw(two, "bob", "vm-of-bob"));
    assert_eq!((first.len(), second.len()), (12, 12), "{first:?} {second:?}");
    let all: BTreeSet<_> = first.iter().chain(&second).collect();
    assert_eq!(all.len(), first.len() + second.len(), "{first:?} {second:?}");
    let (Some(id), Some(told)) = (first.first(), first.last()) else { unreachable!("there are twelve") };
    assert!(id.len() == 32 && *told == format!("s \"{id}\""), "systemd knows it: {first:?}");
    let names =
        ssh(bench, two, &[], "bob", "vm-of-bob", "whoami; hostname; hostname -f; ls /home", b"").await;
    assert_eq!(names.stdout, b"bob\nvm-3\nvm-3.bob.koding.kd.io\nbob\n", "{names:?}");
    assert_ne!(ssh(bench, two, &[], "alice", "vm-of-bob", "true", b"").await.status, Some(0));
    assert_eq!(others.user.as_str(), "bob");
    for vm in [(one, "alice", "vm"), (two, "bob", "vm-of-bob")] {
        let clock = ssh(bench, vm.0, &[], vm.1, vm.2, "date +%s.%N", b"").await;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time").as_secs_f64();
        let said: f64 = String::from_utf8_lossy(&clock.stdout).trim().parse().expect("a time");
        assert!((now - said).abs() < 2.0, "its clock is {:.1} s off", now - said);
    }
}

async fn a_journal_of_its_own(bench: &Bench, vm: &VmId) {
    println!(" its journal");
    let look = "ls -d /var/log/journal/* /run/log/journal/* 2>/dev/null; true";
    let wanted = format!("/var/log/journal/{}", bench.prints(vm, "cat /etc/machine-id").await);
    let deadline = Instant::now() + SOON;
    while bench.prints(vm, look).await != wanted {
        assert!(Instant::now() < deadline, "{}", bench.prints(vm, look).await);
        sleep(Duration::from_secs(1)).await;
    }
    assert!(!bench.prints(vm, "sudo journalctl -q -n 1 -o cat").await.is_empty(), "it is written to");
}

async fn leases_are_told(bench: &Bench, vm: &VmId) {
    println!(" leases");
    assert_eq!(bench.engine.leases(vm).await, Ok(vec![]));
    let begun = "(keepawake sleep 1000 </dev/null >/dev/null 2>&1 & echo $! >/tmp/pid); keepawake 2h; keepawake --list";
    let said = bench.prints(vm, begun).await;
    assert!(
        said.contains("This VM stays awake until ") && said.contains("keepawake 2h (alice, since "),
        "{said}"
    );
    let told = bench.engine.leases(vm).await.expect("the guest answers");
    let now = SystemTime::now();
    for lease in &told {
        assert!(now.duration_since(lease.since).unwrap_or_default() < SOON, "{lease:?}");
    }
    let mut whats: Vec<_> = told.iter().map(|lease| (lease.what.as_str(), lease.until.is_some())).collect();
    whats.sort_unstable();
    assert_eq!(whats, [("keepawake 2h", true), ("sleep 1000", false)]);
    bench.prints(vm, "kill -9 $(cat /tmp/pid); keepawake --release").await;
    assert_eq!(bench.engine.leases(vm).await, Ok(vec![]), "nothing is left to watch for");
}

async fn a_line_on_every_terminal(bench: &Bench, vm: &VmId) {
    println!(" a line on terminals");
    let listening = async {
        // The second terminal is stopped, as by Ctrl-S.
        let both = "script -qc 'stty -echo; echo here; sleep 20' /dev/null & \
            script -qc 'echo there; python3 -c \"import termios; termios.tcflow(1, termios.TCOOFF)\"; sleep 20' /dev/null; wait";
        String::from_utf8_lossy(&ssh(bench, vm, &["-tt"], "alice", "vm", both, b"").await.stdout).into_owned()
    };
    let telling = async {
        let deadline = Instant::now() + SOON;
        // Three terminals: ssh's own and the two in it.
        while bench.prints(vm, "find /dev/pts -user alice -name '[0-9]*' | wc -l").await != "3" {
            assert!(Instant::now() < deadline, "the terminals are there");
            sleep(Duration::from_millis(200)).await;
        }
        sleep(Duration::from_secs(2)).await;
        let started = Instant::now();
        bench.engine.tell(vm, "This VM goes to sleep\u{1b}[2J in 5 minutes.").await.expect("it is told");
        println!("  told in {:.2?}", started.elapsed());
        assert!(started.elapsed() < Duration::from_secs(5), "a stopped terminal holds nobody up");
    };
    let (seen, ()) = tokio::join!(listening, telling);
    let lines = seen.matches("This VM goes to sleep[2J in 5 minutes.").count();
    assert!(lines >= 2, "{seen:?}");
}

async fn a_fresh_vm_asleep_is_small(bench: &Bench, vm: &VmId) {
    println!(" asleep");
    let started = Instant::now();
    bench.engine.tidy(vm).await.expect("it tidies up");
    println!("  tidied in {:.1?}", started.elapsed());
    println!("  asleep in {:.3?}", bench.sleep(vm).await);
    let kept = bench.state.path().join(format!("vms/{vm}/sleep"));
    let deadline = Instant::now() + SOON;
    while !kept.join("asleep.json").exists() {
        assert!(Instant::now() < deadline, "it is copied to the disk");
        sleep(Duration::from_millis(50)).await;
    }
    let megabytes = allocated(&kept) >> 20;
    println!("  {megabytes} MB on the disk");
    assert!(megabytes <= 150, "{megabytes} MB");
    let started = Instant::now();
    bench.wake(vm).await;
    assert_eq!(bench.prints(vm, "hostname").await, "vm-0");
    println!("  ssh after that in {:.2?}", started.elapsed());
}

async fn a_fork_that_boots_is_nobody_s_copy_either(bench: &Bench, other: &VmId) {
    println!(" a fork that never woke");
    let vm = VmId::random();
    bench.engine.create(&vm, &bench.spec).await.expect("it is made");
    bench.engine.forget_sleep(&vm).await.expect("its sleep is given up");
    bench.start(&vm).await;
    let own = bench.prints(&vm, "cat /etc/machine-id; hostname; whoami").await;
    let id = ssh(bench, other, &[], "bob", "vm-of-bob", "cat /etc/machine-id", b"").await;
    assert!(own.ends_with("\nvm-0\nalice") && own.len() == 32 + 11, "{own}");
    assert_ne!(own.as_bytes().get(..32), id.stdout.get(..32));
    bench.engine.remove(&vm).await.expect("it is removed");
}

fn allocated(dir: &Path) -> u64 {
    let mut bytes = 0;
    let mut dirs: Vec<PathBuf> = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).expect("a folder").flatten() {
            let found = entry.metadata().expect("it is there");
            if found.is_dir() {
                dirs.push(entry.path());
            }
            bytes += found.blocks() * 512;
        }
    }
    bytes
}
