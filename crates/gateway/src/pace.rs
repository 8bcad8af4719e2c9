//! How many messages a client may send that carry nothing.
//!
//! Ssh has many messages that cost their sender little and do nothing: ignored ones, requests that are refused, windows
//! that change, keys that are exchanged again and again. russh tells of some of them only, so all messages are counted
//! where they are read, by their first bytes, and those that carried data are taken off again, as is what a client says
//! for having been sent something. What is left is slow where people and programs are, however busy; a client that is
//! faster is read no faster.

use std::sync::atomic::{AtomicU32, Ordering};

use tokio::time::Instant;

/// russh reads the length of a message by itself: four bytes, or a block of the cipher. Nothing else is read in pieces so
/// small but, now and then, the end of a message that came in parts.
const LENGTH: usize = 16;
/// Who is sent so much may say something for it: some clients give credit for each packet.
const FOR_A_WORD: usize = 1024;
/// So many seconds' worth may come at once.
const AT_ONCE: u32 = 10;

/// The messages of one client.
pub(crate) struct Pace {
    /// A second.
    allowed: u32,
    spent: u32,
    since: Instant,
    written: usize,
}

impl Pace {
    /// Zero allows any number.
    pub(crate) fn new(allowed: u32) -> Self {
        Self { allowed, spent: 0, since: Instant::now(), written: 0 }
    }

    /// The client was sent so many bytes.
    pub(crate) fn wrote(&mut self, bytes: usize) {
        self.written = self.written.saturating_add(bytes);
    }

    /// Whether the client is to be read later only, after something was read into so much room. `carried` are the
    /// messages with something in them since this was asked last; it is set to zero when they are counted.
    pub(crate) fn is_too_fast(&mut self, room: usize, carried: &AtomicU32) -> bool {
        let at_once = self.allowed.saturating_mul(AT_ONCE);
        if room > LENGTH || at_once == 0 {
            return false;
        }
        self.spent = self.spent.saturating_add(1);
        if self.spent < at_once {
            return false;
        }
        let words = u32::try_from(self.written / FOR_A_WORD).unwrap_or(u32::MAX);
        self.written %= FOR_A_WORD;
        let off = carried.swap(0, Ordering::Relaxed).saturating_add(words);
        self.spent = self.spent.saturating_sub(off.saturating_add(self.earned(Instant::now())));
        self.spent >= at_once
    }

    /// What may be sent for the time that has passed, which counts once.
    fn earned(&mut self, now: Instant) -> u32 {
        let time = now.saturating_duration_since(self.since);
        let millis = u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
        let earned = self.allowed.saturating_mul(millis) / 1000;
        // The part of one that was not earned yet is not lost.
        if earned > 0 {
            self.since = now;
        }
        earned
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// How many of so many messages are too many.
    fn held(pace: &mut Pace, messages: u32, carried: &AtomicU32, carries: bool) -> usize {
        (0..messages)
            .filter(|_| {
                let slow = pace.is_too_fast(4, carried);
                assert!(!pace.is_too_fast(100, carried), "what follows the length is no message of its own");
                if carries {
                    carried.fetch_add(1, Ordering::Relaxed);
                }
                slow
            })
            .count()
    }

    #[tokio::test(start_paused = true)]
    async fn idle_messages_are_slow_in_the_long_run() {
        let (mut pace, carried) = (Pace::new(10), AtomicU32::new(0));
        assert_eq!(held(&mut pace, 99, &carried, false), 0);
        assert_eq!(held(&mut pace, 5, &carried, false), 5);
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(
            held(&mut pace, 15, &carried, false),
            0,
            "two seconds are twenty, and five were too many before"
        );
        assert_eq!(held(&mut pace, 9, &carried, false), 9);
    }

    #[tokio::test(start_paused = true)]
    async fn data_and_answers_to_data_are_never_too_fast() {
        let (mut pace, carried) = (Pace::new(10), AtomicU32::new(0));
        assert_eq!(held(&mut pace, 100_000, &carried, true), 0);
        for _ in 0..100_000 {
            pace.wrote(32 * 1024);
            assert_eq!(held(&mut pace, 1, &carried, false), 0);
        }
        assert_eq!(held(&mut Pace::new(0), 100_000, &carried, false), 0, "no limit");
    }
}
