//! Who may see what the ports of VMs serve, where somebody has decided that.

use berth_model::{VmId, VmName};
use time::OffsetDateTime;

use crate::{
    Store, StoreError,
    convert::{number, text, time, to_millis},
    sql,
    words::words,
};

/// For so many ports of a VM it can be decided.
pub const MAX_PORTS: usize = 64;

words! {
    /// Who may see what a port serves.
    PortAccess {
        /// Everybody.
        Public = "public",
        /// The accounts of the VM's team.
        Team = "team",
        /// The VM's owner.
        Owner = "owner",
    }
}

/// What was decided for one port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRow {
    /// The port.
    pub port: u16,
    /// Who may see it.
    pub access: PortAccess,
    /// Since when.
    pub set_at: OffsetDateTime,
}

/// One port of a VM that is neither removed nor being removed, of an account that is neither removed nor blocked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SiteRow {
    /// The VM.
    pub vm: VmId,
    /// What was decided for the port, if anything.
    pub access: Option<PortAccess>,
}

impl Store {
    /// What there is of a port of a VM; `None` where there is no such VM for anybody to see.
    ///
    /// # Errors
    /// Only those of the database itself.
    pub async fn site(&self, vm: &VmName, port: u16) -> Result<Option<SiteRow>, StoreError> {
        let row: Option<(String, Option<String>)> = sql::query_as(
            "SELECT vms.id, port_access.access FROM vms
             JOIN accounts ON accounts.name = vms.owner
             LEFT JOIN port_access ON port_access.vm = vms.id AND port_access.port = $4
             WHERE vms.owner = $1 AND vms.team = $2 AND vms.number = $3 AND vms.removing_at IS NULL
               AND accounts.removed_at IS NULL AND accounts.blocked_at IS NULL",
        )
        .bind(vm.owner.as_str())
        .bind(vm.team.as_str())
        .bind(i64::from(vm.number.0))
        .bind(i64::from(port))
        .fetch_optional(self.reader())
        .await?;
        let Some((vm, access)) = row else { return Ok(None) };
        let access = access.map(|access| text("access of a port", &access)).transpose()?;
        Ok(Some(SiteRow { vm: text("VM's id", &vm)?, access }))
    }

    /// What was decided for the ports of a VM, in their order.
    ///
    /// # Errors
    /// Only those of the database itself.
    pub async fn ports(&self, vm: VmId) -> Result<Vec<PortRow>, StoreError> {
        let rows: Vec<(i64, String, i64)> =
            sql::query_as("SELECT port, access, set_at FROM port_access WHERE vm = $1 ORDER BY port")
                .bind(vm.to_string())
                .fetch_all(self.reader())
                .await?;
        let read = |(port, access, set_at): (i64, String, i64)| {
            Ok(PortRow {
                port: number("port", port)?,
                access: text("access of a port", &access)?,
                set_at: time("set_at of a port", set_at)?,
            })
        };
        rows.into_iter().map(read).collect()
    }

    /// Decides for a port of a VM; with `None`, what holds without a decision. Gives `false`, and does nothing, where the
    /// VM has [`MAX_PORTS`] others, or is removed.
    ///
    /// # Errors
    /// [`StoreError::Database`] for a port that has no site.
    pub async fn set_port(
        &self,
        vm: VmId,
        port: u16,
        access: Option<PortAccess>,
        at: OffsetDateTime,
    ) -> Result<bool, StoreError> {
        let mut tx = self.write().await?;
        // Raising the generation is the lock that keeps two decisions apart.
        let found =
            sql::query("UPDATE vms SET generation = generation + 1 WHERE id = $1 AND removing_at IS NULL")
                .bind(vm.to_string())
                .execute(&mut tx)
                .await?;
        if found.rows_affected() == 0 {
            return Ok(false);
        }
        sql::query("DELETE FROM port_access WHERE vm = $1 AND port = $2")
            .bind(vm.to_string())
            .bind(i64::from(port))
            .execute(&mut tx)
            .await?;
        if let Some(access) = access {
            let others: i64 = sql::query_scalar("SELECT COUNT(*) FROM port_access WHERE vm = $1")
                .bind(vm.to_string())
                .fetch_one(&mut tx)
                .await?;
            if usize::try_from(others).unwrap_or(usize::MAX) >= MAX_PORTS {
                return Ok(false);
            }
            sql::query("INSERT INTO port_access (vm, port, access, set_at) VALUES ($1, $2, $3, $4)")
                .bind(vm.to_string())
                .bind(i64::from(port))
                .bind(access.as_str())
                .bind(to_millis(at))
                .execute(&mut tx)
                .await?;
        }
        tx.commit().await?;
        Ok(true)
    }
}
