//! The terminal in the page: a shell in a VM that a member may enter, carried over a WebSocket.
//!
//! ```text
//!   page (xterm.js) ◄── WebSocket ──► browser ──► relay ◄── ssh (berth-vm-ssh) ──► sshd ── tmux ── shell
//!                                         wire: what the two say to each other, bounds
//! ```
//!
//! A terminal is the task of its WebSocket and all that it holds: when the page goes, for whatever reason, so does the
//! connection into the VM. The shell stays, in tmux, and the next page finds it again ([`shell`]).
//!
//! Memory: what the page has not drawn is counted, and above a bound the VM is not read any more; what the page types
//! is counted in the same way ([`relay`]). Sleep: nothing is sent into the VM that nobody typed, so an open terminal is
//! no reason to be awake, and it is still there after the sleep.
//!
//! Others watch by connections of their own ([`watch`]); the owner's page is told who does ([`audience`]).

mod audience;
mod browser;
mod relay;
mod screen;
mod shell;
pub(crate) mod watch;
pub(crate) mod wire;

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{
        State, WebSocketUpgrade,
        ws::{WebSocket, rejection::WebSocketUpgradeRejection},
    },
    response::Response,
};
use berth_control::Status;
use berth_model::VmName;
use berth_vm_ssh::Size;
use tokio::{sync::mpsc, time::timeout};

use self::{
    audience::Audience,
    browser::{Browser, Gone},
    shell::{Asked, Shell},
    wire::{FromPage, MAX_MESSAGE, ToPage},
};
use crate::{
    Website,
    asked::{Named, Query},
    own_vm::EnterableVm,
    problem::Problem,
    slots::Slot,
    visitor::Member,
};

/// So many terminals may one account have open.
pub(crate) const MAX_TERMINALS: usize = 16;
/// The numbers that terminals of one VM have.
const NUMBERS: std::ops::RangeInclusive<u8> = 1..=99;
/// So long a page may take to say what it wants, and to take a last word.
const PATIENCE: Duration = Duration::from_secs(10);

/// Which terminal of a VM an address means.
pub(crate) fn number(query: &Query) -> u8 {
    query.get("n").and_then(|n| n.parse().ok()).filter(|n| NUMBERS.contains(n)).unwrap_or(*NUMBERS.start())
}

/// Carries a terminal. What cannot be is told over the WebSocket, since a page learns nothing of a refused one.
pub(crate) async fn open(
    State(website): State<Arc<Website>>,
    member: Member,
    Named(asked): Named,
    query: Query,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    let vm = EnterableVm::find(&member, &asked).await?;
    let (label, vm) = (vm.label(), vm.name().clone());
    let upgrade = upgrade.map_err(|_| Problem::no_socket())?;
    let slot = website.terminals.open(member.account());
    let terminal = Terminal { number: number(&query), website, member, vm, label, slot };
    Ok(upgraded(upgrade, |socket| terminal.run(socket)))
}

/// Goes on over the WebSocket, with our bounds.
fn upgraded<F: Future<Output = ()> + Send + 'static>(
    upgrade: WebSocketUpgrade,
    then: impl FnOnce(WebSocket) -> F + Send + 'static,
) -> Response {
    upgrade.max_message_size(MAX_MESSAGE).max_frame_size(MAX_MESSAGE).write_buffer_size(0).on_upgrade(then)
}

struct Terminal {
    website: Arc<Website>,
    member: Member,
    vm: VmName,
    /// How the member calls the VM.
    label: String,
    number: u8,
    slot: Option<Slot>,
}

/// How a terminal ends.
enum End {
    /// The page is gone, or says what no page of ours says.
    Gone,
    /// With a last word.
    Said(ToPage),
}

impl From<Gone> for End {
    fn from(Gone: Gone) -> Self {
        Self::Gone
    }
}

impl Terminal {
    async fn run(self, socket: WebSocket) {
        let mut browser = Browser::new(socket);
        let end = tokio::select! {
            end = self.serve(&mut browser) => end,
            () = self.member.login.ended() => End::Said(ToPage::LoggedOut),
            () = self.website.stop.cancelled() => End::Said(ToPage::Restarting),
        };
        if let End::Said(word) = end {
            let _gone = timeout(PATIENCE, browser.bye(&word)).await;
        }
    }

    async fn serve(&self, browser: &mut Browser<WebSocket>) -> End {
        match self.try_serve(browser).await {
            Ok(word) => End::Said(word),
            Err(end) => end,
        }
    }

    async fn try_serve(&self, browser: &mut Browser<WebSocket>) -> Result<ToPage, End> {
        let first = timeout(PATIENCE, browser.next()).await.map_err(|_| End::Gone)??;
        let FromPage::Open { columns, rows, again } = first else { return Err(End::Gone) };
        if self.slot.is_none() {
            return Ok(ToPage::Failed { why: too_many(), again: false });
        }
        let mut size = Size::new(columns, rows);
        if again {
            self.wait_for_a_key(browser, &mut size).await?;
        }
        let mut shell = match self.opened(browser, &mut size).await? {
            Ok(shell) => shell,
            Err(why) => return Ok(ToPage::Failed { why, again: true }),
        };
        browser.say(&ToPage::Open { vm: self.label.clone(), number: self.number }).await?;
        let entry = shell.entry.clone();
        let page = self.member.acting.terminal_page(&self.member.login, &entry, self.number);
        let mut audience = Audience::new(page, self.number);
        audience.resized(columns, rows);
        tokio::select! {
            biased;
            () = entry.ended() => Ok(ToPage::Failed { why: self.not_shared(), again: false }),
            word = relay::relay(browser, &mut shell, size, &mut audience) => Ok(word?),
        }
    }

    fn not_shared(&self) -> String {
        format!("{} is not shared with you any more.", self.vm)
    }

    /// A page that comes back by itself wakes nothing: that is for somebody who is there.
    async fn wait_for_a_key(&self, browser: &mut Browser<WebSocket>, size: &mut Size) -> Result<(), End> {
        let status = match EnterableVm::find(&self.member, &self.vm.to_string()).await {
            Ok(vm) => vm.status(),
            Err(problem) => {
                let why = format!("{} {}", problem.what, problem.next);
                return Err(End::Said(ToPage::Failed { why, again: true }));
            }
        };
        if matches!(status, Status::Running | Status::Waking | Status::Starting) {
            return Ok(());
        }
        browser.say(&ToPage::Waiting { why: format!("{} is {status}.", self.label) }).await?;
        loop {
            match browser.next().await? {
                FromPage::Wake => return Ok(()),
                FromPage::Size { columns, rows } => *size = Size::new(columns, rows),
                _ => {}
            }
        }
    }

    /// The shell, or why there is none. The page is told of what it waits for, and may change its size meanwhile.
    async fn opened(
        &self,
        browser: &mut Browser<WebSocket>,
        size: &mut Size,
    ) -> Result<Result<Shell, String>, Gone> {
        let (progress, mut told) = mpsc::channel(8);
        let asked = Asked { vm: &self.vm, number: self.number, size: *size };
        let opening = shell::open(&self.website.control, &self.member.acting, asked, progress);
        tokio::pin!(opening);
        loop {
            tokio::select! {
                shell = &mut opening => return Ok(shell),
                Some(news) = told.recv() => {
                    if let Some(words) = wire::words(&news) {
                        browser.say(&ToPage::Progress { words }).await?;
                    }
                }
                message = browser.next() => {
                    if let FromPage::Size { columns, rows } = message? {
                        *size = Size::new(columns, rows);
                    }
                }
            }
        }
    }
}

fn too_many() -> String {
    format!(
        "You have {MAX_TERMINALS} terminals open, which is as many as there can be. Close one of them, then try again."
    )
}
