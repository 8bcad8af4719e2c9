//! Sites of VMs: who may see which port, tickets and passes, and what a visit wakes.

use std::time::Duration;

use berth_control::{
    Error, PortAccess, SITE_PASS_LIFE, SiteRefusal, SiteVisitor, Status, VisitError, WebLogin,
};
use berth_engine::EngineError;
use berth_model::Secret;
use berth_testkit::{Service, Verb};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use crate::{
    time::{self, Time},
    world::{HOME, World, account, no_progress, vm},
};

const ALICES: &str = "vm-0.alice.koding";
const HOST: &str = "vm-0--3000.alice.koding.kd.io:8080";

async fn refusal(world: &World, visitor: Option<&SiteVisitor>, port: u16) -> Option<SiteRefusal> {
    world.control.enter_site(visitor, &vm(ALICES), port).await.err()
}

/// What nobody, the owner and another account get to see.
async fn seen(world: &World, port: u16) -> [Option<SiteRefusal>; 3] {
    let owner = world.control.as_visitor(&world.log_in_by_link("alice").await.login);
    let other = world.control.as_visitor(&world.log_in_by_link("bob").await.login);
    [
        refusal(world, None, port).await,
        refusal(world, Some(&owner), port).await,
        refusal(world, Some(&other), port).await,
    ]
}

const LOG_IN: Option<SiteRefusal> = Some(SiteRefusal::LogIn);
const MISSING: Option<SiteRefusal> = Some(SiteRefusal::Missing);

#[tokio::test]
async fn port_80_is_everybodys_and_others_their_owners_until_something_else_is_decided() {
    let (world, ..) = World::new().await;
    let alice = world.by(&world.log_in_by_link("alice").await.login);
    assert_eq!(seen(&world, 80).await, [None, None, None]);
    assert_eq!(seen(&world, 3000).await, [LOG_IN, None, MISSING]);
    for (port, access, expected) in [
        (3000, PortAccess::Team, [LOG_IN, None, None]),
        (3000, PortAccess::Public, [None, None, None]),
        (3000, PortAccess::Owner, [LOG_IN, None, MISSING]),
        (80, PortAccess::Owner, [LOG_IN, None, MISSING]),
        (80, PortAccess::Team, [LOG_IN, None, None]),
    ] {
        alice.set_port(&vm(ALICES), port, Some(access)).await.unwrap();
        assert_eq!(seen(&world, port).await, expected, "{port} {access}");
    }
    alice.set_port(&vm(ALICES), 80, None).await.unwrap();
    assert_eq!(seen(&world, 80).await, [None, None, None]);
    for port in [0, 22, 25, 443, 1023] {
        assert_eq!(seen(&world, port).await, [MISSING; 3], "{port}");
    }
}

#[tokio::test]
async fn what_does_not_exist_is_as_what_one_may_not_see() {
    let (world, ..) = World::new().await;
    let bob = world.control.as_visitor(&world.log_in_by_link("bob").await.login);
    for name in ["vm-7.alice.koding", "vm-0.carol.koding", "vm-0.alice.elsewhere"] {
        let ask = async |visitor, port| world.control.enter_site(visitor, &vm(name), port).await.err();
        assert_eq!(ask(Some(&bob), 3000).await, MISSING, "{name}");
        assert_eq!(ask(None, 3000).await, LOG_IN, "{name}: as somebody's own port");
        assert_eq!(ask(None, 80).await, MISSING, "{name}: as nothing else");
    }
}

#[tokio::test]
async fn only_its_owner_decides_and_it_is_written_down() {
    let (world, ..) = World::new().await;
    let bob = world.by(&world.log_in_by_link("bob").await.login);
    let refused = bob.set_port(&vm(ALICES), 80, Some(PortAccess::Owner)).await;
    assert!(matches!(refused, Err(Error::NoSuchVm(_))), "{refused:?}");
    assert!(matches!(bob.ports(&vm(ALICES)).await, Err(Error::NoSuchVm(_))));

    let alice = world.by(&world.log_in_by_link("alice").await.login);
    assert!(matches!(alice.set_port(&vm(ALICES), 22, None).await, Err(Error::NoSite { port: 22 })));
    alice.set_port(&vm(ALICES), 3000, Some(PortAccess::Team)).await.unwrap();
    let ports = alice.ports(&vm(ALICES)).await.unwrap();
    let rows: Vec<_> =
        ports.iter().map(|port| (port.port, port.access, port.usual, port.host.as_str())).collect();
    assert_eq!(
        rows,
        [
            (80, PortAccess::Public, true, "vm-0.alice.koding.kd.io"),
            (3000, PortAccess::Team, false, "vm-0--3000.alice.koding.kd.io"),
        ]
    );
    alice.set_port(&vm(ALICES), 3000, None).await.unwrap();
    assert_eq!(alice.ports(&vm(ALICES)).await.unwrap().len(), 1);
    let trail = world.trail().await;
    assert_eq!(
        trail.split_at(trail.len() - 2).1,
        [
            "vm_port alice by alice/web vm-0.alice.koding 3000: team",
            "vm_port alice by alice/web vm-0.alice.koding 3000: as usual",
        ]
    );
    for port in 4000..4064 {
        alice.set_port(&vm(ALICES), port, Some(PortAccess::Team)).await.unwrap();
    }
    let refused = alice.set_port(&vm(ALICES), 5000, Some(PortAccess::Team)).await;
    assert!(matches!(refused, Err(Error::TooManyPorts { most: 64 })), "{refused:?}");
}

async fn pass(world: &World, login: &WebLogin) -> Secret<String> {
    let ticket = world.control.site_ticket(login, HOST);
    world.control.redeem_site_ticket(&ticket, HOST).await.unwrap().unwrap()
}

async fn holder(world: &World, pass: &Secret<String>, host: &str) -> Option<String> {
    world.control.site_visitor(pass, host).await.unwrap().map(|visitor| visitor.account().to_string())
}

#[tokio::test]
async fn a_ticket_is_for_one_host_one_minute_and_once() {
    let time = Time::stop();
    let (world, ..) = World::with(time::settings()).await.peopled().await;
    let login = world.log_in_by_link("alice").await.login;
    let redeem = async |ticket: &Secret<String>, host: &str| {
        world.control.redeem_site_ticket(ticket, host).await.unwrap()
    };
    let ticket = world.control.site_ticket(&login, HOST);
    for host in [
        "vm-0--3000.alice.koding.kd.io",
        "vm-0.alice.koding.kd.io:8080",
        "vm-0--3000.bob.koding.kd.io:8080",
        "",
    ] {
        assert!(redeem(&ticket, host).await.is_none(), "{host}");
    }
    let pass = redeem(&ticket, &HOST.to_uppercase()).await.unwrap();
    assert!(redeem(&ticket, HOST).await.is_none(), "a second time");
    assert!(redeem(&pass, HOST).await.is_none(), "a pass is no ticket");
    assert_eq!(holder(&world, &ticket, HOST).await, None, "a ticket is no pass");
    assert_eq!(holder(&world, &pass, HOST).await.as_deref(), Some("alice"));

    let late = world.control.site_ticket(&login, HOST);
    time.pass(Duration::from_secs(60)).await;
    assert!(redeem(&late, HOST).await.is_none());
    for nonsense in ["", ".", "1.", "1.abc", "x.y", "99999999999999999999.a", &"1".repeat(5000)] {
        let nonsense = Secret::new(nonsense.to_owned());
        assert!(redeem(&nonsense, HOST).await.is_none() && holder(&world, &nonsense, HOST).await.is_none());
    }
}

#[tokio::test]
async fn nobody_makes_a_ticket_or_a_pass_of_another_session() {
    let (world, ..) = World::new().await;
    let (alice, bob) = (world.log_in_by_link("alice").await.login, world.log_in_by_link("bob").await.login);
    let forged = |own: &Secret<String>| {
        let (_, signed) = own.expose().split_once('.').unwrap();
        Secret::new(format!("{}.{signed}", alice.session()))
    };
    let ticket = world.control.site_ticket(&bob, HOST);
    assert!(world.control.redeem_site_ticket(&forged(&ticket), HOST).await.unwrap().is_none());
    assert_eq!(holder(&world, &forged(&pass(&world, &bob).await), HOST).await, None);
}

#[tokio::test]
async fn a_pass_is_dead_with_its_session_and_after_its_time() {
    let _stopped = Time::stop();
    let (world, ..) = World::with(time::settings()).await.peopled().await;
    let (first, second) =
        (world.log_in_by_link("alice").await.login, world.log_in_by_link("alice").await.login);
    let (one, other) = (pass(&world, &first).await, pass(&world, &second).await);
    assert_eq!(holder(&world, &one, "vm-0--3001.alice.koding.kd.io:8080").await, None, "another host");
    let early = world.control.site_ticket(&first, HOST);
    world.control.log_out(&first).await.unwrap();
    assert_eq!(holder(&world, &one, HOST).await, None);
    assert!(world.control.redeem_site_ticket(&early, HOST).await.unwrap().is_none());
    assert_eq!(holder(&world, &other, HOST).await.as_deref(), Some("alice"));
    tokio::time::advance(SITE_PASS_LIFE - Duration::from_secs(1)).await;
    assert_eq!(holder(&world, &other, HOST).await.as_deref(), Some("alice"));
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(holder(&world, &other, HOST).await, None);
}

#[tokio::test]
async fn what_is_open_ends_with_the_session_a_new_decision_or_a_block() {
    let (world, ..) = World::new().await;
    let alice = world.by(&world.log_in_by_link("alice").await.login);
    let bobs = world.log_in_by_link("bob").await.login;
    let bob = world.control.as_visitor(&bobs);
    alice.set_port(&vm(ALICES), 3000, Some(PortAccess::Team)).await.unwrap();
    let enter = async |visitor, port| world.control.enter_site(visitor, &vm(ALICES), port).await.unwrap();
    let lasts = async |entry: &berth_control::SiteEntry| {
        timeout(Duration::from_millis(20), entry.ended()).await.is_err()
    };
    let (private, public) = (enter(Some(&bob), 3000).await, enter(None, 80).await);
    assert!(lasts(&private).await && lasts(&public).await);
    world.control.log_out(&bobs).await.unwrap();
    assert!(!lasts(&private).await && lasts(&public).await);
    alice.set_port(&vm(ALICES), 4000, Some(PortAccess::Public)).await.unwrap();
    assert!(!lasts(&public).await);

    // The other way round, since nobody can block themselves.
    let site = vm("vm-0.bob.koding");
    let his = world.control.enter_site(None, &site, 80).await.unwrap();
    alice.block_account(&account("bob")).await.unwrap();
    assert!(!lasts(&his).await);
    assert_eq!(world.control.enter_site(None, &site, 80).await.err(), MISSING);
    alice.unblock_account(&account("bob")).await.unwrap();
    assert!(world.control.enter_site(None, &site, 80).await.is_ok());
}

#[tokio::test]
async fn what_is_removed_is_seen_by_nobody_at_once() {
    let (world, ..) = World::new().await;
    let alice = world.by(&world.log_in_by_link("alice").await.login);
    let bobs = vm("vm-0.bob.koding");
    // The removal itself fails, and is tried again at the next start.
    world.engine.fail(Verb::Remove, Some(EngineError::Broken { reason: "its disk is gone".into() }));
    let mut open = vec![];
    for site in [vm(ALICES), bobs.clone()] {
        for _ in 0..2 {
            open.push(world.control.enter_site(None, &site, 80).await.unwrap());
        }
    }
    assert!(world.control.remove_vm(&vm(ALICES)).await.is_err());
    assert_eq!(refusal(&world, None, 80).await, MISSING);
    assert!(alice.remove_account(&account("bob")).await.is_err());
    assert_eq!(world.control.enter_site(None, &bobs, 80).await.err(), MISSING);
    for entry in open {
        timeout(Duration::from_secs(20), entry.ended()).await.expect("it ends with the VM");
    }
}

#[tokio::test]
async fn a_visit_wakes_what_sleeps_and_leaves_off_what_is_off() {
    let (world, ..) = World::new().await;
    world.engine.serve(80, Service::greeting(b"hello"));
    let id = world.id(ALICES).await;
    let entry = world.control.enter_site(None, &vm(ALICES), 80).await.unwrap();
    let visit = async || world.control.visit(&entry, HOME).await.map(drop);
    assert_eq!(visit().await, Err(VisitError::Off(vm(ALICES))));
    assert_eq!(world.engine.calls(Verb::Start, Some(&id)), 0);

    world.control.start_vm(&vm(ALICES), no_progress()).await.unwrap();
    world.control.sleep_vm(&vm(ALICES)).await.unwrap();
    assert_eq!(world.control.site_status(&entry), Status::Asleep);
    let mut stream = world.control.visit(&entry, HOME).await.unwrap();
    let mut said = [0; 5];
    stream.read_exact(&mut said).await.unwrap();
    stream.write_all(b"x").await.unwrap();
    assert_eq!((&said, world.control.site_status(&entry)), (b"hello", Status::Running));
    // Its supervisor takes a look at it first.
    let told = tokio::time::timeout(std::time::Duration::from_secs(15), async {
        while !world.control.why(&vm(ALICES)).await.unwrap().contains("a visitor used its port 80") {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    });
    told.await.expect("it says what holds it awake");
    drop(stream);

    world.control.stop_vm(&vm(ALICES)).await.unwrap();
    assert_eq!(visit().await, Err(VisitError::Off(vm(ALICES))));
    world.control.start_vm(&vm(ALICES), no_progress()).await.unwrap();
    world.engine.crash(&id, "its disk is full");
    while world.control.site_status(&entry) != Status::Failed {
        tokio::task::yield_now().await;
    }
    assert_eq!(visit().await, Err(VisitError::Failed(vm(ALICES))));
    world.control.remove_vm(&vm(ALICES)).await.unwrap();
    assert!(matches!(visit().await, Err(VisitError::Connect(_))));
}

#[tokio::test]
async fn a_vm_that_cannot_wake_and_one_where_nothing_listens_are_told_apart() {
    let (world, ..) = World::new().await;
    let entry = world.control.enter_site(None, &vm(ALICES), 80).await.unwrap();
    world.control.start_vm(&vm(ALICES), no_progress()).await.unwrap();
    let error = world.control.visit(&entry, HOME).await.err().unwrap().to_string();
    assert_eq!(error, "vm-0 is running, but nothing in it listens on port 80.");
    world.control.sleep_vm(&vm(ALICES)).await.unwrap();
    world.engine.fail(Verb::Start, Some(EngineError::WakeFailed { reason: "no room".into() }));
    let error = world.control.visit(&entry, HOME).await.err().unwrap().to_string();
    assert!(error.starts_with("vm-0 could not be woken: no room."), "{error}");
}
