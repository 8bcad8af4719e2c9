//! Which ports of VMs everybody may see, as it was last asked of the store: a busy site asks some thousand times a second.
//!
//! What is known here holds as long as the switch that ends visits, which is thrown by whatever could change it: a decision about
//! a port, the removal or the block of a VM's owner, the removal of the VM. Another server throws no switch of this one, so
//! nothing here counts where this server does not decide.
//!
//! Concurrency: one lock, held for a look.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use berth_model::VmId;

use crate::revocation::Revocation;

/// As many are known. Where there are more, they are asked for again.
const MOST: usize = 4096;

/// See the module.
#[derive(Default)]
pub(crate) struct PublicSites(Mutex<HashMap<(VmId, u16), Revocation>>);

impl PublicSites {
    /// The switch of a visit, if everybody may see the port.
    pub(crate) fn known(&self, vm: VmId, port: u16) -> Option<Revocation> {
        self.lock().get(&(vm, port)).filter(|decided| !decided.is_revoked()).cloned()
    }

    /// Everybody may see the port until `decided`, which is from before the store was asked.
    pub(crate) fn note(&self, vm: VmId, port: u16, decided: &Revocation) {
        let mut known = self.lock();
        if known.len() >= MOST {
            known.retain(|_, decided| !decided.is_revoked());
        }
        if known.len() < MOST {
            known.insert((vm, port), decided.clone());
        }
    }

    /// Asks for everything again.
    pub(crate) fn forget(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(VmId, u16), Revocation>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::revocation::Revocations;

    #[test]
    fn what_is_known_ends_with_its_switch_and_is_bounded() {
        let (sites, switches) = (PublicSites::default(), Revocations::<VmId>::default());
        let [one, other] = [VmId::random(), VmId::random()];
        assert!(sites.known(one, 80).is_none());
        for vm in [one, other] {
            sites.note(vm, 80, &switches.of(&vm));
        }
        let visit = sites.known(one, 80).expect("noted");
        assert!(sites.known(one, 81).is_none());
        let before = switches.of(&one);
        switches.revoke(&one);
        assert!(visit.is_revoked() && sites.known(one, 80).is_none() && sites.known(other, 80).is_some());
        // Somebody who had asked the store before.
        sites.note(one, 80, &before);
        assert!(sites.known(one, 80).is_none());
        for port in 0..=u16::MAX {
            sites.note(other, port, &switches.of(&other));
        }
        assert_eq!(sites.lock().len(), MOST);
        switches.revoke(&other);
        sites.note(one, 80, &switches.of(&one));
        assert_eq!(sites.lock().len(), 1);
        sites.forget();
        assert!(sites.known(one, 80).is_none());
    }
}
