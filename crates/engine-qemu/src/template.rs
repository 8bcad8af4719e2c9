//! What new VMs are forked from: a guest that was booted once, belongs to nobody and sleeps.
//!
//! ```text
//!   <state>/templates/<key>/disk.qcow2   its overlay, as it was when it fell asleep
//!                          /image        the image that this lies over
//!                          /sleep/       its sleep, see `sleep`; the record says that it is there to be forked
//!   <state>/templates/building-<id>/     one that is being made, by the VM <id>
//!   <state>/templates/.lock              held by whoever makes one
//! ```
//!
//! A fork has a copy of the disk, which is small, and the template's memory itself: the files of a sleep are never changed,
//! so they are linked. A template may be deleted at any time; what was forked from it has all that it needs.
//!
//! Owned here: the folder and what is in it. Not owned: booting the guest (`engine::prepare`), and what makes a copy one of
//! its own (`provision`). Everything here blocks.
//!
//! Concurrency: a template appears whole, by a rename, so whoever looks for one needs no lock.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
};

use berth_engine::VmSpec;
use berth_model::VmId;
use rustix::fs::{FlockOperation, flock};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::{
    accel::Accel,
    egress::WayOut,
    host::QemuVersion,
    image::Image,
    paths::{StateDir, VmPaths, private_dir, remove_file, remove_tree, sync_parent, write_durably},
    provision,
    sleep::{Record, SleepDir, Unusable},
};

const BUILDING: &str = "building-";
const DISK: &str = "disk.qcow2";
const IMAGE: &str = "image";
const SLEEP: &str = "sleep";

/// What has to be the same for a guest to be taken up by a VM: everything that it was booted with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kind {
    /// All but the size of the VM.
    basis: String,
    cpus: u32,
    memory: u64,
    disk: u64,
    qemu: QemuVersion,
}

#[derive(Serialize)]
struct Basis<'a> {
    image: &'a str,
    image_disk: &'a PathBuf,
    kernel_arguments: &'a str,
    accel: Accel,
    qemu: QemuVersion,
    nics: u32,
    mtu: usize,
    script: &'a str,
}

impl Kind {
    /// The kind of VMs of an image and a size on this host.
    pub(crate) fn new(
        image: &Image,
        kernel_arguments: &str,
        accel: Accel,
        qemu: QemuVersion,
        way_out: &WayOut,
        spec: &VmSpec,
    ) -> io::Result<Self> {
        let (nics, mtu) = match way_out {
            WayOut::Passt { .. } => (2, crate::egress::MTU),
            WayOut::UserNetwork => (2, crate::egress::USER_MTU),
            WayOut::Nothing => (1, 0),
        };
        let script = provision::template_script();
        let basis = Basis {
            image: &image.id,
            image_disk: &image.disk,
            kernel_arguments,
            accel,
            qemu,
            nics,
            mtu,
            script: &script,
        };
        let hash = Sha256::digest(serde_json::to_vec(&basis)?);
        let VmSpec { cpus, memory, disk } = spec;
        Ok(Self {
            basis: hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect(),
            cpus: *cpus,
            memory: *memory,
            disk: *disk,
            qemu,
        })
    }

    fn name(&self) -> String {
        format!("{}{}", self.but_for_disk(), self.disk)
    }

    /// What the names of all templates begin with that differ from this one in their disk alone.
    fn but_for_disk(&self) -> String {
        format!("{}-{}-{}-", self.basis, self.cpus, self.memory)
    }

    /// Whether a template of this name may still be of use.
    fn is_current(&self, name: &str) -> bool {
        name.strip_prefix(&self.basis).is_some_and(|rest| rest.starts_with('-'))
    }
}

/// The folder of templates.
#[derive(Debug, Clone)]
pub(crate) struct Templates {
    dir: PathBuf,
    state: StateDir,
}

/// A template that is whole.
#[derive(Debug)]
pub(crate) struct Template(PathBuf);

/// The right to make and delete templates; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "it is held by being open")] File);

impl Templates {
    pub(crate) fn of(state: &StateDir) -> Self {
        Self { dir: state.root().join("templates"), state: state.clone() }
    }

    /// What a VM of a kind is forked from: its template, or else one that has a smaller disk, which grows when it wakes.
    pub(crate) fn find_to_fork(&self, kind: &Kind) -> Option<Template> {
        self.find(kind).or_else(|| {
            let begin = kind.but_for_disk();
            let disk = |name: &str| name.strip_prefix(&begin)?.parse::<u64>().ok();
            let names = fs::read_dir(&self.dir).ok()?.flatten().map(|entry| entry.file_name());
            let disks = names.filter_map(|name| disk(name.to_str()?));
            let smaller = disks.filter(|disk| *disk < kind.disk).max()?;
            self.find(&Kind { disk: smaller, ..kind.clone() })
        })
    }

    /// The template for a kind of VM, if there is one and its files are what they have to be.
    pub(crate) fn find(&self, kind: &Kind) -> Option<Template> {
        let template = Template(self.dir.join(kind.name()));
        let sleep = template.sleep();
        let whole = || -> Result<bool, Unusable> {
            let Some(record) = Record::read(&sleep)? else { return Ok(false) };
            record.fits(kind.qemu)?;
            record.check(&sleep)?;
            Ok(record.fork && template.disk().exists())
        };
        match whole() {
            Ok(whole) => whole.then_some(template),
            Err(error) => {
                tracing::warn!(%error, "the template {} cannot be used", template.0.display());
                None
            }
        }
    }

    /// Waits until nobody else makes or deletes templates.
    pub(crate) fn lock(&self) -> io::Result<Lock> {
        private_dir(&self.dir)?;
        let path = self.dir.join(".lock");
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)?;
        flock(&file, FlockOperation::LockExclusive)?;
        Ok(Lock(file))
    }

    /// Where a VM is that becomes a template. It is none of the VMs that are listed.
    pub(crate) fn builder(&self, vm: &VmId) -> VmPaths {
        VmPaths { dir: self.dir.join(format!("{BUILDING}{vm}")), ..self.state.vm(vm) }
    }

    /// Builders of earlier attempts, whose shims may still run.
    pub(crate) fn leftovers(&self, _lock: &Lock) -> io::Result<Vec<VmPaths>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let name = entry?.file_name();
            let vm = name.to_str().and_then(|name| name.strip_prefix(BUILDING)).map(str::parse::<VmId>);
            if let Some(Ok(vm)) = vm {
                found.push(self.builder(&vm));
            }
        }
        Ok(found)
    }

    /// Deletes a builder, which nobody may be running, and all that belongs to it.
    pub(crate) fn discard(&self, builder: &VmPaths, _lock: &Lock) -> io::Result<()> {
        remove_tree(&builder.dir)?;
        remove_tree(&builder.memory)?;
        remove_file(&builder.socket)
    }

    /// Makes a builder that sleeps, and that nobody runs any more, the template for a kind of VM.
    pub(crate) fn keep(&self, builder: &VmPaths, kind: &Kind, lock: &Lock) -> io::Result<()> {
        for (from, name) in [(builder.disk(), DISK), (builder.image(), IMAGE), (builder.cold().0, SLEEP)] {
            let kept = builder.dir.join(name);
            debug_assert_eq!(from, kept, "a builder has the files of a VM");
            File::open(kept)?.sync_all()?;
        }
        // What tells of its making is of no use to anybody.
        for entry in fs::read_dir(&builder.dir)? {
            let entry = entry?;
            if ![DISK, IMAGE, SLEEP].iter().any(|name| entry.file_name() == *name) {
                remove_tree(&entry.path()).or_else(|_| remove_file(&entry.path()))?;
            }
        }
        File::open(&builder.dir)?.sync_all()?;
        let template = self.dir.join(kind.name());
        remove_tree(&template)?;
        fs::rename(&builder.dir, &template)?;
        sync_parent(&template)?;
        self.discard(builder, lock)
    }

    /// Deletes templates of which nothing can be forked here any more: those of another image or QEMU.
    pub(crate) fn clear_stale(&self, kind: &Kind, _lock: &Lock) -> io::Result<()> {
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let is_other = !name.starts_with('.') && !name.starts_with(BUILDING) && !kind.is_current(&name);
            if is_other && entry.file_type()?.is_dir() {
                remove_tree(&entry.path())?;
            }
        }
        Ok(())
    }
}

impl Template {
    fn disk(&self) -> PathBuf {
        self.0.join(DISK)
    }

    fn sleep(&self) -> SleepDir {
        SleepDir(self.0.join(SLEEP))
    }

    /// Makes a VM that sleeps as the template does. Does nothing when the VM is there.
    ///
    /// It is a VM from the moment that it has its disk. Killed before, it is none; killed between that and its sleep, it is
    /// one that is off and boots. In either case it is known to have no identity of its own.
    pub(crate) fn fork(&self, paths: &VmPaths) -> io::Result<()> {
        if paths.disk().exists() {
            return Ok(());
        }
        private_dir(&paths.dir)?;
        sync_parent(&paths.dir)?;
        write_durably(&paths.unclaimed(), b"")?;
        write_durably(&paths.image(), &fs::read(self.0.join(IMAGE))?)?;
        let (from, new) = (self.sleep(), paths.cold_new());
        remove_tree(&new.0)?;
        private_dir(&new.0)?;
        fs::hard_link(from.memory(), new.memory())?;
        fs::hard_link(from.device(), new.device())?;
        fs::hard_link(from.record(), new.record())?;
        File::open(&new.0)?.sync_all()?;
        let new_disk = paths.dir.join("disk.qcow2.new");
        fs::copy(self.disk(), &new_disk)?;
        File::open(&new_disk)?.sync_all()?;
        remove_tree(&paths.cold().0)?;
        fs::rename(&new_disk, paths.disk())?;
        sync_parent(&paths.disk())?;
        fs::rename(&new.0, paths.cold().0)?;
        sync_parent(&paths.cold().0)
    }
}

#[cfg(test)]
mod tests {
    use std::{path::Path, sync::Mutex, time::UNIX_EPOCH};

    use super::*;
    use crate::{client::observe_off, qemu::Machine, sleep};

    const QEMU: QemuVersion = QemuVersion { major: 10, minor: 0, micro: 2 };

    struct Bench {
        _dir: tempfile::TempDir,
        state: StateDir,
        templates: Templates,
    }

    fn image(id: &str) -> Image {
        Image {
            id: id.to_owned(),
            kernel: "/k".into(),
            initrd: "/i".into(),
            disk: format!("/images/{id}/disk").into(),
            append: String::new(),
            made_at: UNIX_EPOCH,
            size: 0,
        }
    }

    const SPEC: VmSpec = VmSpec { cpus: 1, memory: 8 << 20, disk: 1 << 30 };

    fn kind(image_id: &str) -> Kind {
        Kind::new(&image(image_id), "quiet", Accel::Tcg, QEMU, &WayOut::Nothing, &SPEC).unwrap()
    }

    impl Bench {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let state = StateDir::open(dir.path(), dir.path()).unwrap();
            let templates = Templates::of(&state);
            Self { _dir: dir, state, templates }
        }

        /// A builder whose guest sleeps and whose shim has gone.
        fn built(&self) -> VmPaths {
            let builder = self.templates.builder(&VmId::random());
            private_dir(&builder.dir).unwrap();
            fs::write(builder.disk(), b"disk").unwrap();
            fs::write(builder.image(), b"image-1").unwrap();
            fs::write(builder.shim_log(), b"log").unwrap();
            fs::write(builder.lock(), b"").unwrap();
            sleep::fresh_memory(&builder, SPEC.memory).unwrap();
            fs::write(builder.warm().device(), b"devices").unwrap();
            let machine = Machine {
                accel: Accel::Tcg,
                board: QEMU.machine_type(),
                cpus: 1,
                memory: SPEC.memory,
                memory_file: builder.warm().memory(),
                kernel: "/k".into(),
                initrd: "/i".into(),
                kernel_arguments: String::new(),
                disk: builder.disk(),
                name: String::new(),
            };
            let warm = builder.warm();
            let mut record = Record::of(&warm, QEMU, machine, WayOut::Nothing, None).unwrap();
            record.fork = true;
            record.write(&warm).unwrap();
            sleep::settle(&builder, &Mutex::new(false)).unwrap();
            builder
        }

        fn with_template() -> Self {
            let bench = Self::new();
            let lock = bench.templates.lock().unwrap();
            bench.templates.keep(&bench.built(), &kind("1"), &lock).unwrap();
            bench
        }

        fn template(&self) -> Template {
            self.templates.find(&kind("1")).expect("it is there")
        }

        fn vm(&self) -> VmPaths {
            self.state.vm(&VmId::random())
        }
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_template_is_what_it_takes_to_fork_and_nothing_else() {
        let bench = Bench::with_template();
        let template = bench.template();
        assert_eq!(names(&template.0), ["disk.qcow2", "image", "sleep"]);
        assert_eq!(names(&template.sleep().0), ["asleep.json", "device", "memory"]);
        assert_eq!(names(&bench.templates.dir).len(), 2, "the lock and the template");
        assert_eq!(names(bench.state.memory()), [""; 0]);
    }

    #[test]
    fn only_the_same_image_machine_and_qemu_will_do() {
        let bench = Bench::with_template();
        let other = |qemu, way_out: WayOut, spec: VmSpec, arguments| {
            let kind = Kind::new(&image("1"), arguments, Accel::Tcg, qemu, &way_out, &spec).unwrap();
            bench.templates.find(&kind).is_some()
        };
        assert!(other(QEMU, WayOut::Nothing, SPEC, "quiet"), "the same");
        assert!(!other(QemuVersion { micro: 3, ..QEMU }, WayOut::Nothing, SPEC, "quiet"));
        assert!(!other(QEMU, WayOut::UserNetwork, SPEC, "quiet"));
        assert!(!other(QEMU, WayOut::Nothing, VmSpec { disk: 2 << 30, ..SPEC }, "quiet"));
        assert!(!other(QEMU, WayOut::Nothing, SPEC, "debug"));
        assert!(bench.templates.find(&kind("2")).is_none());
        let passt = |program: &str| WayOut::Passt { program: program.into() };
        let with = |way_out| Kind::new(&image("1"), "", Accel::Tcg, QEMU, &way_out, &SPEC).unwrap();
        assert_eq!(with(passt("/usr/bin/passt")), with(passt("/opt/passt")), "the guest cannot tell");
    }

    #[test]
    fn a_fork_sleeps_as_its_template_and_outlives_it() {
        let bench = Bench::with_template();
        let (one, two) = (bench.vm(), bench.vm());
        for paths in [&one, &two] {
            bench.template().fork(paths).unwrap();
            assert_eq!(observe_off(paths), berth_engine::Observed::Asleep { called: false });
            assert_eq!(fs::read(paths.disk()).unwrap(), b"disk");
            assert!(paths.unclaimed().exists() && sleep::find(paths).unwrap().unwrap().record.fork);
        }
        // Its own disk, whatever happens to it.
        fs::write(one.disk(), b"grown").unwrap();
        let lock = bench.templates.lock().unwrap();
        bench.templates.clear_stale(&kind("2"), &lock).unwrap();
        assert!(bench.templates.find(&kind("1")).is_none());
        sleep::end(&one).unwrap();
        sleep::clear_leftovers(&one).unwrap();
        assert_eq!(fs::read(two.disk()).unwrap(), b"disk");
        assert_eq!(sleep::find(&two).unwrap().unwrap().record.memory(), SPEC.memory);
    }

    #[test]
    fn a_vm_with_a_larger_disk_is_forked_too_and_one_with_a_smaller_is_not() {
        let bench = Bench::with_template();
        let of = |spec: VmSpec| {
            let kind = Kind::new(&image("1"), "quiet", Accel::Tcg, QEMU, &WayOut::Nothing, &spec).unwrap();
            bench.templates.find_to_fork(&kind).map(|template| template.0)
        };
        let there = bench.template().0;
        for disk in [SPEC.disk, SPEC.disk + 1, SPEC.disk * 20] {
            assert_eq!(of(VmSpec { disk, ..SPEC }), Some(there.clone()), "{disk}");
        }
        assert_eq!(of(VmSpec { disk: SPEC.disk - 1, ..SPEC }), None);
        assert_eq!(of(VmSpec { cpus: 2, ..SPEC }), None);
        assert_eq!(of(VmSpec { memory: SPEC.memory * 2, disk: SPEC.disk * 2, ..SPEC }), None);
    }

    #[test]
    fn a_fork_that_was_cut_short_is_none_or_belongs_to_nobody() {
        let bench = Bench::with_template();
        let paths = bench.vm();
        bench.template().fork(&paths).unwrap();
        // Killed before its sleep was in place: it is a VM, and boots.
        fs::rename(paths.cold().0, paths.cold_new().0).unwrap();
        assert_eq!(observe_off(&paths), berth_engine::Observed::Off { ended: None });
        bench.template().fork(&paths).unwrap();
        assert_eq!(observe_off(&paths), berth_engine::Observed::Off { ended: None }, "it is there already");
        assert!(paths.unclaimed().exists());
        // Killed before it had its disk: it is none, and made anew.
        fs::rename(paths.disk(), paths.dir.join("disk.qcow2.new")).unwrap();
        assert_eq!(observe_off(&paths), berth_engine::Observed::Missing);
        bench.template().fork(&paths).unwrap();
        assert_eq!(observe_off(&paths), berth_engine::Observed::Asleep { called: false });
        assert_eq!(names(&paths.dir), ["disk.qcow2", "image", "sleep", "unclaimed"]);
    }

    #[test]
    fn a_fork_whose_sleep_is_given_up_still_belongs_to_nobody() {
        let bench = Bench::with_template();
        let paths = bench.vm();
        bench.template().fork(&paths).unwrap();
        fs::remove_file(paths.unclaimed()).unwrap();
        sleep::forget(&paths).unwrap();
        assert!(paths.unclaimed().exists(), "its disk is a copy too");
    }

    #[test]
    fn a_damaged_template_is_not_used() {
        let bench = Bench::with_template();
        fs::write(bench.template().sleep().device(), b"devicez").unwrap();
        assert!(bench.templates.find(&kind("1")).is_none());
        let bench = Bench::with_template();
        let memory = File::options().write(true).open(bench.template().sleep().memory()).unwrap();
        memory.set_len(4096).unwrap();
        assert!(bench.templates.find(&kind("1")).is_none());
        let bench = Bench::with_template();
        fs::remove_file(bench.template().disk()).unwrap();
        assert!(bench.templates.find(&kind("1")).is_none());
    }

    #[test]
    fn what_is_stale_goes_and_what_a_dead_builder_left_is_found() {
        let bench = Bench::with_template();
        let builder = bench.built();
        let lock = bench.templates.lock().unwrap();
        bench.templates.clear_stale(&kind("1"), &lock).unwrap();
        bench.template();
        let found = bench.templates.leftovers(&lock).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].dir, builder.dir);
        private_dir(&builder.memory).unwrap();
        fs::write(&builder.socket, b"").unwrap();
        bench.templates.discard(&builder, &lock).unwrap();
        assert!(!builder.dir.exists() && !builder.memory.exists() && !builder.socket.exists());
        assert_eq!(bench.templates.leftovers(&lock).unwrap().len(), 0);
    }
}
