//! How a new server takes the place of the one that runs, without a moment in which nobody listens.
//!
//! ```text
//!   old ── its listeners and its lock (SCM_RIGHTS), their names ──► new     is started by the old one, with this on its stdin
//!       ◄── prepared ─────────────────────────────────────────────         has a sound configuration, has tried the migrations
//!       lets nobody in, what was begun is finished
//!       ── go ────────────────────────────────────────────────────►         opens the database, finds the VMs
//!       ◄── ready ────────────────────────────────────────────────
//!       ── take ──────────────────────────────────────────────────►         lets people in, who have waited meanwhile
//!       has left, and serves who is connected ◄── end ─── when the new one is stopped
//! ```
//!
//! Whatever goes wrong before *take* ends the new server, and the old one goes on as if nothing had happened. The lock of the
//! state folder is a flock(2), which belongs to the open file: with the file it is both servers', and nobody else's.
//!
//! Lines of JSON, each a [`Say`]. Both ends may be of different versions, of which the old one cannot know the new one's
//! words: what is in [`Say`] and [`Given`] keeps its meaning.

use std::{
    io::{self, BufRead, BufReader, IoSlice, IoSliceMut, Read},
    mem::MaybeUninit,
    net::SocketAddr,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    time::Duration,
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};

/// Listeners that are given at most, with the lock.
const MAX_FILES: usize = 64;
/// Of one line, in bytes.
const MAX_LINE: u64 = 64 << 10;
/// The old server has all that it gives when it starts the new one.
const GIVEN_WITHIN: Duration = Duration::from_secs(10);

/// What a listener is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Way {
    Ssh,
    Http,
    Https,
}

/// A listener's place in the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    pub(crate) way: Way,
    /// As it stands in the configuration, where a port may be 0.
    pub(crate) address: SocketAddr,
}

/// What comes with the files: first the lock, then the admin socket, then a listener for each place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Given {
    places: Vec<Place>,
}

/// What one server says to the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub(crate) enum Say {
    /// The new one: nothing is in the way as far as can be seen.
    Prepared,
    /// The new one: something is, in whole sentences. It ends.
    Failed { message: String },
    /// The old one: open everything.
    Go,
    /// The new one: everything is open.
    Ready,
    /// The old one: it is yours.
    Take,
    /// The new one: who is connected yet is to be sent away.
    End,
}

impl Say {
    /// Says it without a runtime.
    pub(crate) fn write(&self, to: &UnixStream) -> io::Result<()> {
        let mut line = serde_json::to_vec(self)?;
        line.push(b'\n');
        io::Write::write_all(&mut &*to, &line)
    }
}

/// What a server has that another one can go on with.
#[derive(Debug)]
pub(crate) struct Estate {
    pub(crate) lock: OwnedFd,
    pub(crate) admin: OwnedFd,
    pub(crate) listeners: Vec<(Place, OwnedFd)>,
}

impl Estate {
    /// Takes out the listeners of a way that are for these addresses; `None` for an address that none is for.
    pub(crate) fn listeners_for(&mut self, way: Way, addresses: &[SocketAddr]) -> Vec<Option<OwnedFd>> {
        let mut take = |address: SocketAddr| {
            let place = Place { way, address };
            let at = self.listeners.iter().position(|(has, _)| *has == place)?;
            Some(self.listeners.remove(at).1)
        };
        addresses.iter().map(|address| take(*address)).collect()
    }

    /// Gives copies of all of it. Blocks for a moment.
    pub(crate) fn give(&self, to: &UnixStream) -> io::Result<()> {
        let places = self.listeners.iter().map(|(place, _)| place.clone()).collect();
        let mut line = serde_json::to_vec(&Given { places })?;
        line.push(b'\n');
        let listeners = self.listeners.iter().map(|(_, listener)| listener.as_fd());
        let files: Vec<BorrowedFd<'_>> =
            [self.lock.as_fd(), self.admin.as_fd()].into_iter().chain(listeners).collect();
        if files.len() > MAX_FILES {
            return Err(io::Error::other("there are too many listeners"));
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FILES))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(&files)) {
            return Err(io::Error::other("there are too many listeners"));
        }
        let sent = sendmsg(to, &[IoSlice::new(&line)], &mut control, SendFlags::NOSIGNAL)?;
        match line.get(sent..) {
            Some(rest) => io::Write::write_all(&mut &*to, rest),
            None => Ok(()),
        }
    }

    /// Takes what [`Estate::give`] gives. Blocks for a moment.
    pub(crate) fn take(from: &UnixStream) -> io::Result<Self> {
        let unfit =
            || io::Error::new(io::ErrorKind::InvalidData, "the server that runs gives something else");
        from.set_read_timeout(Some(GIVEN_WITHIN))?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FILES))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut first = [0; 1];
        recvmsg(from, &mut [IoSliceMut::new(&mut first)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
        let mut files = vec![];
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(given) = message {
                files.extend(given);
            }
        }
        let mut line = first.to_vec();
        // A byte at a time: what follows the line is not of this.
        BufReader::with_capacity(1, from).take(MAX_LINE).read_until(b'\n', &mut line)?;
        from.set_read_timeout(None)?;
        let Given { places } = serde_json::from_slice(&line)?;
        let mut files = files.into_iter();
        let (lock, admin) = files.next().zip(files.next()).ok_or_else(unfit)?;
        if files.len() != places.len() {
            return Err(unfit());
        }
        Ok(Self { lock, admin, listeners: places.into_iter().zip(files).collect() })
    }
}

/// The other server, with which [`Say`]s are exchanged.
#[derive(Debug)]
pub(crate) struct Other {
    stream: tokio::io::BufReader<tokio::net::UnixStream>,
}

impl Other {
    /// Needs a runtime.
    pub(crate) fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self { stream: tokio::io::BufReader::new(tokio::net::UnixStream::from_std(stream)?) })
    }

    pub(crate) async fn say(&mut self, what: &Say) -> io::Result<()> {
        use tokio::io::AsyncWriteExt;
        let mut line = serde_json::to_vec(what)?;
        line.push(b'\n');
        self.stream.write_all(&line).await
    }

    /// What it says next; `None` when it has ended.
    pub(crate) async fn hear(&mut self) -> io::Result<Option<Say>> {
        use tokio::io::{AsyncBufReadExt, AsyncReadExt};
        let mut line = vec![];
        (&mut self.stream).take(MAX_LINE).read_until(b'\n', &mut line).await?;
        if line.is_empty() {
            return Ok(None);
        }
        Ok(Some(serde_json::from_slice(&line)?))
    }
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, os::unix::net::UnixListener};

    use super::*;

    fn estate(dir: &std::path::Path) -> (Estate, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let bound = listener.local_addr().unwrap();
        let place = Place { way: Way::Ssh, address: "127.0.0.1:0".parse().unwrap() };
        let lock = std::fs::File::create(dir.join("lock")).unwrap();
        let admin = UnixListener::bind(dir.join("admin.sock")).unwrap();
        (Estate { lock: lock.into(), admin: admin.into(), listeners: vec![(place, listener.into())] }, bound)
    }

    #[test]
    fn what_is_given_is_what_was_had() {
        let dir = tempfile::tempdir().unwrap();
        let (estate, bound) = estate(dir.path());
        let (old, new) = UnixStream::pair().unwrap();
        estate.give(&old).unwrap();
        io::Write::write_all(&mut &old, b"{\"say\":\"go\"}\n").unwrap();
        let mut taken = Estate::take(&new).unwrap();
        let anywhere = "127.0.0.1:0".parse().unwrap();
        assert!(matches!(taken.listeners_for(Way::Http, &[anywhere])[..], [None]), "that is for ssh");
        let listener = taken.listeners_for(Way::Ssh, &[anywhere, anywhere]);
        let [Some(listener), None] = <[_; 2]>::try_from(listener).unwrap() else { panic!("there is one") };
        assert_eq!(TcpListener::from(listener).local_addr().unwrap(), bound);
        let mut rest = [0; 13];
        io::Read::read_exact(&mut &new, &mut rest).unwrap();
        assert_eq!(&rest, b"{\"say\":\"go\"}\n", "what follows is left where it is");
    }

    #[test]
    fn something_else_is_refused() {
        for said in ["", "x\n", "{\"places\":[]}\n"] {
            let (old, new) = UnixStream::pair().unwrap();
            io::Write::write_all(&mut &old, said.as_bytes()).unwrap();
            drop(old);
            assert!(Estate::take(&new).is_err(), "{said:?}");
        }
    }

    #[tokio::test]
    async fn what_is_said_is_heard_and_an_end_is_an_end() {
        let (one, two) = UnixStream::pair().unwrap();
        let (mut one, mut two) = (Other::new(one).unwrap(), Other::new(two).unwrap());
        let failed = Say::Failed { message: "“x”\n".into() };
        one.say(&Say::Prepared).await.unwrap();
        one.say(&failed).await.unwrap();
        assert_eq!(two.hear().await.unwrap(), Some(Say::Prepared));
        assert_eq!(two.hear().await.unwrap(), Some(failed));
        drop(one);
        assert_eq!(two.hear().await.unwrap(), None);
    }
}
