//! The cluster under test.

use std::{
    env,
    os::unix::{fs::MetadataExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    sync::LazyLock,
    time::Duration,
};

use berth_engine::{Guest, VmSpec};
use berth_engine_incus::{Address, IncusConfig, IncusEngine, Kind, Reach};
use berth_model::{Secret, VmId};
use tokio::time::timeout;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cluster/cluster.sh");
/// Says to the second start of this program where the cluster is.
const ENTERED: &str = "BERTH_TEST_CLUSTER_ENTERED";
/// A host key for guests.
static HOST_KEY: LazyLock<String> = LazyLock::new(host_key);

pub(crate) const MEMBERS: [&str; 3] = ["n1", "n2", "n3"];
/// The longest that anything may take, on a machine that does much else.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// The end of a future, or a panic that says what did not end.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what} took over {PATIENCE:?}"))
}

/// A cluster that runs, whose network this process is on.
pub(crate) struct Cluster {
    base: PathBuf,
    name: String,
}

impl Cluster {
    pub(crate) fn entered() -> Option<Self> {
        Self::named(&env::var(ENTERED).ok()?)
    }

    fn named(words: &str) -> Option<Self> {
        let (base, name) = words.split_once(':')?;
        Some(Self { base: base.into(), name: name.into() })
    }

    /// Has the script do something to the cluster.
    pub(crate) fn script(&self, words: &[&str]) {
        assert!(script(&self.base, &self.name, words), "cluster.sh {words:?}");
    }

    /// Has root do something in the guest of a VM.
    pub(crate) fn inside(&self, vm: &VmId, script: &str) {
        self.script(&["exec", &format!("berth-{vm}"), script]);
    }

    /// The member that a VM is on.
    #[expect(clippy::disallowed_methods, reason = "the tests ask the cluster as others do")]
    pub(crate) fn member_of(&self, vm: &VmId) -> String {
        let Address::Unix(socket) = self.socket("n2") else { panic!("members have sockets") };
        let mut asked = Command::new("curl");
        asked.args(["-s", "--unix-socket"]).arg(socket).arg(format!("http://incus/1.0/instances/berth-{vm}"));
        let answer = asked.output().expect("curl runs").stdout;
        let answer: serde_json::Value = serde_json::from_slice(&answer).expect("an answer");
        answer["metadata"]["location"].as_str().expect("a member").to_owned()
    }

    fn socket(&self, member: &str) -> Address {
        // As the script for trying by hand has it, too.
        let below = [member.to_owned(), format!("n/{member}")];
        let sockets = below.map(|dir| self.base.join(dir).join("lib/unix.socket"));
        let socket = sockets.iter().find(|socket| socket.exists()).unwrap_or(&sockets[0]);
        Address::Unix(socket.clone())
    }

    /// An engine that asks these members, the first one first.
    pub(crate) fn engine(&self, members: &[&str], reach: Reach) -> IncusEngine {
        IncusEngine::new(IncusConfig {
            addresses: members.iter().map(|member| self.socket(member)).collect(),
            tls: None,
            project: "default".into(),
            profiles: vec!["default".into()],
            pool: "default".into(),
            image: "berth".into(),
            kind: Kind::Container,
            reach,
        })
        .expect("there are no files to be wrong")
    }
}

pub(crate) fn spec() -> VmSpec {
    VmSpec { cpus: 1, memory: 512 << 20, disk: 2 << 30 }
}

pub(crate) fn guest() -> Guest {
    Guest {
        hostname: "vm-0".into(),
        names: vec!["vm-0.alice.koding.kd.io".into()],
        user: "alice".parse().expect("a name"),
        authorized_keys:
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDFo4o7L/keqZPca0HgH1u0jsPyR1Y5TPjJuMTIDDJuK test\n".into(),
        others: vec![],
        host_key: Secret::new(HOST_KEY.clone()),
        host_certificate: String::new(),
    }
}

#[expect(clippy::disallowed_methods, reason = "the tests have a key made")]
fn host_key() -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("key");
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&path);
    assert!(keygen.status().expect("ssh-keygen runs").success());
    std::fs::read_to_string(path).expect("a key")
}

#[expect(clippy::disallowed_methods, reason = "the tests run the cluster")]
fn script(base: &Path, name: &str, words: &[&str]) -> bool {
    let mut command = Command::new(SCRIPT);
    command.args(words).env("BASE", base).env("NAME", name);
    command.status().expect("bash runs").success()
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|this| this.uid() == 0)
}

#[expect(clippy::disallowed_methods, reason = "the tests run themselves as root")]
fn as_root() -> Command {
    let mut command = Command::new("sudo");
    command.arg("env");
    for name in ["HOME", "PATH", "BERTH_IMAGE_DIR", "BERTH_TEST_CLUSTER"] {
        if let Ok(value) = env::var(name) {
            command.arg(format!("{name}={value}"));
        }
    }
    command.args(env::args_os());
    command
}

/// Starts a cluster and this program on its network, and ends the cluster after it.
pub(crate) fn start_and_enter(wanted: &[String]) -> ExitCode {
    if !is_root() {
        let error = as_root().exec();
        eprintln!("These tests need root, for namespaces, and sudo does not run: {error}");
        return ExitCode::FAILURE;
    }
    if let Ok(words) = env::var("BERTH_TEST_CLUSTER") {
        let cluster = Cluster::named(&words).expect("BERTH_TEST_CLUSTER=BASE:NAME");
        return enter(&cluster, wanted);
    }
    for program in ["incusd", "lxcfs", "dnsmasq", "ip", "curl"] {
        let places = ["/usr/libexec/incus", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
        if !places.iter().any(|dir| Path::new(dir).join(program).exists()) {
            eprintln!("{program} is missing, which the tests of clusters need: scripts/install-deps.sh test");
            return ExitCode::FAILURE;
        }
    }
    let folder = tempfile::Builder::new().prefix("berth-cluster-").tempdir().expect("a folder");
    let cluster = Cluster { base: folder.path().into(), name: format!("berth{}", std::process::id()) };
    let image = match image() {
        Ok(image) => image,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let image = image.to_str().expect("a path in UTF-8");
    let ended = if script(&cluster.base, &cluster.name, &["up", "3", image]) {
        enter(&cluster, wanted)
    } else {
        ExitCode::FAILURE
    };
    script(&cluster.base, &cluster.name, &["down"]);
    ended
}

#[expect(clippy::disallowed_methods, reason = "the tests enter the network of the cluster")]
fn enter(cluster: &Cluster, wanted: &[String]) -> ExitCode {
    let this = env::current_exe().expect("this program has a path");
    let words = format!("{}:{}", cluster.base.display(), cluster.name);
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/run/netns/{}-hub", cluster.name)).arg(this).args(wanted).env(ENTERED, words);
    let status = command.status().expect("nsenter runs");
    if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The newest image for containers.
fn image() -> Result<PathBuf, String> {
    let home = env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let dir = env::var_os("BERTH_IMAGE_DIR").map_or_else(|| home.join(".cache/berth/images"), PathBuf::from);
    let images = std::fs::read_dir(&dir).into_iter().flatten().flatten();
    let images = images.map(|entry| entry.path()).filter(|path| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("container-debian-13-"))
    });
    let archives = images.map(|path| path.join("image.tar.zst")).filter(|path| path.is_file());
    archives.max_by_key(|path| path.metadata().and_then(|file| file.modified()).ok()).ok_or_else(|| {
        format!(
            "There is no image for containers in {}: cargo run -p berth-engine-qemu --bin berth-image {} container",
            dir.display(),
            dir.display()
        )
    })
}
