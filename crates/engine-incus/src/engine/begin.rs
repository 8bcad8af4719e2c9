//! How a VM begins to run: it boots, or it wakes.

use std::{net::SocketAddr, time::Duration};

use berth_engine::{EngineError, Guest, Observed, Stream, VmSpec};
use berth_model::VmId;
use hyper::Method;
use serde_json::json;
use tokio::{
    io::AsyncReadExt,
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

use super::{IncusEngine, Kind, Reach};
use crate::{
    error::IncusError,
    exec::Dialled,
    instance::{self, DISK, Doing, ENDED, Instance, READY, UP, USER},
    stream::Calling,
};

/// From the request to processes that run; a machine may have several to start.
const STARTS_WITHIN: Duration = Duration::from_secs(60);
/// From there to sshd's first line.
const ANSWERS_WITHIN: Duration = Duration::from_secs(120);
/// Between two looks at a guest that comes up.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// A connection attempt that nothing answers.
const DIAL_WITHIN: Duration = Duration::from_secs(10);
/// Before the scripts can ask systemd for something, it has to be there.
pub(super) const AWAIT_SYSTEMD: &str = "tries=0
while [ ! -S /run/systemd/private ] && [ $tries -lt 600 ]; do
    tries=$((tries + 1))
    sleep 0.05
done
";
/// The script that follows takes a second at most, and the one before it half a minute.
const SCRIPT_WITHIN: Duration = Duration::from_secs(60);

impl IncusEngine {
    /// See [`berth_engine::Engine::start`].
    pub(super) async fn begin(&self, vm: &VmId, spec: &VmSpec, guest: &Guest) -> Result<(), EngineError> {
        self.settle(vm).await?;
        let (observed, instance) = self.seen(vm).await?;
        let Some(instance) = instance else { return Err(EngineError::Missing) };
        match observed {
            Observed::Missing => Err(EngineError::Missing),
            Observed::Running => Ok(()),
            Observed::Asleep { .. } | Observed::Waking => self.wake(vm, &instance, spec, guest).await,
            Observed::Off { .. } | Observed::Stopping => self.boot(vm, &instance, spec, guest).await,
            Observed::Booting => {
                let _deed = self.note(vm).begin(Doing::Booting);
                self.or_killed(vm, self.bring_up(vm, guest).await).await
            }
        }
    }

    async fn boot(
        &self,
        vm: &VmId,
        instance: &Instance,
        spec: &VmSpec,
        guest: &Guest,
    ) -> Result<(), EngineError> {
        let (note, name) = (self.note(vm), instance::name(vm));
        let _deed = note.begin(Doing::Booting);
        note.awoke();
        note.woke_with(berth_engine::Usage::default());
        self.resize(vm, instance, spec).await?;
        let keys = [(ENDED, UP), (READY, ""), (USER, guest.user.as_str())];
        self.note_down(&name, &keys).await?;
        // What it printed at an earlier boot.
        let cleared = self.client.set(Method::DELETE, &self.path(&name, "/console"), &json!({})).await;
        if let Err(error) = cleared {
            tracing::debug!(%vm, %error, "its boot log is not cleared");
        }
        let started = self.change_state(&name, "start", false, STARTS_WITHIN).await;
        let begun = match started {
            Ok(()) => self.bring_up(vm, guest).await,
            Err(error) => Err(not_started(error)),
        };
        self.or_killed(vm, begun).await
    }

    async fn wake(
        &self,
        vm: &VmId,
        instance: &Instance,
        spec: &VmSpec,
        guest: &Guest,
    ) -> Result<(), EngineError> {
        let (note, name) = (self.note(vm), instance::name(vm));
        let _deed = note.begin(Doing::Waking);
        self.resize(vm, instance, spec).await?;
        // None of what happens in it counts as ready before the keys are in it.
        self.note_down(&name, &[(READY, ""), (USER, guest.user.as_str())]).await?;
        let woken = match self.rouse(&name).await {
            Ok(()) => self.bring_up(vm, guest).await,
            Err(error) => Err(not_started(error)),
        };
        match woken {
            Ok(()) => {
                note.awoke();
                Ok(())
            }
            Err(error @ EngineError::Away { .. }) => Err(error),
            Err(error) => {
                if let Err(error) = self.lay_down(&name).await {
                    tracing::warn!(%vm, %error, "what did not wake is not asleep again");
                }
                Err(EngineError::WakeFailed { reason: error.to_string() })
            }
        }
    }

    /// Has one that sleeps go on.
    pub(super) async fn rouse(&self, name: &str) -> Result<(), IncusError> {
        match self.config.kind {
            Kind::Container => self.change_state(name, "unfreeze", false, STARTS_WITHIN).await,
            Kind::Vm => self.change_state(name, "start", true, STARTS_WITHIN).await,
        }
    }

    /// Provisions a guest that runs, and waits for its sshd.
    async fn bring_up(&self, vm: &VmId, guest: &Guest) -> Result<(), EngineError> {
        let name = instance::name(vm);
        let script = AWAIT_SYSTEMD.to_owned() + &berth_guest::script(guest);
        let ran = self.client.run(&name, &script, SCRIPT_WITHIN).await.map_err(not_started)?;
        if ran.status != 0 {
            tracing::warn!(%vm, status = ran.status, said = ran.stderr, "a guest cannot be provisioned");
            return Err(failed("its guest could not be set up"));
        }
        let deadline = Instant::now() + ANSWERS_WITHIN;
        loop {
            let instance = self.whole(vm).await?.ok_or(EngineError::Missing)?;
            let Some(boot) = instance.boot() else {
                return Err(failed("the guest shut down while it booted"));
            };
            if self.greets(vm, &instance).await {
                self.note_down(&name, &[(READY, &boot)]).await?;
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(failed("its sshd does not answer"));
            }
            sleep(LOOK_EVERY).await;
        }
    }

    async fn greets(&self, vm: &VmId, instance: &Instance) -> bool {
        let greeted = async {
            let mut stream = self.connect(vm, instance, 22).await?;
            let mut banner = [0; 4];
            let read = stream.read_exact(&mut banner).await;
            Ok::<_, EngineError>(read.is_ok() && banner == *b"SSH-")
        };
        matches!(timeout(DIAL_WITHIN, greeted).await, Ok(Ok(true)))
    }

    /// On an error nothing of the VM runs any more, as far as its machine answers.
    async fn or_killed(&self, vm: &VmId, begun: Result<(), EngineError>) -> Result<(), EngineError> {
        let Err(error) = begun else { return Ok(()) };
        let name = instance::name(vm);
        if !matches!(error, EngineError::Away { .. } | EngineError::Missing) {
            let ended = async {
                self.cut(&name).await?;
                self.note_down(&name, &[(ENDED, &instance::failed(&error.to_string()))]).await
            };
            if let Err(error) = ended.await {
                tracing::warn!(%vm, %error, "what did not come up is not ended");
            }
        }
        Err(error)
    }

    /// Opens a connection to a port of an instance that runs.
    pub(super) async fn connect(
        &self,
        vm: &VmId,
        instance: &Instance,
        port: u16,
    ) -> Result<Box<dyn Stream>, EngineError> {
        let address = instance.address();
        let note = self.note(vm);
        match self.config.reach {
            Reach::Network => {
                let address = SocketAddr::new(address.ok_or(EngineError::TimedOut)?, port);
                let stream = match timeout(DIAL_WITHIN, TcpStream::connect(address)).await {
                    Ok(Ok(stream)) => stream,
                    Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                        return Err(EngineError::Refused { port });
                    }
                    Ok(Err(error)) => {
                        tracing::warn!(%vm, %address, %error, "a VM cannot be reached on the cluster's network");
                        return Err(EngineError::TimedOut);
                    }
                    Err(_) => return Err(EngineError::TimedOut),
                };
                stream.set_nodelay(true).map_err(|_| EngineError::TimedOut)?;
                Ok(Box::new(Calling::new(stream, note)))
            }
            Reach::Api => {
                // By its own address where it has one: what listens on localhost is for the guest alone.
                let address = address.map_or_else(|| "127.0.0.1".to_owned(), |address| address.to_string());
                let name = instance::name(vm);
                let dialled = self.client.dial_within(&name, &address, port, DIAL_WITHIN, &self.tasks).await;
                match dialled? {
                    Dialled::Connected(stream) => Ok(Box::new(Calling::new(stream, note))),
                    Dialled::Refused => Err(EngineError::Refused { port }),
                    Dialled::Silent => Err(EngineError::TimedOut),
                }
            }
        }
    }

    /// Gives an instance what `spec` says, where it has something else. A disk never becomes smaller.
    pub(super) async fn resize(
        &self,
        vm: &VmId,
        instance: &Instance,
        spec: &VmSpec,
    ) -> Result<(), EngineError> {
        let has: u64 = instance.key(DISK).parse().unwrap_or_default();
        let disk = has.max(spec.disk);
        let wanted = self.limits(&VmSpec { disk, ..spec.clone() });
        if wanted.iter().all(|(key, value)| instance.key(key) == value.as_str()) {
            return Ok(());
        }
        let config: serde_json::Map<_, _> =
            wanted.into_iter().map(|(key, value)| (key.to_owned(), json!(value))).collect();
        let change = if disk == has {
            json!({ "config": config })
        } else {
            json!({ "config": config, "devices": { "root": self.root(disk) } })
        };
        let path = self.path(&instance::name(vm), "");
        Ok(self.client.set(Method::PATCH, &path, &change).await?)
    }

    /// Has an instance change what it does. While another operation on it is under way, it is asked again.
    pub(super) async fn change_state(
        &self,
        name: &str,
        action: &str,
        stateful: bool,
        within: Duration,
    ) -> Result<(), IncusError> {
        let body = json!({ "action": action, "timeout": within.as_secs(), "stateful": stateful });
        let deadline = Instant::now() + within;
        loop {
            let done = self.client.act(Method::PUT, &self.path(name, "/state"), &body, within).await;
            match done {
                Err(IncusError::Busy) if Instant::now() < deadline => sleep(LOOK_EVERY * 4).await,
                // An earlier request for the same, whose answer nobody heard.
                Err(IncusError::Refused(said)) if is_so_already(action, &said) => return Ok(()),
                done => return done,
            }
        }
    }
}

fn is_so_already(action: &str, said: &str) -> bool {
    let words: &[&str] = match action {
        "start" => &["is already running"],
        "stop" => &["is already stopped", "isn't running"],
        "unfreeze" => &["is already running", "isn't frozen"],
        "freeze" => &["is already frozen"],
        _ => &[],
    };
    words.iter().any(|words| said.contains(words))
}

fn not_started(error: IncusError) -> EngineError {
    match EngineError::from(error) {
        EngineError::Broken { reason } => {
            tracing::warn!(reason, "a VM does not come up");
            EngineError::StartFailed { reason: "the cluster could not start it".to_owned() }
        }
        error => error,
    }
}

fn failed(reason: &str) -> EngineError {
    EngineError::StartFailed { reason: reason.to_owned() }
}
