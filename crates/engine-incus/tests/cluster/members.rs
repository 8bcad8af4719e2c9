//! Members that go and come back: what is told of their VMs is true, and the others are used as ever.

use std::time::Duration;

use berth_engine::{Ending, Engine, EngineError, Observed};
use berth_engine_incus::{IncusEngine, Reach};
use berth_model::VmId;
use tokio::time::sleep;

use crate::bench::{Cluster, MEMBERS, guest, spec, within};

/// One VM that runs on each member, in the members' order.
async fn one_each(cluster: &Cluster, engine: &IncusEngine) -> Vec<VmId> {
    let mut vms: Vec<Option<VmId>> = vec![None; MEMBERS.len()];
    // The cluster places the next one where the fewest are.
    for _ in 0..3 * MEMBERS.len() {
        if vms.iter().all(Option::is_some) {
            break;
        }
        let vm = VmId::random();
        within("create", engine.create(&vm, &spec())).await.expect("made");
        let member = cluster.member_of(&vm);
        let at = MEMBERS.iter().position(|name| *name == member).expect("a member");
        if vms[at].is_none() {
            within("start", engine.start(&vm, &spec(), &guest())).await.expect("started");
            vms[at] = Some(vm);
        } else {
            within("remove", engine.remove(&vm)).await.expect("removed");
        }
    }
    vms.into_iter().map(|vm| vm.expect("each member has one")).collect()
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    within(what, async {
        while !holds().await {
            sleep(Duration::from_millis(200)).await;
        }
    })
    .await;
}

pub(crate) async fn members(cluster: &Cluster) {
    // It asks the second member, so that the first and the third one are others to it.
    let engine = cluster.engine(&["n2", "n1", "n3"], Reach::Network);
    let vms = one_each(cluster, &engine).await;
    dies(cluster, &engine, &vms).await;
    is_cut_off(cluster, &engine, &vms).await;
    the_one_that_is_asked(cluster, &engine, &vms).await;
    for vm in &vms {
        within("remove", engine.remove(vm)).await.expect("removed");
    }
    assert_eq!(engine.list().await, Ok(vec![]), "nothing is left");
}

/// The plug of a member is pulled while its VM serves.
async fn dies(cluster: &Cluster, engine: &IncusEngine, vms: &[VmId]) {
    cluster.script(&["kill", "n3"]);
    let seen = within("observe", engine.observe(&vms[2])).await;
    assert!(matches!(seen, Err(EngineError::Away { .. })), "what nobody can know is not told: {seen:?}");
    for vm in &vms[..2] {
        until("the others are as they were", async || engine.observe(vm).await == Ok(Observed::Running))
            .await;
        drop(within("dial", engine.dial(vm, 22)).await.expect("and answer"));
    }
    let begun = within("start", engine.start(&vms[2], &spec(), &guest())).await;
    assert!(matches!(begun, Err(EngineError::Away { .. })), "{begun:?}");
    let removed = within("remove", engine.remove(&vms[2])).await;
    assert!(matches!(removed, Err(EngineError::Away { .. })), "{removed:?}");
    assert_eq!(engine.list().await.map(|all| all.len()), Ok(3), "and forgotten is none");

    cluster.script(&["start", "n3"]);
    let reason = "the machine that it ran on went down".to_owned();
    let off = Ok(Observed::Off { ended: Some(Ending::Failed { reason }) });
    until("the member is back, and tells what became of it", async || engine.observe(&vms[2]).await == off)
        .await;
    within("start", engine.start(&vms[2], &spec(), &guest())).await.expect("it starts where it was");
}

/// A member that runs on, and that nobody reaches for a while.
async fn is_cut_off(cluster: &Cluster, engine: &IncusEngine, vms: &[VmId]) {
    cluster.script(&["cut", "n3"]);
    until("it is told", async || matches!(engine.observe(&vms[2]).await, Err(EngineError::Away { .. })))
        .await;
    cluster.script(&["heal", "n3"]);
    until("it is back", async || engine.observe(&vms[2]).await == Ok(Observed::Running)).await;
    drop(within("dial", engine.dial(&vms[2], 22)).await.expect("and answers"));
}

/// The member dies that the engine asks: it asks another one.
async fn the_one_that_is_asked(cluster: &Cluster, engine: &IncusEngine, vms: &[VmId]) {
    cluster.script(&["kill", "n2"]);
    until("another member answers", async || engine.observe(&vms[0]).await == Ok(Observed::Running)).await;
    drop(within("dial", engine.dial(&vms[0], 22)).await.expect("its VM answers"));
    cluster.script(&["start", "n2"]);
    until("the member is back", async || matches!(engine.observe(&vms[1]).await, Ok(Observed::Off { .. })))
        .await;
}

/// The plug of a member is pulled while a VM of it is made, starts, or falls asleep. Nothing is there twice or forgotten, and
/// the same verb goes on from there.
pub(crate) async fn half_way(cluster: &Cluster) {
    let engine = cluster.engine(&["n2", "n1", "n3"], Reach::Network);
    let vm = one_on(cluster, &engine, "n3").await;
    for (what, moment) in [("start", 400), ("sleep", 50)] {
        if what == "sleep" {
            within("start", engine.start(&vm, &spec(), &guest())).await.expect("started");
        }
        let pull = async {
            sleep(Duration::from_millis(moment)).await;
            cluster.script(&["kill", "n3"]);
        };
        let (spec, guest) = (spec(), guest());
        let verb = async {
            match what {
                "start" => engine.start(&vm, &spec, &guest).await,
                _ => engine.sleep(&vm).await,
            }
        };
        let (ended, ()) = tokio::join!(within(what, verb), pull);
        println!("a {what} whose machine goes down after {moment} ms: {ended:?}");
        cluster.script(&["start", "n3"]);
        until("the member is back, and nothing of it runs", async || {
            matches!(engine.observe(&vm).await, Ok(Observed::Off { .. }))
        })
        .await;
        until("it is there once", async || engine.list().await == Ok(vec![vm])).await;
    }
    within("start", engine.start(&vm, &spec(), &guest())).await.expect("it starts as ever");
    drop(within("dial", engine.dial(&vm, 22)).await.expect("and answers"));
    within("remove", engine.remove(&vm)).await.expect("removed");
}

async fn one_on(cluster: &Cluster, engine: &IncusEngine, member: &str) -> VmId {
    for _ in 0..9 {
        let vm = VmId::random();
        within("create", engine.create(&vm, &spec())).await.expect("made");
        if cluster.member_of(&vm) == member {
            return vm;
        }
        within("remove", engine.remove(&vm)).await.expect("removed");
    }
    panic!("the cluster places nothing on {member}")
}
