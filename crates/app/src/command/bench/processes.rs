//! The processes of a world, as /proc shows them.

use std::{
    fs,
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

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
