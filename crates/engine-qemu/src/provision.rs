//! What makes a freshly booted guest the VM of one account: shell scripts that the guest agent runs.
//!
//! Pure: out of a [`Guest`] comes a script, which is whole in itself and can be run any number of times. The scripts'
//! bodies are in `provision/`; here their variables are put before them, quoted, so that no value is ever read as shell.

use berth_engine::Guest;

const BOOT: &str = include_str!("provision/boot.sh");
const KEYS: &str = include_str!("provision/keys.sh");
const PAGE: &str = include_str!("provision/index.html");

/// The script for `/bin/sh` as root after every boot: name, user, home, keys, host key, and at its end sshd. It takes a
/// second or two while the guest boots on beside it. It contains the VM's host key: not for logs.
#[must_use]
pub fn script(guest: &Guest) -> String {
    let hostname = host_name(&guest.hostname).unwrap_or("vm");
    let names: Vec<_> = guest.names.iter().filter_map(|name| host_name(name)).collect();
    let user = guest.user.as_str();
    let page = PAGE.replace("@USER@", user).replace("@HOST@", names.first().copied().unwrap_or(hostname));
    let variables = [
        ("hostname", hostname),
        // Each followed by a space: the script puts the short name after them.
        ("names", &names.iter().map(|name| format!("{name} ")).collect::<String>()),
        ("user", user),
        ("authorized_keys", &whole_lines(&guest.authorized_keys)),
        ("host_key", &whole_lines(guest.host_key.expose())),
        ("page", &page),
    ];
    set(&variables) + BOOT
}

/// The script that only replaces the account's keys in a guest that runs; it takes a few milliseconds.
#[must_use]
pub fn keys_script(guest: &Guest) -> String {
    let variables =
        [("user", guest.user.as_str()), ("authorized_keys", &whole_lines(&guest.authorized_keys))];
    set(&variables) + KEYS
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
    let quoted = |value: &str| value.replace('\0', "").replace('\'', r"'\''");
    variables.iter().map(|(name, value)| format!("{name}='{}'\n", quoted(value))).collect()
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        process::{Command, Stdio},
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
            host_key: Secret::new("-----BEGIN-----\nx\n-----END-----".to_owned()),
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
        for script in [script(&guest()), keys_script(&guest())] {
            // Nothing is run after `return`, but everything is read.
            run(&format!("whole() {{\n{script}\n}}\n"));
        }
    }

    #[test]
    fn values_arrive() {
        let script = script(&guest());
        let header = script.strip_suffix(BOOT).unwrap();
        let shown = run(&format!(
            "{header}printf '%s|' \"$hostname\" \"$names\" \"$user\" \"$authorized_keys\" \"$host_key\""
        ));
        assert_eq!(
            String::from_utf8(shown).unwrap(),
            "vm-0|vm-0.alice.koding.kd.io vm-0.alice.kd.io |alice|ssh-ed25519 AAAA it's alice\n|\
             -----BEGIN-----\nx\n-----END-----\n|"
        );
        assert!(header.contains("<h1>Hello from vm-0.alice.koding.kd.io</h1>"));
        assert!(
            !header.contains("@USER@") && !header.contains("@HOST@"),
            "every place in the page is filled in"
        );
    }

    #[test]
    fn no_keys_is_an_empty_file_and_not_an_empty_line() {
        let none = Guest { authorized_keys: "\n\n".to_owned(), ..guest() };
        assert!(keys_script(&none).starts_with("user='alice'\nauthorized_keys=''\n"));
    }

    #[test]
    fn a_name_that_is_none_is_left_out() {
        let names = ["a.b", "a b", "x\n127.0.0.1 evil", "", "$(reboot)", "c-1"].map(str::to_owned).to_vec();
        let script = script(&Guest { names, hostname: "a b".to_owned(), ..guest() });
        assert!(script.starts_with("hostname='vm'\nnames='a.b c-1 '\n"));
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
