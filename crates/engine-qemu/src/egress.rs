//! A VM's way out to the internet, as the engine decides it; the shim builds it (`shim::way_out`).
//!
//! The guest's second NIC is a network of its own, with nobody on it but the guest and a translator that opens
//! ordinary connections on the host: passt, or QEMU's user network where passt is missing. Neither keeps a guest from
//! the host's own addresses, so the shim is in between and passes on only what may leave (`shim::wall`).
//! Nothing comes in: no port of the host is forwarded.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Bytes of IP in a frame, with passt: the largest that it takes.
pub(crate) const MTU: usize = 65520;
/// QEMU's user network makes its packets this large and wants no larger ones.
pub(crate) const USER_MTU: usize = 1500;
/// The network that QEMU's user network plays; .2 is the host, .3 answers DNS.
pub(crate) const USER_NETWORK: &str = "100.64.77.0/24";
/// Its first three bytes.
pub(crate) const USER_NETWORK_PREFIX: [u8; 3] = [100, 64, 77];

/// Whether VMs reach the internet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Egress {
    /// Through passt where it is installed, else through QEMU's user network.
    #[default]
    Auto,
    /// They do not: there is no second NIC.
    None,
}

/// What is at the other end of the second NIC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "through", rename_all = "snake_case")]
pub(crate) enum WayOut {
    Passt { program: PathBuf },
    UserNetwork,
    Nothing,
}

impl WayOut {
    /// Looks for what the setting asks for, and says in the log what is lost without passt.
    pub(crate) fn choose(egress: Egress) -> Self {
        match egress {
            Egress::None => Self::Nothing,
            Egress::Auto => match find_program("passt") {
                Some(program) => Self::Passt { program },
                None => {
                    tracing::warn!(
                        "passt is not installed: VMs reach the internet through QEMU's user network, which is slower \
                         and has no IPv6. Install the package passt for a better one"
                    );
                    Self::UserNetwork
                }
            },
        }
    }
}

/// A program on the search path.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| is_program(file))
}

fn is_program(file: &Path) -> bool {
    rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok() && file.is_file()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_on_the_path_only() {
        assert!(find_program("sh").unwrap().ends_with("sh"));
        assert_eq!(find_program("no-such-program-here"), None);
        assert_eq!(WayOut::choose(Egress::None), WayOut::Nothing);
    }
}
