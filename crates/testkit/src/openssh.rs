//! The ssh that everybody has, in a folder of its own: no agent, no configuration and no known host but what a test
//! gives it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tempfile::TempDir;
use tokio::{
    io::AsyncWriteExt,
    process::{Child, Command},
};

/// Longer than anything in a test takes, even on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(120);

/// OpenSSH's programs with a home folder of their own, which goes away with this value.
pub struct OpenSsh {
    home: TempDir,
}

/// What a program did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Its exit status; `None` when a signal ended it.
    pub status: Option<i32>,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: String,
}

impl OpenSsh {
    /// An empty home folder with a configuration that shuts everything else out.
    ///
    /// # Panics
    /// When no folder can be made.
    #[must_use]
    pub fn new() -> Self {
        let home = tempfile::Builder::new().prefix("ssh").tempdir().expect("a temporary folder");
        let ssh = Self { home };
        fs::write(ssh.file("known_hosts"), "").expect("the folder is ours");
        ssh.add_config(&format!(
            "Host *\n  UserKnownHostsFile {}\n  GlobalKnownHostsFile /dev/null\n  StrictHostKeyChecking yes\n  \
             UpdateHostKeys no\n  IdentityAgent none\n  IdentitiesOnly yes\n  ControlPath none\n",
            ssh.file("known_hosts").display()
        ));
        ssh
    }

    /// A file in the home folder.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Adds lines to the configuration. The first value that ssh finds for a keyword counts, so what was said before
    /// stays.
    ///
    /// # Panics
    /// When the file cannot be written.
    pub fn add_config(&self, text: &str) {
        let before = fs::read_to_string(self.file("config")).unwrap_or_default();
        fs::write(self.file("config"), before + text).expect("the folder is ours");
    }

    /// Makes `host` known: a name, or `[name]:port` where the port is not 22. `key` is `type base64`.
    ///
    /// # Panics
    /// When the file cannot be written.
    pub fn add_known_host(&self, host: &str, key: &str) {
        let before = fs::read_to_string(self.file("known_hosts")).unwrap_or_default();
        fs::write(self.file("known_hosts"), format!("{before}{host} {key}\n")).expect("the folder is ours");
    }

    /// Makes a key pair without a passphrase, in files `name` and `name.pub`, and gives the public line. `kind` are
    /// arguments of ssh-keygen such as `-t ed25519`.
    ///
    /// # Panics
    /// When ssh-keygen fails.
    pub async fn new_key(&self, name: &str, kind: &[&str]) -> String {
        let path = self.file(name);
        let path = path.to_str().expect("temporary folders have plain names");
        let args = [&["-q", "-N", "", "-C", "test", "-f", path], kind].concat();
        let made = finish(self.start("ssh-keygen", &args), b"").await;
        assert_eq!(made.status, Some(0), "{}", made.stderr);
        fs::read_to_string(format!("{path}.pub")).expect("it has a public half")
    }

    /// A program of OpenSSH, not started yet: `ssh`, `scp` and `sftp` with the configuration of this folder.
    #[must_use]
    pub fn command(&self, program: &str, args: &[&str]) -> Command {
        #[expect(clippy::disallowed_methods, reason = "running the real client is what this is for")]
        let mut command = Command::new(program);
        if matches!(program, "ssh" | "scp" | "sftp") {
            command.arg("-F").arg(self.file("config"));
        }
        command.args(args).current_dir(self.home.path()).env_clear().kill_on_drop(true);
        command.env("HOME", self.home.path()).env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Starts a program.
    ///
    /// # Panics
    /// When there is no such program.
    #[must_use]
    pub fn start(&self, program: &str, args: &[&str]) -> Child {
        let mut command = self.command(program, args);
        command.spawn().unwrap_or_else(|error| panic!("{program} (openssh-client) does not start: {error}"))
    }

    /// Runs a program to its end, giving it `stdin`.
    ///
    /// # Panics
    /// When there is no such program, or it takes over two minutes.
    pub async fn run(&self, program: &str, args: &[&str], stdin: &[u8]) -> Output {
        finish(self.start(program, args), stdin).await
    }

    /// The folder.
    #[must_use]
    pub fn home(&self) -> &Path {
        self.home.path()
    }
}

impl Default for OpenSsh {
    fn default() -> Self {
        Self::new()
    }
}

async fn finish(mut child: Child, stdin: &[u8]) -> Output {
    let mut input = child.stdin.take().expect("stdin is a pipe");
    let feed = async {
        // A program that does not read to the end is no failure of the test.
        let _ = input.write_all(stdin).await;
        drop(input);
    };
    let both = async { tokio::join!(child.wait_with_output(), feed).0 };
    let output = tokio::time::timeout(PATIENCE, both)
        .await
        .expect("it ends in two minutes")
        .expect("it can be waited for");
    Output {
        status: output.status.code(),
        stdout: output.stdout,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
