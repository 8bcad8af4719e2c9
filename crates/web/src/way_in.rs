//! How this member gets to their VMs from their own computer: lines to paste, filled in.

use berth_model::{
    AccountName, Domains, VmNumber,
    ssh_config::{Known, SshConfig, WINDOWS_SSH, known_hosts_name},
};

use crate::{Website, visitor::Visitor};

/// What people use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum System {
    Linux,
    MacOs,
    Windows,
    Putty,
    VsCode,
}

impl System {
    pub(crate) const ALL: [Self; 5] = [Self::Linux, Self::MacOs, Self::Windows, Self::Putty, Self::VsCode];

    /// What it is called in the page's code.
    pub(crate) fn id(self) -> &'static str {
        match self {
            Self::Linux => "linux",
            Self::MacOs => "macos",
            Self::Windows => "windows",
            Self::Putty => "putty",
            Self::VsCode => "vscode",
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Linux => "Linux",
            Self::MacOs => "macOS",
            Self::Windows => "Windows",
            Self::Putty => "PuTTY",
            Self::VsCode => "VS Code",
        }
    }

    /// What is shown first, from what the browser says of itself.
    fn of(agent: &str) -> Self {
        if agent.contains("Windows") {
            Self::Windows
        } else if agent.contains("Mac OS X") {
            Self::MacOs
        } else {
            Self::Linux
        }
    }
}

/// The lines of one member.
pub(crate) struct WayIn {
    pub(crate) system: System,
    pub(crate) account: String,
    pub(crate) gateway: String,
    pub(crate) port: u16,
    /// For `~/.ssh/config`, with what ssh is to trust.
    pub(crate) config: String,
    /// The same for Windows' ssh, which has to find that in its known_hosts.
    pub(crate) windows_config: String,
    /// For its known_hosts.
    pub(crate) known_hosts: String,
    /// The host name of the first VM.
    pub(crate) host: String,
    /// What opens a shell in it.
    pub(crate) command: String,
}

impl WayIn {
    /// For `account`, whose first VM answers to `host`; without one, the name that it will have.
    pub(crate) fn new(website: &Website, visitor: &Visitor, account: &str, host: Option<String>) -> Self {
        let domains = &website.site.domains;
        let host = host.unwrap_or_else(|| first_host(domains, account));
        let gateway = domains.gateway_host();
        let trust = website.control.host_trust(&[known_hosts_name(&gateway, website.site.ssh_port)]);
        let config = |known, ssh| SshConfig {
            account,
            gateway: &gateway,
            address: None,
            port: website.site.ssh_port,
            vm_domain: domains.vm_domain(),
            known,
            identities: &[],
            file: None,
            ssh,
        };
        // Only a path could not be written, and there is none in it.
        let text = |config: SshConfig<'_>| config.text().unwrap_or_default().trim_end().to_owned();
        Self {
            system: System::of(visitor.user_agent()),
            account: account.to_owned(),
            config: text(config(Known::Lines(&trust), "ssh")),
            windows_config: text(config(Known::Elsewhere, WINDOWS_SSH)),
            known_hosts: trust.join("\n"),
            gateway: gateway.clone(),
            port: website.site.ssh_port,
            command: format!("ssh {host}"),
            host,
        }
    }
}

/// The least that `ssh` needs to know, as the tutorial has it: for who has no account yet.
pub(crate) fn config(domains: &Domains, port: u16, account: &str) -> String {
    let port = if port == 22 { String::new() } else { format!("-p {port} ") };
    format!(
        "Host *.{}\n  User {account}\n  ProxyCommand ssh {port}%r@{} nc %h %p",
        domains.vm_domain(),
        domains.gateway_host()
    )
}

/// The name of an account's first VM.
pub(crate) fn first_host(domains: &Domains, account: &str) -> String {
    format!("vm-{}.{account}.{}.{}", VmNumber::FIRST, domains.team(), domains.vm_domain())
}

/// The command that prints a link to log in with.
pub(crate) fn log_in_command(website: &Website, account: Option<&AccountName>) -> String {
    let port = match website.site.ssh_port {
        22 => String::new(),
        port => format!("-p {port} "),
    };
    let account = account.map_or("NAME", AccountName::as_str);
    format!("ssh {port}{account}@{} login", website.site.domains.gateway_host())
}
