//! From a member to a shell in a VM: the certificate, the connection, and what is run there.
//!
//! The shell lives in a tmux of its own (its own socket, no settings of the member's), so that it is still there when the
//! page comes back: one session for each number. That tmux should not be noticed: no status line, no keys of its own,
//! and not the alternate screen, so that what scrolls off the top is the page's own scrollback. What is in tmux' history
//! when a page comes back is printed before it. Where there is no tmux it is a plain login shell.
//!
//! Somebody who watches has a tmux client of their own on the same session, whose size counts for nothing: tmux draws the
//! screen for it when it comes, and anew when it has fallen behind. It draws nothing that was there before.

use std::{sync::Arc, time::Duration};

use berth_control::{
    Acting, Control, Entry, Progress, Purpose, Recording, RecordingWay, SessionKey, Watcher,
};
use berth_model::VmName;
use berth_vm_ssh::{Connection, Credentials, Event, Input, Output, Size};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
    time::timeout,
};

/// So long a VM may take to say which terminals it has.
const PATIENCE: Duration = Duration::from_secs(30);
/// The most bytes of that answer.
const MAX_LIST: usize = 4096;

const SCRIPT: &str = include_str!("shell.sh");
const LIST: &str = "exec sh -c \"exec tmux -L berth list-sessions \
                    -F '#{session_name} #{session_id} #{session_created}' 2>/dev/null\"";

/// Which shell.
pub(crate) struct Asked<'a> {
    pub(crate) vm: &'a VmName,
    pub(crate) number: u8,
    pub(crate) size: Size,
}

/// A terminal that is open in the VM.
pub(crate) struct Listed {
    pub(crate) number: u8,
    /// What no other shell is called, now or later.
    pub(crate) shell: String,
}

/// A shell that runs.
pub(crate) struct Shell {
    /// What it is allowed by.
    pub(crate) entry: Entry,
    pub(crate) connection: Connection,
    pub(crate) input: Input,
    pub(crate) output: Output,
    /// What is kept of what appears in it.
    pub(crate) recording: Option<Recording>,
}

/// Brings the VM up and opens the shell, or says why not.
pub(crate) async fn open(
    control: &Arc<Control>,
    acting: &Acting,
    asked: Asked<'_>,
    progress: mpsc::Sender<Progress>,
) -> Result<Shell, String> {
    let entry = acting.enter_shell(asked.vm).await.map_err(|error| crate::problem::words(&error))?;
    let stream = control.connect(&entry, progress).await.map_err(|error| error.to_string())?;
    let key = acting.terminal_key(&entry).await.map_err(|error| error.to_string())?;
    let mut shell = run(stream, &key, entry, asked.size, &command(asked.number)).await?;
    let (columns, rows) = asked.size.characters();
    shell.recording = control.record(&shell.entry, RecordingWay::Web, columns, rows);
    Ok(shell)
}

/// What somebody who watches sees; the VM runs.
pub(crate) async fn watch(
    control: &Arc<Control>,
    watcher: &Watcher,
    size: Size,
    progress: mpsc::Sender<Progress>,
) -> Result<Shell, String> {
    let entry = watcher.entry().clone();
    let stream = control.connect(&entry, progress).await.map_err(|error| error.to_string())?;
    let key = control.session_key(&entry, Purpose::Terminal).await.map_err(|error| error.to_string())?;
    run(stream, &key, entry, size, &attach(watcher.terminal())).await
}

async fn run(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    key: &SessionKey,
    entry: Entry,
    size: Size,
    command: &str,
) -> Result<Shell, String> {
    let user = key.user.as_str();
    let credentials = Credentials::new(user, key.private_key.expose(), &key.certificate, &key.host_key);
    let opening = async {
        let connection = Connection::open(stream, credentials?).await?;
        let mut channel = connection.session().await?;
        channel.set_env("COLORTERM", "truecolor").await?;
        channel.pty("xterm-256color", size).await?;
        let (input, output) = channel.exec(command).await?;
        Ok((connection, input, output))
    };
    let opened: Result<_, berth_vm_ssh::Error> = opening.await;
    let (connection, input, output) = opened.map_err(|error| error.to_string())?;
    Ok(Shell { entry, connection, input, output, recording: None })
}

/// What the member's own shell is asked to run, whichever it is.
fn command(number: u8) -> String {
    // The script has no single quotes, so that it can stand between two.
    format!("exec sh -c '{}' berth-terminal {number}", SCRIPT.trim_end())
}

/// How somebody who watches gets to see it. The size of their page is not the terminal's.
fn attach(number: u8) -> String {
    format!("exec sh -c \"exec tmux -u -L berth attach-session -f ignore-size -t ={number}\"")
}

/// The terminals that are open in the VM, by number; none where it does not say.
pub(crate) async fn list(connection: &Connection) -> Vec<Listed> {
    let listing = async {
        let (_input, mut output) = connection.session().await?.exec(LIST).await?;
        let mut text = Vec::new();
        while let Some(event) = output.next().await {
            if let Event::Data(data) = event {
                text.extend_from_slice(&data);
                if text.len() > MAX_LIST {
                    break;
                }
            }
        }
        Ok::<_, berth_vm_ssh::Error>(text)
    };
    let text = timeout(PATIENCE, listing).await.unwrap_or(Ok(vec![])).unwrap_or_default();
    listed(&String::from_utf8_lossy(&text))
}

/// What tmux lists: a member's own sessions among it, if they made some there.
fn listed(text: &str) -> Vec<Listed> {
    let one = |line: &str| {
        let (number, shell) = line.split_once(' ')?;
        let number = number.parse().ok().filter(|number| super::NUMBERS.contains(number))?;
        Some(Listed { number, shell: shell.to_owned() })
    };
    let mut listed: Vec<Listed> = text.lines().filter_map(one).collect();
    listed.sort_unstable_by_key(|listed| listed.number);
    listed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_can_stand_between_single_quotes() {
        assert!(!SCRIPT.contains('\''));
        assert!(command(7).ends_with("' berth-terminal 7"));
    }

    #[test]
    fn what_tmux_lists_is_read() {
        let listed = listed("12 $4 1790000000\nmine $5 1790000001\n3 $0 1780000000\n0 $1 1\n7\n");
        let read: Vec<_> = listed.iter().map(|one| (one.number, one.shell.as_str())).collect();
        assert_eq!(read, [(3, "$0 1780000000"), (12, "$4 1790000000")]);
    }
}
