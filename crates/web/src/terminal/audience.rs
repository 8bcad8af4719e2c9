//! What the owner of a terminal is told of those who watch it.

use berth_control::{TerminalPage, WatchRight, WatchView};

use super::{shell::Listed, wire::ToPage};

/// Those who watch the terminal of one page, or may.
pub(crate) struct Audience {
    page: TerminalPage,
    number: u8,
    /// What the owner wants those to do who have the link, until it is known which shell this is.
    wanted: Option<WatchRight>,
    was_shared: bool,
}

/// What those who have the link may do.
pub(crate) fn right(typing: bool) -> WatchRight {
    if typing { WatchRight::Type } else { WatchRight::Read }
}

impl Audience {
    pub(crate) fn new(page: TerminalPage, number: u8) -> Self {
        Self { page, number, wanted: None, was_shared: false }
    }

    pub(crate) fn resized(&self, columns: u16, rows: u16) {
        self.page.resized(columns, rows);
    }

    /// The owner wants to share it, or something else of it. The VM is to be asked which shell it is, and
    /// [`Audience::found`] to be told.
    pub(crate) fn wanted(&mut self, typing: bool) {
        self.wanted = Some(right(typing));
    }

    /// These terminals are open in the VM. Gives what the page is to be told.
    pub(crate) async fn found(&mut self, open: &[Listed]) -> Option<ToPage> {
        let own = open.iter().find(|listed| listed.number == self.number);
        self.page.shows(own.map(|listed| listed.shell.as_str()));
        let refused = match self.wanted.take() {
            Some(right) => self.page.share(right).await.err(),
            None => None,
        };
        refused.map(|why| ToPage::Unshared { why: Some(why.to_string()) })
    }

    /// Nobody may watch any more.
    pub(crate) fn unshare(&self) {
        self.page.unshare();
    }

    /// The shell has ended.
    pub(crate) fn shell_ended(&self) {
        self.page.shell_ended();
    }

    /// Waits for what the page is to be told next. Nothing is lost when the future is dropped.
    pub(crate) async fn changed(&mut self) -> ToPage {
        loop {
            let shared = self.page.changed().await;
            let was_shared = std::mem::replace(&mut self.was_shared, shared.is_some());
            match shared {
                Some((view, link)) => return told(view, link),
                None if was_shared => return ToPage::Unshared { why: None },
                None => {}
            }
        }
    }
}

fn told(view: WatchView, link: String) -> ToPage {
    let watchers = view.watchers.into_iter().map(Into::into).collect();
    ToPage::Shared { link, typing: view.right == WatchRight::Type, watchers }
}
