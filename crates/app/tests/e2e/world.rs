//! The namespace, the server in it, and the person who uses it.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Mutex, OnceLock, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tempfile::TempDir;

use crate::{
    run::{Run, run, wait_for},
    terminal::Terminal,
};

/// The tutorial's file, to the letter.
pub(crate) const CONFIG: &str =
    "Host *.kd.io\n  User leeolayvar\n  ProxyCommand ssh %r@ssh.koding.com nc %h %p\n";
/// What the small world begins with, below `[host]`.
pub(crate) const SMALL: &str = "memory = \"2 GiB\"\n[idle]\nsleep_after = \"never\"\n";
/// The VM that most tests share.
pub(crate) const VM: &str = "vm-0.leeolayvar.koding.kd.io";

/// The worlds of a run, each made when it is first needed.
#[derive(Default)]
pub(crate) struct Worlds {
    main: OnceLock<World>,
    small: OnceLock<World>,
}

impl Worlds {
    /// With the configuration of the tutorial, shared by most tests.
    pub(crate) fn main(&self) -> &World {
        self.main.get_or_init(World::new)
    }

    /// With memory for two VMs, and a policy that each test sets; they have it one at a time.
    pub(crate) fn small(&self) -> &World {
        let templates = self.main().path("state/templates");
        self.small.get_or_init(|| World::small(&templates))
    }

    /// Those that were made.
    pub(crate) fn all(&self) -> impl Iterator<Item = &World> {
        self.main.get().into_iter().chain(self.small.get())
    }
}

/// A namespace with a server; both end with it.
pub(crate) struct World {
    folder: TempDir,
    /// On a tmpfs, for the memory of VMs.
    memory: TempDir,
    namespace: String,
    server: Mutex<Option<Child>>,
    plugs: RwLock<()>,
    homes: AtomicU32,
}

impl World {
    /// The tutorial's account with a key and a VM, and a neighbour.
    fn new() -> Self {
        let world = Self::empty("");
        world.write_config("");
        world.start_server();
        // From here on VMs are forked.
        wait_for("there is something to fork", Duration::from_secs(300), || world.has_template());
        for (account, home) in [("leeolayvar", "home"), ("mallory", "mallory")] {
            world.add_member(account, home);
        }
        world.admin(&["vm", "start", VM]).ok();
        world
    }

    /// The tutorial's account with a key and a VM, which is asleep.
    fn small(templates: &Path) -> Self {
        let world = Self::empty("-small");
        world.write_config(SMALL);
        fs::create_dir(world.path("state")).unwrap();
        run(&[
            "cp",
            "-a",
            "--sparse=always",
            templates.to_str().unwrap(),
            world.path("state").to_str().unwrap(),
        ]);
        world.start_server();
        world.add_member("leeolayvar", "home");
        world
    }

    fn empty(suffix: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("berth-e2e-").tempdir().expect("a folder in /tmp");
        let memory = tempfile::Builder::new().prefix("berth-e2e-").tempdir_in("/dev/shm").expect("a tmpfs");
        let world = Self {
            folder,
            memory,
            namespace: format!("berth-e2e-{}{suffix}", std::process::id()),
            server: Mutex::default(),
            plugs: RwLock::default(),
            homes: AtomicU32::new(0),
        };
        world.make_namespace();
        world
    }

    fn has_template(&self) -> bool {
        let entries = fs::read_dir(self.path("state/templates")).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name()).any(|name| {
            let name = name.to_string_lossy();
            !name.starts_with('.') && !name.starts_with("building-")
        })
    }

    /// An account with a key, and a VM that has never run.
    fn add_member(&self, account: &str, home: &str) {
        self.new_home(home);
        self.admin(&["account", "add", account]).ok();
        let public = self.path(&format!("{home}/.ssh/id_ed25519.pub"));
        self.admin(&["key", "add", account, public.to_str().unwrap()]).ok();
        let name = self.admin(&["vm", "add", account]).ok();
        assert_eq!(name.trim(), format!("vm-0.{account}.koding.kd.io"));
        fs::copy(self.path("state/known_hosts"), self.path(&format!("{home}/.ssh/known_hosts"))).unwrap();
    }

    /// One more VM of the tutorial's account, whose host key its owner's ssh knows.
    pub(crate) fn new_vm(&self) -> String {
        let name = self.admin(&["vm", "add", "leeolayvar"]).ok();
        let name = name.trim();
        let known = self.path("state/known_hosts");
        let learn = format!(
            "ssh-keygen -R {name} >/dev/null 2>&1; grep {name} {} >>.ssh/known_hosts",
            known.display()
        );
        self.sh(&learn).ok();
        name.to_owned()
    }

    /// To be held by a test that minds if a plug is pulled.
    pub(crate) fn shared(&self) -> RwLockReadGuard<'_, ()> {
        self.plugs.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// To be held by a test that pulls one.
    pub(crate) fn alone(&self) -> RwLockWriteGuard<'_, ()> {
        self.plugs.write().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// A path in the world's folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Where the memory of VMs is.
    pub(crate) fn memory_dir(&self) -> &Path {
        self.memory.path()
    }

    /// Bytes of memory that VMs have on this host.
    pub(crate) fn memory(&self) -> u64 {
        let all = run(&["du", "-sB1", "--exclude=.*", self.memory.path().to_str().unwrap()]);
        all.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// Asks the database.
    pub(crate) fn sql(&self, statement: &str) -> String {
        let script = "import sqlite3, sys; db = sqlite3.connect(sys.argv[1]); print(*[r[0] for r in db.execute(sys.argv[2])], sep='\\n'); db.commit()";
        run(&["python3", "-c", script, self.path("state/berth.db").to_str().unwrap(), statement])
    }

    /// The id of a VM of the tutorial's account.
    pub(crate) fn id_of(&self, number: u32) -> String {
        let statement = format!(
            "SELECT id FROM vms WHERE owner = 'leeolayvar' AND number = {number} AND removed_at IS NULL"
        );
        self.sql(&statement).trim().to_owned()
    }

    /// The person of the tutorial types this into a shell.
    pub(crate) fn sh(&self, script: &str) -> Run {
        self.sh_at("home", script)
    }

    /// Somebody else does.
    pub(crate) fn sh_at(&self, home: &str, script: &str) -> Run {
        let mut command = self.command(home, &["timeout", "-k", "5", "300", "bash", "-c", script]);
        Run::from(command.stdin(Stdio::null()).output().expect("ip netns exec runs"))
    }

    /// The person of the tutorial, at a terminal.
    pub(crate) fn terminal(&self, script: &str) -> Terminal {
        self.terminal_at("home", script)
    }

    /// Somebody else, at a terminal.
    pub(crate) fn terminal_at(&self, home: &str, script: &str) -> Terminal {
        Terminal::new(self.command(home, &["script", "-qefc", script, "/dev/null"]))
    }

    /// A new folder that can be somebody's home: the tutorial's config, a new key, and a passwd that says so beside it.
    /// Gives its name.
    pub(crate) fn new_home(&self, name: &str) -> String {
        let ssh = self.path(name).join(".ssh");
        if !ssh.exists() {
            fs::create_dir_all(&ssh).unwrap();
            fs::set_permissions(&ssh, fs::Permissions::from_mode(0o700)).unwrap();
            fs::write(ssh.join("config"), CONFIG.replace("leeolayvar", account_of(name))).unwrap();
            let key = ssh.join("id_ed25519");
            run(&["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", key.to_str().unwrap()]);
            let passwd = fs::read_to_string("/etc/passwd").expect("/etc/passwd is text");
            let root = format!("root:x:0:0:root:{}:/bin/bash\n", self.path(name).display());
            let others = passwd.split_inclusive('\n').filter(|line| !line.starts_with("root:"));
            let passwd: String = [root.as_str()].into_iter().chain(others).collect();
            fs::write(self.path(name).with_extension("passwd"), passwd).unwrap();
        }
        name.to_owned()
    }

    /// A home of the tutorial's account that nobody else uses, whose only key is made by `ssh-keygen` with these
    /// arguments and is on the account.
    pub(crate) fn home_with_key(&self, ssh_keygen: &[&str]) -> String {
        let name = format!("home-{}", self.homes.fetch_add(1, Ordering::Relaxed));
        self.new_home(&name);
        let ssh = self.path(&name).join(".ssh");
        for old in ["id_ed25519", "id_ed25519.pub"] {
            fs::remove_file(ssh.join(old)).unwrap();
        }
        let key = ssh.join("id_test");
        let mut words = vec!["ssh-keygen", "-q", "-f", key.to_str().unwrap()];
        words.extend(ssh_keygen);
        run(&words);
        // A key with a name that OpenSSH tries by itself.
        let public = fs::read_to_string(ssh.join("id_test.pub")).unwrap();
        let kind = match public.split(' ').next().unwrap() {
            "ssh-rsa" => "id_rsa",
            "ssh-ed25519" => "id_ed25519",
            _ => "id_ecdsa",
        };
        fs::rename(ssh.join("id_test"), ssh.join(kind)).unwrap();
        fs::rename(ssh.join("id_test.pub"), ssh.join(kind).with_extension("pub")).unwrap();
        fs::copy(self.path("state/known_hosts"), ssh.join("known_hosts")).unwrap();
        let public = ssh.join(kind).with_extension("pub");
        self.admin(&["key", "add", "leeolayvar", "--name", &name, public.to_str().unwrap()]).ok();
        name
    }

    /// `berth admin …`
    pub(crate) fn admin(&self, words: &[&str]) -> Run {
        self.berth(&[&["admin"], words].concat())
    }

    /// `berth …`
    pub(crate) fn berth(&self, words: &[&str]) -> Run {
        let mut command = Command::new(env!("CARGO_BIN_EXE_berth"));
        command.args(words).arg("--config").arg(self.path("berth.toml")).stdin(Stdio::null());
        Run::from(command.output().expect("berth runs"))
    }

    /// What `admin vm list` says of a VM of the tutorial's account: `running`, `off`, …
    pub(crate) fn status(&self, vm: &str) -> String {
        let list = self.admin(&["vm", "list", "--json"]).ok();
        let list: serde_json::Value = serde_json::from_str(&list).unwrap();
        let vms = list
            .as_array()
            .or_else(|| list.get("vms").and_then(|vms| vms.as_array()))
            .expect("a list of VMs");
        let found =
            vms.iter().find(|info| info["host"] == vm).unwrap_or_else(|| panic!("{vm} is not in {list}"));
        found["status"].as_str().unwrap().to_owned()
    }

    /// Waits until [`World::status`] is `wanted`.
    pub(crate) fn until(&self, vm: &str, wanted: &str) {
        wait_for(&format!("{vm} is {wanted}"), Duration::from_secs(120), || self.status(vm) == wanted);
    }

    /// What `admin vm why` says.
    pub(crate) fn why(&self, vm: &str) -> String {
        self.admin(&["vm", "why", vm]).ok()
    }

    /// Starts the server again with other lines in its configuration.
    pub(crate) fn configure(&self, lines: &str) {
        self.kill_server();
        self.write_config(lines);
        self.start_server();
    }

    /// Starts `berth serve` in the namespace and waits until it answers.
    pub(crate) fn start_server(&self) {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.path("serve.log")).unwrap();
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace, env!("CARGO_BIN_EXE_berth"), "serve", "--config"]);
        command
            .arg(self.path("berth.toml"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        *self.server.lock().unwrap() = Some(command.spawn().expect("ip netns exec runs"));
        wait_for("the server answers", Duration::from_secs(60), || {
            self.admin(&["account", "list"]).code == Some(0)
        });
    }

    /// The server's process, for a test that ends it and starts another one.
    pub(crate) fn take_server(&self) -> Child {
        self.server.lock().unwrap().take().expect("the server runs")
    }

    /// Ends the server as a crash would.
    pub(crate) fn kill_server(&self) {
        let mut server = self.server.lock().unwrap().take().expect("the server runs");
        // `ip netns exec` has become the server: the pid is the server's own.
        server.kill().unwrap();
        server.wait().unwrap();
    }

    /// Runs a script that ends the server.
    pub(crate) fn sh_that_ends_the_server(&self, script: &str) -> Run {
        let mut server = self.server.lock().unwrap().take().expect("the server runs");
        let pid = server.id();
        // Until somebody has waited for it, a process is still there.
        let waiting = std::thread::spawn(move || server.wait());
        let said = self.sh(script);
        if said.code != Some(0) {
            let _ = Command::new("kill").arg(pid.to_string()).status();
        }
        waiting.join().unwrap().unwrap();
        said
    }

    /// For the log of a failed run.
    pub(crate) fn print_log(&self) {
        let log = fs::read_to_string(self.path("serve.log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        eprintln!("--- the end of the server's log");
        for line in lines.iter().skip(lines.len().saturating_sub(60)) {
            eprintln!("{line}");
        }
    }

    /// The namespace as seen by `command`, with the folder `home` as root's home, where it begins. OpenSSH asks passwd for
    /// it and not $HOME, so a passwd that says so is in the place of the host's; nothing else of the host is hidden.
    pub(crate) fn command(&self, home: &str, words: &[&str]) -> Command {
        let home = self.path(home);
        let enter = r#"mount --bind "$1" /etc/passwd && cd "$HOME" && shift && exec "$@""#;
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace, "sh", "-c", enter, "sh"]);
        command.arg(home.with_extension("passwd")).args(words);
        command.env("HOME", home).env_remove("SSH_AUTH_SOCK").env("TERM", "xterm").env("LC_ALL", "C.UTF-8");
        command
    }

    fn make_namespace(&self) {
        let ns = &self.namespace;
        let hosts = Path::new("/etc/netns").join(ns);
        fs::create_dir_all(&hosts).expect("root, for a network namespace");
        fs::write(hosts.join("hosts"), "127.0.0.1 localhost ssh.koding.com koding.com\n::1 localhost\n")
            .unwrap();
        run(&["ip", "netns", "add", ns]);
        run(&["ip", "-n", ns, "link", "set", "lo", "up"]);
        // A way out that leads nowhere, so that the VMs have what they would have on a host with a network.
        run(&["ip", "-n", ns, "link", "add", "out0", "type", "veth", "peer", "out1"]);
        run(&["ip", "-n", ns, "addr", "add", "198.51.100.2/24", "dev", "out0"]);
        run(&["ip", "-n", ns, "link", "set", "out0", "up"]);
        run(&["ip", "-n", ns, "link", "set", "out1", "up"]);
        run(&["ip", "-n", ns, "route", "add", "default", "via", "198.51.100.1"]);
    }

    fn write_config(&self, more: &str) {
        let images = std::env::var("BERTH_IMAGE_DIR").map_or_else(
            |_| PathBuf::from(std::env::var("HOME").expect("$HOME")).join(".cache/berth/images"),
            PathBuf::from,
        );
        let text = format!(
            "app_domain = \"koding.com\"\nvm_domain = \"kd.io\"\nteam = \"koding\"\nstate_dir = {:?}\nimage_dir = {:?}\n\
             [ssh]\nlisten = [\"127.0.0.1:22\"]\n[http]\nlisten = [\"127.0.0.1:80\"]\n\
             [host]\nmemory_dir = {:?}\n{more}",
            self.path("state"),
            images,
            self.memory.path(),
        );
        fs::write(self.path("berth.toml"), text).unwrap();
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for account in ["leeolayvar", "mallory", "carol"] {
            self.admin(&["account", "remove", account, "--yes"]);
        }
        if let Some(mut server) = self.server.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take()
        {
            let _ = Command::new("kill").arg(server.id().to_string()).status();
            let _ = server.wait();
        }
        let _ = Command::new("ip").args(["netns", "del", &self.namespace]).status();
        let _ = fs::remove_dir_all(Path::new("/etc/netns").join(&self.namespace));
    }
}

fn account_of(home: &str) -> &str {
    if home.starts_with("home") { "leeolayvar" } else { home }
}
