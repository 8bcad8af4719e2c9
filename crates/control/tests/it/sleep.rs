//! Falling asleep, waking, and what keeps from it: the whole of control, with the time in hand.

use std::time::{Duration, SystemTime};

use berth_control::{Entry, Progress, Status, VmInfo};
use berth_engine::{Engine, EngineError, Lease, Observed, Usage};
use berth_testkit::Verb;
use tokio::{io::AsyncWriteExt, sync::mpsc};

use crate::{
    time::{Time, settings},
    world::{World, account, no_progress, vm},
};

const ALICES: &str = "vm-0.alice.koding";
const MINUTE: Duration = Duration::from_secs(60);

struct Scene {
    world: World,
    time: Time,
    entry: Entry,
}

impl Scene {
    /// alice's VM, which runs and was just connected to.
    async fn new() -> Self {
        let mut time = Time::stop();
        let (world, alices, _) = World::with(settings()).await.peopled().await;
        time.wait_for(&world.store);
        let entry = world.entry(&alices, "alice.kd.io").await;
        let scene = Self { world, time, entry };
        scene.world.greet(&scene.entry).await;
        scene.time.settle().await;
        scene
    }

    async fn info(&self) -> VmInfo {
        self.world.control.vms(Some(&account("alice"))).await.unwrap().remove(0)
    }

    async fn status(&self) -> Status {
        self.info().await.status
    }

    async fn why(&self) -> String {
        self.world.control.why(&vm(ALICES)).await.unwrap()
    }

    async fn told(&self) -> Vec<String> {
        self.world.engine.told(&self.world.id(ALICES).await)
    }

    async fn minutes(&self, count: u32) {
        self.time.pass(MINUTE * count).await;
    }

    async fn falls_asleep(&self) {
        self.minutes(21).await;
        assert_eq!(self.status().await, Status::Asleep, "{}", self.why().await);
    }
}

#[tokio::test]
async fn a_vm_that_nobody_uses_is_told_and_sleeps_and_the_next_connection_wakes_it() {
    let scene = Scene::new().await;
    scene.minutes(14).await;
    assert_eq!(scene.told().await, Vec::<String>::new());
    assert_eq!(
        scene.why().await,
        "vm-0 is awake because alice used ssh 14 min ago; unused, it goes to sleep in 6 min."
    );
    scene.minutes(2).await;
    let told = scene.told().await;
    assert!(
        matches!(told.as_slice(), [text] if text.starts_with("This VM goes to sleep in 5 minutes: nothing has happened here since ")),
        "{told:?}"
    );
    assert_eq!(scene.status().await, Status::Running);
    scene.minutes(5).await;
    assert_eq!(scene.status().await, Status::Asleep);
    assert_eq!(scene.told().await.len(), 1, "told once");
    assert_eq!(scene.world.engine.calls(Verb::Tidy, None), 1);
    let why = scene.why().await;
    assert!(
        why.contains("because nothing had happened in it for 20 min. It wakes when it is used."),
        "{why}"
    );

    let (progress, mut heard) = mpsc::channel(8);
    drop(scene.world.control.connect(&scene.entry, progress).await.unwrap());
    assert!(
        matches!(heard.recv().await, Some(Progress::Starting { was: Status::Asleep, usual: None, .. })),
        "who waits is told that it wakes"
    );
    assert!(matches!(heard.recv().await, Some(Progress::Ready { .. })));
    assert_eq!(scene.status().await, Status::Running);
}

#[tokio::test]
async fn what_is_typed_keeps_it_awake_and_an_open_connection_and_its_keepalives_do_not() {
    let scene = Scene::new().await;
    let mut shell = scene.world.control.connect(&scene.entry, no_progress()).await.unwrap();
    for pause in [7, 12, 3, 9, 11] {
        scene.minutes(pause).await;
        shell.write_all(b"ls\n").await.unwrap();
    }
    assert_eq!(scene.status().await, Status::Running, "42 minutes of typing now and then");
    for _ in 0..60 {
        scene.time.pass(Duration::from_secs(30)).await;
        if scene.status().await == Status::Asleep {
            break;
        }
        shell.write_all(&[0; 52]).await.unwrap();
    }
    assert_eq!(scene.status().await, Status::Asleep, "half an hour of keepalives: {}", scene.why().await);
    assert_eq!(scene.info().await.connections, 1, "and the connection is open");
}

#[tokio::test]
async fn a_vm_that_is_called_wakes_and_dozes() {
    let scene = Scene::new().await;
    scene.falls_asleep().await;
    let id = scene.world.id(ALICES).await;
    for _ in 0..3 {
        scene.world.engine.call(&id);
        scene.time.until("it wakes", async || scene.status().await == Status::Running).await;
        scene.time.pass(Duration::from_secs(3)).await;
        assert_eq!(scene.status().await, Status::Running, "for what it was called for");
        scene.time.pass(Duration::from_secs(5)).await;
        assert_eq!(scene.status().await, Status::Asleep, "and no longer");
    }
    assert_eq!(scene.told().await.len(), 1, "nobody is told again");
    assert_eq!(scene.world.engine.calls(Verb::Tidy, None), 1);
}

#[tokio::test]
async fn who_calls_in_the_moment_of_falling_asleep_wakes_it_each_time() {
    let scene = Scene::new().await;
    let control = &scene.world.control;
    drop(control.connect(&scene.entry, no_progress()).await.unwrap());
    scene.world.engine.set_restless(true);
    for round in 1..=3 {
        control.sleep_vm(&vm(ALICES)).await.unwrap();
        scene.time.until("it wakes", async || scene.status().await == Status::Running).await;
        assert_eq!(scene.world.engine.calls(Verb::Sleep, None), round);
    }
    scene.world.engine.set_restless(false);
    control.sleep_vm(&vm(ALICES)).await.unwrap();
    assert_eq!(scene.status().await, Status::Asleep);
}

#[tokio::test]
async fn reasons_hold_it_and_the_clock_runs_from_their_end() {
    let scene = Scene::new().await;
    let (control, name) = (&scene.world.control, vm(ALICES));

    let page = control.site_open(&account("alice"));
    let other = control.site_open(&account("bob"));
    scene.minutes(60).await;
    assert!(scene.why().await.contains("its owner has the website open"), "{}", scene.why().await);
    drop(page);
    scene.minutes(18).await;
    assert_eq!(scene.status().await, Status::Running);
    scene.minutes(3).await;
    assert_eq!(scene.status().await, Status::Asleep, "bob's page is none of alice's");
    drop(other);

    scene.world.greet(&scene.entry).await;
    control.snooze_vm(&name, MINUTE * 90).await.unwrap();
    scene.minutes(89).await;
    assert!(scene.why().await.contains("was told to stay awake until"), "{}", scene.why().await);
    scene.minutes(19).await;
    assert_eq!(scene.status().await, Status::Running);
    scene.minutes(3).await;
    assert_eq!(scene.status().await, Status::Asleep);
    assert!(control.snooze_vm(&name, Duration::from_secs(8 * 24 * 3600)).await.is_err());
}

#[tokio::test]
async fn what_the_guest_is_at_holds_it() {
    let scene = Scene::new().await;
    let id = scene.world.id(ALICES).await;
    let lease = Lease { what: "make test".into(), since: SystemTime::now(), until: None };
    scene.world.engine.set_leases(&id, vec![lease]);
    scene.minutes(60).await;
    assert!(scene.why().await.ends_with("make test."), "{}", scene.why().await);
    assert_eq!(scene.told().await, Vec::<String>::new());
    scene.world.engine.set_leases(&id, vec![]);
    scene.falls_asleep().await;

    scene.world.greet(&scene.entry).await;
    let mut cpu = Duration::ZERO;
    for _ in 0..40 {
        cpu += MINUTE / 2;
        scene.world.engine.set_usage(&id, Usage { cpu, disk: 0, memory: 0 });
        scene.minutes(1).await;
    }
    assert_eq!(scene.status().await, Status::Running, "half a CPU for 40 minutes");
    assert!(scene.why().await.contains("its programs were at work"), "{}", scene.why().await);
    scene.minutes(1).await;
    scene.falls_asleep().await;
}

#[tokio::test]
async fn a_guest_that_does_not_answer_sleeps_all_the_same() {
    let scene = Scene::new().await;
    for verb in [Verb::Leases, Verb::Tell, Verb::Tidy, Verb::Usage] {
        scene.world.engine.delay(verb, MINUTE * 60);
    }
    scene.minutes(22).await;
    assert_eq!(scene.status().await, Status::Asleep);
}

#[tokio::test]
async fn a_restart_of_the_server_does_not_begin_to_count_anew() {
    let mut scene = Scene::new().await;
    scene.minutes(12).await;
    scene.world.restart().await;
    scene.minutes(2).await;
    assert_eq!(
        scene.why().await,
        "vm-0 is awake because alice used ssh 14 min ago; unused, it goes to sleep in 6 min."
    );
    scene.minutes(7).await;
    assert_eq!(scene.status().await, Status::Asleep);
    scene.world.restart().await;
    assert_eq!(scene.status().await, Status::Asleep);
    assert!(scene.why().await.starts_with("vm-0 fell asleep"), "{}", scene.why().await);
    scene.world.greet(&scene.entry).await;
}

#[tokio::test]
async fn after_a_restart_a_vm_that_had_been_woken_is_not_taken_for_one_that_dozes() {
    let mut scene = Scene::new().await;
    scene.falls_asleep().await;
    let id = scene.world.id(ALICES).await;
    scene.world.engine.call(&id);
    scene.time.until("it wakes", async || scene.status().await == Status::Running).await;
    // What it was used for meanwhile may not have been written down when the server was killed.
    scene.world.restart().await;
    scene.minutes(4).await;
    assert_eq!(scene.status().await, Status::Running, "{}", scene.why().await);
    scene.minutes(3).await;
    assert_eq!(scene.status().await, Status::Asleep, "everyone was told again, and nobody came");
}

#[tokio::test]
async fn by_hand_it_sleeps_at_once_and_who_connects_in_that_moment_wins() {
    let scene = Scene::new().await;
    let (control, name) = (&scene.world.control, vm(ALICES));
    control.sleep_vm(&name).await.unwrap();
    assert_eq!(scene.status().await, Status::Asleep);
    assert!(scene.why().await.contains("because it was told to"), "{}", scene.why().await);
    control.sleep_vm(&name).await.unwrap();
    control.start_vm(&name, no_progress()).await.unwrap();

    scene.world.engine.fail(Verb::Sleep, Some(EngineError::InUse));
    let (refused, ()) = tokio::join!(control.sleep_vm(&name), scene.time.pass(Duration::from_secs(8)));
    let refused = refused.unwrap_err();
    assert!(refused.to_string().starts_with("Somebody is connecting to"), "{refused}");
    assert!(scene.world.engine.calls(Verb::Sleep, None) > 2, "it was tried for a while");
    assert_eq!(scene.status().await, Status::Running);
    scene.world.engine.fail(Verb::Sleep, None);

    scene.world.engine.delay(Verb::Sleep, Duration::from_secs(5));
    let before = scene.world.engine.calls(Verb::Sleep, None);
    let (slept, greeted, ()) = tokio::join!(
        control.sleep_vm(&name),
        async {
            scene
                .time
                .until("it falls asleep", async || scene.world.engine.calls(Verb::Sleep, None) > before)
                .await;
            scene.world.control.start_vm(&name, no_progress()).await
        },
        scene.time.pass(Duration::from_secs(8)),
    );
    greeted.unwrap();
    // One that is on its way to sleep is still there to be connected to, and wakes behind it.
    drop(slept);
    scene.world.greet(&scene.entry).await;

    control.stop_vm(&name).await.unwrap();
    let refused = control.sleep_vm(&name).await.unwrap_err();
    assert_eq!(refused.to_string(), format!("{ALICES} is not running, so it cannot be put to sleep."));
}

#[tokio::test]
async fn a_vm_that_cannot_fall_asleep_is_not_asked_all_the_time() {
    let scene = Scene::new().await;
    scene.world.engine.fail(Verb::Sleep, Some(EngineError::InUse));
    scene.minutes(22).await;
    let tries = scene.world.engine.calls(Verb::Sleep, None);
    assert!((10..=120).contains(&tries), "{tries} tries in two minutes");
    scene.world.engine.fail(Verb::Sleep, None);
    scene.minutes(1).await;
    assert_eq!(scene.status().await, Status::Asleep);
}

#[tokio::test]
async fn a_wake_that_fails_leaves_the_sleep_and_only_a_person_gives_it_up() {
    let scene = Scene::new().await;
    let (control, name, id) = (&scene.world.control, vm(ALICES), scene.world.id(ALICES).await);
    control.sleep_vm(&name).await.unwrap();
    let reason = "its saved memory is cut short".to_owned();
    scene.world.engine.fail(Verb::Start, Some(EngineError::WakeFailed { reason }));
    for _ in 0..2 {
        let refused = control.connect(&scene.entry, no_progress()).await.err().unwrap().to_string();
        assert!(refused.starts_with(
            "vm-0 could not be woken: its saved memory is cut short. Nothing on its disk was lost."
        ));
        assert!(matches!(scene.world.engine.observe(&id).await, Ok(Observed::Asleep { .. })));
        assert_eq!(scene.status().await, Status::Asleep);
    }
    scene.world.engine.call(&id);
    scene.minutes(5).await;
    let tries = scene.world.engine.calls(Verb::Start, Some(&id));
    assert_eq!(tries, 3, "what calls it does not try for ever");
    assert!(scene.why().await.contains("berth admin vm start --from-disk vm-0"), "{}", scene.why().await);
    scene.world.engine.fail(Verb::Start, None);
    control.boot_vm(&name, no_progress()).await.unwrap();
    assert_eq!(scene.world.engine.calls(Verb::ForgetSleep, None), 1);
    scene.world.greet(&scene.entry).await;
}

#[tokio::test]
async fn a_stop_wakes_it_first_and_keys_are_handed_over_at_a_wake() {
    let scene = Scene::new().await;
    let (control, name, id) = (&scene.world.control, vm(ALICES), scene.world.id(ALICES).await);
    control.sleep_vm(&name).await.unwrap();
    let key = crate::world::new_key();
    scene.world.add_key("alice", &key.to_openssh()).await;
    assert_eq!(control.behind_with_keys(&account("alice")), []);
    control.start_vm(&name, no_progress()).await.unwrap();
    assert!(scene.world.engine.authorized_keys(&id).unwrap().contains(&key.to_openssh()));

    control.sleep_vm(&name).await.unwrap();
    control.stop_vm(&name).await.unwrap();
    assert_eq!(scene.status().await, Status::Off);
}

#[tokio::test]
async fn a_running_guest_that_does_not_take_the_keys_is_named() {
    let scene = Scene::new().await;
    scene.world.engine.fail(Verb::SetAuthorizedKeys, Some(EngineError::TimedOut));
    scene.world.add_key("alice", &crate::world::new_key().to_openssh()).await;
    assert_eq!(scene.world.control.behind_with_keys(&account("alice")), [vm(ALICES)]);
    scene.world.engine.fail(Verb::SetAuthorizedKeys, None);
    scene.minutes(2).await;
    assert_eq!(scene.world.control.behind_with_keys(&account("alice")), []);
}

#[tokio::test]
async fn an_always_on_vm_never_sleeps_comes_back_by_itself_and_backs_off() {
    let mut scene = Scene::new().await;
    let (name, id) = (vm(ALICES), scene.world.id(ALICES).await);
    scene.world.control.set_always_on(&name, true).await.unwrap();
    scene.minutes(60).await;
    assert_eq!(scene.status().await, Status::Running);
    assert!(scene.world.control.sleep_vm(&name).await.is_err());

    scene.world.engine.power_off(&id);
    scene.time.until("it comes back", async || scene.status().await == Status::Running).await;

    scene
        .world
        .engine
        .fail(Verb::Start, Some(EngineError::StartFailed { reason: "its disk is full".into() }));
    scene.world.engine.power_off(&id);
    let before = scene.world.engine.calls(Verb::Start, Some(&id));
    scene.minutes(10).await;
    let tries = scene.world.engine.calls(Verb::Start, Some(&id)) - before;
    assert!((6..=12).contains(&tries), "{tries} tries in ten minutes: fewer and fewer");
    assert_eq!(scene.status().await, Status::Failed);
    assert!(scene.why().await.contains("is always-on and has stopped"), "{}", scene.why().await);

    scene.world.engine.fail(Verb::Start, None);
    scene.minutes(6).await;
    assert_eq!(scene.status().await, Status::Running);

    scene.world.control.stop_vm(&name).await.unwrap();
    scene.minutes(30).await;
    assert_eq!(scene.status().await, Status::Off, "a person turned it off");
    scene.world.restart().await;
    scene.minutes(1).await;
    assert_eq!(scene.status().await, Status::Off);
    scene.world.greet(&scene.entry).await;

    scene.world.control.close().await;
    scene.world.engine.power_off(&id);
    scene.world.restart().await;
    scene.time.until("it starts with the server", async || scene.status().await == Status::Running).await;

    scene.world.control.set_always_on(&name, false).await.unwrap();
    scene.falls_asleep().await;
    scene.world.control.set_always_on(&name, true).await.unwrap();
    scene.time.until("it wakes", async || scene.status().await == Status::Running).await;
}

#[tokio::test]
async fn a_forked_vm_is_new_and_asleep_and_wakes_at_its_first_use() {
    let time = Time::stop();
    let world = World::with(settings()).await;
    world.engine.set_forks(true);
    let (world, alices, _) = world.peopled().await;
    time.until("forks are prepared", async || world.engine.calls(Verb::Prepare, None) == 1).await;
    let entry = world.entry(&alices, "alice.kd.io").await;
    world.greet(&entry).await;
    assert!(world.engine.guest(&world.id(ALICES).await).is_some());
}

#[tokio::test]
async fn its_identification_is_kept_for_the_next_who_has_to_wait() {
    let scene = Scene::new().await;
    let control = &scene.world.control;
    assert_eq!(control.identification(&scene.entry).await, None);
    for none in ["OpenSSH", "SSH-2.0-\u{1b}[2J", &format!("SSH-2.0-{}", "x".repeat(260))] {
        control.note_identification(&scene.entry, none).await;
        assert_eq!(control.identification(&scene.entry).await, None);
    }
    control.note_identification(&scene.entry, "SSH-2.0-OpenSSH_10.0p2 Debian-7").await;
    assert_eq!(
        control.identification(&scene.entry).await.as_deref(),
        Some("SSH-2.0-OpenSSH_10.0p2 Debian-7")
    );
}

#[tokio::test]
async fn what_a_vm_uses_is_kept_for_an_hour_and_not_while_it_sleeps() {
    let scene = Scene::new().await;
    let (id, name) = (scene.world.id(ALICES).await, vm(ALICES));
    let usage =
        |seconds: u64| Usage { cpu: Duration::from_secs(seconds), disk: 1000 * seconds, memory: 5 << 20 };
    for minute in 1..=5 {
        scene.world.engine.set_usage(&id, usage(60 * minute));
        scene.minutes(1).await;
    }
    let samples = scene.world.control.history(&name).unwrap();
    assert!((4..=7).contains(&samples.len()), "{samples:?}");
    assert_eq!(samples.first().unwrap().cpu, None);
    let last = samples.last().unwrap();
    assert!((last.cpu.unwrap() - 0.5).abs() < 0.05, "one of two CPUs: {last:?}");
    assert!((last.disk.unwrap() - 1000.0).abs() < 100.0 && last.memory == 5 << 20, "{last:?}");

    scene.world.engine.set_usage(&id, Usage::default());
    scene.falls_asleep().await;
    let asleep = scene.world.control.history(&name).unwrap();
    scene.minutes(10).await;
    assert_eq!(scene.world.control.history(&name).unwrap(), asleep, "nothing is known of a VM that sleeps");
    scene.minutes(60).await;
    assert_eq!(scene.world.control.history(&name).unwrap(), []);
}
