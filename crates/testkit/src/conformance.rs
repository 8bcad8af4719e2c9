//! What every engine does, checked by doing it.

use std::{sync::Arc, time::Duration};

use berth_engine::{Ending, Engine, EngineError, Grown, Guest, Home, Listener, Observed, Stream, VmSpec};
use berth_model::VmId;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

/// An engine under test, and what its VMs are made of.
pub struct Bench {
    /// The engine; VMs of others in it are left alone.
    pub engine: Arc<dyn Engine>,
    /// The size of the VMs that the suite makes: at most two, of which one runs at a time.
    pub spec: VmSpec,
    /// What is put into their guests.
    pub guest: Guest,
    /// The longest that one verb may take.
    pub patience: Duration,
    /// A port from 1024 up on which nothing in the guest listens.
    pub free_port: u16,
}

/// Runs the suite: four boots, some wakes, and all that an engine promises about them. Leaves nothing behind when it passes.
///
/// # Panics
/// At the first promise that is not kept, saying which.
pub async fn conformance(bench: Bench) {
    let vm = VmId::random();
    unknown_vm(&bench, &vm).await;
    made_and_off(&bench, &vm).await;
    starts_and_is_seen(&bench, &vm).await;
    connections(&bench, &vm).await;
    keys_of_a_running_vm(&bench, &vm).await;
    what_it_uses(&bench, &vm).await;
    a_larger_disk(&bench, &vm).await;
    sleeps_and_wakes(&bench, &vm).await;
    gives_up_a_sleep(&bench, &vm).await;
    stops_and_cuts(&bench, &vm).await;
    dropped_start(&bench, &vm).await;
    neighbours(&bench, &vm).await;
    a_new_disk(&bench, &vm).await;
    removed_while_it_runs(&bench, &vm).await;
}

impl Bench {
    async fn within<T>(&self, what: &str, future: impl Future<Output = T>) -> T {
        timeout(self.patience, future)
            .await
            .unwrap_or_else(|_| panic!("{what} took over {:?}", self.patience))
    }

    async fn observe(&self, vm: &VmId) -> Observed {
        self.within("observe", self.engine.observe(vm)).await.expect("observe answers")
    }

    async fn start(&self, vm: &VmId) -> Result<(), EngineError> {
        self.within("start", self.engine.start(vm, &self.spec, &self.guest)).await
    }

    async fn stop(&self, vm: &VmId) -> Result<(), EngineError> {
        self.within("stop", self.engine.stop(vm, self.patience)).await
    }

    async fn dial(&self, vm: &VmId, port: u16) -> Result<Box<dyn Stream>, EngineError> {
        self.within("dial", self.engine.dial(vm, port)).await
    }

    async fn banner(&self, vm: &VmId) -> Box<dyn Stream> {
        let mut stream = self.dial(vm, 22).await.expect("port 22 of a running VM answers");
        let mut banner = [0; 8];
        self.within("the banner", stream.read_exact(&mut banner)).await.expect("sshd greets");
        assert_eq!(&banner, b"SSH-2.0-", "port 22 is ssh");
        stream
    }
}

async fn unknown_vm(bench: &Bench, vm: &VmId) {
    let engine = &bench.engine;
    assert_eq!(bench.observe(vm).await, Observed::Missing, "a VM that nobody made is missing");
    assert_eq!(bench.start(vm).await, Err(EngineError::Missing), "and does not start");
    assert_eq!(bench.dial(vm, 22).await.err(), Some(EngineError::Missing), "nor answer");
    assert_eq!(bench.stop(vm).await, Ok(()), "stopping it is no error");
    assert_eq!(bench.within("remove", engine.remove(vm)).await, Ok(()), "nor is removing it");
    assert!(!engine.list().await.expect("list answers").contains(vm), "and it is not listed");
}

async fn made_and_off(bench: &Bench, vm: &VmId) {
    let engine = &bench.engine;
    for time in ["made", "made again"] {
        bench.within("create", engine.create(vm, &bench.spec)).await.expect(time);
        assert_eq!(bench.observe(vm).await, Observed::Off { ended: None }, "a VM that never ran is off");
    }
    assert_eq!(engine.forget_sleep(vm).await, Ok(()), "it has no sleep to forget");
    assert!(engine.list().await.expect("list answers").contains(vm), "a VM that was made is listed");
    assert_eq!(engine.boot_log(vm).await, Ok(String::new()), "it has printed nothing");
    assert_eq!(bench.dial(vm, 22).await.err(), Some(EngineError::NotRunning), "nothing answers in it");
    assert_eq!(bench.stop(vm).await, Ok(()), "stopping it is no error");
    assert_eq!(
        engine.set_authorized_keys(vm, "", &[], "").await,
        Ok(()),
        "keys for it are no error: it takes them at its next start"
    );
    assert_eq!(
        bench.observe(vm).await,
        Observed::Off { ended: None },
        "and none of this made anything of it"
    );
}

async fn starts_and_is_seen(bench: &Bench, vm: &VmId) {
    let off = bench.observe(vm).await;
    let mut watching = bench.engine.changed(vm, &off);
    assert!(
        timeout(Duration::from_millis(50), &mut watching).await.is_err(),
        "changed waits while nothing changes"
    );
    let (started, changed) = tokio::join!(bench.start(vm), bench.within("changed", watching));
    assert_eq!(started, Ok(()), "the VM starts");
    assert_ne!(changed.expect("changed answers"), off, "and changed saw it");
    assert_eq!(bench.observe(vm).await, Observed::Running, "a start ends with a VM that runs");
    assert_eq!(bench.start(vm).await, Ok(()), "starting it again does nothing");
    assert_eq!(bench.observe(vm).await, Observed::Running, "and leaves it running");
    let log = bench.engine.boot_log(vm).await.expect("there is a log");
    assert!(!log.is_empty() && log.len() <= 64 * 1024, "the console's text is kept, {} bytes", log.len());
    assert!(!log.chars().any(|c| c.is_control() && c != '\n'), "without control characters");
}

async fn connections(bench: &Bench, vm: &VmId) {
    let mut stream = bench.banner(vm).await;
    stream.shutdown().await.expect("the sending half closes");
    let mut rest = Vec::new();
    bench.within("the end", stream.read_to_end(&mut rest)).await.expect("the other half ends by itself");

    let port = bench.free_port;
    let refused = bench.dial(vm, port).await.err();
    assert_eq!(refused, Some(EngineError::Refused { port }), "a port without a listener refuses");

    let mut many = Vec::new();
    for _ in 0..8 {
        many.push(bench.banner(vm));
    }
    for stream in many {
        drop(stream.await);
    }
    bench.banner(vm).await;
}

async fn keys_of_a_running_vm(bench: &Bench, vm: &VmId) {
    for _ in 0..2 {
        let set = bench.engine.set_authorized_keys(vm, &bench.guest.authorized_keys, &bench.guest.others, "");
        assert_eq!(bench.within("set_authorized_keys", set).await, Ok(()), "a running VM takes keys");
    }
}

async fn what_it_uses(bench: &Bench, vm: &VmId) {
    let engine = &bench.engine;
    let first = bench.within("usage", engine.usage(vm)).await.expect("a running VM tells what it uses");
    let then = bench.within("usage", engine.usage(vm)).await.expect("and tells it again");
    assert!(then.cpu >= first.cpu && then.disk >= first.disk, "what was used only grows");
    assert_eq!(bench.within("leases", engine.leases(vm)).await, Ok(vec![]), "nothing holds it awake");
    let listeners = bench.within("listeners", engine.listeners(vm)).await.expect("it tells what listens");
    assert!(listeners.contains(&Listener { port: 22, local: false }), "sshd does: {listeners:?}");
    assert_eq!(bench.within("tell", engine.tell(vm, "It's \"only\" a $(test)")).await, Ok(()), "it is told");
    assert_eq!(bench.within("tidy", engine.tidy(vm)).await, Ok(()), "it is tidied");
    let room = bench.within("room", engine.room()).await.expect("the host tells what it has");
    assert!(room.memory > 0 && room.disk_free > 0, "{room:?}");
}

async fn a_larger_disk(bench: &Bench, vm: &VmId) {
    let smaller = VmSpec { disk: bench.spec.disk / 2, ..bench.spec.clone() };
    let larger = VmSpec { disk: bench.spec.disk + (1 << 30), ..bench.spec.clone() };
    for spec in [&smaller, &larger, &larger] {
        let grown = bench.within("grow", bench.engine.grow(vm, spec)).await;
        assert_eq!(grown, Ok(Grown::Now), "a running VM has its room at once");
    }
    bench.banner(vm).await;
}

async fn sleeps_and_wakes(bench: &Bench, vm: &VmId) {
    let engine = &bench.engine;
    let asleep = Observed::Asleep { called: false };
    for _ in 0..2 {
        assert_eq!(bench.within("sleep", engine.sleep(vm)).await, Ok(()), "a running VM falls asleep, twice");
        assert_eq!(bench.observe(vm).await, asleep, "and is seen asleep");
    }
    assert!(engine.list().await.expect("list answers").contains(vm), "a sleeping VM is listed");
    assert_eq!(bench.dial(vm, 22).await.err(), Some(EngineError::NotRunning), "nothing answers in it");
    assert_eq!(bench.stop(vm).await, Err(EngineError::NotRunning), "it cannot shut down asleep");
    assert_eq!(engine.usage(vm).await.err(), Some(EngineError::NotRunning), "it uses nothing");
    assert_eq!(engine.set_authorized_keys(vm, "", &[], "").await, Ok(()), "keys for it are no error");
    assert_eq!(bench.observe(vm).await, asleep, "and none of this wakes it");
    let (woken, seen) = tokio::join!(bench.start(vm), bench.within("changed", engine.changed(vm, &asleep)));
    assert_eq!(woken, Ok(()), "a start wakes it");
    assert_ne!(seen, Ok(asleep), "and changed saw it");
    assert_eq!(bench.observe(vm).await, Observed::Running, "up to the end");
    bench.banner(vm).await;
}

async fn gives_up_a_sleep(bench: &Bench, vm: &VmId) {
    let engine = &bench.engine;
    assert_eq!(engine.forget_sleep(vm).await, Ok(()), "a VM that is awake has no sleep to forget");
    assert_eq!(bench.observe(vm).await, Observed::Running, "and runs on");
    bench.within("sleep", engine.sleep(vm)).await.expect("it sleeps again");
    assert_eq!(bench.within("forget", engine.forget_sleep(vm)).await, Ok(()), "the sleep is given up");
    assert!(matches!(bench.observe(vm).await, Observed::Off { .. }), "and it is off");
    assert_eq!(engine.sleep(vm).await, Err(EngineError::NotRunning), "from where nothing falls asleep");
    assert_eq!(bench.start(vm).await, Ok(()), "but boots");
}

async fn stops_and_cuts(bench: &Bench, vm: &VmId) {
    let mut held = bench.banner(vm).await;
    let (stopped, seen) =
        tokio::join!(bench.stop(vm), bench.within("changed", bench.engine.changed(vm, &Observed::Running)));
    assert_eq!(stopped, Ok(()), "the VM stops");
    assert_ne!(seen, Ok(Observed::Running), "and changed saw it");
    assert_eq!(bench.observe(vm).await, Observed::Off { ended: Some(Ending::Stopped) }, "as what it was");
    let mut rest = Vec::new();
    let _end_or_reset = bench.within("the end of a connection", held.read_to_end(&mut rest)).await;
    assert_eq!(bench.stop(vm).await, Ok(()), "stopping it again does nothing");
    assert_eq!(bench.dial(vm, 22).await.err(), Some(EngineError::NotRunning), "nothing answers any more");
}

async fn dropped_start(bench: &Bench, vm: &VmId) {
    let dropped = timeout(Duration::from_millis(1), bench.start(vm)).await;
    let seen = bench.observe(vm).await;
    assert!(
        matches!(seen, Observed::Off { .. } | Observed::Booting) || dropped.is_ok(),
        "a start that nobody waits for is {seen:?}"
    );
    assert_eq!(bench.start(vm).await, Ok(()), "and the next one goes on from there");
    assert_eq!(bench.observe(vm).await, Observed::Running, "up to the end");
}

async fn neighbours(bench: &Bench, vm: &VmId) {
    let other = VmId::random();
    let made = bench.within("create", bench.engine.create(&other, &bench.spec)).await;
    assert_eq!(made, Ok(()), "a second VM is made");
    let listed = bench.engine.list().await.expect("list answers");
    assert!(listed.contains(vm) && listed.contains(&other), "both are listed");
    assert_eq!(bench.stop(vm).await, Ok(()), "the first one stops");
    assert_eq!(
        bench.observe(&other).await,
        Observed::Off { ended: None },
        "which the second does not notice"
    );
    assert_eq!(bench.start(&other).await, Ok(()), "the second one starts");
    assert_eq!(
        bench.observe(vm).await,
        Observed::Off { ended: Some(Ending::Stopped) },
        "which the first does not"
    );
    bench.banner(&other).await;
    assert_eq!(bench.within("remove", bench.engine.remove(&other)).await, Ok(()), "a running VM is removed");
    assert_eq!(bench.observe(&other).await, Observed::Missing, "and gone");
}

async fn a_new_disk(bench: &Bench, vm: &VmId) {
    let (engine, spec, guest) = (&bench.engine, &bench.spec, &bench.guest);
    let off = Observed::Off { ended: None };
    let nobody = VmId::random();
    let kept = engine.rebuild(&nobody, spec, guest, Home::Keep, bench.patience).await;
    assert_eq!(kept, Err(EngineError::Missing), "there is no home to keep");
    for _ in 0..2 {
        let rebuilt = engine.rebuild(vm, spec, guest, Home::Discard, bench.patience);
        assert_eq!(bench.within("rebuild", rebuilt).await, Ok(()), "a VM gets a new disk, twice");
        assert_eq!(bench.observe(vm).await, off, "and is as one that was just made");
    }
    assert_eq!(engine.grow(vm, spec).await, Ok(Grown::AtStart), "one that is off grows at its start");
}

async fn removed_while_it_runs(bench: &Bench, vm: &VmId) {
    assert_eq!(bench.start(vm).await, Ok(()), "a VM that was stopped starts again");
    for _ in 0..2 {
        assert_eq!(bench.within("remove", bench.engine.remove(vm)).await, Ok(()), "it is removed, twice");
        assert_eq!(bench.observe(vm).await, Observed::Missing, "and gone");
    }
    assert!(!bench.engine.list().await.expect("list answers").contains(vm), "from the list too");
}
