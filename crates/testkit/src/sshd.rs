//! An sshd in memory, for what opens ssh sessions into VMs.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use russh::{
    Channel, ChannelId, ChannelMsg, Error, Pty,
    keys::{Certificate, HashAlg, PrivateKey, PublicKey},
    server::{self, Auth, ChannelOpenHandle, Handler, Msg, Session},
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::task::TaskTracker;

/// An sshd with one host key, which lets in by certificate alone. Clones are the same one.
///
/// A command that says `list-sessions` prints the sessions 1 and 3. Any other one echoes what is typed, but for `exit`,
/// which ends it with status 7, `flood`, after which it prints without end, `stuck`, after which it reads no more, and
/// `vanish`, after which the connection ends.
#[derive(Clone)]
pub struct Sshd {
    shared: Arc<Shared>,
}

struct Shared {
    host_key: PrivateKey,
    authorized_keys: Box<dyn Fn() -> String + Send + Sync>,
    seen: Mutex<Vec<String>>,
    flooded: AtomicUsize,
    tasks: TaskTracker,
}

impl Sshd {
    /// With this host key, and the authorized_keys that are asked for at each log-in: of those, lines with
    /// `cert-authority,principals="…"` count.
    ///
    /// # Panics
    /// When the host key is none.
    #[must_use]
    pub fn new(host_key: &str, authorized_keys: impl Fn() -> String + Send + Sync + 'static) -> Self {
        let host_key = PrivateKey::from_openssh(host_key).expect("a private key in OpenSSH's format");
        let shared = Shared {
            host_key,
            authorized_keys: Box::new(authorized_keys),
            seen: Mutex::default(),
            flooded: AtomicUsize::new(0),
            tasks: TaskTracker::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Serves one connection to its end.
    pub async fn serve<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(&self, stream: S) {
        let config = server::Config {
            keys: vec![self.shared.host_key.clone()],
            auth_rejection_time: std::time::Duration::ZERO,
            inactivity_timeout: None,
            ..server::Config::default()
        };
        if let Ok(session) = server::run_stream(Arc::new(config), stream, Serving(self.clone())).await {
            let _ended = session.await;
        }
    }

    /// What clients asked for, in order: `log-in alice`, `env A=b`, `pty xterm 80x24`, `exec …`, `size 100x30`,
    /// `typed 5`.
    #[must_use]
    pub fn seen(&self) -> Vec<String> {
        self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many bytes `flood` has got rid of.
    #[must_use]
    pub fn flooded(&self) -> usize {
        self.shared.flooded.load(Ordering::Relaxed)
    }

    fn saw(&self, what: String) {
        self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }

    fn lets_in(&self, certificate: &Certificate) -> bool {
        let lines = (self.shared.authorized_keys)();
        lines.lines().any(|line| {
            let Some(rest) = line.strip_prefix("cert-authority,principals=\"") else { return false };
            let Some((principal, key)) = rest.split_once("\" ") else { return false };
            let Ok(authority) = PublicKey::from_openssh(key) else { return false };
            certificate.validate(&[authority.fingerprint(HashAlg::Sha256)]).is_ok()
                && certificate.valid_principals().iter().any(|one| one == principal)
        })
    }

    async fn run(self, mut channel: Channel<Msg>) -> Result<(), Error> {
        while let Some(message) = channel.wait().await {
            match message {
                ChannelMsg::SetEnv { variable_name, variable_value, .. } => {
                    self.saw(format!("env {variable_name}={variable_value}"));
                }
                ChannelMsg::RequestPty { term, col_width, row_height, .. } => {
                    self.saw(format!("pty {term} {col_width}x{row_height}"));
                }
                ChannelMsg::WindowChange { col_width, row_height, .. } => {
                    self.saw(format!("size {col_width}x{row_height}"));
                }
                ChannelMsg::Exec { command, .. } => {
                    let command = String::from_utf8_lossy(&command).into_owned();
                    self.saw(format!("exec {command}"));
                    if command.contains("list-sessions") {
                        channel.data(&b"1\n3\nother\n"[..]).await?;
                        return ended(&channel, 0).await;
                    }
                }
                ChannelMsg::Data { data } => match &data[..] {
                    b"exit" => return ended(&channel, 7).await,
                    b"stuck" => std::future::pending().await,
                    b"vanish" => return Err(Error::Disconnect),
                    b"flood" => loop {
                        channel.data(&[b'y'; 4096][..]).await?;
                        self.shared.flooded.fetch_add(4096, Ordering::Relaxed);
                    },
                    typed => {
                        self.saw(format!("typed {}", typed.len()));
                        channel.data(typed).await?;
                    }
                },
                _ => {}
            }
        }
        Ok(())
    }
}

async fn ended(channel: &Channel<Msg>, status: u32) -> Result<(), Error> {
    channel.exit_status(status).await?;
    channel.eof().await?;
    channel.close().await
}

struct Serving(Sshd);

impl Handler for Serving {
    type Error = Error;

    async fn auth_openssh_certificate(
        &mut self,
        user: &str,
        certificate: &Certificate,
    ) -> Result<Auth, Error> {
        if self.0.lets_in(certificate) {
            self.0.saw(format!("log-in {user}"));
            Ok(Auth::Accept)
        } else {
            Ok(Auth::reject())
        }
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        session: &mut Session,
    ) -> Result<(), Error> {
        reply.accept().await;
        let (sshd, handle) = (self.0.clone(), session.handle());
        self.0.shared.tasks.spawn(async move {
            if sshd.run(channel).await.is_err() {
                let _gone =
                    handle.disconnect(russh::Disconnect::ByApplication, String::new(), String::new()).await;
            }
        });
        Ok(())
    }

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        _term: &str,
        _columns: u32,
        _rows: u32,
        _width: u32,
        _height: u32,
        _modes: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Error> {
        session.channel_success(channel)
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        _command: &[u8],
        session: &mut Session,
    ) -> Result<(), Error> {
        session.channel_success(channel)
    }
}
