//! The ssh that people have, as they use it.

use std::{
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

/// Longer than any boot.
const PATIENCE: Duration = Duration::from_secs(300);
/// More than a shell prints before it is waited for again.
const MAX_SEEN: usize = 64 << 10;

/// A program of OpenSSH that ends with this value.
pub(super) fn program(name: &str) -> Command {
    #[expect(clippy::disallowed_methods, reason = "a bench runs what it measures")]
    let mut command = Command::new(name);
    command.env_remove("SSH_AUTH_SOCK").kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn ssh(config: &Path) -> Command {
    let mut command = program("ssh");
    command.arg("-F").arg(config).args(["-o", "BatchMode=yes", "-o", "ControlPath=none"]);
    command
}

/// From starting ssh to the first output of a command in the VM.
pub(super) async fn first_output(config: &Path, host: &str) -> anyhow::Result<Duration> {
    let began = Instant::now();
    let mut child = ssh(config).args([host, "echo ready"]).spawn().context(MISSING)?;
    let mut stdout = child.stdout.take().context("ssh has no output")?;
    let mut seen = vec![];
    let found = timeout(PATIENCE, until(&mut stdout, &mut seen, b"ready")).await;
    let took = began.elapsed();
    if !matches!(found, Ok(Ok(()))) {
        bail!("ssh to {host} gave no output: {}", complaints(child).await);
    }
    timeout(PATIENCE, child.wait()).await??;
    Ok(took)
}

const MISSING: &str = "ssh cannot be started; it is in the package openssh-client";

/// A shell in a VM, left open.
pub(super) struct Shell {
    keys: ChildStdin,
    screen: ChildStdout,
    _ssh: Child,
}

impl Shell {
    /// Opens one and waits for its prompt.
    pub(super) async fn open(config: &Path, host: &str) -> anyhow::Result<Self> {
        // No terminal here, one there; and no message of this ssh's end in the middle of the figures.
        let mut command = ssh(config);
        command.args(["-q", "-tt", host]).stdin(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().context(MISSING)?;
        let keys = child.stdin.take().context("ssh has no input")?;
        let screen = child.stdout.take().context("ssh has no output")?;
        let mut shell = Self { keys, screen, _ssh: child };
        shell.expect(b"$ ").await?;
        Ok(shell)
    }

    /// From pressing a key to seeing it.
    pub(super) async fn echo(&mut self) -> anyhow::Result<Duration> {
        let began = Instant::now();
        self.keys.write_all(b"x").await?;
        self.expect(b"x").await?;
        let took = began.elapsed();
        // The line is emptied for the next time, and a new prompt says when.
        self.keys.write_all(b"\x15\n").await?;
        self.expect(b"$ ").await?;
        Ok(took)
    }

    async fn expect(&mut self, text: &[u8]) -> anyhow::Result<()> {
        timeout(PATIENCE, until(&mut self.screen, &mut vec![], text))
            .await
            .context("The open shell does not answer")??;
        Ok(())
    }
}

/// Reads until `text` was among what was read.
async fn until(from: &mut (impl AsyncRead + Unpin), seen: &mut Vec<u8>, text: &[u8]) -> anyhow::Result<()> {
    let mut chunk = [0; 4096];
    while !seen.windows(text.len()).any(|window| window == text) {
        let n = from.read(&mut chunk).await?;
        if n == 0 || seen.len() > MAX_SEEN {
            bail!("it ended with {:?}", String::from_utf8_lossy(seen));
        }
        seen.extend(chunk.iter().take(n));
    }
    Ok(())
}

async fn complaints(mut child: Child) -> String {
    let _gone_already = child.start_kill();
    let mut text = vec![];
    if let Some(stderr) = child.stderr.take() {
        let _cut = timeout(Duration::from_secs(1), stderr.take(MAX_SEEN as u64).read_to_end(&mut text)).await;
    }
    String::from_utf8_lossy(&text).trim().replace(['\r', '\n'], " ")
}
