//! Somebody who watches another member's terminal, in a page of their own.
//!
//! It is over when the link is, whatever the page does, and it pauses while no page of the owner shows the terminal.
//! What is to be seen meanwhile is the [`Screen`]'s.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{
        State, WebSocketUpgrade,
        ws::{WebSocket, rejection::WebSocketUpgradeRejection},
    },
    response::Response,
};
use berth_control::{WatchEnd, WatchError, WatchView, Watcher};
use berth_model::Secret;
use tokio::time::{Instant, sleep, timeout};

use super::{
    End, PATIENCE,
    browser::Gone,
    screen::{Pause, Screen},
    upgraded,
    wire::{FromPage, ToPage},
};
use crate::{Website, asked::Named, problem::Problem, slots::Slot, visitor::Member};

/// So many terminals may one account watch at once.
pub(crate) const MAX_WATCHED: usize = 16;
/// What ends sooner than this was not to be seen.
const SHORT: Duration = Duration::from_secs(5);
/// So often in a row it is tried again.
const TRIES: u32 = 4;
const PAUSE: Duration = Duration::from_secs(1);

/// Carries what somebody watches.
pub(crate) async fn open(
    State(website): State<Arc<Website>>,
    member: Member,
    Named(link): Named,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    let upgrade = upgrade.map_err(|_| Problem::no_socket())?;
    let slot = website.watched.open(member.account());
    let seat = Seat { website, member, link: Secret::new(link), slot };
    Ok(upgraded(upgrade, |socket| seat.run(socket)))
}

struct Seat {
    website: Arc<Website>,
    member: Member,
    link: Secret<String>,
    slot: Option<Slot>,
}

impl Seat {
    async fn run(self, socket: WebSocket) {
        let mut screen = Screen::new(socket);
        let end = tokio::select! {
            end = self.serve(&mut screen) => end,
            () = self.member.login.ended() => End::Said(ToPage::LoggedOut),
            () = self.website.stop.cancelled() => End::Said(ToPage::Restarting),
        };
        if let End::Said(word) = end {
            let _gone = timeout(PATIENCE, screen.browser.bye(&word)).await;
        }
    }

    async fn serve(&self, screen: &mut Screen) -> End {
        let failed = |why: String, again| End::Said(ToPage::Failed { why, again });
        match timeout(PATIENCE, screen.browser.next()).await {
            Ok(Ok(FromPage::Open { .. })) => {}
            _ => return End::Gone,
        }
        if self.slot.is_none() {
            return failed(too_many(), false);
        }
        let mut watcher = match self.member.acting.watch(&self.link) {
            Ok(watcher) => watcher,
            Err(refused) => return failed(refused.to_string(), refused == WatchError::Full),
        };
        let over = watcher.entry().clone();
        tokio::select! {
            // Also while the page takes nothing.
            biased;
            () = over.ended() => {}
            end = watched(&self.website, screen, &mut watcher) => return end.unwrap_or_else(End::from),
        }
        let why = watcher.view().err().unwrap_or(WatchEnd::Owner);
        End::Said(over_because(&watcher, why))
    }
}

/// Shows it until it is over.
async fn watched(website: &Website, screen: &mut Screen, watcher: &mut Watcher) -> Result<End, Gone> {
    let mut tries = 0;
    loop {
        let view = match here(screen, watcher).await? {
            Ok(view) => view,
            Err(why) => return Ok(End::Said(over_because(watcher, why))),
        };
        let began = Instant::now();
        let why = match screen.show(website, watcher, view).await? {
            Ok(Pause::Over(why)) => return Ok(End::Said(over_because(watcher, why))),
            Ok(Pause::Changed) => continue,
            Ok(Pause::Lost) => "The connection into the VM has ended.".to_owned(),
            Err(why) => why,
        };
        tries = if began.elapsed() < SHORT { tries + 1 } else { 0 };
        if tries > TRIES {
            return Ok(End::Said(ToPage::Failed { why, again: true }));
        }
        sleep(PAUSE).await;
    }
}

/// Waits until a page of the owner shows it.
async fn here(screen: &mut Screen, watcher: &mut Watcher) -> Result<Result<WatchView, WatchEnd>, Gone> {
    let mut told = false;
    loop {
        let view = match watcher.view() {
            Ok(view) if view.here => return Ok(Ok(view)),
            Ok(view) => view,
            Err(why) => return Ok(Err(why)),
        };
        if !std::mem::replace(&mut told, true) {
            screen.browser.say(&ToPage::Away { by: view.by.to_string() }).await?;
        }
        tokio::select! {
            said = screen.browser.next() => screen.passed_over(said?).await?,
            _ = watcher.changed() => {}
        }
    }
}

fn over_because(watcher: &Watcher, why: WatchEnd) -> ToPage {
    let owner = &watcher.entry().vm().owner;
    let why = match why {
        WatchEnd::Owner => format!("{owner} does not share this terminal any more."),
        WatchEnd::Shell => "The shell has ended.".to_owned(),
        WatchEnd::Away => format!("{owner} has closed this terminal’s page."),
        WatchEnd::LoggedOut => format!("{owner} is not logged in any more."),
    };
    ToPage::Over { why }
}

fn too_many() -> String {
    format!(
        "You watch {MAX_WATCHED} terminals, which is as many as you can. Close one of them, then try again."
    )
}
