//! A state folder with a server in it, which leaves nothing behind.
//!
//! The folder is made inside the configured state folder, so that VMs are on the disk that VMs are on; the memory of VMs
//! is in a folder of its own inside the configured one. Both are removed in the end, with every process that names them.

use std::{
    fs,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    task::spawn_blocking,
    time::{sleep, timeout},
};

use super::{
    client,
    processes::{self, Process},
};
use crate::{
    admin::{
        client::ask,
        wire::{Answer, Failure, FailureKind, Request},
    },
    config::{AccountLimits, Config, Log, Span},
    ssh_config,
    state::StateDir,
};

/// The member whose VMs are measured.
pub(super) const ACCOUNT: &str = "bench";
/// So long may a server take to answer, or to end.
const SERVER_WITHIN: Duration = Duration::from_secs(60);
/// So long may the engine take to end and delete every VM.
const REMOVED_WITHIN: Duration = Duration::from_secs(120);
/// What new VMs are forked from takes a boot to make.
const FORKS_WITHIN: Duration = Duration::from_secs(600);
/// So long may a sleep take to be written to the disk.
const SETTLED_WITHIN: Duration = Duration::from_secs(120);
const GLANCE: Duration = Duration::from_millis(20);

/// See the module.
pub(super) struct World {
    /// The state folder that the configuration names, if it was made for this.
    made: Option<PathBuf>,
    state: TempDir,
    memory: TempDir,
    config: Config,
    /// What ssh calls the gateway.
    gateway: String,
    server: Option<Child>,
}

impl World {
    /// Makes the folders. Nothing runs yet.
    pub(super) fn make(config: &Config) -> anyhow::Result<Self> {
        let parent = &config.state_dir;
        let made = (!parent.exists()).then(|| parent.clone());
        fs::DirBuilder::new().recursive(true).mode(0o711).create(parent).with_context(|| {
            format!("{} cannot be made; name another folder with --state", parent.display())
        })?;
        let state = folder("bench.", parent)?;
        let memory = folder("berth-bench.", &config.host.memory_dir)?;
        let mut config = config.clone();
        config.state_dir = state.path().to_owned();
        config.host.memory_dir = memory.path().to_owned();
        Ok(Self { made, state, memory, config: Self::quiet(config), gateway: String::new(), server: None })
    }

    /// On ports that nobody has, and with a policy that does not meddle.
    fn quiet(mut config: Config) -> Config {
        let any_port = vec![([127, 0, 0, 1], 0).into()];
        config.ssh.listen = any_port.clone();
        config.http.listen = any_port;
        config.idle.sleep_after = None;
        config.log = Log::default();
        config.limits = AccountLimits { vms: None, cpus: None, memory: None, disk: None };
        config
    }

    fn path(&self, name: &str) -> PathBuf {
        self.state.path().join(name)
    }

    /// The configuration for ssh.
    pub(super) fn ssh_config(&self) -> PathBuf {
        self.path("ssh_config")
    }

    /// Starts the server, with an account that has a key.
    pub(super) async fn open(&mut self) -> anyhow::Result<()> {
        self.serve().await?;
        let key = self.path("key");
        let made =
            client::program("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).output();
        let made = made.await.context("ssh-keygen cannot be started; it is in the package openssh-client")?;
        if !made.status.success() {
            bail!("ssh-keygen fails: {}", String::from_utf8_lossy(&made.stderr).trim());
        }
        self.ask(Request::AccountAdd { name: ACCOUNT.into() }).await?;
        let pasted = fs::read_to_string(key.with_extension("pub"))?;
        self.ask(Request::KeyAdd { account: ACCOUNT.into(), pasted, label: None }).await?;
        self.write_ssh_config().await
    }

    /// Starts the server again, with a policy that puts VMs to sleep after so long.
    pub(super) async fn let_them_sleep_after(&mut self, time: Duration) -> anyhow::Result<()> {
        self.end_server().await?;
        self.config.idle.sleep_after = Some(Span(time));
        self.serve().await?;
        self.write_ssh_config().await
    }

    /// For the port that the server has.
    async fn write_ssh_config(&mut self) -> anyhow::Result<()> {
        let Answer::WayIn(way) = self.ask(Request::AccountWayIn { name: ACCOUNT.into() }).await? else {
            bail!(super::super::misfit());
        };
        let text = ssh_config::write(&way, &self.ssh_config(), &[self.path("key")])?;
        self.gateway = way.gateway;
        Ok(fs::write(self.ssh_config(), text)?)
    }

    /// What ssh calls a VM in direct mode.
    pub(super) fn direct(&self, vm: &str) -> String {
        let label = vm.split('.').next().unwrap_or(vm);
        format!("{label}@{}", self.gateway)
    }

    async fn serve(&mut self) -> anyhow::Result<()> {
        let text = toml::to_string(&self.config)?;
        fs::write(self.path("bench.toml"), text).context("The bench's configuration cannot be written")?;
        self.spawn()?;
        let deadline = Instant::now() + SERVER_WITHIN;
        while let Err(error) = self.ask(Request::AccountList {}).await {
            let ended = self.server.as_mut().is_none_or(|server| !matches!(server.try_wait(), Ok(None)));
            if ended || Instant::now() > deadline {
                bail!(
                    "The server does not start: {}",
                    self.end_of_log().unwrap_or_else(|| error.to_string())
                );
            }
            sleep(GLANCE).await;
        }
        Ok(())
    }

    fn spawn(&mut self) -> anyhow::Result<()> {
        let log = fs::File::create(self.path("server.log"))?;
        #[expect(clippy::disallowed_methods, reason = "a bench runs what it measures")]
        let mut command = Command::new("/proc/self/exe");
        command.arg("serve").arg("--config").arg(self.path("bench.toml"));
        for name in ["BERTH_CONFIG", "BERTH_STATE", "BERTH_IMAGE_DIR"] {
            command.env_remove(name);
        }
        // A Ctrl-C is for the bench, which then needs the server to clear away.
        command.process_group(0).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.server = Some(command.spawn().context("The server cannot be started")?);
        Ok(())
    }

    fn end_of_log(&self) -> Option<String> {
        let log = fs::read_to_string(self.path("server.log")).ok()?;
        log.lines().last().map(str::to_owned)
    }

    /// Asks the server.
    pub(super) async fn ask(&self, request: Request) -> Result<Answer, Failure> {
        let socket = StateDir::at(self.state.path()).admin_socket();
        let asked = spawn_blocking(move || ask(&socket, &request, |_| {})).await;
        asked.unwrap_or_else(|error| Err(Failure::new(FailureKind::Unavailable, error.to_string())))
    }

    /// Waits until new VMs are forked; `false` where they boot.
    pub(super) async fn forks(&self) -> anyhow::Result<bool> {
        let deadline = Instant::now() + FORKS_WITHIN;
        loop {
            let log = fs::read_to_string(self.path("server.log")).unwrap_or_default();
            if log.contains("new VMs boot instead of being forked") {
                return Ok(false);
            }
            if self.has_template() {
                return Ok(true);
            }
            if Instant::now() > deadline {
                bail!("What new VMs are forked from is not made in {} minutes", FORKS_WITHIN.as_secs() / 60);
            }
            sleep(GLANCE * 5).await;
        }
    }

    /// It appears whole; while it is made it has another name.
    fn has_template(&self) -> bool {
        let mut entries = fs::read_dir(self.path("templates")).into_iter().flatten().flatten();
        entries.any(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            !name.starts_with("building-") && !name.starts_with('.') && entry.path().is_dir()
        })
    }

    /// Every process that belongs to this world, but for the server.
    fn processes(&self) -> Vec<Process> {
        let mut words =
            vec![self.state.path().display().to_string(), self.memory.path().display().to_string()];
        let vms = fs::read_dir(self.path("vms")).into_iter().flatten().flatten();
        words.extend(vms.filter_map(|entry| entry.file_name().to_str().map(str::to_owned)));
        let server = self.server.as_ref().and_then(Child::id).and_then(|pid| i32::try_from(pid).ok());
        let mut all = processes::with_words(&words);
        all.retain(|process| Some(process.pid) != server);
        all
    }

    /// The QEMUs that run.
    pub(super) fn qemus(&self) -> Vec<Process> {
        let mut all = self.processes();
        all.retain(Process::is_qemu);
        all
    }

    /// Waits until the VMs that sleep do so on disk, and nothing is left of their memory.
    pub(super) async fn settled(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + SETTLED_WITHIN;
        while bytes_in(self.memory.path()) > 0 {
            if Instant::now() > deadline {
                bail!(
                    "The memory of a sleeping VM is not written to the disk in {} s",
                    SETTLED_WITHIN.as_secs()
                );
            }
            sleep(GLANCE).await;
        }
        Ok(())
    }

    /// What VMs take on the disk.
    pub(super) fn bytes_of_vms(&self) -> u64 {
        bytes_in(&self.path("vms"))
    }

    async fn end_server(&mut self) -> anyhow::Result<()> {
        let Some(mut server) = self.server.take() else { return Ok(()) };
        if let Some(pid) = server.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw) {
            let _gone_already = kill_process(pid, Signal::TERM);
        }
        if timeout(SERVER_WITHIN, server.wait()).await.is_err() {
            server.kill().await?;
        }
        Ok(())
    }

    /// Ends and deletes everything.
    pub(super) async fn clear(mut self) -> anyhow::Result<()> {
        if self.server.is_some() {
            let removal = self.ask(Request::AccountRemove { name: ACCOUNT.into() });
            // What it does not manage is done by force below.
            let _removed = timeout(REMOVED_WITHIN, removal).await;
            self.end_server().await?;
        }
        for _ in 0..100 {
            let left = self.processes();
            if left.is_empty() {
                break;
            }
            left.iter().for_each(processes::kill);
            sleep(GLANCE).await;
        }
        let (state, memory) = (self.state.path().to_owned(), self.memory.path().to_owned());
        let removed = self.state.close().and(self.memory.close());
        if let Some(made) = &self.made {
            // Somebody else may have put something there.
            let _not_empty = fs::remove_dir(made);
        }
        removed.map_err(|error| {
            anyhow!(
                "{} or {} cannot be removed: {error}; remove them by hand",
                state.display(),
                memory.display()
            )
        })
    }
}

fn folder(prefix: &str, parent: &Path) -> anyhow::Result<TempDir> {
    tempfile::Builder::new()
        .prefix(prefix)
        .rand_bytes(4)
        .tempdir_in(parent)
        .with_context(|| format!("No folder can be made in {}", parent.display()))
}

/// What the files below a folder take, in bytes.
fn bytes_in(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let meta = entry.metadata().ok()?;
            Some(if meta.is_dir() { bytes_in(&entry.path()) } else { meta.blocks() * 512 })
        })
        .sum()
}
