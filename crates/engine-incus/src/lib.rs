//! VMs in a cluster of Incus: each is an instance, a system container or a virtual machine by setting.
//!
//! ```text
//!   berth serve                                   a cluster
//!   ┌──────────────────────┐  https or a socket  ┌──────────────────────────────────────────┐
//!   │ IncusEngine          ├────────────────────►│ any member ──► the member of an instance  │
//!   │ (remembers what it   │  requests, events   └──────────────────────┬───────────────────┘
//!   │  is about to do)     │                                            │ exec: scripts as root
//!   │                      ├──── the cluster's network: dial ──────────►│ instance berth-<id>
//!   └──────────────────────┘     (or by exec, where it is out of reach) └─ keys user.berth.*
//! ```
//!
//! Owned here: the requests, what is put into guests by them, and which of an instance's configuration keys say what about
//! its VM (`instance`). Not owned: where an instance is placed, which is the cluster's own, and the image (`berth-guest` has
//! the scripts, `berth-engine-qemu` the image's definition).
//!
//! Rules: an instance's name follows from its VM's id, so that what is asked for twice is made once. One is a VM only when
//! it was made whole, and what an interrupted making left is made anew. What a VM is doing is always asked; the engine
//! remembers only what it is about to do itself, and who called a VM that sleeps. Every call has a deadline, and one for
//! an instance whose machine is gone ends with that, for that instance alone.
//!
//! Concurrency: verbs for different VMs never wait for each other. One task follows the cluster's events, and wakes those
//! who wait for a change; it ends with the engine.

mod client;
mod connect;
mod engine;
mod error;
mod events;
mod exec;
mod image;
mod instance;
mod notes;
mod stream;
mod websocket;

pub use connect::{Address, TlsFiles};
pub use engine::{IncusConfig, IncusEngine, Kind, Reach};
pub use error::IncusError;
