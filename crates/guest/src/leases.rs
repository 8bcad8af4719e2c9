//! What holds a guest awake from within: how it is asked, and what is believed of its answer.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use berth_engine::Lease;

const LEASES: &str = include_str!("leases.sh");
/// More than these say nothing more.
const MOST: usize = 32;
/// Characters of what a lease is for.
const LONGEST: usize = 80;

/// The script that prints the leases of a guest, for [`leases`]. It deletes those whose program is gone.
#[must_use]
pub fn leases_script() -> String {
    super::FUNCTIONS.to_owned() + LEASES
}

/// The leases out of what [`leases_script`] printed, or of whatever else a guest has put in its place: at most 32, with at
/// most 80 characters each and none of them a control character. What makes no sense is left out.
#[must_use]
pub fn leases(output: &str) -> Vec<Lease> {
    output.lines().filter_map(lease).take(MOST).collect()
}

fn lease(line: &str) -> Option<Lease> {
    let mut parts = line.splitn(3, ' ');
    let since = time(parts.next()?)?;
    let until = match parts.next()? {
        "-" => None,
        until => Some(time(until)?),
    };
    let what = parts.next().unwrap_or_default();
    let what: String = what.chars().filter(|c| !c.is_control()).take(LONGEST).collect();
    Some(Lease { what: what.trim().to_owned(), since, until })
}

/// Seconds since 1970. The year 10000 is as far as anybody can show.
fn time(text: &str) -> Option<SystemTime> {
    let seconds = text.parse().ok().filter(|seconds| *seconds < 253_402_300_800)?;
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        path::Path,
        process::{Child, Command, Stdio},
    };

    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn leases_for_a_command_and_for_a_time() {
        let output = "1700000000 - make -j2 test\n1700000001 1700007201 keepawake 2h\n";
        let expected = [
            Lease { what: "make -j2 test".to_owned(), since: at(1_700_000_000), until: None },
            Lease {
                what: "keepawake 2h".to_owned(),
                since: at(1_700_000_001),
                until: Some(at(1_700_007_201)),
            },
        ];
        assert_eq!(leases(output), expected);
    }

    #[test]
    fn what_makes_no_sense_is_left_out_and_the_rest_is_cut() {
        let far = u64::MAX;
        let output = format!("\nmake\n1 2\n-1 - x\n1 {far} x\n{far} - x\n3 - \u{1b}]0;{}\n", "ä".repeat(100));
        let found = leases(&output);
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!(found[0], Lease { what: String::new(), since: at(1), until: Some(at(2)) });
        assert_eq!(found[1].what, format!("]0;{}", "ä".repeat(77)));
        assert_eq!(leases(&"1 - x\n".repeat(1000)).len(), 32);
    }

    const KEEPAWAKE: &str = include_str!("../../engine-qemu/image/guest/keepawake");
    const PLACE: &str = "/run/berth/awake";

    /// The program of the image, with its leases elsewhere.
    fn keepawake(dir: &Path, words: &[&str]) -> Command {
        let script = KEEPAWAKE.replace(PLACE, dir.to_str().unwrap());
        assert_ne!(script, KEEPAWAKE);
        #[expect(clippy::disallowed_methods, reason = "the test runs the image's program")]
        let mut command = Command::new("sh");
        command.args(["-c", &script, "keepawake"]).args(words).stdin(Stdio::null());
        command
    }

    /// What the guest tells, in a word for each lease.
    fn told(dir: &Path) -> Vec<String> {
        let script = leases_script().replace(PLACE, dir.to_str().unwrap());
        #[expect(clippy::disallowed_methods, reason = "the test runs the script as the agent does")]
        let output = Command::new("sh").args(["-c", &script]).stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        let mut found: Vec<_> = leases(&String::from_utf8_lossy(&output.stdout))
            .into_iter()
            .map(|lease| if lease.until.is_some() { format!("{} until", lease.what) } else { lease.what })
            .collect();
        found.sort();
        found
    }

    fn says(command: &mut Command) -> (Option<i32>, String) {
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    }

    /// Waits for the lease to be there: the shell before the command takes its time.
    fn holding(dir: &Path, child: &mut Child, leases: usize) {
        while told(dir).len() < leases {
            assert!(child.try_wait().unwrap().is_none(), "it runs");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_command_holds_for_as_long_as_it_runs_however_it_ends() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let mut one = keepawake(dir, &["sleep", "600"]).spawn().unwrap();
        holding(dir, &mut one, 1);
        let mut two = keepawake(dir, &["sleep", "60\u{1b}0\n1 - x"]).stderr(Stdio::null()).spawn().unwrap();
        two.wait().unwrap();
        let mut three = keepawake(dir, &["--", "sleep", "601"]).spawn().unwrap();
        holding(dir, &mut three, 2);
        assert_eq!(told(dir), ["sleep 600", "sleep 601"]);
        one.kill().unwrap();
        one.wait().unwrap();
        assert_eq!(told(dir), ["sleep 601"]);
        three.kill().unwrap();
        three.wait().unwrap();
        assert_eq!(told(dir), [""; 0]);
        assert_eq!(fs::read_dir(dir).unwrap().count(), 0, "what does not count is deleted");
        assert_eq!(says(&mut keepawake(dir, &["sh", "-c", "exit 7"])), (Some(7), String::new()));
        assert_eq!(says(&mut keepawake(dir, &["/no/such/program"])).0, Some(127));
        assert_eq!(told(dir), [""; 0]);
    }

    #[test]
    fn a_time_holds_until_it_is_over_or_let_go() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let none = (Some(0), "Nothing holds this VM awake from within.\n".to_owned());
        assert_eq!(says(&mut keepawake(dir, &["--list"])), none);
        let (status, text) = says(&mut keepawake(dir, &["2h"]));
        assert!(status == Some(0) && text.starts_with("This VM stays awake until "), "{text}");
        assert_eq!(told(dir), ["keepawake 2h until"]);
        let (_, text) = says(&mut keepawake(dir, &["--list"]));
        assert!(text.starts_with("keepawake 2h (") && text.contains(", until "), "{text}");
        assert!(says(&mut keepawake(dir, &["--release"])).1.starts_with("Let go."));
        assert_eq!(says(&mut keepawake(dir, &["--release"])).1, "You hold nothing.\n");
        assert_eq!(told(dir), [""; 0]);
        fs::write(dir.join("over"), "- 5 1000 2000 long ago\n").unwrap();
        assert_eq!(says(&mut keepawake(dir, &["--list"])), none);
        assert_eq!(told(dir), [""; 0]);
        assert!(!dir.join("over").exists());
    }

    #[test]
    fn what_it_does_not_understand_it_does_not_run() {
        let dir = tempfile::tempdir().unwrap();
        for words in [&["--lsit"][..], &["2h", "make"], &["0m"], &["000s"]] {
            let (status, text) = says(&mut keepawake(dir.path(), words));
            assert!(status == Some(2) && text.starts_with("keepawake: "), "{words:?}: {text}");
        }
        assert_eq!(says(&mut keepawake(dir.path(), &[])).0, Some(2));
        assert_eq!(says(&mut keepawake(dir.path(), &["--help"])).0, Some(0));
        assert_eq!(says(&mut keepawake(dir.path(), &["08s"])).0, Some(0));
        let (_, text) = says(&mut keepawake(&dir.path().join("none"), &["2h"]));
        assert!(text.contains("not a VM of Berth"), "{text}");
    }

    #[test]
    fn leases_that_somebody_made_up_hold_nothing_up() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let long = "x".repeat(100_000);
        for (name, text) in [
            ("a", "1 2 3 - not started then\n"),
            ("b", "../../self 1 1 - x\n"),
            ("c", "no newline"),
            ("d", "\0\0\0\n"),
            ("e", long.as_str()),
            ("-rf", "- - 1 9999999999 a name like an option\n"),
        ] {
            fs::write(dir.join(name), text).unwrap();
        }
        rustix::fs::mknodat(rustix::fs::CWD, dir.join("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0)
            .unwrap();
        std::os::unix::fs::symlink("/dev/zero", dir.join("endless")).unwrap();
        fs::create_dir(dir.join("folder")).unwrap();
        assert_eq!(told(dir), ["a name like an option until"]);
    }

    proptest! {
        #[test]
        fn nothing_that_a_guest_says_is_too_much(output in r"([0-9]{1,12} (-|[0-9]{1,20}) (\PC|[\x00-\x1f\x7f-\x9f]){0,200}\n?){0,60}") {
            let found = leases(&output);
            prop_assert!(found.len() <= 32);
            for lease in found {
                prop_assert!(lease.what.chars().count() <= 80 && !lease.what.chars().any(char::is_control));
            }
        }
    }
}
