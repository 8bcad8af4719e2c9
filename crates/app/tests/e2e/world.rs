//! The namespace, the server in it, and the person who uses it.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{
        Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU32, Ordering},
    },
    thread::sleep,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::terminal::Terminal;

/// The tutorial's file, to the letter.
pub(crate) const CONFIG: &str =
    "Host *.kd.io\n  User leeolayvar\n  ProxyCommand ssh %r@ssh.koding.com nc %h %p\n";
/// The VM that most tests share.
pub(crate) const VM: &str = "vm-0.leeolayvar.koding.kd.io";

/// A namespace with a server; both end with it.
pub(crate) struct World {
    folder: TempDir,
    namespace: String,
    server: Mutex<Option<Child>>,
    plugs: RwLock<()>,
    homes: AtomicU32,
}

/// What a command gave.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Run {
    /// That it succeeded and had nothing to complain of; gives what it printed.
    #[track_caller]
    pub(crate) fn quiet(self) -> String {
        assert!(self.code == Some(0) && self.err.is_empty(), "{self:#?}");
        self.out
    }

    /// That it succeeded; gives what it printed.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:#?}");
        self.out
    }

    /// That it failed; gives what it complained of.
    #[track_caller]
    pub(crate) fn fails(self) -> String {
        assert!(self.code.is_some_and(|code| code != 0), "{self:#?}");
        self.err
    }
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl World {
    /// Makes the namespace, starts the server, makes the tutorial's account with a key and a VM, and a neighbour.
    pub(crate) fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("berth-e2e-").tempdir().expect("a folder in /tmp");
        let namespace = format!("berth-e2e-{}", std::process::id());
        let world = Self {
            folder,
            namespace,
            server: Mutex::default(),
            plugs: RwLock::default(),
            homes: AtomicU32::new(0),
        };
        world.make_namespace();
        world.write_config();
        world.start_server();
        world.new_home("home");
        for (account, key) in [("leeolayvar", "home"), ("mallory", "mallory")] {
            world.new_home(key);
            world.admin(&["account", "add", account]).ok();
            let public = world.path(&format!("{key}/.ssh/id_ed25519.pub"));
            world.admin(&["key", "add", account, public.to_str().unwrap()]).ok();
            let name = world.admin(&["vm", "add", account]).ok();
            assert_eq!(name.trim(), format!("vm-0.{account}.koding.kd.io"));
        }
        world.admin(&["vm", "start", VM]).ok();
        fs::copy(world.path("state/known_hosts"), world.path("home/.ssh/known_hosts")).unwrap();
        fs::copy(world.path("state/known_hosts"), world.path("mallory/.ssh/known_hosts")).unwrap();
        world
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

    /// A new folder that can be somebody's home: the tutorial's config, a new key. Gives its name.
    pub(crate) fn new_home(&self, name: &str) -> String {
        let ssh = self.path(name).join(".ssh");
        if !ssh.exists() {
            fs::create_dir_all(&ssh).unwrap();
            fs::set_permissions(&ssh, fs::Permissions::from_mode(0o700)).unwrap();
            fs::write(ssh.join("config"), CONFIG.replace("leeolayvar", account_of(name))).unwrap();
            let key = ssh.join("id_ed25519");
            run(&["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", key.to_str().unwrap()]);
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

    /// Ends the server as a crash would.
    pub(crate) fn kill_server(&self) {
        let mut server = self.server.lock().unwrap().take().expect("the server runs");
        // `ip netns exec` has become the server: the pid is the server's own.
        server.kill().unwrap();
        server.wait().unwrap();
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

    /// The namespace as seen by `command`, with the folder `home` in the place of root's home: OpenSSH asks passwd, not
    /// $HOME.
    fn command(&self, home: &str, words: &[&str]) -> Command {
        let enter = r#"mount --bind "$1" /root && cd /root && shift && exec "$@""#;
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace, "sh", "-c", enter, "sh"]);
        command.arg(self.path(home)).args(words);
        command
            .env("HOME", "/root")
            .env_remove("SSH_AUTH_SOCK")
            .env("TERM", "xterm")
            .env("LC_ALL", "C.UTF-8");
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

    fn write_config(&self) {
        let images = std::env::var("BERTH_IMAGE_DIR").map_or_else(
            |_| PathBuf::from(std::env::var("HOME").expect("$HOME")).join(".cache/berth/images"),
            PathBuf::from,
        );
        let text = format!(
            "app_domain = \"koding.com\"\nvm_domain = \"kd.io\"\nteam = \"koding\"\nstate_dir = {:?}\nimage_dir = {:?}\n\
             [ssh]\nlisten = [\"127.0.0.1:22\"]\n[http]\nlisten = [\"127.0.0.1:80\"]\n",
            self.path("state"),
            images,
        );
        fs::write(self.path("berth.toml"), text).unwrap();
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let list = self.admin(&["vm", "list", "--json"]);
        for vm in
            list.out.split('"').filter(|word| word.ends_with(".koding.kd.io") && word.starts_with("vm-"))
        {
            self.admin(&["vm", "stop", vm]);
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

/// Runs a command that has to succeed.
#[track_caller]
pub(crate) fn run(words: &[&str]) -> String {
    let (program, arguments) = words.split_first().expect("a command");
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    Run::from(output.unwrap_or_else(|error| panic!("{program}: {error}"))).ok()
}

/// Waits until `done`, with the patience that an emulated machine takes.
#[track_caller]
pub(crate) fn wait_for(what: &str, patience: Duration, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < patience, "waited {patience:?} in vain until {what}");
        sleep(Duration::from_millis(100));
    }
}
