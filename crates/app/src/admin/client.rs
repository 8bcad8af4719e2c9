//! The command's end of the admin socket.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
};

use super::wire::{Answer, Envelope, Failure, FailureKind, MAX_REPLY, Progress, Reply, Request, VERSION};

/// Asks the running server and waits for its answer, for as long as that takes; `on_progress` hears what goes on.
pub(crate) fn ask(
    socket: &Path,
    request: &Request,
    mut on_progress: impl FnMut(Progress),
) -> Result<Answer, Failure> {
    let mut stream = UnixStream::connect(socket).map_err(|error| unreachable(socket, &error))?;
    let lost = |error: io::Error| broken(&format!("The server went away before it answered: {error}."));
    let request = serde_json::to_value(request).map_err(|error| lost(error.into()))?;
    let mut line = serde_json::to_vec(&Envelope { version: VERSION, request }).map_err(|e| lost(e.into()))?;
    line.push(b'\n');
    // A server that refuses a request before it has read all of it says why in its answer.
    let sent = stream.write_all(&line);
    let mut replies = BufReader::new(stream);
    loop {
        let mut reply = Vec::new();
        replies.by_ref().take(MAX_REPLY).read_until(b'\n', &mut reply).map_err(lost)?;
        if reply.is_empty() {
            sent.map_err(lost)?;
            return Err(broken("The server went away before it answered. Its log says why."));
        }
        match serde_json::from_slice(&reply) {
            Ok(Reply::Progress(progress)) => on_progress(progress),
            Ok(Reply::Done(answer)) => return Ok(*answer),
            Ok(Reply::Failed(failure)) => return Err(failure),
            Err(_) => {
                return Err(broken("The server's answer makes no sense to this berth. Restart the server."));
            }
        }
    }
}

fn broken(message: &str) -> Failure {
    Failure::new(FailureKind::Unavailable, message)
}

fn unreachable(socket: &Path, error: &io::Error) -> Failure {
    let folder = socket.parent().unwrap_or(socket).display();
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => broken(&format!(
            "No server runs with the state folder {folder}. Start it with “berth serve” (or “make up”), or name \
             another folder with --state DIR."
        )),
        io::ErrorKind::PermissionDenied => Failure::new(
            FailureKind::Denied,
            format!(
                "You may not administer the server of the state folder {folder}. Run this as the user that it runs \
                 as, or as root."
            ),
        ),
        _ => broken(&format!("The server cannot be reached at {}: {error}.", socket.display())),
    }
}
