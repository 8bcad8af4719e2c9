//! One connection, watched over from outside russh's task: it logs in in time, ends with its key and with the server.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use berth_control::{Control, Login};
use tokio::{
    net::TcpStream,
    sync::watch,
    time::{Instant, timeout, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, warn};

use crate::{
    admission::Place,
    direct::Spares,
    leash::{Hand, Leash},
    refusal::words,
    settings::GatewaySettings,
    ssh::{Config, Disconnect, Error, Handler, RunningSession, Surroundings, run_stream},
};

/// How long a client may take to take the message that ends its connection, and then to close. Together within the
/// second in which a removed key has to be out.
const GOODBYE: Duration = Duration::from_millis(400);

/// What the connections of a gateway share.
pub(crate) struct Common {
    pub(crate) control: Arc<Control>,
    pub(crate) settings: Arc<GatewaySettings>,
    /// It changes when the host CA does; a connection keeps the one that it began with.
    pub(crate) config: watch::Receiver<Arc<Config>>,
    pub(crate) spares: Arc<Spares>,
    pub(crate) tasks: TaskTracker,
    pub(crate) shutdown: CancellationToken,
}

/// Serves one connection to its end.
pub(crate) async fn serve(common: Arc<Common>, stream: TcpStream, from: SocketAddr, place: Place) {
    let deadline = Instant::now() + common.settings.login_grace;
    let hand = Hand::default();
    let over = CancellationToken::new();
    let (handler, mut logged_in) = Handler::new(Surroundings {
        control: common.control.clone(),
        settings: common.settings.clone(),
        from: from.ip().to_canonical(),
        hand: hand.clone(),
        spares: common.spares.clone(),
        tasks: common.tasks.clone(),
        over: over.clone(),
    });
    let stream = Leash::new(stream, hand.clone());
    let config = common.config.borrow().clone();
    let greeting = timeout_at(deadline, run_stream(config, stream, handler));
    let session = match common.shutdown.run_until_cancelled(greeting).await {
        Some(Ok(Ok(session))) => session,
        Some(Ok(Err(error))) => return debug!(%from, %error, "no ssh client"),
        Some(Err(_)) => return debug!(%from, "no ssh client in time"),
        None => return,
    };
    let mut connection = Connection { session, over_with: false, hand, over };
    let login = tokio::select! {
        biased;
        login = &mut logged_in => login.ok(),
        () = connection.ended(from) => None,
        () = tokio::time::sleep_until(deadline) => None,
        () = common.shutdown.cancelled() => None,
    };
    drop(place);
    match login {
        Some(login) => connection.watch(&login, &common.shutdown, from).await,
        None => connection.cut().await,
    }
}

struct Connection {
    session: RunningSession<Handler>,
    /// The session has ended, and may not be asked again.
    over_with: bool,
    hand: Hand,
    over: CancellationToken,
}

impl Connection {
    /// Waits for the session to end by itself.
    async fn ended(&mut self, from: SocketAddr) {
        if self.over_with {
            return;
        }
        let result = (&mut self.session).await;
        self.over_with = true;
        match result {
            Err(Error::Join(error)) => warn!(%from, %error, "a connection ended in a panic"),
            Err(error) => debug!(%from, %error, "a connection failed"),
            Ok(()) => debug!(%from, "a connection ended"),
        }
    }

    /// Waits for the end of a connection that has logged in, or ends it.
    async fn watch(mut self, login: &Login, shutdown: &CancellationToken, from: SocketAddr) {
        let why = tokio::select! {
            () = self.ended(from) => return,
            () = login.ended() => words::LOGIN_ENDED,
            () = shutdown.cancelled() => words::SHUTTING_DOWN,
        };
        let handle = self.session.handle();
        let said = handle.disconnect(Disconnect::ByApplication, why.to_owned(), String::new());
        let _ = timeout(GOODBYE, said).await;
        self.over.cancel();
        let _ = timeout(GOODBYE, self.ended(from)).await;
        self.cut().await;
    }

    /// Ends the connection without a word.
    async fn cut(mut self) {
        self.over.cancel();
        self.hand.cut();
        if !self.over_with {
            let _ = (&mut self.session).await;
        }
    }
}
