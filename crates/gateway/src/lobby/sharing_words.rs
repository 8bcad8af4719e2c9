//! The words of the commands about VMs that are shared. Pure.

use std::time::Duration;

use time::{Date, OffsetDateTime, Time, format_description::well_known::Rfc3339, macros::format_description};

use super::command::no_option;
use crate::text::quoted;

/// What `share` takes beside names.
pub(super) const OPTIONS: &[&str] = &["--sudo", "--for", "--until"];
/// The longest that can be asked for.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// What is to be done about sharing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Sharing {
    Share {
        vm: String,
        account: String,
        sudo: bool,
        end: Option<End>,
    },
    Unshare {
        vm: String,
        account: String,
    },
    /// Of one VM, or of all.
    List(Option<String>),
    Accept(String),
    Leave(String),
}

/// When it is shared no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    After(Duration),
    At(OffsetDateTime),
}

/// Reads the words that follow `name`; `None` where it is none of these commands.
pub(super) fn parse(name: &str, rest: &[String]) -> Option<Result<Sharing, String>> {
    Some(match name {
        "share" => share(rest),
        "unshare" => two(name, rest).map(|(vm, account)| Sharing::Unshare { vm, account }),
        "shares" if rest.is_empty() => Ok(Sharing::List(None)),
        "shares" => one(name, rest).map(|vm| Sharing::List(Some(vm))),
        "accept" => one(name, rest).map(Sharing::Accept),
        "leave" => one(name, rest).map(Sharing::Leave),
        _ => return None,
    })
}

fn share(words: &[String]) -> Result<Sharing, String> {
    let (mut names, mut sudo, mut end) = (vec![], false, None);
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--sudo" => sudo = true,
            "--for" | "--until" if end.is_some() => return Err("share takes one end.".into()),
            "--for" => end = Some(End::After(time(words.next())?)),
            "--until" => end = Some(End::At(moment(words.next())?)),
            option if option.starts_with('-') => {
                return Err(format!(
                    "share does not take {}, only --sudo, --for, --until and --json.",
                    quoted(option)
                ));
            }
            _ => names.push(word.clone()),
        }
    }
    let (vm, account) = two("share", &names)?;
    Ok(Sharing::Share { vm, account, sudo, end })
}

/// The VM and the account.
fn two(name: &str, words: &[String]) -> Result<(String, String), String> {
    no_options(name, words)?;
    match words {
        [vm, account] => Ok((vm.clone(), account.clone())),
        [_, _, extra, ..] => {
            Err(format!("{name} takes a VM and an account, and {:?} is too much.", quoted(extra)))
        }
        _ => Err(format!("{name} needs a VM and an account: {name} vm-0 NAME")),
    }
}

fn one(name: &str, words: &[String]) -> Result<String, String> {
    no_options(name, words)?;
    match words {
        [vm] => Ok(vm.clone()),
        [_, extra, ..] => Err(format!("{name} takes one VM, and {:?} is too much.", quoted(extra))),
        [] => Err(format!("{name} needs a VM, such as vm-0.bob. vms shows those that are shared with you.")),
    }
}

fn no_options(name: &str, words: &[String]) -> Result<(), String> {
    match words.iter().find(|word| word.starts_with('-')) {
        Some(option) => Err(no_option(name, option)),
        None => Ok(()),
    }
}

/// Such as `45min`, `8h` or `30d`.
fn time(text: Option<&String>) -> Result<Duration, String> {
    let read = |text: &String| {
        let (count, unit) = text.split_at_checked(text.find(|c: char| !c.is_ascii_digit())?)?;
        let seconds = match unit {
            "s" => 1,
            "m" | "min" => 60,
            "h" => 3600,
            "d" => 86_400,
            _ => return None,
        };
        let time = Duration::from_secs(count.parse::<u64>().ok()?.checked_mul(seconds)?);
        Some(time).filter(|time| !time.is_zero() && *time <= LONGEST)
    };
    text.and_then(read).ok_or_else(|| "--for takes a length of time such as 8h or 30d.".to_owned())
}

/// The end of a day, or a moment.
fn moment(text: Option<&String>) -> Result<OffsetDateTime, String> {
    let day = |text: &String| {
        let date = Date::parse(text, format_description!("[year]-[month]-[day]")).ok()?;
        Some(date.next_day()?.with_time(Time::MIDNIGHT).assume_utc())
    };
    let read = |text: &String| day(text).or_else(|| OffsetDateTime::parse(text, &Rfc3339).ok());
    text.and_then(read).ok_or_else(|| {
        "--until takes a day such as 2026-12-31, whose end in UTC is meant, or a moment such as 2026-12-31T18:00:00Z."
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    fn parsed(line: &str) -> Result<Sharing, String> {
        let mut words = line.split(' ').map(str::to_owned);
        let name = words.next().unwrap();
        parse(&name, &words.collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn what_is_shared_with_whom() {
        let share = |sudo, end| {
            let (vm, account) = ("vm-0".to_owned(), "bob".to_owned());
            Ok(Sharing::Share { vm, account, sudo, end })
        };
        let hours = |hours: u64| Some(End::After(Duration::from_secs(hours * 3600)));
        for (line, meant) in [
            ("share vm-0 bob", share(false, None)),
            ("share --sudo vm-0 bob", share(true, None)),
            ("share vm-0 --for 8h bob", share(false, hours(8))),
            ("share vm-0 bob --for 30d --sudo", share(true, hours(720))),
            (
                "share vm-0 bob --until 2026-12-31",
                share(false, Some(End::At(datetime!(2027-01-01 00:00 UTC)))),
            ),
            (
                "share vm-0 bob --until 2026-12-31T18:00:00+01:00",
                share(false, Some(End::At(datetime!(2026-12-31 17:00 UTC)))),
            ),
            ("unshare vm-0 bob", Ok(Sharing::Unshare { vm: "vm-0".into(), account: "bob".into() })),
            ("shares", Ok(Sharing::List(None))),
            ("shares vm-0", Ok(Sharing::List(Some("vm-0".into())))),
            ("accept vm-0.alice", Ok(Sharing::Accept("vm-0.alice".into()))),
            ("leave vm-0.alice", Ok(Sharing::Leave("vm-0.alice".into()))),
        ] {
            assert_eq!(parsed(line), meant, "{line}");
        }
        assert_eq!(parse("vms", &[]), None);
    }

    #[test]
    fn what_cannot_be_is_said_plainly() {
        for (line, why) in [
            ("share vm-0", "share needs a VM and an account: share vm-0 NAME"),
            ("share vm-0 bob carol", "share takes a VM and an account, and \"carol\" is too much."),
            ("share vm-0 bob --root", "share does not take --root, only --sudo, --for, --until and --json."),
            ("share vm-0 bob --for", "--for takes a length of time such as 8h or 30d."),
            ("share vm-0 bob --for 0h", "--for takes a length of time such as 8h or 30d."),
            ("share vm-0 bob --for 99999999999999999d", "--for takes a length of time such as 8h or 30d."),
            ("share vm-0 bob --for \u{e9}", "--for takes a length of time such as 8h or 30d."),
            ("share vm-0 bob --for 1h --until 2026-12-31", "share takes one end."),
            ("unshare vm-0 --all", "unshare does not take --all, only --json."),
            ("accept", "accept needs a VM, such as vm-0.bob. vms shows those that are shared with you."),
            ("leave a b", "leave takes one VM, and \"b\" is too much."),
        ] {
            assert_eq!(parsed(line), Err(why.to_owned()), "{line}");
        }
        for day in ["2026-13-01", "tomorrow", "9999-12-31", ""] {
            assert!(parsed(&format!("share vm-0 bob --until {day}")).is_err_and(|why| why.contains("a day")));
        }
    }
}
