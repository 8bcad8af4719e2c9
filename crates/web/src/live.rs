//! The streams of open pages: what changes is sent as it changes, and as long as a stream flows its member has the site
//! open, so their VMs stay awake.
//!
//! A stream is the body of a response and nothing besides: no task, no queue. When its connection ends, for whatever
//! reason (see [`crate::listen`]), it is dropped, and the site is not open any more.

use std::{convert::Infallible, sync::Arc, time::Duration};

use askama::Template;
use axum::{
    body::Body,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use berth_control::SiteOpen;
use bytes::Bytes;
use futures::stream;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

use crate::{
    Website,
    asked::Named,
    own_vm::OwnVm,
    pages::{
        environments::List,
        keys::Lists,
        vm::{Live, Plots},
    },
    problem::Problem,
    slots::Slot,
    visitor::Member,
};

/// How often it is looked whether something has changed: as soon as a person would.
const LOOK: Duration = Duration::from_secs(1);
/// How long a stream is silent. Each beat is also what finds a browser that has vanished.
const BEAT: Duration = Duration::from_secs(10);
/// Drawings are looked at again this often.
const DRAW: Duration = Duration::from_secs(15);
/// So many pages may one account have open.
pub(crate) const MAX_STREAMS: usize = 32;

/// What a page shows that changes.
enum Watched {
    /// Nothing: it only has the site open.
    Nothing,
    Environments,
    Vm(String),
    Keys,
}

pub(crate) async fn open(State(website): State<Arc<Website>>, member: Member) -> Result<Response, Problem> {
    flow(website, member, Watched::Nothing)
}

pub(crate) async fn environments(
    State(website): State<Arc<Website>>,
    member: Member,
) -> Result<Response, Problem> {
    flow(website, member, Watched::Environments)
}

pub(crate) async fn vm(
    State(website): State<Arc<Website>>,
    member: Member,
    Named(asked): Named,
) -> Result<Response, Problem> {
    let vm = OwnVm::find(&member, &asked).await?;
    flow(website, member, Watched::Vm(vm.name().to_string()))
}

pub(crate) async fn keys(State(website): State<Arc<Website>>, member: Member) -> Result<Response, Problem> {
    flow(website, member, Watched::Keys)
}

struct Flow {
    website: Arc<Website>,
    member: Member,
    watched: Watched,
    look: Interval,
    /// The parts of the page as they were sent last.
    last: Vec<String>,
    /// The drawings as they were made last.
    drawn: Option<(Instant, String)>,
    written: Instant,
    ended: bool,
    _open: SiteOpen,
    _slot: Slot,
}

fn flow(website: Arc<Website>, member: Member, watched: Watched) -> Result<Response, Problem> {
    let slot = website.streams.open(member.account()).ok_or_else(Problem::too_many_pages)?;
    let open = website.control.site_open(member.account());
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let flow = Flow {
        website,
        member,
        watched,
        look,
        last: vec![],
        drawn: None,
        // In the past: the first beat goes out at once, and tells the page that the stream is there.
        written: Instant::now().checked_sub(BEAT).unwrap_or_else(Instant::now),
        ended: false,
        _open: open,
        _slot: slot,
    };
    let events = stream::unfold(flow, |mut flow| async {
        let bytes = flow.next().await?;
        Some((Ok::<_, Infallible>(bytes), flow))
    });
    Ok(([(CONTENT_TYPE, "text/event-stream")], Body::from_stream(events)).into_response())
}

impl Flow {
    /// The next bytes of the stream; `None` at its end.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if self.ended {
                return None;
            }
            tokio::select! {
                () = self.website.stop.cancelled() => return None,
                () = self.member.login.ended() => return Some(self.end()),
                _ = self.look.tick() => {}
            }
            let seen = match self.look().await {
                Ok(seen) => seen,
                // What the page is about is gone, which it says itself when it is asked for again.
                Err(problem) if problem.status == StatusCode::NOT_FOUND => return Some(self.end()),
                // What cannot be looked at now can be a moment later.
                Err(problem) => {
                    tracing::debug!(what = %problem.what, "a live page has nothing to show");
                    self.last.clone()
                }
            };
            if seen != self.last {
                self.written = Instant::now();
                let before = std::mem::replace(&mut self.last, seen);
                let news = self.last.iter().filter(|part| !before.contains(part)).map(String::as_str);
                return Some(event(&news.collect::<String>()));
            }
            if self.written.elapsed() >= BEAT {
                self.written = Instant::now();
                return Some(Bytes::from_static(b": beat\n\n"));
            }
        }
    }

    /// The last event, upon which the page is asked for again.
    fn end(&mut self) -> Bytes {
        self.ended = true;
        Bytes::from_static(b"event: berth:ended\ndata: \n\n")
    }

    /// The parts of the page as they are now.
    async fn look(&mut self) -> Result<Vec<String>, Problem> {
        let member = &self.member;
        match &self.watched {
            Watched::Nothing => Ok(vec![]),
            Watched::Environments => {
                let list = List::of(member).await?;
                Ok(if list.vms.is_empty() { vec![] } else { vec![part("#vms", &list)?] })
            }
            Watched::Vm(name) => {
                let vm = OwnVm::find(member, name).await?;
                let live = Live::new(&vm, member);
                let live = part(&format!("#vm-{}", live.vm.label), &live)?;
                let drawn = match self.drawn.take() {
                    Some((at, drawn)) if at.elapsed() < DRAW => (at, drawn),
                    _ => (Instant::now(), draw(&vm, member)?),
                };
                let (_, plots) = self.drawn.insert(drawn);
                Ok(vec![live, plots.clone()])
            }
            Watched::Keys => {
                let lists = Lists::of(member).await?;
                Ok(vec![part("#keys", &lists.keys)?, part("#first-use", &lists.first_use)?])
            }
        }
    }
}

fn draw(vm: &OwnVm, member: &Member) -> Result<String, Problem> {
    let plots = Plots::new(vm, member);
    part(&format!("#plots-{}", plots.vm.label), &plots)
}

/// A part of the page, to be put where it belongs.
fn part(target: &str, part: &impl Template) -> Result<String, Problem> {
    let html = part.render()?;
    Ok(format!("<hx-partial hx-target=\"{target}\" hx-swap=\"outerMorph\">{html}</hx-partial>"))
}

/// One unnamed event (HTML standard, "server-sent events").
fn event(html: &str) -> Bytes {
    let mut text = String::with_capacity(html.len() + html.len() / 8);
    for line in html.lines() {
        text += "data: ";
        text += line;
        text.push('\n');
    }
    text.push('\n');
    text.into()
}
