//! A server is replaced by another one, and nobody is disconnected or refused.

use std::{
    io::{BufRead, BufReader},
    net::TcpStream,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread::{scope, sleep},
    time::{Duration, Instant},
};

use crate::world::{Server, World, command};

const PATIENCE: Duration = Duration::from_secs(60);

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "{what}");
        sleep(Duration::from_millis(20));
    }
}

/// A server that is no child of the test's, which ends with it.
struct Pid(u32);

impl Pid {
    fn terminate(&self) {
        let _ = command("kill").args(["-TERM", &self.0.to_string()]).status();
    }
}

impl Drop for Pid {
    fn drop(&mut self) {
        let _ = command("kill").args(["-KILL", &self.0.to_string()]).stderr(Stdio::null()).status();
    }
}

fn upgrade(world: &World) -> Pid {
    let told = world.json("admin upgrade");
    let serves = told["serves"].as_u64().unwrap_or_else(|| panic!("{told}"));
    let status = std::fs::read_to_string(format!("/proc/{serves}/status")).unwrap();
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim().parse();
    assert_ne!(parent, Ok(told["left"].as_u64().unwrap()), "init sees it end, whoever has started it");
    Pid(serves.try_into().unwrap())
}

/// Who holds the state folder.
fn holder(world: &World) -> u32 {
    std::fs::read_to_string(world.state().join("lock")).unwrap().trim().parse().unwrap()
}

/// ssh to the gateway, by a connection that stays open.
struct Master<'a> {
    world: &'a World,
    address: (String, String),
    child: Child,
    key: PathBuf,
}

impl<'a> Master<'a> {
    fn open(world: &'a World, server: &Server<'_>, key: PathBuf) -> Self {
        let address = server.address("ssh");
        let (host, port) = address.rsplit_once(':').unwrap();
        let address = (host.to_owned(), port.to_owned());
        let mut child = ssh(world, &address, &key).args(["-M", "-N", "alice@127.0.0.1"]).spawn().unwrap();
        until("the connection is open", || {
            assert!(child.try_wait().unwrap().is_none(), "ssh ended");
            ssh(world, &address, &key)
                .args(["-O", "check", "alice@127.0.0.1"])
                .stderr(Stdio::null())
                .status()
                .unwrap()
                .success()
        });
        Self { world, address, child, key }
    }

    /// What the lobby says to a command that goes through this connection.
    fn asks(&self, words: &str) -> (bool, String) {
        let asked =
            ssh(self.world, &self.address, &self.key).args(["alice@127.0.0.1", words]).output().unwrap();
        let said = [asked.stdout, asked.stderr].concat();
        (asked.status.success(), String::from_utf8(said).unwrap())
    }

    fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }
}

impl Drop for Master<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ssh(world: &World, (host, port): &(String, String), key: &std::path::Path) -> Command {
    let mut ssh = command("ssh");
    ssh.args(["-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "LogLevel=ERROR"])
        .args(["-o", "UserKnownHostsFile=/dev/null", "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none"])
        .args(["-o", &format!("HostName={host}"), "-p", port])
        .args(["-S", world.path("master").to_str().unwrap(), "-i", key.to_str().unwrap()]);
    ssh
}

/// A world with alice, whose key this is.
fn with_alice(world: &World) -> PathBuf {
    let key = world.key_pair("id");
    world.run("admin account add alice").ok();
    world.run("admin key add alice --name laptop id.pub").ok();
    key
}

/// Comes again and again, and minds if nobody is there.
fn comes_until(address: &str, over: &AtomicBool, times: &AtomicU32) {
    while !over.load(Ordering::Relaxed) {
        let stream = TcpStream::connect(address).expect("somebody listens");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        assert!(line.starts_with("SSH-2.0-"), "{line:?}");
        times.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn nobody_is_refused_or_disconnected_and_a_removed_key_ends_what_it_opened() {
    let world = World::new();
    let mut server = world.serve();
    let key = with_alice(&world);
    let mut master = Master::open(&world, &server, key);
    let (address, old) = (server.address("ssh"), server.pid());
    let (over, times) = (AtomicBool::new(false), AtomicU32::new(0));
    let new = scope(|scope| {
        scope.spawn(|| comes_until(&address, &over, &times));
        let new = upgrade(&world);
        let by_then = times.load(Ordering::Relaxed);
        until("somebody comes to the new one", || times.load(Ordering::Relaxed) > by_then + 2);
        over.store(true, Ordering::Relaxed);
        new
    });
    assert_ne!(new.0, old);
    assert_eq!(holder(&world), new.0);
    let told = world.run("serve").refused();
    assert!(told.contains(&format!("process {}", new.0)), "the state folder is the new one's: {told}");
    // The connection from before goes on, and is the old server's, which changes nothing.
    let (done, said) = master.asks("vms");
    assert!(done, "{said}");
    let (done, said) = master.asks("new");
    assert!(!done && said.contains("is being replaced by a newer one"), "{said}");
    assert!(!server.has_ended());
    // What the new one decides holds for it.
    world.run("admin account add bob").ok();
    assert!(master.asks("vms").0, "it is not ended by what has nothing to do with it");
    world.run("admin key remove alice laptop").ok();
    until("the connection by the key ends", || master.has_ended());
    until("the old server ends with its last connection", || server.has_ended());
    assert!(world.run("admin account list").ok().contains("bob"));
    new.terminate();
    until("the new one ends", || world.run("admin account list").status != 0);
}

#[test]
fn blocked_accounts_are_out_and_a_second_upgrade_is_like_the_first() {
    let world = World::new();
    let mut server = world.serve();
    let key = with_alice(&world);
    let mut master = Master::open(&world, &server, key);
    let second = upgrade(&world);
    let third = upgrade(&world);
    assert_eq!(holder(&world), third.0);
    assert!(master.asks("vms").0 && !master.has_ended(), "who is connected by the first is so still");
    world.run("admin account block alice").ok();
    until("the connection ends", || master.has_ended());
    until("the first ends", || server.has_ended());
    until("the second ends after it", || !PathBuf::from(format!("/proc/{}/exe", second.0)).exists());
}

#[test]
fn what_is_stopped_is_stopped_with_all_that_is_left_of_it() {
    let world = World::new();
    let mut server = world.serve();
    let key = with_alice(&world);
    let mut master = Master::open(&world, &server, key);
    let new = upgrade(&world);
    assert!(!server.has_ended());
    new.terminate();
    until("the connection ends", || master.has_ended());
    until("the old server ends", || server.has_ended());
}

/// Servers that are about to take this world's over.
fn successors(world: &World) -> usize {
    let folder = world.path("").to_str().unwrap().trim_end_matches('/').to_owned();
    let is_one = |process: &std::path::Path| {
        let read = |name| std::fs::read(process.join(name)).unwrap_or_default();
        let has = |name, what: &str| String::from_utf8_lossy(&read(name)).contains(what);
        has("cmdline", "--take-over") && has("environ", &folder)
    };
    std::fs::read_dir("/proc").unwrap().flatten().filter(|entry| is_one(&entry.path())).count()
}

#[test]
fn a_server_is_stopped_in_the_middle_of_an_upgrade() {
    let world = World::new();
    let server = world.serve();
    // The new one waits for somebody to write its configuration.
    let sound = std::fs::read_to_string(world.path("berth.toml")).unwrap();
    let other = world.write("sound.toml", &sound);
    std::fs::remove_file(world.path("berth.toml")).unwrap();
    assert!(command("mkfifo").arg(world.path("berth.toml")).status().unwrap().success());
    let mut asked = world.command("admin upgrade");
    let mut asked = asked.env("BERTH_CONFIG", other).stderr(Stdio::null()).spawn().unwrap();
    until("the new one is there", || successors(&world) == 1);
    let log = world.path("server.log");
    assert_eq!(server.terminate().0, 0);
    until("the new one goes too", || successors(&world) == 0);
    assert!(!asked.wait().unwrap().success());
    let log = std::fs::read_to_string(log).unwrap();
    assert!(!log.contains("was not replaced"), "it did not wait for the new one to fail: {log}");
}

#[test]
fn one_that_does_not_come_up_changes_nothing() {
    let world = World::new();
    let server = world.serve();
    let key = with_alice(&world);
    let master = Master::open(&world, &server, key);
    let (address, sound) =
        (server.address("ssh"), std::fs::read_to_string(world.path("berth.toml")).unwrap());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let busy =
        format!("[ssh]\nlisten = ['{}']\n[http]\nlisten = ['127.0.0.1:0']\n", taken.local_addr().unwrap());
    for (config, why) in [("nonsense = 1\n", "nonsense"), (busy.as_str(), "is in use")] {
        world.write("berth.toml", config);
        let mut asked = world.command("admin upgrade");
        // Whoever asks has a sound configuration; the server reads its own.
        let other = world.write("sound.toml", &sound);
        let asked = asked.env("BERTH_CONFIG", other).output().unwrap();
        let told = String::from_utf8(asked.stderr).unwrap();
        assert!(told.starts_with("The new server did not start: ") && told.contains(why), "{told}");
        world.write("berth.toml", &sound);
        assert_eq!(holder(&world), server.pid());
        assert!(master.asks("vms").0);
        let (over, times) = (AtomicBool::new(false), AtomicU32::new(0));
        scope(|scope| {
            scope.spawn(|| comes_until(&address, &over, &times));
            until("it lets people in", || times.load(Ordering::Relaxed) > 2);
            over.store(true, Ordering::Relaxed);
        });
        world.run("admin account list").ok();
    }
    assert_eq!(server.terminate().0, 0);
}
