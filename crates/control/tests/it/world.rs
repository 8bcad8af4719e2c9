//! A control with accounts, keys and VMs.

use std::{net::IpAddr, sync::Arc, time::Duration};

use berth_control::{AddedKey, Control, Entry, Login, Progress, Settings};
use berth_engine::VmSpec;
use berth_model::{AccountName, Domains, PublicKey, TeamName, VmId, VmName};
use berth_store::Store;
use berth_testkit::FakeEngine;
use ssh_key::{Algorithm, PrivateKey};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
};

pub(crate) struct World {
    pub(crate) control: Arc<Control>,
    pub(crate) engine: FakeEngine,
    pub(crate) store: Store,
    settings: Settings,
}

pub(crate) const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

pub(crate) fn settings() -> Settings {
    let domains = Domains::new("koding.com", "kd.io", team()).unwrap();
    let spec = VmSpec { cpus: 2, memory: 1 << 30, disk: 10 << 30 };
    Settings {
        stop_patience: Duration::from_secs(1),
        ..Settings::new(domains, spec, "https://koding.com".into())
    }
}

pub(crate) fn team() -> TeamName {
    "koding".parse().unwrap()
}

pub(crate) fn account(name: &str) -> AccountName {
    name.parse().unwrap()
}

pub(crate) fn vm(name: &str) -> VmName {
    name.parse().unwrap()
}

pub(crate) fn new_key() -> PublicKey {
    let key = PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).unwrap();
    PublicKey::from_ssh_key(key.public_key()).unwrap()
}

pub(crate) fn no_progress() -> mpsc::Sender<Progress> {
    mpsc::channel(1).0
}

impl World {
    /// Nobody and nothing.
    pub(crate) async fn empty() -> Self {
        Self::with(settings()).await
    }

    /// Nobody and nothing, under other settings.
    pub(crate) async fn with(settings: Settings) -> Self {
        let (engine, store) = (FakeEngine::new(), Store::in_memory(&team()).await.unwrap());
        let control = Control::open(settings.clone(), store.clone(), Arc::new(engine.clone())).await.unwrap();
        Self { control, engine, store, settings }
    }

    /// Nobody and nothing, with this store and engine.
    pub(crate) async fn over(store: Store, engine: FakeEngine) -> Self {
        let settings = settings();
        let control = Control::open(settings.clone(), store.clone(), Arc::new(engine.clone())).await.unwrap();
        Self { control, engine, store, settings }
    }

    /// alice and bob with a key and a VM each.
    pub(crate) async fn new() -> (Self, PublicKey, PublicKey) {
        Self::empty().await.peopled().await
    }

    pub(crate) async fn peopled(self) -> (Self, PublicKey, PublicKey) {
        let world = self;
        let (alices, bobs) = (new_key(), new_key());
        for (name, key) in [("alice", &alices), ("bob", &bobs)] {
            world.control.add_account(&account(name)).await.unwrap();
            world.add_key(name, &key.to_openssh()).await;
            world.control.add_vm(&account(name)).await.unwrap();
        }
        (world, alices, bobs)
    }

    /// The server ends, and another one starts with the same store and engine.
    pub(crate) async fn restart(&mut self) {
        self.control.close().await;
        self.control =
            Control::open(self.settings.clone(), self.store.clone(), Arc::new(self.engine.clone()))
                .await
                .unwrap();
    }

    pub(crate) async fn add_key(&self, name: &str, line: &str) {
        let judged = self.control.add_keys(&account(name), line, None).await.unwrap();
        assert!(matches!(judged.as_slice(), [AddedKey::Added { .. }]), "{judged:?}");
    }

    pub(crate) async fn log_in(&self, key: &PublicKey) -> Login {
        self.control.log_in(key, None, HOME).await.unwrap()
    }

    pub(crate) async fn entry(&self, key: &PublicKey, host: &str) -> Entry {
        self.control.enter(&self.log_in(key).await, host, 22).await.unwrap()
    }

    pub(crate) async fn id(&self, name: &str) -> VmId {
        self.store.vm(&vm(name)).await.unwrap().unwrap().id
    }

    /// Connects, and checks that bytes come back.
    pub(crate) async fn greet(&self, entry: &Entry) {
        let mut stream = self.control.connect(entry, no_progress()).await.unwrap();
        let mut banner = [0; 14];
        stream.read_exact(&mut banner).await.unwrap();
        assert_eq!(&banner, b"SSH-2.0-Fake\r\n");
        stream.write_all(b"ping").await.unwrap();
        let mut echo = [0; 4];
        stream.read_exact(&mut echo).await.unwrap();
        assert_eq!(&echo, b"ping");
    }
}
