//! The commands of the lobby: what there is, and what a line of words asks for. Pure.

use super::sharing_words::{self, Sharing};
use crate::{text::quoted, words};

/// The longest command that is looked at: a key of RSA fits.
pub(super) const MAX_LEN: usize = super::editor::MAX_LINE;

/// A command, as `help` shows it.
pub(super) struct Verb {
    pub(super) name: &'static str,
    pub(super) takes: &'static str,
    pub(super) does: &'static str,
    /// It is about a VM, whose name may follow.
    pub(super) about_a_vm: bool,
}

const fn verb(name: &'static str, takes: &'static str, does: &'static str) -> Verb {
    Verb { name, takes, does, about_a_vm: false }
}

const fn about_a_vm(name: &'static str, does: &'static str) -> Verb {
    Verb { name, takes: "[VM]", does, about_a_vm: true }
}

const fn of_vms(name: &'static str, takes: &'static str, does: &'static str) -> Verb {
    Verb { name, takes, does, about_a_vm: true }
}

/// All of them, in the order of `help`.
pub(super) const VERBS: &[Verb] = &[
    verb("vms", "", "lists your VMs, and what they do"),
    about_a_vm("start", "starts or wakes a VM and waits until it answers"),
    about_a_vm("sleep", "puts a VM to sleep; everything in it stays as it is"),
    about_a_vm("stop", "shuts a VM down"),
    about_a_vm("why", "says why a VM is awake, asleep or off"),
    verb("new", "", "makes another VM"),
    of_vms(
        "share",
        "VM NAME [--sudo] [--for TIME | --until DATE]",
        "asks another account to share a VM, for 8h, 30d or to the end of a day",
    ),
    of_vms("unshare", "VM NAME", "takes a VM back: their connections to it end at once"),
    about_a_vm("shares", "lists with whom your VMs are shared"),
    of_vms("accept", "VM", "accepts to share a VM of somebody else, such as vm-0.bob"),
    of_vms("leave", "VM", "leaves a VM that is shared with you, or does not accept it"),
    verb(
        "keys",
        "[list | add [--name LABEL] [KEY] | remove KEY]",
        "your ssh keys; add reads them where none is given",
    ),
    verb("config", "", "prints lines for ~/.ssh/config"),
    verb("known-hosts", "", "prints lines for ~/.ssh/known_hosts"),
    verb("login", "", "prints a link that logs you in on the website"),
    verb("doctor", "", "looks at your side of this connection"),
    verb("help", "", "shows this"),
    verb("exit", "", "ends the connection"),
];

/// Another word for `exit`.
const QUIT: &str = "quit";

/// What a line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    /// There is nothing in it.
    Nothing,
    Vms,
    Start(Option<String>),
    Sleep(Option<String>),
    Stop(Option<String>),
    Why(Option<String>),
    New,
    Sharing(Sharing),
    Keys,
    /// `pasted` where the key is in the line.
    KeysAdd {
        label: Option<String>,
        pasted: Option<String>,
    },
    KeysRemove(String),
    Config,
    KnownHosts,
    LogIn,
    Doctor,
    Help,
    Exit,
}

/// A command, and how its result is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) command: Command,
    pub(super) json: bool,
}

/// Why a line is no command: a sentence for the person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NotACommand {
    pub(super) why: String,
    pub(super) json: bool,
    /// There is no command of that name.
    pub(super) is_unknown: bool,
}

impl Command {
    /// Whether it is to be given keys that are not in the line.
    pub(super) fn wants_a_paste(&self) -> bool {
        matches!(self, Self::KeysAdd { pasted: None, .. })
    }

    /// The same with keys that were given.
    pub(super) fn with_paste(self, text: String) -> Self {
        match self {
            Self::KeysAdd { label, pasted: None } => Self::KeysAdd { label, pasted: Some(text) },
            other => other,
        }
    }
}

/// Reads a line.
pub(super) fn parse(line: &str) -> Result<Line, NotACommand> {
    let no = |why: String, json| NotACommand { why, json, is_unknown: false };
    if line.len() > MAX_LEN {
        return Err(no(format!("The command is longer than {MAX_LEN} bytes."), false));
    }
    let mut words = words::split(line).map_err(|error| no(error.to_string(), false))?;
    let json = words.iter().any(|word| word == "--json");
    words.retain(|word| word != "--json");
    let mut words = words.into_iter();
    let Some(name) = words.next() else { return Ok(Line { command: Command::Nothing, json }) };
    let is_unknown = name != QUIT && VERBS.iter().all(|verb| verb.name != name);
    let command = of(&name, words.collect()).map_err(|why| NotACommand { why, json, is_unknown })?;
    Ok(Line { command, json })
}

fn of(name: &str, rest: Vec<String>) -> Result<Command, String> {
    if name == "keys" {
        return keys(rest);
    }
    if let Some(sharing) = sharing_words::parse(name, &rest) {
        return sharing.map(Command::Sharing);
    }
    let taking_a_vm: fn(Option<String>) -> Command = match name {
        "start" => Command::Start,
        "sleep" => Command::Sleep,
        "stop" => Command::Stop,
        "why" => Command::Why,
        _ => return without_words(name, &rest),
    };
    let mut rest = rest.into_iter();
    let vm = rest.next();
    if let Some(option) = vm.as_deref().filter(|word| word.starts_with('-')) {
        return Err(no_option(name, option));
    }
    match rest.next() {
        None => Ok(taking_a_vm(vm)),
        Some(extra) => Err(format!("{name} takes one VM, and {:?} is too much.", quoted(&extra))),
    }
}

fn without_words(name: &str, rest: &[String]) -> Result<Command, String> {
    let command = match name {
        "vms" => Command::Vms,
        "new" => Command::New,
        "config" => Command::Config,
        "known-hosts" => Command::KnownHosts,
        "login" => Command::LogIn,
        "doctor" => Command::Doctor,
        "help" | "--help" => return Ok(Command::Help),
        "exit" | QUIT => Command::Exit,
        _ => {
            return Err(format!(
                "There is no command {:?} here. Type help for those that there are.",
                quoted(name)
            ));
        }
    };
    match rest.first() {
        None => Ok(command),
        Some(option) if option.starts_with('-') => Err(no_option(name, option)),
        Some(extra) => Err(format!("{name} stands alone, and {:?} is too much.", quoted(extra))),
    }
}

pub(super) fn no_option(name: &str, option: &str) -> String {
    format!("{name} does not take {}, only --json.", quoted(option))
}

fn keys(rest: Vec<String>) -> Result<Command, String> {
    let mut rest = rest.into_iter().peekable();
    match rest.next().as_deref() {
        None | Some("list") => match rest.next() {
            None => Ok(Command::Keys),
            Some(extra) => Err(format!("keys list stands alone, and {:?} is too much.", quoted(&extra))),
        },
        Some("add") => {
            let mut label = None;
            if rest.next_if(|word| word == "--name").is_some() {
                label = Some(rest.next().ok_or("keys add needs a name after --name.")?);
            }
            if let Some(option) = rest.peek().filter(|word| word.starts_with("--")) {
                return Err(format!("keys add does not take {}, only --name and --json.", quoted(option)));
            }
            let key = rest.collect::<Vec<_>>().join(" ");
            // As `berth admin key add` has it: standard input, which is what is read anyway.
            let pasted = Some(key).filter(|key| !key.is_empty() && key != "-");
            Ok(Command::KeysAdd { label, pasted })
        }
        Some("remove") => match (rest.next(), rest.next()) {
            (Some(which), None) => Ok(Command::KeysRemove(which)),
            (None, _) => {
                Err("keys remove needs the name or the fingerprint of a key. keys shows them.".into())
            }
            (Some(_), Some(extra)) => Err(format!(
                "keys remove takes one key, and {:?} is too much. Quote a name with blanks.",
                quoted(&extra)
            )),
        },
        Some(other) => Err(format!("keys does not know {:?}, only list, add and remove.", quoted(other))),
    }
}

/// What `help` shows.
pub(super) fn help() -> String {
    let left = |verb: &Verb| {
        if verb.takes.is_empty() { verb.name.to_owned() } else { format!("{} {}", verb.name, verb.takes) }
    };
    let mut text = String::new();
    for verb in VERBS {
        let left = left(verb);
        // A long one has a row to itself.
        if left.len() > 16 {
            text.push_str(&format!("  {left}\n  {:16}  {}\n", "", verb.does));
        } else {
            text.push_str(&format!("  {left:16}  {}\n", verb.does));
        }
    }
    text + "Each takes --json where it gives data. VM is a name such as vm-0, and may be left out where you have one.\n"
}

/// How the word before the cursor may go on: how much of it is there, and all words that begin so. `vms` are the
/// person's own, `shared` those of others.
pub(super) fn completions(before: &str, vms: &[String], shared: &[String]) -> (usize, Vec<String>) {
    let start = before.rfind([' ', '\t']).map_or(0, |at| at + 1);
    let (earlier, word) = (before.get(..start).unwrap_or_default(), before.get(start..).unwrap_or_default());
    let earlier: Vec<&str> = earlier.split_ascii_whitespace().collect();
    let all: Vec<&str> = match earlier.as_slice() {
        [] => VERBS.iter().map(|verb| verb.name).chain([QUIT]).collect(),
        ["keys"] => vec!["list", "add", "remove"],
        ["accept" | "leave"] => shared.iter().map(String::as_str).collect(),
        ["share", _, _, ..] => sharing_words::OPTIONS.to_vec(),
        [name] if VERBS.iter().any(|verb| verb.name == *name && verb.about_a_vm) => {
            vms.iter().map(String::as_str).collect()
        }
        _ => vec![],
    };
    let words = all.into_iter().filter(|candidate| candidate.starts_with(word)).map(str::to_owned).collect();
    (word.len(), words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn command(line: &str) -> Command {
        parse(line).unwrap_or_else(|no| panic!("{line}: {}", no.why)).command
    }

    #[test]
    fn lines_are_commands() {
        let vm = || Some("vm-1".to_owned());
        let add = |label: Option<&str>, pasted: Option<&str>| Command::KeysAdd {
            label: label.map(str::to_owned),
            pasted: pasted.map(str::to_owned),
        };
        for (line, asked) in [
            ("", Command::Nothing),
            ("  ", Command::Nothing),
            ("vms", Command::Vms),
            ("start", Command::Start(None)),
            (" start\tvm-1 ", Command::Start(vm())),
            ("sleep 'vm-1'", Command::Sleep(vm())),
            ("stop vm-1", Command::Stop(vm())),
            ("why vm-1", Command::Why(vm())),
            ("keys", Command::Keys),
            ("keys list", Command::Keys),
            ("keys add", add(None, None)),
            ("keys add -", add(None, None)),
            ("keys add --name 'my laptop'", add(Some("my laptop"), None)),
            ("keys add ssh-ed25519 AAAA me", add(None, Some("ssh-ed25519 AAAA me"))),
            ("keys remove 'my laptop'", Command::KeysRemove("my laptop".into())),
            ("help", Command::Help),
            ("help keys", Command::Help),
            ("quit", Command::Exit),
        ] {
            assert_eq!(command(line), asked, "{line}");
            assert!(!parse(line).unwrap().json);
        }
        for line in ["vms --json", "--json vms", "why --json vm-1"] {
            assert!(parse(line).unwrap().json, "{line}");
        }
    }

    #[test]
    fn what_is_no_command_is_said_plainly() {
        for (line, why) in [
            ("ls -la", "There is no command \"ls\" here. Type help for those that there are."),
            ("\u{e9}t\u{e9}", "There is no command \"?t?\" here. Type help for those that there are."),
            ("vms vm-1", "vms stands alone, and \"vm-1\" is too much."),
            ("new --size 3", "new does not take --size, only --json."),
            ("start vm-0 vm-1", "start takes one VM, and \"vm-1\" is too much."),
            ("start --force", "start does not take --force, only --json."),
            ("keys burn", "keys does not know \"burn\", only list, add and remove."),
            ("keys add --name", "keys add needs a name after --name."),
            ("keys remove", "keys remove needs the name or the fingerprint of a key. keys shows them."),
            ("vms; stop", "A semicolon cannot be used here: no shell reads this command."),
            ("why 'vm", "A quote in the command is not closed."),
        ] {
            let is_unknown = why.starts_with("There is no command");
            assert_eq!(parse(line), Err(NotACommand { why: why.into(), json: false, is_unknown }), "{line}");
        }
        assert!(parse(&"x".repeat(MAX_LEN + 1)).is_err());
        assert!(parse("vms vm-1 --json").is_err_and(|no| no.json));
    }

    #[test]
    fn every_command_is_in_help_and_known() {
        let help = help();
        for verb in VERBS {
            assert!(help.contains(&format!("  {}", verb.name)), "{}", verb.name);
            let line = match verb.name {
                "keys" => "keys list".to_owned(),
                name if sharing_words::parse(name, &[]).is_some() => format!("{name} vm-0 bob"),
                name => name.to_owned(),
            };
            assert!(!parse(&line).is_err_and(|no| no.is_unknown), "{}", verb.name);
        }
        assert!(help.lines().all(|line| line.chars().count() <= 110), "{help}");
    }

    #[test]
    fn words_go_on() {
        let vms = ["vm-0", "vm-1", "vm-10"].map(str::to_owned);
        let of = |before: &str| completions(before, &vms, &["vm-0.bob".to_owned()]).1.join(" ");
        assert_eq!(of("st"), "start stop");
        assert_eq!(of("start "), "vm-0 vm-1 vm-10");
        assert_eq!(of("start vm-1"), "vm-1 vm-10");
        assert_eq!(of("keys r"), "remove");
        assert_eq!(of("vms "), "");
        assert_eq!(of("start vm-1 "), "");
        assert_eq!(of("zzz"), "");
        assert_eq!(of("accept "), "vm-0.bob");
        assert_eq!(of("unshare vm-1"), "vm-1 vm-10");
        assert_eq!(of("share vm-0 bob --s"), "--sudo");
        assert_eq!(completions("start vm-1", &vms, &[]).0, 4);
    }

    proptest! {
        #[test]
        fn never_panics_and_never_says_back_what_a_terminal_acts_on(line in any::<String>()) {
            if let Err(no) = parse(&line) {
                prop_assert!(!no.why.chars().any(char::is_control));
            }
            let _ = completions(&line, &[], &[]);
        }
    }
}
