//! From a host and a port to a VM: may it be, is it there, then the bytes.

use std::{pin::pin, time::Duration};

use berth_control::{ConnectError, Entry, Progress};
use berth_engine::Stream;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use crate::{
    early::{self, SSH},
    nc_words::Target,
    progress::Telling,
    refusal::{Refusal, status},
    session::Person,
    splice::{Cut, Greeting, Unkept, Upstream, splice},
    ssh::{Opening, Reader, Seat, Writer},
};

/// Things that happen while a VM starts and are not told yet.
const UNTOLD: usize = 8;
/// How long a client may take to close a channel in which all is said. Closing it first costs memory: see
/// `MAX_CHANNELS_EVER`. It is not waited for on the first channel of a connection, whose cost does not add up, and on
/// which OpenSSH itself waits: it closes a session first only when that is one of many (ControlMaster).
const LAST_WORD: Duration = Duration::from_secs(2);
/// How long a client may take to take the message that ends its ssh, and to close the channel.
const PATIENCE: Duration = Duration::from_secs(10);

enum Ended {
    Refused(Refusal),
    Cut(Cut),
}

impl From<ConnectError> for Ended {
    fn from(error: ConnectError) -> Self {
        Self::Refused(error.into())
    }
}

/// A VM that is reached, and the identification that its client has had of it.
struct Reached {
    vm: Box<dyn Stream>,
    promised: Option<String>,
}

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
    // In a box, which is gone when the bytes begin to flow.
    let reaching = Box::pin(reach(&seat, &entry, &person));
    let ended = match meanwhile(&mut up, reaching).await {
        Ok(reached) => carry(&seat, &entry, &mut up, &person.writer, reached).await,
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
            let line = why_cut(&cut, &entry).map(|text| text + "\n");
            person.leave(line.unwrap_or_default(), status::UNAVAILABLE).await;
        }
    }
}

/// direct-tcpip: the channel is opened when the VM is reached, or when there is something to be said for it before.
pub(crate) async fn by_forward(seat: Seat, opening: Opening, host: String, port: u32) {
    let entry = match seat.control.enter(&seat.login, &host, port).await {
        Ok(entry) => entry,
        Err(error) => return opening.refuse(Refusal::from(error).open_failure()).await,
    };
    let (progress, mut news) = mpsc::channel(UNTOLD);
    let mut connecting = Box::pin(seat.control.connect(&entry, progress));
    let (connected, promised) = tokio::select! {
        connected = &mut connecting => match connected {
            Ok(vm) => (Some(vm), None),
            Err(error) => return opening.refuse(Refusal::from(error).open_failure()).await,
        },
        Some(line) = early_line(&seat, &entry, &mut news) => (None, Some(line)),
    };
    let (reader, writer) = opening.accept().await;
    let mut up = Upstream::new(reader, seat.flow.clone());
    let reaching = async {
        if let Some(line) = &promised {
            writer.data(early::sent(line)).await.map_err(|gone| Ended::Cut(gone.into()))?;
        }
        let vm = match connected {
            Some(vm) => vm,
            None => connecting.await?,
        };
        Ok(Reached { vm, promised })
    };
    let ended = match meanwhile(&mut up, reaching).await {
        Ok(reached) => carry(&seat, &entry, &mut up, &writer, reached).await,
        Err(ended) => Err(ended),
    };
    match ended {
        Ok(()) => last_word(&seat, &mut up).await,
        // The channel is open only because of an early identification, and the VM has said nothing.
        Err(Ended::Refused(refusal)) => turn_away(&mut up, &writer, &refusal.to_string()).await,
        Err(Ended::Cut(Cut::Unkept(why))) => turn_away(&mut up, &writer, &why_unkept(&why, &entry)).await,
        Err(Ended::Cut(_)) => {}
    }
    drop(up);
    let _ = writer.close().await;
}

/// Ends the ssh behind a channel with a reason, before its key exchange.
async fn turn_away(up: &mut Upstream, writer: &Writer, why: &str) {
    let saying = async {
        if writer.data(early::disconnect(early::NOT_AVAILABLE, why)).await.is_ok() {
            let _ = writer.eof().await;
        }
    };
    // The client is left to close the channel: an ssh that is still sending its first words, and cannot, does not read.
    let _ = timeout(PATIENCE, async { tokio::join!(saying, up.closed()) }).await;
}

/// Lets the client close the channel.
async fn last_word(seat: &Seat, up: &mut Upstream) {
    if !seat.is_first {
        let _ = timeout(LAST_WORD, up.closed()).await;
    }
}

/// Does `work`, and keeps what the client sends in the meantime.
async fn meanwhile<T>(up: &mut Upstream, work: impl Future<Output = Result<T, Ended>>) -> Result<T, Ended> {
    let mut work = pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            taken = up.take() => taken.map_err(Ended::Cut)?,
        }
    }
}

/// Connects, and tells the person what is happening; then, if that is worth while, the client's ssh.
async fn reach(seat: &Seat, entry: &Entry, person: &Person) -> Result<Reached, Ended> {
    let (progress, mut news) = mpsc::channel(UNTOLD);
    let telling = async {
        let (mut telling, mut promised) = (Telling::new(), None);
        while let Some(progress) = news.recv().await {
            person.tell(telling.words(&progress)).await;
            if promised.is_none()
                && let Some(line) = line_for(seat, entry, &progress).await
                && person.writer.data(early::sent(&line)).await.is_ok()
            {
                promised = Some(line);
            }
        }
        if let Some(end) = telling.end() {
            person.tell(end).await;
        }
        promised
    };
    // The news end with the connecting, which holds their sender.
    let (connected, promised) = tokio::join!(seat.control.connect(entry, progress), telling);
    Ok(Reached { vm: connected?, promised })
}

/// The identification that is to be sent early, when the news come to that.
async fn early_line(seat: &Seat, entry: &Entry, news: &mut mpsc::Receiver<Progress>) -> Option<String> {
    while let Some(progress) = news.recv().await {
        let line = line_for(seat, entry, &progress).await;
        if line.is_some() {
            return line;
        }
    }
    None
}

/// The identification that is to be sent early because of this news.
async fn line_for(seat: &Seat, entry: &Entry, progress: &Progress) -> Option<String> {
    if entry.port() == SSH && early::is_long(progress) {
        // In a box of its own, so that no tunnel has room for it all its life.
        return Box::pin(seat.control.identification(entry)).await;
    }
    None
}

/// Carries the bytes, and has written down how the VM's sshd identifies itself.
async fn carry(
    seat: &Seat,
    entry: &Entry,
    up: &mut Upstream,
    writer: &Writer,
    Reached { vm, promised }: Reached,
) -> Result<(), Ended> {
    let (tell, told) = oneshot::channel();
    let greeting = match promised {
        Some(line) => Greeting::Promised(line, tell),
        None if entry.port() == SSH => Greeting::Heard(tell),
        None => {
            drop(tell);
            Greeting::Any
        }
    };
    let noting = async {
        if let Ok(line) = told.await {
            // In a box of its own, so that a tunnel has no room for it all its life.
            Box::pin(seat.control.note_identification(entry, &line)).await;
        }
    };
    let carrying = splice(up, writer, vm, greeting, || seat.has_neighbours());
    // Also one that nobody reads: then nothing asks its stream, which has ended.
    let over = async {
        match entry.is_of_guest() {
            true => Box::pin(entry.ended()).await,
            false => std::future::pending().await,
        }
    };
    tokio::select! {
        (carried, ()) = async { tokio::join!(carrying, noting) } => carried.map_err(Ended::Cut),
        () = over => Err(Ended::Cut(Cut::ByVm)),
    }
}

/// A sentence about a tunnel that was cut; nothing where the person did it.
fn why_cut(cut: &Cut, entry: &Entry) -> Option<String> {
    if entry.is_over() {
        return Some(ConnectError::NotShared { vm: entry.vm().clone() }.to_string());
    }
    let (vm, port) = (entry.vm().label(), entry.port());
    Some(match cut {
        Cut::ByClient => return None,
        Cut::ByVm => format!("{vm} ended the connection to port {port}."),
        Cut::Overfull => "This client sends more than it may, or than there is room for here.".to_owned(),
        Cut::Stalled => {
            format!("{vm} takes nothing on port {port}, and other tunnels of this connection wait for it.")
        }
        Cut::Unkept(why) => why_unkept(why, entry),
    })
}

/// A sentence about an early identification that was not right.
fn why_unkept(why: &Unkept, entry: &Entry) -> String {
    let (vm, port) = (entry.vm().label(), entry.port());
    match why {
        Unkept::Changed => format!("{vm} has another version of its ssh server than before. Connect again."),
        Unkept::Silent => ConnectError::Silent { vm: entry.vm().clone(), port }.to_string(),
        Unkept::Ended => format!("{vm} ended the connection to port {port}."),
    }
}
