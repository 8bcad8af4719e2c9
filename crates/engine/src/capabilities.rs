//! What engines do differently, as data: nobody asks which engine it is.

/// In what an engine's VMs differ.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// Where the memory of a VM is while it sleeps.
    pub sleep: Sleep,
}

/// Where the memory of a VM is while it sleeps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Sleep {
    /// On a disk, at the latest some seconds after it fell asleep: its machine may restart.
    #[default]
    OnDisk,
    /// In its machine's memory, for as long as that runs.
    InMemory,
}

impl Capabilities {
    /// What the owner of a VM that sleeps should know besides: a sentence, or nothing.
    #[must_use]
    pub fn of_its_sleep(&self) -> Option<&'static str> {
        match self.sleep {
            Sleep::OnDisk => None,
            Sleep::InMemory => Some(
                "It stands still in its machine's memory: should that machine restart, it starts from its disk.",
            ),
        }
    }
}
