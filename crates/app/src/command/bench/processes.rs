//! The processes of a world, as /proc shows them.

use std::{
    fs,
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};

/// The accuracy with which the end of a process is seen.
const GLANCE: Duration = Duration::from_micros(200);

/// A process and its command line.
#[derive(Debug, Clone)]
pub(super) struct Process {
    pub(super) pid: i32,
    pub(super) words: Vec<String>,
}

impl Process {
    pub(super) fn is_qemu(&self) -> bool {
        self.words.first().is_some_and(|program| program.contains("qemu-system"))
    }

    fn is_there(&self) -> bool {
        Path::new(&format!("/proc/{}", self.pid)).exists()
    }
}

/// The processes, but for this one, whose command line has one of these words in it.
pub(super) fn with_words(words: &[String]) -> Vec<Process> {
    let own = i32::try_from(std::process::id()).ok();
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| Some(*pid) != own)
        .filter_map(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line);
            let found = words.iter().any(|word| line.contains(word.as_str()));
            found.then(|| Process { pid, words: line.split('\0').map(str::to_owned).collect() })
        })
        .collect()
}

/// Waits until all of them have ended, and tells when; `None` when that takes longer than `patience`. Blocks.
pub(super) fn ended(processes: &[Process], patience: Duration) -> Option<Instant> {
    let deadline = Instant::now() + patience;
    while processes.iter().any(Process::is_there) {
        if Instant::now() > deadline {
            return None;
        }
        sleep(GLANCE);
    }
    Some(Instant::now())
}

pub(super) fn kill(process: &Process) {
    if let Some(pid) = Pid::from_raw(process.pid) {
        let _gone_already = kill_process(pid, Signal::KILL);
    }
}

/// A process and all below it.
#[derive(Debug)]
pub(super) struct Tree(Vec<u32>);

impl Tree {
    pub(super) fn below(root: u32) -> Self {
        let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let parents: Vec<(u32, u32)> = pids.filter_map(|pid| Some((pid, stat(pid)?.parent))).collect();
        let mut tree = vec![root];
        let mut seen = 0;
        while let Some(parent) = tree.get(seen).copied() {
            tree.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
            seen += 1;
        }
        Self(tree)
    }

    /// The processor time that they and their children that have ended took, to a hundredth of a second each.
    pub(super) fn cpu(&self) -> Duration {
        let ticks: u64 = self.0.iter().filter_map(|pid| stat(*pid)).map(|stat| stat.ticks).sum();
        Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
    }

    /// The memory that they have, in bytes: each page divided by those that share it (PSS, proc(5)).
    pub(super) fn memory(&self) -> anyhow::Result<u64> {
        let mut bytes = 0;
        for pid in &self.0 {
            let rollup = match fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) {
                Ok(rollup) => rollup,
                // It has ended.
                Err(error) if matches!(error.raw_os_error(), Some(2 | 3)) => continue,
                Err(error) => {
                    return Err(error)
                        .context("The memory of a gateway is for root to see: run this as root");
                }
            };
            let pss = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
            let pss = pss.and_then(|text| text.trim().strip_suffix(" kB")?.parse::<u64>().ok());
            bytes += pss.unwrap_or_default() * 1024;
        }
        Ok(bytes)
    }
}

struct Stat {
    parent: u32,
    ticks: u64,
}

/// Of proc_pid_stat(5): the parent is the second field after the name, its times and its children's the 12th to 15th.
fn stat(pid: u32) -> Option<Stat> {
    let line = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = line.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let ticks = fields.get(11..15)?.iter().filter_map(|field| field.parse::<u64>().ok()).sum();
    Some(Stat { parent: fields.get(1)?.parse().ok()?, ticks })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_has_its_processes_and_what_they_took() {
        let own = std::process::id();
        let tree = Tree::below(own);
        assert!(tree.0.contains(&own));
        assert!(tree.memory().unwrap() > 1 << 20);
        let before = tree.cpu();
        while tree.cpu() == before {
            std::hint::black_box((0..100_000).sum::<u64>());
        }
        let parent = stat(own).unwrap().parent;
        assert!(Tree::below(parent).0.contains(&own));
    }
}
