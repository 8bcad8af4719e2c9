//! What is done in the guest of a VM that runs.

use std::time::Duration;

use berth_engine::{EngineError, Guest, GuestUser, Observed};
use berth_model::{Secret, VmId};

use super::IncusEngine;
use crate::instance::{self, USER};

/// A script that asks or tells something.
const SCRIPT_WITHIN: Duration = Duration::from_secs(15);

impl IncusEngine {
    /// Runs a script, and gives what it prints.
    pub(super) async fn ask_guest(&self, vm: &VmId, script: &str) -> Result<String, EngineError> {
        self.running(vm).await?;
        self.have_run(vm, script).await
    }

    async fn have_run(&self, vm: &VmId, script: &str) -> Result<String, EngineError> {
        let ran = self.client.run(&instance::name(vm), script, SCRIPT_WITHIN).await?;
        if ran.status == 0 {
            return Ok(ran.stdout);
        }
        tracing::warn!(%vm, status = ran.status, said = ran.stderr, "a script failed in a guest");
        Err(EngineError::Broken { reason: "its guest does not do what it is asked".to_owned() })
    }

    /// See [`berth_engine::Engine::set_authorized_keys`].
    pub(super) async fn put_keys(
        &self,
        vm: &VmId,
        authorized_keys: &str,
        others: &[GuestUser],
        host_certificate: &str,
    ) -> Result<(), EngineError> {
        let (Observed::Running | Observed::Booting, Some(instance)) = self.seen(vm).await? else {
            return Ok(());
        };
        // One that boots for the first time takes what it is started with.
        let Ok(user) = instance.key(USER).parse() else { return Ok(()) };
        let guest = Guest {
            hostname: String::new(),
            names: vec![],
            user,
            authorized_keys: authorized_keys.to_owned(),
            others: others.to_vec(),
            host_key: Secret::new(String::new()),
            host_certificate: host_certificate.to_owned(),
        };
        self.have_run(vm, &berth_guest::keys_script(&guest)).await.map(drop)
    }
}
