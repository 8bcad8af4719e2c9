//! The engine in memory keeps what an engine promises, and does what tests tell it.

use std::{sync::Arc, time::Duration};

use berth_engine::{Ending, Engine, EngineError, Guest, Observed, VmSpec};
use berth_model::{Secret, VmId};
use berth_testkit::{Bench, FakeEngine, Service, Verb, conformance};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::Instant,
};

fn spec() -> VmSpec {
    VmSpec { cpus: 1, memory: 1 << 28, disk: 1 << 30 }
}

fn guest() -> Guest {
    Guest {
        hostname: "vm-0".into(),
        names: vec!["vm-0.alice.koding.kd.io".into()],
        user: "alice".parse().expect("a name"),
        authorized_keys: String::new(),
        host_certificate: String::new(),
        others: vec![],
        host_key: Secret::new(String::new()),
    }
}

async fn running(engine: &FakeEngine) -> VmId {
    let vm = VmId::random();
    engine.create(&vm, &spec()).await.expect("made");
    engine.start(&vm, &spec(), &guest()).await.expect("started");
    vm
}

#[tokio::test(start_paused = true)]
async fn passes_the_suite() {
    let engine = FakeEngine::new();
    engine.delay(Verb::Start, Duration::from_secs(8));
    conformance(Bench {
        engine: Arc::new(engine.clone()),
        spec: spec(),
        guest: guest(),
        patience: Duration::from_secs(30),
        free_port: 4321,
    })
    .await;
    assert_eq!(engine.list().await.expect("listed"), [], "the suite leaves nothing behind");
}

#[tokio::test(start_paused = true)]
async fn a_reboot_cuts_connections_and_comes_back() {
    let engine = FakeEngine::new();
    let vm = running(&engine).await;
    let mut stream = engine.dial(&vm, 22).await.expect("dialled");
    engine.delay(Verb::Start, Duration::from_secs(5));
    engine.reboot(&vm);
    assert_eq!(engine.observe(&vm).await, Ok(Observed::Booting));
    let mut said = Vec::new();
    stream.read_to_end(&mut said).await.expect("the end");
    let begun = Instant::now();
    assert_eq!(engine.changed(&vm, &Observed::Booting).await, Ok(Observed::Running));
    assert_eq!(begun.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn guests_end_by_themselves() {
    let engine = FakeEngine::new();
    let vm = running(&engine).await;
    engine.power_off(&vm);
    assert_eq!(engine.observe(&vm).await, Ok(Observed::Off { ended: Some(Ending::PoweredOff) }));
    engine.start(&vm, &spec(), &guest()).await.expect("started");
    engine.crash(&vm, "its process ended");
    let reason = "its process ended".to_owned();
    assert_eq!(engine.observe(&vm).await, Ok(Observed::Off { ended: Some(Ending::Failed { reason }) }));
}

#[tokio::test(start_paused = true)]
async fn a_deaf_guest_is_killed_when_patience_ends() {
    let engine = FakeEngine::new();
    let vm = running(&engine).await;
    engine.set_deaf(true);
    let begun = Instant::now();
    engine.stop(&vm, Duration::from_secs(20)).await.expect("stopped");
    assert_eq!(begun.elapsed().as_secs(), 20);
    assert_eq!(engine.observe(&vm).await, Ok(Observed::Off { ended: Some(Ending::Killed) }));
}

#[tokio::test(start_paused = true)]
async fn a_start_that_fails_leaves_the_vm_off_with_the_reason() {
    let engine = FakeEngine::new();
    let vm = VmId::random();
    engine.create(&vm, &spec()).await.expect("made");
    let error = EngineError::StartFailed { reason: "its disk is full".into() };
    engine.fail(Verb::Start, Some(error.clone()));
    assert_eq!(engine.start(&vm, &spec(), &guest()).await, Err(error));
    let reason = "its disk is full".to_owned();
    assert_eq!(engine.observe(&vm).await, Ok(Observed::Off { ended: Some(Ending::Failed { reason }) }));
    engine.fail(Verb::Start, None);
    assert_eq!(engine.start(&vm, &spec(), &guest()).await, Ok(()));
    assert_eq!(engine.calls(Verb::Start, Some(&vm)), 2);
}

#[tokio::test(start_paused = true)]
async fn ports_answer_as_told() {
    let engine = FakeEngine::new();
    let vm = running(&engine).await;
    engine.serve(8080, Service::echo());
    engine.serve(9000, Service::silent());
    engine.serve(9001, Service::pours(100_000));
    let mut echo = engine.dial(&vm, 8080).await.expect("dialled");
    echo.write_all(b"ping").await.expect("written");
    echo.shutdown().await.expect("half closed");
    let mut said = String::new();
    echo.read_to_string(&mut said).await.expect("read");
    assert_eq!(said, "ping");
    assert_eq!(engine.dial(&vm, 9000).await.err(), Some(EngineError::TimedOut));
    let mut poured = Vec::new();
    engine.dial(&vm, 9001).await.expect("dialled").read_to_end(&mut poured).await.expect("read");
    assert_eq!(poured.len(), 100_000);
}
