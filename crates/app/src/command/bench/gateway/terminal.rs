//! A terminal in the VM: in the page, as its script speaks to it; and, for the peer, by ssh through the jump host.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use futures::{SinkExt as _, StreamExt as _};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Message, client::IntoClientRequest as _},
};

use super::load::{Open, PATIENCE, Tunnel, Way};

/// The number of the terminal in which something prints without end. In others there is an echo.
pub(super) const PRINTS: u16 = 99;
/// A page tells that it has drawn so much when it has.
const DRAWN: usize = 64 << 10;

/// The website, and who is logged in there.
#[derive(Debug, Clone)]
pub(super) struct Site {
    pub(super) address: SocketAddr,
    pub(super) cookie: String,
}

/// One that is open.
pub(super) enum Terminal {
    Page(Box<Page>),
    Session(Box<Open>),
}

/// A page's connection.
pub(super) struct Page {
    socket: WebSocketStream<TcpStream>,
    drawn: usize,
}

impl Terminal {
    /// By ssh, with a program that does what this port does.
    pub(super) async fn by_ssh(way: &Way, port: u16) -> anyhow::Result<Self> {
        let mut open = way.open(Tunnel::Inside, port).await?;
        open.take(1).await?;
        Ok(Self::Session(Box::new(open)))
    }

    /// In a page.
    pub(super) async fn in_a_page(site: &Site, number: u16) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(site.address).await?;
        stream.set_nodelay(true)?;
        let host = format!("localhost:{}", site.address.port());
        let mut asked = format!("ws://{host}/vms/vm-0/terminal/open?n={number}").into_client_request()?;
        asked.headers_mut().insert("cookie", format!("berth-on-loopback={}", site.cookie).parse()?);
        asked.headers_mut().insert("origin", format!("http://{host}").parse()?);
        let (socket, _) = client_async(asked, stream).await.context("The terminal is not opened")?;
        let mut page = Page { socket, drawn: 0 };
        page.say(r#"{"is":"open","columns":80,"rows":24,"again":false}"#.to_owned()).await?;
        page.hear().await?;
        Ok(Self::Page(Box::new(page)))
    }

    /// How long a key takes until it is shown.
    pub(super) async fn echo(&mut self) -> anyhow::Result<Duration> {
        match self {
            Self::Session(open) => open.round_trip().await,
            Self::Page(page) => {
                let began = Instant::now();
                page.socket.send(Message::binary(&b"x"[..])).await?;
                page.hear().await?;
                Ok(began.elapsed())
            }
        }
    }

    /// How long so many bytes of output take.
    pub(super) async fn output(self, bytes: usize) -> anyhow::Result<Duration> {
        match self {
            Self::Session(open) => open.download(bytes).await,
            Self::Page(mut page) => {
                let (began, mut heard) = (Instant::now(), 0);
                while heard < bytes {
                    heard += page.hear().await?;
                }
                Ok(began.elapsed())
            }
        }
    }
}

impl Page {
    async fn say(&mut self, word: String) -> anyhow::Result<()> {
        Ok(self.socket.send(Message::text(word)).await?)
    }

    /// Waits for output, and tells that it is drawn; gives how many bytes it is.
    async fn hear(&mut self) -> anyhow::Result<usize> {
        loop {
            let message = timeout(PATIENCE, self.socket.next()).await.context("A terminal is silent")?;
            match message.context("A terminal was closed")?? {
                Message::Binary(data) => {
                    self.drawn += data.len();
                    if self.drawn >= DRAWN {
                        let bytes = std::mem::take(&mut self.drawn);
                        self.say(format!(r#"{{"is":"drawn","bytes":{bytes}}}"#)).await?;
                    }
                    return Ok(data.len());
                }
                Message::Text(word) if ["failed", "exit", "lost"].iter().any(|end| word.contains(end)) => {
                    bail!("A terminal has ended: {word}")
                }
                _ => {}
            }
        }
    }
}
