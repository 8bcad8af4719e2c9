//! An sshd in a fake VM that real clients can log in to.

use std::sync::Arc;

use berth_testkit::{OpenSsh, Service};
use russh::{
    Channel, ChannelId, Error, SshId,
    keys::{Algorithm, PrivateKey},
    server::{Auth, ChannelOpenHandle, Config, Handler, Msg, Session, run_stream},
};
use tokio::io::AsyncWriteExt;

/// What every command answers.
pub(crate) const ANSWER: &[u8] = b"here is vm-0\n";

/// An sshd that lets everybody in, with one host key that `ssh` knows under each name of VMs.
pub(crate) struct Guest {
    key: PrivateKey,
}

impl Guest {
    pub(crate) fn new(ssh: &OpenSsh) -> Self {
        let key = PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).unwrap();
        ssh.add_known_host("*.kd.io", &key.public_key().to_openssh().unwrap());
        ssh.add_config(&format!("Host *.kd.io\n  User alice\n  IdentityFile {}\n", ssh.file("id").display()));
        Self { key }
    }

    /// The sshd, under this identification and with these lines before it, each with its end.
    pub(crate) fn sshd(&self, before: &'static str, identification: &'static str) -> Service {
        let config = Arc::new(Config {
            server_id: SshId::Standard(identification.into()),
            keys: vec![self.key.clone()],
            ..Config::default()
        });
        Service::new(move |mut stream| {
            let config = config.clone();
            async move {
                stream.write_all(before.as_bytes()).await.unwrap();
                if let Ok(session) = run_stream(config, stream, Answers).await {
                    let _ended_by_the_peer = session.await;
                }
            }
        })
    }
}

struct Answers;

impl Handler for Answers {
    type Error = Error;

    async fn auth_none(&mut self, _: &str) -> Result<Auth, Error> {
        Ok(Auth::Accept)
    }

    async fn channel_open_session(
        &mut self,
        _channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Error> {
        reply.accept().await;
        Ok(())
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        _: &[u8],
        session: &mut Session,
    ) -> Result<(), Error> {
        session.channel_success(channel)?;
        session.data(channel, ANSWER)?;
        session.exit_status_request(channel, 0)?;
        session.close(channel)
    }
}
