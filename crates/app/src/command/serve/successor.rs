//! The server that takes the place of this one: started, waited for, and given everything.

use std::{ffi::OsString, io, os::unix::net::UnixStream, path::PathBuf, time::Duration};

use berth_control::Control;
use tokio::time::timeout;

use super::adopted::Adopted;
use crate::{
    admin::wire::{Failure, FailureKind},
    handover::{Estate, Other, Say},
};

/// Reading a configuration, and a copy of the database brought up to date.
const PREPARED_WITHIN: Duration = Duration::from_secs(60);
/// Looking at all VMs. Who comes waits for that.
const READY_WITHIN: Duration = Duration::from_secs(120);

/// How this server was started, which is how the next one is.
pub(super) struct Origin {
    program: PathBuf,
    arguments: Vec<OsString>,
}

impl Origin {
    /// To be asked at once: another file may soon be where this program's was.
    pub(super) fn of_this() -> io::Result<Self> {
        let arguments = std::env::args_os().skip(1).filter(|word| word != "--take-over").collect();
        let program = installed(std::env::args_os().next(), std::env::current_exe()?);
        Ok(Self { program, arguments })
    }
}

/// The program that is to be started next time: by the path that it was started by, since that may be a link which leads to a
/// newer one by then.
fn installed(started_by: Option<OsString>, own: PathBuf) -> PathBuf {
    started_by.map(PathBuf::from).filter(|path| path.is_absolute()).unwrap_or(own)
}

/// A server that serves in the place of this one.
pub(super) struct Successor {
    pub(super) process: Adopted,
    pub(super) other: Other,
}

/// Starts another server and gives it everything. Afterwards `control` has left.
///
/// # Errors
/// The other one did not come up: it is gone, and this one serves as if nothing had happened.
pub(super) async fn hand_over(
    origin: &Origin,
    estate: &Estate,
    control: &Control,
) -> Result<Successor, Failure> {
    let (process, other) = start(origin, estate)
        .await
        .map_err(|error| failed(format!("{} cannot be started: {error}", origin.program.display())))?;
    let mut successor = Successor { process, other };
    match successor.take_up(control).await {
        Ok(()) => {
            successor.process.leave();
            Ok(successor)
        }
        Err(failure) => {
            successor.process.kill().await;
            control.stay().await;
            Err(failure)
        }
    }
}

async fn start(origin: &Origin, estate: &Estate) -> io::Result<(Adopted, Other)> {
    let (ours, theirs) = UnixStream::pair()?;
    let arguments = [&origin.arguments[..], &["--take-over".into()]].concat();
    let process = Adopted::start(&origin.program, &arguments, theirs.into()).await?;
    estate.give(&ours)?;
    Ok((process, Other::new(ours)?))
}

impl Successor {
    async fn take_up(&mut self, control: &Control) -> Result<(), Failure> {
        self.expect(&Say::Prepared, PREPARED_WITHIN).await?;
        control.begin_hand_over().await?;
        self.say(&Say::Go).await?;
        self.expect(&Say::Ready, READY_WITHIN).await?;
        self.say(&Say::Take).await
    }

    async fn expect(&mut self, what: &Say, within: Duration) -> Result<(), Failure> {
        match timeout(within, self.other.hear()).await {
            Ok(Ok(Some(said))) if said == *what => Ok(()),
            Ok(Ok(Some(Say::Failed { message }))) => Err(failed(message)),
            Ok(Ok(None)) => Err(failed("it ended at once. The server's log says why")),
            Ok(Ok(Some(_)) | Err(_)) => Err(failed("it does not know how that is done")),
            Err(_) => Err(failed(format!("it was not ready within {} s", within.as_secs()))),
        }
    }

    async fn say(&mut self, what: &Say) -> Result<(), Failure> {
        self.other.say(what).await.map_err(|_| failed("it ended. The server's log says why"))
    }
}

fn failed(why: impl AsRef<str>) -> Failure {
    let why = why.as_ref().trim_end_matches('.');
    let message = format!(
        "The new server did not start: {why}. The one that runs goes on, with everybody who is connected."
    );
    Failure::new(FailureKind::Unavailable, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_to_what_is_installed_is_followed_anew_each_time() {
        let own = || PathBuf::from("/opt/berth-1.2/berth");
        let by = |word: &str| installed(Some(word.into()), own());
        assert_eq!(by("/usr/local/bin/berth"), PathBuf::from("/usr/local/bin/berth"));
        assert_eq!(by("berth"), own(), "found by PATH, which may be another one's");
        assert_eq!(installed(None, own()), own());
    }
}
