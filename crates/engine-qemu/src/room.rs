//! What the host has room for, and what a VM takes of it.
//!
//! A guest's memory is a file in a tmpfs, which fills as the guest touches it: a tmpfs that is full would kill QEMU in
//! the middle of the guest's work. So it has to have room for all that its files may grow to.

use std::{fs, os::unix::fs::MetadataExt, path::Path, time::Duration};

use berth_engine::{EngineError, Room};

use crate::{
    paths::{StateDir, VmPaths},
    sleep::SleepDir,
};

/// Of the host's memory VMs may have so many tenths: the rest is for QEMU itself, the server and the system.
const TENTHS_FOR_VMS: u64 = 9;

/// What there is for VMs. Blocks.
pub(crate) fn room(state: &StateDir) -> Result<Room, EngineError> {
    let unknown = |what: String| EngineError::Broken { reason: format!("{what} cannot be read") };
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let field = |name| field(&meminfo, name).ok_or_else(|| unknown("/proc/meminfo".to_owned()));
    let tmpfs = space(state.memory()).ok_or_else(|| unknown(state.memory().display().to_string()))?;
    let disk = space(state.root()).ok_or_else(|| unknown(state.root().display().to_string()))?;
    let memory = (field("MemTotal:")? / 10 * TENTHS_FOR_VMS).min(tmpfs.whole);
    Ok(Room {
        memory: cgroup_limit().map_or(memory, |limit| memory.min(limit)),
        memory_free: field("MemAvailable:")?.min(tmpfs.free),
        disk_free: disk.free,
    })
}

/// Refuses to let a VM begin to run whose memory the host does not have. What the tmpfs holds of it counts. Blocks.
pub(crate) fn room_for(state: &StateDir, paths: &VmPaths, memory: u64) -> Result<(), EngineError> {
    let wanted = memory.saturating_sub(allocated(&paths.warm().memory()));
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let available = field(&meminfo, "MemAvailable:").unwrap_or(u64::MAX);
    if available < wanted {
        return Err(EngineError::NoRoom {
            reason: format!(
                "the host has {} of memory left and the VM needs {}: stop another VM, or try again later",
                megabytes(available),
                megabytes(wanted)
            ),
        });
    }
    let free = space(state.memory()).map_or(u64::MAX, |space| space.free);
    let free = free.saturating_sub(promised(state.memory(), paths));
    if free < wanted {
        return Err(EngineError::NoRoom {
            reason: format!(
                "there is room for {} more of memory in {} and the VM needs {}: stop another VM, or make it larger",
                megabytes(free),
                state.memory().parent().unwrap_or(state.memory()).display(),
                megabytes(wanted)
            ),
        });
    }
    Ok(())
}

/// Bytes that the memory of VMs that run, other than this one, may still grow by.
fn promised(memory: &Path, but: &VmPaths) -> u64 {
    let folders = fs::read_dir(memory).into_iter().flatten().flatten();
    folders
        .map(|folder| SleepDir(folder.path()))
        .filter(|folder| *folder != but.warm() && !folder.record().exists())
        .filter_map(|folder| fs::metadata(folder.memory()).ok())
        .map(|file| file.len().saturating_sub(file.blocks() * 512))
        .sum()
}

/// Bytes that a file takes; 0 when it is not there.
pub(crate) fn allocated(file: &Path) -> u64 {
    fs::metadata(file).map_or(0, |found| found.blocks() * 512)
}

/// The processor time of a process, its finished threads included: proc_pid_stat(5).
pub(crate) fn cpu_of(pid: u32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let ticks = ticks(&stat)?;
    let a_second = rustix::param::clock_ticks_per_second();
    Some(Duration::from_millis(ticks.saturating_mul(1000) / a_second.max(1)))
}

/// utime and stime. The name of the program, which may hold anything, ends with the last bracket.
fn ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11).map(|field| field.parse::<u64>().ok());
    Some(fields.next()??.saturating_add(fields.next()??))
}

struct Space {
    whole: u64,
    free: u64,
}

fn space(path: &Path) -> Option<Space> {
    let found = rustix::fs::statvfs(path).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
    Some(Space { whole: bytes(found.f_blocks), free: bytes(found.f_bavail) })
}

/// proc_meminfo(5), in bytes.
fn field(meminfo: &str, name: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? << 10)
}

/// The least `memory.max` of the control groups that this process is in (cgroup v2).
fn cgroup_limit() -> Option<u64> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let leaf = Path::new("/sys/fs/cgroup").join(own);
    leaf.ancestors()
        .take_while(|folder| folder.starts_with("/sys/fs/cgroup"))
        .filter_map(|folder| fs::read_to_string(folder.join("memory.max")).ok()?.trim().parse().ok())
        .min()
}

fn megabytes(bytes: u64) -> String {
    format!("{} MB", bytes >> 20)
}

#[cfg(test)]
mod tests {
    use berth_model::VmId;

    use super::*;
    use crate::sleep;

    fn state() -> (tempfile::TempDir, StateDir) {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path(), dir.path()).unwrap();
        (dir, state)
    }

    #[test]
    fn memory_that_is_not_there() {
        let meminfo = "MemTotal: 9 kB\nMemAvailable:   23847 kB\n";
        assert_eq!(field(meminfo, "MemAvailable:"), Some(23847 << 10));
        let (_dir, state) = state();
        let paths = state.vm(&VmId::random());
        assert_eq!(room_for(&state, &paths, 1 << 20), Ok(()));
        assert!(matches!(room_for(&state, &paths, u64::MAX), Err(EngineError::NoRoom { .. })));
    }

    #[test]
    fn what_other_vms_may_still_touch_is_not_free() {
        let (_dir, state) = state();
        let free = space(state.memory()).unwrap().free;
        let (one, two) = (state.vm(&VmId::random()), state.vm(&VmId::random()));
        sleep::fresh_memory(&one, free - (1 << 30)).unwrap();
        assert_eq!(promised(state.memory(), &two), free - (1 << 30));
        let refused = room_for(&state, &two, 3 << 30);
        assert!(matches!(&refused, Err(EngineError::NoRoom { .. })), "{refused:?}");
        assert_eq!(room_for(&state, &one, 3 << 30), Ok(()), "its own");
        fs::write(one.warm().record(), b"").unwrap();
        assert_eq!(room_for(&state, &two, 3 << 30), Ok(()), "one that sleeps does not grow");
    }

    #[test]
    fn the_room_of_this_host() {
        let (_dir, state) = state();
        let room = room(&state).unwrap();
        assert!(room.memory > 0 && room.memory_free > 0 && room.disk_free > 0, "{room:?}");
    }

    #[test]
    fn processor_time_of_a_program_with_any_name() {
        let stat = "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 150 25 0 0 20";
        assert_eq!(ticks(stat), Some(175));
        assert!(cpu_of(std::process::id()).is_some());
        assert_eq!(cpu_of(u32::MAX), None);
    }
}
