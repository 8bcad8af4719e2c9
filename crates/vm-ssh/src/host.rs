//! What the VM's sshd does by itself: it shows its key, and it opens channels.

use russh::{
    Channel,
    client::{ChannelOpenHandle, Handler, Msg, Session},
    keys::{PublicKey, PublicKeyOrCertificate},
};
use tokio::sync::mpsc;
use tokio_util::sync::DropGuard;

use crate::arrival::{Arrival, Origin};

/// Who must be at the other end, and who hears of what it opens. Lives as long as the connection does.
pub(crate) struct Host {
    pub(crate) key: PublicKey,
    /// `None`: it may open nothing.
    pub(crate) arrivals: Option<mpsc::Sender<Arrival>>,
    pub(crate) _over: DropGuard,
}

impl Host {
    /// Tells of a channel. It is refused by being dropped where nobody wants one, or so many wait already.
    fn arrived(&self, origin: Origin, channel: Channel<Msg>, reply: ChannelOpenHandle) {
        if let Some(arrivals) = &self.arrivals {
            let _ = arrivals.try_send(Arrival::new(origin, channel, reply));
        }
    }
}

/// russh accepts what is not refused here.
impl Handler for Host {
    type Error = russh::Error;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        Ok(match shown {
            PublicKeyOrCertificate::PublicKey { key, .. } => key.key_data() == self.key.key_data(),
            PublicKeyOrCertificate::Certificate(_) => false,
        })
    }

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        channel: Channel<Msg>,
        address: &str,
        port: u32,
        originator: &str,
        originator_port: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        let (address, originator) = (address.to_owned(), originator.to_owned());
        self.arrived(Origin::Port { address, port, originator, originator_port }, channel, reply);
        Ok(())
    }

    async fn server_channel_open_forwarded_streamlocal(
        &mut self,
        channel: Channel<Msg>,
        path: &str,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        self.arrived(Origin::Socket { path: path.to_owned() }, channel, reply);
        Ok(())
    }

    async fn server_channel_open_agent_forward(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        self.arrived(Origin::Agent, channel, reply);
        Ok(())
    }

    async fn server_channel_open_x11(
        &mut self,
        channel: Channel<Msg>,
        originator: &str,
        originator_port: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        self.arrived(Origin::X11 { originator: originator.to_owned(), originator_port }, channel, reply);
        Ok(())
    }

    async fn server_channel_open_session(
        &mut self,
        _: Channel<Msg>,
        _refused: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        Ok(())
    }

    async fn server_channel_open_direct_tcpip(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        _refused: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        Ok(())
    }

    async fn server_channel_open_direct_streamlocal(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _refused: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        Ok(())
    }
}
