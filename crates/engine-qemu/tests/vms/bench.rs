//! A state folder, engines on it, a member's keys and ssh, and a look at the host's processes.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use berth_engine::{Engine, EngineError, Guest, Observed, VmSpec};
use berth_engine_qemu::{QemuConfig, QemuEngine, image};
use berth_model::{Secret, VmId};
use berth_testkit::{OpenSsh, Output};
use tokio::{
    net::TcpListener,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

/// Longer than any boot or shutdown takes on a host that is busy with other tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);

/// What one test has. VMs that it leaves are ended when it goes.
pub(crate) struct Bench {
    pub(crate) engine: Arc<QemuEngine>,
    pub(crate) state: tempfile::TempDir,
    /// Where the memory of VMs is; it goes with the test.
    pub(crate) memory: tempfile::TempDir,
    pub(crate) ssh: OpenSsh,
    pub(crate) guest: Guest,
    pub(crate) spec: VmSpec,
    images: PathBuf,
}

/// Where images are for tests.
pub(crate) fn image_dir() -> PathBuf {
    let dir = std::env::var_os("BERTH_IMAGE_DIR").map(PathBuf::from).unwrap_or_else(|| {
        PathBuf::from(std::env::var_os("HOME").expect("HOME or BERTH_IMAGE_DIR is set"))
            .join(".cache/berth/images")
    });
    let found = image::find_latest(&dir).expect("the images can be listed");
    assert!(found.is_some(), "there is no image in {}: make one with `berth image build`", dir.display());
    dir
}

impl Bench {
    pub(crate) async fn new(images: PathBuf) -> Self {
        let state = tempfile::Builder::new().prefix("berth").tempdir().expect("a temporary folder");
        let ssh = OpenSsh::new();
        let member = ssh.new_key("member", &["-t", "ed25519"]).await;
        let host = ssh.new_key("host", &["-t", "ed25519"]).await;
        ssh.add_known_host("vm", &host);
        ssh.add_config("Host vm\n  HostName 127.0.0.1\n  HostKeyAlias vm\n  User alice\n  BatchMode yes\n");
        let guest = Guest {
            hostname: "vm-0".to_owned(),
            names: vec!["vm-0.alice.koding.kd.io".to_owned()],
            user: "alice".parse().expect("a name"),
            authorized_keys: member,
            others: vec![],
            host_key: Secret::new(fs::read_to_string(ssh.file("host")).expect("the key is made")),
            host_certificate: String::new(),
        };
        let spec = VmSpec { cpus: 2, memory: 768 << 20, disk: image::DISK_SIZE };
        let memory = tempfile::Builder::new().prefix("berth").tempdir_in("/dev/shm").expect("a tmpfs");
        let engine = Arc::new(engine(state.path(), memory.path(), images.clone(), &[]));
        Self { engine, state, memory, ssh, guest, spec, images }
    }

    /// Another engine on the same state, as after a restart of the server.
    pub(crate) fn another_engine(&self) -> QemuEngine {
        engine(self.state.path(), self.memory.path(), self.images.clone(), &[])
    }

    /// An engine whose shims are started with these words.
    pub(crate) fn engine_with(&self, words: &[&str]) -> QemuEngine {
        engine(self.state.path(), self.memory.path(), self.images.clone(), words)
    }

    pub(crate) async fn start(&self, vm: &VmId) {
        let started = Instant::now();
        let result = timeout(PATIENCE, self.engine.start(vm, &self.spec, &self.guest))
            .await
            .expect("it starts in time");
        if let Err(error) = result {
            panic!(
                "{error:?}\n{}\n{}",
                self.shim_log(vm),
                self.engine.boot_log(vm).await.unwrap_or_default()
            );
        }
        println!("  started in {:.1?}", started.elapsed());
    }

    /// Puts the VM to sleep, once nobody is connecting to it any more; tells how long that took without the waiting.
    pub(crate) async fn sleep(&self, vm: &VmId) -> Duration {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let began = Instant::now();
            match self.engine.sleep(vm).await {
                Err(EngineError::InUse) if Instant::now() < deadline => sleep(Duration::from_millis(5)).await,
                Ok(()) => return began.elapsed(),
                Err(error) => panic!("{error:?}\n{}", self.shim_log(vm)),
            }
        }
    }

    /// Wakes a VM that sleeps.
    pub(crate) async fn wake(&self, vm: &VmId) {
        assert!(matches!(self.engine.observe(vm).await, Ok(Observed::Asleep { .. })));
        if let Err(error) = self.engine.start(vm, &self.spec, &self.guest).await {
            panic!("{error:?}\n{}", self.shim_log(vm));
        }
    }

    /// Waits until the VM is seen as `wanted`.
    pub(crate) async fn becomes(&self, vm: &VmId, wanted: &Observed) {
        let wait = async {
            let mut seen = self.engine.observe(vm).await.expect("observe answers");
            while seen != *wanted {
                seen = self.engine.changed(vm, &seen).await.expect("changed answers");
            }
        };
        if timeout(PATIENCE, wait).await.is_err() {
            panic!(
                "it does not become {wanted:?} but is {:?}\n{}",
                self.engine.observe(vm).await,
                self.shim_log(vm)
            );
        }
    }

    pub(crate) fn shim_log(&self, vm: &VmId) -> String {
        fs::read_to_string(self.state.path().join(format!("vms/{vm}/shim.log"))).unwrap_or_default()
    }

    /// Runs a command in the VM with the key in the file `key`.
    pub(crate) async fn run(&self, vm: &VmId, key: &str, command: &str) -> Output {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("it is bound").port().to_string();
        let (engine, vm) = (Arc::clone(&self.engine), *vm);
        let mut bridge = JoinSet::new();
        bridge.spawn(async move {
            let (mut client, _) = listener.accept().await.expect("ssh connects");
            let mut stream = engine.dial(&vm, 22).await.expect("the VM answers");
            drop(tokio::io::copy_bidirectional(&mut client, &mut stream).await);
        });
        let key = self.ssh.file(key);
        let key = key.to_str().expect("a plain name");
        self.ssh.run("ssh", &["-p", &port, "-i", key, "vm", command], b"").await
    }

    /// What a command that has to succeed prints.
    pub(crate) async fn prints(&self, vm: &VmId, command: &str) -> String {
        let output = self.run(vm, "member", command).await;
        assert_eq!(output.status, Some(0), "{command}: {}", output.stderr);
        String::from_utf8(output.stdout).expect("text").trim_end().to_owned()
    }
}

fn engine(state: &Path, memory: &Path, images: PathBuf, words: &[&str]) -> QemuEngine {
    let this = std::env::current_exe().expect("this program has a path");
    let mut shim = vec![this.into_os_string(), "vm-shim".into()];
    shim.extend(words.iter().map(Into::into));
    let mut config = QemuConfig::new(state.to_owned(), images, shim);
    config.memory_dir = memory.to_owned();
    QemuEngine::new(config).expect("the state folder can be used")
}

impl Drop for Bench {
    /// After a failure: nothing keeps running.
    fn drop(&mut self) {
        for entry in fs::read_dir(self.state.path().join("vms")).into_iter().flatten().flatten() {
            for pid in shims(&entry.file_name().to_string_lossy()) {
                kill(pid);
            }
        }
    }
}

/// The processes of VMs whose command line has `word` and, in its first words, a name that `is` accepts.
fn processes(word: &str, is: impl Fn(&[&str]) -> bool) -> Vec<i32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("there is /proc").flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        let Ok(line) = fs::read(entry.path().join("cmdline")) else { continue };
        let line = String::from_utf8_lossy(&line);
        let words: Vec<&str> = line.split('\0').collect();
        if line.contains(word) && is(&words) {
            found.push(pid);
        }
    }
    found
}

/// The shims of a VM.
pub(crate) fn shims(vm: &str) -> Vec<i32> {
    processes(vm, |words| words.get(1).is_some_and(|second| *second == "vm-shim"))
}

/// The QEMUs of a VM.
pub(crate) fn qemus(vm: &str) -> Vec<i32> {
    processes(vm, |words| words.first().is_some_and(|first| first.contains("qemu-system")))
}

pub(crate) fn kill(pid: i32) {
    if let Some(pid) = rustix::process::Pid::from_raw(pid) {
        let _gone_already = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}

/// Waits a moment for `condition`.
pub(crate) async fn soon(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        sleep(Duration::from_millis(50)).await;
    }
}
