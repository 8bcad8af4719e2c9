//! From a member to a shell in a VM: the certificate, the connection, and what is run there.
//!
//! The shell lives in a tmux of its own (its own socket, no settings of the member's), so that it is still there when the
//! page comes back: one session for each number. That tmux should not be noticed: no status line, no keys of its own,
//! and not the alternate screen, so that what scrolls off the top is the page's own scrollback. What is in tmux' history
//! when a page comes back is printed before it. Where there is no tmux it is a plain login shell.

use std::{sync::Arc, time::Duration};

use berth_control::{Acting, Control, Entry, Progress};
use berth_model::VmName;
use berth_vm_ssh::{Connection, Credentials, Event, Input, Output, Size};
use tokio::{sync::mpsc, time::timeout};

/// So long a VM may take to say which terminals it has.
const PATIENCE: Duration = Duration::from_secs(30);
/// The most bytes of that answer.
const MAX_LIST: usize = 4096;

const SCRIPT: &str = include_str!("shell.sh");
const LIST: &str = "exec sh -c \"exec tmux -L berth list-sessions -F '#{session_name}' 2>/dev/null\"";

/// Which shell.
pub(crate) struct Asked<'a> {
    pub(crate) vm: &'a VmName,
    pub(crate) number: u8,
    pub(crate) size: Size,
}

/// A shell that runs.
pub(crate) struct Shell {
    /// What it is allowed by.
    pub(crate) entry: Entry,
    pub(crate) connection: Connection,
    pub(crate) input: Input,
    pub(crate) output: Output,
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
    let user = key.user.as_str();
    let credentials = Credentials::new(user, key.private_key.expose(), &key.certificate, &key.host_key);
    let opening = async {
        let connection = Connection::open(stream, credentials?).await?;
        let mut channel = connection.session().await?;
        channel.set_env("COLORTERM", "truecolor").await?;
        channel.pty("xterm-256color", asked.size).await?;
        let (input, output) = channel.exec(&command(asked.number)).await?;
        Ok((connection, input, output))
    };
    let opened: Result<_, berth_vm_ssh::Error> = opening.await;
    let (connection, input, output) = opened.map_err(|error| error.to_string())?;
    Ok(Shell { entry, connection, input, output })
}

/// What the member's own shell is asked to run, whichever it is.
fn command(number: u8) -> String {
    // The script has no single quotes, so that it can stand between two.
    format!("exec sh -c '{}' berth-terminal {number}", SCRIPT.trim_end())
}

/// The numbers of the terminals that are open in the VM; none where it does not say.
pub(crate) async fn list(connection: &Connection) -> Vec<u8> {
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
    let names = String::from_utf8_lossy(&text);
    let mut numbers: Vec<u8> =
        names.lines().filter_map(|name| name.parse().ok()).filter(|n| super::NUMBERS.contains(n)).collect();
    numbers.sort_unstable();
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_can_stand_between_single_quotes() {
        assert!(!SCRIPT.contains('\''));
        assert!(command(7).ends_with("' berth-terminal 7"));
    }
}
