//! What the engine and a shim say to each other: one request a connection, one line of JSON each way.
//!
//! ```text
//!   engine ── {"v":1,"do":"observe"}\n ─────────────►  shim
//!          ◄─ {"v":1,"reply":"observed","is":…}\n ──
//!   engine ── {"v":1,"do":"dial","port":22}\n ──────►  after {"v":1,"reply":"done"}\n both directions are the
//!          ◄═ bytes of the guest ═════════════════►    connection's own bytes, the end of each passed on alone
//! ```
//!
//! A shim lives as long as its VM, so a newer engine meets older shims: nothing of version 1 may change its meaning,
//! and a shim answers a version that it does not know with [`Denied::Version`]. It answers a request of version 1 that
//! is newer than itself with [`Denied::Malformed`].

use std::{io, path::PathBuf};

use berth_engine::{GuestUser, Lease, Listener, Observed, Usage};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::io::{AsyncBufRead, AsyncWrite, AsyncWriteExt};

use crate::{lines, shim::spec::GuestSpec};

/// The version that is spoken.
pub(crate) const VERSION: u32 = 1;
/// The longest line in bytes; keys are the longest thing said.
const MAX_LINE: usize = 1 << 20;

/// What an engine asks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub(crate) enum Request {
    /// Answered at once with [`Reply::Observed`].
    Observe,
    /// Answered with [`Reply::Observed`] as soon as it is something else than `known`.
    Changed { known: Observed },
    /// Answered with [`Reply::Done`], and the connection's bytes follow.
    Dial { port: u16 },
    /// Answered with [`Reply::Done`] when the guest has them, or the shim has taken note while it boots.
    SetAuthorizedKeys {
        authorized_keys: String,
        /// A shim from before there were any does not know of them.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        others: Vec<GuestUser>,
        /// Empty for the one that it has. A shim from before there were any does not know of it.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        host_certificate: String,
    },
    /// Answered with [`Reply::Done`] at once.
    Stop { patience_ms: u64 },
    /// Answered with [`Reply::Done`] at once.
    Kill,
    /// Answered with [`Reply::Done`] when the VM is asleep and QEMU gone.
    Sleep,
    /// Answered with [`Reply::Done`] when the VM has gone on, or does not sleep. It is not running before it is observed
    /// to be.
    Wake { guest: GuestSpec },
    /// Answered with [`Reply::Done`] at once, and a shim of a sleeping VM ends. The sleep stays. One of another VM stays,
    /// and answers with [`Denied::NotAsleep`].
    LetGo,
    /// Answered with [`Reply::Usage`].
    Usage,
    /// Answered with [`Reply::Leases`].
    Leases,
    /// Answered with [`Reply::Listeners`].
    Listeners,
    /// Answered with [`Reply::Done`] when the guest has shown it.
    Tell { text: String },
    /// Answered with [`Reply::Done`] when the guest has done it.
    Tidy,
    /// Answered with [`Reply::Grown`] when the disk has so many bytes.
    Grow { disk: u64 },
    /// Answered with [`Reply::Done`] when the guest has everything below `/home` of this disk, and the disk no more.
    TakeHome { disk: PathBuf },
    /// Answered with [`Reply::Done`] when this disk, which is as large and empty, has all that the guest's had at one moment.
    /// Given up when the asker goes away.
    CopyDisk { to: PathBuf },
}

/// What a shim answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub(crate) enum Reply {
    Done,
    Observed {
        observed: Observed,
    },
    Usage {
        usage: Usage,
    },
    Leases {
        leases: Vec<Lease>,
    },
    Listeners {
        listeners: Vec<Listener>,
    },
    /// Whether the guest's file system has the room too.
    Grown {
        taken: bool,
    },
    Denied {
        why: Denied,
    },
}

/// Why a shim did not do it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "because", rename_all = "snake_case")]
pub(crate) enum Denied {
    /// The guest is not ready for this yet, or not any more.
    NotRunning,
    /// Nothing listens on that port of the guest.
    Refused,
    /// The guest did not answer in time.
    TimedOut,
    /// It does not sleep now, since somebody is connecting to it.
    InUse,
    /// What can be asked of a sleeping VM was asked of another.
    NotAsleep,
    /// It did not wake, and sleeps as before; a sentence without a full stop.
    WakeFailed { reason: String },
    /// Something else; a sentence without a full stop.
    Failed { reason: String },
    /// The line was no request.
    Malformed,
    /// The request is of a version that this shim does not speak.
    Version { speaks: u32 },
}

#[derive(Serialize, Deserialize)]
struct Line<T> {
    v: u32,
    #[serde(flatten)]
    body: T,
}

#[derive(Deserialize)]
struct VersionOnly {
    v: u32,
}

/// What a line may turn out to be when it is not what was waited for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LineError {
    #[error("the connection failed")]
    Io(#[from] io::Error),
    #[error("the connection ended")]
    Closed,
    #[error("version {0} of the protocol is spoken there")]
    Version(u32),
    #[error("the line is no message")]
    Malformed(#[source] serde_json::Error),
}

/// Reads one message. Takes from `reader` no byte after its line, as far as `reader` has buffered none.
pub(crate) async fn receive<T, R>(reader: &mut R) -> Result<T, LineError>
where
    T: DeserializeOwned,
    R: AsyncBufRead + Unpin,
{
    let line = lines::read_line(reader, MAX_LINE).await?.ok_or(LineError::Closed)?;
    match serde_json::from_slice::<VersionOnly>(&line).map_err(LineError::Malformed)?.v {
        VERSION => Ok(serde_json::from_slice::<Line<T>>(&line).map_err(LineError::Malformed)?.body),
        other => Err(LineError::Version(other)),
    }
}

/// Writes one message.
pub(crate) async fn send<T, W>(writer: &mut W, body: T) -> io::Result<()>
where
    T: Serialize,
    W: AsyncWrite + Unpin,
{
    let mut line = serde_json::to_vec(&Line { v: VERSION, body })?;
    if line.len() > MAX_LINE {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too long for one message"));
    }
    line.push(b'\n');
    writer.write_all(&line).await
}

#[cfg(test)]
mod tests {
    use berth_engine::Ending;
    use tokio::io::{AsyncReadExt, BufReader};

    use super::*;

    async fn read<T: DeserializeOwned>(text: &[u8]) -> Result<T, LineError> {
        receive(&mut BufReader::new(text)).await
    }

    #[tokio::test]
    async fn every_request_and_reply_comes_back_as_it_was() {
        let failed = Observed::Off { ended: Some(Ending::Failed { reason: "“x”\n".to_owned() }) };
        for request in [
            Request::Observe,
            Request::Changed { known: failed.clone() },
            Request::Changed { known: Observed::Running },
            Request::Dial { port: 65535 },
            Request::SetAuthorizedKeys {
                authorized_keys: "ssh-ed25519 AAAA\nssh-rsa BBBB\n".to_owned(),
                others: vec![],
                host_certificate: "ssh-ed25519-cert-v01@openssh.com CCCC\n".to_owned(),
            },
            Request::Stop { patience_ms: 1 },
            Request::Kill,
            Request::Sleep,
            Request::LetGo,
            Request::Usage,
            Request::Leases,
            Request::Listeners,
            Request::Tell { text: "“x”".to_owned() },
            Request::Tidy,
            Request::CopyDisk { to: "/x".into() },
        ] {
            let mut line = Vec::new();
            send(&mut line, request.clone()).await.unwrap();
            assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
            assert_eq!(read::<Request>(&line).await.unwrap(), request);
        }
        for reply in [
            Reply::Done,
            Reply::Observed { observed: failed },
            Reply::Usage { usage: Usage { cpu: std::time::Duration::from_millis(1500), disk: 1, memory: 2 } },
            Reply::Leases { leases: vec![] },
            Reply::Listeners { listeners: vec![Listener { port: 80, local: false }] },
            Reply::Denied { why: Denied::Refused },
            Reply::Denied { why: Denied::InUse },
            Reply::Denied { why: Denied::WakeFailed { reason: "x".to_owned() } },
            Reply::Denied { why: Denied::Version { speaks: 7 } },
            Reply::Denied { why: Denied::Failed { reason: "x".to_owned() } },
        ] {
            let mut line = Vec::new();
            send(&mut line, reply.clone()).await.unwrap();
            assert_eq!(read::<Reply>(&line).await.unwrap(), reply);
        }
    }

    #[tokio::test]
    async fn what_a_shim_of_version_1_was_told_it_is_still_told() {
        assert_eq!(
            read::<Request>(b"{\"v\":1,\"do\":\"dial\",\"port\":22}\n").await.unwrap(),
            Request::Dial { port: 22 }
        );
        assert_eq!(
            read::<Request>(b"{\"v\":1,\"do\":\"stop\",\"patience_ms\":9}\n").await.unwrap(),
            Request::Stop { patience_ms: 9 }
        );
        assert_eq!(
            read::<Reply>(b"{\"v\":1,\"reply\":\"observed\",\"observed\":{\"is\":\"running\"}}\n")
                .await
                .unwrap(),
            Reply::Observed { observed: Observed::Running }
        );
    }

    #[tokio::test]
    async fn another_version_rubbish_and_endless_lines_are_told_apart() {
        assert!(matches!(read::<Request>(b"{\"v\":2,\"do\":\"fly\"}\n").await, Err(LineError::Version(2))));
        assert!(matches!(read::<Request>(b"{\"v\":1,\"do\":\"fly\"}\n").await, Err(LineError::Malformed(_))));
        assert!(matches!(read::<Request>(b"GET / HTTP/1.1\r\n").await, Err(LineError::Malformed(_))));
        assert!(matches!(
            read::<Request>(b"{\"v\":1,\"do\":\"dial\",\"port\":65536}\n").await,
            Err(LineError::Malformed(_))
        ));
        assert!(matches!(read::<Request>(b"{\"v\":1").await, Err(LineError::Closed)));
        let endless = vec![b' '; MAX_LINE + 1];
        assert!(matches!(read::<Request>(&endless).await, Err(LineError::Io(_))));
    }

    #[tokio::test]
    async fn the_first_bytes_of_a_connection_are_not_taken_with_the_reply() {
        let mut line = Vec::new();
        send(&mut line, Reply::Done).await.unwrap();
        line.extend_from_slice(b"SSH-2.0-x\r\n");
        let mut from = &line[..];
        let reply: Reply = receive(&mut BufReader::with_capacity(1, &mut from)).await.unwrap();
        assert_eq!(reply, Reply::Done);
        let mut rest = String::new();
        from.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "SSH-2.0-x\r\n");
    }
}
