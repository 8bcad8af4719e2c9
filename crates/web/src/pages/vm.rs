//! `/vms/NAME`: one VM, and what can be done with it.

use std::{sync::Arc, time::Duration};

use askama::Template;
use axum::{extract::State, http::StatusCode, response::Response};
use berth_control::{Error, Status};
use berth_model::{MAX_TITLE, Title, VmName};
use time::{OffsetDateTime, PrimitiveDateTime, UtcOffset, macros::format_description};
use tokio::{sync::mpsc, time::timeout};
use tokio_util::task::TaskTracker;

use super::{
    environments::{Wrong, show_page},
    people::People,
    ports::Ports,
};
use crate::{
    Website,
    asked::Named,
    fields::Fields,
    frame::{Frame, Here},
    origin::own_path,
    own_vm::OwnVm,
    plot::{self, Plot},
    problem::{self, Problem},
    views::{VmView, is_stuck},
    visitor::Member,
    words::{self, go},
};

/// A refusal comes at once; what takes longer is under way, and the page follows it.
const AT_ONCE: Duration = Duration::from_millis(700);
const HOUR: Duration = Duration::from_secs(3600);

#[derive(Template)]
#[template(path = "vm.html")]
struct Page {
    frame: Frame,
    csrf: String,
    vm: VmView,
    plots: Vec<Plot>,
    people: People,
    ports: Ports,
    until: String,
    until_wrong: String,
    title: String,
    title_wrong: String,
    name_wrong: String,
}

/// The part of the page that changes.
#[derive(Template)]
#[template(path = "vm_live.html")]
pub(crate) struct Live {
    pub(crate) vm: VmView,
    csrf: String,
}

/// The part of it that changes once a minute.
#[derive(Template)]
#[template(path = "vm_plots.html")]
pub(crate) struct Plots {
    pub(crate) vm: VmView,
    plots: Vec<Plot>,
}

#[derive(Template)]
#[template(path = "vm_boot.html")]
struct Boot {
    frame: Frame,
    vm: VmView,
}

#[derive(Template)]
#[template(path = "vm_remove.html")]
struct Remove {
    frame: Frame,
    vm: VmView,
    name_wrong: String,
}

impl Live {
    pub(crate) fn new(vm: &OwnVm, member: &Member) -> Self {
        Self { vm: VmView::new(vm.info()), csrf: member.visitor.token() }
    }
}

/// What it used in the hour up to this minute.
fn plots(vm: &OwnVm, member: &Member) -> Vec<Plot> {
    // One that was removed a moment ago has used nothing.
    let samples = member.acting.history(vm.name()).unwrap_or_default();
    let now = OffsetDateTime::now_utc();
    let minute = now.replace_second(0).and_then(|now| now.replace_nanosecond(0)).unwrap_or(now);
    plot::plots(&samples, vm.info().memory, minute)
}

impl Plots {
    pub(crate) fn new(vm: &OwnVm, member: &Member) -> Self {
        Self { vm: VmView::new(vm.info()), plots: plots(vm, member) }
    }
}

impl Page {
    async fn of(website: &Website, member: &Member, vm: &OwnVm) -> Result<Self, Problem> {
        let plots = plots(vm, member);
        let ports = Ports::of(website, member, vm).await?;
        let people = People::of(member, vm).await?;
        let vm = VmView::new(vm.info());
        Ok(Self {
            frame: Frame::new(&member.visitor, Here::Elsewhere).live(format!("/live{}", vm.path)),
            csrf: member.visitor.token(),
            title: vm.title.clone().unwrap_or_default(),
            vm,
            plots,
            people,
            ports,
            until: String::new(),
            until_wrong: String::new(),
            title_wrong: String::new(),
            name_wrong: String::new(),
        })
    }
}

type Asked = (State<Arc<Website>>, Member, Named);

pub(crate) async fn show((State(website), member, Named(asked)): Asked) -> Result<Response, Problem> {
    let vm = OwnVm::find(&member, &asked).await?;
    words::show(StatusCode::OK, &Page::of(&website, &member, &vm).await?)
}

/// The page with another answer in its part about ports.
pub(crate) async fn show_with_ports(
    website: &Website,
    member: &Member,
    vm: &OwnVm,
    ports: Ports,
    code: StatusCode,
) -> Result<Response, Problem> {
    words::show(code, &Page { ports, ..Page::of(website, member, vm).await? })
}

/// The page with another answer in its part about people.
pub(crate) async fn show_with_people(
    website: &Website,
    member: &Member,
    vm: &OwnVm,
    people: People,
    code: StatusCode,
) -> Result<Response, Problem> {
    words::show(code, &Page { people, ..Page::of(website, member, vm).await? })
}

/// Turns it on or off, wakes it or puts it to sleep.
pub(crate) async fn power(
    (State(website), member, Named(asked)): Asked,
    fields: Fields,
) -> Result<Response, Problem> {
    let vm = OwnVm::find(&member, &asked).await?;
    let (acting, name, status) = (member.acting.clone(), vm.name().clone(), vm.info().status);
    let to = fields.get("to").to_owned();
    // Tracked by nobody, since it ends by itself: control carries on what was begun whoever waits.
    let work = TaskTracker::new().spawn(async move {
        match to.as_str() {
            "on" if status == Status::Running => Ok(()),
            "on" => acting.start_vm(&name, mpsc::channel(1).0).await,
            "off" => acting.stop_vm(&name).await,
            "sleep" => acting.sleep_vm(&name).await,
            _ => Ok(()),
        }
    });
    match timeout(AT_ONCE, work).await {
        Ok(Ok(Err(error))) => refused(&website, &member, vm.name(), &fields, &error).await,
        Ok(Err(_)) => Err(Problem::broken()),
        Ok(Ok(Ok(()))) | Err(_) => Ok(go(back(&fields))),
    }
}

pub(crate) async fn always_on(
    (State(website), member, Named(asked)): Asked,
    fields: Fields,
) -> Result<Response, Problem> {
    let vm = OwnVm::find(&member, &asked).await?;
    match member.acting.set_always_on(vm.name(), fields.get("to") == "on").await {
        Ok(()) => Ok(go(back(&fields))),
        Err(error) => refused(&website, &member, vm.name(), &fields, &error).await,
    }
}

/// For some hours (`to`), or until a moment (`until`, in a zone of `zone` minutes east of Greenwich).
pub(crate) async fn snooze(
    (State(website), member, Named(asked)): Asked,
    fields: Fields,
) -> Result<Response, Problem> {
    let vm = OwnVm::find(&member, &asked).await?;
    let time = match fields.get("to") {
        "" => until(fields.get("until"), fields.get("zone"), OffsetDateTime::now_utc()),
        hours => hours
            .parse::<u32>()
            .map(|hours| HOUR * hours.min(1000))
            .map_err(|_| "That is no number of hours."),
    };
    let refused_until = async |words: String| {
        let page = Page {
            until: words::plain(fields.get("until"), 32),
            until_wrong: words,
            ..Page::of(&website, &member, &vm).await?
        };
        words::show(StatusCode::UNPROCESSABLE_ENTITY, &page)
    };
    let time = match time {
        Ok(time) => time,
        Err(wrong) => return refused_until(wrong.to_owned()).await,
    };
    match member.acting.snooze_vm(vm.name(), time).await {
        Ok(()) => Ok(go(back(&fields))),
        Err(error @ Error::TooLong) => refused_until(error.to_string()).await,
        Err(error) => refused(&website, &member, vm.name(), &fields, &error).await,
    }
}

/// Gives it a label, or none.
pub(crate) async fn set_label(
    (State(website), member, Named(asked)): Asked,
    fields: Fields,
) -> Result<Response, Problem> {
    let vm = OwnVm::find(&member, &asked).await?;
    let given = fields.get("label").trim();
    let title = if given.is_empty() { Ok(None) } else { given.parse::<Title>().map(Some) };
    match title {
        Ok(title) => {
            member.acting.set_title(vm.name(), title.as_ref()).await?;
            Ok(go(&format!("/vms/{}", vm.name().label())))
        }
        Err(error) => {
            let title = words::plain(given, 2 * MAX_TITLE);
            let page =
                Page { title, title_wrong: error.to_string(), ..Page::of(&website, &member, &vm).await? };
            words::show(StatusCode::UNPROCESSABLE_ENTITY, &page)
        }
    }
}

/// Asks whether to give up what is in the memory of one that cannot be woken.
pub(crate) async fn show_boot(member: Member, Named(asked): Named) -> Result<Response, Problem> {
    let vm = OwnVm::find(&member, &asked).await?;
    let view = VmView::new(vm.info());
    if !view.stuck {
        return Ok(go(&view.path));
    }
    words::show(StatusCode::OK, &Boot { frame: Frame::new(&member.visitor, Here::Elsewhere), vm: view })
}

/// Boots one that cannot be woken. Any other is left alone: its memory would be lost for nothing.
pub(crate) async fn boot(
    (State(website), member, Named(asked)): Asked,
    fields: Fields,
) -> Result<Response, Problem> {
    let vm = OwnVm::find(&member, &asked).await?;
    let path = format!("/vms/{}", vm.name().label());
    if !is_stuck(vm.info()) {
        return Ok(go(&path));
    }
    let (acting, name) = (member.acting.clone(), vm.name().clone());
    // Tracked by nobody, since it ends by itself: control carries on what was begun whoever waits.
    let work = TaskTracker::new().spawn(async move { acting.boot_vm(&name, mpsc::channel(1).0).await });
    match timeout(AT_ONCE, work).await {
        Ok(Ok(Err(error))) => refused(&website, &member, vm.name(), &fields, &error).await,
        Ok(Err(_)) => Err(Problem::broken()),
        Ok(Ok(Ok(()))) | Err(_) => Ok(go(&path)),
    }
}

pub(crate) async fn show_remove(member: Member, Named(asked): Named) -> Result<Response, Problem> {
    let vm = OwnVm::find(&member, &asked).await?;
    ask_to_remove(&vm, &member, StatusCode::OK, String::new())
}

/// Removes it, when its name was typed.
pub(crate) async fn remove(
    (State(website), member, Named(asked)): Asked,
    fields: Fields,
) -> Result<Response, Problem> {
    let vm = OwnVm::find(&member, &asked).await?;
    let label = vm.name().label();
    if fields.get("name").trim() != label {
        let wrong = format!("That is not its name, so nothing was removed. Its name is {label}.");
        return ask_to_remove(&vm, &member, StatusCode::UNPROCESSABLE_ENTITY, wrong);
    }
    match member.acting.remove_vm(vm.name()).await {
        Ok(()) => Ok(go("/")),
        Err(error) => refused(&website, &member, vm.name(), &fields, &error).await,
    }
}

fn ask_to_remove(vm: &OwnVm, member: &Member, code: StatusCode, wrong: String) -> Result<Response, Problem> {
    let frame = Frame::new(&member.visitor, Here::Elsewhere);
    words::show(code, &Remove { frame, vm: VmView::new(vm.info()), name_wrong: wrong })
}

/// The page that the person looked at, with what was refused beside the VM.
async fn refused(
    website: &Website,
    member: &Member,
    vm: &VmName,
    fields: &Fields,
    error: &Error,
) -> Result<Response, Problem> {
    let (code, words) = (problem::status(error.kind()), problem::words(error));
    if back(fields) == "/" {
        return show_page(website, member, code, Some(Wrong::Vm(vm.label(), words))).await;
    }
    let vm = OwnVm::find(member, &vm.to_string()).await?;
    let mut page = Page::of(website, member, &vm).await?;
    page.vm.wrong = Some(words);
    words::show(code, &page)
}

fn back(fields: &Fields) -> &str {
    own_path(fields.get("back")).unwrap_or("/")
}

/// How long it is until a moment as browsers send it: `2026-11-22T18:30`.
fn until(text: &str, zone: &str, now: OffsetDateTime) -> Result<Duration, &'static str> {
    const NO_TIME: &str = "Choose a day and a time.";
    let format = format_description!("[year]-[month]-[day]T[hour]:[minute]");
    let local = PrimitiveDateTime::parse(text, &format).map_err(|_| NO_TIME)?;
    let minutes: i32 = zone.parse().map_err(|_| NO_TIME)?;
    let zone = UtcOffset::from_whole_seconds(minutes.saturating_mul(60)).map_err(|_| NO_TIME)?;
    let left = local.assume_offset(zone) - now;
    match Duration::try_from(left) {
        Ok(left) if !left.is_zero() => Ok(left),
        _ => Err("That moment is over. Choose one that is to come."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    #[test]
    fn a_moment_is_in_the_browsers_zone() {
        let now = datetime!(2026-11-22 18:00 UTC);
        assert_eq!(until("2026-11-22T18:30", "0", now), Ok(Duration::from_secs(1800)));
        assert_eq!(until("2026-11-22T20:00", "60", now), Ok(Duration::from_secs(3600)));
        assert_eq!(until("2026-11-22T13:00", "-330", now), Ok(Duration::from_secs(1800)));
    }

    #[test]
    fn what_is_no_moment_to_come_is_told() {
        let now = datetime!(2026-11-22 18:00 UTC);
        for (text, zone) in [
            ("", "0"),
            ("tomorrow", "0"),
            ("2026-13-01T00:00", "0"),
            ("2026-11-22T18:30", ""),
            ("2026-11-22T18:30", "9999999999"),
            ("2026-11-22T18:30", "2000000"),
        ] {
            assert_eq!(until(text, zone, now), Err("Choose a day and a time."), "{text} {zone}");
        }
        assert!(until("2026-11-22T18:00", "0", now).is_err());
        assert!(until("0001-01-01T00:00", "0", now).is_err());
    }
}
