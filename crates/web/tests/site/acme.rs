//! Certificates from a real authority: Pebble, the test server of Let's Encrypt, which asks our plain listener for its
//! proof, refuses some of our nonces, and knows no name but by the little name server below.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use berth_web::{
    serve, serve_tls,
    tls::{AcmeSettings, Tls, TlsSettings, plain},
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::{
    net::{TcpListener, TcpStream, UdpSocket},
    process::{Child, Command},
    time::{sleep, timeout},
};
use tokio_rustls::TlsConnector;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::world::World;

/// Answers each question for a name with this machine (RFC 1035, 4.1): an A record for an A question, nothing else.
async fn name_server(socket: UdpSocket) {
    let mut question = [0; 512];
    while let Ok((length, from)) = socket.recv_from(&mut question).await {
        let asked = &question[12..length];
        let name = asked.iter().position(|byte| *byte == 0).unwrap() + 1;
        let is_a = asked[name..name + 4] == [0, 1, 0, 1];
        let mut answer = question[..2].to_vec();
        answer.extend([0x81, 0x80, 0, 1, 0, u8::from(is_a), 0, 0, 0, 0]);
        answer.extend(&asked[..name + 4]);
        if is_a {
            answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
            answer.extend(Ipv4Addr::LOCALHOST.octets());
        }
        socket.send_to(&answer, from).await.unwrap();
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

struct Pebble {
    _process: Child,
    directory: String,
}

impl Pebble {
    /// Starts it; `root.pem` in `folder` is what its own server is known by.
    #[expect(clippy::disallowed_methods, reason = "it is a program")]
    async fn start(folder: &Path, http_port: u16, tasks: &TaskTracker) -> Self {
        let names = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let name_server_at = names.local_addr().unwrap();
        tasks.spawn(name_server(names));
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        fs::write(folder.join("root.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        let issuer = Issuer::new(params, key);
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        fs::write(folder.join("cert.pem"), params.signed_by(&key, &issuer).unwrap().pem()).unwrap();
        fs::write(folder.join("key.pem"), key.serialize_pem()).unwrap();
        let port = free_port();
        let config = serde_json::json!({ "pebble": {
            "listenAddress": format!("127.0.0.1:{port}"),
            "managementListenAddress": format!("127.0.0.1:{}", free_port()),
            "certificate": folder.join("cert.pem"),
            "privateKey": folder.join("key.pem"),
            "httpPort": http_port,
            "tlsPort": free_port(),
            "ocspResponderURL": "",
            "externalAccountBindingRequired": false,
        }});
        fs::write(folder.join("pebble.json"), config.to_string()).unwrap();
        let process = Command::new("pebble")
            .arg("-config")
            .arg(folder.join("pebble.json"))
            .arg("-dnsserver")
            .arg(name_server_at.to_string())
            .env("PEBBLE_VA_NOSLEEP", "1")
            .env("PEBBLE_WFE_NONCEREJECT", "0")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("pebble is installed: scripts/install-deps.sh test");
        let up = async {
            while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(Duration::from_secs(30), up).await.expect("pebble comes up");
        Self { _process: process, directory: format!("https://127.0.0.1:{port}/dir") }
    }
}

/// Takes any certificate, to look at which one it is: Pebble makes a new root at each start.
#[derive(Debug)]
struct Anything;

impl ServerCertVerifier for Anything {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = aws_lc_rs::default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = aws_lc_rs::default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// The certificate that is served for a name.
async fn certificate(address: SocketAddr, name: &str) -> Option<Vec<u8>> {
    let mut config = ClientConfig::builder()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anything))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let stream = TcpStream::connect(address).await.unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.ok()?;
    Some(stream.get_ref().1.peer_certificates()?.first()?.to_vec())
}

/// The same, asked for until it is there.
async fn certificate_at_last(address: SocketAddr, name: &str) -> Vec<u8> {
    let asks = async {
        loop {
            match certificate(address, name).await {
                Some(certificate) => break certificate,
                None => sleep(Duration::from_millis(100)).await,
            }
        }
    };
    timeout(Duration::from_secs(60), asks).await.expect("a certificate")
}

struct Served {
    https: SocketAddr,
    stop: CancellationToken,
}

async fn served(world: &World, settings: AcmeSettings, http: TcpListener, tasks: &TaskTracker) -> Served {
    let tls = Tls::open(TlsSettings { files: vec![], acme: Some(settings) }, &world.control).unwrap();
    let https = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let served = Served { https: https.local_addr().unwrap(), stop: CancellationToken::new() };
    let router = world.router.clone();
    tasks.spawn(serve_tls(https, router.clone(), tls.clone(), world.control.entrance(), served.stop.clone()));
    tasks.spawn(tls.clone().keep(served.stop.clone()));
    tasks.spawn(serve(
        http,
        plain(router, tls, Arc::clone(&world.control)),
        world.control.entrance(),
        served.stop.clone(),
    ));
    served
}

#[tokio::test]
async fn an_authority_gives_certificates_and_they_are_kept() {
    let (world, folder, tasks) = (World::new().await, tempfile::tempdir().unwrap(), TaskTracker::new());
    let http = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let http_address = http.local_addr().unwrap();
    let pebble = Pebble::start(folder.path(), http_address.port(), &tasks).await;
    let kept = folder.path().join("certificates");
    let settings = AcmeSettings {
        directory: pebble.directory.clone(),
        contact: Some("mailto:ops@koding.com".to_owned()),
        root: Some(folder.path().join("root.pem")),
        folder: kept.clone(),
        vm_names: true,
    };
    let first = served(&world, settings.clone(), http, &tasks).await;
    let app = certificate_at_last(first.https, "koding.com").await;
    // A VM's comes when it is asked for; for what is no VM there is none.
    let vm = certificate_at_last(first.https, "vm-0.alice.kd.io").await;
    assert_ne!(app, vm);
    for name in ["vm-9.alice.kd.io", "vm-0--3000.alice.kd.io", "evil.example", "ssh.koding.com"] {
        assert_eq!(certificate(first.https, name).await, None, "{name}");
    }
    let mut files: Vec<_> =
        fs::read_dir(&kept).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    files.sort();
    assert_eq!(files, ["account.json", "koding.com.pem", "vm-0.alice.kd.io.pem"]);

    // After a restart they are the same, and nobody is asked.
    let account = fs::read(kept.join("account.json")).unwrap();
    first.stop.cancel();
    drop(pebble);
    let http = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let second = served(&world, settings, http, &tasks).await;
    assert_eq!(certificate(second.https, "koding.com").await, Some(app));
    assert_eq!(certificate(second.https, "vm-0.alice.kd.io").await, Some(vm));
    // One that cannot be had now is refused soon, and what there is is served on.
    world.control.add_vm(&"bob".parse().unwrap()).await.unwrap();
    assert_eq!(certificate(second.https, "vm-1.bob.kd.io").await, None);
    assert!(certificate(second.https, "koding.com").await.is_some());
    assert_eq!(fs::read(kept.join("account.json")).unwrap(), account);
    second.stop.cancel();
}
