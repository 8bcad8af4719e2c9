//! From one tier of a sleep to the other, each step so that a kill after it leaves a sleep that is whole.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::{Record, SleepDir, Unusable, copy::copy};
use crate::{
    paths::{VmPaths, private_dir, remove_file, remove_tree, sync_parent, write_durably},
    shim::fault,
};

/// So much stays free on the disk when a sleep is copied there, in bytes.
const LEFT_FREE: u64 = 256 << 20;

/// Whether the VM is asleep, however well.
pub(crate) fn is_asleep(paths: &VmPaths) -> bool {
    paths.warm().record().exists() || paths.cold().record().exists()
}

/// A sleep that can be woken, as far as its files tell.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) record: Record,
    /// Its memory is in the tmpfs already.
    pub(crate) warm: bool,
}

/// The sleep that a wake is to use: the warm one, if it is whole. `None` when the VM is not asleep.
pub(crate) fn find(paths: &VmPaths) -> Result<Option<Found>, Unusable> {
    let whole = |dir: &SleepDir| match Record::read(dir)? {
        Some(record) => record.check(dir).map(|()| Some(record)),
        None => Ok(None),
    };
    match whole(&paths.warm()) {
        Ok(Some(record)) => Ok(Some(Found { record, warm: true })),
        Ok(None) => Ok(whole(&paths.cold())?.map(|record| Found { record, warm: false })),
        Err(error) => match whole(&paths.cold()) {
            Ok(Some(record)) => Ok(Some(Found { record, warm: false })),
            _ => Err(error),
        },
    }
}

/// Deletes what is in the folder of the memory, but for what is being freed already. The folder stays: a shim in its sandbox
/// can neither remove nor make it.
pub(crate) fn clear_memory(paths: &VmPaths) -> io::Result<()> {
    let entries = match fs::read_dir(&paths.memory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    let freed = paths.freed();
    for path in entries.map(|entry| entry.map(|entry| entry.path())) {
        let path = path?;
        if path != freed {
            remove_file(&path)?;
        }
    }
    Ok(())
}

/// Empty memory for a VM that boots, in place of whatever there was.
pub(crate) fn fresh_memory(paths: &VmPaths, bytes: u64) -> io::Result<File> {
    private_dir(&paths.memory)?;
    clear_memory(paths)?;
    let file = create(&paths.warm().memory())?;
    file.set_len(bytes)?;
    Ok(file)
}

/// How settling ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Settled {
    /// The sleep lasts, and the tmpfs is free.
    Done,
    /// It was given up; the sleep is warm as before.
    GivenUp,
}

/// Says that settling is to be given up; held while something is changed that a wake needs. See [`settle`].
pub(crate) type GivenUp = Mutex<bool>;

/// Copies a warm sleep to the disk and frees the tmpfs. Nothing to do is done.
///
/// `given_up` may be set at any time. Whoever has set it knows that from then on nothing of the sleep is touched, and
/// nothing of what a wake makes of it.
pub(crate) fn settle(paths: &VmPaths, given_up: &GivenUp) -> io::Result<Settled> {
    let Some(to_copy) = look(paths, given_up)? else { return Ok(Settled::GivenUp) };
    let copied = match to_copy {
        ToCopy::Nothing => return Ok(Settled::Done),
        ToCopy::Again => false,
        ToCopy::This(record) => {
            let made = make_cold(paths, *record, || is_set(given_up));
            if !matches!(made, Ok(true)) {
                remove_tree(&paths.cold_new().0)?;
            }
            if !made? {
                return Ok(Settled::GivenUp);
            }
            true
        }
    };
    let still = hold(given_up);
    if *still {
        drop(still);
        remove_tree(&paths.cold_new().0)?;
        return Ok(Settled::GivenUp);
    }
    if copied {
        let cold = paths.cold().0;
        retire_cold(paths)?;
        fs::rename(paths.cold_new().0, &cold)?;
        sync_parent(&cold)?;
        remove_tree(&paths.cold_used().0)?;
    }
    fault::at("settle:renamed");
    // Out of the way at once: to free a gigabyte takes a moment, in which somebody may want to wake it.
    let (warm, freed) = (paths.warm(), paths.freed());
    remove_file(&warm.record())?;
    fault::at("settle:half freed");
    remove_tree(&freed)?;
    private_dir(&freed)?;
    for (number, file) in [warm.memory(), warm.device(), warm.used_record()].iter().enumerate() {
        rename_if_there(file, &freed.join(number.to_string()))?;
    }
    drop(still);
    remove_tree(&freed)?;
    Ok(Settled::Done)
}

fn hold(given_up: &GivenUp) -> MutexGuard<'_, bool> {
    given_up.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_set(given_up: &GivenUp) -> bool {
    *hold(given_up)
}

enum ToCopy {
    Nothing,
    /// It was copied before, and a kill came in between.
    Again,
    This(Box<Record>),
}

/// What there is to do; `None` when it is given up already.
fn look(paths: &VmPaths, given_up: &GivenUp) -> io::Result<Option<ToCopy>> {
    let warm = paths.warm();
    let still = hold(given_up);
    if *still {
        return Ok(None);
    }
    let found = Record::read(&warm).and_then(|found| match found {
        Some(record) => record.check(&warm).map(|()| Some(record)),
        None => Ok(None),
    });
    Ok(Some(match found {
        Ok(Some(record)) => {
            let there = Record::read(&paths.cold()).ok().flatten();
            match there.is_some_and(|there| there.is_same_sleep(&record)) {
                true => ToCopy::Again,
                false => ToCopy::This(Box::new(record)),
            }
        }
        Ok(None) => {
            // What a wake that failed has left.
            clear_memory(paths)?;
            ToCopy::Nothing
        }
        Err(error) => {
            tracing::error!(%error, "a sleep in memory stays there, since it is of no use");
            ToCopy::Nothing
        }
    }))
}

/// Everything of `sleep.new`, on stable storage. `false` when it was given up.
fn make_cold(paths: &VmPaths, record: Record, is_given_up: impl Fn() -> bool) -> io::Result<bool> {
    let (warm, new) = (paths.warm(), paths.cold_new());
    remove_tree(&new.0)?;
    private_dir(&new.0)?;
    let memory = File::open(warm.memory())?;
    let free = rustix::fs::statvfs(&new.0)?;
    let free = free.f_bavail.saturating_mul(free.f_frsize);
    if free < (memory.metadata()?.blocks() * 512).saturating_add(LEFT_FREE) {
        return Err(io::ErrorKind::StorageFull.into());
    }
    fault::at("settle:begun");
    let copy_of_memory = create(&new.memory())?;
    let Some(copied) = copy(&memory, &copy_of_memory, || !is_given_up())? else { return Ok(false) };
    tracing::debug!(bytes = copied.bytes, "the memory is copied");
    let device = create(&new.device())?;
    io::copy(&mut File::open(warm.device())?, &mut &device)?;
    fault::at("settle:copied");
    device.sync_all()?;
    copy_of_memory.sync_all()?;
    record.with_memory_sum(copied.sum).write(&new)?;
    File::open(&new.0)?.sync_all()?;
    fault::at("settle:synced");
    Ok(true)
}

/// Bringing a cold sleep's memory and devices back into the tmpfs; the record stays with the cold one, so that it is a
/// cold sleep until it ends.
#[derive(Debug)]
pub(crate) struct Restore {
    from: [File; 2],
    to: [File; 2],
    sum: Option<u32>,
}

impl Restore {
    /// Makes the files, so that QEMU can be started; their content comes with [`Restore::run`].
    pub(crate) fn begin(paths: &VmPaths, record: &Record) -> Result<Self, Unusable> {
        let (warm, cold) = (paths.warm(), paths.cold());
        let from = [File::open(cold.memory())?, File::open(cold.device())?];
        let memory = fresh_memory(paths, record.memory())?;
        Ok(Self { from, to: [memory, create(&warm.device())?], sum: record.memory_sum() })
    }

    /// Copies, and finds out whether the memory is what it was. Given up when `go_on` says no.
    pub(crate) fn run(self, go_on: impl FnMut() -> bool) -> Result<(), Unusable> {
        let Self { from: [memory, mut device], to: [to_memory, mut to_device], sum } = self;
        // The kernel reads ahead; it is no error if it does not.
        let _advice = rustix::fs::fadvise(&memory, 0, None, rustix::fs::Advice::Sequential);
        let given_up = || io::Error::from(io::ErrorKind::Interrupted);
        let copied = copy(&memory, &to_memory, go_on)?.ok_or_else(given_up)?;
        if sum.is_some_and(|sum| sum != copied.sum) {
            return Err(Unusable::Damaged);
        }
        io::copy(&mut device, &mut to_device)?;
        Ok(())
    }
}

/// The sleep is over, also after the power has failed: what was kept may not be used again. Until
/// [`clear_leftovers`] it can be put back.
pub(crate) fn end(paths: &VmPaths) -> io::Result<()> {
    retire_cold(paths)?;
    let warm = paths.warm();
    rename_if_there(&warm.record(), &warm.used_record())
}

/// The guest has not gone on after all.
pub(crate) fn end_is_undone(paths: &VmPaths) -> io::Result<()> {
    rename_if_there(&paths.warm().used_record(), &paths.warm().record())?;
    rename_if_there(&paths.cold_used().0, &paths.cold().0)?;
    sync_parent(&paths.cold().0)
}

fn rename_if_there(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Takes a cold sleep out of use; does nothing when there is none.
fn retire_cold(paths: &VmPaths) -> io::Result<()> {
    let cold = paths.cold().0;
    if !cold.exists() {
        return Ok(());
    }
    remove_tree(&paths.cold_used().0)?;
    fs::rename(&cold, paths.cold_used().0)?;
    sync_parent(&cold)
}

/// Deletes what earlier runs have left that is part of no sleep, but for the memory of a VM that runs.
pub(crate) fn clear_leftovers(paths: &VmPaths) -> io::Result<()> {
    remove_tree(&paths.cold_new().0)?;
    remove_tree(&paths.cold_used().0)?;
    remove_file(&paths.warm().used_record())
}

/// Gives the sleep up. The VM is off when this returns, also after the power has failed.
pub(crate) fn forget(paths: &VmPaths) -> io::Result<()> {
    // A damaged record does not tell; an identity too many does no harm.
    let read = |dir: &SleepDir| Record::read(dir).ok().flatten();
    if read(&paths.warm()).or_else(|| read(&paths.cold())).is_some_and(|record| record.fork) {
        write_durably(&paths.unclaimed(), b"")?;
    }
    end(paths)?;
    clear_leftovers(paths)?;
    remove_tree(&paths.memory)
}

/// Deletes whatever there is of a sleep, and of memory. The VM is off when this returns, also after the power has failed.
pub(crate) fn discard(paths: &VmPaths) -> io::Result<()> {
    end(paths)?;
    clear_leftovers(paths)?;
    remove_tree(&paths.memory)
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests;
