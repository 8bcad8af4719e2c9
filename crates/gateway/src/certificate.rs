//! The gateway's own certificate: signed at its start, and again when the host CA changes.

use std::sync::Arc;

use berth_control::{Control, HostCaChanges};
use tokio::sync::watch;

use crate::{
    host_key::HostKey,
    settings::GatewaySettings,
    ssh::{self, Config},
};

/// What makes the gateway's part of an ssh connection.
pub(crate) struct Identity {
    control: Arc<Control>,
    key: HostKey,
    names: Vec<String>,
    old_algorithms: bool,
    tries: usize,
    changes: HostCaChanges,
}

impl Identity {
    pub(crate) fn new(control: Arc<Control>, key: HostKey, settings: &GatewaySettings) -> Self {
        let names = std::iter::once(&settings.host).chain(&settings.other_names).cloned().collect();
        // From before the first certificate, so that no change is missed.
        let changes = control.host_ca_changes();
        let (old_algorithms, tries) = (settings.old_algorithms, settings.limits.login_tries);
        Self { control, key, names, old_algorithms, tries, changes }
    }

    /// What a connection that begins now is served with. Without a certificate the key has to do.
    pub(crate) fn config(&self) -> Arc<Config> {
        let certificate = self.control.gateway_certificate(&self.key.public_line(), &self.names);
        Arc::new(ssh::config(&self.key, certificate.as_deref(), self.old_algorithms, self.tries))
    }

    /// Keeps `configs` as it has to be, for ever.
    pub(crate) async fn follow(mut self, configs: watch::Sender<Arc<Config>>) {
        loop {
            self.changes.changed().await;
            configs.send_replace(self.config());
        }
    }
}
