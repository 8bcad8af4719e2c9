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
    accounts::Accounts,
    admission::Place,
    backlog::Pool,
    direct::Spares,
    leash::{Bounds, Hand, Leash},
    limit::{Limit, Notices},
    pace::Pace,
    penalty::{Offence, Penalties},
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
    pub(crate) accounts: Arc<Accounts>,
    pub(crate) memory: Arc<Pool>,
    pub(crate) notices: Arc<Notices>,
    pub(crate) penalties: Arc<Penalties>,
    pub(crate) tasks: TaskTracker,
    pub(crate) shutdown: CancellationToken,
}

/// Serves one connection to its end. `hand` is the one that its place was given for.
pub(crate) async fn serve(
    common: Arc<Common>,
    stream: TcpStream,
    from: SocketAddr,
    hand: Hand,
    place: Place,
) {
    let deadline = Instant::now() + common.settings.limits.login_grace;
    let over = CancellationToken::new();
    let (handler, mut logged_in) = Handler::new(Surroundings {
        control: common.control.clone(),
        settings: common.settings.clone(),
        from: from.ip().to_canonical(),
        hand: hand.clone(),
        spares: common.spares.clone(),
        accounts: common.accounts.clone(),
        memory: common.memory.clone(),
        notices: common.notices.clone(),
        tasks: common.tasks.clone(),
        over: over.clone(),
    });
    let stream = Leash::new(stream, hand.clone(), common.bounds(&place));
    let config = common.config.borrow().clone();
    let greeting = timeout_at(deadline, run_stream(config, stream, handler));
    let session = match common.shutdown.run_until_cancelled(greeting).await {
        Some(Ok(Ok(session))) => session,
        Some(Ok(Err(error))) => {
            debug!(%from, %error, "no ssh client");
            return common.turned_out(from, &hand, offence_of(&error, &hand));
        }
        Some(Err(_)) => {
            debug!(%from, "no ssh client in time");
            hand.reach(Limit::LoginGrace);
            return common.turned_out(from, &hand, Offence::TooSlow);
        }
        None => return,
    };
    let mut connection = Connection { session, over_with: false, hand, over };
    let login = tokio::select! {
        biased;
        login = &mut logged_in => login.map_err(|_| None),
        offence = connection.ended(from) => Err(Some(offence)),
        () = tokio::time::sleep_until(deadline) => {
            connection.hand.reach(Limit::LoginGrace);
            Err(Some(Offence::TooSlow))
        }
        () = common.shutdown.cancelled() => Err(None),
    };
    drop(place);
    match login {
        Ok(login) => {
            let hand = connection.hand.clone();
            connection.watch(&login, &common.shutdown, from).await;
            if let Some(limit) = hand.reached() {
                common.notices.reached(limit, from.ip().to_canonical(), Some(login.account().as_str()));
            }
        }
        Err(offence) => {
            // The handler goes before the session's result is there, and with it the news of a log-in.
            let offence = match offence {
                None if !common.shutdown.is_cancelled() => Some(connection.ended(from).await),
                other => other,
            };
            let hand = connection.hand.clone();
            connection.cut().await;
            if let Some(offence) = offence {
                common.turned_out(from, &hand, offence);
            }
        }
    }
}

impl Common {
    fn bounds(&self, place: &Place) -> Bounds {
        let limits = &self.settings.limits;
        Bounds {
            turns: place.turns(),
            login_data: limits.login_data,
            stalled: limits.stalled,
            pace: Pace::new(limits.idle_messages),
        }
    }

    /// A connection is gone that has not logged in.
    fn turned_out(&self, from: SocketAddr, hand: &Hand, offence: Offence) {
        let from = from.ip().to_canonical();
        match hand.reached() {
            // An account's affair, and told already.
            Some(Limit::ConnectionsPerAccount) => return,
            Some(limit) => self.notices.reached(limit, from, None),
            None => {}
        }
        self.penalties.give(from, offence);
    }
}

/// What a connection that ended so, and was not logged in, has done.
fn offence_of(error: &Error, hand: &Hand) -> Offence {
    match (hand.reached(), error) {
        (Some(Limit::LoginData), _) => Offence::Broken,
        (Some(Limit::LoginGrace | Limit::Stalled), _) => Offence::TooSlow,
        (_, Error::Join(_)) => Offence::Crash,
        (
            _,
            Error::Disconnect
            | Error::HUP
            | Error::IO(_)
            | Error::SendError
            // An old client is no attacker.
            | Error::NoCommonAlgo { .. }
            | Error::KeepaliveTimeout,
        ) => left(hand),
        (_, _) => Offence::Broken,
    }
}

/// What somebody has done who has just gone.
fn left(hand: &Hand) -> Offence {
    if hand.was_refused() { Offence::Refused } else { Offence::NoTry }
}

struct Connection {
    session: RunningSession<Handler>,
    /// The session has ended, and may not be asked again.
    over_with: bool,
    hand: Hand,
    over: CancellationToken,
}

impl Connection {
    /// Waits for the session to end by itself. Says what the client has done, if it has not logged in.
    async fn ended(&mut self, from: SocketAddr) -> Offence {
        if self.over_with {
            return left(&self.hand);
        }
        let result = (&mut self.session).await;
        self.over_with = true;
        match &result {
            Err(Error::Join(error)) => warn!(%from, %error, "a connection ended in a panic"),
            Err(error) => debug!(%from, %error, "a connection failed"),
            Ok(()) => debug!(%from, "a connection ended"),
        }
        result.map_or_else(|error| offence_of(&error, &self.hand), |()| left(&self.hand))
    }

    /// Waits for the end of a connection that has logged in, or ends it.
    async fn watch(mut self, login: &Login, shutdown: &CancellationToken, from: SocketAddr) {
        let why = tokio::select! {
            _ended = self.ended(from) => return,
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
