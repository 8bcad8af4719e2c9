//! What a VM is made of, and what is put into its guest.

use berth_model::{AccountName, Secret};
use serde::{Deserialize, Serialize};

/// The size of a VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmSpec {
    /// Virtual CPUs, at least 1.
    pub cpus: u32,
    /// Memory in bytes.
    pub memory: u64,
    /// The size of the disk in bytes, as the guest sees it.
    pub disk: u64,
}

/// What a guest is told of itself after every boot.
#[derive(Debug, Clone)]
pub struct Guest {
    /// The host's short name: `vm-0`.
    pub hostname: String,
    /// Every full name that the VM answers to, the canonical one first.
    pub names: Vec<String>,
    /// The account, which is the Linux user too.
    pub user: AccountName,
    /// The account's keys in the format of sshd(8)'s AUTHORIZED_KEYS FILE.
    pub authorized_keys: String,
    /// Who is let in beside: nobody else that was is.
    pub others: Vec<GuestUser>,
    /// The VM's ssh host key: an ed25519 private key in OpenSSH's format, kept across rebuilds.
    pub host_key: Secret<String>,
    /// The certificate of that key for all of the VM's names, as a line of a `-cert.pub` file; empty for none.
    pub host_certificate: String,
}

/// A user of a guest who is not its owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestUser {
    /// Their account, which is the Linux user too.
    pub name: AccountName,
    /// The Linux user's id, above 1000, which is the owner's. The same wherever the account is a guest.
    pub uid: u32,
    /// Whether they are root when they want to.
    pub sudo: bool,
    /// Their keys in the format of sshd(8)'s AUTHORIZED_KEYS FILE.
    pub authorized_keys: String,
}

/// What becomes of the members' files when a VM gets a new disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Home {
    /// Everything below `/home` is on the new disk too, with its owners, modes, times and attributes.
    Keep,
    /// Nothing is.
    Discard,
}

/// When a guest has the room of a disk that has grown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grown {
    /// Now.
    Now,
    /// When it next begins to run: it is off or asleep.
    AtStart,
    /// After its next boot: it runs, and its agent did not take the room.
    AtBoot,
}
