//! Https: real handshakes with certificates of a test's own authority.

use std::{fs, net::SocketAddr, path::Path, sync::Arc};

use berth_control::{Control, Scope};
use berth_web::{
    serve, serve_tls,
    tls::{CertificateFiles, Tls, TlsSettings, plain},
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_util::task::TaskTracker;

use crate::world::World;

/// An authority of our own.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    root: CertificateDer<'static>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let root = params.self_signed(&key).unwrap().der().clone();
        Self { issuer: Issuer::new(params, key), root }
    }

    /// Puts a certificate for these names into a folder.
    fn issue(&self, folder: &Path, names: &[&str]) -> CertificateFiles {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &self.issuer).unwrap();
        let files =
            CertificateFiles { certificate: folder.join("certificate.pem"), key: folder.join("key.pem") };
        fs::write(&files.certificate, certificate.pem()).unwrap();
        fs::write(&files.key, key.serialize_pem()).unwrap();
        files
    }

    /// A client that trusts it.
    async fn connect(
        &self,
        address: SocketAddr,
        name: &str,
        protocols: &[&[u8]],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone()).unwrap();
        let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, TcpStream::connect(address).await?).await
    }
}

struct Served {
    https: SocketAddr,
    http: SocketAddr,
}

async fn served(world: &World, files: CertificateFiles) -> Served {
    let control: &Arc<Control> = &world.control;
    let tls = Tls::open(TlsSettings { files: vec![files], acme: None }, control).unwrap();
    let (https, http) =
        (TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let served = Served { https: https.local_addr().unwrap(), http: http.local_addr().unwrap() };
    let (router, stop, tasks) = (world.router.clone(), world.stop.clone(), TaskTracker::new());
    tasks.spawn(serve_tls(https, router.clone(), tls.clone(), control.entrance(), stop.clone()));
    tasks.spawn(tls.clone().keep(stop.clone()));
    tasks.spawn(serve(http, plain(router, tls, Arc::clone(control)), control.entrance(), stop));
    served
}

async fn ask<S: AsyncReadExt + AsyncWriteExt + Unpin>(mut stream: S, host: &str, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = vec![];
    // A server that has said that it closes may close without a word of TLS.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn pages_come_by_https_and_are_sent_on_to_it() {
    let (world, folder, authority) = (World::new().await, tempfile::tempdir().unwrap(), Authority::new());
    let served = served(&world, authority.issue(folder.path(), &["koding.com", "*.kd.io"])).await;

    let stream = authority.connect(served.https, "koding.com", &[b"h2", b"http/1.1"]).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let page = ask(stream, "koding.com", "/log-in").await;
    assert!(
        page.starts_with("HTTP/1.1 200") && page.contains("strict-transport-security: max-age=31536000"),
        "{page}"
    );
    assert!(authority.connect(served.https, "koding.com", &[b"h2"]).await.is_err(), "nothing else is spoken");

    let plain =
        async |host: &str, path: &str| ask(TcpStream::connect(served.http).await.unwrap(), host, path).await;
    let sent_on = plain("koding.com", "/vms/vm-0?a=b").await;
    assert!(sent_on.starts_with("HTTP/1.1 308"), "{sent_on}");
    assert!(sent_on.contains("location: https://koding.com/vms/vm-0?a=b\r\n"), "{sent_on}");
    assert!(!sent_on.contains("strict-transport") && !sent_on.contains("set-cookie"), "{sent_on}");
    for (host, path) in
        [("evil.example", "/"), ("koding.com@evil.example", "//evil.example/"), ("localhost", "/")]
    {
        let answer = plain(host, path).await;
        assert!(answer.contains("location: https://koding.com/"), "{host}{path} {answer}");
    }
    let program = plain("koding.com", "/api/v1/vms").await;
    assert!(program.starts_with("HTTP/1.1 403") && program.contains("Use https."), "{program}");
    assert!(plain("localhost", "/healthz").await.ends_with("ok\n"));
    assert!(plain("localhost", "/metrics").await.starts_with("HTTP/1.1 401"), "as ever");
    // Sites of VMs are there without https too: what answers is what answers them.
    let of_vm = plain("vm-0.alice.kd.io", "/").await;
    assert!(!of_vm.starts_with("HTTP/1.1 308"), "{of_vm}");
    assert!(plain("koding.com", "/.well-known/acme-challenge/x").await.starts_with("HTTP/1.1 308"));
}

#[tokio::test]
async fn a_name_without_a_certificate_gets_no_other_one() {
    let (world, folder, authority) = (World::new().await, tempfile::tempdir().unwrap(), Authority::new());
    let served = served(&world, authority.issue(folder.path(), &["koding.com"])).await;
    for name in ["evil.example", "vm-0.alice.kd.io", "ssh.koding.com"] {
        let refused = authority.connect(served.https, name, &[]).await.unwrap_err().to_string();
        assert!(
            refused.contains("AccessDenied") || refused.contains("UnrecognisedName"),
            "{name}: {refused}"
        );
    }
    // A right name and a wrong host within.
    let stream = authority.connect(served.https, "koding.com", &[]).await.unwrap();
    assert!(ask(stream, "evil.example", "/").await.starts_with("HTTP/1.1 421"));
    // No TLS at all.
    let answer = ask(TcpStream::connect(served.https).await.unwrap(), "koding.com", "/healthz").await;
    assert!(!answer.contains("ok\n"), "{answer}");
}

#[tokio::test]
async fn who_shakes_no_hand_is_given_up() {
    let (world, folder, authority) = (World::new().await, tempfile::tempdir().unwrap(), Authority::new());
    let served = served(&world, authority.issue(folder.path(), &["koding.com"])).await;
    // Not before: the database answers in real time.
    tokio::time::pause();
    for said in [&b""[..], b"\x16\x03\x01\x02\x00\x01"] {
        let begun = tokio::time::Instant::now();
        let mut client = TcpStream::connect(served.https).await.unwrap();
        client.write_all(said).await.unwrap();
        let mut rest = vec![];
        let _ = client.read_to_end(&mut rest).await;
        let waited = begun.elapsed().as_secs();
        assert!((9..=15).contains(&waited), "{waited}");
    }
}

#[tokio::test]
async fn new_files_are_served_without_a_restart() {
    let (world, folder, authority) = (World::new().await, tempfile::tempdir().unwrap(), Authority::new());
    let served = served(&world, authority.issue(folder.path(), &["koding.com"])).await;
    // Not before: the database answers in real time.
    tokio::time::pause();
    assert!(authority.connect(served.https, "koding.com", &[]).await.is_ok());
    fs::write(folder.path().join("key.pem"), "no key").unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(11)).await;
    assert!(authority.connect(served.https, "koding.com", &[]).await.is_ok(), "the old one is served on");
    let other = Authority::new();
    other.issue(folder.path(), &["koding.com"]);
    tokio::time::sleep(std::time::Duration::from_secs(11)).await;
    assert!(other.connect(served.https, "koding.com", &[]).await.is_ok());
    assert!(authority.connect(served.https, "koding.com", &[]).await.is_err());
}

#[tokio::test]
async fn the_api_is_there_by_https() {
    let (world, folder, authority) = (World::new().await, tempfile::tempdir().unwrap(), Authority::new());
    let served = served(&world, authority.issue(folder.path(), &["koding.com"])).await;
    let token = world.token("alice", &[Scope::VmsRead]).await;
    let mut stream = authority.connect(served.https, "koding.com", &[]).await.unwrap();
    let request = format!(
        "GET /api/v1/vms HTTP/1.1\r\nHost: koding.com\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = vec![];
    let _ = stream.read_to_end(&mut answer).await;
    assert!(String::from_utf8_lossy(&answer).contains("\"label\":\"vm-0\""));
}
