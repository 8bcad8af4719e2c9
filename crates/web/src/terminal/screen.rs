//! What somebody sees who watches: a connection of their own into the VM, carried to their page.
//!
//! Neither their network nor their browser holds anybody else up: what they have not drawn is bounded as for any page,
//! and above that tmux leaves out and draws anew. What they type gets no further than here unless they may at that moment.

use std::time::Duration;

use axum::extract::ws::WebSocket;
use berth_control::{WatchEnd, WatchRight, WatchView, Watcher};
use berth_vm_ssh::{Event, Size};
use futures::{FutureExt, future::BoxFuture};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use super::{
    browser::{Browser, Gone},
    relay::{Queue, carried},
    shell::{self, Shell},
    wire::{FromPage, SHOWN_WINDOW, ToPage},
};
use crate::Website;

/// An owner's page that is loaded again is back within this.
const LINGER: Duration = Duration::from_secs(5);

/// Why nothing is to be seen any more, and what follows.
pub(crate) enum Pause {
    /// The owner's page is gone, or what they may is something else.
    Changed,
    /// The connection into the VM has ended.
    Lost,
    Over(WatchEnd),
}

/// Their page, and how much of what it was shown it has not drawn yet: over all connections into the VM that it has had.
pub(crate) struct Screen {
    pub(crate) browser: Browser<WebSocket>,
    undrawn: usize,
}

impl Screen {
    pub(crate) fn new(socket: WebSocket) -> Self {
        Self { browser: Browser::new(socket), undrawn: 0 }
    }

    /// Connects, and carries what is to be seen until it is not any more; or says why it cannot.
    pub(crate) async fn show(
        &mut self,
        website: &Website,
        watcher: &mut Watcher,
        view: WatchView,
    ) -> Result<Result<Pause, String>, Gone> {
        self.browser.say(&watching(&view)).await?;
        let mut shell = match self.opened(website, watcher, &view).await? {
            Ok(shell) => shell,
            Err(why) => return Ok(Err(why)),
        };
        let view = match watcher.view() {
            Ok(view) if view.here => view,
            Ok(_) => return Ok(Ok(Pause::Changed)),
            Err(why) => return Ok(Ok(Pause::Over(why))),
        };
        self.browser.say(&watching(&view)).await?;
        let open = ToPage::Open { vm: watcher.entry().vm().label(), number: watcher.terminal() };
        self.browser.say(&open).await?;
        let mut queue = Queue::default();
        let pause = self.relay(watcher, &mut shell, &mut queue, view).await?;
        // What was typed and has not got into the VM never will.
        if queue.bytes() > 0 {
            self.browser.say(&ToPage::Taken { bytes: queue.bytes() }).await?;
        }
        Ok(Ok(pause))
    }

    /// The shell that they watch, once the VM runs, or why it is not to be had.
    async fn opened(
        &mut self,
        website: &Website,
        watcher: &Watcher,
        view: &WatchView,
    ) -> Result<Result<Shell, String>, Gone> {
        let (progress, _nobody_waits) = mpsc::channel(1);
        let size = Size::new(view.columns, view.rows);
        let opening = async {
            watcher.awake().await.map_err(|error| error.to_string())?;
            shell::watch(&website.control, watcher, size, progress).await
        };
        let mut opening = std::pin::pin!(opening);
        loop {
            tokio::select! {
                opened = &mut opening => return Ok(opened),
                said = self.browser.next() => self.passed_over(said?).await?,
            }
        }
    }

    /// Carries it both ways: what is typed only as far as they may.
    async fn relay(
        &mut self,
        watcher: &mut Watcher,
        shell: &mut Shell,
        queue: &mut Queue,
        mut view: WatchView,
    ) -> Result<Pause, Gone> {
        let Shell { input, output, .. } = shell;
        let mut left_at: Option<Instant> = None;
        let mut working: Option<BoxFuture<'_, usize>> = None;
        loop {
            if working.is_none() {
                working = queue.next().map(|work| carried(input, work).boxed());
            }
            tokio::select! {
                said = self.browser.next() => match said? {
                    FromPage::Typed(data) if watcher.may_type() => queue.typed(data)?,
                    said => self.passed_over(said).await?,
                },
                event = output.next(), if self.undrawn < SHOWN_WINDOW => match event {
                    Some(Event::Data(data) | Event::Errors(data)) => {
                        self.undrawn += data.len();
                        self.browser.show(data).await?;
                    }
                    Some(Event::Exit(_) | Event::Signal(_)) => {}
                    None => return Ok(Pause::Lost),
                },
                bytes = async { working.as_mut().expect("there is some").await }, if working.is_some() => {
                    working = None;
                    queue.taken(bytes);
                    if bytes > 0 {
                        self.browser.say(&ToPage::Taken { bytes }).await?;
                    }
                }
                () = lingers(left_at) => return Ok(Pause::Changed),
                seen = watcher.changed() => {
                    let before = match seen {
                        Ok(seen) => std::mem::replace(&mut view, seen),
                        Err(why) => return Ok(Pause::Over(why)),
                    };
                    // With this connection goes what was typed and is not in the VM yet.
                    if (before.right, view.right) == (WatchRight::Type, WatchRight::Read) {
                        return Ok(Pause::Changed);
                    }
                    left_at = if view.here { None } else { left_at.or_else(|| Some(Instant::now())) };
                    if (before.columns, before.rows) != (view.columns, view.rows) {
                        queue.resized(Size::new(view.columns, view.rows));
                    }
                    self.browser.say(&watching(&view)).await?;
                }
            }
        }
    }

    /// What gets nowhere. The page is told, since it counts what is on its way.
    pub(crate) async fn passed_over(&mut self, said: FromPage) -> Result<(), Gone> {
        match said {
            FromPage::Typed(data) => self.browser.say(&ToPage::Taken { bytes: data.len() }).await,
            FromPage::Drawn { bytes } if bytes <= self.undrawn => {
                self.undrawn -= bytes;
                Ok(())
            }
            FromPage::Size { .. } => Ok(()),
            FromPage::Drawn { .. }
            | FromPage::Open { .. }
            | FromPage::Wake
            | FromPage::Share { .. }
            | FromPage::Unshare => Err(Gone),
        }
    }
}

/// Waits until the owner's page has been gone for too long.
async fn lingers(left_at: Option<Instant>) {
    match left_at {
        Some(at) => sleep_until(at + LINGER).await,
        None => std::future::pending().await,
    }
}

fn watching(view: &WatchView) -> ToPage {
    ToPage::Watching {
        by: view.by.to_string(),
        typing: view.right == WatchRight::Type,
        columns: view.columns,
        rows: view.rows,
        watchers: view.watchers.iter().cloned().map(Into::into).collect(),
    }
}
