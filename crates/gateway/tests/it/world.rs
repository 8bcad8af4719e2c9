//! A gateway on loopback with accounts, VMs in memory, and a client that is alice's.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use berth_control::{Control, RecordingLimits, RecordingSettings, Settings};
use berth_engine::{Engine, VmSpec};
use berth_gateway::{Gateway, GatewaySettings, HostKey};
use berth_model::{AccountName, Domains, VmId};
use berth_store::Store;
use berth_testkit::{FakeEngine, OpenSsh, Output, Service};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

pub(crate) const VM: &str = "vm-0.alice.koding.kd.io";
/// Echoes.
pub(crate) const ECHO: &str = "8080";

pub(crate) struct World {
    pub(crate) control: Arc<Control>,
    pub(crate) engine: FakeEngine,
    /// alice's client. Her key is in `id`, added to her account.
    pub(crate) ssh: OpenSsh,
    pub(crate) gateway: SocketAddr,
    pub(crate) shutdown: CancellationToken,
    pub(crate) serving: JoinHandle<()>,
}

pub(crate) fn account(name: &str) -> AccountName {
    name.parse().unwrap()
}

impl World {
    /// alice and bob with a VM each, both off, and port 8080 that echoes.
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut GatewaySettings)) -> Self {
        Self::made(|_| {}, change).await
    }

    /// The same on a host that has memory for one VM at a time.
    pub(crate) async fn with_room_for_one() -> Self {
        Self::made(|settings| settings.memory = Some(settings.vm.memory), |_| {}).await
    }

    /// The same, whose sessions are recorded into this folder, as long as they are not large.
    pub(crate) async fn recording(folder: &Path) -> Self {
        let limits = RecordingLimits { each: 64 << 10, all: 1 << 20 };
        let recording = RecordingSettings { folder: folder.to_owned(), limits, sessions: true };
        Self::made(|settings| settings.recording = Some(recording), |_| {}).await
    }

    async fn made(
        change: impl FnOnce(&mut Settings),
        change_limits: impl FnOnce(&mut GatewaySettings),
    ) -> Self {
        crate::told::keep_the_log();
        let team = "koding".parse().unwrap();
        let (engine, store) = (FakeEngine::new(), Store::in_memory(&team).await.unwrap());
        engine.serve(8080, Service::echo());
        let domains = Domains::new("koding.com", "kd.io", team).unwrap();
        let vm = VmSpec { cpus: 1, memory: 1 << 28, disk: 1 << 30 };
        let mut settings = Settings::new(domains, vm, "https://koding.com".into());
        settings.stop_patience = Duration::from_secs(1);
        change(&mut settings);
        let control = Control::open(settings, store, Arc::new(engine.clone())).await.unwrap();
        let ssh = OpenSsh::new();
        for name in ["alice", "bob"] {
            control.add_account(&account(name)).await.unwrap();
            control.add_vm(&account(name)).await.unwrap();
        }
        let key = ssh.new_key("id", &["-t", "ed25519"]).await;
        control.add_keys(&account("alice"), &key, None).await.unwrap();

        let host_key = HostKey::load_or_create(&ssh.file("gateway_key")).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let gateway = listener.local_addr().unwrap();
        ssh.add_known_host("gateway", &host_key.public_line());
        ssh.add_config(&format!(
            "Host gateway\n  HostName 127.0.0.1\n  HostKeyAlias gateway\n  Port {}\n  User alice\n  IdentityFile {}\n",
            gateway.port(),
            ssh.file("id").display()
        ));
        let mut limits = GatewaySettings::new("ssh.koding.com", 22);
        change_limits(&mut limits);
        let shutdown = CancellationToken::new();
        let serving = Gateway::serve(control.clone(), vec![listener], host_key, limits, shutdown.clone());
        #[expect(clippy::disallowed_methods, reason = "its handle is kept and ends with the test's runtime")]
        let serving = tokio::spawn(serving);
        Self { control, engine, ssh, gateway, shutdown, serving }
    }

    /// The same, with alice's VM running.
    pub(crate) async fn awake() -> Self {
        let world = Self::new().await;
        world.wake().await;
        world
    }

    pub(crate) async fn wake(&self) {
        let (progress, _nobody) = tokio::sync::mpsc::channel(1);
        self.control.start_vm(&"vm-0.alice.koding".parse().unwrap(), progress).await.unwrap();
    }

    /// alice's VM, if it is the only one of which the engine has a disk.
    pub(crate) async fn vm_id(&self) -> VmId {
        *self.engine.list().await.unwrap().first().unwrap()
    }

    /// `ssh gateway …` with alice's key.
    pub(crate) async fn ssh(&self, args: &[&str], stdin: &[u8]) -> Output {
        self.ssh.run("ssh", args, stdin).await
    }
}

/// Waits until `holds`, for ten seconds at most.
pub(crate) async fn eventually(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..1000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not in ten seconds: {what}");
}

/// What is told, with `N` for each number of seconds: how many there were is the machine's business.
pub(crate) fn without_times(told: &str) -> String {
    let words = told.split_inclusive(' ').map(|word| {
        let is_number = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit() || c == '.');
        let (number, rest) = word.split_at(word.trim_end().len());
        if is_number(number) { format!("N{rest}") } else { word.to_owned() }
    });
    words.collect()
}

/// Bytes without a pattern that a mistake could keep.
pub(crate) fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(next).flatten().take(len).collect()
}
