//! Running mmdebstrap: its tools, its output as progress, its failures in plain words.

use std::{
    collections::VecDeque,
    env,
    ffi::OsString,
    io::{BufRead, BufReader, Read},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, sync_channel},
    thread,
    time::{Duration, Instant},
};

use super::{ImageError, build::NEEDED_GB, definition};

/// So often there is a line of progress, even if nothing else is known than that time passes.
const SPEAK_EVERY: Duration = Duration::from_secs(3);
/// So much of what a failed build said is shown.
const LAST_LINES: usize = 30;
/// A longer line is cut, in bytes.
const MAX_LINE: u64 = 4096;

/// The programs that a build runs on the host, and where to get them.
const TOOLS: [(&str, &str); 4] =
    [("mmdebstrap", "mmdebstrap"), ("mke2fs", "e2fsprogs"), ("tar", "tar"), ("unshare", "util-linux")];

/// How the new root's owners are made right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Root,
    /// A user namespace, for which the user needs a range of ids of its own.
    Unshare,
}

impl Mode {
    pub(super) fn of_this_process() -> Self {
        if rustix::process::geteuid().is_root() { Self::Root } else { Self::Unshare }
    }
}

/// # Errors
/// [`ImageError::Missing`] for the first thing that the host lacks.
pub(super) fn check_tools(mode: Mode) -> Result<(), ImageError> {
    let path = search_path();
    let missing = |what: &str, package| Err(ImageError::Missing { what: what.to_owned(), package });
    for (program, package) in
        TOOLS.into_iter().chain((mode == Mode::Unshare).then_some(("newuidmap", "uidmap")))
    {
        if !env::split_paths(&path).any(|dir| dir.join(program).is_file()) {
            return missing(program, package);
        }
    }
    if !Path::new(definition::KEYRING).is_file() {
        return missing(definition::KEYRING, "debian-archive-keyring");
    }
    Ok(())
}

/// An ordinary user's PATH often lacks the folders that mke2fs is in.
fn search_path() -> OsString {
    let mut path = env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin");
    path
}

/// Runs mmdebstrap and unpacks what it hands over into `results`. Blocks for a minute or two.
pub(super) fn run(
    mode: Mode,
    arguments: &[String],
    results: &Path,
    mirror: &str,
    progress: &mut dyn FnMut(&str),
) -> Result<(), ImageError> {
    let mut mmdebstrap = start_mmdebstrap(mode, arguments, results)?;
    let archive = mmdebstrap.stdout.take().map_or_else(Stdio::null, Stdio::from);
    let tar = start_tar(archive, results);
    let lines = read_lines(mmdebstrap.stderr.take());
    let mut last = follow(&lines, progress);
    let status = mmdebstrap.wait().map_err(ImageError::io(results))?;
    let unpacked = tar?.wait_with_output().map_err(ImageError::io(results))?;
    if !status.success() || !unpacked.status.success() {
        last.extend(String::from_utf8_lossy(&unpacked.stderr).lines().take(LAST_LINES).map(str::to_owned));
        return Err(explain(&last.make_contiguous().join("\n"), status, results, mirror));
    }
    Ok(())
}

fn start_mmdebstrap(mode: Mode, arguments: &[String], results: &Path) -> Result<Child, ImageError> {
    // Descriptor 3 carries the results, because mmdebstrap's hooks have no stdout of their own.
    #[expect(clippy::disallowed_methods, reason = "this crate runs the build's programs")]
    let mut command = Command::new("sh");
    command.args(["-c", "exec mmdebstrap \"$@\" 3>&1 1>&2", "sh"]);
    match mode {
        // Everything on the file system where the image will be.
        Mode::Root => command.arg("--mode=root").env("TMPDIR", results),
        // The namespace's root is nobody in the user's folders: it needs one that everybody may enter.
        Mode::Unshare => command.arg("--mode=unshare").env("TMPDIR", "/var/tmp"),
    };
    command.args(arguments).env("PATH", search_path()).env("LC_ALL", "C.UTF-8");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().map_err(ImageError::io(Path::new("sh")))
}

fn start_tar(archive: Stdio, results: &Path) -> Result<Child, ImageError> {
    #[expect(clippy::disallowed_methods, reason = "this crate runs the build's programs")]
    let mut command = Command::new("tar");
    command
        .args(["--extract", "--sparse", "--no-same-owner", "--no-same-permissions", "--directory"])
        .arg(results);
    command.env("PATH", search_path()).stdin(archive).stdout(Stdio::null()).stderr(Stdio::piped());
    command.spawn().map_err(ImageError::io(Path::new("tar")))
}

/// Lines of a child's output, read by a thread that ends with the output.
fn read_lines(output: Option<impl Read + Send + 'static>) -> Receiver<String> {
    let (sender, receiver) = sync_channel(64);
    thread::spawn(move || {
        let Some(output) = output else { return };
        let mut output = BufReader::new(output);
        let mut line = Vec::new();
        loop {
            line.clear();
            match output.by_ref().take(MAX_LINE).read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) => {
                    let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                    if !text.is_empty() && sender.send(text).is_err() {
                        return;
                    }
                }
            }
        }
    });
    receiver
}

/// Turns what mmdebstrap prints into progress, until it prints no more, and gives the last lines.
fn follow(lines: &Receiver<String>, progress: &mut dyn FnMut(&str)) -> VecDeque<String> {
    let mut last = VecDeque::new();
    let mut stage = Stage::default();
    let start = Instant::now();
    let mut spoken = start;
    loop {
        match lines.recv_timeout(SPEAK_EVERY.saturating_sub(spoken.elapsed())) {
            Ok(line) => {
                let new_stage = stage.take_in(&line);
                if last.len() == LAST_LINES {
                    last.pop_front();
                }
                last.push_back(line);
                if !new_stage && spoken.elapsed() < SPEAK_EVERY {
                    continue;
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return last,
        }
        spoken = Instant::now();
        progress(&format!("{} ({} s)", stage.words(), start.elapsed().as_secs()));
    }
}

/// How far a build is, as its output tells.
#[derive(Debug, Default, PartialEq, Eq)]
struct Stage {
    name: String,
    /// Packages seen in this stage.
    count: u32,
}

impl Stage {
    /// Whether the line begins a new stage.
    fn take_in(&mut self, line: &str) -> bool {
        let name = if let Some(ours) = line.strip_prefix("berth: ") {
            ours
        } else if line.starts_with("Get:") || line.starts_with("I: running apt-get update") {
            "downloading packages"
        } else if line.starts_with("Unpacking ") || line.starts_with("Setting up ") {
            "installing packages"
        } else if line.starts_with("I: extracting archives") {
            "unpacking the base"
        } else {
            return false;
        };
        let is_new = self.name != name;
        if is_new {
            *self = Self { name: name.to_owned(), count: 0 };
        }
        if line.starts_with("Get:") || line.starts_with("Setting up ") {
            self.count += 1;
        }
        is_new
    }

    fn words(&self) -> String {
        match (self.name.as_str(), self.count) {
            ("", _) => "beginning".to_owned(),
            (name, 0) => name.to_owned(),
            (name, count) => format!("{name}: {count}"),
        }
    }
}

fn explain(said: &str, status: ExitStatus, dir: &Path, mirror: &str) -> ImageError {
    let has = |needles: &[&str]| needles.iter().any(|needle| said.contains(needle));
    if has(&["No space left on device", "You don't have enough free space", "Disk quota exceeded"]) {
        return ImageError::DiskFull { dir: dir.to_owned(), needed_gb: NEEDED_GB };
    }
    if has(&["newuidmap", "/etc/subuid", "/etc/subgid"]) {
        return ImageError::NoUserIds;
    }
    let fetching =
        ["Failed to fetch", "Could not resolve", "Could not connect", "does not have a Release file"];
    if let Some(line) = said.lines().find(|line| fetching.iter().any(|needle| line.contains(needle))) {
        return ImageError::Mirror {
            mirror: mirror.to_owned(),
            detail: line.trim_start_matches("E: ").to_owned(),
        };
    }
    match status.signal() {
        Some(signal) => ImageError::Build(format!("mmdebstrap was ended by signal {signal}")),
        None => ImageError::Build(said.to_owned()),
    }
}

/// Where the build works: beside the images, so that a rename publishes it.
pub(super) fn work_dir(image_dir: &Path) -> PathBuf {
    image_dir.join(format!(".building-{}", std::process::id()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_becomes_stages() {
        let mut stage = Stage::default();
        assert_eq!(stage.words(), "beginning");
        assert!(stage.take_in("I: running apt-get update..."));
        assert!(!stage.take_in("Get:1 http://deb.debian.org/debian trixie InRelease [140 kB]"));
        assert!(!stage.take_in("Get:2 http://deb.debian.org/debian trixie/main amd64 Packages"));
        assert_eq!(stage.words(), "downloading packages: 2");
        assert!(stage.take_in("Unpacking base-files (13.8) ..."));
        assert!(!stage.take_in("something else"));
        assert_eq!(stage.words(), "installing packages");
        assert!(!stage.take_in("Setting up base-files (13.8) ..."));
        assert_eq!(stage.words(), "installing packages: 1");
        assert!(stage.take_in("berth: writing the disk"));
        assert_eq!(stage.words(), "writing the disk");
    }

    #[test]
    fn failures_in_plain_words() {
        let status = ExitStatus::from_raw(1 << 8);
        let dir = Path::new("/images");
        let explain = |said| explain(said, status, dir, "http://mirror").to_string();
        assert_eq!(
            explain("tar: disk: Cannot write: No space left on device"),
            "/images is full: building an image needs 4 GB"
        );
        assert!(explain("E: newuidmap 123 0 100000 failed").contains("/etc/subuid"));
        assert_eq!(
            explain("I: x\nE: Failed to fetch http://mirror/x  404  Not Found\nE: apt-get update failed"),
            "the package mirror http://mirror does not answer as it should: Failed to fetch http://mirror/x  404  Not Found"
        );
        assert_eq!(explain("one\ntwo"), "the build of the image failed:\none\ntwo");
    }

    #[test]
    fn a_silent_build_still_speaks_and_the_last_lines_are_kept() {
        let (sender, receiver) = sync_channel(100);
        for number in 0..50 {
            sender.send(format!("Unpacking package{number} (1) ...")).unwrap();
        }
        drop(sender);
        let mut spoken = Vec::new();
        let last = follow(&receiver, &mut |line| spoken.push(line.to_owned()));
        assert_eq!(spoken, ["installing packages (0 s)"]);
        assert_eq!(last.len(), LAST_LINES);
        assert!(last.back().unwrap().contains("package49"));
    }

    #[test]
    fn endless_lines_are_cut() {
        let text = vec![b'x'; 3 * MAX_LINE as usize];
        let lines: Vec<_> = read_lines(Some(std::io::Cursor::new(text))).iter().collect();
        assert_eq!(lines.len(), 3);
    }
}
