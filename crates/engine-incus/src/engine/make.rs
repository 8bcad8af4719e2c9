//! How a VM is made, and made anew: beside what it is, under another name, and then in its place.
//!
//! ```text
//!   berth-<id>-anew   made ──► whole
//!   berth-<id>                   └─► deleted ──► the whole one is renamed to it
//! ```
//!
//! Whatever is interrupted there, the next verb for the VM finds by the names and finishes or deletes.

use std::{collections::HashMap, time::Duration};

use berth_engine::{EngineError, Home, VmSpec};
use berth_model::VmId;
use hyper::Method;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{IncusEngine, Kind};
use crate::{
    error::IncusError,
    instance::{self, DISK, MADE, VM},
};

/// An image may have to be brought to the member first.
const MADE_WITHIN: Duration = Duration::from_secs(300);
const RENAMED_WITHIN: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(200);

impl IncusEngine {
    /// See [`berth_engine::Engine::create`].
    pub(super) async fn make(&self, vm: &VmId, spec: &VmSpec) -> Result<(), EngineError> {
        self.settle(vm).await?;
        let name = instance::name(vm);
        self.make_instance(vm, &name, spec, None).await?;
        self.mark_whole(vm, &name).await
    }

    async fn mark_whole(&self, vm: &VmId, name: &str) -> Result<(), EngineError> {
        self.note_down(name, &[(MADE, "1")]).await?;
        self.note(vm).change();
        Ok(())
    }

    /// Makes an instance, unless it is there and whole; what is there and not whole is made anew. It is not whole yet.
    async fn make_instance(
        &self,
        vm: &VmId,
        name: &str,
        spec: &VmSpec,
        member: Option<&str>,
    ) -> Result<(), EngineError> {
        let deadline = Instant::now() + MADE_WITHIN;
        loop {
            match self.instance(name).await? {
                Some(instance) if instance.is_whole(vm) => return Ok(()),
                Some(_) if self.is_being_made(name).await? && Instant::now() < deadline => {
                    sleep(LOOK_EVERY).await;
                    continue;
                }
                Some(_) => self.delete(name).await?,
                None => {}
            }
            let query: Vec<_> = member.map(|member| ("target", member)).into_iter().collect();
            let path = self.client.path("/instances", &query);
            let made =
                self.client.act(Method::POST, &path, &self.description(vm, name, spec), MADE_WITHIN).await;
            match made {
                Ok(()) => return Ok(()),
                // Somebody who is gone had asked for it.
                Err(IncusError::Refused(said))
                    if said.contains("UNIQUE constraint") && Instant::now() < deadline =>
                {
                    sleep(LOOK_EVERY).await;
                }
                Err(IncusError::Refused(said)) if said.contains("fingerprint") || said.contains("image") => {
                    return Err(EngineError::Broken {
                        reason: format!(
                            "the cluster has no image {}: run berth image build",
                            self.config.image
                        ),
                    });
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Whether an operation on an instance is under way.
    async fn is_being_made(&self, name: &str) -> Result<bool, IncusError> {
        let path = self.client.path("/operations", &[("recursion", "1")]);
        let operations: Value = self.client.look(&path).await?;
        let path = format!("/1.0/instances/{name}");
        let on_it = |operation: &Value| {
            let instances = operation.pointer("/resources/instances").and_then(Value::as_array);
            instances.is_some_and(|instances| {
                instances.iter().filter_map(Value::as_str).any(|at| at.split('?').next() == Some(&path))
            })
        };
        let running = operations.get("running").and_then(Value::as_array);
        Ok(running.is_some_and(|running| running.iter().any(on_it)))
    }

    fn description(&self, vm: &VmId, name: &str, spec: &VmSpec) -> Value {
        // Without Berth nobody provisions it, so nothing but Berth starts it.
        let mut config = vec![(VM, vm.to_string()), ("boot.autostart", "false".to_owned())];
        config.extend(self.limits(spec));
        if self.config.kind == Kind::Vm {
            config.push(("migration.stateful", "true".to_owned()));
        }
        let config: HashMap<_, _> = config.into_iter().collect();
        json!({
            "name": name,
            "type": self.config.kind.word(),
            "profiles": self.config.profiles,
            "config": config,
            "devices": { "root": self.root(spec.disk) },
            "source": { "type": "image", "alias": self.config.image },
        })
    }

    /// The keys of a VM's size.
    pub(super) fn limits(&self, spec: &VmSpec) -> [(&'static str, String); 3] {
        [
            ("limits.cpu", spec.cpus.to_string()),
            ("limits.memory", spec.memory.to_string()),
            (DISK, spec.disk.to_string()),
        ]
    }

    /// The device of its disk.
    pub(super) fn root(&self, bytes: u64) -> Value {
        json!({ "type": "disk", "path": "/", "pool": self.config.pool, "size": bytes.to_string() })
    }

    /// See [`berth_engine::Engine::rebuild`]. When this future is dropped, the next verb for the VM finishes what it has begun,
    /// or gives it up.
    pub(super) async fn make_anew(
        &self,
        vm: &VmId,
        spec: &VmSpec,
        home: Home,
        patience: Duration,
    ) -> Result<(), EngineError> {
        self.settle(vm).await?;
        let (name, anew) = (instance::name(vm), instance::name_anew(vm));
        let Some(instance) = self.whole(vm).await? else { return Err(EngineError::Missing) };
        // Beside the old one: its machine has the room, or it is told before anything is done.
        let made = async {
            self.make_instance(vm, &anew, spec, Some(&instance.location)).await?;
            if home == Home::Keep {
                self.take_home(vm, patience).await?;
            }
            self.mark_whole(vm, &anew).await
        };
        if let Err(error) = made.await {
            if let Err(error) = self.delete(&anew).await {
                tracing::warn!(%vm, %error, "what was to be its new disk is not deleted yet");
            }
            return Err(error);
        }
        self.delete(&name).await?;
        self.put_in_place(&anew, &name).await?;
        self.notes.forget(vm);
        Ok(())
    }

    /// Finishes or deletes what a making anew has left that was interrupted.
    pub(super) async fn settle(&self, vm: &VmId) -> Result<(), EngineError> {
        let (name, anew) = (instance::name(vm), instance::name_anew(vm));
        let Some(leftover) = self.instance(&anew).await? else { return Ok(()) };
        if !leftover.is_whole(vm) || self.instance(&name).await?.is_some() {
            tracing::info!(%vm, "a rebuild that was interrupted is given up");
            self.delete(&anew).await?;
        } else {
            tracing::info!(%vm, "its new disk is put into its place");
            self.put_in_place(&anew, &name).await?;
        }
        Ok(())
    }

    async fn put_in_place(&self, from: &str, to: &str) -> Result<(), IncusError> {
        let path = self.path(from, "");
        self.client.act(Method::POST, &path, &json!({ "name": to }), RENAMED_WITHIN).await
    }
}
