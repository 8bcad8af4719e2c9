//! Time that passes only when a test says so.

use std::{sync::mpsc, time::Duration};

use berth_control::{Clock, IdleRules, Settings};
use berth_engine::VmSpec;
use berth_model::Domains;
use berth_store::Store;

use crate::world::team;

/// Stops tokio's clock for one test. Unlike with `start_paused` it does not run ahead while the database's threads are
/// at work: a blocking task keeps it from that.
pub(crate) struct Time {
    store: Option<Store>,
    _ends_the_task: mpsc::Sender<()>,
}

impl Time {
    pub(crate) fn stop() -> Self {
        tokio::time::pause();
        let (end, ended) = mpsc::channel::<()>();
        tokio::task::spawn_blocking(move || ended.recv());
        Self { store: None, _ends_the_task: end }
    }

    /// From now on no time passes while this database is at work.
    pub(crate) fn wait_for(&mut self, store: &Store) {
        self.store = Some(store.clone());
    }

    /// Lets this much time pass, a second at a time, and what follows from it happen.
    pub(crate) async fn pass(&self, time: Duration) {
        self.settle().await;
        for _ in 0..time.as_secs() {
            tokio::time::advance(Duration::from_secs(1)).await;
            self.settle().await;
        }
    }

    /// Lets everything happen that needs no time. The database in memory has one connection, so its answer to a last
    /// question comes after all others.
    pub(crate) async fn settle(&self) {
        for _ in 0..3 {
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            if let Some(store) = &self.store {
                store.account_exists(&"alice".parse().unwrap()).await.unwrap();
            }
        }
    }

    /// Lets what was begun happen until `holds`.
    pub(crate) async fn until<F: Future<Output = bool>>(&self, what: &str, holds: impl Fn() -> F) {
        for _ in 0..2000 {
            if holds().await {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        panic!("this never happened: {what}");
    }
}

/// Settings whose clock is the stopped one.
pub(crate) fn settings() -> Settings {
    let domains = Domains::new("koding.com", "kd.io", team()).unwrap();
    let spec = VmSpec { cpus: 2, memory: 1 << 30, disk: 10 << 30 };
    Settings {
        clock: Clock::of_the_test(),
        idle: IdleRules::default(),
        stop_patience: Duration::from_secs(1),
        ..Settings::new(domains, spec, "https://koding.com".into())
    }
}
