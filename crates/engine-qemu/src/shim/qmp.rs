//! QEMU's control channel: the QEMU Machine Protocol, as one client.
//!
//! One task reads; it sorts replies from events and is the only one to see either. Commands are said one after the
//! other. QEMU is ours, but what happens in the guest makes it talk: lines and queues have bounds, and at the bound of
//! the events the reader waits, and QEMU with it.

use std::{io, time::Duration};

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncWriteExt, BufReader},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{Mutex, mpsc},
    time::timeout,
};
use tokio_util::task::TaskTracker;

use crate::{host::QemuVersion, lines};

/// The longest line in bytes. What we ask for is answered in a few hundred.
const MAX_LINE: usize = 1 << 20;
/// QEMU greets once it has made the machine, on a busy host not at once.
const GREETING_WITHIN: Duration = Duration::from_secs(60);
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
const EVENTS: usize = 64;

/// What QEMU says by itself, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum QmpEvent {
    /// The machine is going off.
    ShutDown(Cause),
    /// The machine begins anew, as by its reset button.
    Reset(Cause),
    /// A program in the guest has opened or closed a port of the virtual serial line.
    Port { id: String, open: bool },
    /// The disk could not be written, and the machine stands still until it is told to go on.
    DiskStopped { no_space: bool },
}

/// Who is behind a shutdown or a reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// The guest, on purpose.
    Guest,
    /// The guest's kernel, in a panic.
    Panic,
    /// A signal to QEMU's process.
    Signal,
    /// QEMU was asked to.
    Asked,
    /// QEMU itself, which has met an error.
    Error,
}

/// Why a command was not done.
#[derive(Debug, thiserror::Error)]
pub(super) enum QmpError {
    #[error("QEMU's control channel failed")]
    Io(#[from] io::Error),
    #[error("QEMU's control channel ended")]
    Closed,
    #[error("QEMU does not answer")]
    TimedOut,
    #[error("QEMU refused: {0}")]
    Refused(String),
}

/// The way to say commands.
#[derive(Debug)]
pub(super) struct Qmp {
    conversation: Mutex<Conversation>,
    /// Who is at the other end.
    pub(super) version: QemuVersion,
}

#[derive(Debug)]
struct Conversation {
    writer: OwnedWriteHalf,
    replies: mpsc::Receiver<(u64, Result<Value, String>)>,
    last: u64,
}

impl Qmp {
    /// Greets QEMU and starts to listen. The events end when QEMU does.
    pub(super) async fn open(
        stream: UnixStream,
        tasks: &TaskTracker,
    ) -> Result<(Self, mpsc::Receiver<QmpEvent>), QmpError> {
        let (reader, writer) = stream.into_split();
        let mut reader = BufReader::new(reader);
        let greeting = timeout(GREETING_WITHIN, lines::read_line(&mut reader, MAX_LINE))
            .await
            .map_err(|_| QmpError::TimedOut)??
            .ok_or(QmpError::Closed)?;
        let Greeting { qmp: Greeted { version: Versions { qemu: version } } } =
            serde_json::from_slice(&greeting).map_err(io::Error::from)?;
        let (events, seen) = mpsc::channel(EVENTS);
        let (answers, replies) = mpsc::channel(4);
        tasks.spawn(listen(reader, events, answers));
        let qmp = Self { conversation: Mutex::new(Conversation { writer, replies, last: 0 }), version };
        qmp.execute("qmp_capabilities", &json!({})).await?;
        Ok((qmp, seen))
    }

    /// Says a command and waits for its reply. When the future is dropped the command may or may not be done.
    pub(super) async fn execute(&self, command: &str, arguments: &Value) -> Result<Value, QmpError> {
        timeout(ANSWER_WITHIN, async { self.conversation.lock().await.execute(command, arguments).await })
            .await
            .map_err(|_| QmpError::TimedOut)?
    }
}

impl Conversation {
    async fn execute(&mut self, command: &str, arguments: &Value) -> Result<Value, QmpError> {
        self.last += 1;
        let mut line =
            serde_json::to_vec(&json!({ "execute": command, "arguments": arguments, "id": self.last }))
                .map_err(io::Error::from)?;
        line.push(b'\n');
        self.writer.write_all(&line).await?;
        loop {
            let (id, reply) = self.replies.recv().await.ok_or(QmpError::Closed)?;
            // An older id is the reply to a command that nobody waits for any more.
            if id == self.last {
                return reply.map_err(QmpError::Refused);
            }
        }
    }
}

async fn listen(
    mut reader: BufReader<OwnedReadHalf>,
    events: mpsc::Sender<QmpEvent>,
    answers: mpsc::Sender<(u64, Result<Value, String>)>,
) {
    loop {
        let line = match lines::read_line(&mut reader, MAX_LINE).await {
            Ok(Some(line)) => line,
            Ok(None) => return,
            // It ends in the middle of what is said to it.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return,
            Err(error) => return tracing::warn!(%error, "QEMU's control channel failed"),
        };
        match serde_json::from_slice::<Message>(&line) {
            Ok(Message::Event { event, data }) => {
                let Some(event) = understand(&event, &data) else { continue };
                if events.send(event).await.is_err() {
                    return;
                }
            }
            // A full queue means that nobody waits: the reply is late.
            Ok(Message::Return { value, id }) => drop(answers.try_send((id, Ok(value)))),
            Ok(Message::Error { error, id }) => drop(answers.try_send((id, Err(error.desc)))),
            Err(error) => tracing::warn!(%error, "QEMU said something that is not understood"),
        }
    }
}

#[derive(Deserialize)]
struct Greeting {
    #[serde(rename = "QMP")]
    qmp: Greeted,
}

#[derive(Deserialize)]
struct Greeted {
    version: Versions,
}

#[derive(Deserialize)]
struct Versions {
    qemu: QemuVersion,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Message {
    Event {
        event: String,
        #[serde(default)]
        data: Value,
    },
    Return {
        #[serde(rename = "return")]
        value: Value,
        #[serde(default)]
        id: u64,
    },
    Error {
        error: ErrorBody,
        #[serde(default)]
        id: u64,
    },
}

#[derive(Deserialize)]
struct ErrorBody {
    desc: String,
}

fn understand(event: &str, data: &Value) -> Option<QmpEvent> {
    let text = |key: &str| data.get(key).and_then(Value::as_str).unwrap_or_default();
    let flag = |key: &str| data.get(key).and_then(Value::as_bool).unwrap_or_default();
    match event {
        "SHUTDOWN" => Some(QmpEvent::ShutDown(cause(text("reason")))),
        "RESET" => Some(QmpEvent::Reset(cause(text("reason")))),
        "VSERPORT_CHANGE" => Some(QmpEvent::Port { id: text("id").to_owned(), open: flag("open") }),
        "BLOCK_IO_ERROR" if text("action") == "stop" => {
            Some(QmpEvent::DiskStopped { no_space: flag("nospace") })
        }
        _ => None,
    }
}

/// QEMU's `ShutdownCause`; what a newer QEMU adds is taken for its own doing.
fn cause(reason: &str) -> Cause {
    match reason {
        "guest-shutdown" | "guest-reset" => Cause::Guest,
        "guest-panic" => Cause::Panic,
        "host-signal" => Cause::Signal,
        "host-qmp-quit" | "host-qmp-system-reset" | "host-ui" => Cause::Asked,
        _ => Cause::Error,
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncBufReadExt;

    use super::*;

    const GREETING: &[u8] = b"{\"QMP\":{\"version\":{\"qemu\":{\"micro\":2,\"minor\":0,\"major\":10},\"package\":\"\"},\"capabilities\":[]}}\r\n";

    /// QEMU, so far as it is played: greets, accepts the capabilities, then does `rest`.
    async fn open_with<F>(
        rest: impl FnOnce(BufReader<UnixStream>) -> F,
    ) -> (Result<(Qmp, mpsc::Receiver<QmpEvent>), QmpError>, F::Output)
    where
        F: Future,
    {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let tasks = TaskTracker::new();
        let qemu = async {
            let mut stream = BufReader::new(theirs);
            stream.write_all(GREETING).await.unwrap();
            let mut line = String::new();
            stream.read_line(&mut line).await.unwrap();
            assert!(line.contains("qmp_capabilities"));
            stream.write_all(b"{\"return\":{},\"id\":1}\r\n").await.unwrap();
            rest(stream).await
        };
        tokio::join!(Qmp::open(ours, &tasks), qemu)
    }

    #[tokio::test]
    async fn replies_find_their_command_between_events() {
        let (opened, mut qemu) = open_with(async |stream| stream).await;
        let (qmp, mut events) = opened.unwrap();
        assert_eq!(qmp.version.to_string(), "10.0.2");
        let answer = async {
            let mut line = String::new();
            qemu.read_line(&mut line).await.unwrap();
            assert!(line.contains("query-status") && line.contains("\"id\":2"), "{line}");
            qemu.write_all(
                b"{\"event\":\"SHUTDOWN\",\"data\":{\"guest\":true,\"reason\":\"guest-shutdown\"},\"timestamp\":{}}\n\
                  {\"event\":\"RTC_CHANGE\",\"data\":{}}\n\
                  {\"return\":{\"late\":true},\"id\":1}\n\
                  {\"return\":{\"running\":true},\"id\":2}\n\
                  {\"event\":\"RESET\",\"data\":{\"guest\":true,\"reason\":\"guest-reset\"}}\n\
                  {\"event\":\"VSERPORT_CHANGE\",\"data\":{\"open\":true,\"id\":\"agent\"}}\n",
            )
            .await
            .unwrap();
        };
        let arguments = json!({});
        let (reply, ()) = tokio::join!(qmp.execute("query-status", &arguments), answer);
        assert_eq!(reply.unwrap(), json!({ "running": true }));
        assert_eq!(events.recv().await, Some(QmpEvent::ShutDown(Cause::Guest)));
        assert_eq!(events.recv().await, Some(QmpEvent::Reset(Cause::Guest)));
        assert_eq!(events.recv().await, Some(QmpEvent::Port { id: "agent".to_owned(), open: true }));
        drop(qemu);
        assert_eq!(events.recv().await, None);
    }

    #[tokio::test]
    async fn an_error_is_told_in_qemus_words() {
        let (opened, mut qemu) = open_with(async |stream| stream).await;
        let (qmp, _events) = opened.unwrap();
        let answer = qemu.write_all(b"{\"error\":{\"class\":\"GenericError\",\"desc\":\"no\"},\"id\":2}\n");
        let arguments = json!({});
        let (reply, _) = tokio::join!(qmp.execute("x", &arguments), answer);
        assert!(matches!(reply, Err(QmpError::Refused(desc)) if desc == "no"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_qemu_is_given_up_and_its_late_reply_is_not_taken_for_another() {
        let (opened, mut qemu) = open_with(async |stream| stream).await;
        let (qmp, _events) = opened.unwrap();
        assert!(matches!(qmp.execute("slow", &json!({})).await, Err(QmpError::TimedOut)));
        qemu.write_all(b"{\"return\":\"slow\",\"id\":2}\n{\"return\":\"quick\",\"id\":3}\n").await.unwrap();
        assert_eq!(qmp.execute("quick", &json!({})).await.unwrap(), json!("quick"));
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_and_endless_lines_instead_of_a_greeting() {
        let tasks = TaskTracker::new();
        let (ours, theirs) = UnixStream::pair().unwrap();
        assert!(matches!(Qmp::open(ours, &tasks).await, Err(QmpError::TimedOut)));
        drop(theirs);
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let chatter = async {
            let noise = vec![b'x'; 1 << 16];
            while theirs.write_all(&noise).await.is_ok() {}
        };
        let (opened, ()) = tokio::join!(Qmp::open(ours, &tasks), chatter);
        assert!(matches!(opened, Err(QmpError::Io(error)) if error.kind() == io::ErrorKind::InvalidData));
    }

    #[tokio::test]
    async fn rubbish_is_passed_over_and_an_endless_line_ends_the_channel() {
        let (opened, mut qemu) = open_with(async |stream| stream).await;
        let (qmp, mut events) = opened.unwrap();
        qemu.write_all(b"\xff\xfe\n[]\n{\"event\":\"RESET\",\"data\":{\"reason\":\"new-in-11\"}}\n")
            .await
            .unwrap();
        assert_eq!(events.recv().await, Some(QmpEvent::Reset(Cause::Error)));
        let noise = vec![b'x'; MAX_LINE + 1];
        // The reader closes its half in the middle of this.
        drop(qemu.write_all(&noise).await);
        assert_eq!(events.recv().await, None);
        assert!(matches!(qmp.execute("x", &json!({})).await, Err(QmpError::Closed)));
    }
}
