//! Host names of VMs: one grammar for ssh and HTTP, exact match or nothing.
//!
//! | form | stands for |
//! |---|---|
//! | `vm-N.<user>.<team>.<vm_domain>` | the canonical name |
//! | `vm-N.<user>.<vm_domain>` | the same in the default team |
//! | `<user>.<team>.<vm_domain>` | number 0 |
//! | `<user>.<vm_domain>` | number 0 in the default team |
//!
//! No two of them can be the same text for different VMs: no name begins with `vm-`, accounts and teams share one
//! namespace, and a single label is always an account.

use crate::{
    name::{AccountName, TeamName},
    vm::{VmName, VmNumber},
};

/// The greatest length of a host name (RFC 1035, 2.3.4, as text without the final dot).
const MAX_HOST_LEN: usize = 253;
/// So long may a domain be that every VM's name fits below it: `vm-4294967295.` and two names of 32 characters.
const MAX_DOMAIN_LEN: usize = MAX_HOST_LEN - "vm-4294967295.".len() - 2 * (crate::name::MAX_LEN + 1);

/// Why a configuration's domains cannot be used. The sentence is for the operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DomainError {
    /// A domain is empty.
    #[error("{key} is empty. Give a domain, for example {example}.", example = example(.key))]
    Empty {
        /// The configuration key.
        key: &'static str,
    },
    /// A domain is so long that names of VMs below it would not be host names any more.
    #[error("{key} is longer than {MAX_DOMAIN_LEN} characters. Give a shorter domain.")]
    TooLong {
        /// The configuration key.
        key: &'static str,
    },
    /// A domain ends with a dot.
    #[error("{key} ends with a dot. Leave the dot out.")]
    TrailingDot {
        /// The configuration key.
        key: &'static str,
    },
    /// A domain has a part that no host name can have.
    #[error(
        "{key} is not a domain: its part “{}” must be 1 to 63 of a to z, 0 to 9 and hyphens, without a hyphen at \
         its ends.",
        .label.escape_debug()
    )]
    Label {
        /// The configuration key.
        key: &'static str,
        /// The part that is wrong.
        label: String,
    },
    /// A domain is or looks like an address.
    #[error("{key} is an address. Give a domain, for example {example}.", example = example(.key))]
    Address {
        /// The configuration key.
        key: &'static str,
    },
    /// Both domains are the same, or one is inside the other.
    #[error(
        "app_domain ({app}) and vm_domain ({vm}) overlap. Use two domains of which neither is inside the other, so \
         that no VM can pass for this service."
    )]
    Overlap {
        /// The domain of the service.
        app: String,
        /// The domain of the VMs.
        vm: String,
    },
}

fn example(key: &str) -> &'static str {
    if key == "vm_domain" { "vm.localhost" } else { "berth.localhost" }
}

/// The domains of one installation and its default team: what turns a VM's name into host names and back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domains {
    app_domain: String,
    vm_domain: String,
    team: TeamName,
}

impl Domains {
    /// Checks and lower-cases the domains.
    ///
    /// # Errors
    /// Neither may be empty, an address, or too long for the host names below it, and they may not overlap.
    pub fn new(app_domain: &str, vm_domain: &str, team: TeamName) -> Result<Self, DomainError> {
        let app_domain = check_domain("app_domain", app_domain)?;
        let vm_domain = check_domain("vm_domain", vm_domain)?;
        if is_within(&app_domain, &vm_domain) || is_within(&vm_domain, &app_domain) {
            return Err(DomainError::Overlap { app: app_domain, vm: vm_domain });
        }
        Ok(Self { app_domain, vm_domain, team })
    }

    /// The domain of the service itself, lower case.
    #[must_use]
    pub fn app_domain(&self) -> &str {
        &self.app_domain
    }

    /// The domain that the VMs' host names are below, lower case.
    #[must_use]
    pub fn vm_domain(&self) -> &str {
        &self.vm_domain
    }

    /// The default team.
    #[must_use]
    pub fn team(&self) -> &TeamName {
        &self.team
    }

    /// The host name of the ssh gateway.
    #[must_use]
    pub fn gateway_host(&self) -> String {
        format!("ssh.{}", self.app_domain)
    }

    /// The one host name that Berth itself uses for a VM: `vm-0.alice.koding.kd.io`.
    #[must_use]
    pub fn canonical(&self, vm: &VmName) -> String {
        format!("{vm}.{}", self.vm_domain)
    }

    /// Every host name that a VM answers to, the canonical one first.
    #[must_use]
    pub fn names_of(&self, vm: &VmName) -> Vec<String> {
        let VmName { number, owner, team } = vm;
        let domain = &self.vm_domain;
        let in_default_team = *team == self.team;
        let mut names = vec![self.canonical(vm)];
        if in_default_team {
            names.push(format!("vm-{number}.{owner}.{domain}"));
        }
        if *number == VmNumber::FIRST {
            names.push(format!("{owner}.{team}.{domain}"));
            if in_default_team {
                names.push(format!("{owner}.{domain}"));
            }
        }
        names
    }

    /// The VM that a host name stands for, in any case of letters; `None` for everything that is not exactly one of
    /// [`Domains::names_of`]. Says nothing about whether the VM exists.
    #[must_use]
    pub fn resolve(&self, host: &str) -> Option<VmName> {
        if host.len() > MAX_HOST_LEN {
            return None;
        }
        let host = host.to_ascii_lowercase();
        let name = host.strip_suffix(&self.vm_domain)?.strip_suffix('.')?;
        let labels: Vec<&str> = name.split('.').collect();
        let (label, owner, team) = match *labels.as_slice() {
            [label, owner, team] => (Some(label), owner, Some(team)),
            [label, owner] if label.starts_with("vm-") => (Some(label), owner, None),
            [owner, team] => (None, owner, Some(team)),
            [owner] => (None, owner, None),
            _ => return None,
        };
        Some(VmName {
            number: label.map_or(Some(VmNumber::FIRST), VmNumber::from_label)?,
            owner: owner.parse::<AccountName>().ok()?,
            team: team.map_or_else(|| Some(self.team.clone()), |team| team.parse().ok())?,
        })
    }
}

fn is_within(inner: &str, outer: &str) -> bool {
    inner.strip_suffix(outer).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

fn check_domain(key: &'static str, text: &str) -> Result<String, DomainError> {
    if text.is_empty() {
        return Err(DomainError::Empty { key });
    }
    if text.len() > MAX_DOMAIN_LEN {
        return Err(DomainError::TooLong { key });
    }
    if text.ends_with('.') {
        return Err(DomainError::TrailingDot { key });
    }
    let domain = text.to_ascii_lowercase();
    // A last label of digits makes an address out of it for resolvers and browsers.
    let numeric_end =
        domain.rsplit('.').next().is_some_and(|label| label.bytes().all(|b| b.is_ascii_digit()));
    if numeric_end || domain.parse::<std::net::Ipv6Addr>().is_ok() {
        return Err(DomainError::Address { key });
    }
    match domain.split('.').find(|label| !is_label(label)) {
        Some(label) => Err(DomainError::Label { key, label: label.to_owned() }),
        None => Ok(domain),
    }
}

fn is_label(label: &str) -> bool {
    let hyphen_at_end = label.starts_with('-') || label.ends_with('-');
    (1..=63).contains(&label.len())
        && !hyphen_at_end
        && label.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}
