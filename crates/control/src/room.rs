//! Memory for VMs that are awake: who has some, and who waits for some.
//!
//! Every VM that is not off or asleep has a place of the size of its memory. When a VM is to start and there is no place,
//! it queues; the first in the queue has the longest idle VM put to sleep, and the next, until there is one. A VM in use
//! never gives way.
//!
//! Concurrency: one [`Room`] a server under a short lock. A supervisor enters before it starts its VM and leaves when the
//! VM is off or asleep; dropping the future of [`Room::enter`] gives up the place in the queue.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use berth_engine::EngineError;
use berth_model::VmId;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, timeout},
};

/// How long somebody may wait for a place before being told to come back.
const PATIENCE: Duration = Duration::from_secs(10 * 60);
/// So often the first in the queue looks whether a VM has become idle.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// What somebody who waits for a place is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Queued {
    /// So many wait longer already.
    pub(crate) ahead: usize,
    /// What there is and who has it: a clause without a full stop.
    pub(crate) reason: String,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Room {
    inner: Mutex<Inner>,
    changed: Notify,
}

#[derive(Debug)]
struct Inner {
    /// Bytes for all together.
    memory: u64,
    taken: BTreeMap<VmId, u64>,
    queue: VecDeque<u64>,
    tickets: u64,
}

impl Inner {
    fn used(&self) -> u64 {
        self.taken.values().sum()
    }

    fn take(&mut self, vm: VmId, memory: u64) -> bool {
        let others: u64 = self.taken.iter().filter(|(id, _)| **id != vm).map(|(_, memory)| memory).sum();
        let fits = others.saturating_add(memory) <= self.memory;
        if fits {
            self.taken.insert(vm, memory);
        }
        fits
    }
}

impl Room {
    pub(crate) fn new(memory: u64) -> Self {
        let inner = Inner { memory, taken: BTreeMap::new(), queue: VecDeque::new(), tickets: 0 };
        Self { inner: Mutex::new(inner), changed: Notify::new() }
    }

    /// A VM was found awake: it has its place, whether there is room or not.
    pub(crate) fn found(&self, vm: VmId, memory: u64) {
        self.lock().taken.insert(vm, memory);
    }

    /// A VM is off or asleep. Does nothing where it has no place.
    pub(crate) fn leave(&self, vm: VmId) {
        if self.lock().taken.remove(&vm).is_some() {
            self.changed.notify_waiters();
        }
    }

    /// How much there is for all together, and how much of it is taken.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        let inner = self.lock();
        (inner.memory, inner.used())
    }

    /// Waits for a place for a VM. `give_way` puts the longest idle VM to sleep and says whether there was one.
    ///
    /// # Errors
    /// [`EngineError::NoRoom`] where the VM is larger than all there is, or nothing gave way in time.
    pub(crate) async fn enter<F: Future<Output = bool>>(
        &self,
        vm: VmId,
        memory: u64,
        told: &watch::Sender<Option<Queued>>,
        give_way: impl Fn() -> F,
    ) -> Result<(), EngineError> {
        let place = {
            let mut inner = self.lock();
            if memory > inner.memory {
                return Err(no_room(format!(
                    "it has {} of memory, and this host has {} for all VMs together",
                    megabytes(memory),
                    megabytes(inner.memory)
                )));
            }
            if inner.queue.is_empty() && inner.take(vm, memory) {
                return Ok(());
            }
            inner.tickets += 1;
            let ticket = inner.tickets;
            inner.queue.push_back(ticket);
            Place { room: self, ticket, told }
        };
        let waited = timeout(PATIENCE, place.wait(vm, memory, give_way)).await;
        waited.map_err(|_| {
            no_room(format!("{}, and none became free in {} minutes", self.full(), PATIENCE.as_secs() / 60))
        })
    }

    /// Bytes for all together, bytes that are taken, and how many wait.
    pub(crate) fn figures(&self) -> (u64, u64, usize) {
        let inner = self.lock();
        (inner.memory, inner.used(), inner.queue.len())
    }

    fn full(&self) -> String {
        let inner = self.lock();
        format!(
            "{} of the {} that this host has for VMs are taken by VMs that are in use",
            megabytes(inner.used()),
            megabytes(inner.memory)
        )
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in the queue, given up when it is dropped.
struct Place<'a> {
    room: &'a Room,
    ticket: u64,
    told: &'a watch::Sender<Option<Queued>>,
}

impl Place<'_> {
    async fn wait<F: Future<Output = bool>>(&self, vm: VmId, memory: u64, give_way: impl Fn() -> F) {
        let mut last_look: Option<Instant> = None;
        loop {
            let changed = self.room.changed.notified();
            let ahead = {
                let mut inner = self.room.lock();
                let ahead = inner.queue.iter().take_while(|ticket| **ticket != self.ticket).count();
                if ahead == 0 && inner.take(vm, memory) {
                    return;
                }
                ahead
            };
            let may_look = last_look.is_none_or(|last| last.elapsed() >= LOOK_AGAIN);
            if ahead == 0 && may_look {
                if give_way().await {
                    continue;
                }
                last_look = Some(Instant::now());
            }
            self.told.send_replace(Some(Queued { ahead, reason: self.room.full() }));
            // A VM that becomes idle tells nobody.
            let _changed_or_not = timeout(LOOK_AGAIN, changed).await;
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.room.lock().queue.retain(|ticket| *ticket != self.ticket);
        self.told.send_replace(None);
        self.room.changed.notify_waiters();
    }
}

fn no_room(reason: String) -> EngineError {
    EngineError::NoRoom { reason }
}

fn megabytes(bytes: u64) -> String {
    format!("{} MB", bytes >> 20)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const MB: u64 = 1 << 20;

    fn told() -> watch::Sender<Option<Queued>> {
        watch::Sender::new(None)
    }

    async fn nobody() -> bool {
        false
    }

    #[tokio::test(start_paused = true)]
    async fn what_fits_enters_at_once_and_what_never_fits_is_refused() {
        let room = Room::new(1000 * MB);
        let (one, two) = (VmId::random(), VmId::random());
        room.enter(one, 600 * MB, &told(), nobody).await.unwrap();
        room.enter(one, 600 * MB, &told(), nobody).await.unwrap();
        let refused = room.enter(two, 1001 * MB, &told(), nobody).await.unwrap_err().to_string();
        assert_eq!(refused, "it has 1001 MB of memory, and this host has 1000 MB for all VMs together");
        let telling = told();
        let refused = room.enter(two, 500 * MB, &telling, nobody).await.unwrap_err().to_string();
        assert!(refused.starts_with("600 MB of the 1000 MB"), "{refused}");
        assert!(refused.ends_with("none became free in 10 minutes"), "{refused}");
        assert!(room.lock().queue.is_empty());
        room.leave(one);
        room.enter(two, 500 * MB, &telling, nobody).await.unwrap();
        assert_eq!(room.lock().used(), 500 * MB);
    }

    #[tokio::test(start_paused = true)]
    async fn the_queue_is_first_come_first_served_and_a_place_that_is_given_up_is_closed() {
        let room = Room::new(1000 * MB);
        let [holder, large, small] = [(); 3].map(|()| VmId::random());
        room.found(holder, 900 * MB);
        let (first, second) = (told(), told());
        {
            let waits = room.enter(large, 800 * MB, &first, nobody);
            tokio::pin!(waits);
            assert!(timeout(Duration::from_secs(1), &mut waits).await.is_err());
            let overtakes = timeout(Duration::from_secs(1), room.enter(small, 100 * MB, &second, nobody));
            assert!(
                overtakes.await.is_err(),
                "there is room for the small one, but the large one came first"
            );
            assert_eq!(first.borrow().as_ref().map(|queued| queued.ahead), Some(0));
        }
        assert_eq!(*first.borrow(), None);
        room.enter(small, 100 * MB, &second, nobody).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_in_the_queue_has_others_give_way_and_says_how_many_are_ahead() {
        let room = Room::new(1000 * MB);
        let [holder, first, second] = [(); 3].map(|()| VmId::random());
        room.found(holder, 1000 * MB);
        let asked = AtomicUsize::new(0);
        let gives_way_at_the_third = || async {
            let asked = asked.fetch_add(1, Ordering::Relaxed);
            if asked == 2 {
                room.leave(holder);
            }
            asked == 2
        };
        let (one, two) = (told(), told());
        let enters = room.enter(first, 1000 * MB, &one, gives_way_at_the_third);
        let waits = timeout(Duration::from_secs(20), room.enter(second, 10 * MB, &two, nobody));
        let (entered, waited) = tokio::join!(enters, async {
            tokio::task::yield_now().await;
            waits.await
        });
        entered.unwrap();
        assert!(waited.is_err());
        assert_eq!(asked.load(Ordering::Relaxed), 3);
    }
}
