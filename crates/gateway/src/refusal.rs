//! What goes wrong, as SSH says it: the only file that turns errors into exit statuses, reason codes and texts.
//!
//! A text ends with a line feed where it goes to a terminal, and has none where it goes into a message of the protocol.

use berth_control::{ConnectError, EntryError, Kind, VmInfo};

use crate::{nc_words::NotATunnel, ssh::OpenFailure, text::quoted};

/// Exit statuses, by sysexits.h so that a script can tell them apart. 255 is ssh's own.
pub(crate) mod status {
    /// Bytes went both ways to the end.
    pub(crate) const DONE: u32 = 0;
    /// What was asked for is not a thing that this host does, or makes no sense.
    pub(crate) const USAGE: u32 = 64;
    /// There is no such VM to be entered.
    pub(crate) const NO_HOST: u32 = 68;
    /// The VM, or what was to be reached in it, is not available now.
    pub(crate) const UNAVAILABLE: u32 = 69;
    /// Not with this key, or not this port.
    pub(crate) const NO_PERMISSION: u32 = 77;
}

/// Why a tunnel does not come to be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error(transparent)]
    Entry(#[from] EntryError),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Inside(#[from] berth_vm_ssh::Error),
}

impl Refusal {
    fn kind(&self) -> Kind {
        match self {
            Self::Entry(error) => error.kind(),
            Self::Connect(error) => error.kind(),
            Self::Inside(_) => Kind::Unavailable,
        }
    }

    pub(crate) fn exit_status(&self) -> u32 {
        match self.kind() {
            Kind::Invalid => status::USAGE,
            Kind::Unauthenticated | Kind::Denied => status::NO_PERMISSION,
            Kind::Missing => status::NO_HOST,
            Kind::Conflict | Kind::Unavailable => status::UNAVAILABLE,
        }
    }

    /// The reason code of a channel that is not opened (RFC 4254, 5.1).
    pub(crate) fn open_failure(&self) -> OpenFailure {
        if let Self::Inside(berth_vm_ssh::Error::NotOpened(code)) = self {
            return OpenFailure::with_code(*code, &self.to_string());
        }
        match self.kind() {
            Kind::Invalid | Kind::Unauthenticated | Kind::Denied | Kind::Missing => {
                OpenFailure::prohibited(&self.to_string())
            }
            Kind::Conflict | Kind::Unavailable => OpenFailure::connect_failed(&self.to_string()),
        }
    }

    /// One line for stderr.
    pub(crate) fn line(&self) -> String {
        format!("{self}\n")
    }
}

/// What was asked of a session channel that this host does not do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Subsystem(String),
    Command(NotATunnel),
}

impl Asked {
    /// What this host is for and what to type instead, with the person's own VM.
    pub(crate) fn lines(&self, gateway: &str, account: &str, vm: Option<&VmInfo>) -> String {
        let what = match self {
            Self::Subsystem(name) if name == "sftp" => {
                "This host is the way into your VMs and has no files itself.".to_owned()
            }
            Self::Subsystem(name) => {
                format!("This host is the way into your VMs and has no subsystem {:?}.", quoted(name))
            }
            Self::Command(NotATunnel::OtherCommand(command)) => {
                format!("This host is the way into your VMs and has no command {command:?}.")
            }
            Self::Command(not_a_tunnel) => not_a_tunnel.to_string(),
        };
        let Some(vm) = vm else {
            return format!("{what}\nYou have no VM yet. Make one: new\n");
        };
        let (host, label) = (&vm.host, vm.name.label());
        let program = match self {
            Self::Subsystem(name) if name == "sftp" => "sftp",
            _ => "ssh",
        };
        match self {
            Self::Command(not_a_tunnel) if !matches!(not_a_tunnel, NotATunnel::OtherCommand(_)) => {
                format!("{what}\nA tunnel to {label} is: nc {host} 22\n")
            }
            _ => format!("{what}\nFor {label}, type: {program} -J {account}@{gateway} {account}@{host}\n"),
        }
    }
}

/// Texts of messages that end or refuse something without a session of its own.
pub(crate) mod words {
    use std::time::Duration;

    /// A door that is full.
    pub(crate) const TOO_MANY_STRANGERS: &str = "Too many connections are logging in. Try again in a minute.";
    /// An account with all the connections that it may have.
    pub(crate) const TOO_MANY_CONNECTIONS: &str =
        "This account has as many connections here as it may have. Close some and try again.";
    /// The same with channels.
    pub(crate) const TOO_MANY_CHANNELS_OF_ACCOUNT: &str =
        "This account has as many channels open here as it may have. Close some and try again.";
    /// A source that waits.
    pub(crate) fn penalized(wait: Duration) -> String {
        let seconds = wait.as_secs_f64().ceil();
        format!("Too many connections from your address did not log in. Try again in {seconds} s.")
    }
    /// A key or account that was removed, or a key that expired.
    pub(crate) const LOGIN_ENDED: &str = "The key of this connection was removed or has expired.";
    /// A server that stops.
    pub(crate) const SHUTTING_DOWN: &str = "This gateway is restarting. Connect again in a moment.";
    /// A connection with all its channels.
    pub(crate) const TOO_MANY_CHANNELS: &str =
        "This connection has as many channels as it may have. Close some, or open another connection.";
    /// A connection with all the channels of its life.
    pub(crate) const TOO_MANY_CHANNELS_EVER: &str =
        "This connection has opened as many channels as it may in its life. Open another connection.";
    /// direct-streamlocal.
    pub(crate) const NO_SOCKETS: &str =
        "This host leads to ports of VMs, not to sockets. Forward from within the VM.";
    /// Channels that only a server opens.
    pub(crate) const NOT_FROM_A_CLIENT: &str = "This host opens no such channel.";
    /// No key was offered.
    pub(crate) const NO_KEY: &str = "This host lets people in by their ssh key, and none was offered.";
    /// Added to that, and to what is said of an unknown key, where certificates count: one that is out of its time is never
    /// looked at here.
    pub(crate) const OUT_OF_TIME: &str = "If you came with a certificate, its time is over or has not come.";
    /// As many keys failed as may.
    pub(crate) fn too_many_keys(tries: usize) -> String {
        format!(
            "None of the {tries} keys that this client has tried is on an account here. \
             Choose the right one in ~/.ssh/config: IdentityFile FILE and IdentitiesOnly yes."
        )
    }
    /// A certificate was offered.
    pub(crate) const CERTIFICATE: &str = "This host does not take certificates. Offer the key itself.";
    /// SHA-1.
    pub(crate) const SHA1: &str = "This client signs with SHA-1 (ssh-rsa), which is not safe any more. Update it, or use an ed25519 key.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_their_statuses_and_codes() {
        let vm: berth_model::VmName = "vm-0.alice.koding".parse().expect("a name");
        let missing = Refusal::from(EntryError::NoSuchVm {
            asked: "x".into(),
            account: vm.owner.clone(),
            yours: vec![vm.clone()],
        });
        let port = Refusal::from(EntryError::PortNotAllowed { port: 23 });
        let refused = Refusal::from(ConnectError::Refused { vm, port: 8080 });
        assert_eq!((missing.exit_status(), missing.open_failure().code()), (68, 1));
        assert_eq!((port.exit_status(), port.open_failure().code()), (77, 1));
        assert_eq!((refused.exit_status(), refused.open_failure().code()), (69, 2));
        assert_eq!(missing.line(), "There is no VM x that you can enter. Yours: vm-0.\n");
    }

    #[test]
    fn without_a_vm_the_operator_is_named() {
        let lines = Asked::Subsystem("sftp".into()).lines("ssh.koding.com", "alice", None);
        assert!(lines.starts_with("This host is the way into your VMs") && lines.ends_with("one: new\n"));
        let lines = Asked::Subsystem("x\u{1b}[2J".into()).lines("ssh.koding.com", "alice", None);
        assert!(!lines.contains('\u{1b}'));
    }
}
