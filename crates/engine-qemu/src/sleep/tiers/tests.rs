use std::os::unix::fs::FileExt;

use super::*;
use crate::{accel::Accel, egress::WayOut, host::QemuVersion, paths::StateDir, qemu::Machine};

const NOW: QemuVersion = QemuVersion { major: 10, minor: 0, micro: 2 };

struct Bench {
    _dir: tempfile::TempDir,
    paths: VmPaths,
}

/// Nothing of the VM is in the tmpfs; its folder may be, which a shim cannot remove.
fn is_free(paths: &VmPaths) -> bool {
    fs::read_dir(&paths.memory).is_ok_and(|mut entries| entries.next().is_none())
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path(), dir.path()).unwrap();
        let paths = state.vm(&berth_model::VmId::random());
        fs::create_dir(&paths.dir).unwrap();
        Self { _dir: dir, paths }
    }

    /// A VM that has just fallen asleep.
    fn warm() -> Self {
        let bench = Self::new();
        let memory = fresh_memory(&bench.paths, 8 << 20).unwrap();
        memory.write_all_at(b"memory", 5 << 20).unwrap();
        fs::write(bench.paths.warm().device(), b"devices").unwrap();
        bench.record().write(&bench.paths.warm()).unwrap();
        bench
    }

    fn record(&self) -> Record {
        let machine = Machine {
            accel: Accel::Tcg,
            board: NOW.machine_type(),
            cpus: 1,
            memory: 8 << 20,
            memory_file: self.paths.warm().memory(),
            kernel: "/k".into(),
            initrd: "/i".into(),
            kernel_arguments: String::new(),
            disk: self.paths.disk(),
            name: String::new(),
        };
        Record::of(&self.paths.warm(), NOW, machine, WayOut::Nothing, None).unwrap()
    }

    /// A VM whose sleep has been copied.
    fn cold() -> Self {
        let bench = Self::warm();
        assert_eq!(settle(&bench.paths, &Mutex::new(false)).unwrap(), Settled::Done);
        bench
    }

    /// The memory and devices that a wake would have.
    fn woken(&self) -> (Vec<u8>, Vec<u8>) {
        let found = find(&self.paths).unwrap().expect("it is asleep");
        if !found.warm {
            Restore::begin(&self.paths, &found.record).unwrap().run(|| true).unwrap();
        }
        let mut memory = vec![0; 6];
        File::open(self.paths.warm().memory()).unwrap().read_exact_at(&mut memory, 5 << 20).unwrap();
        (memory, fs::read(self.paths.warm().device()).unwrap())
    }

    fn is_whole(&self) {
        assert_eq!(self.woken(), (b"memory".to_vec(), b"devices".to_vec()));
    }

    fn files(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(&self.paths.dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

#[test]
fn a_sleep_is_copied_and_the_tmpfs_freed() {
    let bench = Bench::cold();
    assert!(is_free(&bench.paths));
    assert_eq!(bench.files(), ["sleep"]);
    bench.is_whole();
    assert!(is_asleep(&bench.paths), "reading it back changes nothing");
    assert_eq!(settle(&bench.paths, &Mutex::new(false)).unwrap(), Settled::Done, "there is nothing to do");
    assert!(is_free(&bench.paths), "what a wake that failed has left is freed");
    bench.is_whole();
}

#[test]
fn copying_that_is_given_up_leaves_the_warm_sleep() {
    let bench = Bench::warm();
    assert_eq!(settle(&bench.paths, &Mutex::new(true)).unwrap(), Settled::GivenUp);
    assert_eq!(bench.files(), Vec::<String>::new());
    assert!(find(&bench.paths).unwrap().unwrap().warm);
    bench.is_whole();
}

#[test]
fn copying_that_a_kill_cut_short_is_finished() {
    let bench = Bench::warm();
    // Before the copy has its name: it counts for nothing.
    fs::create_dir(&bench.paths.cold_new().0).unwrap();
    fs::write(bench.paths.cold_new().memory(), b"half").unwrap();
    bench.is_whole();
    settle(&bench.paths, &Mutex::new(false)).unwrap();
    // After it: the same sleep is there twice, and the warm one goes.
    let cold = bench.paths.cold();
    private_dir(&bench.paths.memory).unwrap();
    for name in ["memory", "device", "asleep.json"] {
        fs::copy(cold.0.join(name), bench.paths.memory.join(name)).unwrap();
    }
    bench.is_whole();
    settle(&bench.paths, &Mutex::new(false)).unwrap();
    assert!(is_free(&bench.paths));
    // In the middle of freeing the tmpfs.
    private_dir(&bench.paths.memory).unwrap();
    fs::write(bench.paths.warm().memory(), b"half").unwrap();
    bench.is_whole();
}

#[test]
fn a_sleep_that_has_ended_is_not_used_again_and_can_be_put_back() {
    for bench in [Bench::warm(), Bench::cold()] {
        end(&bench.paths).unwrap();
        assert!(!is_asleep(&bench.paths));
        end_is_undone(&bench.paths).unwrap();
        bench.is_whole();
        end(&bench.paths).unwrap();
        clear_leftovers(&bench.paths).unwrap();
        end_is_undone(&bench.paths).unwrap();
        assert!(!is_asleep(&bench.paths));
        assert_eq!(bench.files(), Vec::<String>::new());
    }
}

#[test]
fn a_sleep_that_is_forgotten_is_gone() {
    for bench in [Bench::warm(), Bench::cold()] {
        forget(&bench.paths).unwrap();
        assert!(!is_asleep(&bench.paths) && !bench.paths.memory.exists());
        assert_eq!(bench.files(), Vec::<String>::new());
        forget(&bench.paths).unwrap();
    }
}

#[test]
fn a_file_that_is_cut_short_or_changed_is_recognised() {
    let cut = |path: &Path, length: u64| {
        OpenOptions::new().write(true).open(path).unwrap().set_len(length).unwrap();
    };
    for bench in [Bench::warm(), Bench::cold()] {
        let dir = if bench.paths.warm().record().exists() { bench.paths.warm() } else { bench.paths.cold() };
        let whole = fs::read(dir.device()).unwrap();
        cut(&dir.device(), 3);
        assert!(matches!(find(&bench.paths), Err(Unusable::Cut)));
        fs::write(dir.device(), b"device$").unwrap();
        assert!(matches!(find(&bench.paths), Err(Unusable::Damaged)));
        fs::write(dir.device(), whole).unwrap();
        cut(&dir.memory(), (8 << 20) - 4096);
        assert!(matches!(find(&bench.paths), Err(Unusable::Cut)));
        cut(&dir.memory(), 8 << 20);
        let record = fs::read_to_string(dir.record()).unwrap();
        fs::write(dir.record(), record.replace("\"format\":1", "\"format\":2")).unwrap();
        assert!(matches!(find(&bench.paths), Err(Unusable::Format)));
        cut(&dir.record(), 30);
        assert!(matches!(find(&bench.paths), Err(Unusable::Damaged)));
        assert!(is_asleep(&bench.paths), "it is never given up unasked");
        fs::remove_file(dir.device()).unwrap();
        fs::write(dir.record(), record).unwrap();
        assert!(matches!(find(&bench.paths), Err(Unusable::Damaged)));
    }
}

#[test]
fn a_disk_that_forgets_is_recognised() {
    let bench = Bench::cold();
    let memory = OpenOptions::new().write(true).open(bench.paths.cold().memory()).unwrap();
    memory.write_all_at(b"M", 5 << 20).unwrap();
    let found = find(&bench.paths).unwrap().unwrap();
    let restored = Restore::begin(&bench.paths, &found.record).unwrap().run(|| true);
    assert!(matches!(restored, Err(Unusable::Damaged)));
}

#[test]
fn a_cold_sleep_stands_in_for_a_warm_one_that_is_damaged() {
    let bench = Bench::cold();
    private_dir(&bench.paths.memory).unwrap();
    fs::copy(bench.paths.cold().record(), bench.paths.warm().record()).unwrap();
    fs::write(bench.paths.warm().memory(), b"cut").unwrap();
    assert!(!find(&bench.paths).unwrap().unwrap().warm);
    bench.is_whole();
}

#[test]
fn another_qemu_is_told_by_its_version() {
    let record = Bench::warm().record();
    record.fits(QemuVersion { micro: 9, ..NOW }).unwrap();
    let error = record.fits(QemuVersion { minor: 1, ..NOW }).unwrap_err();
    assert_eq!(error.to_string(), "it fell asleep under QEMU 10.0.2, and the host has 10.1.2 now");
}

#[test]
fn copying_that_was_given_up_touches_nothing_of_the_vm_that_woke() {
    let bench = Bench::warm();
    end(&bench.paths).unwrap();
    assert_eq!(settle(&bench.paths, &Mutex::new(true)).unwrap(), Settled::GivenUp);
    assert!(bench.paths.warm().memory().exists(), "the guest runs in it");
}
