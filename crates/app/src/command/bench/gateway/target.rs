//! What is connected to: the same for both gateways, on ports of the loopback.

use std::net::SocketAddr;

use anyhow::Context as _;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy, split},
    net::{TcpListener, TcpStream},
};
use tokio_util::task::TaskTracker;

/// What each of them says or takes at once.
const CHUNK: usize = 256 << 10;

/// What the sink confirms by a byte. The end of what is sent would not do: nc keeps it to itself.
pub(super) const HEARD: usize = 16 << 20;

/// Their ports.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target {
    /// Says one byte, then everything that it hears.
    pub(super) echo: u16,
    /// Says zeros without end.
    pub(super) source: u16,
    /// Hears everything, and says one byte for each [`HEARD`].
    pub(super) sink: u16,
}

impl Target {
    /// They listen until the runtime ends.
    pub(super) async fn open(tasks: &TaskTracker) -> anyhow::Result<Self> {
        Ok(Self {
            echo: listen(tasks, echo).await?,
            source: listen(tasks, source).await?,
            sink: listen(tasks, sink).await?,
        })
    }
}

async fn listen<F>(
    tasks: &TaskTracker,
    serve: impl Fn(TcpStream) -> F + Send + 'static,
) -> anyhow::Result<u16>
where
    F: Future<Output = std::io::Result<()>> + Send + 'static,
{
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let listener: TcpListener =
        socket.listen(4096).context("A port of the loopback cannot be listened on")?;
    let port = listener.local_addr()?.port();
    let spawner = tasks.clone();
    tasks.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _no_delay = stream.set_nodelay(true);
            let serving = serve(stream);
            spawner.spawn(async move {
                let _ended_by_the_peer = serving.await;
            });
        }
    });
    Ok(port)
}

async fn echo(mut stream: TcpStream) -> std::io::Result<()> {
    stream.write_all(b"!").await?;
    let (mut read, mut write) = split(stream);
    copy(&mut read, &mut write).await?;
    write.shutdown().await
}

async fn source(mut stream: TcpStream) -> std::io::Result<()> {
    let zeros = vec![0; CHUNK];
    loop {
        stream.write_all(&zeros).await?;
    }
}

async fn sink(mut stream: TcpStream) -> std::io::Result<()> {
    let (mut buffer, mut heard) = (vec![0; CHUNK], 0);
    loop {
        match stream.read(&mut buffer).await? {
            0 => return stream.shutdown().await,
            n => heard += n,
        }
        while heard >= HEARD {
            heard -= HEARD;
            stream.write_all(b"!").await?;
        }
    }
}
