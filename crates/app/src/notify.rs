//! What the service manager is told (sd_notify(3)): without one, nothing.

use std::os::{
    linux::net::SocketAddrExt,
    unix::{
        ffi::OsStrExt,
        net::{SocketAddr, UnixDatagram},
    },
};

/// The server serves.
pub(crate) fn ready() {
    say("READY=1");
}

/// Another process is the server from now on.
pub(crate) fn server_is(pid: u32) {
    say(&format!("MAINPID={pid}"));
}

fn say(what: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty()) else { return };
    let address = match path.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&path),
    };
    let said = address.and_then(|address| UnixDatagram::unbound()?.send_to_addr(what.as_bytes(), &address));
    if let Err(error) = said {
        tracing::warn!(%error, what, "the service manager cannot be told");
    }
}
