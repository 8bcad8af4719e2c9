//! Asking before what cannot be undone.

use std::io::{self, BufRead, IsTerminal, Write};

use super::Context;
use crate::admin::wire::{Failure, FailureKind};

/// Lets a person on a terminal type the name of what is to be removed. Elsewhere, and with `--yes`, nothing is asked:
/// a script that names a thing means it.
pub(super) fn removal(context: &Context<'_>, what: &str, name: &str, yes: bool) -> Result<(), Failure> {
    typed(context, what, name, yes, "Nothing was removed.")
}

/// The same for anything that cannot be undone; `otherwise` is what holds when it is not confirmed.
pub(super) fn typed(
    context: &Context<'_>,
    what: &str,
    name: &str,
    yes: bool,
    otherwise: &str,
) -> Result<(), Failure> {
    if yes || context.output.is_json() || !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Ok(());
    }
    let mut answer = String::new();
    let asked = write!(io::stderr(), "{what} This cannot be undone.\nType {name} to go on: ")
        .and_then(|()| io::stderr().flush())
        .and_then(|()| io::stdin().lock().read_line(&mut answer));
    match asked {
        Ok(_) if answer.trim() == name => Ok(()),
        _ => Err(Failure::new(FailureKind::Invalid, format!("That is not its name. {otherwise}"))),
    }
}
