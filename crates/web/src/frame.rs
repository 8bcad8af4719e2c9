//! What is around every page.

use crate::visitor::Visitor;

/// Which part of the site a page belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Here {
    Environments,
    /// One of the account's pages, by its word.
    Account(&'static str),
    Team,
    Help,
    /// One of the operators' pages, by its word.
    Ops(&'static str),
    LogIn,
    Elsewhere,
}

impl Here {
    pub(crate) fn is_environments(self) -> bool {
        self == Self::Environments
    }

    pub(crate) fn is_account(self) -> bool {
        matches!(self, Self::Account(_))
    }

    pub(crate) fn is_team(self) -> bool {
        self == Self::Team
    }

    pub(crate) fn is_help(self) -> bool {
        self == Self::Help
    }

    pub(crate) fn is_ops(self) -> bool {
        matches!(self, Self::Ops(_))
    }

    pub(crate) fn is_log_in(self) -> bool {
        self == Self::LogIn
    }
}

/// What the base template shows.
pub(crate) struct Frame {
    pub(crate) account: Option<String>,
    pub(crate) operator: bool,
    pub(crate) csrf: String,
    pub(crate) here: Here,
    pub(crate) place: &'static str,
    /// The page's stream of events: for members, who have the site open as long as it flows.
    pub(crate) live: Option<String>,
}

impl Frame {
    pub(crate) fn new(visitor: &Visitor, here: Here) -> Self {
        let place = if let Here::Account(place) | Here::Ops(place) = here { place } else { "" };
        let account = visitor.login().map(|login| login.account().to_string());
        let live = account.as_ref().map(|_| "/live".to_owned());
        Self { account, operator: visitor.is_operator(), csrf: visitor.token(), here, place, live }
    }

    /// The same with a stream that says more than that the site is open.
    pub(crate) fn live(self, path: String) -> Self {
        Self { live: Some(path), ..self }
    }

    /// The same for a page that by itself keeps no VM awake.
    pub(crate) fn still(self) -> Self {
        Self { live: None, ..self }
    }

    /// For a page that is shown before it is known who asks.
    pub(crate) fn of_nobody() -> Self {
        Self {
            account: None,
            operator: false,
            csrf: String::new(),
            here: Here::Elsewhere,
            place: "",
            live: None,
        }
    }
}
