//! What owners decide about who may see what the ports of their VMs serve.

use berth_model::{SITE_PORT, VmName};
use berth_store::{AuditKind, MAX_PORTS, PortAccess, Scope};
use serde::{Deserialize, Serialize};

use crate::{
    access::{port_has_site, usual_access},
    acting::Acting,
    error::Error,
};

/// Who may see what one port of a VM serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortInfo {
    /// The port.
    pub port: u16,
    /// Who may see it.
    pub access: PortAccess,
    /// Nobody has decided it: it is as for every VM.
    pub usual: bool,
    /// The host name of its site.
    pub host: String,
}

impl Acting {
    /// Who may see which ports of a VM, by number: port 80, and all for which it was decided. Every other port is its
    /// owner's.
    ///
    /// # Errors
    /// There is no such VM; the store fails. Somebody else's VM is one that does not exist.
    pub async fn ports(&self, vm: &VmName) -> Result<Vec<PortInfo>, Error> {
        self.must_be_for_vm(Scope::VmsRead, vm)?;
        let handle = self.control.handle(vm).ok_or_else(|| Error::NoSuchVm(vm.to_string()))?;
        let decided = self.control.store.ports(handle.id).await?;
        let info = |port, access: Option<PortAccess>| PortInfo {
            port,
            access: access.unwrap_or(usual_access(port)),
            usual: access.is_none(),
            host: self.control.settings.domains.site(vm, port),
        };
        let mut ports: Vec<_> = decided.iter().map(|row| info(row.port, Some(row.access))).collect();
        if !decided.iter().any(|row| row.port == SITE_PORT) {
            ports.insert(0, info(SITE_PORT, None));
        }
        Ok(ports)
    }

    /// Decides who may see what a port of a VM serves, `None` for what is usual. What visitors have open of the VM ends
    /// by that; who still may comes back.
    ///
    /// # Errors
    /// The port has no site; too many ports of the VM are decided about; there is no such VM; the store fails. Somebody
    /// else's VM is one that does not exist.
    pub async fn set_port(&self, vm: &VmName, port: u16, access: Option<PortAccess>) -> Result<(), Error> {
        self.must_be_for_vm(Scope::VmsWrite, vm)?;
        let vm = vm.clone();
        self.to_the_end(|acting| async move { acting.try_set_port(&vm, port, access).await }).await
    }

    async fn try_set_port(&self, vm: &VmName, port: u16, access: Option<PortAccess>) -> Result<(), Error> {
        let control = &self.control;
        let handle = control.handle(vm).ok_or_else(|| Error::NoSuchVm(vm.to_string()))?;
        if !port_has_site(port) {
            return Err(Error::NoSite { port });
        }
        if !control.store.set_port(handle.id, port, access, control.settings.clock.now()).await? {
            return Err(Error::TooManyPorts { most: MAX_PORTS });
        }
        control.web.sites.revoke(&handle.id);
        let access = access.map_or("as usual", PortAccess::as_str);
        self.note_vm(AuditKind::VmPort, vm, &format!("{port}: {access}")).await;
        Ok(())
    }
}
