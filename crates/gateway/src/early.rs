//! Early identification: a tunnel to the sshd of a VM that boots answers for it at once.
//!
//! Clients give up on a server that does not identify itself in some seconds (OpenSSH's ConnectTimeout; VS Code's is
//! 15 s), and a boot takes longer. The client of such a tunnel is therefore sent the identification that the VM's sshd
//! had when it was last seen, and when the sshd says it itself it is left out. Nothing else is ever said for a VM: the
//! identification is part of what the two ends sign (RFC 4253, section 8), so one that is not the VM's own to the
//! byte would end in a host key that cannot be verified. Then the tunnel ends, and the next try has the right one.
//!
//! Until the key exchange is over packets are plain (RFC 4253, section 6), so a client that has had its early line and
//! whose VM then does not come can be told why, by a disconnect that its ssh shows.
//!
//! Pure but for [`Ear`], which tells what it heard.

use berth_control::{Progress, Status};
use bytes::{BufMut, Bytes, BytesMut};
use tokio::sync::oneshot;

use crate::text::in_ascii;

/// The port on which there is an identification.
pub(crate) const SSH: u16 = 22;
/// The longest identification, without its CR LF (RFC 4253, section 4.2).
const LONGEST: usize = 253;
/// The most that a server may say up to the end of its identification.
const PREFACE: usize = 16 * 1024;
/// `SSH_MSG_DISCONNECT` (RFC 4253, section 11.1).
const DISCONNECT: u8 = 1;
/// `SSH_DISCONNECT_SERVICE_NOT_AVAILABLE`
pub(crate) const NOT_AVAILABLE: u32 = 7;
/// `SSH_DISCONNECT_TOO_MANY_CONNECTIONS`
pub(crate) const TOO_MANY_CONNECTIONS: u32 = 12;

/// Whether this news means a wait for which an early identification is worth while. A wake is over before it is.
pub(crate) fn is_long(progress: &Progress) -> bool {
    match progress {
        Progress::Queued { .. } => true,
        Progress::Starting { was, .. } => match was {
            Status::Off
            | Status::Failed
            | Status::Stopping
            | Status::Starting
            | Status::Rebuilding
            | Status::Running => true,
            Status::Asleep | Status::Waking | Status::Removing => false,
        },
        Progress::Ready { .. } => false,
    }
}

/// An identification as it is sent.
pub(crate) fn sent(line: &str) -> Bytes {
    format!("{line}\r\n").into()
}

/// The packet that ends a connection before its key exchange, as a server sends it.
pub(crate) fn disconnect(reason: u32, why: &str) -> Bytes {
    const BLOCK: usize = 8;
    const LEAST_PADDING: usize = 4;
    let text = in_ascii(why);
    let mut payload = BytesMut::new();
    payload.put_u8(DISCONNECT);
    payload.put_u32(reason);
    for string in [text.as_str(), ""] {
        payload.put_u32(string.len().try_into().unwrap_or(u32::MAX));
        payload.put_slice(string.as_bytes());
    }
    // The lengths of packet and padding are counted in: 4 and 1.
    let unpadded = 4 + 1 + payload.len() + LEAST_PADDING;
    let padding = LEAST_PADDING + unpadded.next_multiple_of(BLOCK) - unpadded;
    let mut packet = BytesMut::new();
    packet.put_u32((1 + payload.len() + padding).try_into().unwrap_or(u32::MAX));
    packet.put_u8(padding.try_into().unwrap_or(u8::MAX));
    packet.put_slice(&payload);
    packet.put_bytes(0, padding);
    packet.freeze()
}

/// What the first bytes of a server have told.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// Not yet.
    More,
    /// The identification, without its end of line. What follows it begins at `rest` of the bytes that were just heard.
    Identification { line: String, rest: usize },
    /// There will be none: it is no ssh server, or not a decent one.
    Nothing,
}

/// The search for the identification in what a server says first. Other lines may stand before it, which do not begin
/// with `SSH-` (RFC 4253, section 4.2).
#[derive(Default)]
pub(crate) struct Search {
    /// The beginning of the line that has not ended yet.
    line: Vec<u8>,
    heard: usize,
}

impl Search {
    /// Hears the next bytes. Not to be asked again once it has said something else than [`Heard::More`].
    pub(crate) fn hear(&mut self, data: &[u8]) -> Heard {
        for (at, &byte) in data.iter().enumerate() {
            self.heard += 1;
            if self.heard > PREFACE {
                return Heard::Nothing;
            }
            if byte != b'\n' {
                // One more than the longest with its CR tells that it is too long.
                if self.line.len() <= LONGEST + 1 {
                    self.line.push(byte);
                }
                continue;
            }
            if self.line.starts_with(b"SSH-") {
                return match identification(&self.line) {
                    Some(line) => Heard::Identification { line, rest: at + 1 },
                    None => Heard::Nothing,
                };
            }
            self.line.clear();
        }
        Heard::More
    }
}

/// An identification that may be said again: printable, and no longer than it may be.
fn identification(line: &[u8]) -> Option<String> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let is_plain = line.iter().all(|byte| matches!(byte, b' '..=b'~'));
    (line.len() <= LONGEST && is_plain).then(|| String::from_utf8_lossy(line).into_owned())
}

/// Listens to what goes by, and tells the identification in it.
pub(crate) struct Ear {
    search: Search,
    tell: oneshot::Sender<String>,
}

impl Ear {
    pub(crate) fn new(tell: oneshot::Sender<String>) -> Self {
        Self { search: Search::default(), tell }
    }

    /// Hears the next bytes; gives itself back while there is more to be heard.
    pub(crate) fn hear(mut self, data: &[u8]) -> Option<Self> {
        match self.search.hear(data) {
            Heard::More => return Some(self),
            Heard::Identification { line, .. } => {
                // Nobody listens when the tunnel is being ended.
                let _ = self.tell.send(line);
            }
            Heard::Nothing => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DEBIAN: &str = "SSH-2.0-OpenSSH_10.0p2 Debian-7";

    fn found(line: &str, rest: usize) -> Heard {
        Heard::Identification { line: line.into(), rest }
    }

    #[test]
    fn the_identification_is_found_behind_other_lines() {
        for (said, heard) in [
            (format!("{DEBIAN}\r\n"), found(DEBIAN, 33)),
            (format!("{DEBIAN}\n\0\0\x01"), found(DEBIAN, 32)),
            (format!("Maintenance at 5.\r\n\r\n SSH-2.0-no\n{DEBIAN}\r\nrest"), found(DEBIAN, 66)),
            (format!("{}\n{DEBIAN}\r\n", "x".repeat(5000)), found(DEBIAN, 5034)),
            ("SSH-1.99-old\n".into(), found("SSH-1.99-old", 13)),
            ("SSH-2.0-not yet".into(), Heard::More),
            (String::new(), Heard::More),
            ("Not allowed at this time\r\n".into(), Heard::More),
            ("SSH-2.0-\x1b[2J\r\n".into(), Heard::Nothing),
            ("SSH-2.0-ü\r\n".into(), Heard::Nothing),
            ("SSH-2.0-two\rlines\r\n".into(), Heard::Nothing),
            ("x\n".repeat(PREFACE), Heard::Nothing),
            ("x".repeat(PREFACE + 1), Heard::Nothing),
        ] {
            assert_eq!(Search::default().hear(said.as_bytes()), heard, "{said:?}");
        }
    }

    #[test]
    fn an_identification_is_as_long_as_it_may_be() {
        let longest = format!("SSH-2.0-{}", "x".repeat(LONGEST - 8));
        for end in ["\r\n", "\n"] {
            let said = format!("{longest}{end}");
            assert_eq!(Search::default().hear(said.as_bytes()), found(&longest, said.len()));
            let said = format!("{longest}x{end}");
            assert_eq!(Search::default().hear(said.as_bytes()), Heard::Nothing);
        }
    }

    #[test]
    fn lines_that_never_end_take_no_memory() {
        let mut search = Search::default();
        assert_eq!(search.hear(&[b'x'; PREFACE]), Heard::More);
        assert!(search.line.len() <= LONGEST + 2);
        assert_eq!(search.hear(b"x"), Heard::Nothing);
    }

    #[test]
    fn an_ear_tells_once_and_is_gone() {
        let (tell, mut told) = oneshot::channel();
        let ear = Ear::new(tell).hear(b"SSH-2.0-").expect("there is more to come");
        assert!(told.try_recv().is_err());
        assert!(ear.hear(b"Fake\r\nSSH-2.0-Other\r\n").is_none());
        assert_eq!(told.try_recv(), Ok("SSH-2.0-Fake".into()));
        let (tell, mut told) = oneshot::channel();
        assert!(Ear::new(tell).hear(b"SSH-\0\n").is_none());
        assert_eq!(told.try_recv(), Err(oneshot::error::TryRecvError::Closed));
    }

    #[test]
    fn a_disconnect_is_a_packet_of_the_protocol() {
        let packet = disconnect(NOT_AVAILABLE, "vm-0…");
        let want = b"\0\0\0\x1c\x07\x01\0\0\0\x07\0\0\0\x07vm-0...\0\0\0\0\0\0\0\0\0\0\0";
        assert_eq!(packet.as_ref(), want);
    }

    #[test]
    fn only_what_takes_long_is_worth_an_early_word() {
        let vm: berth_model::VmName = "vm-0.alice.koding".parse().expect("a name");
        for (was, long) in [
            (Status::Off, true),
            (Status::Failed, true),
            (Status::Stopping, true),
            (Status::Starting, true),
            (Status::Asleep, false),
            (Status::Waking, false),
        ] {
            let progress = Progress::Starting { vm: vm.clone(), was, usual: None };
            assert_eq!(is_long(&progress), long, "{was}");
        }
        assert!(is_long(&Progress::Queued { vm: vm.clone(), ahead: 0, reason: "x".into() }));
        assert!(!is_long(&Progress::Ready { vm, took: std::time::Duration::ZERO }));
    }

    proptest! {
        #[test]
        fn pieces_are_heard_as_the_whole(
            said in proptest::collection::vec(
                prop_oneof!["[a-z\\n]{0,9}".boxed(), Just("SSH-2.0-x\r\n".into()), Just("\r\n".into())], 0..9),
            cuts in proptest::collection::vec(1usize..9, 1..9),
        ) {
            let said = said.concat().into_bytes();
            let whole = Search::default().hear(&said);
            let (mut search, mut at, mut cuts) = (Search::default(), 0, cuts.into_iter().cycle());
            let mut heard = Heard::More;
            while at < said.len() && heard == Heard::More {
                let end = said.len().min(at + cuts.next().expect("it is a cycle"));
                heard = match search.hear(&said[at..end]) {
                    Heard::Identification { line, rest } => Heard::Identification { line, rest: at + rest },
                    other => other,
                };
                at = end;
            }
            prop_assert_eq!(whole, heard);
        }

        #[test]
        fn what_is_found_can_be_said_again(said in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut all = b"SSH-".to_vec();
            all.extend(said);
            if let Heard::Identification { line, rest } = Search::default().hear(&all) {
                let mut again = sent(&line).to_vec();
                prop_assert!(again.len() <= 255);
                prop_assert_eq!(Search::default().hear(&again), found(&line, again.len()));
                again.truncate(line.len());
                prop_assert!(all[..rest].starts_with(&again));
            }
        }

        #[test]
        fn packets_are_whole_blocks(why in any::<String>()) {
            let packet = disconnect(TOO_MANY_CONNECTIONS, &why);
            let length = u32::from_be_bytes(packet[..4].try_into().expect("four")) as usize;
            prop_assert_eq!(length + 4, packet.len());
            prop_assert_eq!(packet.len() % 8, 0);
            prop_assert!((4..12).contains(&packet[4]));
        }
    }
}
