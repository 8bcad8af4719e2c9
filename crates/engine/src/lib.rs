//! The seam between Berth and whatever runs the VMs.
//!
//! Owns the vocabulary: what a VM is made of ([`VmSpec`]), what is put into its guest ([`Guest`]), what can be seen of
//! it ([`Observed`]) and the verbs that change it ([`Engine`]). Owns no process, no disk and no policy: who may start a
//! VM and when is decided in `berth-control`, how it is done in `berth-engine-qemu`.
//!
//! ```text
//!   control ── verbs ──► Engine ──► shim, QEMU, guest
//!           ◄─ Observed ─┘   (the only truth about a VM; never remembered, always asked)
//! ```
//!
//! Every verb is idempotent: saying it twice, or again after a crash, does no harm. One caller at a time speaks to one
//! VM (control's supervisor task); different VMs are spoken to at the same time.

mod capabilities;
mod error;
mod observed;
mod spec;
mod usage;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use async_trait::async_trait;
use berth_model::VmId;
use tokio::io::{AsyncRead, AsyncWrite};

pub use capabilities::{Capabilities, Sleep};
pub use error::EngineError;
pub use observed::{Ending, Observed};
pub use spec::{Grown, Guest, GuestUser, Home, VmSpec};
pub use usage::{About, Lease, Listener, Room, Usage};

/// A connection to a port of a VM. Half-closing works in both directions; dropping it closes both.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// What runs the VMs.
///
/// Dropping the future of a verb leaves the VM in a state that [`Engine::observe`] tells and the same verb can go on
/// from; nothing is undone by the drop.
#[async_trait]
pub trait Engine: Send + Sync + 'static {
    /// Makes what new VMs of this size are forked from, so that they need not boot; may take minutes. Does nothing when
    /// it is there, or where the engine knows no forks. Without it [`Engine::create`] makes VMs that boot.
    async fn prepare(&self, spec: &VmSpec) -> Result<(), EngineError>;

    /// Makes the VM from the image: asleep, where it can be forked, and otherwise off. Does nothing when it is there.
    async fn create(&self, vm: &VmId, spec: &VmSpec) -> Result<(), EngineError>;

    /// Has the VM run and puts `guest` into it: wakes it if it is asleep, boots it if it is off. Returns when it can be
    /// connected to. Does nothing when it runs. A disk that is smaller than `spec` says grows.
    ///
    /// On an error nothing of the VM is running any more. Its disk is as the guest left it, and a sleep as it was: one
    /// that cannot be woken ([`EngineError::WakeFailed`]) is never given up unasked. A woken guest has the right time.
    async fn start(&self, vm: &VmId, spec: &VmSpec, guest: &Guest) -> Result<(), EngineError>;

    /// Puts a running VM to sleep: memory, processes and connections are kept, and nothing of it runs. Does nothing when
    /// it is asleep.
    ///
    /// # Errors
    /// [`EngineError::InUse`] when a connection arrived in this moment: it runs on. [`EngineError::NotRunning`] when it
    /// is off or boots. On any other error it runs on, too.
    async fn sleep(&self, vm: &VmId) -> Result<(), EngineError>;

    /// Gives up what a sleeping VM has in its memory, as pulling the plug does: it is off, and the next start boots it.
    /// Does nothing when it is not asleep.
    async fn forget_sleep(&self, vm: &VmId) -> Result<(), EngineError>;

    /// Asks the guest to shut down and waits up to `patience`; then ends it as pulling the plug would. Does nothing
    /// when it is off. One that is asleep must be woken first, or it is [`EngineError::NotRunning`].
    async fn stop(&self, vm: &VmId, patience: Duration) -> Result<(), EngineError>;

    /// Ends the VM if it runs, and deletes its disk and its sleep. Does nothing when there is none.
    async fn remove(&self, vm: &VmId) -> Result<(), EngineError>;

    /// Gives the VM a new disk from the present image, of the size of `spec`. It is off or asleep afterwards, as one that
    /// was just made, and everything that it was doing is over.
    ///
    /// Where its home is kept it is shut down first, within `patience`, and woken for that if it sleeps: what its programs
    /// have not saved is lost, and no file. Else nothing of it is asked.
    ///
    /// # Errors
    /// On any error its disk is the one that it had: where its home was to be kept it may be off, and has lost nothing
    /// else. [`EngineError::WakeFailed`] as [`Engine::start`]; [`EngineError::Missing`] where it has no disk;
    /// [`EngineError::NoRoom`] before anything is done to it.
    async fn rebuild(
        &self,
        vm: &VmId,
        spec: &VmSpec,
        guest: &Guest,
        home: Home,
        patience: Duration,
    ) -> Result<(), EngineError>;

    /// Makes the disk of a running VM as large as `spec` says, and its file system with it; tells when the guest has the
    /// room. One that does not run gets it from [`Engine::start`]. A disk is never made smaller.
    async fn grow(&self, vm: &VmId, spec: &VmSpec) -> Result<Grown, EngineError>;

    /// Copies the disk of a VM that runs or is off, as it is at one moment, into a file of the engine's own that needs no
    /// other one, and tells where. Whoever asked takes it away; the next copy replaces it. The file systems of a guest that
    /// runs stand still for that moment, where its agent does that; else it is as after a power cut. It runs on meanwhile,
    /// and does not sleep.
    ///
    /// One that is off must not be started meanwhile: drop the future first, which gives the copy up.
    ///
    /// # Errors
    /// [`EngineError::NotRunning`] for one that sleeps, or is on its way to something; [`EngineError::NoRoom`].
    async fn copy_disk(&self, vm: &VmId) -> Result<PathBuf, EngineError>;

    /// Gives a VM that is off, or has lost its disk, a copy of the disk in this file, which is as [`Engine::copy_disk`] makes
    /// them and may be anything. It grows at the next start where it is smaller than `spec` says.
    ///
    /// # Errors
    /// [`EngineError::Unfit`] for a file that is no such disk, or a larger one; [`EngineError::InUse`] for a VM that is not
    /// off. On any error its disk is the one that it had.
    async fn replace_disk(&self, vm: &VmId, spec: &VmSpec, from: &Path) -> Result<(), EngineError>;

    /// What the VM is doing right now.
    async fn observe(&self, vm: &VmId) -> Result<Observed, EngineError>;

    /// Waits until [`Engine::observe`] would give something else than `known`, and gives that.
    ///
    /// Sees what the guest does by itself: `poweroff`, `reboot`, a crash; and that a sleeping VM is called.
    async fn changed(&self, vm: &VmId, known: &Observed) -> Result<Observed, EngineError>;

    /// Every VM of which the engine has a disk or a process.
    async fn list(&self) -> Result<Vec<VmId>, EngineError>;

    /// Replaces the account's keys in a running guest, who is let in beside, and the certificate of its host key where one is
    /// given, and what a later reboot in the guest gives it. Whoever is let in no more is locked, and what they run ends; their home stays. A VM that is off or asleep takes
    /// all that at its next start, so this does nothing there.
    async fn set_authorized_keys(
        &self,
        vm: &VmId,
        authorized_keys: &str,
        others: &[GuestUser],
        host_certificate: &str,
    ) -> Result<(), EngineError>;

    /// Opens a connection to a TCP port of a running VM, or says why not.
    async fn dial(&self, vm: &VmId, port: u16) -> Result<Box<dyn Stream>, EngineError>;

    /// What a running VM has used since it last began to run. [`EngineError::NotRunning`] for any other.
    async fn usage(&self, vm: &VmId) -> Result<Usage, EngineError>;

    /// What programs in a running guest hold it awake for; asks the guest, which may take a second and may lie.
    async fn leases(&self, vm: &VmId) -> Result<Vec<Lease>, EngineError>;

    /// On which TCP ports programs in a running guest listen, by number and at most 64; asks the guest, which may take a
    /// second and may lie.
    async fn listeners(&self, vm: &VmId) -> Result<Vec<Listener>, EngineError>;

    /// Shows a line of text, without control characters, on every terminal in a running guest.
    async fn tell(&self, vm: &VmId, text: &str) -> Result<(), EngineError>;

    /// Has a running guest give back memory that it can do without, so that its sleep is small. Takes some seconds, in
    /// which the guest runs on. Best effort.
    async fn tidy(&self, vm: &VmId) -> Result<(), EngineError>;

    /// What there is for VMs on this host.
    async fn room(&self) -> Result<Room, EngineError>;

    /// In what its VMs differ from those of other engines.
    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    /// What it is. May take some seconds the first time.
    async fn about(&self) -> Result<About, EngineError>;

    /// The end of what the VM's console printed since its last start: at most 64 KiB, control characters removed but
    /// for line ends. Empty when it never ran.
    async fn boot_log(&self, vm: &VmId) -> Result<String, EngineError>;
}
