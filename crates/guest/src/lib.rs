//! What is run in a guest as root, whoever runs the guest: shell scripts.
//!
//! Pure: out of a [`Guest`] comes a script, which is whole in itself. The scripts' bodies are beside this file; here their
//! variables are put before them, quoted, so that no value is ever read as shell. How a script gets into a guest is its
//! engine's: by the agent of a VM, or by the cluster's API.

mod leases;
mod listeners;

use std::{
    fmt::Write as _,
    time::{SystemTime, UNIX_EPOCH},
};

use berth_engine::{Guest, GuestUser};

pub use leases::{leases, leases_script};
pub use listeners::{LISTENERS, listeners};

const FUNCTIONS: &str = include_str!("functions.sh");
const BOOT: &str = include_str!("boot.sh");
const FORK: &str = include_str!("fork.sh");
const GROW: &str = include_str!("grow.sh");
const HOME: &str = include_str!("home.sh");
const KEYS: &str = include_str!("keys.sh");
const OTHERS: &str = include_str!("others.sh");
const TELL: &str = include_str!("tell.sh");
const TEMPLATE: &str = include_str!("template.sh");
const TIDY: &str = include_str!("tidy.sh");
const ZERO: &str = include_str!("zero.sh");
const PAGE: &str = include_str!("index.html");

/// Characters of a line for terminals.
const LONGEST_LINE: usize = 500;

/// What a fork's random numbers begin with: bytes that no other fork has been given. Not for logs.
pub type Entropy = [u8; 64];

/// The script for after every boot: name, user, home, keys, host key, and at its end sshd. It takes a second or two while
/// the guest boots on beside it. Any number of runs has the effect of one. It contains the VM's host key: not for logs.
#[must_use]
pub fn script(guest: &Guest) -> String {
    FUNCTIONS.to_owned() + &set(&[("units", "ssh.service")]) + OTHERS + &others(guest) + &of(guest) + BOOT
}

/// The script for a guest that was copied from another one, once, before anybody can reach it: random numbers, identity and
/// clock of its own, and all that [`script`] does. `now` is the time at which it is run. It does no harm to run it again,
/// and it may also be run after a boot from a copied disk. It contains secrets: not for logs.
///
/// An address on the way out is asked for a second after its end. Eleven seconds after, the guest's journal begins anew.
#[must_use]
pub fn fork_script(guest: &Guest, entropy: &Entropy, now: SystemTime) -> String {
    let mut bytes = String::with_capacity(2 * entropy.len());
    for byte in entropy {
        let _ = write!(bytes, "{byte:02x}");
    }
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = format!("{}.{:09}", now.as_secs(), now.subsec_nanos());
    // The member's own systemd takes the longest at the first log-in, so it starts before there is one.
    let units = "ssh.service user@1000.service";
    FUNCTIONS.to_owned()
        + &set(&[("entropy", bytes.as_str()), ("now", now.as_str()), ("units", units)])
        + FORK
        + OTHERS
        + &others(guest)
        + &of(guest)
        + BOOT
}

/// The script that makes a booted guest, which nobody has connected to and no account has been put into, one to copy VMs
/// from. It takes about half a minute; then the guest is to be put to sleep at once.
#[must_use]
pub fn template_script() -> String {
    [FUNCTIONS, TEMPLATE, ZERO].concat()
}

/// The script that has a guest give back memory which it can do without, so that its sleep is small: what it has read from
/// its disk it may have to read again. It takes some seconds.
#[must_use]
pub fn tidy_script() -> String {
    [FUNCTIONS, TIDY, ZERO].concat()
}

/// The script that shows a line on every terminal of a member; one that is stopped does not hold it up. Control characters
/// are left out, and the line ends after 500 characters.
#[must_use]
pub fn tell_script(text: &str) -> String {
    let text: String = text.chars().filter(|c| !c.is_control()).take(LONGEST_LINE).collect();
    FUNCTIONS.to_owned() + &set(&[("text", text.as_str())]) + TELL
}

/// The script that only replaces the account's keys in a guest that runs, sees to who is let in beside, and replaces the
/// certificate of its host key where that is another one; it takes a few milliseconds where nothing of that has changed.
#[must_use]
pub fn keys_script(guest: &Guest) -> String {
    let variables = [
        ("user", guest.user.as_str()),
        ("authorized_keys", &whole_lines(&guest.authorized_keys)),
        ("host_certificate", &whole_lines(&guest.host_certificate)),
    ];
    FUNCTIONS.to_owned() + OTHERS + &others(guest) + &set(&variables) + KEYS
}

/// The script that grows the file system onto a disk of so many bytes, as soon as the guest sees it.
#[must_use]
pub fn grow_script(bytes: u64) -> String {
    FUNCTIONS.to_owned() + &set(&[("sectors", &(bytes / 512).to_string())]) + GROW
}

/// The script that puts everything below `/home` of another disk in place of a guest's own; the disk is known by its serial
/// number, and let go of at the end. It takes as long as the copy. Where it fails, the guest is to be thrown away.
#[must_use]
pub fn home_script(guest: &Guest, serial: &str) -> String {
    FUNCTIONS.to_owned() + &set(&[("user", guest.user.as_str()), ("serial", serial)]) + HOME
}

/// Why [`home_script`] failed, by its exit status: a sentence for the VM's owner, without a full stop.
#[must_use]
pub fn why_no_home(status: i64) -> &'static str {
    match status {
        11 => "its guest does not see its old disk",
        12 => "its old disk cannot be read",
        13 => "its home folder is not below /home, and only what is below /home can be kept",
        14 => "there is no folder /home on its disk",
        15 => "its home does not fit on the new disk: give it a larger one first",
        _ => "its home could not be copied whole",
    }
}

/// The function that [`OTHERS`] wants: a call for each guest.
fn others(guest: &Guest) -> String {
    let mut function = "others() {\n:\n".to_owned();
    for GuestUser { name, uid, sudo, authorized_keys } in &guest.others {
        let (name, keys) = (quoted(name.as_str()), quoted(&whole_lines(authorized_keys)));
        let _ = writeln!(function, "guest_user '{name}' {uid} {} '{keys}'", u8::from(*sudo));
    }
    function + "}\n"
}

/// The variables of [`BOOT`].
fn of(guest: &Guest) -> String {
    let hostname = host_name(&guest.hostname).unwrap_or("vm");
    let names: Vec<_> = guest.names.iter().filter_map(|name| host_name(name)).collect();
    let user = guest.user.as_str();
    let page = PAGE.replace("@USER@", user).replace("@HOST@", names.first().copied().unwrap_or(hostname));
    set(&[
        ("hostname", hostname),
        // Each followed by a space: the script puts the short name after them.
        ("names", &names.iter().map(|name| format!("{name} ")).collect::<String>()),
        ("user", user),
        ("authorized_keys", &whole_lines(&guest.authorized_keys)),
        ("host_key", &whole_lines(guest.host_key.expose())),
        ("host_certificate", &whole_lines(&guest.host_certificate)),
        ("page", &page),
    ])
}

/// The name if it can stand in `/etc/hosts`. Names are checked where they are made; one that is none is left out here
/// rather than given a meaning there.
fn host_name(name: &str) -> Option<&str> {
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '.' || c == '-');
    is_name.then_some(name)
}

/// Files end with a newline, and sshd wants it of a private key.
fn whole_lines(text: &str) -> String {
    match text.trim_end_matches(['\n', '\r']) {
        "" => String::new(),
        text => format!("{text}\n"),
    }
}

/// Assignments in shell. Between single quotes nothing has a meaning but the single quote; a NUL cannot be in a shell's
/// variable, nor in any of these values, and is left out.
fn set(variables: &[(&str, &str)]) -> String {
    variables.iter().map(|(name, value)| format!("{name}='{}'\n", quoted(value))).collect()
}

/// What stands between single quotes.
fn quoted(value: &str) -> String {
    value.replace('\0', "").replace('\'', r"'\''")
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        process::{Command, Stdio},
        time::Duration,
    };

    use berth_model::{AccountName, Secret};
    use proptest::prelude::*;

    use super::*;

    fn guest() -> Guest {
        Guest {
            hostname: "vm-0".to_owned(),
            names: vec!["vm-0.alice.koding.kd.io".to_owned(), "vm-0.alice.kd.io".to_owned()],
            user: "alice".parse::<AccountName>().unwrap(),
            authorized_keys: "ssh-ed25519 AAAA it's alice\n".to_owned(),
            others: vec![],
            host_key: Secret::new("-----BEGIN-----\nx\n-----END-----".to_owned()),
            host_certificate: "ssh-ed25519-cert-v01@openssh.com AAAA it's vm-0".to_owned(),
        }
    }

    /// Runs a script as the agent's caller does, and gives what it prints.
    fn run(script: &str) -> Vec<u8> {
        #[expect(clippy::disallowed_methods, reason = "the test asks the shell itself")]
        let mut shell = Command::new("sh")
            .args(["-c", "eval \"$(cat)\""])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        shell.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        let output = shell.wait_with_output().unwrap();
        assert!(output.status.success(), "{script}");
        output.stdout
    }

    #[test]
    fn scripts_are_shell() {
        let scripts = [
            script(&guest()),
            fork_script(&guest(), &[7; 64], UNIX_EPOCH),
            grow_script(11 << 30),
            home_script(&guest(), "old"),
            keys_script(&guest()),
            leases_script(),
            LISTENERS.to_owned(),
            tell_script("it's"),
            template_script(),
            tidy_script(),
        ];
        for script in scripts {
            // Nothing is run after `return`, but everything is read.
            run(&format!("whole() {{\n{script}\n}}\n"));
        }
    }

    #[test]
    fn values_arrive() {
        let script = script(&guest());
        let header = script.strip_suffix(BOOT).unwrap();
        let shown = run(&format!(
            "{header}printf '%s|' \"$hostname\" \"$names\" \"$user\" \"$authorized_keys\" \"$host_key\" \"$host_certificate\""
        ));
        assert_eq!(
            String::from_utf8(shown).unwrap(),
            "vm-0|vm-0.alice.koding.kd.io vm-0.alice.kd.io |alice|ssh-ed25519 AAAA it's alice\n|\
             -----BEGIN-----\nx\n-----END-----\n|ssh-ed25519-cert-v01@openssh.com AAAA it's vm-0\n|"
        );
        assert!(header.contains("<h1>Hello from vm-0.alice.koding.kd.io</h1>"));
        assert!(
            !header.contains("@USER@") && !header.contains("@HOST@"),
            "every place in the page is filled in"
        );
    }

    #[test]
    fn guests_are_called_by_their_names_and_keys() {
        let bob = GuestUser {
            name: "bob".parse().unwrap(),
            uid: 20007,
            sudo: true,
            authorized_keys: "ssh-ed25519 AAAA bob's\n".to_owned(),
        };
        let carol = GuestUser { name: "carol".parse().unwrap(), uid: 20008, sudo: false, ..bob.clone() };
        let guest = Guest { others: vec![bob, carol], ..guest() };
        let shown = run(&format!("guest_user() {{ printf '%s|' \"$@\"; }}\n{}others", others(&guest)));
        let keys = "ssh-ed25519 AAAA bob's\n";
        assert_eq!(String::from_utf8(shown).unwrap(), format!("bob|20007|1|{keys}|carol|20008|0|{keys}|"));
        for script in [keys_script(&guest), script(&guest), fork_script(&guest, &[7; 64], UNIX_EPOCH)] {
            run(&format!("whole() {{\n{script}\n}}\n"));
            let (told, done) =
                (script.find("guest_user 'bob'").unwrap(), script.rfind("all_guests").unwrap());
            assert!(told < done);
        }
    }

    #[test]
    fn no_keys_is_an_empty_file_and_not_an_empty_line() {
        let none = Guest { authorized_keys: "\n\n".to_owned(), ..guest() };
        assert!(keys_script(&none).contains("\nuser='alice'\nauthorized_keys=''\n"));
    }

    #[test]
    fn a_name_that_is_none_is_left_out() {
        let names = ["a.b", "a b", "x\n127.0.0.1 evil", "", "$(reboot)", "c-1"].map(str::to_owned).to_vec();
        let script = script(&Guest { names, hostname: "a b".to_owned(), ..guest() });
        assert!(script.contains("\nhostname='vm'\nnames='a.b c-1 '\n"));
    }

    /// The program inside a script, read by its own interpreter.
    #[test]
    fn programs_in_scripts_are_perl() {
        for script in [FORK, TELL] {
            let program = script.split('\'').nth(1).unwrap();
            #[expect(clippy::disallowed_methods, reason = "the test asks the interpreter itself")]
            let checked = Command::new("perl").args(["-c", "-e", program]).output().unwrap();
            assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
        }
    }

    #[test]
    fn a_fork_is_given_its_own_and_the_time() {
        let now = UNIX_EPOCH + Duration::new(1_700_000_000, 5);
        let one = fork_script(&guest(), &[1; 64], now);
        assert!(one.contains(&format!("\nentropy='{}'\nnow='1700000000.000000005'\n", "01".repeat(64))));
        assert_ne!(one, fork_script(&guest(), &[2; 64], now));
        let (entropy, user) = (one.find("RNDRESEEDCRNG").unwrap(), one.find("\nuser='alice'").unwrap());
        assert!(entropy < user, "nothing is made before its random numbers are its own");
    }

    #[test]
    fn a_line_for_terminals_is_one_and_harmless() {
        let script = tell_script("a\r\n\u{1b}[2Jb\u{9b}c 'd' ä");
        assert!(script.contains("\ntext='a[2Jbc '\\''d'\\'' ä'\n"), "{script}");
        let long = tell_script(&"ä".repeat(9000));
        assert_eq!(long.matches('ä').count(), 500);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn no_value_is_read_as_shell(
            one in any::<String>(),
            two in r#"(\PC|['"$`\\;&|<>(){}*?~!# \n\r\t]){0,60}"#,
        ) {
            let script = set(&[("one", &one), ("two", &two)]) + "printf '%s\\001%s' \"$one\" \"$two\"";
            let expected = format!("{}\u{1}{}", one.replace('\0', ""), two);
            prop_assert_eq!(run(&script), expected.into_bytes());
        }
    }
}
