//! The verbs, on the table.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use async_trait::async_trait;
use berth_engine::{
    About, Ending, Engine, EngineError, Grown, Guest, GuestUser, Home, Lease, Listener, Observed, Room,
    Stream, Usage, VmSpec,
};
use berth_model::VmId;
use tokio_util::sync::CancellationToken;

use super::{FakeEngine, FakeVm, Verb, service::Kind};

/// How long dialling a silent port takes.
const SILENCE: Duration = Duration::from_secs(10);
/// What the connection buffers in each direction.
const BUFFER: usize = 64 * 1024;

impl FakeEngine {
    /// Notes the call, waits the verb's delay and fails if the test said so.
    async fn called(&self, verb: Verb, vm: Option<&VmId>) -> Result<(), EngineError> {
        let delay = {
            let mut table = self.table();
            table.calls.push((verb, vm.copied()));
            table.delays.get(&verb).copied().unwrap_or_default()
        };
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        match self.table().failures.get(&verb) {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }

    /// As the real one does: what goes wrong leaves the sleep as it was.
    async fn wake(&self, vm: &VmId, spec: &VmSpec, guest: &Guest) -> Result<(), EngineError> {
        self.with(vm, |entry| entry.observed = Observed::Waking);
        let woken = self.called(Verb::Start, Some(vm)).await;
        self.with(vm, |entry| {
            if entry.observed != Observed::Waking {
                return;
            }
            entry.observed = match &woken {
                Ok(()) => Observed::Running,
                Err(_) => Observed::Asleep { called: false },
            };
            if woken.is_ok() {
                entry.guest = Some(guest.clone());
                entry.spec.disk = entry.spec.disk.max(spec.disk);
                entry.usage = Usage::default();
            }
        });
        woken
    }

    fn running<T>(&self, vm: &VmId, get: impl FnOnce(&mut FakeVm) -> T) -> Result<T, EngineError> {
        match self.table().vms.get_mut(vm) {
            None => Err(EngineError::Missing),
            Some(entry) if entry.observed == Observed::Running => Ok(get(entry)),
            Some(_) => Err(EngineError::NotRunning),
        }
    }

    fn observed(&self, vm: &VmId) -> Observed {
        self.table().vms.get(vm).map_or(Observed::Missing, |vm| vm.observed.clone())
    }
}

#[async_trait]
impl Engine for FakeEngine {
    async fn prepare(&self, _spec: &VmSpec) -> Result<(), EngineError> {
        self.called(Verb::Prepare, None).await
    }

    async fn create(&self, vm: &VmId, spec: &VmSpec) -> Result<(), EngineError> {
        self.called(Verb::Create, Some(vm)).await?;
        let mut table = self.table();
        let observed =
            if table.forks { Observed::Asleep { called: false } } else { Observed::Off { ended: None } };
        table.vms.entry(*vm).or_insert_with(|| FakeVm {
            observed,
            usage: Usage::default(),
            leases: Vec::new(),
            told: Vec::new(),
            rebuilt: Vec::new(),
            boot: CancellationToken::new(),
            guest: None,
            spec: spec.clone(),
            boot_log: String::new(),
        });
        drop(table);
        self.announce();
        Ok(())
    }

    async fn start(&self, vm: &VmId, spec: &VmSpec, guest: &Guest) -> Result<(), EngineError> {
        let observed = self.observed(vm);
        match observed {
            Observed::Missing => {
                self.table().calls.push((Verb::Start, Some(*vm)));
                return Err(EngineError::Missing);
            }
            Observed::Running => return self.called(Verb::Start, Some(vm)).await,
            Observed::Asleep { .. } | Observed::Waking => return self.wake(vm, spec, guest).await,
            Observed::Off { .. } | Observed::Booting | Observed::Stopping => {}
        }
        let Some((boot, _delay)) = self.begin_boot(vm) else { return Err(EngineError::Missing) };
        if let Some(entry) = self.table().vms.get_mut(vm)
            && observed != Observed::Booting
        {
            // One that boots already is only waited for, and keeps what it was given.
            entry.guest = Some(guest.clone());
            entry.spec = spec.clone();
        }
        if let Err(error) = self.called(Verb::Start, Some(vm)).await {
            self.end(vm, Ending::Failed { reason: error.to_string() });
            return Err(error);
        }
        if self.finish_boot(vm, &boot) {
            Ok(())
        } else {
            Err(EngineError::StartFailed { reason: "the guest shut down while it booted".to_owned() })
        }
    }

    async fn sleep(&self, vm: &VmId) -> Result<(), EngineError> {
        self.called(Verb::Sleep, Some(vm)).await?;
        match self.observed(vm) {
            Observed::Missing => Err(EngineError::Missing),
            Observed::Asleep { .. } => Ok(()),
            Observed::Running => {
                let called = self.table().restless;
                self.with(vm, |entry| entry.observed = Observed::Asleep { called });
                if called {
                    // Whoever watches sees it before who has asked for the sleep is answered.
                    // Not by the clock, which a test may have stopped.
                    for _ in 0..100 {
                        tokio::task::yield_now().await;
                    }
                }
                Ok(())
            }
            Observed::Off { .. } | Observed::Waking | Observed::Booting | Observed::Stopping => {
                Err(EngineError::NotRunning)
            }
        }
    }

    async fn forget_sleep(&self, vm: &VmId) -> Result<(), EngineError> {
        self.called(Verb::ForgetSleep, Some(vm)).await?;
        if matches!(self.observed(vm), Observed::Asleep { .. }) {
            self.end(vm, Ending::Killed);
        }
        Ok(())
    }

    async fn stop(&self, vm: &VmId, patience: Duration) -> Result<(), EngineError> {
        match self.observed(vm) {
            Observed::Missing | Observed::Off { .. } => return self.called(Verb::Stop, Some(vm)).await,
            Observed::Asleep { .. } => return Err(EngineError::NotRunning),
            Observed::Waking | Observed::Booting | Observed::Running | Observed::Stopping => {}
        }
        let deaf = {
            let mut table = self.table();
            if let Some(entry) = table.vms.get_mut(vm) {
                entry.observed = Observed::Stopping;
            }
            table.deaf
        };
        self.announce();
        self.called(Verb::Stop, Some(vm)).await?;
        if deaf {
            tokio::time::sleep(patience).await;
        }
        self.end(vm, if deaf { Ending::Killed } else { Ending::Stopped });
        Ok(())
    }

    async fn remove(&self, vm: &VmId) -> Result<(), EngineError> {
        self.called(Verb::Remove, Some(vm)).await?;
        if let Some(entry) = self.table().vms.remove(vm) {
            entry.boot.cancel();
        }
        self.announce();
        Ok(())
    }

    async fn rebuild(
        &self,
        vm: &VmId,
        spec: &VmSpec,
        guest: &Guest,
        home: Home,
        patience: Duration,
    ) -> Result<(), EngineError> {
        match self.observed(vm) {
            Observed::Missing => return Err(EngineError::Missing),
            Observed::Asleep { .. } | Observed::Waking if home == Home::Keep => {
                self.wake(vm, spec, guest).await?;
            }
            _ => {}
        }
        if home == Home::Keep {
            self.stop(vm, patience).await?;
        }
        self.called(Verb::Rebuild, Some(vm)).await?;
        let forks = self.table().forks;
        self.with(vm, |entry| {
            entry.boot.cancel();
            entry.observed =
                if forks { Observed::Asleep { called: false } } else { Observed::Off { ended: None } };
            entry.spec = spec.clone();
            entry.guest = None;
            entry.boot_log.clear();
            entry.rebuilt.push(home);
        });
        Ok(())
    }

    async fn grow(&self, vm: &VmId, spec: &VmSpec) -> Result<Grown, EngineError> {
        self.called(Verb::Grow, Some(vm)).await?;
        match self.observed(vm) {
            Observed::Missing => Err(EngineError::Missing),
            Observed::Running => {
                self.with(vm, |entry| entry.spec.disk = entry.spec.disk.max(spec.disk));
                Ok(Grown::Now)
            }
            _ => Ok(Grown::AtStart),
        }
    }

    async fn copy_disk(&self, vm: &VmId) -> Result<PathBuf, EngineError> {
        match self.observed(vm) {
            Observed::Missing => return Err(EngineError::Missing),
            Observed::Off { .. } | Observed::Running => {}
            _ => return Err(EngineError::NotRunning),
        }
        self.called(Verb::CopyDisk, Some(vm)).await?;
        Ok(PathBuf::from(format!("/nowhere/{vm}.qcow2")))
    }

    async fn replace_disk(&self, vm: &VmId, spec: &VmSpec, _from: &Path) -> Result<(), EngineError> {
        self.called(Verb::ReplaceDisk, Some(vm)).await?;
        let off = Observed::Off { ended: None };
        match self.observed(vm) {
            Observed::Missing => {
                self.create(vm, spec).await?;
                self.with(vm, |entry| entry.observed = off);
                Ok(())
            }
            Observed::Off { .. } => Ok(()),
            _ => Err(EngineError::InUse),
        }
    }

    async fn observe(&self, vm: &VmId) -> Result<Observed, EngineError> {
        self.called(Verb::Observe, Some(vm)).await?;
        Ok(self.observed(vm))
    }

    async fn changed(&self, vm: &VmId, known: &Observed) -> Result<Observed, EngineError> {
        let mut changes = self.shared.changes.subscribe();
        loop {
            if let Some(error) = self.table().failures.get(&Verb::Observe) {
                return Err(error.clone());
            }
            let observed = self.observed(vm);
            if observed != *known {
                return Ok(observed);
            }
            changes.changed().await.expect("the engine holds the sender");
        }
    }

    async fn list(&self) -> Result<Vec<VmId>, EngineError> {
        self.called(Verb::List, None).await?;
        Ok(self.table().vms.keys().copied().collect())
    }

    async fn set_authorized_keys(
        &self,
        vm: &VmId,
        authorized_keys: &str,
        others: &[GuestUser],
        host_certificate: &str,
    ) -> Result<(), EngineError> {
        self.called(Verb::SetAuthorizedKeys, Some(vm)).await?;
        if let Some(FakeVm { observed: Observed::Running | Observed::Booting, guest: Some(guest), .. }) =
            self.table().vms.get_mut(vm)
        {
            authorized_keys.clone_into(&mut guest.authorized_keys);
            others.clone_into(&mut guest.others);
            if !host_certificate.is_empty() {
                host_certificate.clone_into(&mut guest.host_certificate);
            }
        }
        Ok(())
    }

    async fn dial(&self, vm: &VmId, port: u16) -> Result<Box<dyn Stream>, EngineError> {
        self.called(Verb::Dial, Some(vm)).await?;
        let (service, boot) = {
            let table = self.table();
            match table.vms.get(vm) {
                None => return Err(EngineError::Missing),
                Some(FakeVm { observed: Observed::Running, boot, .. }) => {
                    (table.services.get(&port).cloned(), boot.clone())
                }
                Some(_) => return Err(EngineError::NotRunning),
            }
        };
        match service.map_or(Kind::Refuses, |service| service.0) {
            Kind::Refuses => Err(EngineError::Refused { port }),
            Kind::Silent => {
                tokio::time::sleep(SILENCE).await;
                Err(EngineError::TimedOut)
            }
            Kind::Serves(serve) => {
                let (ours, guests) = tokio::io::duplex(BUFFER);
                let serving = serve(guests);
                self.shared.tasks.spawn(async move {
                    tokio::select! {
                        () = serving => {}
                        () = boot.cancelled() => {}
                    }
                });
                Ok(Box::new(ours))
            }
        }
    }

    async fn usage(&self, vm: &VmId) -> Result<Usage, EngineError> {
        self.called(Verb::Usage, Some(vm)).await?;
        self.running(vm, |entry| entry.usage)
    }

    async fn leases(&self, vm: &VmId) -> Result<Vec<Lease>, EngineError> {
        self.called(Verb::Leases, Some(vm)).await?;
        self.running(vm, |entry| entry.leases.clone())
    }

    async fn listeners(&self, vm: &VmId) -> Result<Vec<Listener>, EngineError> {
        self.called(Verb::Listeners, Some(vm)).await?;
        let mut ports: Vec<_> = self.running(vm, |_| ()).map(|()| {
            self.table().services.keys().map(|port| Listener { port: *port, local: false }).collect()
        })?;
        ports.sort();
        Ok(ports)
    }

    async fn tell(&self, vm: &VmId, text: &str) -> Result<(), EngineError> {
        self.called(Verb::Tell, Some(vm)).await?;
        self.running(vm, |entry| entry.told.push(text.to_owned()))
    }

    async fn tidy(&self, vm: &VmId) -> Result<(), EngineError> {
        self.called(Verb::Tidy, Some(vm)).await?;
        self.running(vm, |_| ())
    }

    async fn room(&self) -> Result<Room, EngineError> {
        self.called(Verb::Room, None).await?;
        Ok(self.table().room)
    }

    async fn about(&self) -> Result<About, EngineError> {
        Ok(About { name: "an engine in memory".into(), emulated: false })
    }

    async fn boot_log(&self, vm: &VmId) -> Result<String, EngineError> {
        Ok(self.table().vms.get(vm).map(|vm| vm.boot_log.clone()).unwrap_or_default())
    }
}
