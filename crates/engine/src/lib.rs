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

mod error;
mod observed;
mod spec;

use std::time::Duration;

use async_trait::async_trait;
use berth_model::VmId;
use tokio::io::{AsyncRead, AsyncWrite};

pub use error::EngineError;
pub use observed::{Ending, Observed};
pub use spec::{Guest, VmSpec};

/// A connection to a port of a VM. Half-closing works in both directions; dropping it closes both.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// What runs the VMs.
///
/// Dropping the future of a verb leaves the VM in a state that [`Engine::observe`] tells and the same verb can go on
/// from; nothing is undone by the drop.
#[async_trait]
pub trait Engine: Send + Sync + 'static {
    /// Makes the VM's disk from the image. Does nothing when it is there.
    async fn create(&self, vm: &VmId, spec: &VmSpec) -> Result<(), EngineError>;

    /// Starts the VM and puts `guest` into it; returns when the VM answers ssh on port 22. Does nothing when it runs.
    ///
    /// On an error nothing of the VM is running any more and its disk is as the guest left it.
    async fn start(&self, vm: &VmId, spec: &VmSpec, guest: &Guest) -> Result<(), EngineError>;

    /// Asks the guest to shut down and waits up to `patience`; then ends it as pulling the plug would. Does nothing
    /// when it is off.
    async fn stop(&self, vm: &VmId, patience: Duration) -> Result<(), EngineError>;

    /// Ends the VM if it runs and deletes its disk. Does nothing when there is none.
    async fn remove(&self, vm: &VmId) -> Result<(), EngineError>;

    /// What the VM is doing right now.
    async fn observe(&self, vm: &VmId) -> Result<Observed, EngineError>;

    /// Waits until [`Engine::observe`] would give something else than `known`, and gives that.
    ///
    /// Sees what the guest does by itself: `poweroff`, `reboot`, a crash.
    async fn changed(&self, vm: &VmId, known: &Observed) -> Result<Observed, EngineError>;

    /// Every VM of which the engine has a disk or a process.
    async fn list(&self) -> Result<Vec<VmId>, EngineError>;

    /// Replaces the account's keys in a running guest, and what a later reboot in the guest gives it. A VM that is off
    /// takes them at its next start, so this does nothing there.
    async fn set_authorized_keys(&self, vm: &VmId, authorized_keys: &str) -> Result<(), EngineError>;

    /// Opens a connection to a TCP port of a running VM, or says why not.
    async fn dial(&self, vm: &VmId, port: u16) -> Result<Box<dyn Stream>, EngineError>;

    /// The end of what the VM's console printed since its last start: at most 64 KiB, control characters removed but
    /// for line ends. Empty when it never ran.
    async fn boot_log(&self, vm: &VmId) -> Result<String, EngineError>;
}
