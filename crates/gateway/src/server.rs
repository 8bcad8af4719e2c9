//! The listeners.

use std::{
    io::{self, Write as _},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use berth_control::{Control, SshNow};
use tokio::{
    io::AsyncReadExt as _,
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, info, warn};

use crate::{
    accounts::Accounts,
    admission::Admission,
    backlog::Pool,
    certificate::Identity,
    connection::{self, Common},
    direct::Spares,
    early,
    host_key::HostKey,
    leash::Hand,
    limit::{Limit, Notices},
    penalty::Penalties,
    refusal::words,
    settings::GatewaySettings,
    ssh::IDENTIFICATION,
};

/// How long accepting pauses after the system could not (no more file descriptors, no memory): at first and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// How long somebody who is refused may take to read why, and how many are waited for at once.
const LAST_WORD: (Duration, usize) = (Duration::from_secs(1), 64);

/// The gateway.
pub struct Gateway;

/// Where everybody comes in.
struct Entrance {
    common: Arc<Common>,
    door: Arc<Admission>,
    last_words: Arc<Semaphore>,
}

impl Gateway {
    /// Serves all `listeners` until `shutdown` is cancelled; then tells every client and returns once their
    /// connections are gone, a second or so later. When the server has left, those who are connected stay so, and it returns
    /// when the last of them has gone.
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
        // What is for those who are to come.
        let left = shutdown.child_token();
        let mut lets_in = control.entrance();
        let limits = settings.limits.clone();
        let door = Admission::new(limits.logging_in, limits.logging_in_per_source);
        let penalties = Arc::new(Penalties::new(settings.penalties.clone()));
        let memory = Arc::new(Pool::new(limits.memory, Limit::Memory));
        let accounts = Accounts::new(limits);
        control.watch_ssh({
            let (door, accounts) = (door.clone(), accounts.clone());
            let (penalties, memory) = (penalties.clone(), memory.clone());
            move || SshNow {
                logging_in: door.count(),
                logged_in: accounts.connections(),
                refused_sources: penalties.refused(),
                waiting: memory.used(),
            }
        });
        let identity = Identity::new(control.clone(), host_key, &settings);
        let (configs, config) = watch::channel(identity.config());
        let common = Arc::new(Common {
            spares: Spares::new(control.clone(), tasks.clone(), left.clone()),
            accounts,
            memory,
            notices: Notices::new(control.clone()),
            penalties,
            control,
            settings: Arc::new(settings),
            config,
            tasks: tasks.clone(),
            shutdown: shutdown.clone(),
        });
        let stop = left.clone();
        tasks.spawn(async move {
            let _ends_only_so = stop.run_until_cancelled(identity.follow(configs)).await;
        });
        let entrance = Arc::new(Entrance { common, door, last_words: Arc::new(Semaphore::new(LAST_WORD.1)) });
        for listener in listeners {
            let (entrance, shutdown) = (entrance.clone(), shutdown.clone());
            tasks.spawn(async move {
                let _ends_only_so = shutdown.run_until_cancelled(accept(listener, entrance)).await;
            });
        }
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = lets_in.shut() => left.cancel(),
        }
        tasks.close();
        tasks.wait().await;
    }
}

async fn accept(listener: TcpListener, entrance: Arc<Entrance>) {
    if let Ok(address) = listener.local_addr() {
        info!(%address, "listening for ssh");
    }
    let mut pause = PAUSE.0;
    let mut lets_in = entrance.common.control.entrance();
    while let Some(accepted) = lets_in.next(|| listener.accept()).await {
        match accepted {
            Ok((stream, from)) => {
                pause = PAUSE.0;
                entrance.welcome(stream, from);
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

impl Entrance {
    fn welcome(&self, stream: TcpStream, from: SocketAddr) {
        let Common { penalties, notices, tasks, .. } = &*self.common;
        let address = from.ip().to_canonical();
        if let Some(wait) = penalties.wait(address) {
            notices.reached(Limit::Penalty, address, None);
            return self.turn_away(stream, &words::penalized(wait));
        }
        let hand = Hand::default();
        let place = match self.door.admit(address, &hand) {
            Ok(place) => place,
            Err(limit) => {
                notices.reached(limit, address, None);
                return self.turn_away(stream, words::TOO_MANY_STRANGERS);
            }
        };
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%from, %error, "a connection was gone at once");
            return;
        }
        tasks.spawn(connection::serve(self.common.clone(), stream, from, hand, place));
    }

    /// Says why, in a way that ssh clients show: as an ssh server that ends the connection. A new socket has room for it.
    /// It is closed when the client has closed it, since what was not read by then is lost with what the client has sent.
    fn turn_away(&self, stream: TcpStream, why: &str) {
        let said = early::disconnect(early::TOO_MANY_CONNECTIONS, why);
        let said = [early::sent(IDENTIFICATION), said].concat();
        let Ok(mut stream) = stream.into_std() else { return };
        if stream.write_all(&said).and_then(|()| stream.shutdown(std::net::Shutdown::Write)).is_err() {
            return;
        }
        let (Ok(waited_for), Ok(mut stream)) =
            (self.last_words.clone().try_acquire_owned(), TcpStream::from_std(stream))
        else {
            return;
        };
        self.common.tasks.spawn(async move {
            let reading = async { while stream.read(&mut [0; 512]).await.is_ok_and(|bytes| bytes > 0) {} };
            let _ = timeout(LAST_WORD.0, reading).await;
            drop(waited_for);
        });
    }
}

fn concerns_one_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}
