//! The website with some people and VMs in memory, to look at and to test in a browser. Prints what to open.
//!
//! `cargo run -p berth-web --example demo -- 127.0.0.1:8099`

use std::{error::Error, sync::Arc};

use berth_control::{Actor, Client, Control, Invitation, LinkFor, Role, Settings};
use berth_engine::VmSpec;
use berth_model::{AccountName, Domains, Secret, TeamName};
use berth_store::Store;
use berth_testkit::FakeEngine;
use berth_web::{Site, serve, website};
use ssh_key::{Algorithm, PrivateKey};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_util::sync::CancellationToken;

const PASSWORD: &str = "correct horse battery";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8099".to_owned());
    let team: TeamName = "koding".parse()?;
    let domains = Domains::new("koding.com", "kd.io", team.clone())?;
    let spec = VmSpec { cpus: 2, memory: 1 << 30, disk: 10 << 30 };
    let settings = Settings::new(domains.clone(), spec, format!("http://{address}"));
    let control =
        Control::open(settings, Store::in_memory(&team).await?, Arc::new(FakeEngine::new())).await?;
    people(&control).await?;
    let host = control.acting(Actor::host());
    let alice: AccountName = "alice".parse()?;
    println!("log in: {}", host.make_link(&alice, LinkFor::LogIn).await?.expose());
    println!("reset: {}", host.make_link(&alice, LinkFor::Reset).await?.expose());
    let invitation = Invitation { name: None, role: Role::Member, note: "dave@example.com".into() };
    println!("invitation: {}", host.invite(invitation).await?.1.expose());
    let site = Site {
        domains,
        ssh_port: 22,
        gateway_fingerprint: "SHA256:u9Yx0mCz8pT5aQm1f0k3bq2rV7w8L6dS4hJ9nK1eXyA".into(),
    };
    let stop = CancellationToken::new();
    let router = website(site, control, stop.clone());
    println!("site: http://{address}");
    println!("people: alice, bob, carol");
    println!("password: {PASSWORD}");
    serve(TcpListener::bind(&address).await?, router, stop).await;
    Ok(())
}

/// alice runs this Berth and has VMs in several states; bob has one that sleeps and no key; carol has nothing.
async fn people(control: &Arc<Control>) -> Result<(), Box<dyn Error>> {
    let host = control.acting(Actor::host());
    // The first account of an installation is its operator.
    for name in ["alice", "bob", "carol"] {
        let invitation = Invitation { name: Some(name.parse()?), role: Role::Member, note: String::new() };
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
    let (first, second) = (control.add_vm(&alice).await?, control.add_vm(&alice).await?);
    control.add_vm(&alice).await?;
    control.start_vm(&first.name, mpsc::channel(1).0).await?;
    control.start_vm(&second.name, mpsc::channel(1).0).await?;
    control.sleep_vm(&second.name).await?;
    let his = control.add_vm(&bob).await?;
    control.start_vm(&his.name, mpsc::channel(1).0).await?;
    control.sleep_vm(&his.name).await?;
    Ok(())
}
