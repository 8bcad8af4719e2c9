//! What OpenSSH does not do by itself: asked by a client that is a library.

use std::{sync::Arc, time::Duration};

use berth_testkit::{Service, Verb};
use russh::{
    ChannelMsg, ChannelOpenFailure, Error, SendError, Signer,
    client::{self, Handle},
    keys::{
        Algorithm, HashAlg, PrivateKey, PrivateKeyWithHashAlg, PublicKey, PublicKeyOrCertificate,
        agent::AgentIdentity,
        load_secret_key,
        signature::Signer as _,
        ssh_key::public::{KeyData, SkEd25519},
    },
};
use sha2::{Digest, Sha256};

use crate::world::{VM, World, account};

pub(crate) struct Trusting;

impl client::Handler for Trusting {
    type Error = Error;

    async fn check_server_key(&mut self, _key: &PublicKeyOrCertificate) -> Result<bool, Error> {
        Ok(true)
    }
}

pub(crate) async fn log_in(world: &World, user: &str) -> Handle<Trusting> {
    log_in_with(world, user, client::Config::default()).await
}

pub(crate) async fn log_in_with(world: &World, user: &str, config: client::Config) -> Handle<Trusting> {
    let mut client = client::connect(Arc::new(config), world.gateway, Trusting).await.unwrap();
    let key = load_secret_key(world.ssh.file("id"), None).unwrap();
    let key = PrivateKeyWithHashAlg::new(Arc::new(key), None);
    assert!(client.authenticate_publickey(user, key).await.unwrap().success());
    client
}

/// A security key made of software: signs as PROTOCOL.u2f says.
struct Token(PrivateKey);

const APPLICATION: &str = "ssh:";

impl Token {
    fn public_key(&self) -> PublicKey {
        let KeyData::Ed25519(key) = self.0.public_key().key_data() else { panic!("an ed25519 key") };
        PublicKey::new(KeyData::SkEd25519(SkEd25519::new(*key, APPLICATION)), "token")
    }
}

impl Signer for Token {
    type Error = SendError;

    async fn auth_sign(
        &mut self,
        _key: &AgentIdentity,
        _hash: Option<HashAlg>,
        mut request: Vec<u8>,
    ) -> Result<Vec<u8>, SendError> {
        let touched_and_counter = [1, 0, 0, 0, 7];
        let signed =
            [&Sha256::digest(APPLICATION)[..], &touched_and_counter, &Sha256::digest(&request)].concat();
        let signature = self.0.try_sign(&signed).unwrap();
        let mut blob = Vec::new();
        for part in [b"sk-ssh-ed25519@openssh.com".as_slice(), signature.as_bytes()] {
            blob.extend_from_slice(&u32::try_from(part.len()).unwrap().to_be_bytes());
            blob.extend_from_slice(part);
        }
        blob.extend_from_slice(&touched_and_counter);
        request.extend_from_slice(&u32::try_from(blob.len()).unwrap().to_be_bytes());
        request.extend_from_slice(&blob);
        Ok(request)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_security_key_gets_in_and_another_with_its_name_does_not() {
    let world = World::awake().await;
    let mut token = Token(PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).unwrap());
    let public = token.public_key();
    world.control.add_keys(&account("bob"), &public.to_openssh().unwrap(), None).await.unwrap();
    let mut client = client::connect(Arc::default(), world.gateway, Trusting).await.unwrap();
    let mut forger = Token(PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).unwrap());
    let forged = client.authenticate_publickey_with("bob", public.clone(), None, &mut forger).await.unwrap();
    assert!(!forged.success());
    let proven = client.authenticate_publickey_with("bob", public, None, &mut token).await.unwrap();
    assert!(proven.success());
    let mut channel = client.channel_open_direct_tcpip("bob.kd.io", 22, "127.0.0.1", 0).await.unwrap();
    let Some(ChannelMsg::Data { data }) = channel.wait().await else { panic!("no greeting") };
    assert_eq!(data.as_ref(), b"SSH-2.0-Fake\r\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn old_algorithms_are_spoken_where_the_operator_wants() {
    for old in [false, true] {
        let world = World::with(|settings| settings.old_algorithms = old).await;
        for option in [
            "KexAlgorithms=diffie-hellman-group14-sha256",
            "Ciphers=aes128-ctr",
            "Ciphers=aes256-gcm@openssh.com",
        ] {
            let done = world.ssh(&["-o", option, "-o", "MACs=hmac-sha2-256", "gateway", "vms"], b"").await;
            let fits = old || option == "Ciphers=aes256-gcm@openssh.com";
            assert_eq!(done.status == Some(0), fits, "{old} {option}: {}", done.stderr);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_starts_one_thing() {
    let world = World::awake().await;
    let client = log_in(&world, "alice").await;
    let mut channel = client.channel_open_session().await.unwrap();
    channel.exec(true, format!("nc {VM} 8080")).await.unwrap();
    assert!(matches!(channel.wait().await, Some(ChannelMsg::Success)));
    channel.exec(true, format!("nc {VM} 22")).await.unwrap();
    assert!(matches!(channel.wait().await, Some(ChannelMsg::Failure)));
    channel.data_bytes("ping").await.unwrap();
    let Some(ChannelMsg::Data { data }) = channel.wait().await else { panic!("no echo") };
    assert_eq!(data.as_ref(), b"ping", "what was started goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_answered_each_by_its_own() {
    let world = World::new().await;
    let client = log_in(&world, "alice").await;
    let mut channel = client.channel_open_session().await.unwrap();
    // Without waiting in between, as OpenSSH does.
    channel.set_env(true, "LANG", "C").await.unwrap();
    channel.request_x11(true, true, "MIT-MAGIC-COOKIE-1", "00", 0).await.unwrap();
    channel.agent_forward(true).await.unwrap();
    channel.request_pty(true, "xterm", 80, 24, 0, 0, &[]).await.unwrap();
    channel.request_shell(true).await.unwrap();
    channel.data_bytes("why nobody\rexit\r").await.unwrap();
    let mut answers = Vec::new();
    let mut status = None;
    while let Some(message) = channel.wait().await {
        match message {
            ChannelMsg::Success => answers.push(true),
            ChannelMsg::Failure => answers.push(false),
            ChannelMsg::ExitStatus { exit_status } => status = Some(exit_status),
            _ => {}
        }
    }
    assert_eq!(answers, [false, false, false, true, true]);
    assert_eq!(status, Some(1), "that of the last command");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_has_an_end_of_channels() {
    let world = World::awake().await;
    let client = log_in(&world, "alice").await;
    for _ in 0..4096 {
        let refused = client.channel_open_direct_tcpip(VM, 4321, "127.0.0.1", 0).await;
        assert!(matches!(refused, Err(Error::ChannelOpenFailure(ChannelOpenFailure::ConnectFailed))));
    }
    let refused = client.channel_open_session().await;
    assert!(matches!(refused, Err(Error::ChannelOpenFailure(ChannelOpenFailure::ResourceShortage))));
}

/// sshd may send the end of the data before the status, and PuTTY closes a channel when both sides have ended theirs.
#[tokio::test(flavor = "multi_thread")]
async fn a_status_comes_before_the_end_of_the_data() {
    let world = World::awake().await;
    let _sshd = crate::direct::sshd_of(&world).await;
    let client = log_in(&world, "vm-0").await;
    let mut channel = client.channel_open_session().await.unwrap();
    channel.exec(true, "cat").await.unwrap();
    channel.data(&b"late"[..]).await.unwrap();
    let mut heard = vec![];
    while let Some(message) = channel.wait().await {
        match message {
            ChannelMsg::ExitStatus { exit_status } => heard.push(format!("status {exit_status}")),
            ChannelMsg::Eof => heard.push("end".to_owned()),
            _ => {}
        }
    }
    assert_eq!(heard, ["status 9", "end"]);
}

/// Sends until nothing goes in any more.
async fn fill(channel: &russh::Channel<client::Msg>) -> usize {
    let chunk = vec![0; 32 * 1024];
    let mut sent = 0;
    while tokio::time::timeout(Duration::from_secs(2), channel.data_bytes(chunk.clone())).await.is_ok() {
        sent += chunk.len();
        assert!(sent < 16 << 20, "somebody takes everything");
    }
    sent
}

#[tokio::test]
async fn a_vm_that_takes_nothing_is_given_up_only_for_others() {
    let world = World::awake().await;
    world.engine.serve(9000, Service::stalls());
    let client = log_in(&world, "alice").await;
    let mut stuck = client.channel_open_session().await.unwrap();
    stuck.exec(true, format!("nc {VM} 9000")).await.unwrap();
    assert!(fill(&stuck).await > 1 << 20);
    assert!(matches!(stuck.wait().await, Some(ChannelMsg::Success)));

    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(61)).await;
    tokio::time::resume();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(world.engine.connections(), 1, "alone it may wait as long as it likes");

    let _neighbour = client.channel_open_direct_tcpip(VM, 8080, "127.0.0.1", 0).await.unwrap();
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(61)).await;
    tokio::time::resume();
    let (mut text, mut status) = (Vec::new(), None);
    while let Some(message) = stuck.wait().await {
        match message {
            ChannelMsg::ExtendedData { data, ext: 1 } => text.extend_from_slice(&data),
            ChannelMsg::ExitStatus { exit_status } => status = Some(exit_status),
            _ => {}
        }
    }
    assert_eq!(status, Some(69));
    let text = String::from_utf8(text).unwrap();
    assert_eq!(text, "vm-0 takes nothing on port 9000, and other tunnels of this connection wait for it.\n");
}

#[tokio::test]
async fn a_client_that_was_told_early_does_not_wait_for_ever() {
    let world = World::awake().await;
    let seen = world.ssh(&["gateway", "nc", VM, "22"], b"").await;
    assert_eq!(seen.status, Some(0), "{}", seen.stderr);
    world.engine.power_off(&world.vm_id().await);
    world.engine.delay(Verb::Start, Duration::from_millis(300));
    world.engine.serve(22, Service::stalls());
    let client = log_in(&world, "alice").await;
    let mut channel = client.channel_open_direct_tcpip(VM, 22, "127.0.0.1", 0).await.unwrap();
    let Some(ChannelMsg::Data { data }) = channel.wait().await else { panic!("no early word") };
    assert_eq!(data.as_ref(), b"SSH-2.0-Fake\r\n");
    while world.engine.connections() == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(31)).await;
    tokio::time::resume();
    let Some(ChannelMsg::Data { data }) = channel.wait().await else { panic!("no reason") };
    let said = String::from_utf8_lossy(&data);
    assert!(said.contains("vm-0 is running but does not answer on port 22."), "{said:?}");
    assert!(matches!(channel.wait().await, Some(ChannelMsg::Eof)));
}
