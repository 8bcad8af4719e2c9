//! VMs on one machine: a QEMU process each, owned by a shim.
//!
//! ```text
//!   berth serve                            berth vm-shim (one a VM)
//!   ┌─────────────────────┐   unix socket  ┌───────────────────────────────────────┐
//!   │ QemuEngine          ├───────────────►│ QEMU · agent · private network · wall │
//!   │ (remembers nothing) │   one request  │ (knows one VM)                        │
//!   └──────────┬──────────┘   a connection └───────────────────┬───────────────────┘
//!              │ folders, overlays, removal                    │ ended.json, console.log
//!              └──────────────► <state>/vms/<id>/ ◄────────────┘ sleep/, and the memory in a tmpfs
//! ```
//!
//! Owned here: the processes, the disks, the images, what goes into a guest at its boot and the probe for KVM. Not
//! owned: who may do what and when (`berth-control`), and the bytes on the private network (`berth-vnet`).
//!
//! A VM's truth is in four places, each with one writer at a time: its lock (held by the shim and QEMU for as long as
//! either lives), what its shim answers, the record of its sleep, and the `ended.json` that the shim leaves. A VM that
//! sleeps has a shim without a QEMU while connections into it are open, and else none. `berth serve` may die at any moment: VMs
//! run on, and the next engine finds them by their sockets. A shim that dies takes its QEMU along.
//!
//! Concurrency: the engine has no state to guard, and different VMs never meet. The shim is single-threaded.

mod accel;
mod boot_image;
mod client;
mod console;
mod disk;
mod egress;
mod ending;
mod engine;
mod host;
pub mod image;
mod inherit;
mod launch;
mod lines;
mod lock;
mod paths;
mod protocol;
mod qcow2;
mod qemu;
mod rebuild;
mod room;
mod sandbox;
pub mod shim;
mod sleep;
mod template;
mod user;

use berth_guest as provision;

pub use accel::Accel;
pub use egress::Egress;
pub use engine::{QemuConfig, QemuEngine};
pub use sandbox::landlock_is_missing;
