//! The listeners.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use berth_control::Control;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, info, warn};

use crate::{
    admission::Admission,
    certificate::Identity,
    connection::{self, Common},
    direct::Spares,
    host_key::HostKey,
    refusal::words,
    settings::GatewaySettings,
};

/// How long accepting pauses after the system could not (no more file descriptors, no memory): at first and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// The gateway.
pub struct Gateway;

impl Gateway {
    /// Serves all `listeners` until `shutdown` is cancelled; then tells every client and returns once their
    /// connections are gone, a second or so later.
    ///
    /// Dropping the future stops accepting and leaves the connections that there are to themselves.
    pub async fn serve(
        control: Arc<Control>,
        listeners: Vec<TcpListener>,
        host_key: HostKey,
        settings: GatewaySettings,
        shutdown: CancellationToken,
    ) {
        let tasks = TaskTracker::new();
        let door = Admission::new(settings.max_unauthenticated, settings.max_unauthenticated_per_source);
        let identity = Identity::new(control.clone(), host_key, &settings);
        let (configs, config) = watch::channel(identity.config());
        let common = Arc::new(Common {
            spares: Spares::new(control.clone(), tasks.clone(), shutdown.clone()),
            control,
            settings: Arc::new(settings),
            config,
            tasks: tasks.clone(),
            shutdown: shutdown.clone(),
        });
        let stop = shutdown.clone();
        tasks.spawn(async move {
            let _ends_only_so = stop.run_until_cancelled(identity.follow(configs)).await;
        });
        for listener in listeners {
            let (common, door) = (common.clone(), door.clone());
            tasks.spawn(async move {
                let shutdown = common.shutdown.clone();
                let _ends_only_so = shutdown.run_until_cancelled(accept(listener, common, door)).await;
            });
        }
        shutdown.cancelled().await;
        tasks.close();
        tasks.wait().await;
    }
}

async fn accept(listener: TcpListener, common: Arc<Common>, door: Arc<Admission>) {
    if let Ok(address) = listener.local_addr() {
        info!(%address, "listening for ssh");
    }
    let mut pause = PAUSE.0;
    loop {
        match listener.accept().await {
            Ok((stream, from)) => {
                pause = PAUSE.0;
                welcome(&common, &door, stream, from);
            }
            Err(error) if concerns_one_client(&error) => debug!(%error, "a connection was gone at once"),
            Err(error) => {
                warn!(%error, "cannot accept connections, trying again in {pause:?}");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE.1);
            }
        }
    }
}

fn welcome(common: &Arc<Common>, door: &Arc<Admission>, stream: TcpStream, from: SocketAddr) {
    let Some(place) = door.admit(from.ip()) else {
        debug!(%from, "too many connections are logging in");
        return turn_away(stream);
    };
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%from, %error, "a connection was gone at once");
        return;
    }
    common.tasks.spawn(connection::serve(common.clone(), stream, from, place));
}

/// A server may say something before its identification (RFC 4253, 4.2). A new socket has room for it.
fn turn_away(stream: TcpStream) {
    if let Ok(stream) = stream.into_std() {
        let _ = io::Write::write(&mut &stream, words::TOO_MANY_STRANGERS.as_bytes());
    }
}

fn concerns_one_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}
