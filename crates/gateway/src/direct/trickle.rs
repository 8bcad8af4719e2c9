//! How fast a channel is read whose client does not read it, for the sake of the others on its line.
//!
//! russh gives a VM credit for what was received, not for what was taken, so a channel can be stopped only together with its
//! line. What its VM may have sent stands in the way of what its neighbours' VMs say: as much as its credit. Taking that at
//! a pace lets the neighbours through, each time it has moved on by so much, and bounds what one channel can have waiting here
//! until it is given up.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Bytes a second.
const PACE: u64 = 512 * 1024;
/// What a message costs beside its bytes.
const MESSAGE: usize = 16;
/// Taken in one go, so that timers do not set the pace: the bytes of a packet take as long.
const BURST: Duration = Duration::from_millis(32);

/// The pace of one channel.
#[derive(Debug, Default)]
pub(super) struct Trickle {
    /// When what was taken has been paid for.
    paid: Option<Instant>,
}

impl Trickle {
    /// Counts a message of so many bytes.
    pub(super) fn took(&mut self, bytes: usize) {
        let now = Instant::now();
        let cost = (bytes.saturating_add(MESSAGE) as u64).saturating_mul(1_000_000) / PACE;
        let from = self.paid.map_or(now, |paid| paid.max(now));
        self.paid = Some(from + Duration::from_micros(cost));
    }

    /// Waits until the next message may be taken.
    pub(super) async fn due(&self) {
        if let Some(paid) = self.paid
            && paid.saturating_duration_since(Instant::now()) > BURST
        {
            sleep_until(paid).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn large_and_small_messages_go_at_a_pace() {
        for (bytes, least, most) in [(16 * 1024, 500, 560), (1, 25, 40)] {
            let mut trickle = Trickle::default();
            let (begun, mut taken) = (Instant::now(), 0);
            while begun.elapsed() < Duration::from_secs(10) {
                trickle.due().await;
                trickle.took(bytes);
                taken += bytes;
            }
            let each_second = taken / 10 / 1024;
            assert!((least..most).contains(&each_second), "{each_second} KiB/s of messages of {bytes}");
        }
    }
}
