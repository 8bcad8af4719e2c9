//! Programs in guests, by the cluster's API: scripts, and connections where the cluster's network is out of reach.

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use hyper::Method;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    time::timeout,
};
use tokio_tungstenite::tungstenite::Message;
use tokio_util::task::TaskTracker;

use crate::{
    client::{Client, Operation},
    error::IncusError,
    websocket::Socket,
};

/// So much of what a script prints is kept, in bytes.
const MOST_OUTPUT: usize = 64 << 10;
/// One message to a program; in bytes.
const PIECE: usize = 32 << 10;
/// What a connection into a guest buffers in each direction.
const BUFFER: usize = 64 << 10;
/// A program in the guest that connects, tells whether it could, and carries bytes. Perl is in every Debian.
const RELAY: &str = include_str!("relay.pl");

/// What a script printed, and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Output {
    pub(crate) status: i64,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// How a connection from within a guest to a port of it came out.
pub(crate) enum Dialled {
    Connected(DuplexStream),
    Refused,
    Silent,
}

/// The ends of a program's standard input, output and error.
struct Program {
    operation: Operation,
    stdin: Socket,
    stdout: Socket,
    stderr: Socket,
}

impl Client {
    /// Runs a script as root in a guest, by its shell. It goes in by standard input: arguments are for everybody to see, in
    /// the guest and in the cluster's list of operations.
    ///
    /// Dropping this future leaves the script to end by itself.
    pub(crate) async fn run(
        &self,
        instance: &str,
        script: &str,
        within: Duration,
    ) -> Result<Output, IncusError> {
        let ran = async {
            let command = json!(["/bin/sh", "-c", "eval \"$(cat)\""]);
            let Program { operation, stdin, stdout, stderr } = self.program(instance, command).await?;
            let (said, complained, fed) =
                tokio::join!(collect(stdout), collect(stderr), feed(stdin, script.as_bytes()));
            fed?;
            self.ended(operation, said, complained, within).await
        };
        timeout(within, ran).await.unwrap_or(Err(IncusError::TimedOut(within)))
    }

    /// Runs two commands of the shell, each in a guest, the first one's output being the second one's input. Neither may have
    /// a secret in it.
    pub(crate) async fn pipe(
        &self,
        from: (&str, &str),
        to: (&str, &str),
        within: Duration,
    ) -> Result<(Output, Output), IncusError> {
        let ran = async {
            let shell = |command: &str| json!(["/bin/sh", "-c", command]);
            let source = self.program(from.0, shell(from.1)).await?;
            let sink = self.program(to.0, shell(to.1)).await?;
            let (passed, (), packed, unpacked, said) = tokio::join!(
                pass(source.stdout, sink.stdin),
                async { drop(feed(source.stdin, b"").await) },
                collect(source.stderr),
                collect(sink.stderr),
                collect(sink.stdout),
            );
            passed?;
            let packed = self.ended(source.operation, String::new(), packed, within).await?;
            let unpacked = self.ended(sink.operation, said, unpacked, within).await?;
            Ok((packed, unpacked))
        };
        timeout(within, ran).await.unwrap_or(Err(IncusError::TimedOut(within)))
    }

    async fn ended(
        &self,
        operation: Operation,
        stdout: String,
        stderr: String,
        within: Duration,
    ) -> Result<Output, IncusError> {
        let ended = self.end_of(operation, within).await?;
        let status = ended.metadata.get("return").and_then(Value::as_i64).unwrap_or(-1);
        Ok(Output { status, stdout, stderr })
    }

    /// Connects to a port of a guest from within it, and carries the bytes by the API until both directions have ended.
    pub(crate) async fn dial_within(
        &self,
        instance: &str,
        address: &str,
        port: u16,
        within: Duration,
        tasks: &TaskTracker,
    ) -> Result<Dialled, IncusError> {
        let dialled = async {
            let command = json!(["/usr/bin/perl", "-e", RELAY, address, port.to_string()]);
            let Program { stdin, stdout, mut stderr, .. } = self.program(instance, command).await?;
            let first = loop {
                match stderr.next().await {
                    Some(Ok(Message::Binary(said))) if !said.is_empty() => break said.first().copied(),
                    Some(Ok(Message::Binary(_) | Message::Ping(_) | Message::Pong(_))) => {}
                    _ => break None,
                }
            };
            match first {
                Some(b'+') => {}
                Some(b'-') => return Ok(Dialled::Refused),
                _ => return Ok(Dialled::Silent),
            }
            let (ours, theirs) = duplex(BUFFER);
            tasks.spawn(async move {
                carry(theirs, stdin, stdout).await;
                // It was open so that the program does not end for the lack of it.
                drop(stderr);
            });
            Ok(Dialled::Connected(ours))
        };
        timeout(within, dialled).await.unwrap_or(Ok(Dialled::Silent))
    }

    async fn program(&self, instance: &str, command: Value) -> Result<Program, IncusError> {
        let path = self.path(&format!("/instances/{instance}/exec"), &[]);
        let body = json!({ "command": command, "wait-for-websocket": true, "interactive": false });
        let operation = self.begin(Method::POST, &path, &body).await?;
        let secret = |name: &str| {
            let secret = operation.metadata.get("fds").and_then(|fds| fds.get(name)).and_then(Value::as_str);
            secret.map(str::to_owned).ok_or_else(|| IncusError::Odd("a program without its ends".into()))
        };
        let at = format!("/operations/{}/websocket", operation.id);
        let path = |name: &str| Ok::<_, IncusError>(self.path(&at, &[("secret", &secret(name)?)]));
        let (stdin, stdout, stderr) = (path("0")?, path("1")?, path("2")?);
        let (stdin, stdout, stderr) =
            tokio::try_join!(self.websocket(&stdin), self.websocket(&stdout), self.websocket(&stderr))?;
        Ok(Program { operation, stdin, stdout, stderr })
    }
}

/// Everything up to the end of an output, which is an empty text or the end of the socket.
async fn collect(mut output: Socket) -> String {
    let mut whole = Vec::new();
    while let Some(Ok(message)) = output.next().await {
        match message {
            Message::Binary(piece) => {
                let room = MOST_OUTPUT.saturating_sub(whole.len()).min(piece.len());
                whole.extend(piece.iter().take(room));
            }
            Message::Text(_) | Message::Close(_) => break,
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
        }
    }
    // The other end waits for the answer to its close.
    drop(output.close(None).await);
    String::from_utf8_lossy(&whole).into_owned()
}

async fn feed(mut input: Socket, text: &[u8]) -> Result<(), IncusError> {
    for piece in text.chunks(PIECE) {
        input.send(Message::Binary(piece.to_vec().into())).await.map_err(|error| broken(&error))?;
    }
    // An empty text is the end of the input.
    input.send(Message::Text("".into())).await.map_err(|error| broken(&error))?;
    while let Some(Ok(message)) = input.next().await {
        if message.is_close() {
            break;
        }
    }
    Ok(())
}

/// Hands an output on as an input, to its end.
async fn pass(mut output: Socket, mut input: Socket) -> Result<(), IncusError> {
    while let Some(Ok(message)) = output.next().await {
        match message {
            Message::Binary(piece) => {
                input.send(Message::Binary(piece)).await.map_err(|error| broken(&error))?;
            }
            Message::Text(_) | Message::Close(_) => break,
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
        }
    }
    drop(output.close(None).await);
    feed(input, b"").await
}

fn broken(error: &tokio_tungstenite::tungstenite::Error) -> IncusError {
    IncusError::Broken(error.to_string())
}

/// Carries bytes both ways. Either direction may end first.
async fn carry(stream: DuplexStream, input: Socket, output: Socket) {
    let (reading, mut writing) = tokio::io::split(stream);
    let down = async move {
        let mut output = output;
        while let Some(Ok(message)) = output.next().await {
            match message {
                Message::Binary(piece) => {
                    if writing.write_all(&piece).await.is_err() {
                        break;
                    }
                }
                Message::Text(_) | Message::Close(_) => break,
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
        let _closed = writing.shutdown().await;
        drop(output.close(None).await);
    };
    tokio::join!(down, up(reading, input));
}

async fn up(mut reading: tokio::io::ReadHalf<DuplexStream>, mut input: Socket) {
    let mut piece = vec![0; PIECE];
    loop {
        let read = tokio::select! {
            read = reading.read(&mut piece) => read,
            // The program in the guest has ended.
            message = input.next() => match message {
                Some(Ok(message)) if !message.is_close() => continue,
                _ => return,
            },
        };
        let sent = match read {
            Ok(0) | Err(_) => break,
            Ok(count) => {
                let piece = piece.get(..count).unwrap_or_default().to_vec();
                input.send(Message::Binary(piece.into())).await
            }
        };
        if sent.is_err() {
            return;
        }
    }
    if input.send(Message::Text("".into())).await.is_ok() {
        while let Some(Ok(message)) = input.next().await {
            if message.is_close() {
                return;
            }
        }
    }
}
