//! Starting a program that inherits descriptors.

use std::{
    io,
    os::fd::{BorrowedFd, OwnedFd},
};

use rustix::io::{FdFlags, fcntl_setfd};
use tokio::{
    net::UnixStream,
    process::{Child, Command},
};

/// Starts a program with `descriptors` open under the numbers that they have here.
///
/// Only for a process with a single thread that starts programs, such as a shim: another program started at the same
/// moment would inherit them too.
pub(crate) fn spawn(command: &mut Command, descriptors: &[BorrowedFd<'_>]) -> io::Result<Child> {
    let child = set_all(descriptors, FdFlags::empty()).and_then(|()| command.spawn());
    set_all(descriptors, FdFlags::CLOEXEC)?;
    child
}

fn set_all(descriptors: &[BorrowedFd<'_>], flags: FdFlags) -> io::Result<()> {
    for descriptor in descriptors {
        fcntl_setfd(descriptor, flags)?;
    }
    Ok(())
}

/// Two connected sockets: ours, and the one to be inherited, which blocks as programs expect.
pub(crate) fn wire() -> io::Result<(UnixStream, OwnedFd)> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    Ok((UnixStream::from_std(ours)?, theirs.into()))
}
