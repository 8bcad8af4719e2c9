//! `kill -9` of the shim and of QEMU at every step of a VM's life: no disk and no sleep is lost, no VM runs twice, and it
//! starts again.
//!
//! The VM is put to sleep once. Then, for every step, what it is made of is laid out anew and something is done whose shim
//! kills itself or its QEMU at that step: a wake is quick, and a boot is not.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use berth_engine::{Ending, Engine, EngineError, Observed};
use berth_engine_qemu::{
    QemuEngine,
    shim::fault::{self, Victim},
};
use berth_model::VmId;
use tokio::time::timeout;

use crate::bench::{Bench, PATIENCE, qemus, shims, soon};

const FAULT: &str = "fault";

/// What is left of the VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    /// Whole, and it wakes.
    Asleep,
    /// Off, as after a power failure.
    Off,
    /// One of both: what was quicker decides.
    Either,
}

/// What is done while the kill comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Wake,
    /// It is woken first.
    Sleep,
    Stop,
    Remove,
    Boot,
    /// A wake of a copy that belongs to nobody yet.
    Fork,
}

const CASES: &[(Verb, &str, Victim, Left)] = &[
    (Verb::Wake, "wake:started", Victim::Shim, Left::Asleep),
    (Verb::Wake, "wake:started", Victim::Qemu, Left::Asleep),
    (Verb::Wake, "wake:restored", Victim::Shim, Left::Asleep),
    (Verb::Wake, "wake:loaded", Victim::Shim, Left::Asleep),
    (Verb::Wake, "wake:loaded", Victim::Qemu, Left::Either),
    (Verb::Wake, "wake:ended", Victim::Shim, Left::Off),
    (Verb::Wake, "wake:ended", Victim::Qemu, Left::Either),
    (Verb::Wake, "wake:resumed", Victim::Shim, Left::Off),
    (Verb::Wake, "wake:resumed", Victim::Qemu, Left::Off),
    (Verb::Fork, "wake:ended", Victim::Shim, Left::Off),
    (Verb::Fork, "fork:begun", Victim::Shim, Left::Off),
    (Verb::Fork, "fork:given", Victim::Qemu, Left::Off),
    (Verb::Fork, "up:given", Victim::Shim, Left::Off),
    (Verb::Sleep, "sleep:asked", Victim::Shim, Left::Off),
    (Verb::Sleep, "sleep:stopped", Victim::Shim, Left::Off),
    (Verb::Sleep, "sleep:stopped", Victim::Qemu, Left::Off),
    (Verb::Sleep, "sleep:saved", Victim::Shim, Left::Off),
    (Verb::Sleep, "sleep:saved", Victim::Qemu, Left::Either),
    (Verb::Sleep, "sleep:recorded", Victim::Shim, Left::Asleep),
    (Verb::Sleep, "sleep:recorded", Victim::Qemu, Left::Asleep),
    (Verb::Sleep, "end:plug", Victim::Shim, Left::Asleep),
    (Verb::Sleep, "settle:begun", Victim::Shim, Left::Asleep),
    (Verb::Sleep, "settle:copied", Victim::Shim, Left::Asleep),
    (Verb::Sleep, "settle:synced", Victim::Shim, Left::Asleep),
    (Verb::Sleep, "settle:renamed", Victim::Shim, Left::Asleep),
    (Verb::Sleep, "settle:half freed", Victim::Shim, Left::Asleep),
    (Verb::Sleep, "leave", Victim::Shim, Left::Asleep),
    (Verb::Stop, "stop:asked", Victim::Shim, Left::Off),
    (Verb::Stop, "stop:asked", Victim::Qemu, Left::Off),
    (Verb::Stop, "end:gone", Victim::Shim, Left::Off),
    (Verb::Remove, "end:plug", Victim::Shim, Left::Off),
    (Verb::Boot, "boot:owned", Victim::Shim, Left::Off),
    (Verb::Boot, "boot:started", Victim::Shim, Left::Off),
    (Verb::Boot, "boot:started", Victim::Qemu, Left::Off),
];

/// In a shim: what the words that its engine was given ask for.
pub(crate) fn arm(arguments: &mut std::iter::Peekable<impl Iterator<Item = OsString>>) {
    arguments.next();
    if arguments.next_if(|word| word == FAULT).is_none() {
        return;
    }
    let mut word = || arguments.next().and_then(|word| word.into_string().ok()).expect("a step and a victim");
    let (step, victim) = (word(), word());
    fault::arm(&step, if victim == "qemu" { Victim::Qemu } else { Victim::Shim });
}

/// The VM runs, and is gone in the end.
pub(crate) async fn kills(bench: &Bench, vm: &VmId) {
    bench.sleep_for_good(vm).await;
    let model = Model::of(bench, vm);
    let watch = Watch::over(vm);
    for (verb, step, victim, left) in CASES {
        println!(" {verb:?}: {victim:?} at {step}");
        model.lay_out();
        if *verb == Verb::Fork {
            model.change_record(|record| record.replace("\"fork\":false", "\"fork\":true"));
        }
        let victim = format!("{victim:?}").to_lowercase();
        let engine = bench.engine_with(&[FAULT, step, &victim]);
        perform(bench, &engine, vm, *verb).await;
        is_left(bench, vm, *left, &format!("{verb:?}, {victim} at {step}")).await;
    }
    a_wake_that_fails_leaves_the_sleep(bench, vm, &model).await;
    println!(" the last one boots");
    model.lay_out();
    bench.engine.forget_sleep(vm).await.expect("it is forgotten");
    assert_eq!(bench.engine.observe(vm).await, Ok(Observed::Off { ended: Some(Ending::Killed) }));
    bench.start(vm).await;
    assert_eq!(bench.prints(vm, "cat kept").await, "kept");
    bench.engine.remove(vm).await.expect("it is removed");
    assert_eq!(watch.most(), 1, "so many QEMUs ran at a time");
}

/// Does it; what comes of it is seen in what is left.
async fn perform(bench: &Bench, engine: &QemuEngine, vm: &VmId, verb: Verb) {
    if let Verb::Boot = verb {
        bench.engine.forget_sleep(vm).await.expect("it is forgotten");
    }
    let start = engine.start(vm, &bench.spec, &bench.guest);
    let started = timeout(PATIENCE, start).await.expect("it ends in time");
    match verb {
        Verb::Wake | Verb::Fork | Verb::Boot => {
            let steady = started.is_ok() && is_steady(bench, vm).await;
            assert!(!steady, "the kill did not come\n{}", bench.shim_log(vm));
        }
        Verb::Sleep => {
            started.unwrap_or_else(|error| panic!("it wakes first: {error:?}\n{}", bench.shim_log(vm)));
            let _ends_somehow = engine.sleep(vm).await;
            soon("the kill comes", || shims(&vm.to_string()).is_empty()).await;
        }
        Verb::Stop => {
            started.expect("it wakes first");
            let _ends_somehow = engine.stop(vm, Duration::from_secs(20)).await;
        }
        Verb::Remove => {
            started.expect("it wakes first");
            let _ends_somehow = engine.remove(vm).await;
        }
    }
}

/// Whether it goes on running; a kill may come a moment after a start has succeeded.
async fn is_steady(bench: &Bench, vm: &VmId) -> bool {
    let news = bench.engine.changed(vm, &Observed::Running);
    timeout(Duration::from_secs(5), news).await.is_err()
}

async fn is_left(bench: &Bench, vm: &VmId, left: Left, case: &str) {
    let id = vm.to_string();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(15);
    while !(qemus(&id).is_empty() && shims(&id).is_empty()) {
        assert!(
            tokio::time::Instant::now() < deadline,
            "{case}: {:?} runs on\n{}",
            bench.engine.observe(vm).await,
            bench.shim_log(vm)
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let seen = bench.engine.observe(vm).await.expect("it can be observed");
    let asleep = match (left, &seen) {
        (Left::Asleep | Left::Either, Observed::Asleep { .. }) => true,
        (Left::Off | Left::Either, Observed::Off { .. }) => false,
        // A removal that began is finished.
        (Left::Off, Observed::Missing) => return,
        _ => panic!("{case}: {seen:?}\n{}", bench.shim_log(vm)),
    };
    let dir = bench.state.path().join(format!("vms/{vm}"));
    assert!(dir.join("disk.qcow2").exists(), "{case}: the disk is lost");
    assert_eq!(bench.engine.list().await, Ok(vec![*vm]), "{case}");
    if asleep {
        bench.wake(vm).await;
        let answer = bench.engine.dial(vm, 9).await.err();
        assert_eq!(answer, Some(EngineError::Refused { port: 9 }), "{case}: its kernel goes on");
        bench.engine.stop(vm, Duration::ZERO).await.expect("it ends");
    }
    for entry in fs::read_dir(&dir).expect("the folder is there").flatten() {
        let name = entry.file_name();
        assert!(name != "sleep" || asleep, "{case}: a sleep that is over is still there");
    }
}

async fn a_wake_that_fails_leaves_the_sleep(bench: &Bench, vm: &VmId, model: &Model) {
    println!(" sleeps that cannot be woken");
    let other_qemu = |record: String| record.replacen("\"minor\":", "\"minor\":7", 1);
    let other_board = |record: String| record.replace("\"board\":\"pc-i440fx-", "\"board\":\"pc-i440fx-77");
    let other_format = |record: String| record.replace("\"format\":1", "\"format\":9");
    type Spoil<'a> = &'a dyn Fn(&Model);
    let cases: [(&str, Spoil<'_>); 5] = [
        ("and the host has", &|model| model.change_record(other_qemu)),
        ("does not know its kind of machine", &|model| model.change_record(other_board)),
        ("another version of Berth", &|model| model.change_record(other_format)),
        ("cut short", &|model| model.cut("memory", 100 << 20)),
        ("cut short", &|model| model.cut("device", 1000)),
    ];
    for (words, spoil) in cases {
        model.lay_out();
        spoil(model);
        let before = model.fingerprint();
        let woken = bench.engine.start(vm, &bench.spec, &bench.guest).await;
        assert!(
            matches!(&woken, Err(EngineError::WakeFailed { reason }) if reason.contains(words)),
            "{words}: {woken:?}\n{}",
            bench.shim_log(vm)
        );
        assert!(matches!(bench.engine.observe(vm).await, Ok(Observed::Asleep { .. })));
        assert!(qemus(&vm.to_string()).is_empty());
        assert_eq!(model.fingerprint(), before, "{words}: the sleep is not as it was");
        soon("its shim goes", || shims(&vm.to_string()).is_empty()).await;
    }
}

/// What a sleeping VM is made of, to be laid out again and again.
struct Model {
    folder: PathBuf,
    memory: PathBuf,
    kept: tempfile::TempDir,
}

impl Model {
    fn of(bench: &Bench, vm: &VmId) -> Self {
        let kept = tempfile::tempdir().expect("a temporary folder");
        let folder = bench.state.path().join(format!("vms/{vm}"));
        copy(&folder, kept.path());
        let memory = bench.memory.path().to_owned();
        Self { folder, memory, kept }
    }

    /// The engine may look at the VM at any time, and then makes its lock there; so the whole folder is changed at once.
    fn lay_out(&self) {
        let id = self.folder.file_name().expect("it has a name");
        let beside = self.folder.parent().and_then(Path::parent).expect("it is in a folder");
        let beside = tempfile::tempdir_in(beside).expect("a temporary folder");
        copy(&self.kept.path().join(id), beside.path());
        let _not_there = fs::rename(&self.folder, beside.path().join("former"));
        for entry in fs::read_dir(&self.memory).expect("the folder is ours").flatten() {
            let _not_there = fs::remove_dir_all(entry.path().join(id));
        }
        fs::rename(beside.path().join(id), &self.folder).expect("it takes its place");
    }

    fn change_record(&self, change: impl Fn(String) -> String) {
        let file = self.folder.join("sleep/asleep.json");
        let text = fs::read_to_string(&file).expect("there is a record");
        let changed = change(text.clone());
        assert_ne!(changed, text, "it is changed");
        fs::write(file, changed).expect("it can be written");
    }

    fn cut(&self, name: &str, length: u64) {
        let file = fs::OpenOptions::new().write(true).open(self.folder.join("sleep").join(name));
        file.and_then(|file| file.set_len(length)).expect("it can be cut");
    }

    /// Of the small files of the sleep, and of how large the memory is.
    fn fingerprint(&self) -> (Vec<u8>, Vec<u8>, u64) {
        let dir = self.folder.join("sleep");
        let read = |name: &str| fs::read(dir.join(name)).expect("it is there");
        (read("asleep.json"), read("device"), fs::metadata(dir.join("memory")).expect("it is there").len())
    }
}

fn copy(from: &Path, into: &Path) {
    #[expect(clippy::disallowed_methods, reason = "it knows holes")]
    let status =
        std::process::Command::new("cp").args(["-a", "--sparse=always"]).arg(from).arg(into).status();
    assert!(status.is_ok_and(|status| status.success()), "{} can be copied", from.display());
}

/// Counts a VM's QEMUs all the time.
struct Watch {
    on: Arc<AtomicBool>,
    most: Arc<AtomicUsize>,
}

impl Watch {
    fn over(vm: &VmId) -> Self {
        let (on, most) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
        let (still_on, seen, vm) = (Arc::clone(&on), Arc::clone(&most), vm.to_string());
        std::thread::spawn(move || {
            while still_on.load(Ordering::Relaxed) {
                seen.fetch_max(qemus(&vm).len(), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        Self { on, most }
    }

    fn most(&self) -> usize {
        self.most.load(Ordering::Relaxed)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.on.store(false, Ordering::Relaxed);
    }
}
