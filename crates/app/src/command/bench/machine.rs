//! What machine this is, and its page cache.

use std::{fs, io::Write};

use anyhow::Context as _;

use super::processes::Process;

const DROP_CACHES: &str = "/proc/sys/vm/drop_caches";

/// One line about this machine, and how busy others keep it. Where a QEMU runs, it tells under what.
pub(super) fn describe(qemu: Option<&Process>) -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = field(&info, "model name").unwrap_or("an unknown CPU");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or("?").to_owned();
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory = field(&memory, "MemTotal").and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
    let memory = memory.map_or_else(|| "?".to_owned(), |kib| format!("{} GiB", (kib + (1 << 19)) >> 20));
    let qemu = qemu.map_or_else(String::new, |qemu| format!("; {}", describe_qemu(qemu)));
    let cores = if cores == 1 { "1 core".to_owned() } else { format!("{cores} cores") };
    format!("{cpu}, {cores}, {memory}{qemu}; load {load} as it begins")
}

fn describe_qemu(qemu: &Process) -> String {
    let under = match accelerator(qemu) {
        Some("kvm") => "KVM",
        Some("tcg") => "TCG, without KVM",
        _ => "an unknown accelerator",
    };
    let version = version(qemu).unwrap_or_else(|| "an unknown version".into());
    format!("QEMU {version}, {under}")
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_once(':').map(|(_, value)| value.trim())
}

fn accelerator(qemu: &Process) -> Option<&str> {
    let after = qemu.words.iter().skip_while(|word| *word != "-accel").nth(1)?;
    after.split(',').next()
}

fn version(qemu: &Process) -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "a bench runs what it measures")]
    let output = std::process::Command::new(qemu.words.first()?).arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = text.lines().next()?.split_once("version ")?.1;
    Some(version.split(' ').next()?.to_owned())
}

/// Refuses who may not do what [`empty_the_page_cache`] does.
pub(super) fn may_empty_the_page_cache() -> anyhow::Result<()> {
    fs::OpenOptions::new().write(true).open(DROP_CACHES).map(drop).with_context(|| {
        format!("--cold empties this machine's page cache, for which {DROP_CACHES} has to be written: run it as root")
    })
}

/// Has everything on disk be read from the disk when it is read next. Blocks.
pub(super) fn empty_the_page_cache() -> anyhow::Result<()> {
    rustix::fs::sync();
    let mut file = fs::OpenOptions::new().write(true).open(DROP_CACHES)?;
    file.write_all(b"3").context("The page cache cannot be emptied")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_qemu_runs_under() {
        let words = ["qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max"];
        let qemu = Process { pid: 1, words: words.map(str::to_owned).to_vec() };
        assert_eq!(accelerator(&qemu), Some("tcg"));
        assert_eq!(accelerator(&Process { pid: 1, words: vec!["-accel".into()] }), None);
        assert!(describe(Some(&qemu)).contains(" GiB; QEMU "), "{}", describe(Some(&qemu)));
        assert!(describe(None).contains(" GiB; load "), "{}", describe(None));
    }
}
