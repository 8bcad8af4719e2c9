//! The idle policy at work on one VM: what it needs to know is found out, and what it says is done.
//!
//! [`Supervisor::think_if_running`] judges whenever it is time to; what takes longer than a moment (asking the guest,
//! telling the people in it, tidying it up) is one errand at a time, after which it judges again. The verdict that puts
//! a VM to sleep is therefore always one of the same moment.

use std::time::Duration;

use berth_engine::{EngineError, Lease, Usage};
use time::OffsetDateTime;
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};
use tracing::{debug, info, warn};

use super::{Answer, Pending, Policy, Supervisor};
use crate::{
    idle::{self, Facts, LOOK_EVERY, Reason, UseKind, Verdict},
    lifecycle::{Event, Refusal, State},
    why::{Outlook, SleptFor, clock_time, span},
};

/// So old may the guest's answer about leases be.
const LEASES_FRESH: Duration = Duration::from_secs(10);
/// A guest that does not answer holds no lease, and is told nothing.
const GUEST_WITHIN: Duration = Duration::from_secs(10);
/// How long after it did not fall asleep it is judged again.
const AFTER_A_REFUSAL: Duration = Duration::from_secs(2);
/// How often a server that does not decide about VMs looks whether it does again.
const LOOK_AT_STANDING: Duration = Duration::from_secs(1);
/// A guest that has just come up is not asked for its work yet.
const SETTLED_AFTER: Duration = Duration::from_secs(60);

/// What was found out by an errand.
pub(super) enum News {
    Sample(Result<Usage, EngineError>),
    Leases(Result<Vec<Lease>, EngineError>),
    Told,
    Tidied,
    /// It was used by a connection of another server meanwhile.
    UsedElsewhere,
}

/// What is known of a VM that runs.
pub(super) struct Awake {
    since: OffsetDateTime,
    /// When to judge next; `None` for now.
    pub(super) look_at: Option<Instant>,
    pub(super) errand: Option<Pending<News>>,
    sample: Option<(Instant, Usage)>,
    sampled_at: Option<Instant>,
    leases: Option<(Instant, Vec<Lease>)>,
    warned: Option<OffsetDateTime>,
    tidied: bool,
    slept: Option<(OffsetDateTime, SleptFor)>,
    /// Why it is about to be put to sleep.
    why: SleptFor,
    give_way: Vec<Answer>,
    pub(super) outlook: watch::Sender<Outlook>,
}

impl Awake {
    pub(super) fn new(
        now: OffsetDateTime,
        slept: Option<(OffsetDateTime, SleptFor)>,
    ) -> (Self, watch::Receiver<Outlook>) {
        let (outlook, seen) = watch::channel(Outlook::Unknown);
        let awake = Self {
            since: now,
            look_at: None,
            errand: None,
            sample: None,
            sampled_at: None,
            leases: None,
            warned: None,
            tidied: false,
            slept,
            why: SleptFor::Asked,
            give_way: vec![],
            outlook,
        };
        (awake, seen)
    }

    /// Why the sleep that begins now.
    pub(super) fn slept_for(&self) -> SleptFor {
        self.why.clone()
    }

    fn begin(&mut self, now: OffsetDateTime) {
        self.since = now;
        self.look_at = None;
        self.errand = None;
        self.sample = None;
        self.sampled_at = None;
        self.leases = None;
        self.tidied = false;
    }
}

impl Supervisor {
    pub(super) fn on_new_state(&mut self, before: &State) {
        let now = self.tools.settings.clock.now();
        match *self.state.borrow() {
            // It ran on, for somebody came in the moment of falling asleep; or something that is said to it waits to be
            // heard, perhaps for ever.
            State::Running if matches!(before, State::FallingAsleep { .. }) => {
                self.awake.look_at = Some(Instant::now() + AFTER_A_REFUSAL);
            }
            State::Running => {
                self.history.begin();
                self.awake.begin(now);
            }
            State::Asleep { failed: None } if matches!(before, State::FallingAsleep { .. }) => {
                self.awake.slept = Some((now, self.awake.why.clone()));
            }
            _ => {}
        }
        if *self.state.borrow() != State::Running {
            self.awake.errand = None;
            self.awake.look_at = None;
            self.awake.outlook.send_replace(Outlook::Unknown);
            for answer in self.awake.give_way.drain(..) {
                let gave_way = match *self.state.borrow() {
                    State::FallingAsleep { .. } => {
                        self.sleeps.push(answer);
                        continue;
                    }
                    _ => Err(Refusal::NotRunning),
                };
                let _ = answer.send(gave_way);
            }
        }
    }

    /// By hand: no reason but a connection or a log-in that is being made counts.
    pub(super) fn on_sleep_asked(&mut self, answer: Answer) {
        if self.activity.is_connecting() || self.activity.is_logging_in() {
            let _ = answer.send(Err(Refusal::InUse));
            return;
        }
        self.sleeps.push(answer);
        self.awake.why = SleptFor::Asked;
        self.on_event(Event::SleepAsked);
    }

    pub(super) fn on_give_way(&mut self, answer: Answer) {
        let may = self.tools.decides()
            && *self.state.borrow() == State::Running
            && idle::gives_way(&self.facts(Some(&[])));
        if may {
            self.awake.give_way.push(answer);
            self.awake.look_at = None;
        } else {
            let _ = answer.send(Err(Refusal::InUse));
        }
    }

    pub(super) fn on_policy(&mut self, policy: Policy) {
        if self.policy.always_on && !policy.always_on {
            self.activity.note(UseKind::AlwaysOn);
        }
        self.policy = policy;
        self.awake.look_at = None;
        if policy.always_on {
            self.always_on.turned_off = false;
        }
        self.keep_on();
    }

    /// Judges, if it is time to and no errand is under way.
    pub(super) fn think_if_running(&mut self) {
        let idle = self.awake.errand.is_none() && self.awake.look_at.is_none();
        if *self.state.borrow() != State::Running || !idle {
            return;
        }
        if !self.tools.decides() {
            // Another server does, or is about to.
            self.awake.look_at = Some(Instant::now() + LOOK_AT_STANDING);
            return;
        }
        let every = self.tools.settings.idle.look_every();
        let settled = self.tools.settings.clock.now() - self.awake.since >= SETTLED_AFTER.min(every);
        if self.awake.sampled_at.is_none_or(|at| at.elapsed() >= every)
            && (settled || self.awake.sample.is_none())
        {
            return self.take_sample();
        }
        self.note_end_of_snooze();
        let leases = self.fresh_leases();
        let facts = self.facts(leases.as_deref());
        if !self.awake.give_way.is_empty() {
            return self.give_way_or_not(leases.is_some(), idle::gives_way(&facts));
        }
        match idle::judge(&facts) {
            Verdict::Stay { why, look } => {
                self.note_reason(&why);
                self.awake.outlook.send_replace(Outlook::Stays(why));
                self.look_at(look);
            }
            Verdict::Idle { since, sleeps_at, look } => {
                self.awake.outlook.send_replace(Outlook::Sleeps { since, at: sleeps_at });
                self.look_at(look);
            }
            Verdict::Ask => self.ask_for_leases(),
            Verdict::Warn { since, sleeps_at } => self.warn(since, sleeps_at),
            Verdict::Sleep { since } => self.sleep_tidily(since),
        }
    }

    pub(super) fn on_news(&mut self, news: News) {
        self.awake.errand = None;
        match news {
            News::Sample(Ok(usage)) => self.on_sample(usage),
            News::Leases(Ok(leases)) => self.awake.leases = Some((Instant::now(), leases)),
            News::Leases(Err(error)) => {
                debug!(vm = %self.name, %error, "the guest does not tell what holds it awake");
                self.awake.leases = Some((Instant::now(), vec![]));
            }
            News::Sample(Err(error)) => debug!(vm = %self.name, %error, "what it uses is not known"),
            News::Told => self.awake.warned = Some(self.tools.settings.clock.now()),
            News::Tidied => self.awake.tidied = true,
            News::UsedElsewhere => {}
        }
    }

    fn on_sample(&mut self, usage: Usage) {
        self.history.note(self.tools.settings.clock.now(), usage, self.spec.cpus);
        let now = Instant::now();
        if let Some((at, before)) = self.awake.sample.replace((now, usage)) {
            let cpu = usage.cpu.saturating_sub(before.cpu);
            let disk = usage.disk.saturating_sub(before.disk);
            if self.tools.settings.idle.is_work(cpu, disk, now - at) {
                self.activity.note(UseKind::Work);
            }
        }
    }

    fn facts<'a>(&'a self, leases: Option<&'a [Lease]>) -> Facts<'a> {
        Facts {
            now: self.tools.settings.clock.now(),
            rules: self.tools.settings.idle,
            awake_since: self.awake.since,
            always_on: self.policy.always_on,
            site_since: self.tools.presence.since(self.owner()),
            connecting: self.activity.is_connecting(),
            snoozed_until: self.policy.snoozed_until,
            used: self.activity.used(),
            leases,
            leased: matches!(&*self.awake.outlook.borrow(), Outlook::Stays(Reason::Lease(_))),
            warned: self.awake.warned,
            slept: self.awake.slept.as_ref().map(|(at, _)| *at),
        }
    }

    fn fresh_leases(&self) -> Option<Vec<Lease>> {
        let (at, leases) = self.awake.leases.as_ref()?;
        (at.elapsed() < LEASES_FRESH).then(|| leases.clone())
    }

    fn look_at(&mut self, at: OffsetDateTime) {
        let wait = Duration::try_from(at - self.tools.settings.clock.now()).unwrap_or_default();
        // Never in a tight circle, whatever the clock does.
        self.awake.look_at = Some(Instant::now() + wait.clamp(Duration::from_millis(100), LOOK_EVERY));
    }

    /// The clock runs from the end of a reason, so it is noted for as long as it holds.
    fn note_reason(&self, reason: &Reason) {
        match reason {
            Reason::AlwaysOn => self.activity.note(UseKind::AlwaysOn),
            Reason::Site { .. } => self.activity.note(UseKind::Site),
            Reason::Lease(lease) => self.activity.note(UseKind::Lease { what: lease.what.clone() }),
            // The end of a snooze is known beforehand; who connects is noted by the connection.
            Reason::Snooze { .. } | Reason::Connecting | Reason::NeverSleeps => {}
        }
    }

    fn note_end_of_snooze(&self) {
        if let Some(until) =
            self.policy.snoozed_until.filter(|until| *until <= self.tools.settings.clock.now())
        {
            self.activity.note_at(until, UseKind::Snooze);
        }
    }

    fn take_sample(&mut self) {
        self.awake.sampled_at = Some(Instant::now());
        let (engine, id) = (self.tools.engine.clone(), self.id);
        let job = self.job();
        self.awake.errand = Some(Box::pin(async move {
            job.exchange_uses().await;
            News::Sample(within(engine.usage(&id)).await)
        }));
    }

    fn ask_for_leases(&mut self) {
        let (engine, id) = (self.tools.engine.clone(), self.id);
        self.awake.errand = Some(Box::pin(async move { News::Leases(within(engine.leases(&id)).await) }));
    }

    fn warn(&mut self, since: OffsetDateTime, sleeps_at: OffsetDateTime) {
        let now = self.tools.settings.clock.now();
        let text = format!(
            "This VM goes to sleep in {}: nothing has happened here since {}. Your shells and programs stay as they \
             are. keepawake holds it.",
            in_words(sleeps_at - now),
            clock_time(since, now)
        );
        let (engine, id, name) = (self.tools.engine.clone(), self.id, self.name.clone());
        let job = self.job();
        self.awake.errand = Some(Box::pin(async move {
            if job.exchange_uses().await {
                return News::UsedElsewhere;
            }
            if let Err(error) = within(engine.tell(&id, &text)).await {
                warn!(vm = %name, %error, "nobody inside was told that it goes to sleep");
            }
            News::Told
        }));
    }

    /// One that only dozed has nothing new in its memory.
    fn sleep_tidily(&mut self, since: OffsetDateTime) {
        let dozed = self.awake.slept.as_ref().is_some_and(|(slept, _)| *slept >= since);
        if self.awake.tidied || dozed {
            info!(vm = %self.name, "nobody uses it: it goes to sleep");
            self.awake.why = SleptFor::Idle { since };
            self.on_event(Event::SleepAsked);
            return;
        }
        let (engine, id, name) = (self.tools.engine.clone(), self.id, self.name.clone());
        let job = self.job();
        self.awake.errand = Some(Box::pin(async move {
            if job.exchange_uses().await {
                return News::UsedElsewhere;
            }
            if let Err(error) = within(engine.tidy(&id)).await {
                debug!(vm = %name, %error, "it was not tidied up");
            }
            News::Tidied
        }));
    }

    fn give_way_or_not(&mut self, asked: bool, gives_way: bool) {
        match (asked, gives_way) {
            (false, _) => self.ask_for_leases(),
            (true, true) => {
                info!(vm = %self.name, "another VM needs its memory and nobody uses it: it goes to sleep");
                self.awake.why = SleptFor::GaveWay;
                // Falling asleep answers them.
                self.on_event(Event::SleepAsked);
            }
            (true, false) => {
                for answer in self.awake.give_way.drain(..) {
                    let _ = answer.send(Err(Refusal::InUse));
                }
            }
        }
    }
}

/// How long until it sleeps, said in whole minutes where there are any.
fn in_words(left: time::Duration) -> String {
    match (left.whole_seconds() + 30) / 60 {
        0 => span(left),
        1 => "1 minute".to_owned(),
        minutes => format!("{minutes} minutes"),
    }
}

async fn within<T>(asked: impl Future<Output = Result<T, EngineError>>) -> Result<T, EngineError> {
    timeout(GUEST_WITHIN, asked).await.unwrap_or(Err(EngineError::TimedOut))
}
