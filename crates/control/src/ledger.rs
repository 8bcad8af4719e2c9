//! What is written into the audit trail without anybody waiting for it: log-ins at the gateway, also those that it has
//! refused, and connections into VMs, when they end.
//!
//! Strangers can have log-ins refused at any rate, so of one network some are written down in an hour, and of all networks
//! together some more; the rest is counted. Members have connections that are alike counted in one line by the store.
//!
//! Concurrency: whoever has something to tell puts it into a bounded queue and goes on; one task writes, many lines in
//! one transaction, since what costs is that each is on the disk before the next. What does not fit into the queue is lost, counted, and told in the log.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use berth_model::Fingerprint;
use berth_store::{AuditEntry, AuditKind, NewAudit, Store, Traffic, Way};
use time::OffsetDateTime;
use tokio::{
    sync::{
        mpsc::{self, error::TrySendError},
        oneshot,
    },
    time::{Instant, MissedTickBehavior, interval, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::{Control, clock::Clock, web_penalties::Network};

/// So many lines wait to be written.
const QUEUE: usize = 1024;
/// So many are written at once.
const AT_ONCE: usize = 256;
/// For so long what is written at once is collected, unless somebody waits to read it. A server that loses its power loses
/// that much of the trail.
const COLLECTED_FOR: Duration = Duration::from_millis(50);
/// How often what was only counted is written down.
const COUNTED_EVERY: Duration = Duration::from_secs(60);
/// For so long the bounds below hold.
const WINDOW: Duration = Duration::from_secs(60 * 60);
/// So many refused log-ins of one network are written down in that time, and so many of all.
const OF_NETWORK: u32 = 20;
const OF_ALL: u32 = 500;

/// For so long somebody who reads waits for what is being written.
const READER_WAITS: Duration = Duration::from_secs(2);

/// Where lines are put. Clones are the same one.
#[derive(Debug, Clone)]
pub(crate) struct Ledger {
    queue: mpsc::Sender<Line>,
    shared: Arc<Shared>,
}

/// What is in the queue.
#[derive(Debug)]
pub(crate) enum Line {
    Happened(AuditEntry),
    /// Somebody wants to know when all before it is written.
    Told(oneshot::Sender<()>),
}

#[derive(Debug, Default)]
struct Shared {
    lost: AtomicU64,
    refused: Mutex<Refused>,
}

/// What was refused in the present window.
#[derive(Debug, Default)]
struct Refused {
    began: Option<Instant>,
    /// At most [`OF_ALL`] networks.
    networks: HashMap<Network, u32>,
    written: u32,
    /// Not written down, only counted.
    counted: u64,
}

impl Refused {
    /// Whether one more from there is written down; counts it where not.
    fn admit(&mut self, from: IpAddr, now: Instant) -> bool {
        if self.began.is_none_or(|began| now.duration_since(began) >= WINDOW) {
            *self = Self { began: Some(now), counted: self.counted, ..Self::default() };
        }
        let full = self.written >= OF_ALL;
        let network = Network::of(from);
        let of_network = self.networks.get(&network).copied().unwrap_or(0);
        if full || of_network >= OF_NETWORK {
            self.counted += 1;
            return false;
        }
        self.networks.insert(network, of_network + 1);
        self.written += 1;
        true
    }
}

/// What is to be written of a connection when it ends.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) ledger: Ledger,
    pub(crate) clock: Clock,
    pub(crate) event: NewAudit,
}

impl Record {
    /// It has ended.
    pub(crate) fn close(self, began: OffsetDateTime, sent: u64, received: u64) {
        let lasted = Duration::try_from(self.clock.now() - began).unwrap_or_default();
        let traffic = Traffic { sent, received, lasted };
        self.ledger.put(AuditEntry { began: Some(began), traffic: Some(traffic), ..self.event.into() });
    }
}

impl Ledger {
    pub(crate) fn new() -> (Self, mpsc::Receiver<Line>) {
        let (queue, lines) = mpsc::channel(QUEUE);
        (Self { queue, shared: Arc::default() }, lines)
    }

    /// Has a line written, or lost where too many wait.
    pub(crate) fn put(&self, entry: AuditEntry) {
        if self.queue.try_send(Line::Happened(entry)).is_err() {
            self.shared.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The same, but waits for room where too many wait, and for its being written. Gives the line back when the server ends
    /// and nobody writes any more.
    pub(crate) async fn tell(&self, entry: AuditEntry) -> Result<(), AuditEntry> {
        let sent = match self.queue.try_send(Line::Happened(entry)) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(line)) => self.queue.send(line).await.map_err(|unsent| unsent.0),
            Err(TrySendError::Closed(line)) => Err(line),
        };
        match sent {
            Err(Line::Happened(entry)) => Err(entry),
            Ok(()) | Err(Line::Told(_)) => {
                self.written().await;
                Ok(())
            }
        }
    }

    /// Waits until what was put before is written, for whoever is going to read it. Not for long: the trail can be read
    /// also where it cannot be written to.
    pub(crate) async fn written(&self) {
        let (tell, told) = oneshot::channel();
        let telling = async {
            if self.queue.send(Line::Told(tell)).await.is_ok() {
                // Whoever writes has ended, and has written all, or has told.
                let _ = told.await;
            }
        };
        let _ = timeout(READER_WAITS, telling).await;
    }

    /// Somebody was not let in: by what, and what is to be said of it. A flood of them is counted and not written down one by
    /// one.
    pub(crate) fn refused(&self, from: IpAddr, subject: String, detail: &str) {
        if self.shared.lock().admit(from, Instant::now()) {
            self.put(entry(Some(from), subject, detail, 1));
        }
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Refused> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A line about log-ins that were refused at the gateway.
fn entry(address: Option<IpAddr>, subject: String, detail: &str, times: u64) -> AuditEntry {
    let what = NewAudit {
        kind: AuditKind::LogInRefused,
        account: None,
        actor: None,
        way: Way::Ssh,
        address,
        subject,
        detail: detail.to_owned(),
    };
    AuditEntry { times, ..what.into() }
}

impl Control {
    /// Notes that somebody came to the gateway, had no key that counts, and has gone. `key` is the last one that they
    /// offered. Does not wait; a flood of them is counted and not written down one by one.
    pub fn note_refused_key(&self, from: IpAddr, key: Option<&Fingerprint>) {
        self.tools.ledger.refused(from, key.map(ToString::to_string).unwrap_or_default(), "key");
    }
}

/// Writes what is in the queue until the server ends, and then what is left of it.
pub(crate) async fn write(
    store: Store,
    clock: Clock,
    ledger: Ledger,
    mut lines: mpsc::Receiver<Line>,
    closing: CancellationToken,
) {
    let shared = ledger.shared.clone();
    // Only those who have something to tell keep the queue open.
    drop(ledger);
    let mut turns = interval(COUNTED_EVERY);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut taken = Vec::with_capacity(AT_ONCE);
    loop {
        let (mut batch, mut readers) = (vec![], vec![]);
        tokio::select! {
            biased;
            count = lines.recv_many(&mut taken, AT_ONCE) => if count == 0 { break },
            _ = turns.tick() => {
                let counted = std::mem::take(&mut shared.lock().counted);
                if counted > 0 {
                    batch.push(entry(None, String::new(), "more than are written down one by one", counted));
                }
            }
            () = closing.cancelled(), if !lines.is_closed() => lines.close(),
        }
        let collecting = collect(&mut lines, &mut taken);
        let _ = closing.run_until_cancelled(collecting).await;
        for line in taken.drain(..) {
            match line {
                Line::Happened(entry) => batch.push(entry),
                Line::Told(tell) => readers.push(tell),
            }
        }
        if !batch.is_empty()
            && let Err(error) = store.add_audits(&batch, clock.now()).await
        {
            error!(%error, lines = batch.len(), "what happened was not written down");
        }
        for reader in readers {
            let _ = reader.send(());
        }
        let lost = shared.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            warn!(lost, "so much happens at once that lines of the audit trail were lost");
        }
    }
}

/// Takes what else comes soon, where nobody waits for what has come.
async fn collect(lines: &mut mpsc::Receiver<Line>, taken: &mut Vec<Line>) {
    let until = Instant::now() + COLLECTED_FOR;
    while !taken.is_empty() && taken.len() < AT_ONCE {
        if taken.iter().any(|line| matches!(line, Line::Told(_))) {
            return;
        }
        match timeout_at(until, lines.recv_many(taken, AT_ONCE - taken.len())).await {
            Ok(1..) => {}
            Ok(0) | Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_counted() {
        let mut refused = Refused::default();
        let address = |network: u8, host: u8| IpAddr::from([192, 0, network, host]);
        let admitted = |refused: &mut Refused, network: u8| {
            (0..=255).filter(|host| refused.admit(address(network, *host), Instant::now())).count()
        };
        assert_eq!(admitted(&mut refused, 0), 20, "of one network");
        assert_eq!(refused.counted, 236);
        let all: usize = (0..=255).map(|network| admitted(&mut refused, network)).sum();
        assert_eq!(20 + all, 500, "of all of them");
        assert!(refused.networks.len() <= 500);
        let counted = refused.counted;
        tokio::time::advance(WINDOW).await;
        assert!(refused.admit(address(9, 9), Instant::now()), "an hour later");
        assert_eq!(refused.counted, counted, "and nothing of the count is lost");
    }

    #[tokio::test]
    async fn a_queue_that_is_full_holds_nobody_up() {
        let (ledger, lines) = Ledger::new();
        for _ in 0..QUEUE + 7 {
            ledger.put(entry(None, String::new(), "", 1));
        }
        assert_eq!(ledger.shared.lost.load(Ordering::Relaxed), 7);
        drop(lines);
    }

    #[tokio::test]
    async fn who_reads_sees_what_was_put_before() {
        let store = Store::in_memory(&"koding".parse().unwrap()).await.unwrap();
        let (ledger, lines) = Ledger::new();
        let writing = write(store.clone(), Clock::System, ledger.clone(), lines, CancellationToken::new());
        let reading = async {
            for seen in 1..=3 {
                ledger.put(entry(None, seen.to_string(), "", 1));
                ledger.written().await;
                assert_eq!(store.audit(&Default::default()).await.unwrap().len(), seen);
            }
        };
        tokio::select! {
            () = writing => unreachable!("somebody may still put a line"),
            () = reading => {}
        }
    }
}
