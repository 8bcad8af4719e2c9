//! The configuration: what a file may say, what holds without one, and what is wrong with it.
//!
//! A value comes from the command line, else the environment, else the file, else its default. The file is TOML; a key
//! that is not known is refused by its path, as is a value that means nothing. What can only be judged together is
//! judged by [`Config::problems`]. docs/configuration.md describes every key, and a test keeps it in step.

pub(crate) mod database;
mod engine;
mod host;
mod http;
mod idle;
mod limits;
pub(crate) mod load;
mod log;
mod oidc;
mod recording;
mod size;
mod span;
mod ssh;
mod ssh_limits;
mod tls;
mod upgrade;
mod vm;
mod word;

use std::path::PathBuf;

use berth_control::Settings;
use berth_engine::VmSpec;
use berth_model::{DomainError, Domains, TeamName};
use serde::{Deserialize, Serialize};

use crate::state::StateDir;

pub(crate) use self::{
    database::Database,
    engine::Engine,
    host::Host,
    http::Http,
    idle::Idle,
    limits::AccountLimits,
    load::{Overrides, load},
    log::Log,
    oidc::Oidc,
    recording::Recording,
    size::Size,
    span::Span,
    ssh::Ssh,
    upgrade::Upgrade,
    vm::Vm,
};

/// Everything that an operator can decide. The defaults are for trying Berth on one machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// The domain of the service: the website is at this name and the gateway at `ssh.` before it.
    pub(crate) app_domain: String,
    /// The domain that the VMs' host names are below.
    pub(crate) vm_domain: String,
    /// The default team.
    pub(crate) team: TeamName,
    /// Where everything is kept that the server remembers.
    pub(crate) state_dir: PathBuf,
    /// Where images are kept. Empty in a file that does not say: below the state folder.
    pub(crate) image_dir: PathBuf,
    pub(crate) database: Database,
    pub(crate) ssh: Ssh,
    pub(crate) http: Http,
    pub(crate) engine: Engine,
    pub(crate) vm: Vm,
    pub(crate) idle: Idle,
    pub(crate) limits: AccountLimits,
    pub(crate) host: Host,
    pub(crate) oidc: Oidc,
    pub(crate) recording: Recording,
    pub(crate) upgrade: Upgrade,
    pub(crate) log: Log,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            app_domain: "berth.localhost".into(),
            vm_domain: "vm.localhost".into(),
            team: "main".parse().expect("the default team's name is a name"),
            state_dir: PathBuf::new(),
            image_dir: PathBuf::new(),
            database: Database::default(),
            ssh: Ssh::default(),
            http: Http::default(),
            engine: Engine::default(),
            vm: Vm::default(),
            idle: Idle::default(),
            limits: AccountLimits::default(),
            host: Host::default(),
            oidc: Oidc::default(),
            recording: Recording::default(),
            upgrade: Upgrade::default(),
            log: Log::default(),
        }
    }
}

/// One thing that is wrong with a configuration that could be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Problem {
    /// The path of the key.
    pub(crate) key: &'static str,
    /// What is wrong and what to do, in whole sentences.
    pub(crate) message: String,
}

impl Problem {
    pub(crate) fn new(key: &'static str, message: impl Into<String>) -> Self {
        Self { key, message: message.into() }
    }
}

impl Config {
    /// The domains and the default team.
    pub(crate) fn domains(&self) -> Result<Domains, DomainError> {
        Domains::new(&self.app_domain, &self.vm_domain, self.team.clone())
    }

    /// What is wrong with the values, by themselves and together, without looking at this machine.
    pub(crate) fn problems(&self) -> Vec<Problem> {
        let mut problems = vec![];
        if let Err(error) = self.domains() {
            let key = if error.to_string().starts_with("vm_domain") { "vm_domain" } else { "app_domain" };
            problems.push(Problem::new(key, error.to_string()));
        }
        problems.extend(self.database.problems());
        problems.extend(self.ssh.problems());
        problems.extend(self.http.problems(&self.app_domain));
        problems.extend(self.engine.problems(&self.vm));
        problems.extend(self.vm.problems());
        problems.extend(self.idle.problems());
        problems.extend(self.limits.problems(&self.vm));
        problems.extend(self.host.problems(&self.vm));
        problems.extend(self.oidc.problems());
        problems.extend(self.recording.problems());
        problems.extend(self.log.problems());
        problems
    }

    /// The address of the website, without a slash at its end.
    pub(crate) fn website(&self) -> String {
        self.http.website(&self.app_domain)
    }

    /// What control is told.
    pub(crate) fn settings(&self) -> Result<Settings, DomainError> {
        let vm = VmSpec { cpus: self.vm.cpus, memory: self.vm.memory.bytes(), disk: self.vm.disk.bytes() };
        Ok(Settings {
            limits: self.limits.limits(),
            idle: self.idle.rules(),
            memory: self.host.memory.map(Size::bytes),
            recording: Some(self.recording.settings(StateDir::at(&self.state_dir).recordings())),
            stop_patience: self.vm.stop_patience.duration(),
            ..Settings::new(self.domains()?, vm, self.website())
        })
    }
}

#[cfg(test)]
mod tests;
