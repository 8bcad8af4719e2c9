//! What the stock image is: the files in `image/`, rendered for mmdebstrap, and the name that follows from them.

use std::fmt::Write as _;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use sha2::{Digest, Sha256};

use super::{ARCHIVE, BuildOptions, DISK, INITRD, KERNEL};

/// The kernel's arguments.
///
/// `lsm`: the Berkeley filters, IMA and AppArmor of a stock kernel are not used by the image, and cost half a second of
/// a translated boot. `cryptomgr.notests`: no self-tests of ciphers at each boot.
pub(super) const APPEND: &str = "console=ttyS0 root=/dev/vda rw quiet lsm=landlock,yama cryptomgr.notests audit=0 \
                                 random.trust_cpu=on net.ifnames=0 TERM=dumb";

/// The Debian release.
pub(super) const SUITE: &str = "trixie";
/// Signs what the mirror gives; in Debian the same path on the host and in the guest.
pub(super) const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

const PACKAGES: &str = include_str!("../../image/packages");
const BUILD: &str = include_str!("../../image/build.sh");
const CONTAINER: &str = include_str!("../../image/container.sh");
const INIT: &str = include_str!("../../image/initrd/init");
/// In `build.sh`: from here on it is about how the root is handed over.
const HANDING_OVER: &str = "say \"writing the disk\"\n";

/// Left out of every package while the image is built; packages that a member installs later are whole.
const LEFT_OUT: [&str; 5] = [
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/locale/*/LC_MESSAGES/*",
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
];

struct GuestFile {
    path: &'static str,
    mode: u16,
    text: &'static str,
}

/// A file of the folder `image/guest`, and where it goes.
macro_rules! guest_file {
    ($mode:literal $path:literal from $source:literal) => {
        GuestFile { path: $path, mode: $mode, text: include_str!(concat!("../../image/guest/", $source)) }
    };
}

const GUEST_FILES: &[GuestFile] = &[
    guest_file!(0o644 "etc/apache2/sites-available/berth.conf" from "apache.conf"),
    guest_file!(0o644 "etc/pam.d/berth-sshd" from "pam-sshd"),
    guest_file!(0o644 "etc/ssh/sshd_config.d/50-berth.conf" from "sshd.conf"),
    guest_file!(0o440 "etc/sudoers.d/berth" from "sudoers"),
    guest_file!(0o644 "etc/systemd/journald.conf.d/berth.conf" from "journald.conf"),
    guest_file!(0o644 "etc/systemd/logind.conf.d/berth.conf" from "logind.conf"),
    guest_file!(0o644 "etc/systemd/system/berth-dhcp@.service" from "berth-dhcp@.service"),
    guest_file!(0o644 "etc/systemd/system/berth-late.service" from "berth-late.service"),
    guest_file!(0o644 "etc/systemd/system/berth-late.timer" from "berth-late.timer"),
    guest_file!(0o644 "etc/systemd/system/qemu-guest-agent.service" from "qemu-guest-agent.service"),
    guest_file!(0o644 "etc/systemd/system/ssh.service" from "ssh.service"),
    guest_file!(0o644 "etc/systemd/system/systemd-udev-trigger.service.d/berth.conf" from "udev-trigger.conf"),
    guest_file!(0o644 "etc/tmpfiles.d/berth.conf" from "tmpfiles.conf"),
    guest_file!(0o644 "etc/udev/rules.d/70-berth.rules" from "70-berth.rules"),
    guest_file!(0o755 "usr/bin/keepawake" from "keepawake"),
    guest_file!(0o755 "usr/lib/berth/udhcpc" from "udhcpc"),
];

/// What the root is made into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// A kernel, an initrd and a disk.
    Vm,
    /// An archive of the root, as clusters of Incus take it for system containers.
    Container,
}

impl Format {
    /// The files that an image of it is made of.
    pub(super) fn files(self) -> &'static [&'static str] {
        match self {
            Self::Vm => &[KERNEL, INITRD, DISK],
            Self::Container => &[ARCHIVE],
        }
    }

    /// What ids of its images begin with.
    fn prefix(self) -> &'static str {
        match self {
            Self::Vm => "debian-13-",
            Self::Container => "container-debian-13-",
        }
    }
}

/// The format's prefix and a hash of all that decides what an image contains, but for the day's state of the mirror.
pub(super) fn id(format: Format, options: &BuildOptions) -> String {
    let mut hash = Sha256::new();
    let parts = arguments(format, options, None);
    for part in parts.iter().map(String::as_str).chain([APPEND]) {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let mut id = String::from(format.prefix());
    for byte in hash.finalize().iter().take(6) {
        let _ = write!(id, "{byte:02x}");
    }
    id
}

/// Folders of downloaded packages, which mmdebstrap copies from and to.
pub(super) struct Cache<'a> {
    pub(super) from: &'a str,
    pub(super) to: &'a str,
}

/// What mmdebstrap is called with, but for the mode. It writes the tar archive of the results to descriptor 3.
pub(super) fn arguments(format: Format, options: &BuildOptions, cache: Option<&Cache<'_>>) -> Vec<String> {
    let packages: Vec<_> =
        PACKAGES.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    let mut arguments = vec![
        "--verbose".to_owned(),
        "--variant=apt".to_owned(),
        "--format=null".to_owned(),
        "--architectures=amd64".to_owned(),
        // The packages stay until they are in the cache; the last hook cleans up before it writes the disk.
        "--skip=essential/unlink,cleanup/apt".to_owned(),
        "--dpkgopt=force-unsafe-io".to_owned(),
        format!("--include={}", packages.join(",")),
    ];
    arguments.extend(LEFT_OUT.iter().map(|option| format!("--dpkgopt={option}")));
    arguments.push(hook("setup", "mkdir -p \"$1/var/cache/apt/archives\""));
    if let Some(cache) = cache {
        arguments.push(hook("setup", &format!("sync-in {} /var/cache/apt/archives", cache.from)));
    }
    arguments.push(hook(
        "customize",
        "chroot \"$1\" apt-get -q install -y --no-install-recommends --download-only linux-image-cloud-amd64 && \
         chroot \"$1\" apt-get -q autoclean",
    ));
    if let Some(cache) = cache {
        arguments.push(hook("customize", &format!("sync-out /var/cache/apt/archives {}", cache.to)));
    }
    arguments.push(hook("customize", &last_hook(format)));
    arguments.push(SUITE.to_owned());
    arguments.push("/dev/null".to_owned());
    let BuildOptions { mirror, security_mirror, .. } = options;
    for source in [
        format!("{mirror} {SUITE}"),
        format!("{mirror} {SUITE}-updates"),
        format!("{security_mirror} {SUITE}-security"),
    ] {
        arguments.push(format!("deb [signed-by={KEYRING}] {source} main"));
    }
    arguments
}

fn hook(when: &str, what: &str) -> String {
    format!("--{when}-hook={what}")
}

/// `build.sh` with the guest's files in front of it: an ordinary user's build cannot read them from the user's folders,
/// and no file has to be put anywhere.
fn last_hook(format: Format) -> String {
    let mut script = String::from("put_guest_files() {\n");
    for file in GUEST_FILES {
        let path = format!("\"$1/{}\"", file.path);
        let _ = writeln!(script, "mkdir -p \"$1/{}\"", file.path.rsplit_once('/').map_or("", |(dir, _)| dir));
        put(&mut script, &path, file.text, file.mode);
    }
    script.push_str("}\nput_init() {\n");
    let mac = berth_vnet::GUEST_MAC.map(|octet| format!("{octet:02x}")).join(":");
    put(&mut script, "\"$1\"", &INIT.replace("@GUEST_MAC@", &mac), 0o755);
    script.push_str("}\n");
    match format {
        Format::Vm => script.push_str(BUILD),
        Format::Container => {
            script.push_str(BUILD.split_once(HANDING_OVER).map_or(BUILD, |(root, _)| root));
            script.push_str(CONTAINER);
        }
    }
    script
}

fn put(script: &mut String, path: &str, text: &str, mode: u16) {
    let _ = writeln!(script, "echo {} | base64 -d >{path}", BASE64.encode(text));
    let _ = writeln!(script, "chmod {mode:04o} {path}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_follows_the_definition_and_not_the_cache() {
        let options = BuildOptions::default();
        let other = BuildOptions { mirror: "http://mirror.example.org/debian".to_owned(), ..options.clone() };
        assert_eq!(
            id(Format::Vm, &options),
            id(Format::Vm, &BuildOptions { cache_dir: Some("/elsewhere".into()), ..options.clone() })
        );
        assert_ne!(id(Format::Vm, &options), id(Format::Vm, &other));
        assert!(
            id(Format::Vm, &options).starts_with("debian-13-")
                && id(Format::Vm, &options).len() == "debian-13-".len() + 12
        );
    }

    #[test]
    fn both_formats_have_one_root() {
        let (vm, container) = (last_hook(Format::Vm), last_hook(Format::Container));
        let (root, rest) = vm.split_once(HANDING_OVER).unwrap();
        assert_eq!(container.strip_prefix(root), Some(CONTAINER));
        assert!(rest.contains("mke2fs") && !container.contains("mke2fs"));
        let options = BuildOptions::default();
        assert!(id(Format::Container, &options).starts_with("container-debian-13-"));
        assert_eq!(id(Format::Vm, &options), "debian-13-90e8d242bf67", "VMs keep the image that they have");
    }

    #[test]
    fn packages_are_one_word_each_and_the_kernel_is_not_installed() {
        let options = BuildOptions::default();
        let arguments = arguments(Format::Vm, &options, None);
        let include = arguments.iter().find_map(|argument| argument.strip_prefix("--include=")).unwrap();
        for package in include.split(',') {
            assert!(
                !package.is_empty()
                    && package.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c)),
                "{package:?}"
            );
        }
        assert!(!include.contains("linux-image"));
        assert!(include.split(',').any(|package| package == "qemu-guest-agent"));
    }

    #[test]
    fn the_hook_fits_into_one_argument_and_knows_the_guests_address() {
        let hook = last_hook(Format::Vm);
        // Linux's limit for one argument.
        assert!(hook.len() < 128 << 10, "{}", hook.len());
        assert!(!INIT.contains("02:62"), "the address comes from the crate that owns it");
        assert!(INIT.contains("@GUEST_MAC@"));
    }

    /// Every shell script of the image, read by the shell that runs it.
    #[test]
    fn scripts_parse() {
        let programs = GUEST_FILES.iter().filter(|file| file.mode == 0o755).map(|file| file.text.to_owned());
        for script in programs.chain([last_hook(Format::Vm), last_hook(Format::Container), INIT.to_owned()]) {
            #[expect(clippy::disallowed_methods, reason = "the test asks the shell itself")]
            let mut shell = std::process::Command::new("sh");
            let temporary = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(temporary.path(), script).unwrap();
            assert!(shell.arg("-n").arg(temporary.path()).status().unwrap().success());
        }
    }
}
