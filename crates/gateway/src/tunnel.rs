//! From a host and a port to a VM: may it be, is it there, then the bytes.

use std::{pin::pin, time::Duration};

use berth_control::{Entry, Progress, Status};
use berth_engine::Stream;
use tokio::{sync::mpsc, time::timeout};

use crate::{
    nc_words::Target,
    refusal::{Refusal, status},
    session::Person,
    splice::{Cut, Upstream, splice},
    ssh::{Opening, Reader, Seat},
};

/// Things that happen while a VM starts and are not told yet.
const UNTOLD: usize = 8;
/// How long a client may take to close a channel in which all is said. Closing it first costs memory: see
/// `MAX_CHANNELS_EVER`. It is not waited for on the first channel of a connection, whose cost does not add up, and on
/// which OpenSSH itself waits: it closes a session first only when that is one of many (ControlMaster).
const LAST_WORD: Duration = Duration::from_secs(2);

/// `nc HOST PORT` on a session channel.
pub(crate) async fn by_exec(seat: Seat, reader: Reader, person: Person, target: Target) {
    let entry = match seat.control.enter(&seat.login, &target.host, target.port).await {
        Ok(entry) => entry,
        Err(error) => {
            drop(reader);
            let refusal = Refusal::from(error);
            return person.leave(refusal.line(), refusal.exit_status()).await;
        }
    };
    let mut up = Upstream::new(reader, seat.flow.clone());
    let ended = match reach(&seat, &entry, &mut up, &person).await {
        Ok(vm) => splice(&mut up, &person.writer, vm, || seat.has_neighbours()).await.map_err(Ended::Cut),
        Err(ended) => Err(ended),
    };
    match ended {
        Ok(()) => {
            last_word(&seat, &mut up).await;
            let _ = person.writer.close().await;
        }
        Err(Ended::Refused(refusal)) => {
            drop(up);
            person.leave(refusal.line(), refusal.exit_status()).await;
        }
        Err(Ended::Cut(cut)) => {
            drop(up);
            person.leave(why_cut(&cut, &entry), status::UNAVAILABLE).await;
        }
    }
}

/// direct-tcpip: the channel is opened when the VM is reached, and there is nobody to tell about progress.
pub(crate) async fn by_forward(seat: Seat, opening: Opening, host: String, port: u32) {
    let vm = match connect(&seat, &host, port).await {
        Ok(vm) => vm,
        Err(refusal) => return opening.refuse(refusal.open_failure()).await,
    };
    let (reader, writer) = opening.accept().await;
    let mut up = Upstream::new(reader, seat.flow.clone());
    if splice(&mut up, &writer, vm, || seat.has_neighbours()).await.is_ok() {
        last_word(&seat, &mut up).await;
    }
    drop(up);
    let _ = writer.close().await;
}

/// Lets the client close the channel.
async fn last_word(seat: &Seat, up: &mut Upstream) {
    if !seat.is_first {
        let _ = timeout(LAST_WORD, up.closed()).await;
    }
}

async fn connect(seat: &Seat, host: &str, port: u32) -> Result<Box<dyn Stream>, Refusal> {
    let entry = seat.control.enter(&seat.login, host, port).await?;
    let (progress, _nobody) = mpsc::channel(1);
    Ok(seat.control.connect(&entry, progress).await?)
}

enum Ended {
    Refused(Refusal),
    Cut(Cut),
}

/// Connects, tells the person what is happening, and keeps what the client sends in the meantime.
async fn reach(
    seat: &Seat,
    entry: &Entry,
    up: &mut Upstream,
    person: &Person,
) -> Result<Box<dyn Stream>, Ended> {
    let (progress, mut news) = mpsc::channel(UNTOLD);
    let telling = async {
        let mut in_a_line = false;
        while let Some(progress) = news.recv().await {
            person.tell(words(&progress, in_a_line)).await;
            in_a_line = matches!(progress, Progress::Starting { .. });
        }
        in_a_line
    };
    let work = async {
        // The news end with the connecting, which holds their sender.
        let (connected, in_a_line) = tokio::join!(seat.control.connect(entry, progress), telling);
        if in_a_line {
            person.tell("\n".to_owned()).await;
        }
        connected.map_err(|error| Ended::Refused(error.into()))
    };
    let mut work = pin!(work);
    loop {
        tokio::select! {
            connected = &mut work => return connected,
            taken = up.take() => taken.map_err(Ended::Cut)?,
        }
    }
}

/// What is happening, in the words of UI.md; `in_a_line` when the last ones did not end theirs.
fn words(progress: &Progress, in_a_line: bool) -> String {
    match progress {
        Progress::Starting { vm, was, usual } => {
            let about = usual.map(|time| format!(" (about {} s)", time.as_secs_f64().round().max(1.0)));
            let doing = match was {
                Status::Starting => "starting",
                Status::Stopping => "stopping, starting it again",
                // A VM that runs now was off a moment ago; one that is being removed is refused.
                Status::Off | Status::Failed | Status::Running | Status::Removing => "off, starting it",
            };
            let before = if in_a_line { "\n" } else { "" };
            format!("{before}{} is {doing}{}…", vm.label(), about.unwrap_or_default())
        }
        Progress::Ready { vm, took } => {
            let took = took.as_secs_f64();
            if in_a_line { format!(" ready in {took:.1} s\n") } else { format!("{} is ready.\n", vm.label()) }
        }
    }
}

/// One line about a tunnel that was cut; nothing where the person did it.
fn why_cut(cut: &Cut, entry: &Entry) -> String {
    let (vm, port) = (entry.vm().label(), entry.port());
    match cut {
        Cut::ByClient => String::new(),
        Cut::ByVm => format!("{vm} ended the connection to port {port}.\n"),
        Cut::Overfull => "This client sends more than it was allowed to.\n".to_owned(),
        Cut::Stalled => {
            format!("{vm} takes nothing on port {port}, and other tunnels of this connection wait for it.\n")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_model::VmName;

    fn vm() -> VmName {
        "vm-0.alice.koding".parse().expect("a name")
    }

    #[test]
    fn a_start_is_told_in_one_line() {
        let usual = Some(Duration::from_millis(7900));
        let starting = Progress::Starting { vm: vm(), was: Status::Off, usual };
        let ready = Progress::Ready { vm: vm(), took: Duration::from_millis(7630) };
        let line = words(&starting, false) + &words(&ready, true);
        assert_eq!(line, "vm-0 is off, starting it (about 8 s)… ready in 7.6 s\n");
        let first = Progress::Starting { vm: vm(), was: Status::Off, usual: None };
        assert_eq!(words(&first, false), "vm-0 is off, starting it…");
        assert_eq!(words(&first, true), "\nvm-0 is off, starting it…");
        let rebooting = Progress::Starting { vm: vm(), was: Status::Starting, usual };
        assert_eq!(words(&rebooting, false), "vm-0 is starting (about 8 s)…");
        let stopping = Progress::Starting { vm: vm(), was: Status::Stopping, usual: None };
        assert_eq!(words(&stopping, false), "vm-0 is stopping, starting it again…");
    }
}
