//! What a shim in its sandbox cannot do, and a small process outside of it does: starting passt.
//!
//! passt shuts itself into a file system of its own, and who is in a sandbox of Landlock may mount nothing. So the shim starts
//! this process before it enters its sandbox, and asks it afterwards:
//!
//! ```text
//!   shim ══ one end of a wire, passed on (unix(7), SCM_RIGHTS) ══► outside ── starts ──► passt, with it
//! ```
//!
//! Nothing else can be said, so a shim that a guest has taken over gets no more by it than a passt. It ends when the shim does.

use std::{
    ffi::OsStr,
    fs, io,
    io::{IoSlice, IoSliceMut},
    mem::MaybeUninit,
    net::IpAddr,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream as Line,
    },
    path::Path,
    process::Stdio,
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use tokio::net::UnixStream;

use super::wall::{HostAddresses, Translator, Wall};
use crate::inherit;

/// The first word after the shim's own, for a process of this kind; then comes passt's path.
pub(super) const ROLE: &str = "way-out";

/// The shim's end.
#[derive(Debug)]
pub(super) struct Outside(Line);

impl Outside {
    /// Starts the process; to be called before the sandbox is entered.
    pub(super) fn start(passt: &Path) -> io::Result<Self> {
        let (ours, theirs) = Line::pair()?;
        #[expect(clippy::disallowed_methods, reason = "this crate runs shims")]
        let mut command = std::process::Command::new("/proc/self/exe");
        // The word by which this program knows that it is a shim.
        command.args(std::env::args_os().skip(1).take(1)).arg(ROLE).arg(passt);
        command.stdin(OwnedFd::from(theirs)).stdout(Stdio::null()).spawn()?;
        Ok(Self(ours))
    }

    /// Has a passt started, at the other end of the wire that is returned. If that fails the wire ends.
    pub(super) fn passt(&self) -> io::Result<UnixStream> {
        let (ours, theirs) = inherit::wire()?;
        let passed = [theirs.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&passed));
        sendmsg(&self.0, &[IoSlice::new(b"p")], &mut control, SendFlags::NOSIGNAL)?;
        Ok(ours)
    }
}

/// The other end: starts a passt for each wire that comes on standard input, until that ends.
pub(super) fn serve(passt: &OsStr) -> io::Result<()> {
    let line = io::stdin();
    while let Some(wire) = receive(line.as_fd())? {
        if let Err(error) = start_passt(passt, &wire) {
            tracing::warn!(%error, "passt does not start");
        }
    }
    Ok(())
}

/// The next wire, which programs inherit; `None` when there will be none.
fn receive(line: BorrowedFd<'_>) -> io::Result<Option<OwnedFd>> {
    loop {
        let mut word = [0];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        match recvmsg(line, &mut [IoSliceMut::new(&mut word)], &mut control, RecvFlags::empty()) {
            Ok(received) if received.bytes == 0 => return Ok(None),
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        let passed = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut passed) => passed.next(),
            _ => None,
        });
        if passed.is_some() {
            return Ok(passed);
        }
    }
}

/// It goes when its wire does.
fn start_passt(program: &OsStr, wire: &OwnedFd) -> io::Result<()> {
    #[expect(clippy::disallowed_methods, reason = "this crate runs passt")]
    let mut command = std::process::Command::new(program);
    command.args(["--foreground", "--quiet", "--no-map-gw", "--tcp-ports", "none", "--udp-ports", "none"]);
    for address in nameservers() {
        command.arg("--dns").arg(address.to_string());
    }
    command.arg("--fd").arg(wire.as_raw_fd().to_string());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut passt = command.spawn()?;
    // Nobody else waits for it, and this process lives as long as the shim.
    std::thread::Builder::new().spawn(move || passt.wait())?;
    Ok(())
}

/// The host's name servers that a guest can reach: not those that are the host itself, such as systemd-resolved, whose
/// own servers are asked in its place.
fn nameservers() -> Vec<IpAddr> {
    let mut wall = Wall::new(Translator::Passt);
    let Some(host) = wall.look() else { return Vec::new() };
    let found = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"]
        .into_iter()
        .map(|file| reachable_nameservers(&fs::read_to_string(file).unwrap_or_default(), host))
        .find(|found| !found.is_empty());
    if found.is_none() {
        tracing::warn!("the host has no name server that a VM can reach: names will not resolve there");
    }
    found.unwrap_or_default()
}

/// At most as many as resolv.conf(5) takes.
fn reachable_nameservers(resolv_conf: &str, host: &HostAddresses) -> Vec<IpAddr> {
    resolv_conf
        .lines()
        .filter_map(|line| line.strip_prefix("nameserver")?.trim().parse::<IpAddr>().ok())
        .filter(|address| !host.has(*address))
        .take(3)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn name_servers_that_are_the_host_are_not_given_to_a_guest() {
        let host = HostAddresses::default();
        let text =
            "# x\nnameserver 127.0.0.53\nnameserver ::1\nsearch x\nnameserver 192.0.2.1\nnameserver zz\n";
        assert_eq!(reachable_nameservers(text, &host), ["192.0.2.1".parse::<IpAddr>().unwrap()]);
    }

    #[tokio::test]
    async fn a_wire_is_passed_on_and_words_alone_are_not_listened_to() {
        let (ours, mut theirs) = Line::pair().unwrap();
        (&ours).write_all(b"start something else").unwrap();
        let outside = Outside(ours);
        let wire = outside.passt().unwrap();
        drop(outside);
        let passed = receive(theirs.as_fd()).unwrap().expect("a wire");
        Line::from(passed).write_all(b"frame").unwrap();
        let mut wire = wire.into_std().unwrap();
        wire.set_nonblocking(false).unwrap();
        let mut frame = String::new();
        wire.read_to_string(&mut frame).unwrap();
        assert_eq!(frame, "frame");
        assert!(receive(theirs.as_fd()).unwrap().is_none());
        assert_eq!(theirs.read(&mut [0]).unwrap(), 0);
    }
}
