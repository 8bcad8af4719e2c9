//! The stack's time: it stops while the guest sleeps, so that no timer of TCP runs out meanwhile.

use std::time::Duration;

use smoltcp::time::Instant;

/// The one place that says how the stack's time passes.
pub(crate) struct Clock {
    /// What it said when it was last started or stopped.
    base: Instant,
    /// Since when it runs; a clock that is stopped does not.
    running: Option<tokio::time::Instant>,
}

impl Clock {
    /// A clock that runs.
    pub(crate) fn start() -> Self {
        Self { base: Instant::ZERO, running: Some(tokio::time::Instant::now()) }
    }

    pub(crate) fn now(&self) -> Instant {
        let passed = self.running.map_or(Duration::ZERO, |since| since.elapsed());
        self.base + passed.into()
    }

    /// How long until it says `then`, if it runs.
    pub(crate) fn until(&self, then: Instant) -> Duration {
        (then - self.now().min(then)).into()
    }

    pub(crate) fn stop(&mut self) {
        self.base = self.now();
        self.running = None;
    }

    /// Runs on from where it stopped, or is, and `ahead` of that.
    pub(crate) fn go_on(&mut self, ahead: smoltcp::time::Duration) {
        self.base = self.now() + ahead;
        self.running = Some(tokio::time::Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_hour_stopped_is_not_an_hour() {
        let hour = Duration::from_secs(3600);
        let mut clock = Clock::start();
        tokio::time::advance(Duration::from_secs(2)).await;
        clock.stop();
        tokio::time::advance(hour).await;
        assert_eq!(clock.now(), Instant::from_secs(2));
        clock.go_on(smoltcp::time::Duration::from_secs(5));
        assert_eq!(clock.now(), Instant::from_secs(7));
        tokio::time::advance(hour).await;
        assert_eq!(clock.now(), Instant::from_secs(3607));
        assert_eq!(clock.until(Instant::from_secs(3610)), Duration::from_secs(3));
        assert_eq!(clock.until(Instant::from_secs(7)), Duration::ZERO);
    }
}
