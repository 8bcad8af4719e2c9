//! russh's callbacks: what is asked, answered at once and handed to the task that does it.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use berth_control::{Control, Login};
use berth_vm_ssh::{Request, Window};
use russh::{
    Channel, ChannelId, Disconnect, Error, Pty,
    keys::Certificate,
    server::{Auth, ChannelOpenHandle, Msg, PublicKeyOffer, Response, Session, VerifiedPublicKey},
};
use tokio::sync::oneshot;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    caller::Caller,
    channel::{OpenFailure, Opening, refuse},
    login::{Door, reject},
};
use crate::{
    accounts::{Accounts, Member},
    backlog::{Flow, Pool, WINDOW},
    direct::{self, Asker, Direct, Far, Spares},
    leash::Hand,
    limit::{Limit, Notices, Tell},
    lobby,
    refusal::words,
    session,
    settings::GatewaySettings,
    tunnel,
    way::{Way, way},
};

/// The channels that one connection may open in its life. russh keeps some kilobytes of each that was closed from this
/// side until the connection ends, so without an end a client could have all memory.
const MAX_CHANNELS_EVER: usize = 4096;

/// A client that has logged in, as the tasks of its channels see it.
pub(crate) struct Client {
    pub(crate) control: Arc<Control>,
    pub(crate) settings: Arc<GatewaySettings>,
    pub(crate) login: Login,
    /// The client's program, as it says.
    pub(crate) program: lobby::Client,
    /// Keys that were refused before the right one.
    pub(crate) refused_keys: usize,
    pub(crate) flow: Arc<Flow>,
    member: Member,
    tell: Tell,
    channels: AtomicUsize,
    opened: AtomicUsize,
}

impl Client {
    /// A place for one more channel.
    pub(crate) fn seat(self: &Arc<Self>) -> Result<Seat, OpenFailure> {
        if self.opened.load(Ordering::Relaxed) >= MAX_CHANNELS_EVER {
            return Err(self.refused(Limit::ChannelsEver, words::TOO_MANY_CHANNELS_EVER));
        }
        let open = self.channels.fetch_add(1, Ordering::Relaxed);
        let of_account = self.member.open_channel();
        let seat = Seat { client: self.clone(), is_first: self.opened.fetch_add(1, Ordering::Relaxed) == 0 };
        if open >= self.settings.limits.channels_per_connection {
            return Err(self.refused(Limit::ChannelsPerConnection, words::TOO_MANY_CHANNELS));
        }
        if !of_account {
            return Err(self.refused(Limit::ChannelsPerAccount, words::TOO_MANY_CHANNELS_OF_ACCOUNT));
        }
        Ok(seat)
    }

    fn refused(&self, limit: Limit, words: &str) -> OpenFailure {
        (self.tell)(limit);
        OpenFailure::shortage(words)
    }
}

/// A channel's place in its connection; given back when dropped.
pub(crate) struct Seat {
    client: Arc<Client>,
    /// It is the connection's first channel, and mostly its only one.
    pub(crate) is_first: bool,
}

impl Seat {
    /// Whether the connection has other channels.
    pub(crate) fn has_neighbours(&self) -> bool {
        self.channels.load(Ordering::Relaxed) > 1
    }
}

impl Deref for Seat {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.channels.fetch_sub(1, Ordering::Relaxed);
        self.member.close_channel();
    }
}

/// What a connection gives its handler.
pub(crate) struct Surroundings {
    pub(crate) control: Arc<Control>,
    pub(crate) settings: Arc<GatewaySettings>,
    pub(crate) from: IpAddr,
    pub(crate) hand: Hand,
    pub(crate) spares: Arc<Spares>,
    pub(crate) accounts: Arc<Accounts>,
    pub(crate) memory: Arc<Pool>,
    pub(crate) notices: Arc<Notices>,
    /// Runs the tasks of channels.
    pub(crate) tasks: TaskTracker,
    /// Ends the tasks of channels. The handler cancels it when russh drops it.
    pub(crate) over: CancellationToken,
}

/// One connection's callbacks. russh drops it when the connection is over, in whatever way.
///
/// russh's task has room for the largest of them for as long as the connection lives, so what asks the store or a VM is in a
/// box of its own.
pub(crate) struct Handler {
    around: Surroundings,
    door: Door,
    client: Option<Arc<Client>>,
    logged_in: Option<oneshot::Sender<Login>>,
    /// Session channels that have had the one request that starts something (RFC 4254, 6.5).
    started: HashSet<ChannelId>,
    /// The name under which the client has logged in.
    user: String,
    /// The VM that the client is carried into.
    direct: Option<Arc<Direct>>,
    /// Its sessions there.
    askers: HashMap<ChannelId, Asker>,
}

impl Drop for Handler {
    fn drop(&mut self) {
        self.around.over.cancel();
    }
}

impl Handler {
    /// A handler, and where it tells once who has logged in.
    pub(crate) fn new(around: Surroundings) -> (Self, oneshot::Receiver<Login>) {
        let (logged_in, told) = oneshot::channel();
        let handler = Self {
            door: Door::new(
                around.control.clone(),
                around.from,
                around.settings.limits.login_tries,
                around.hand.clone(),
            ),
            around,
            client: None,
            logged_in: Some(logged_in),
            started: HashSet::new(),
            user: String::new(),
            direct: None,
            askers: HashMap::new(),
        };
        (handler, told)
    }

    /// A place for one more channel.
    fn seat(&self) -> Result<Seat, OpenFailure> {
        self.client.as_ref().ok_or_else(|| OpenFailure::prohibited(words::NO_KEY))?.seat()
    }

    /// Runs a channel's task, for as long as the connection lives.
    fn run(&self, task: impl Future<Output = ()> + Send + 'static) {
        let over = self.around.over.clone();
        self.around.tasks.spawn(async move {
            let _ended_by_the_connection = over.run_until_cancelled(task).await;
        });
    }

    /// Answers a request that starts something: yes, for the first of a channel, if the VM does it where one is asked.
    async fn start(
        &mut self,
        channel: ChannelId,
        request: Request,
        session: &mut Session,
    ) -> Result<(), Error> {
        if !self.started.insert(channel) {
            return session.channel_failure(channel);
        }
        let granted = self.ask(channel, request).await.unwrap_or(true);
        if !granted {
            self.started.remove(&channel);
        }
        answer(granted, channel, session)
    }

    /// Whom to tell when this client reaches a limit.
    fn teller(&self, login: &Login) -> Tell {
        let (notices, from) = (self.around.notices.clone(), self.around.from);
        let account = login.account().clone();
        Arc::new(move |limit| notices.reached(limit, from, Some(account.as_str())))
    }

    /// Asks the VM that the client is carried into; `None` where it is not.
    async fn ask(&self, channel: ChannelId, request: Request) -> Option<bool> {
        let asker = self.askers.get(&channel)?;
        Some(self.while_connected(asker.ask(request)).await.unwrap_or(false))
    }

    /// Does what russh waits for, no longer than the connection lives.
    fn while_connected<T>(&self, work: impl Future<Output = T>) -> impl Future<Output = Option<T>> {
        // Here, so that who waits has no room for it.
        self.around.over.run_until_cancelled(Box::pin(work))
    }
}

fn answer(granted: bool, channel: ChannelId, session: &mut Session) -> Result<(), Error> {
    if granted { session.channel_success(channel) } else { session.channel_failure(channel) }
}

impl russh::server::Handler for Handler {
    type Error = Error;

    async fn auth_none(&mut self, _user: &str) -> Result<Auth, Error> {
        Ok(reject())
    }

    async fn auth_publickey_offered(
        &mut self,
        _user: &str,
        offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, Error> {
        self.around.hand.end_turn();
        Ok(Box::pin(self.door.offered(offer.public_key, offer.algorithm)).await)
    }

    async fn auth_publickey(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, Error> {
        self.around.hand.end_turn();
        user.clone_into(&mut self.user);
        Ok(Box::pin(self.door.proven(key.public_key, key.algorithm)).await)
    }

    async fn auth_openssh_certificate(
        &mut self,
        user: &str,
        certificate: &Certificate,
    ) -> Result<Auth, Error> {
        self.around.hand.end_turn();
        user.clone_into(&mut self.user);
        Ok(Box::pin(self.door.certificate(certificate)).await)
    }

    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        _user: &str,
        _submethods: &str,
        response: Option<Response<'a>>,
    ) -> Result<Auth, Error> {
        Ok(self.door.last_words(response.is_some()))
    }

    async fn auth_succeeded(&mut self, session: &mut Session) -> Result<(), Error> {
        let login = self.door.login().cloned().ok_or(Error::NotAuthenticated)?;
        let tell = self.teller(&login);
        let Some(member) = self.around.accounts.join(login.account()) else {
            self.around.hand.reach(Limit::ConnectionsPerAccount);
            tell(Limit::ConnectionsPerAccount);
            return session.disconnect(Disconnect::TooManyConnections, words::TOO_MANY_CONNECTIONS, "");
        };
        let room = self.around.settings.limits.memory_per_connection;
        let flow = Flow::new(room, member.memory(), self.around.memory.clone(), tell.clone());
        self.around.hand.logged_in(tell.clone());
        let client = Arc::new(Client {
            control: self.around.control.clone(),
            settings: self.around.settings.clone(),
            login: login.clone(),
            program: lobby::Client::of(session.remote_sshid()),
            refused_keys: self.door.refused(),
            flow,
            member,
            tell,
            channels: AtomicUsize::new(0),
            opened: AtomicUsize::new(0),
        });
        self.client = Some(client.clone());
        if let Way::Direct(host) = way(&self.user, login.account(), &client.control.settings().domains) {
            let Surroundings { spares, tasks, over, .. } = &self.around;
            let (spares, tasks, over) = (spares.clone(), tasks.clone(), over.clone());
            let caller = Caller::new(session.handle());
            self.direct = Some(Direct::new(client, host, caller, spares, tasks, over));
        }
        if let Some(logged_in) = self.logged_in.take() {
            // Nobody listens when the grace was over in this moment; the connection is being cut then.
            let _ = logged_in.send(login);
        }
        Ok(())
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Error> {
        let id = channel.id();
        let opening = Opening::session(channel, reply);
        match self.seat() {
            Ok(seat) if let Some(direct) = self.direct.clone() => {
                let (asker, asks) = direct::asker();
                self.askers.retain(|_, asker| !asker.is_over());
                self.askers.insert(id, asker);
                self.run(direct::by_session(direct, seat, opening, asks));
            }
            Ok(seat) => {
                let (reader, writer) = opening.accept().await;
                self.run(session::run(seat, reader, writer));
            }
            Err(failure) => opening.refuse(failure).await,
        }
        Ok(())
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host: &str,
        port: u32,
        originator_address: &str,
        originator_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Error> {
        let opening = Opening::stream(channel, reply);
        match self.seat() {
            Ok(seat) if let Some(direct) = self.direct.clone() => {
                let from = (originator_address.to_owned(), originator_port);
                let far = Far::Port { to: (host.to_owned(), port), from };
                self.run(direct::by_stream(direct, seat, opening, far));
            }
            Ok(seat) => self.run(tunnel::by_forward(seat, opening, host.to_owned(), port)),
            Err(failure) => opening.refuse(failure).await,
        }
        Ok(())
    }

    async fn channel_open_direct_streamlocal(
        &mut self,
        channel: Channel<Msg>,
        socket_path: &str,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Error> {
        let opening = Opening::stream(channel, reply);
        match (self.direct.clone(), self.seat()) {
            (None, _) => opening.refuse(OpenFailure::prohibited(words::NO_SOCKETS)).await,
            (Some(_), Err(failure)) => opening.refuse(failure).await,
            (Some(direct), Ok(seat)) => {
                let far = Far::Socket { path: socket_path.to_owned() };
                self.run(direct::by_stream(direct, seat, opening, far));
            }
        }
        Ok(())
    }

    async fn channel_open_x11(
        &mut self,
        _channel: Channel<Msg>,
        _originator_address: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Error> {
        refuse(reply, OpenFailure::prohibited(words::NOT_FROM_A_CLIENT)).await;
        Ok(())
    }

    async fn channel_open_forwarded_tcpip(
        &mut self,
        _channel: Channel<Msg>,
        _host: &str,
        _port: u32,
        _originator_address: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Error> {
        refuse(reply, OpenFailure::prohibited(words::NOT_FROM_A_CLIENT)).await;
        Ok(())
    }

    async fn channel_close(&mut self, channel: ChannelId, _session: &mut Session) -> Result<(), Error> {
        self.started.remove(&channel);
        self.askers.remove(&channel);
        Ok(())
    }

    /// The credit up to which channels are filled. A client that is kept short comes back for more at once, each time;
    /// holding its line makes that fifty times a second and not a hundred thousand.
    fn adjust_window(&mut self, _channel: ChannelId, _current: u32) -> u32 {
        let Some(client) = &self.client else { return WINDOW };
        if client.flow.is_choked() {
            self.around.hand.hold();
        }
        client.flow.window()
    }

    async fn data(&mut self, _channel: ChannelId, _data: &[u8], _session: &mut Session) -> Result<(), Error> {
        self.around.hand.carried();
        Ok(())
    }

    async fn extended_data(
        &mut self,
        _channel: ChannelId,
        _code: u32,
        _data: &[u8],
        _session: &mut Session,
    ) -> Result<(), Error> {
        self.around.hand.carried();
        Ok(())
    }

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        term: &str,
        columns: u32,
        rows: u32,
        width: u32,
        height: u32,
        modes: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Error> {
        let (term, size, modes) = (term.to_owned(), Window { columns, rows, width, height }, modes.to_vec());
        // The lobby has a terminal. A client that is refused one says so in words that mean nothing to the person.
        let here = self.door.login().is_some_and(|login| login.permits().pty);
        let granted = self.ask(channel, Request::Pty { term, size, modes }).await.unwrap_or(here);
        answer(granted, channel, session)
    }

    async fn x11_request(
        &mut self,
        channel: ChannelId,
        single: bool,
        protocol: &str,
        cookie: &str,
        screen: u32,
        session: &mut Session,
    ) -> Result<(), Error> {
        let (protocol, cookie) = (protocol.to_owned(), cookie.to_owned());
        let granted = self.ask(channel, Request::X11 { single, protocol, cookie, screen }).await;
        answer(granted.unwrap_or(false), channel, session)
    }

    async fn env_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        value: &str,
        session: &mut Session,
    ) -> Result<(), Error> {
        let (name, value) = (name.to_owned(), value.to_owned());
        let granted = self.ask(channel, Request::Env { name, value }).await;
        answer(granted.unwrap_or(false), channel, session)
    }

    async fn agent_request(&mut self, channel: ChannelId, _session: &mut Session) -> Result<bool, Error> {
        Ok(self.ask(channel, Request::Agent).await.unwrap_or(false))
    }

    async fn shell_request(&mut self, channel: ChannelId, session: &mut Session) -> Result<(), Error> {
        self.start(channel, Request::Shell, session).await
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        command: &[u8],
        session: &mut Session,
    ) -> Result<(), Error> {
        self.start(channel, Request::Exec(command.to_vec()), session).await
    }

    async fn subsystem_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        session: &mut Session,
    ) -> Result<(), Error> {
        self.start(channel, Request::Subsystem(name.to_owned()), session).await
    }

    async fn tcpip_forward(
        &mut self,
        address: &str,
        port: &mut u32,
        _session: &mut Session,
    ) -> Result<bool, Error> {
        let Some(direct) = &self.direct else { return Ok(false) };
        let listens = self.while_connected(direct.listen(address, *port)).await.flatten();
        if let Some(chosen) = listens {
            *port = chosen;
        }
        Ok(listens.is_some())
    }

    async fn cancel_tcpip_forward(
        &mut self,
        address: &str,
        port: u32,
        _session: &mut Session,
    ) -> Result<bool, Error> {
        let Some(direct) = &self.direct else { return Ok(false) };
        Ok(self.while_connected(direct.listen_no_longer(address, port)).await.unwrap_or(false))
    }

    async fn streamlocal_forward(&mut self, path: &str, _session: &mut Session) -> Result<bool, Error> {
        let Some(direct) = &self.direct else { return Ok(false) };
        Ok(self.while_connected(direct.listen_on_socket(path)).await.unwrap_or(false))
    }

    async fn cancel_streamlocal_forward(
        &mut self,
        path: &str,
        _session: &mut Session,
    ) -> Result<bool, Error> {
        let Some(direct) = &self.direct else { return Ok(false) };
        Ok(self.while_connected(direct.listen_on_socket_no_longer(path)).await.unwrap_or(false))
    }
}
