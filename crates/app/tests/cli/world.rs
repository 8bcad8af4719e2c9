//! A folder, the binary in it, and its server.

use std::{
    fs,
    io::Write,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

/// A command that is given nothing of this process's environment but the way to programs.
#[expect(clippy::disallowed_methods, reason = "these tests run the real binary, as a person does")]
pub(crate) fn command(program: impl AsRef<Path>) -> Command {
    let mut command = Command::new(program.as_ref());
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).stdin(Stdio::null());
    command
}

/// What a command came to.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    fn new(output: Output) -> Self {
        Self {
            status: output.status.code().expect("the command was not killed"),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// The output of a command that must have done what it was asked.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.status, 0, "{self:?}");
        self.stdout
    }

    /// The complaint of a command that must have been refused.
    #[track_caller]
    pub(crate) fn refused(self) -> String {
        assert_eq!(self.status, 1, "{self:?}");
        assert_eq!(self.stdout, "", "a refusal is no result");
        self.stderr
    }
}

/// A folder with a configuration whose ports the system chooses.
pub(crate) struct World {
    dir: tempfile::TempDir,
}

impl World {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let world = Self { dir };
        world.write("berth.toml", "[ssh]\nlisten = ['127.0.0.1:0']\n[http]\nlisten = ['127.0.0.1:0']\n");
        world
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.path("state")
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        fs::write(self.path(name), text).unwrap();
        self.path(name)
    }

    pub(crate) fn command(&self, words: &str) -> Command {
        let mut command = command(env!("CARGO_BIN_EXE_berth"));
        command.args(words.split_whitespace()).current_dir(self.dir.path());
        command.env("BERTH_CONFIG", self.path("berth.toml")).env("BERTH_STATE", self.state());
        command.env("HOME", self.dir.path());
        command
    }

    pub(crate) fn run(&self, words: &str) -> Ran {
        Ran::new(self.command(words).output().unwrap())
    }

    pub(crate) fn run_with_input(&self, words: &str, input: &str) -> Ran {
        let mut command = self.command(words);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        Ran::new(child.wait_with_output().unwrap())
    }

    pub(crate) fn json(&self, words: &str) -> Value {
        let ran = self.run(&format!("{words} --json"));
        serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
    }

    /// A new key pair; the path of its private half.
    pub(crate) fn key_pair(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        let made = command("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", "a comment", "-f"])
            .arg(&path)
            .status();
        assert!(made.unwrap().success());
        path
    }

    /// A server whose log nobody can read: it is ready when it answers.
    pub(crate) fn serve_into(&self, log: fs::File) -> Server<'_> {
        let child = self.command("serve").stderr(log).spawn().unwrap();
        let server = Server { world: self, child };
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.run("admin account list").status != 0 {
            assert!(Instant::now() < deadline, "the server does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }

    pub(crate) fn serve(&self) -> Server<'_> {
        let log = self.path("server.log");
        let file = fs::File::create(&log).unwrap();
        let child = self.command("serve").stderr(file).spawn().unwrap();
        let mut server = Server { world: self, child };
        server.wait_until_ready();
        server
    }
}

/// A server, which ends with the test.
pub(crate) struct Server<'a> {
    world: &'a World,
    child: Child,
}

impl Server<'_> {
    fn wait_until_ready(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !self.log().contains(" ready ") {
            assert!(self.child.try_wait().unwrap().is_none(), "the server ended: {}", self.log());
            assert!(Instant::now() < deadline, "the server is not ready: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.world.path("server.log")).unwrap()
    }

    /// Where it listens for `what`, as the log says.
    pub(crate) fn address(&self, what: &str) -> String {
        let log = self.log();
        let (_, rest) =
            log.split_once(&format!("listening for {what} address=")).expect("the log tells the address");
        rest.split_whitespace().next().unwrap().to_owned()
    }

    pub(crate) fn admin_socket(&self) -> UnixStream {
        let stream = UnixStream::connect(self.world.state().join("admin.sock")).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    }

    /// Sends SIGTERM and returns the exit status, and how long that took.
    pub(crate) fn terminate(mut self) -> (i32, Duration) {
        let started = Instant::now();
        let pid = self.child.id().to_string();
        assert!(command("kill").args(["-TERM", &pid]).status().unwrap().success());
        let status = self.child.wait().unwrap();
        (status.code().expect("it ended by itself"), started.elapsed())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended, by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
