//! An sshd in memory, for what opens ssh sessions into VMs.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use russh::{
    Channel, ChannelId, ChannelMsg, ChannelOpenFailure, Error, Pty, Sig,
    keys::{Certificate, HashAlg, PrivateKey, PublicKey},
    server::{self, Auth, ChannelOpenHandle, Handle, Handler, Msg, Session},
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::task::TaskTracker;

/// How long what the sshd said last may take to its client.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// An sshd with one host key, which lets in by certificate alone. Clones are the same one.
///
/// A command that says `list-sessions` prints the sessions 1 and 3. Any other one, a shell, and the subsystem sftp echo what
/// is typed, and end with status 0 at its end, but for these words:
///
/// | typed | what happens |
/// |---|---|
/// | `exit` | it ends with status 7 |
/// | `late` | it ends with status 9, which is said after the end of its data |
/// | `kill` | it ends by the signal TERM |
/// | `flood` | it prints without end |
/// | `stuck` | it reads no more |
/// | `vanish` | the connection ends |
/// | `warn` | it says `careful` on stderr |
/// | `agent`, `x11`, `port N`, `socket PATH` | it opens a channel back, says `ping` in it, and prints what comes, or `refused` |
///
/// A channel to port 7 of whatever host, or to the socket `/echo`, echoes. All others are refused, the display too.
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

    /// Serves one connection to its end. When the future is dropped, the connection ends.
    pub async fn serve<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(&self, mut stream: S) {
        let config = server::Config {
            nodelay: true,
            keys: vec![self.shared.host_key.clone()],
            auth_rejection_time: Duration::ZERO,
            inactivity_timeout: None,
            ..server::Config::default()
        };
        // russh has a task of its own for the far end, which sees this one go.
        let (mut near, far) = tokio::io::duplex(64 * 1024);
        let serving = async {
            if let Ok(session) = server::run_stream(Arc::new(config), far, Serving(self.clone())).await {
                let _ended = session.await;
            }
        };
        let mut copying = std::pin::pin!(tokio::io::copy_bidirectional(&mut stream, &mut near));
        tokio::select! {
            _ended = &mut copying => {}
            () = serving => {
                // Its last words.
                let _ended = tokio::time::timeout(LAST_WORDS, copying).await;
            }
        }
    }

    /// What clients asked for, in order: `log-in alice`, `permits permit-pty`, `env A=b`, `pty xterm 80x24`, `agent`, `shell`, `exec …`,
    /// `subsystem sftp`, `size 100x30`, `signal INT`, `typed 5`, `to 127.0.0.1:7`, `listen localhost:8000`,
    /// `listen /socket`.
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

    async fn run(self, mut channel: Channel<Msg>, handle: Handle) -> Result<(), Error> {
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
                        channel.data(&b"1 $0 1790000000\n3 $2 1790000001\nother $3 1790000002\n"[..]).await?;
                        return ended(&channel, 0).await;
                    }
                }
                ChannelMsg::RequestShell { .. } => self.saw("shell".to_owned()),
                ChannelMsg::RequestSubsystem { name, .. } => self.saw(format!("subsystem {name}")),
                ChannelMsg::AgentForward { .. } => self.saw("agent".to_owned()),
                ChannelMsg::Signal { signal } => self.saw(format!("signal {signal:?}")),
                ChannelMsg::Eof => return ended(&channel, 0).await,
                ChannelMsg::Data { data } => match data.trim_ascii() {
                    b"kill" => {
                        let said = handle.exit_signal_request(
                            channel.id(),
                            Sig::TERM,
                            false,
                            "killed".to_owned(),
                            String::new(),
                        );
                        said.await.map_err(|()| Error::SendError)?;
                        channel.eof().await?;
                        return channel.close().await;
                    }
                    b"warn" => channel.extended_data(1, &b"careful"[..]).await?,
                    b"exit" => return ended(&channel, 7).await,
                    b"late" => {
                        channel.eof().await?;
                        channel.exit_status(9).await?;
                        return channel.close().await;
                    }
                    b"stuck" => std::future::pending().await,
                    b"vanish" => return Err(Error::Disconnect),
                    b"flood" => loop {
                        channel.data(&[b'y'; 4096][..]).await?;
                        self.shared.flooded.fetch_add(4096, Ordering::Relaxed);
                    },
                    typed => match back(&handle, typed).await {
                        Some(Ok(mut opened)) => {
                            opened.data(&b"ping"[..]).await?;
                            let said = match opened.wait().await {
                                Some(ChannelMsg::Data { data }) => data,
                                _ => "nothing".into(),
                            };
                            opened.close().await?;
                            channel.data_bytes(said).await?;
                        }
                        Some(Err(_)) => channel.data(&b"refused"[..]).await?,
                        None => {
                            self.saw(format!("typed {}", data.len()));
                            channel.data_bytes(data).await?;
                        }
                    },
                },
                _ => {}
            }
        }
        Ok(())
    }
}

/// Opens a channel back, if these are words for that.
async fn back(handle: &Handle, typed: &[u8]) -> Option<Result<Channel<Msg>, Error>> {
    let words = std::str::from_utf8(typed).ok()?;
    Some(match words.split_once(' ').unwrap_or((words, "")) {
        ("agent", "") => handle.channel_open_agent().await,
        ("x11", "") => handle.channel_open_x11("127.0.0.1", 6010).await,
        ("socket", path) => handle.channel_open_forwarded_streamlocal(path).await,
        ("port", port) => {
            let port = port.parse().ok()?;
            handle.channel_open_forwarded_tcpip("localhost", port, "127.0.0.1", 40_000).await
        }
        _ => return None,
    })
}

/// Echoes until the peer has ended its side. What waits to be taken is in a queue of its own: russh gives credit for what
/// it has received, and would wait for this task while this task waits for credit.
async fn echo(channel: Channel<Msg>) -> Result<(), Error> {
    let (mut read, write) = channel.split();
    let (queue, mut queued) = tokio::sync::mpsc::channel(1 << 14);
    let reading = async move {
        while let Some(message) = read.wait().await {
            match message {
                // Whoever takes them from the queue ends with the connection.
                ChannelMsg::Data { data } => drop(queue.send(data).await),
                ChannelMsg::Eof | ChannelMsg::Close => break,
                _ => {}
            }
        }
    };
    let writing = async {
        while let Some(data) = queued.recv().await {
            write.data_bytes(data).await?;
        }
        write.eof().await?;
        write.close().await
    };
    tokio::join!(reading, writing).1
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
            let permits: Vec<&str> = certificate.extensions().keys().map(String::as_str).collect();
            self.0.saw(format!("permits {}", permits.join(" ")));
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
            if sshd.run(channel, handle.clone()).await.is_err() {
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

    async fn shell_request(&mut self, channel: ChannelId, session: &mut Session) -> Result<(), Error> {
        session.channel_success(channel)
    }

    async fn subsystem_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        session: &mut Session,
    ) -> Result<(), Error> {
        if name == "sftp" { session.channel_success(channel) } else { session.channel_failure(channel) }
    }

    async fn env_request(
        &mut self,
        channel: ChannelId,
        _name: &str,
        _value: &str,
        session: &mut Session,
    ) -> Result<(), Error> {
        session.channel_success(channel)
    }

    async fn x11_request(
        &mut self,
        channel: ChannelId,
        _single: bool,
        _protocol: &str,
        _cookie: &str,
        _screen: u32,
        session: &mut Session,
    ) -> Result<(), Error> {
        session.channel_failure(channel)
    }

    async fn agent_request(&mut self, _channel: ChannelId, _session: &mut Session) -> Result<bool, Error> {
        Ok(true)
    }

    async fn tcpip_forward(
        &mut self,
        address: &str,
        port: &mut u32,
        _session: &mut Session,
    ) -> Result<bool, Error> {
        if *port == 0 {
            *port = 4444;
        }
        self.0.saw(format!("listen {address}:{port}"));
        Ok(*port != 23)
    }

    async fn cancel_tcpip_forward(
        &mut self,
        address: &str,
        port: u32,
        _session: &mut Session,
    ) -> Result<bool, Error> {
        self.0.saw(format!("no longer {address}:{port}"));
        Ok(true)
    }

    async fn streamlocal_forward(&mut self, path: &str, _session: &mut Session) -> Result<bool, Error> {
        self.0.saw(format!("listen {path}"));
        Ok(true)
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host: &str,
        port: u32,
        _originator: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Error> {
        self.0.saw(format!("to {host}:{port}"));
        self.stream(channel, reply, port == 7).await
    }

    async fn channel_open_direct_streamlocal(
        &mut self,
        channel: Channel<Msg>,
        path: &str,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Error> {
        self.0.saw(format!("to {path}"));
        self.stream(channel, reply, path == "/echo").await
    }
}

impl Serving {
    async fn stream(
        &self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        is_there: bool,
    ) -> Result<(), Error> {
        if is_there {
            reply.accept().await;
            self.0.shared.tasks.spawn(echo(channel));
        } else {
            reply.reject(ChannelOpenFailure::ConnectFailed).await;
        }
        Ok(())
    }
}
