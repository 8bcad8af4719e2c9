//! Host names of VMs: one grammar for ssh and HTTP, exact match or nothing.
//!
//! | form | stands for |
//! |---|---|
//! | `vm-N.<user>.<team>.<vm_domain>` | the canonical name |
//! | `vm-N.<user>.<vm_domain>` | the same in the default team |
//! | `<user>.<team>.<vm_domain>` | number 0 |
//! | `<user>.<vm_domain>` | number 0 in the default team |
//! | `shared-N.<team>.<vm_domain>` | a VM of the team; `shared-N--PORT` as below |
//! | `vm-N--PORT.<user>.<team>.<vm_domain>` | another port of it than 80, for HTTP alone |
//! | `vm-N--PORT.<user>.<vm_domain>` | the same in the default team |
//!
//! No two of them can be the same text for different VMs: no name begins with `vm-`, accounts and teams share one
//! namespace, and a single label is always an account.

use crate::{
    name::{AccountName, TeamName},
    vm::{VmName, VmNumber},
};

/// The greatest length of a host name (RFC 1035, 2.3.4, as text without the final dot).
const MAX_HOST_LEN: usize = 253;
/// So long may a domain be that every VM's name fits below it: `vm-4294967295--65535.` and two names of 32 characters.
const MAX_DOMAIN_LEN: usize = MAX_HOST_LEN - "vm-4294967295--65535.".len() - 2 * (crate::name::MAX_LEN + 1);
/// The port of a VM's site whose host name says none.
pub const SITE_PORT: u16 = 80;

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
        if vm.is_of_team() {
            return names;
        }
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

    /// The one host name that Berth itself uses for a site of a VM: that of the VM, with the port in it where that is not
    /// [`SITE_PORT`].
    #[must_use]
    pub fn site(&self, vm: &VmName, port: u16) -> String {
        match port {
            SITE_PORT => self.canonical(vm),
            port => {
                let label = vm.label();
                let rest = self.canonical(vm).split_off(label.len());
                format!("{label}--{port}{rest}")
            }
        }
    }

    /// Whether a host name is the VMs' domain or below it, whatever it stands for.
    #[must_use]
    pub fn is_of_vms(&self, host: &str) -> bool {
        is_within(&host.to_ascii_lowercase(), &self.vm_domain)
    }

    /// The VM and the port that a host name stands for in HTTP, in any case of letters: every name that
    /// [`Domains::resolve`] takes, for [`SITE_PORT`], and `vm-N--PORT` in place of `vm-N` (`shared-N` too). Says nothing about whether the
    /// VM exists, and who may see it.
    #[must_use]
    pub fn resolve_site(&self, host: &str) -> Option<(VmName, u16)> {
        if host.len() > MAX_HOST_LEN {
            return None;
        }
        let with_port = host.split_once('.').and_then(|(label, rest)| {
            let (vm, port) = label.split_once("--").filter(|(vm, _)| is_vm_label(vm))?;
            Some((format!("{vm}.{rest}"), port_from_label(port)?))
        });
        match with_port {
            Some((host, port)) => Some((self.resolve(&host)?, port)),
            None => Some((self.resolve(host)?, SITE_PORT)),
        }
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
            [label, team] if label.starts_with("shared-") => {
                let number = VmNumber::from_team_label(label)?;
                return Some(VmName::of_team(number, team.parse().ok()?));
            }
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

fn is_vm_label(label: &str) -> bool {
    let label = label.to_ascii_lowercase();
    VmNumber::from_label(&label).or_else(|| VmNumber::from_team_label(&label)).is_some()
}

/// A port in decimal, without a sign or a leading zero.
fn port_from_label(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
    text.parse().ok().filter(|_| digits)
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn domains() -> Domains {
        Domains::new("koding.com", "kd.io", "koding".parse().expect("a team")).expect("domains")
    }

    fn vm(name: &str) -> VmName {
        name.parse().expect("the name of a VM")
    }

    #[test]
    fn the_tutorial_resolves() {
        let domains = domains();
        let leeolayvar = vm("vm-0.leeolayvar.koding");
        assert_eq!(domains.gateway_host(), "ssh.koding.com");
        assert_eq!(domains.canonical(&leeolayvar), "vm-0.leeolayvar.koding.kd.io");
        assert_eq!(
            domains.names_of(&leeolayvar),
            [
                "vm-0.leeolayvar.koding.kd.io",
                "vm-0.leeolayvar.kd.io",
                "leeolayvar.koding.kd.io",
                "leeolayvar.kd.io"
            ]
        );
        assert_eq!(
            domains.names_of(&vm("vm-7.alice.koding")),
            ["vm-7.alice.koding.kd.io", "vm-7.alice.kd.io"]
        );
        assert_eq!(
            domains.names_of(&vm("vm-0.alice.acme-inc")),
            ["vm-0.alice.acme-inc.kd.io", "alice.acme-inc.kd.io"]
        );
        assert_eq!(domains.names_of(&vm("vm-7.alice.acme-inc")), ["vm-7.alice.acme-inc.kd.io"]);
        assert_eq!(domains.resolve("VM-0.LeeOlayvar.Koding.KD.io"), Some(leeolayvar));
    }

    #[test]
    fn a_teams_own_vm_has_one_name_and_its_sites() {
        let teams = vm("shared-3.koding");
        assert_eq!(domains().names_of(&teams), ["shared-3.koding.kd.io"]);
        assert_eq!(domains().resolve("Shared-3.Koding.KD.io"), Some(teams.clone()));
        assert_eq!(domains().site(&teams, 3000), "shared-3--3000.koding.kd.io");
        assert_eq!(domains().resolve_site("shared-3--3000.koding.kd.io"), Some((teams.clone(), 3000)));
        assert_eq!(domains().resolve_site("shared-3.koding.kd.io"), Some((teams, 80)));
        assert_eq!(domains().resolve_site("shared-3--3000.kd.io"), None);
    }

    #[test]
    fn an_account_called_like_the_team_is_an_account() {
        assert_eq!(domains().resolve("koding.kd.io"), Some(vm("vm-0.koding.koding")));
        assert_eq!(domains().resolve("koding.koding.kd.io"), Some(vm("vm-0.koding.koding")));
    }

    #[test]
    fn what_is_not_exactly_a_name_is_nothing() {
        for host in [
            "",
            ".",
            "kd.io",
            ".kd.io",
            "alice.kd.io.",
            ".alice.kd.io",
            "alice..kd.io",
            "alicekd.io",
            "alice.kd.iox",
            "xalice.kd.io.evil.com",
            "alice.koding.com",
            "ssh.koding.com",
            "127.0.0.1",
            "::1",
            "[::1]",
            "vm-0.kd.io",
            "vm-0.koding.com",
            "vm-00.alice.kd.io",
            "vm-01.alice.koding.kd.io",
            "vm-+1.alice.kd.io",
            "vm-4294967296.alice.kd.io",
            "vm-.alice.kd.io",
            "vm-0.vm-0.kd.io",
            "vm-0.vm-0.alice.koding.kd.io",
            "x.vm-0.alice.koding.kd.io",
            "alice.vm-0.kd.io",
            "root.kd.io",
            "vm-0.alice.root.kd.io",
            "shared-0.kd.io",
            "shared-00.koding.kd.io",
            "shared-0.alice.koding.kd.io",
            "shared.kd.io",
            "shared.koding.kd.io",
            "vm-0.shared.kd.io",
            "vm-0.shared.koding.kd.io",
            "xn--80ak6aa92e.kd.io",
            "аlice.kd.io",
            "alice。kd.io",
            "alice.\u{212a}d.io",
            " alice.kd.io",
            "alice.kd.io ",
            "alice.kd.io\n",
            "alice.kd.io\0",
            "alice%00.kd.io",
            "al_ice.kd.io",
            "alice.kd.io:22",
            "alice@alice.kd.io",
        ] {
            assert_eq!(domains().resolve(host), None, "{host:?}");
        }
        assert_eq!(domains().resolve(&format!("{}.kd.io", "a".repeat(300))), None);
        assert_eq!(domains().resolve(&"alice.".repeat(1_000_000)), None);
    }

    #[test]
    fn domains_are_checked() {
        fn new(app: &str, vm: &str) -> Result<Domains, DomainError> {
            Domains::new(app, vm, "koding".parse().expect("a team"))
        }
        assert!(new("berth.localhost", "vm.localhost").is_ok());
        assert!(new("kd.io", "xkd.io").is_ok());
        assert_eq!(
            new("Koding.COM", "KD.io").map(|d| (d.app_domain, d.vm_domain)),
            Ok(("koding.com".into(), "kd.io".into()))
        );
        for (app, vm) in
            [("kd.io", "kd.io"), ("KD.io", "kd.io"), ("app.kd.io", "kd.io"), ("kd.io", "vm.kd.io")]
        {
            assert!(matches!(new(app, vm), Err(DomainError::Overlap { .. })), "{app} {vm}");
        }
        let key = "vm_domain";
        assert_eq!(new("koding.com", ""), Err(DomainError::Empty { key }));
        assert_eq!(new("koding.com", "kd.io."), Err(DomainError::TrailingDot { key }));
        for address in ["127.0.0.1", "10.1", "1", "::1", "kd.0"] {
            assert_eq!(new("koding.com", address), Err(DomainError::Address { key }), "{address}");
        }
        for wrong in [
            ".kd.io", "kd..io", "-kd.io", "kd-.io", "k_d.io", "kd.io:22", "käse.io", "*.kd.io", "kd io",
            "[::1]",
        ] {
            assert!(matches!(new("koding.com", wrong), Err(DomainError::Label { .. })), "{wrong}");
        }
        assert!(matches!(
            new("koding.com", &format!("{}.io", "a".repeat(64))),
            Err(DomainError::Label { .. })
        ));
        assert_eq!(new("koding.com", &"a.".repeat(100)), Err(DomainError::TooLong { key }));
        assert_eq!(
            new("", "kd.io").expect_err("empty").to_string(),
            "app_domain is empty. Give a domain, for example berth.localhost."
        );
    }

    #[test]
    fn the_longest_names_are_host_names() {
        let domain = format!("{}.{}.{}", "a".repeat(63), "b".repeat(63), "c".repeat(MAX_DOMAIN_LEN - 128));
        let domains =
            Domains::new("koding.com", &domain, "koding".parse().expect("a team")).expect("domains");
        let longest = vm(&format!("vm-{}.{}.{}", u32::MAX, "a".repeat(32), "b".repeat(32)));
        let host = domains.canonical(&longest);
        assert_eq!(domains.resolve(&host), Some(longest.clone()));
        let site = domains.site(&longest, u16::MAX);
        assert_eq!((site.len(), domains.resolve_site(&site)), (MAX_HOST_LEN, Some((longest, u16::MAX))));
    }

    #[test]
    fn a_site_is_a_vm_and_a_port() {
        let (domains, alice) = (domains(), vm("vm-0.alice.koding"));
        assert_eq!(domains.site(&alice, 80), "vm-0.alice.koding.kd.io");
        assert_eq!(domains.site(&alice, 3000), "vm-0--3000.alice.koding.kd.io");
        for (host, port) in [
            ("vm-0.alice.koding.kd.io", 80),
            ("alice.kd.io", 80),
            ("vm-0--3000.alice.koding.kd.io", 3000),
            ("VM-0--3000.Alice.KD.io", 3000),
            ("vm-0--80.alice.kd.io", 80),
            ("vm-0--65535.alice.kd.io", 65535),
            ("vm-0--1.alice.kd.io", 1),
        ] {
            assert_eq!(domains.resolve_site(host), Some((alice.clone(), port)), "{host}");
        }
        // An account may be called so; it has no port.
        let dashes = domains.resolve_site("alice--3000.kd.io");
        assert_eq!(dashes, Some((vm("vm-0.alice--3000.koding"), 80)));
        for host in [
            "vm-0--.alice.kd.io",
            "vm-0--0.alice.kd.io",
            "vm-0--080.alice.kd.io",
            "vm-0--+80.alice.kd.io",
            "vm-0--65536.alice.kd.io",
            "vm-0--3000--4000.alice.kd.io",
            "vm-00--3000.alice.kd.io",
            "vm-0-3000.alice.kd.io",
            "vm-0---3000.alice.kd.io",
            "vm-0--3000.kd.io",
            "vm-0--3000.alice.kd.io.",
            "vm-0--3000.alice.kd.io:80",
            "x.vm-0--3000.alice.kd.io",
            "vm-0--3000",
            "",
        ] {
            assert_eq!(domains.resolve_site(host), None, "{host}");
        }
    }

    #[test]
    fn what_is_below_the_vms_domain() {
        for host in ["kd.io", "KD.io", "x.kd.io", "vm-0.alice.kd.io", "a.b.c.d.kd.io"] {
            assert!(domains().is_of_vms(host), "{host}");
        }
        for host in ["", "io", "xkd.io", "kd.io.", "koding.com", "kd.io.evil.example"] {
            assert!(!domains().is_of_vms(host), "{host}");
        }
    }

    /// Names that are often equal or alike, so that clashes would show.
    fn name() -> impl Strategy<Value = String> {
        prop_oneof![
            prop::sample::select(vec!["koding", "alice", "kd", "io", "vmx", "a-b", "vm", "ab"])
                .prop_map(str::to_owned),
            "[a-z][a-z0-9-]{0,6}[a-z0-9]",
        ]
        .prop_filter("a name", |name| name.parse::<AccountName>().is_ok())
    }

    fn vm_name() -> impl Strategy<Value = VmName> {
        let number = prop_oneof![Just(0), Just(1), any::<u32>()];
        (number, prop::option::weighted(0.8, name()), name()).prop_map(|(number, owner, team)| VmName {
            number: VmNumber(number),
            owner: owner.map_or_else(AccountName::of_teams, |owner| owner.parse().expect("a name")),
            team: team.parse().expect("a name"),
        })
    }

    fn mixed_case(text: &str, flips: u64) -> String {
        let flip =
            |(at, c): (usize, char)| if flips >> (at % 64) & 1 == 1 { c.to_ascii_uppercase() } else { c };
        text.chars().enumerate().map(flip).collect()
    }

    proptest! {
        #[test]
        fn every_name_of_a_vm_resolves_to_it(vm in vm_name(), flips: u64) {
            for name in domains().names_of(&vm) {
                prop_assert_eq!(domains().resolve(&mixed_case(&name, flips)), Some(vm.clone()));
            }
        }

        #[test]
        fn every_site_of_a_vm_resolves_to_it(vm in vm_name(), port in 1_u16.., flips: u64) {
            let site = mixed_case(&domains().site(&vm, port), flips);
            prop_assert_eq!(domains().resolve_site(&site), Some((vm.clone(), port)));
            for name in domains().names_of(&vm) {
                prop_assert_eq!(domains().resolve_site(&name), Some((vm.clone(), SITE_PORT)));
            }
        }

        #[test]
        fn what_resolves_is_a_name_of_what_it_resolves_to(
            host in prop_oneof![
                "((vm-[0-9]{1,3}|shared-[0-9]{1,2}|[a-z0-9-]{1,6}|koding|vm-0)\\.){0,4}(kd\\.io|koding\\.com|KD\\.IO|\\.kd\\.io|kd\\.io\\.)",
                "\\PC{0,20}(\\.kd\\.io)?",
            ],
        ) {
            if let Some(vm) = domains().resolve(&host) {
                prop_assert!(domains().names_of(&vm).contains(&host.to_ascii_lowercase()));
            }
        }

        #[test]
        fn two_vms_share_no_name(one in vm_name(), other in vm_name()) {
            prop_assume!(one != other);
            let names = domains().names_of(&one);
            prop_assert!(domains().names_of(&other).iter().all(|name| !names.contains(name)));
        }

        #[test]
        fn one_character_more_or_less_is_another_host(vm in vm_name(), at: prop::sample::Index, extra in "[a-z0-9.-]") {
            let host = domains().canonical(&vm);
            let at = at.index(host.len());
            let mut longer = host.clone();
            longer.insert_str(at, &extra);
            let mut shorter = host;
            shorter.remove(at);
            for changed in [longer, shorter] {
                if let Some(found) = domains().resolve(&changed) {
                    prop_assert!(domains().names_of(&found).contains(&changed));
                }
            }
        }
    }
}
