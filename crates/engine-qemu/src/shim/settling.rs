//! Copying a sleep to where it lasts, in the background.

use std::{
    sync::{Arc, PoisonError},
    thread::JoinHandle,
};

use tokio::sync::oneshot;

use crate::{
    paths::VmPaths,
    sleep::{self, GivenUp, Settled},
};

/// The copying that is under way, or has been.
#[derive(Default)]
pub(super) struct Settling {
    given_up: Arc<GivenUp>,
    done: Option<oneshot::Receiver<bool>>,
    /// One that was given up may still wait for the disk; the next one waits for it.
    thread: Option<JoinHandle<()>>,
}

impl Settling {
    /// Begins.
    pub(super) fn begin(&mut self, paths: VmPaths) {
        self.given_up = Arc::default();
        let (tell, done) = oneshot::channel();
        self.done = Some(done);
        let (given_up, before) = (Arc::clone(&self.given_up), self.thread.take());
        let work = move || {
            let _before = before.map(JoinHandle::join);
            // Of this thread only; guests come first.
            let _best_effort = rustix::process::setpriority_process(None, 19);
            let settled = match sleep::settle(&paths, &given_up) {
                Ok(Settled::Done) => true,
                Ok(Settled::GivenUp) => false,
                Err(error) => {
                    tracing::warn!(%error, "the sleep stays in memory, since it cannot be copied to the disk now");
                    false
                }
            };
            let _nobody_waits = tell.send(settled);
        };
        match std::thread::Builder::new().name("settle".to_owned()).spawn(work) {
            Ok(thread) => self.thread = Some(thread),
            Err(error) => tracing::warn!(%error, "the sleep cannot be copied to the disk now"),
        }
    }

    /// After this the sleep stays where it is.
    pub(super) fn give_up(&mut self) {
        *self.given_up.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.done = None;
    }

    /// Waits until it is over; tells whether the sleep lasts. For ever if none is under way.
    pub(super) async fn settled(&mut self) -> bool {
        match &mut self.done {
            Some(done) => {
                let settled = done.await.unwrap_or(false);
                self.done = None;
                settled
            }
            None => std::future::pending().await,
        }
    }
}
