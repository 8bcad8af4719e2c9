//! How a VM comes to stand still: asleep, off, or gone.

use std::time::Duration;

use berth_engine::{EngineError, Observed};
use berth_model::VmId;
use hyper::Method;
use serde_json::json;
use tokio::time::Instant;

use super::{IncusEngine, Kind};
use crate::{
    error::IncusError,
    instance::{self, Doing, ENDED, KILLED, STOPPED},
};

/// A container stands still at once; a VM's memory is written to a disk.
const SLEEPS_WITHIN: Duration = Duration::from_secs(120);
/// Pulling the plug.
const CUT_WITHIN: Duration = Duration::from_secs(30);
const REMOVED_WITHIN: Duration = Duration::from_secs(120);

impl IncusEngine {
    /// See [`berth_engine::Engine::sleep`].
    pub(super) async fn put_to_sleep(&self, vm: &VmId) -> Result<(), EngineError> {
        match self.observed_settled(vm).await? {
            Observed::Missing => Err(EngineError::Missing),
            Observed::Asleep { .. } => Ok(()),
            Observed::Running => {
                let note = self.note(vm);
                // From before it stands still: what is sent in between, it may not have read.
                note.fell_asleep();
                match self.lay_down(&instance::name(vm)).await {
                    Ok(()) => Ok(()),
                    Err(error) => {
                        note.awoke();
                        Err(error.into())
                    }
                }
            }
            _ => Err(EngineError::NotRunning),
        }
    }

    pub(super) async fn lay_down(&self, name: &str) -> Result<(), IncusError> {
        match self.config.kind {
            Kind::Container => self.change_state(name, "freeze", false, SLEEPS_WITHIN).await,
            Kind::Vm => self.change_state(name, "stop", true, SLEEPS_WITHIN).await,
        }
    }

    async fn observed_settled(&self, vm: &VmId) -> Result<Observed, EngineError> {
        self.settle(vm).await?;
        Ok(self.seen(vm).await?.0)
    }

    /// See [`berth_engine::Engine::forget_sleep`].
    pub(super) async fn give_up_sleep(&self, vm: &VmId) -> Result<(), EngineError> {
        let name = instance::name(vm);
        let Some(instance) = self.whole(vm).await?.filter(instance::Instance::is_asleep) else {
            return Ok(());
        };
        let _deed = self.note(vm).begin(Doing::Stopping);
        match self.config.kind {
            Kind::Container => self.cut(&name).await?,
            // One that is off with its memory kept forgets that by its configuration.
            Kind::Vm => {
                let change = json!({ "stateful": !instance.stateful });
                self.client.set(Method::PATCH, &self.path(&name, ""), &change).await?;
            }
        }
        self.note_down(&name, &[(ENDED, KILLED)]).await?;
        self.note(vm).awoke();
        Ok(())
    }

    /// See [`berth_engine::Engine::stop`].
    pub(super) async fn shut_down(&self, vm: &VmId, patience: Duration) -> Result<(), EngineError> {
        self.settle(vm).await?;
        self.ask_to_end(vm, patience).await
    }

    /// As [`Self::shut_down`], also in the middle of a making anew.
    pub(super) async fn ask_to_end(&self, vm: &VmId, patience: Duration) -> Result<(), EngineError> {
        match self.seen(vm).await?.0 {
            Observed::Missing | Observed::Off { .. } => return Ok(()),
            Observed::Asleep { .. } | Observed::Waking => return Err(EngineError::NotRunning),
            Observed::Booting | Observed::Running | Observed::Stopping => {}
        }
        let name = instance::name(vm);
        let _deed = self.note(vm).begin(Doing::Stopping);
        let ended = match self.change_state(&name, "stop", false, patience).await {
            Ok(()) => STOPPED,
            Err(error @ (IncusError::Refused(_) | IncusError::TimedOut(_) | IncusError::Busy)) => {
                tracing::info!(%vm, %error, "a guest does not shut down: its plug is pulled");
                self.cut(&name).await?;
                KILLED
            }
            Err(error) => return Err(error.into()),
        };
        self.note_down(&name, &[(ENDED, ended)]).await?;
        Ok(())
    }

    /// Ends an instance as pulling the plug does. Does nothing where it is off or missing.
    pub(super) async fn cut(&self, name: &str) -> Result<(), IncusError> {
        let deadline = Instant::now() + CUT_WITHIN;
        loop {
            match self.instance(name).await? {
                None => return Ok(()),
                Some(instance) if instance.is_off() => return Ok(()),
                Some(instance) if instance.stateful => return Ok(()),
                Some(_) => {}
            }
            let body = json!({ "action": "stop", "force": true, "timeout": CUT_WITHIN.as_secs() });
            match self.client.act(Method::PUT, &self.path(name, "/state"), &body, CUT_WITHIN).await {
                Err(IncusError::Busy | IncusError::Refused(_)) if Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                Err(IncusError::Missing) | Ok(()) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// See [`berth_engine::Engine::remove`].
    pub(super) async fn unmake(&self, vm: &VmId) -> Result<(), EngineError> {
        for name in [instance::name_anew(vm), instance::name(vm)] {
            self.delete(&name).await?;
        }
        self.notes.forget(vm);
        Ok(())
    }

    /// Deletes an instance, if there is one, whatever it does.
    pub(super) async fn delete(&self, name: &str) -> Result<(), IncusError> {
        let deadline = Instant::now() + REMOVED_WITHIN;
        loop {
            self.cut(name).await?;
            let deleted =
                self.client.act(Method::DELETE, &self.path(name, ""), &json!({}), REMOVED_WITHIN).await;
            match deleted {
                Ok(()) | Err(IncusError::Missing) => return Ok(()),
                // It is being made, or somebody who is gone deletes it already.
                Err(IncusError::Busy | IncusError::Refused(_)) if Instant::now() < deadline => {
                    if self.instance(name).await?.is_none() {
                        return Ok(());
                    }
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                Err(error) => return Err(error),
            }
        }
    }
}
