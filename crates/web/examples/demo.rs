//! The website with some people and VMs in memory, to look at and to test in a browser. Prints what to open.
//!
//! `cargo run -p berth-web --example demo -- 127.0.0.1:8099`

use std::{error::Error, sync::Arc, time::Duration};

use async_trait::async_trait;
use berth_control::{
    Acting, Actor, Client, Clock, Control, Https, HttpsError, Invitation, LinkFor, OidcSettings,
    RecordingLimits, RecordingSettings, Role, Settings, ShareTerms,
};
use berth_engine::{EngineError, Usage, VmSpec};
use berth_model::{AccountName, Domains, Secret, TeamName, VmName};
use berth_store::Store;
use berth_testkit::{FakeEngine, Service, Sshd, Verb};
use berth_web::{Site, serve, website};
use ssh_key::{Algorithm, PrivateKey};
use time::OffsetDateTime;
use tokio::{net::TcpListener, sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

const PASSWORD: &str = "correct horse battery";

struct Demo {
    control: Arc<Control>,
    engine: FakeEngine,
    store: Store,
}

// One thread, so that its clock can be turned.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8099".to_owned());
    let listener = TcpListener::bind(&address).await?;
    let team: TeamName = "koding".parse()?;
    let domains = Domains::new("koding.com", "kd.io", team.clone())?;
    let spec = VmSpec { cpus: 2, memory: 1 << 30, disk: 10 << 30 };
    // A name and not an address, as passkeys ask for.
    let at = format!("http://localhost:{}", listener.local_addr()?.port());
    let clock = Clock::Tokio {
        start: OffsetDateTime::now_utc() - Duration::from_secs(3600),
        started: Instant::now(),
    };
    let kept = tempfile::tempdir()?;
    let limits = RecordingLimits { each: 1 << 20, all: 16 << 20 };
    let recording = RecordingSettings { folder: kept.path().to_owned(), limits, sessions: true };
    let recording = Some(recording);
    let settings = Settings { clock, recording, ..Settings::new(domains.clone(), spec, at.clone()) };
    let (engine, store) = (FakeEngine::new(), Store::in_memory(&team).await?);
    let control = Control::open(settings, store.clone(), Arc::new(engine.clone())).await?;
    let demo = Demo { control, engine, store };
    demo.people().await?;
    demo.control.offer_oidc(issuer(), Arc::new(Nowhere))?;
    let host = demo.control.acting(Actor::host());
    let alice: AccountName = "alice".parse()?;
    println!("log in: {}", host.make_link(&alice, LinkFor::LogIn).await?.expose());
    println!("reset: {}", host.make_link(&alice, LinkFor::Reset).await?.expose());
    let invitation = Invitation { name: None, role: Role::Member, note: "dave@example.com".into() };
    println!("invitation: {}", host.invite(invitation).await?.1.expose());
    demo.listen().await?;
    let connected = demo.connect().await?;
    let site = Site {
        domains,
        ssh_port: 22,
        gateway_fingerprint: "SHA256:u9Yx0mCz8pT5aQm1f0k3bq2rV7w8L6dS4hJ9nK1eXyA".into(),
        metrics_on_loopback: true,
    };
    let stop = CancellationToken::new();
    let router = website(site, demo.control.clone(), stop.clone());
    println!("site: {at}");
    println!("people: alice, bob, carol");
    println!("password: {PASSWORD}");
    serve(listener, router, demo.control.entrance(), stop).await;
    drop(connected);
    Ok(())
}

impl Demo {
    /// alice runs this Berth and has VMs in several states; bob has one that sleeps and no key; carol has nothing.
    async fn people(&self) -> Result<(), Box<dyn Error>> {
        let (control, host) = (&self.control, self.control.acting(Actor::host()));
        // The first account of an installation is its operator.
        for name in ["alice", "bob", "carol"] {
            let invitation =
                Invitation { name: Some(name.parse()?), role: Role::Member, note: String::new() };
            let link = host.invite(invitation).await?.1;
            let token = Secret::new(link.expose().rsplit('/').next().unwrap_or_default().to_owned());
            let client = Client { address: [127, 0, 0, 1].into(), user_agent: "" };
            let password = Secret::new(PASSWORD.to_owned());
            let session = control.accept_invitation(&token, name, Some(&password), client).await?;
            control.log_out(&session.login).await?;
        }
        let (alice, bob): (AccountName, AccountName) = ("alice".parse()?, "bob".parse()?);
        for comment in ["alice@laptop", "alice@desk"] {
            let mut key = PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519)?.public_key().clone();
            key.set_comment(comment);
            control.add_keys(&alice, &key.to_openssh()?, None).await?;
        }
        let mut names = vec![];
        for _ in 0..4 {
            names.push(control.add_vm(&alice).await?.name);
        }
        let [first, second, _off, stuck] = names.as_slice() else { return Err("four VMs".into()) };
        host.set_title(first, Some(&"Web shop".parse()?)).await?;
        for vm in [second, stuck] {
            control.start_vm(vm, mpsc::channel(1).0).await?;
            control.sleep_vm(vm).await?;
        }
        self.an_hour_passes(first).await?;
        let reason = "its saved memory is cut short".to_owned();
        self.engine.fail(Verb::Start, Some(EngineError::WakeFailed { reason }));
        let _refused = control.start_vm(stuck, mpsc::channel(1).0).await;
        self.engine.fail(Verb::Start, None);
        let his = control.add_vm(&bob).await?;
        control.start_vm(&his.name, mpsc::channel(1).0).await?;
        control.sleep_vm(&his.name).await?;
        host.add_team_vm().await?;
        let mut ca = PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519)?.public_key().clone();
        ca.set_comment("office");
        host.add_team_ca(&ca.to_openssh()?, None).await?;
        self.share(&host, first, &his.name).await
    }

    /// alice lets bob into her first VM and has asked carol; bob has asked alice.
    async fn share(&self, host: &Acting, hers: &VmName, his: &VmName) -> Result<(), Box<dyn Error>> {
        let now = self.control.settings().clock.now();
        let week = ShareTerms { sudo: true, until: Some(now + Duration::from_secs(7 * 24 * 3600)) };
        host.share_vm(hers, &"bob".parse()?, week).await?;
        host.share_vm(hers, &"carol".parse()?, ShareTerms::default()).await?;
        host.share_vm(his, &hers.owner, ShareTerms::default()).await?;
        let id = self.store.vm(hers).await?.ok_or("it was just made")?.id;
        self.store.accept_share(id, &his.owner, now).await?;
        Ok(())
    }

    /// The VM works for an hour, but for a sleep of ten minutes.
    async fn an_hour_passes(&self, vm: &VmName) -> Result<(), Box<dyn Error>> {
        let open = self.control.site_open(&vm.owner);
        let id = self.store.vm(vm).await?.ok_or("it was just made")?.id;
        tokio::time::pause();
        // A blocking task keeps the clock from running ahead while the database is at work.
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let held = tokio::task::spawn_blocking(move || ended.recv());
        let mut usage = Usage::default();
        for minute in 0..58_u32 {
            match minute {
                0 | 30 => {
                    usage = Usage::default();
                    self.control.start_vm(vm, mpsc::channel(1).0).await?;
                }
                20 => self.control.sleep_vm(vm).await?,
                _ => {}
            }
            let busy = f64::from(minute * 7 % 23) / 23.0;
            usage.cpu += Duration::from_secs_f64(if minute > 40 { 3.0 } else { 110.0 * busy });
            usage.disk += u64::from(minute * 11 % 17) << 22;
            usage.memory = (300 + u64::from(minute) * 6) << 20;
            self.engine.set_usage(&id, usage);
            tokio::time::advance(Duration::from_secs(60)).await;
            for _ in 0..20 {
                tokio::task::yield_now().await;
                self.store.account_exists(&vm.owner).await?;
            }
        }
        drop((end, open));
        tokio::time::resume();
        let _ = held.await;
        Ok(())
    }

    /// alice's first VM has an sshd, which echoes.
    async fn listen(&self) -> Result<(), Box<dyn Error>> {
        let row = self.store.vm(&"vm-0.alice.koding".parse()?).await?.ok_or("it was just made")?;
        let guest = self.engine.clone();
        let sshd =
            Sshd::new(row.host_key.expose(), move || guest.authorized_keys(&row.id).unwrap_or_default());
        let service = Service::new(move |stream| {
            let sshd = sshd.clone();
            async move { sshd.serve(stream).await }
        });
        self.engine.serve(22, service);
        Ok(())
    }

    /// Somebody who is in a VM.
    async fn connect(&self) -> Result<impl Sized, Box<dyn Error>> {
        let mut key = PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519)?.public_key().clone();
        key.set_comment("alice@train");
        let line = key.to_openssh()?;
        self.control.add_keys(&"alice".parse()?, &line, None).await?;
        let added = berth_model::parse_pasted(&line)?.remove(0)?;
        let login = self.control.log_in(&added.key, None, [192, 0, 2, 44].into()).await?;
        let entry = self.control.enter(&login, "vm-0.alice.koding.kd.io", 22).await?;
        Ok(self.control.connect(&entry, mpsc::channel(1).0).await?)
    }
}

fn issuer() -> OidcSettings {
    OidcSettings {
        name: "Example".to_owned(),
        issuer: "https://id.example".to_owned(),
        client_id: "berth".to_owned(),
        client_secret: Secret::new("secret".to_owned()),
    }
}

/// No issuer that could be reached.
struct Nowhere;

#[async_trait]
impl Https for Nowhere {
    async fn get(&self, _: &str) -> Result<Vec<u8>, HttpsError> {
        Err(HttpsError::Unreachable("this is a demonstration".to_owned()))
    }

    async fn post(
        &self,
        _: &str,
        _: Option<&Secret<String>>,
        _: &Secret<String>,
    ) -> Result<Vec<u8>, HttpsError> {
        Err(HttpsError::Unreachable("this is a demonstration".to_owned()))
    }
}
