//! Watching a terminal of the website together: an owner makes a link, other members come by it, both see the other's name.
//!
//! A link leads to one shell under one number of one VM, and is over with it, with the log-in that made it, when its owner
//! says so, or when no page of the owner has shown the terminal for [`AWAY`]. Whoever watches sees it only while a page of
//! the owner does. All of it is in memory: a restart of the server is the end of every link.
//!
//! Who watches has an [`Entry`] of their own, as the owner's user in the VM, which ends with the link. What of theirs
//! gets into the VM is up to the website, which asks [`Watcher::may_type`] for every message.

use std::{sync::Arc, time::Duration};

use berth_model::{AccountName, Secret};
use berth_store::{AuditKind, SecretHash};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use crate::{
    Acting, Control, Entry, WebLogin,
    error::Error,
    idle::UseKind,
    lifecycle::State as VmState,
    stage::{Share, Stage, State},
    web_session::{hash_of, new_secret},
};

/// So long a terminal may be in no page of its owner until nobody else may watch it any more.
pub const AWAY: Duration = Duration::from_secs(120);
/// Somebody who types is said to so often.
const TYPES_EVERY: Duration = Duration::from_secs(1);

/// What those who watch a terminal may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WatchRight {
    /// See it.
    Read,
    /// Type in it, too: do whatever its owner can in the VM.
    Type,
}

impl WatchRight {
    fn words(self) -> &'static str {
        match self {
            Self::Read => "read-only",
            Self::Type => "typing",
        }
    }
}

/// Why a terminal is not shared any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WatchEnd {
    /// Its owner has said so.
    Owner,
    /// The shell has ended.
    Shell,
    /// No page of its owner shows it.
    Away,
    /// The owner's log-in has ended.
    LoggedOut,
}

impl WatchEnd {
    fn words(self) -> &'static str {
        match self {
            Self::Owner => "ended by its owner",
            Self::Shell => "the shell has ended",
            Self::Away => "its page was closed",
            Self::LoggedOut => "the log-in has ended",
        }
    }
}

/// A terminal that is shared, as those see it who have to do with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchView {
    /// Whose it is.
    pub by: AccountName,
    /// What those who watch may.
    pub right: WatchRight,
    /// Whether a page of its owner shows it. Nobody watches while none does.
    pub here: bool,
    /// How wide it is for its owner, in characters.
    pub columns: u16,
    /// How high, in lines.
    pub rows: u16,
    /// Who watches, in the order in which they came. Whoever does so twice is there twice.
    pub watchers: Vec<WatcherInfo>,
}

/// Somebody who watches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatcherInfo {
    /// Who.
    pub account: AccountName,
    /// Grows while they type, by one a second.
    pub typed: u64,
}

/// Why somebody cannot share or watch a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WatchError {
    /// The link leads to nothing: it is over, or never was one.
    #[error("This link does not work any more.")]
    Gone,
    /// As many watch as can.
    #[error("As many people watch this terminal as can. Try again when somebody has left.")]
    Full,
    /// A guest's terminal is not theirs to show.
    #[error("Only the owner of a VM can share a terminal in it.")]
    NotYours,
    /// There is no tmux to show it to a second one.
    #[error(
        "This terminal cannot be shared: the VM has no tmux of version 3.2 or later. (sudo apt install tmux)"
    )]
    NoTmux,
    /// The account has as many shared as it may.
    #[error("You share as many terminals as you can. End one of them first.")]
    TooMany,
}

/// A page of the owner that shows a terminal. When it is dropped, the page is gone.
pub struct TerminalPage {
    acting: Acting,
    login: WebLogin,
    stage: Arc<Stage>,
    may_share: bool,
    shown: bool,
    seen: watch::Receiver<State>,
}

impl Acting {
    /// A page in which a terminal has been opened: `entry` is by what, `login` whose page it is.
    #[must_use]
    pub fn terminal_page(&self, login: &WebLogin, entry: &Entry, number: u8) -> TerminalPage {
        let stage = self.control.web.stages.of(entry.vm(), entry.id(), entry.account(), number);
        TerminalPage {
            acting: self.clone(),
            login: login.clone(),
            may_share: entry.may_show_others(),
            seen: stage.state.subscribe(),
            stage,
            shown: false,
        }
    }

    /// What a link leads to, for somebody who has it; `None` for one that leads to nothing.
    #[must_use]
    pub fn watched(&self, link: &Secret<String>) -> Option<(WatchView, String, u8)> {
        let stage = self.control.web.stages.by_link(hash_of(link)?)?;
        let view = stage.state.borrow().view()?;
        Some((view, stage.vm.label(), stage.number))
    }

    /// Watches what a link leads to, until what is given is dropped. Written down, with the end of it, for the owner and
    /// for who watches.
    ///
    /// # Errors
    /// The link leads to nothing, or as many watch as can.
    pub fn watch(&self, link: &Secret<String>) -> Result<Watcher, WatchError> {
        let account = self.actor.name().ok_or(WatchError::Gone)?.clone();
        let hash = hash_of(link).ok_or(WatchError::Gone)?;
        let stage = self.control.web.stages.by_link(hash).ok_or(WatchError::Gone)?;
        // Before the look: an end after that finds this revocation.
        let entry = self.control.entry_of_watcher(&self.actor, &stage, hash).ok_or(WatchError::Gone)?;
        let number = stage.join(hash, &account)?;
        let (acting, seen) = (self.clone(), stage.state.subscribe());
        let watcher = Watcher { acting, account, stage, hash, number, entry, seen, typed: None };
        watcher.note(AuditKind::TerminalWatched);
        Ok(watcher)
    }
}

impl TerminalPage {
    /// Which shell the page shows, once the VM has said so: any text that no other shell ever has; `None` where it has no
    /// tmux. From the first call on the page counts as one that shows it.
    pub fn shows(&mut self, shell: Option<&str>) {
        let ended = self.stage.shown(shell, !self.shown);
        self.shown = true;
        self.acting.control.stopped(&self.stage, ended, WatchEnd::Shell);
    }

    /// How large the page is.
    pub fn resized(&self, columns: u16, rows: u16) {
        self.stage.resized(columns, rows);
    }

    /// Lets whoever has the link that is made watch, or changes what those may who do. Written down.
    ///
    /// # Errors
    /// The VM is somebody else's, or has no tmux; too many terminals are shared.
    pub async fn share(&mut self, right: WatchRight) -> Result<(), WatchError> {
        if !self.may_share {
            return Err(WatchError::NotYours);
        }
        match self.stage.set_right(right) {
            Some(false) => return Ok(()),
            Some(true) => {}
            None => self.begin(right)?,
        }
        let detail = format!("terminal {}, {}", self.stage.number, right.words());
        let vm = self.stage.vm.clone();
        let acting = self.acting.clone();
        let note = async move { acting.note_vm(AuditKind::TerminalShared, &vm, &detail).await };
        self.acting.control.to_the_end(note).await;
        Ok(())
    }

    fn begin(&self, right: WatchRight) -> Result<(), WatchError> {
        let control = &self.acting.control;
        if !self.stage.state.borrow().has_shell() {
            return Err(WatchError::NoTmux);
        }
        let account = self.login.account();
        if control.web.stages.has_enough(account) {
            return Err(WatchError::TooMany);
        }
        let actor = self.acting.actor.clone();
        let hash = self.stage.share(new_secret(), right, account.clone(), actor);
        control.end_in_time(self.stage.clone(), hash, self.login.clone());
        Ok(())
    }

    /// Ends it at once for all who watch.
    pub fn unshare(&self) {
        self.end(WatchEnd::Owner);
    }

    /// The shell has ended, and with it what was shared of it.
    pub fn shell_ended(&self) {
        self.end(WatchEnd::Shell);
    }

    fn end(&self, why: WatchEnd) {
        let ended = self.stage.end(None, why);
        self.acting.control.stopped(&self.stage, ended, why);
    }

    /// Waits for the next change, and tells what is shared then, and by which link. Nothing is lost when the future is
    /// dropped.
    pub async fn changed(&mut self) -> Option<(WatchView, String)> {
        if self.seen.changed().await.is_err() {
            // The page itself holds the other end.
            std::future::pending::<()>().await;
        }
        self.shared()
    }

    /// The same, as it is now.
    pub fn shared(&mut self) -> Option<(WatchView, String)> {
        let state = self.seen.borrow_and_update();
        let link = state.link()?;
        let address = format!("{}/watch/{}", self.acting.control.settings.website, link.expose());
        Some((state.view()?, address))
    }
}

impl Drop for TerminalPage {
    fn drop(&mut self) {
        if self.shown {
            self.stage.hidden();
        }
    }
}

/// Somebody who watches, until it is dropped.
pub struct Watcher {
    acting: Acting,
    account: AccountName,
    stage: Arc<Stage>,
    hash: SecretHash,
    number: u64,
    entry: Entry,
    seen: watch::Receiver<State>,
    typed: Option<Instant>,
}

impl Watcher {
    /// By what they see it: ends with the link.
    #[must_use]
    pub fn entry(&self) -> &Entry {
        &self.entry
    }

    /// The number of the terminal in its VM.
    #[must_use]
    pub fn terminal(&self) -> u8 {
        self.stage.number
    }

    /// What they see, as it is now; or why it is over.
    ///
    /// # Errors
    /// It is over.
    pub fn view(&mut self) -> Result<WatchView, WatchEnd> {
        self.seen.borrow_and_update().view_of(self.hash)
    }

    /// Waits for the next change. Nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// It is over.
    pub async fn changed(&mut self) -> Result<WatchView, WatchEnd> {
        if self.seen.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        self.view()
    }

    /// Whether they may type at this moment. Whoever may does so as the VM's owner, who is told that they do, and the VM is
    /// in use by it.
    pub fn may_type(&mut self) -> bool {
        let may = self
            .stage
            .state
            .borrow()
            .view_of(self.hash)
            .is_ok_and(|view| view.here && view.right == WatchRight::Type);
        if may && self.typed.is_none_or(|typed| typed.elapsed() >= TYPES_EVERY) {
            self.typed = Some(Instant::now());
            self.stage.typed(self.hash, self.number);
            if let Some(handle) = self.acting.control.handle(&self.stage.vm) {
                handle.activity.note(UseKind::Connection { by: self.account.to_string(), port: 22 });
            }
        }
        may
    }

    /// Waits until the VM runs, without waking it.
    ///
    /// # Errors
    /// There is no such VM any more.
    pub async fn awake(&self) -> Result<(), Error> {
        let gone = || Error::NoSuchVm(self.stage.vm.to_string());
        let handle = self.acting.control.handle(&self.stage.vm).ok_or_else(gone)?;
        handle.reaches(|state| *state == VmState::Running).await.map_err(|()| gone())
    }

    fn note(&self, kind: AuditKind) {
        let owner = &self.stage.vm.owner;
        let ledger = &self.acting.control.tools.ledger;
        for account in [owner, &self.account] {
            let detail = format!("terminal {}, {}", self.stage.number, self.right().words());
            let what = self.acting.actor.event(kind, account, self.stage.vm.to_string(), detail);
            ledger.put(what.into());
            if owner == &self.account {
                break;
            }
        }
    }

    /// What they may, or might last.
    fn right(&self) -> WatchRight {
        self.stage.state.borrow().view_of(self.hash).map_or(WatchRight::Read, |view| view.right)
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.note(AuditKind::TerminalLeft);
        self.stage.leave(self.hash, self.number);
    }
}

impl Control {
    /// What was shared is no longer: cuts off who watches, and writes it down.
    fn stopped(&self, stage: &Stage, ended: Option<Share>, why: WatchEnd) {
        let Some(share) = ended else { return };
        self.web.watched.revoke(&share.hash);
        let (vm, detail) = (&stage.vm, format!("terminal {}: {}", stage.number, why.words()));
        let what = share.actor.event(AuditKind::TerminalUnshared, &vm.owner, vm.to_string(), detail);
        self.tools.ledger.put(what.into());
    }

    /// Ends a share with the log-in that made it, or when its owner is away for too long.
    fn end_in_time(self: &Arc<Self>, stage: Arc<Stage>, hash: SecretHash, login: WebLogin) {
        let (control, closing) = (Arc::downgrade(self), self.closing.clone());
        self.tasks.spawn(closing.run_until_cancelled_owned(async move {
            let why = tokio::select! {
                () = login.ended() => WatchEnd::LoggedOut,
                away = is_left_alone(&stage, hash) => match away {
                    true => WatchEnd::Away,
                    false => return,
                },
            };
            if let Some(control) = control.upgrade() {
                control.stopped(&stage, stage.end(Some(hash), why), why);
            }
        }));
    }
}

/// Waits until nobody has shown a terminal for too long; `false` where it is not shared any more.
async fn is_left_alone(stage: &Stage, hash: SecretHash) -> bool {
    let mut seen = stage.state.subscribe();
    let mut left_at: Option<Instant> = None;
    loop {
        let (shared, is_seen) = {
            let state = seen.borrow_and_update();
            (state.has(hash), state.is_seen())
        };
        if !shared {
            return false;
        }
        if is_seen {
            left_at = None;
        } else {
            left_at.get_or_insert_with(Instant::now);
        }
        let enough = async {
            match left_at {
                Some(at) => sleep_until(at + AWAY).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = enough => return true,
            changed = seen.changed() => if changed.is_err() { return false },
        }
    }
}
