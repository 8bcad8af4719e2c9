//! Carries out one command, in the name of the member.

use berth_control::{Acting, AddedKey, Error, Kind, LinkFor, VmInfo};
use berth_model::VmName;
use serde_json::json;
use time::OffsetDateTime;
use tokio::sync::mpsc;

use super::{
    answer::{Answer, Failure},
    command::{self, Command},
    config, doctor,
    list::{self, Form},
    status,
};
use crate::{progress::Telling, session::Person, ssh::Seat, text::quoted};

/// Things that happen while a VM starts and are not told yet.
const UNTOLD: usize = 8;

/// See the module's documentation.
pub(super) struct Desk<'a> {
    pub(super) seat: &'a Seat,
    person: &'a Person,
    pub(super) acting: Acting,
    json: bool,
}

/// What does not change the state of anything but one VM.
enum Verb {
    Start,
    Sleep,
    Stop,
}

impl<'a> Desk<'a> {
    pub(super) fn new(seat: &'a Seat, person: &'a Person, json: bool) -> Self {
        Self { seat, person, acting: seat.control.acting(seat.login.actor()), json }
    }

    /// Does it. A future that is dropped leaves a start going on.
    pub(super) async fn carry_out(&self, command: Command) -> Answer {
        let done = match command {
            Command::Nothing | Command::Exit => Ok(Answer::silent(status::DONE)),
            Command::Help => Ok(Answer::done(command::help(), &json!({}), false)),
            Command::Vms => self.list_vms().await,
            Command::Start(vm) => self.change(vm, Verb::Start).await,
            Command::Sleep(vm) => self.change(vm, Verb::Sleep).await,
            Command::Stop(vm) => self.change(vm, Verb::Stop).await,
            Command::Why(vm) => self.why(vm).await,
            Command::New => self.new_vm().await,
            Command::Sharing(sharing) => self.carry_out_sharing(sharing).await,
            Command::Keys => self.list_keys().await,
            Command::KeysAdd { label, pasted } => {
                self.add_keys(label.as_deref(), &pasted.unwrap_or_default()).await
            }
            Command::KeysRemove(which) => self.remove_key(&which).await,
            Command::Config => Ok(config::config(self.seat, self.json)),
            Command::KnownHosts => Ok(config::known_hosts(self.seat, self.json)),
            Command::LogIn => self.log_in_link().await,
            Command::Doctor => self.examine().await,
        };
        done.unwrap_or_else(|failure| Answer::failed(&failure, self.json))
    }

    /// What this person is told when they come.
    pub(super) async fn greeting(&self) -> String {
        let vms = self.vms().await.unwrap_or_default();
        let hello = list::greeting(self.seat.login.account().as_str(), &vms, OffsetDateTime::now_utc());
        match self.seat.control.recording_notice_ahead() {
            Some(notice) => format!("{hello}{notice}\n"),
            None => hello,
        }
    }

    /// The labels of the person's VMs, and of the team's.
    pub(super) async fn labels(&self) -> Vec<String> {
        let (vms, team) =
            (self.vms().await.unwrap_or_default(), self.acting.team_vms().await.unwrap_or_default());
        vms.iter().chain(&team).map(|vm| vm.name.label()).collect()
    }

    pub(super) async fn vms(&self) -> Result<Vec<VmInfo>, Failure> {
        Ok(self.acting.vms(Some(self.seat.login.account())).await?)
    }

    pub(super) fn form(&self) -> Form {
        if self.person.has_terminal() { Form::Columns } else { Form::Tabs }
    }

    pub(super) fn done(&self, text: String, data: &serde_json::Value) -> Result<Answer, Failure> {
        Ok(Answer::done(text, data, self.json))
    }

    async fn list_vms(&self) -> Result<Answer, Failure> {
        let vms = self.vms().await?;
        let shared = self.acting.shared_with_me().await?;
        let team = self.acting.team_vms().await?;
        let text = list::vms(&vms, &team, &shared, OffsetDateTime::now_utc(), self.form());
        self.done(text, &json!({ "vms": vms, "team": team, "shared": shared }))
    }

    /// The VM that is meant; without a word, the only one that there is.
    pub(super) async fn vm(&self, asked: Option<&str>) -> Result<VmInfo, Failure> {
        let mut vms = self.vms().await?;
        let mut is_of_team = false;
        let found = match asked {
            None if vms.len() == 1 => vms.pop(),
            None if vms.is_empty() => {
                return Err(Failure::new(Kind::Missing, "You have no VM yet. Make one: new"));
            }
            None => {
                let all = labels(&vms);
                return Err(Failure::usage(format!("Which one? Say one of {all}.")));
            }
            Some(asked) => {
                let name = self.resolve(asked).await;
                is_of_team = name.as_ref().is_some_and(VmName::is_of_team);
                vms.iter().find(|vm| Some(&vm.name) == name.as_ref()).cloned()
            }
        };
        found.ok_or_else(|| {
            let asked = quoted(asked.unwrap_or_default());
            if is_of_team {
                let text = format!(
                    "{asked} is the team's. Here it can be started and looked at; the rest is for operators."
                );
                return Failure::new(Kind::Denied, text);
            }
            let yours = if vms.is_empty() { "none".to_owned() } else { labels(&vms) };
            Failure::new(Kind::Missing, format!("There is no VM {asked} of yours. Yours: {yours}."))
        })
    }

    /// The same for what is done to VMs of the team, too.
    async fn vm_or_teams(&self, asked: Option<&str>) -> Result<VmInfo, Failure> {
        let name = match asked {
            Some(asked) => self.resolve(asked).await.filter(VmName::is_of_team),
            None => None,
        };
        let team = self.acting.team_vms().await?;
        match team.into_iter().find(|vm| Some(&vm.name) == name.as_ref()) {
            Some(vm) => Ok(vm),
            None => self.vm(asked).await,
        }
    }

    /// By its label, or by any of the names that it has elsewhere.
    async fn resolve(&self, asked: &str) -> Option<VmName> {
        let account = self.seat.login.account();
        let whole = asked.contains('.') || asked.starts_with("shared-");
        let name = if whole { asked.to_owned() } else { format!("{asked}.{account}") };
        self.acting.find_vm(&name).await.ok()
    }

    /// How a VM is now.
    async fn again(&self, vm: &VmInfo) -> VmInfo {
        let (vms, team) =
            (self.vms().await.unwrap_or_default(), self.acting.team_vms().await.unwrap_or_default());
        vms.into_iter().chain(team).find(|info| info.name == vm.name).unwrap_or_else(|| vm.clone())
    }

    async fn change(&self, asked: Option<String>, verb: Verb) -> Result<Answer, Failure> {
        let vm = match verb {
            Verb::Start => self.vm_or_teams(asked.as_deref()).await?,
            Verb::Sleep | Verb::Stop => self.vm(asked.as_deref()).await?,
        };
        let (name, label) = (&vm.name, vm.name.label());
        let done = match verb {
            Verb::Start => self.start(name).await,
            Verb::Sleep => self.acting.sleep_vm(name).await,
            Verb::Stop => self.acting.stop_vm(name).await,
        };
        done.map_err(|error| self.said(error, name))?;
        let text = match verb {
            Verb::Start => format!("{label} is running: ssh {}\n", config::direct(self.seat, name)),
            Verb::Sleep => format!("{label} is asleep, and wakes when you connect.\n"),
            Verb::Stop => format!("{label} is off, and starts when you connect.\n"),
        };
        self.done(text, &json!(self.again(&vm).await))
    }

    async fn start(&self, vm: &VmName) -> Result<(), Error> {
        let (progress, mut news) = mpsc::channel(UNTOLD);
        let telling = async {
            let mut telling = Telling::new();
            while let Some(progress) = news.recv().await {
                let words = telling.words(&progress);
                // Who reads JSON waits for the end.
                if !self.json {
                    // Somebody who is gone is told nothing.
                    let _ = self.person.complain(&words).await;
                }
            }
            if let Some(end) = telling.end().filter(|_| !self.json) {
                let _ = self.person.complain(&end).await;
            }
        };
        // The news end with the start, which holds their sender.
        tokio::join!(self.acting.start_vm(vm, progress), telling).0
    }

    async fn why(&self, asked: Option<String>) -> Result<Answer, Failure> {
        let vm = self.vm_or_teams(asked.as_deref()).await?;
        let why = self.acting.why(&vm.name).await.map_err(|error| self.said(error, &vm.name))?;
        self.done(format!("{why}\n"), &json!(vm))
    }

    async fn new_vm(&self) -> Result<Answer, Failure> {
        let vm = self.acting.add_vm(self.seat.login.account()).await?;
        let way = config::direct(self.seat, &vm.name);
        let text = format!("{} is there. Go in: ssh {way}\n", vm.name.label());
        self.done(text, &json!(vm))
    }

    async fn list_keys(&self) -> Result<Answer, Failure> {
        let keys = self.acting.keys(self.seat.login.account()).await?;
        let text = list::keys(&keys, self.seat.login.fingerprint(), self.form());
        self.done(text, &json!({ "keys": keys }))
    }

    async fn add_keys(&self, label: Option<&str>, pasted: &str) -> Result<Answer, Failure> {
        let account = self.seat.login.account();
        let keys = self.acting.add_keys(account, pasted, label).await?;
        let refused = keys.iter().any(|key| matches!(key, AddedKey::Refused { .. }));
        let behind = self.seat.control.behind_with_keys(account);
        let told = |key: &AddedKey| match key {
            AddedKey::Added { key } => format!("Added: {} {}\n", key.algorithm, key.fingerprint),
            AddedKey::AlreadyThere { fingerprint } => format!("You have this key already: {fingerprint}\n"),
            AddedKey::Refused { reason } => format!("Not added: {reason}\n"),
        };
        let text = keys.iter().map(told).collect();
        let answer = self.done(text, &json!({ "keys": keys, "behind": behind }))?;
        Ok(if refused { answer.with_status(status::FAILED) } else { answer })
    }

    async fn remove_key(&self, which: &str) -> Result<Answer, Failure> {
        let account = self.seat.login.account();
        let key = self.acting.remove_key(account, which).await.map_err(|error| match error {
            Error::NoSuchKey { .. } => {
                let text = format!("You have no key {:?}. They are in: keys", quoted(which));
                Failure::new(Kind::Missing, text)
            }
            Error::AmbiguousKey { .. } => {
                let text =
                    format!("You have more than one key {:?}. Name it by its fingerprint.", quoted(which));
                Failure::new(Kind::Conflict, text)
            }
            error => error.into(),
        })?;
        let behind = self.seat.control.behind_with_keys(account);
        let text = format!("Removed: {} {}\n", key.algorithm, key.fingerprint);
        self.done(text, &json!({ "removed": key, "behind": behind }))
    }

    async fn log_in_link(&self) -> Result<Answer, Failure> {
        let account = self.seat.login.account();
        let link = self.acting.make_link(account, LinkFor::LogIn).await?;
        let mut answer =
            Answer::done(format!("{}\n", link.expose()), &json!({ "link": link.expose() }), self.json);
        answer.complain(format!(
            "Whoever opens this link within ten minutes is logged in as {account}. It works once.\n"
        ));
        Ok(answer)
    }

    async fn examine(&self) -> Result<Answer, Failure> {
        let login = &self.seat.login;
        let keys = self.acting.keys(login.account()).await?;
        let key = keys.into_iter().find(|key| key.fingerprint == *login.fingerprint());
        let seen = doctor::Seen {
            key,
            certificate: login.certificate().map(ToString::to_string),
            refused_keys: self.seat.refused_keys,
            client: self.seat.program.clone(),
            gateway: config::gateway(self.seat),
            now: OffsetDateTime::now_utc(),
        };
        let findings = doctor::examine(&seen);
        let answer = self.done(doctor::said(&findings), &json!({ "findings": findings }))?;
        let well = findings.iter().all(|finding| finding.todo.is_none());
        Ok(if well { answer } else { answer.with_status(status::FAILED) })
    }

    /// What control says, where it says it to operators: for whom the VM is.
    pub(super) fn said(&self, error: Error, vm: &VmName) -> Failure {
        let (kind, label) = (error.kind(), vm.label());
        let page = format!("{}/vms/{label}", self.seat.control.settings().website);
        match error {
            Error::AlwaysOn(_) => {
                Failure::new(kind, format!("{label} is always-on. Take that back first, at {page}"))
            }
            Error::WakeFailed { reason, .. } => Failure::new(
                kind,
                format!(
                    "{label} could not be woken: {reason}. Nothing on its disk was lost. What was in its memory can be \
                     given up, and it starts from its disk, at {page}"
                ),
            ),
            Error::NoSuchVm(_) => Failure::new(kind, format!("{label} was removed in the meantime.")),
            error => error.into(),
        }
    }
}

fn labels(vms: &[VmInfo]) -> String {
    vms.iter().map(|vm| vm.name.label()).collect::<Vec<_>>().join(", ")
}
