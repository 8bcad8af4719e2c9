//! What goes through the connections into a VM, and what of it is a use.
//!
//! A tunnel is end to end encrypted, so only sizes and times are known. Small packets at a steady beat are keepalives
//! (`ServerAliveInterval`, and the answers to `ClientAliveInterval`): they are no use. Everything else that a client
//! sends is, and so is much that it receives: a transfer.
//!
//! Concurrency: one [`Activity`] a VM, shared by its connections and its supervisor, under a lock that is held for a few
//! instructions. What is counted for each message is in its [`Meter`], which one connection has for itself.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    net::IpAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use berth_engine::Stream;
use time::OffsetDateTime;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::watch,
    time::Instant,
};

use crate::{
    clock::Clock,
    connections::OpenConnection,
    idle::{Use, UseKind},
    ledger::Record,
};

/// What comes closer after the last message than this belongs to the same burst.
const PAUSE: Duration = Duration::from_secs(2);
/// The most bytes of a burst that may be a keepalive: one message and its answer take less.
const SMALL: usize = 300;
/// So many pauses in a row that are alike make a beat.
const BEAT: usize = 2;
/// Nobody sends keepalives less often than this; who types every quarter of an hour does.
const SLOWEST_BEAT: Duration = Duration::from_secs(10 * 60);
/// A log-in takes less than this, …
const LOG_IN: Duration = Duration::from_secs(20);
/// … and fewer bytes in both directions together.
const LOG_IN_BYTES: u64 = 32 << 10;
/// When neither side has said a word for so long, it is over …
const LULL: Duration = Duration::from_millis(1500);
/// … unless the last word was the client's, and the guest has had less than this for its answer.
const ANSWER: Duration = Duration::from_secs(5);
/// Received bytes of one burst that are a transfer, not a prompt, a clock or `top`.
const TRANSFER: usize = 256 << 10;

/// What is known of the use of one VM.
#[derive(Debug)]
pub(crate) struct Activity {
    clock: Clock,
    changes: watch::Sender<u64>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    used: Option<Use>,
    connecting: usize,
    open: BTreeMap<u64, Arc<OpenConnection>>,
    opened: u64,
    /// When last, by a clock that nobody sets.
    last: Option<Instant>,
}

impl Activity {
    pub(crate) fn new(clock: Clock, used: Option<Use>) -> Arc<Self> {
        Arc::new(Self {
            clock,
            changes: watch::Sender::new(0),
            inner: Mutex::new(Inner { used, ..Inner::default() }),
        })
    }

    /// The last use.
    pub(crate) fn used(&self) -> Option<Use> {
        self.lock().used.clone()
    }

    /// Notes a use at this moment.
    pub(crate) fn note(&self, what: UseKind) {
        self.note_at(self.clock.now(), what);
    }

    /// Notes a use, unless there was a later one.
    pub(crate) fn note_at(&self, at: OffsetDateTime, what: UseKind) {
        // That it was woken changes nothing in it, and a boot ends what there was.
        if what != UseKind::Started {
            self.changed();
        }
        let mut inner = self.lock();
        inner.last = Some(Instant::now());
        if inner.used.as_ref().is_none_or(|used| used.at <= at) {
            inner.used = Some(Use { at, what });
        }
    }

    /// Somebody may have changed something in it.
    fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    /// Counts what may have changed something in it, as far as this server knows: uses but for starts, and what those
    /// type who count for nothing else.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// For how long no use was noted.
    pub(crate) fn unused_for(&self) -> Duration {
        self.lock().last.map_or(Duration::MAX, |last| last.elapsed())
    }

    /// Whether somebody is connecting in this moment.
    pub(crate) fn is_connecting(&self) -> bool {
        self.lock().connecting > 0
    }

    /// Whether somebody is logging in: what a guest has heard and not answered when it falls asleep stays unanswered until
    /// something else wakes it.
    pub(crate) fn is_logging_in(&self) -> bool {
        let now = Instant::now();
        self.lock().open.values().any(|open| open.log_in.is_under_way(now))
    }

    /// How many connections are open.
    pub(crate) fn connections(&self) -> usize {
        self.lock().open.len()
    }

    /// The connections that are open.
    pub(crate) fn open(&self) -> Vec<Arc<OpenConnection>> {
        self.lock().open.values().cloned().collect()
    }

    /// Somebody is connecting for as long as the guard lives.
    pub(crate) fn connecting(self: &Arc<Self>) -> Connecting {
        self.lock().connecting += 1;
        Connecting(self.clone())
    }

    /// Measures a connection of `by`, who comes from there, to `port` for as long as it is open.
    pub(crate) fn measured(
        self: &Arc<Self>,
        inner: Box<dyn Stream>,
        by: String,
        from: IpAddr,
        port: u16,
        counted: Counted,
    ) -> Measured {
        let log_in = LogIn::new(Instant::now());
        let open = Arc::new(OpenConnection::new(by.clone(), from, port, self.clock.now(), log_in));
        let number = {
            let mut inner = self.lock();
            inner.opened += 1;
            let number = inner.opened;
            inner.open.insert(number, open.clone());
            number
        };
        let what = (counted == Counted::AsUse).then_some(UseKind::Connection { by, port });
        if let Some(what) = &what {
            self.note(what.clone());
        }
        let (up, down) = (Meter::new(SMALL), Meter::new(TRANSFER));
        Measured { inner, activity: self.clone(), open, number, what, up, down, record: None }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether what goes through a connection is a use of the VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counted {
    /// It is.
    AsUse,
    /// It is not, whatever it is.
    No,
}

/// See [`Activity::connecting`].
#[derive(Debug)]
pub(crate) struct Connecting(Arc<Activity>);

impl Drop for Connecting {
    fn drop(&mut self) {
        self.0.lock().connecting -= 1;
    }
}

/// A log-in under way, as far as can be seen of one that is encrypted.
#[derive(Debug)]
pub(crate) struct LogIn {
    opened: Instant,
    bytes: AtomicU64,
    /// Milliseconds from then to the last word.
    last: AtomicU64,
    /// That was the client's. The first word is the guest's.
    unanswered: AtomicBool,
}

impl LogIn {
    fn new(opened: Instant) -> Self {
        let (bytes, last) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { opened, bytes, last, unanswered: AtomicBool::new(true) }
    }

    fn said(&self, now: Instant, bytes: usize, by_the_client: bool) {
        let age = u64::try_from(now.duration_since(self.opened).as_millis()).unwrap_or(u64::MAX);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.last.store(age, Ordering::Relaxed);
        self.unanswered.store(by_the_client, Ordering::Relaxed);
    }

    fn is_under_way(&self, now: Instant) -> bool {
        let age = now.duration_since(self.opened);
        let silent = age.saturating_sub(Duration::from_millis(self.last.load(Ordering::Relaxed)));
        let patience = if self.unanswered.load(Ordering::Relaxed) { ANSWER } else { LULL };
        age < LOG_IN && self.bytes.load(Ordering::Relaxed) < LOG_IN_BYTES && silent < patience
    }
}

/// One direction of a connection: bursts, and the pauses between them.
#[derive(Debug)]
struct Meter {
    /// A burst of more bytes than this is no keepalive.
    small: usize,
    began: Option<Instant>,
    last: Option<Instant>,
    bytes: usize,
    on_beat: bool,
    /// From the beginning of one burst to the beginning of the next, the last few.
    pauses: VecDeque<Duration>,
}

impl Meter {
    fn new(small: usize) -> Self {
        Self { small, began: None, last: None, bytes: 0, on_beat: false, pauses: VecDeque::new() }
    }

    /// Whether this message, after all that came before, is more than a keepalive.
    fn goes_through(&mut self, now: Instant, bytes: usize) -> bool {
        let same = self.last.is_some_and(|last| now.duration_since(last) < PAUSE);
        self.last = Some(now);
        if same {
            self.bytes = self.bytes.saturating_add(bytes);
        } else {
            self.begin(now, bytes);
        }
        self.bytes > self.small || !self.on_beat
    }

    fn begin(&mut self, now: Instant, bytes: usize) {
        self.bytes = bytes;
        if let Some(before) = self.began.replace(now) {
            let pause = now.duration_since(before);
            self.on_beat = pause <= SLOWEST_BEAT
                && self.pauses.len() >= BEAT
                && self.pauses.iter().all(|other| alike(*other, pause));
            self.pauses.push_back(pause);
            if self.pauses.len() > BEAT {
                self.pauses.pop_front();
            }
        }
    }

    /// Whether the present burst is larger than small.
    fn is_large(&self) -> bool {
        self.bytes > self.small
    }
}

/// Timers of clients are exact, hosts and networks are not.
fn alike(one: Duration, other: Duration) -> bool {
    one.abs_diff(other) <= (one / 20).max(Duration::from_millis(750))
}

/// A connection into a VM, with an eye on what goes through it.
pub(crate) struct Measured {
    inner: Box<dyn Stream>,
    activity: Arc<Activity>,
    open: Arc<OpenConnection>,
    number: u64,
    /// What it is as a use of the VM, if it is one.
    what: Option<UseKind>,
    up: Meter,
    down: Meter,
    record: Option<Record>,
}

impl Measured {
    /// The same, and it is written down when it ends.
    pub(crate) fn recorded(self, record: Option<Record>) -> Self {
        let mut recorded = self;
        recorded.record = record;
        recorded
    }

    fn note_use(&self) {
        match &self.what {
            Some(what) => self.activity.note(what.clone()),
            None => self.activity.changed(),
        }
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        self.activity.lock().open.remove(&self.number);
        if let Some(record) = self.record.take() {
            let (sent, received) = self.open.bytes();
            record.close(self.open.since, sent, received);
        }
    }
}

impl AsyncRead for Measured {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        let count = buf.filled().len() - before;
        if count > 0 {
            self.open.received(count);
            let now = Instant::now();
            self.open.log_in.said(now, count, false);
            self.down.goes_through(now, count);
            // What a program prints is no use, however irregular: only a person or a transfer is.
            if self.down.is_large() {
                self.note_use();
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Measured {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let count = ready!(Pin::new(&mut self.inner).poll_write(cx, data))?;
        self.open.sent(count);
        let now = Instant::now();
        if count > 0 {
            self.open.log_in.said(now, count, true);
            if self.up.goes_through(now, count) {
                self.note_use();
            }
        }
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Messages of so many bytes, each so many milliseconds after the one before; gives which were uses.
    fn uses(messages: &[(u64, usize)]) -> Vec<bool> {
        let mut meter = Meter::new(SMALL);
        let mut now = Instant::now();
        let judge = |(after, bytes): &(u64, usize)| {
            now += Duration::from_millis(*after);
            meter.goes_through(now, *bytes)
        };
        messages.iter().map(judge).collect()
    }

    #[test]
    fn a_steady_beat_of_small_packets_is_no_use_after_three_of_them() {
        let beat = vec![(60_020, 52); 10];
        assert_eq!(uses(&beat), [vec![true; 3], vec![false; 7]].concat());
        let unsteady: Vec<_> = (0..10).map(|i| (15_000 + i % 3 * 300, 100)).collect();
        assert_eq!(uses(&unsteady), [vec![true; 3], vec![false; 7]].concat());
    }

    #[test]
    fn a_key_between_keepalives_is_a_use() {
        let mut messages = vec![(30_000, 52); 6];
        messages.push((7_000, 36));
        messages.extend(vec![(30_000, 52); 5]);
        let uses = uses(&messages);
        assert!(!uses[5], "a keepalive");
        assert!(uses[6], "the key");
        assert!(!uses[11], "keepalives again");
    }

    #[test]
    fn an_answer_within_a_burst_does_not_spoil_the_beat_and_much_data_does() {
        let mut messages = vec![(30_000, 52); 4];
        messages.extend([(30_000, 52), (100, 52), (29_900, 52)]);
        assert_eq!(uses(&messages)[3..], [false, false, false, false]);
        messages.extend([(30_000, 52), (100, 1000)]);
        assert_eq!(uses(&messages)[7..], [false, true]);
    }

    #[test]
    fn typing_is_a_use_at_any_speed() {
        assert!(uses(&[(120, 36); 50]).iter().all(|used| *used));
        let slow: Vec<_> = [3, 9, 4, 20, 7, 3, 11].iter().map(|seconds| (seconds * 1000, 36)).collect();
        assert!(uses(&slow).iter().all(|used| *used));
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_connection_does_is_noted() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let activity = Activity::new(Clock::of_the_test(), None);
        let (near, mut far) = tokio::io::duplex(1 << 20);
        let home: IpAddr = [192, 0, 2, 1].into();
        let mut near = activity.measured(Box::new(near), "alice".into(), home, 22, Counted::AsUse);
        assert_eq!(activity.connections(), 1);
        let opened = activity.used().unwrap();
        assert_eq!(opened.what, UseKind::Connection { by: "alice".into(), port: 22 });

        tokio::time::advance(Duration::from_secs(50)).await;
        far.write_all(b"12:00:01").await.unwrap();
        near.read_exact(&mut [0; 8]).await.unwrap();
        assert_eq!(activity.used().unwrap(), opened, "a clock that ticks is no use");
        near.write_all(b"x").await.unwrap();
        let typed = activity.used().unwrap();
        assert_eq!(typed.at - opened.at, time::Duration::seconds(50));

        tokio::time::advance(Duration::from_secs(50)).await;
        far.write_all(&vec![0; TRANSFER + 1]).await.unwrap();
        near.read_exact(&mut vec![0; TRANSFER + 1]).await.unwrap();
        assert!(activity.used().unwrap().at > typed.at, "a transfer is");
        drop(near);
        assert_eq!(activity.connections(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_count_is_open_and_no_use() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let activity = Activity::new(Clock::of_the_test(), None);
        let (near, mut far) = tokio::io::duplex(1 << 20);
        let home: IpAddr = [192, 0, 2, 1].into();
        let mut near = activity.measured(Box::new(near), "bob, who watches".into(), home, 22, Counted::No);
        far.write_all(&vec![0; TRANSFER + 1]).await.unwrap();
        near.read_exact(&mut vec![0; TRANSFER + 1]).await.unwrap();
        near.write_all(b"x").await.unwrap();
        assert_eq!(activity.used(), None);
        assert_eq!(activity.connections(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_log_in_lasts_until_both_sides_are_silent() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        use tokio::time::advance;
        let activity = Activity::new(Clock::of_the_test(), None);
        let (near, mut far) = tokio::io::duplex(1 << 20);
        let mut near =
            activity.measured(Box::new(near), "alice".into(), [192, 0, 2, 1].into(), 22, Counted::AsUse);
        advance(LULL).await;
        assert!(activity.is_logging_in(), "the guest has the first word");
        far.write_all(b"SSH-2.0-x").await.unwrap();
        near.read_exact(&mut [0; 9]).await.unwrap();
        assert!(activity.is_logging_in(), "there may be more");
        advance(LULL).await;
        assert!(!activity.is_logging_in());

        near.write_all(b"a key").await.unwrap();
        advance(LULL).await;
        assert!(activity.is_logging_in(), "the guest owes an answer");
        advance(ANSWER - LULL).await;
        assert!(!activity.is_logging_in(), "not for ever");

        near.write_all(&vec![0; 40_000]).await.unwrap();
        assert!(!activity.is_logging_in(), "no log-in is that long");
        drop(near);

        let (near, _far) = tokio::io::duplex(1 << 10);
        let mut near =
            activity.measured(Box::new(near), "alice".into(), [192, 0, 2, 1].into(), 22, Counted::AsUse);
        advance(LOG_IN).await;
        near.write_all(b"a command that takes its time").await.unwrap();
        assert!(!activity.is_logging_in(), "it has logged in long since");
    }

    #[test]
    fn an_earlier_use_does_not_replace_a_later_one() {
        let activity = Activity::new(Clock::System, None);
        let now = OffsetDateTime::now_utc();
        activity.note_at(now, UseKind::Work);
        activity.note_at(now - Duration::from_secs(9), UseKind::Site);
        assert_eq!(activity.used(), Some(Use { at: now, what: UseKind::Work }));
        let connecting = activity.connecting();
        assert!(activity.is_connecting());
        drop(connecting);
        assert!(!activity.is_connecting());
    }
}
