//! The guest agent: how something is put into a guest from outside.
//!
//! At the other end of this line is the guest, and its owner is root there: the agent may be gone, silent, babbling or
//! a program that lies. Whatever comes is bounded in size and time, is believed in nothing but whether our own script
//! said that it was done, and is never shown to anybody but in the shim's log.

use std::{
    io,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
    time::{sleep, timeout},
};

use crate::lines;

/// The longest reply in bytes: our scripts print a line or two.
const MAX_REPLY: usize = 256 << 10;
/// So much of a failed script's output goes to the log.
const MAX_SHOWN: usize = 2000;
const SYNC_WITHIN: Duration = Duration::from_secs(10);
/// A guest writes out what it holds first.
const FREEZE_WITHIN: Duration = Duration::from_secs(30);
/// Marks the beginning of the reply to `guest-sync-delimited`; no JSON has this byte.
const SENTINEL: u8 = 0xff;

/// Why the guest did not take what it was given.
#[derive(Debug, thiserror::Error)]
pub(super) enum AgentError {
    #[error("the line to the guest agent failed")]
    Io(#[from] io::Error),
    #[error("the line to the guest agent ended")]
    Closed,
    #[error("the guest agent does not answer")]
    Silent,
    #[error("the guest agent answers nonsense")]
    Nonsense,
    #[error("the guest agent refused: {0}")]
    Refused(String),
    #[error("the script in the guest ended with status {status}: {output}")]
    Script { status: i64, output: String },
}

/// The line to the agent of one guest. It lives as long as QEMU; programs in the guest come and go at its other end.
#[derive(Debug)]
pub(super) struct Agent {
    stream: BufReader<UnixStream>,
    last: u64,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default, rename = "return")]
    value: Option<Value>,
    #[serde(default)]
    error: Option<Refusal>,
}

#[derive(Deserialize)]
struct Refusal {
    #[serde(default)]
    desc: String,
}

#[derive(Deserialize)]
struct Started {
    pid: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Status {
    exited: bool,
    #[serde(default)]
    exitcode: Option<i64>,
    #[serde(default)]
    out_data: String,
    #[serde(default)]
    err_data: String,
}

impl Agent {
    pub(super) fn new(stream: UnixStream) -> Self {
        // The first id is random, so that a program which has seen none of them cannot have its answer ready.
        Self { stream: BufReader::new(stream), last: rand::random::<u32>().into() }
    }

    /// Waits until an agent answers. Every other verb begins with this, so that what is left over from an earlier,
    /// dropped conversation or another program is never taken for an answer.
    pub(super) async fn sync(&mut self) -> Result<(), AgentError> {
        timeout(SYNC_WITHIN, self.sync_without_limit()).await.map_err(|_| AgentError::Silent)?
    }

    /// An agent that never answers, for a VM that has no QEMU.
    pub(super) fn nobody() -> io::Result<Self> {
        UnixStream::pair().map(|(ours, _closed)| Self::new(ours))
    }

    /// Runs `script` with the guest's `/bin/sh` as root, waits for it, and gives what it printed on its standard output.
    /// That is what the guest says: it may be anything, at most 256 KiB of it.
    ///
    /// # Errors
    /// [`AgentError::Script`] if its exit status is not 0; [`AgentError::Silent`] if it is not over within `limit`,
    /// and then it may still run.
    pub(super) async fn run(&mut self, script: &str, limit: Duration) -> Result<String, AgentError> {
        self.sync().await?;
        timeout(limit, self.run_without_limit(script)).await.map_err(|_| AgentError::Silent)?
    }

    /// Sets the guest's clock to the host's.
    pub(super) async fn set_time(&mut self) -> Result<(), AgentError> {
        self.sync().await?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let set = async {
            self.say("guest-set-time", &json!({ "time": u64::try_from(now.as_nanos()).unwrap_or(u64::MAX) }))
                .await?;
            self.read_answer().await
        };
        timeout(SYNC_WITHIN, set).await.map_err(|_| AgentError::Silent)?.map(drop)
    }

    /// Has the guest's file systems stand still, with all on the disk that was written. After an error they may stand still
    /// too: [`Agent::thaw`] comes in any case.
    pub(super) async fn freeze(&mut self) -> Result<(), AgentError> {
        self.sync().await?;
        self.ask("guest-fsfreeze-freeze", FREEZE_WITHIN).await
    }

    /// Has them go on.
    pub(super) async fn thaw(&mut self) -> Result<(), AgentError> {
        self.sync().await?;
        self.ask("guest-fsfreeze-thaw", SYNC_WITHIN).await
    }

    async fn ask(&mut self, command: &str, limit: Duration) -> Result<(), AgentError> {
        let asked = async {
            self.say(command, &json!({})).await?;
            self.read_answer().await
        };
        timeout(limit, asked).await.map_err(|_| AgentError::Silent)?.map(drop)
    }

    /// Asks the guest to power off. Success means only that it was asked.
    pub(super) async fn shut_down(&mut self) -> Result<(), AgentError> {
        self.sync().await?;
        timeout(SYNC_WITHIN, self.say("guest-shutdown", &json!({ "mode": "powerdown" })))
            .await
            .map_err(|_| AgentError::Silent)?
    }

    async fn sync_without_limit(&mut self) -> Result<(), AgentError> {
        self.last += 1;
        let id = self.last;
        // The sentinel on our side makes the agent forget half a command that a dropped future has left behind.
        self.stream.write_all(&[SENTINEL]).await?;
        self.say("guest-sync-delimited", &json!({ "id": id })).await?;
        loop {
            self.skip_to_sentinel().await?;
            match self.read_answer().await {
                Ok(answer) if answer.as_u64() == Some(id) => return Ok(()),
                Err(error @ (AgentError::Io(_) | AgentError::Closed)) => return Err(error),
                // The reply to an earlier sync, or rubbish: ours may still come.
                _ => {}
            }
        }
    }

    async fn run_without_limit(&mut self, script: &str) -> Result<String, AgentError> {
        let arguments = json!({
            "path": "/bin/sh",
            // Read to its end first: no command of the script can take the rest of it for its own input.
            "arg": ["-c", "eval \"$(cat)\""],
            "input-data": BASE64.encode(script),
            "capture-output": true,
        });
        self.say("guest-exec", &arguments).await?;
        let Started { pid } = understand(self.read_answer().await?)?;
        let mut pause = Duration::from_millis(20);
        loop {
            sleep(pause).await;
            // People wait for what scripts do, and an answer costs the guest a few milliseconds.
            pause = (pause * 3 / 2).min(Duration::from_millis(60));
            self.say("guest-exec-status", &json!({ "pid": pid })).await?;
            let status: Status = understand(self.read_answer().await?)?;
            if status.exited {
                return match status.exitcode {
                    Some(0) => Ok(decoded(&status.out_data)),
                    other => Err(AgentError::Script {
                        status: other.unwrap_or(-1),
                        output: shown(&status.out_data) + &shown(&status.err_data),
                    }),
                };
            }
        }
    }

    async fn say(&mut self, command: &str, arguments: &Value) -> Result<(), AgentError> {
        let mut line = serde_json::to_vec(&json!({ "execute": command, "arguments": arguments }))
            .map_err(io::Error::from)?;
        line.push(b'\n');
        Ok(self.stream.write_all(&line).await?)
    }

    async fn read_answer(&mut self) -> Result<Value, AgentError> {
        let line = match lines::read_line(&mut self.stream, MAX_REPLY).await {
            Ok(line) => line.ok_or(AgentError::Closed)?,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return Err(AgentError::Nonsense),
            Err(error) => return Err(error.into()),
        };
        let answer: Answer = serde_json::from_slice(&line).map_err(|_| AgentError::Nonsense)?;
        match answer {
            Answer { error: Some(refusal), .. } => Err(AgentError::Refused(printable(&refusal.desc))),
            Answer { value: Some(value), error: None } => Ok(value),
            Answer { value: None, error: None } => Err(AgentError::Nonsense),
        }
    }

    async fn skip_to_sentinel(&mut self) -> Result<(), AgentError> {
        loop {
            let available = self.stream.fill_buf().await?;
            if available.is_empty() {
                return Err(AgentError::Closed);
            }
            match available.iter().position(|byte| *byte == SENTINEL) {
                Some(at) => {
                    self.stream.consume(at + 1);
                    return Ok(());
                }
                None => {
                    let all = available.len();
                    self.stream.consume(all);
                }
            }
        }
    }
}

fn understand<T: serde::de::DeserializeOwned>(value: Value) -> Result<T, AgentError> {
    serde_json::from_value(value).map_err(|_| AgentError::Nonsense)
}

fn decoded(base64: &str) -> String {
    String::from_utf8_lossy(&BASE64.decode(base64).unwrap_or_default()).into_owned()
}

fn shown(base64: &str) -> String {
    printable(&decoded(base64))
}

/// What a guest says, made harmless for a log.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() || *c == '\n').take(MAX_SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    fn pair() -> (Agent, BufReader<UnixStream>) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Agent::new(ours), BufReader::new(theirs))
    }

    /// Reads one command of ours, whatever stands before its first brace.
    async fn heard(guest: &mut BufReader<UnixStream>) -> (String, Value) {
        let line = lines::read_line(guest, 1 << 20).await.unwrap().unwrap();
        let start = line.iter().position(|byte| *byte == b'{').unwrap();
        let value: Value = serde_json::from_slice(&line[start..]).unwrap();
        (value["execute"].as_str().unwrap().to_owned(), value["arguments"].clone())
    }

    async fn synced(guest: &mut BufReader<UnixStream>, before: &[u8]) {
        let (command, arguments) = heard(guest).await;
        assert_eq!(command, "guest-sync-delimited");
        guest.write_all(before).await.unwrap();
        guest.write_all(&[SENTINEL]).await.unwrap();
        guest.write_all(format!("{}\n", json!({ "return": arguments["id"] })).as_bytes()).await.unwrap();
    }

    async fn say(guest: &mut BufReader<UnixStream>, text: &str) {
        guest.write_all(text.as_bytes()).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_script_is_run_and_waited_for() {
        let (mut agent, mut guest) = pair();
        let play = async {
            synced(&mut guest, b"").await;
            let (command, arguments) = heard(&mut guest).await;
            assert_eq!(command, "guest-exec");
            assert_eq!(BASE64.decode(arguments["input-data"].as_str().unwrap()).unwrap(), b"echo hi");
            say(&mut guest, "{\"return\":{\"pid\":7}}\n").await;
            for reply in ["{\"exited\":false}", "{\"exited\":true,\"exitcode\":0,\"out-data\":\"aGkK\"}"] {
                assert_eq!(heard(&mut guest).await, ("guest-exec-status".to_owned(), json!({ "pid": 7 })));
                say(&mut guest, &format!("{{\"return\":{reply}}}\n")).await;
            }
        };
        let (result, ()) = tokio::join!(agent.run("echo hi", LIMIT), play);
        assert_eq!(result.unwrap(), "hi\n");
    }

    #[tokio::test(start_paused = true)]
    async fn a_script_that_fails_is_told_with_harmless_output() {
        let (mut agent, mut guest) = pair();
        let play = async {
            synced(&mut guest, b"").await;
            heard(&mut guest).await;
            say(&mut guest, "{\"return\":{\"pid\":7}}\n").await;
            heard(&mut guest).await;
            let output = BASE64.encode("\x1b[2Jno such\nuser");
            say(
                &mut guest,
                &format!("{{\"return\":{{\"exited\":true,\"exitcode\":9,\"err-data\":\"{output}\"}}}}\n"),
            )
            .await;
        };
        let (result, ()) = tokio::join!(agent.run("x", LIMIT), play);
        let text = result.unwrap_err().to_string();
        assert_eq!(text, "the script in the guest ended with status 9: [2Jno such\nuser");
    }

    #[tokio::test(start_paused = true)]
    async fn what_stands_before_the_right_answer_is_skipped() {
        let (mut agent, mut guest) = pair();
        let stale =
            b"{\"return\":{}}\n\xff{\"return\":1}\n\xff\xff garbage\n\xff{\"error\":{\"desc\":\"x\"}}\n";
        let (result, ()) = tokio::join!(agent.sync(), synced(&mut guest, stale));
        result.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_that_never_answers_is_silent() {
        let (mut agent, guest) = pair();
        assert!(matches!(agent.run("x", LIMIT).await, Err(AgentError::Silent)));
        drop(guest);
        assert!(matches!(agent.run("x", LIMIT).await, Err(AgentError::Closed | AgentError::Io(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_guest_that_takes_nothing_is_silent() {
        let (mut agent, mut guest) = pair();
        let long = "x".repeat(4 << 20);
        let play = async {
            synced(&mut guest, b"").await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            result = agent.run(&long, LIMIT) => assert!(matches!(result, Err(AgentError::Silent))),
            () = play => unreachable!("it waits for ever"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_reply_that_does_not_end_is_nonsense() {
        let (mut agent, mut guest) = pair();
        let play = async {
            synced(&mut guest, b"").await;
            heard(&mut guest).await;
            let noise = "a".repeat(MAX_REPLY + 1);
            say(&mut guest, &noise).await;
        };
        let (result, ()) = tokio::join!(agent.run("x", LIMIT), play);
        assert!(matches!(result, Err(AgentError::Nonsense)));
    }

    #[tokio::test(start_paused = true)]
    async fn answers_of_the_wrong_shape_are_nonsense() {
        for reply in ["{\"return\":[]}", "{}", "[]", "{\"return\":{\"pid\":\"1\"}}", "\u{0}"] {
            let (mut agent, mut guest) = pair();
            let play = async {
                synced(&mut guest, b"").await;
                heard(&mut guest).await;
                say(&mut guest, &format!("{reply}\n")).await;
            };
            let (result, ()) = tokio::join!(agent.run("x", LIMIT), play);
            assert!(matches!(result, Err(AgentError::Nonsense)), "{reply}: {result:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_endless_flood_without_a_sentinel_ends_at_the_time_limit() {
        let (mut agent, mut guest) = pair();
        let flood = async {
            let noise = vec![b'z'; 4096];
            loop {
                if guest.write_all(&noise).await.is_err() {
                    return;
                }
                sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::select! {
            result = agent.sync() => assert!(matches!(result, Err(AgentError::Silent))),
            () = flood => unreachable!("the line stays open"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_conversation_does_not_spoil_the_next() {
        let (mut agent, mut guest) = pair();
        let play = async {
            synced(&mut guest, b"").await;
            heard(&mut guest).await;
        };
        tokio::select! {
            _ = agent.run("first", LIMIT) => unreachable!("nobody answers"),
            () = play => {}
        }
        say(&mut guest, "{\"return\":{\"pid\":1}}\n").await;
        let play = async {
            synced(&mut guest, b"").await;
            let (_, arguments) = heard(&mut guest).await;
            assert_eq!(BASE64.decode(arguments["input-data"].as_str().unwrap()).unwrap(), b"second");
            say(&mut guest, "{\"return\":{\"pid\":2}}\n").await;
            assert_eq!(heard(&mut guest).await.1, json!({ "pid": 2 }));
            say(&mut guest, "{\"return\":{\"exited\":true,\"exitcode\":0}}\n").await;
        };
        let (result, ()) = tokio::join!(agent.run("second", LIMIT), play);
        result.unwrap();
    }
}
