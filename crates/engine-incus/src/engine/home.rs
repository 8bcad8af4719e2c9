//! How a VM that is made anew keeps its home: while nobody's programs run in either, an archive goes from the old one to the
//! new one.

use std::time::Duration;

use berth_engine::{EngineError, Observed};
use berth_model::VmId;

use super::{IncusEngine, begin::AWAIT_SYSTEMD};
use crate::{
    error::IncusError,
    instance::{self, Doing, ENDED, READY, STOPPED, USER},
};

/// A home of some tens of gigabytes.
const COPIED_WITHIN: Duration = Duration::from_secs(3600);
const STARTS_WITHIN: Duration = Duration::from_secs(60);
const STOPS_WITHIN: Duration = Duration::from_secs(30);
/// Everything below `/home` to the output. Its exit statuses are those of `berth_guest::why_no_home`.
const PACK: &str = "[ -d /home ] && [ ! -h /home ] || exit 14
if line=$(grep \"^$user:\" /etc/passwd); then
    case $line in *:/home/*:*) ;; *) exit 13 ;; esac
fi
exec tar -C /home --numeric-owner --xattrs --xattrs-include='*' --acls --sparse -cf - .
";
/// Everything below `/home` from the input.
const UNPACK: &str = "rm -rf /home
mkdir /home
tar -C /home --numeric-owner --xattrs --xattrs-include='*' --acls -xpf - || exit 15
sync
";

impl IncusEngine {
    /// Has what is to be the VM take over its home. The VM is off afterwards.
    pub(super) async fn take_home(&self, vm: &VmId, patience: Duration) -> Result<(), EngineError> {
        let (name, anew) = (instance::name(vm), instance::name_anew(vm));
        self.put_off(vm, patience).await?;
        let _deed = self.note(vm).begin(Doing::Booting);
        // Nobody is let into a guest that is not provisioned, so nothing of a member runs in it.
        self.note_down(&name, &[(READY, ""), (ENDED, STOPPED)]).await?;
        let user = self.whole(vm).await?.ok_or(EngineError::Missing)?.key(USER).to_owned();
        for name in [&name, &anew] {
            self.change_state(name, "start", false, STARTS_WITHIN).await?;
            self.client.run(name, AWAIT_SYSTEMD, STARTS_WITHIN).await?;
        }
        let pack = format!("user='{}'\n{PACK}", user.replace('\'', ""));
        let (packed, unpacked) = self.client.pipe((&name, &pack), (&anew, UNPACK), COPIED_WITHIN).await?;
        for name in [&name, &anew] {
            self.stop_now(name).await?;
        }
        match [packed, unpacked].into_iter().find(|ended| ended.status != 0) {
            None => Ok(()),
            Some(ended) => {
                tracing::warn!(%vm, status = ended.status, said = ended.stderr, "a home is not copied");
                Err(EngineError::Broken { reason: berth_guest::why_no_home(ended.status).to_owned() })
            }
        }
    }

    /// Shuts the VM down, within `patience`; one that sleeps goes on for that.
    async fn put_off(&self, vm: &VmId, patience: Duration) -> Result<(), EngineError> {
        let name = instance::name(vm);
        if matches!(self.seen(vm).await?.0, Observed::Asleep { .. } | Observed::Waking) {
            self.rouse(&name).await?;
            self.note(vm).awoke();
        }
        match self.ask_to_end(vm, patience).await {
            Err(EngineError::NotRunning) => {
                Err(EngineError::WakeFailed { reason: "it does not wake to be shut down".to_owned() })
            }
            ended => ended,
        }
    }

    async fn stop_now(&self, name: &str) -> Result<(), IncusError> {
        match self.change_state(name, "stop", false, STOPS_WITHIN).await {
            Err(IncusError::Refused(_) | IncusError::TimedOut(_) | IncusError::Busy) => self.cut(name).await,
            ended => ended,
        }
    }
}
