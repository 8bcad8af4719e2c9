//! The disk of a VM: a larger one, and a new one with the home kept or not.

use askama::Template;
use axum::{http::StatusCode, response::Response};
use berth_control::{Error, Home};
use std::time::Duration;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use crate::{
    asked::Named,
    fields::Fields,
    frame::{Frame, Here},
    own_vm::OwnVm,
    problem::{self, Problem},
    views::VmView,
    visitor::Member,
    words::{self, go},
};

/// A refusal comes at once; what takes longer is under way, and the page of the VM follows it.
const AT_ONCE: Duration = Duration::from_millis(700);
const GIB: u64 = 1 << 30;

#[derive(Template)]
#[template(path = "vm_rebuild.html")]
struct Rebuild {
    frame: Frame,
    vm: VmView,
    wrong: String,
}

#[derive(Template)]
#[template(path = "vm_erase.html")]
struct Erase {
    frame: Frame,
    vm: VmView,
    wrong: String,
}

#[derive(Template)]
#[template(path = "vm_resize.html")]
struct Resize {
    frame: Frame,
    vm: VmView,
    size: String,
    wrong: String,
}

pub(crate) async fn show_rebuild(member: Member, Named(asked): Named) -> Result<Response, Problem> {
    let vm = OwnVm::find(&member, &asked).await?;
    ask_to_rebuild(&vm, &member, Home::Keep, StatusCode::OK, String::new())
}

pub(crate) async fn show_erase(member: Member, Named(asked): Named) -> Result<Response, Problem> {
    let vm = OwnVm::find(&member, &asked).await?;
    ask_to_rebuild(&vm, &member, Home::Discard, StatusCode::OK, String::new())
}

/// Gives it a new disk with its home on it, when its name was typed.
pub(crate) async fn rebuild(member: Member, named: Named, fields: Fields) -> Result<Response, Problem> {
    begin(&member, named, &fields, Home::Keep).await
}

/// Gives it a new disk with nothing of it, when its name was typed.
pub(crate) async fn erase(member: Member, named: Named, fields: Fields) -> Result<Response, Problem> {
    begin(&member, named, &fields, Home::Discard).await
}

async fn begin(
    member: &Member,
    Named(asked): Named,
    fields: &Fields,
    home: Home,
) -> Result<Response, Problem> {
    let vm = OwnVm::find(member, &asked).await?;
    let label = vm.name().label();
    if fields.get("name").trim() != label {
        let wrong = format!("That is not its name, so nothing was done. Its name is {label}.");
        return ask_to_rebuild(&vm, member, home, StatusCode::UNPROCESSABLE_ENTITY, wrong);
    }
    let (acting, name) = (member.acting.clone(), vm.name().clone());
    match at_once(async move { acting.rebuild_vm(&name, home).await }).await? {
        Ok(()) => Ok(go(&VmView::new(vm.info()).path)),
        Err(error) => {
            let (code, wrong) = (problem::status(error.kind()), problem::words(&error));
            ask_to_rebuild(&vm, member, home, code, wrong)
        }
    }
}

fn ask_to_rebuild(
    vm: &OwnVm,
    member: &Member,
    home: Home,
    code: StatusCode,
    wrong: String,
) -> Result<Response, Problem> {
    let (frame, vm) = (Frame::new(&member.visitor, Here::Elsewhere), VmView::new(vm.info()));
    match home {
        Home::Keep => words::show(code, &Rebuild { frame, vm, wrong }),
        Home::Discard => words::show(code, &Erase { frame, vm, wrong }),
    }
}

pub(crate) async fn show_resize(member: Member, Named(asked): Named) -> Result<Response, Problem> {
    let vm = OwnVm::find(&member, &asked).await?;
    ask_for_size(&vm, &member, StatusCode::OK, "", String::new())
}

/// Makes its disk as large as `size` says.
pub(crate) async fn resize(member: Member, Named(asked): Named, fields: Fields) -> Result<Response, Problem> {
    let vm = OwnVm::find(&member, &asked).await?;
    let typed = fields.get("size");
    let Some(bytes) = bytes(typed) else {
        let wrong = "Give a whole number of gigabytes, such as 20.".to_owned();
        return ask_for_size(&vm, &member, StatusCode::UNPROCESSABLE_ENTITY, typed, wrong);
    };
    let (acting, name) = (member.acting.clone(), vm.name().clone());
    match at_once(async move { acting.resize_vm(&name, bytes).await.map(drop) }).await? {
        Ok(()) => Ok(go(&VmView::new(vm.info()).path)),
        Err(error) => {
            let (code, wrong) = (problem::status(error.kind()), problem::words(&error));
            ask_for_size(&vm, &member, code, typed, wrong)
        }
    }
}

fn ask_for_size(
    vm: &OwnVm,
    member: &Member,
    code: StatusCode,
    typed: &str,
    wrong: String,
) -> Result<Response, Problem> {
    let (frame, vm) = (Frame::new(&member.visitor, Here::Elsewhere), VmView::new(vm.info()));
    words::show(code, &Resize { frame, vm, size: words::plain(typed, 16), wrong })
}

/// Gigabytes as a person types them.
fn bytes(typed: &str) -> Option<u64> {
    let number = typed.trim().trim_end_matches(|c: char| c.is_ascii_alphabetic()).trim_end();
    number.parse::<u64>().ok().filter(|number| *number > 0)?.checked_mul(GIB)
}

/// What comes of it at once; what takes longer goes on, and has gone well so far.
async fn at_once(
    work: impl Future<Output = Result<(), Error>> + Send + 'static,
) -> Result<Result<(), Error>, Problem> {
    // Tracked by nobody, since it ends by itself: control carries on what was begun whoever waits.
    match timeout(AT_ONCE, TaskTracker::new().spawn(work)).await {
        Ok(Ok(ended)) => Ok(ended),
        Ok(Err(_)) => Err(Problem::broken()),
        Err(_) => Ok(Ok(())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gigabytes_as_people_type_them() {
        for (typed, gigabytes) in [("20", 20), (" 20 ", 20), ("20 GB", 20), ("20GiB", 20), ("1", 1)] {
            assert_eq!(bytes(typed), Some(gigabytes * GIB), "{typed}");
        }
        for typed in ["", "0", "-1", "1.5", "GB", "1e9", "20 000", "99999999999999999999", "17179869184"] {
            assert_eq!(bytes(typed), None, "{typed}");
        }
    }
}
