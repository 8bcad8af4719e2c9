//! What a VM becomes that gets a new disk, and how it takes the old one's place.
//!
//! ```text
//!   <state>/rebuilds/<vm>.<id>/   the VM as it is to be, in the making: a VM's folder of its own, with the id <id> while
//!                                 its guest takes over the home; until now the VM is what it was
//!   <state>/vms/<vm>/rebuilt/     the same, whole and on stable storage: it came here by one rename, and from then on it is
//!                                 the VM; what is in it is moved up, piece by piece, and again after a crash
//! ```
//!
//! The old disk is only read, through a layer of its own that takes what a file system writes when it is mounted, and is
//! replaced when the new one is whole. So whatever goes wrong before the rename has changed nothing.
//!
//! Owned here: these folders. Not owned: making the new VM and its guest's work (`engine::rebuild`). Everything here blocks.
//!
//! Concurrency: one VM has one caller, who holds the VM's lock for [`Rebuilds::commit`] and [`finish`].

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use berth_model::VmId;

use crate::{
    paths::{StateDir, VmPaths, private_dir, remove_file, remove_tree, sync_parent, write_durably},
    sleep,
};

const DISK: &str = "disk.qcow2";
const IMAGE: &str = "image";
const SLEEP: &str = "sleep";
const UNCLAIMED: &str = "unclaimed";
/// All that a VM is made of.
const PIECES: [&str; 4] = [DISK, IMAGE, SLEEP, UNCLAIMED];

/// The folder of VMs in the making.
#[derive(Debug, Clone)]
pub(crate) struct Rebuilds {
    dir: PathBuf,
    state: StateDir,
}

impl Rebuilds {
    pub(crate) fn of(state: &StateDir) -> Self {
        Self { dir: state.root().join("rebuilds"), state: state.clone() }
    }

    /// Where `vm` is made anew, under the id `new`. It is none of the VMs that are listed.
    pub(crate) fn builder(&self, vm: &VmId, new: &VmId) -> io::Result<VmPaths> {
        private_dir(&self.dir)?;
        Ok(VmPaths { dir: self.dir.join(format!("{vm}.{new}")), ..self.state.vm(new) })
    }

    /// The disk that a VM in the making is lent, if it is one: that of the VM whose place it takes.
    pub(crate) fn lent_to(&self, builder: &VmPaths) -> Option<PathBuf> {
        let name = builder.dir.strip_prefix(&self.dir).ok()?.to_str()?;
        let vm = name.split('.').next()?.parse::<VmId>().ok()?;
        Some(self.state.vm(&vm).disk())
    }

    /// What earlier attempts at `vm` have left, whose shims may still run.
    pub(crate) fn leftovers(&self, vm: &VmId) -> io::Result<Vec<VmPaths>> {
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
            other => other?,
        };
        let begin = format!("{vm}.");
        let mut found = Vec::new();
        for entry in entries {
            let name = entry?.file_name();
            let new = name.to_str().and_then(|name| name.strip_prefix(&begin)).map(str::parse::<VmId>);
            if let Some(Ok(new)) = new {
                found.push(self.builder(vm, &new)?);
            }
        }
        Ok(found)
    }

    /// Deletes an attempt, which nobody may be running.
    pub(crate) fn discard(builder: &VmPaths) -> io::Result<()> {
        remove_tree(&builder.dir)?;
        remove_tree(&builder.memory)?;
        remove_file(&builder.socket)
    }

    /// Makes what was built, and nobody runs any more, the VM. When this returns it is, also after the power has failed.
    ///
    /// # Errors
    /// The VM is what it was.
    pub(crate) fn commit(builder: &VmPaths, vm: &VmPaths) -> io::Result<()> {
        File::open(builder.disk())?.sync_all()?;
        File::open(builder.image())?.sync_all()?;
        // What tells of its making is of no use to anybody.
        for entry in fs::read_dir(&builder.dir)? {
            let entry = entry?;
            if !PIECES.iter().any(|name| entry.file_name() == *name) {
                remove_tree(&entry.path()).or_else(|_| remove_file(&entry.path()))?;
            }
        }
        File::open(&builder.dir)?.sync_all()?;
        remove_tree(&builder.memory)?;
        fs::rename(&builder.dir, vm.rebuilt())?;
        // From here on nothing goes back.
        if let Err(error) = sync_parent(&vm.rebuilt()).and_then(|()| sync_parent(&builder.dir)) {
            tracing::error!(%error, "whether a new disk outlives a failure of the power is not known");
        }
        if let Err(error) = finish(vm) {
            tracing::error!(%error, "a new disk is not in its place yet: that is done at the VM's next start");
        }
        Ok(())
    }
}

/// Puts what was built into its place, from wherever a crash has interrupted that. Does nothing where nothing was built.
pub(crate) fn finish(vm: &VmPaths) -> io::Result<()> {
    let rebuilt = vm.rebuilt();
    if !rebuilt.exists() {
        return Ok(());
    }
    let new = |name: &str| rebuilt.join(name);
    if new(DISK).exists() {
        // What is left of the old one: its sleep first, which must never be woken on another disk.
        sleep::discard(vm)?;
        for file in [vm.ended(), vm.console(), vm.previous_console()] {
            remove_file(&file)?;
        }
        if new(UNCLAIMED).exists() {
            write_durably(&vm.unclaimed(), b"")?;
        } else {
            remove_file(&vm.unclaimed())?;
        }
        write_durably(&vm.image(), &fs::read(new(IMAGE))?)?;
        take(&new(DISK), &vm.disk())?;
    }
    if new(SLEEP).exists() {
        take(&new(SLEEP), &vm.cold().0)?;
    }
    remove_tree(&rebuilt)?;
    sync_parent(&rebuilt)
}

fn take(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    sync_parent(to)?;
    sync_parent(from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::observe_off;
    use berth_engine::{Ending, Observed};

    struct Bench {
        _dir: tempfile::TempDir,
        rebuilds: Rebuilds,
        id: VmId,
        vm: VmPaths,
    }

    fn write(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn read(path: &Path) -> String {
        fs::read_to_string(path).unwrap()
    }

    impl Bench {
        /// A VM that sleeps, in both tiers.
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let state = StateDir::open(dir.path(), dir.path()).unwrap();
            let id = VmId::random();
            let vm = state.vm(&id);
            write(&vm.disk(), "old disk");
            write(&vm.image(), "old image");
            write(&vm.console(), "old words");
            crate::ending::write(&vm, &Ending::Stopped).unwrap();
            for sleep in [vm.warm(), vm.cold()] {
                write(&sleep.record(), "old sleep");
            }
            Self { rebuilds: Rebuilds::of(&state), _dir: dir, id, vm }
        }

        /// What is to take its place, which sleeps where `asleep` and has been claimed where not `unclaimed`.
        fn built(&self, asleep: bool, unclaimed: bool) -> VmPaths {
            let builder = self.rebuilds.builder(&self.id, &VmId::random()).unwrap();
            write(&builder.disk(), "new disk");
            write(&builder.image(), "new image");
            write(&builder.view(), "a layer");
            write(&builder.lock(), "");
            if asleep {
                write(&builder.cold().record(), "new sleep");
            }
            if unclaimed {
                write(&builder.unclaimed(), "");
            }
            builder
        }

        fn is_new(&self, asleep: bool, unclaimed: bool) {
            let vm = &self.vm;
            assert_eq!((read(&vm.disk()), read(&vm.image())), ("new disk".into(), "new image".into()));
            if asleep {
                assert_eq!(observe_off(vm), Observed::Asleep { called: false });
                assert_eq!(read(&vm.cold().record()), "new sleep");
            } else {
                assert_eq!(observe_off(vm), Observed::Off { ended: None });
            }
            assert_eq!(vm.unclaimed().exists(), unclaimed);
            assert!(!vm.rebuilt().exists() && !vm.memory.exists() && !vm.console().exists());
            assert_eq!(self.rebuilds.leftovers(&self.id).unwrap().len(), 0);
        }
    }

    #[test]
    fn what_was_built_is_the_vm_and_nothing_of_the_old_one_is_left() {
        for (asleep, unclaimed) in [(true, true), (true, false), (false, false), (false, true)] {
            let bench = Bench::new();
            write(&bench.vm.unclaimed(), "");
            let builder = bench.built(asleep, unclaimed);
            Rebuilds::commit(&builder, &bench.vm).unwrap();
            bench.is_new(asleep, unclaimed);
            finish(&bench.vm).unwrap();
            bench.is_new(asleep, unclaimed);
        }
    }

    /// As a kill leaves it between two steps of [`finish`].
    #[test]
    fn what_was_cut_short_goes_on_from_there() {
        type Cut = fn(&Bench, &Path);
        let cuts: [(&str, Cut); 5] = [
            ("renamed", |_, _| {}),
            ("the old sleep is gone", |bench, _| sleep::discard(&bench.vm).unwrap()),
            ("the image is named", |bench, new| {
                sleep::discard(&bench.vm).unwrap();
                fs::copy(new.join(IMAGE), bench.vm.image()).unwrap();
            }),
            ("the disk is in place", |bench, new| {
                sleep::discard(&bench.vm).unwrap();
                remove_file(&bench.vm.console()).unwrap();
                remove_file(&bench.vm.ended()).unwrap();
                fs::copy(new.join(IMAGE), bench.vm.image()).unwrap();
                fs::rename(new.join(DISK), bench.vm.disk()).unwrap();
            }),
            ("the sleep is in place", |bench, new| {
                sleep::discard(&bench.vm).unwrap();
                remove_file(&bench.vm.console()).unwrap();
                remove_file(&bench.vm.ended()).unwrap();
                fs::copy(new.join(IMAGE), bench.vm.image()).unwrap();
                fs::rename(new.join(DISK), bench.vm.disk()).unwrap();
                fs::rename(new.join(SLEEP), bench.vm.cold().0).unwrap();
            }),
        ];
        for (when, cut) in cuts {
            println!("{when}");
            let bench = Bench::new();
            let builder = bench.built(true, false);
            fs::rename(&builder.dir, bench.vm.rebuilt()).unwrap();
            cut(&bench, &bench.vm.rebuilt());
            finish(&bench.vm).unwrap();
            bench.is_new(true, false);
        }
    }

    #[test]
    fn what_cannot_take_its_place_leaves_it_as_it_was() {
        let bench = Bench::new();
        let builder = bench.built(true, false);
        fs::remove_file(builder.image()).unwrap();
        assert!(Rebuilds::commit(&builder, &bench.vm).is_err());
        assert_eq!(
            (read(&bench.vm.disk()), read(&bench.vm.image())),
            ("old disk".into(), "old image".into())
        );
        assert_eq!(observe_off(&bench.vm), Observed::Asleep { called: false });
        write(&builder.memory.join("memory"), "x");
        let left = bench.rebuilds.leftovers(&bench.id).unwrap();
        assert_eq!(left.iter().map(|left| &left.dir).collect::<Vec<_>>(), [&builder.dir]);
        assert_eq!(bench.rebuilds.leftovers(&VmId::random()).unwrap().len(), 0, "of another VM");
        Rebuilds::discard(&left[0]).unwrap();
        assert!(!builder.dir.exists() && !builder.memory.exists());
    }
}
