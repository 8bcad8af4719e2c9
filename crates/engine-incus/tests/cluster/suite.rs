//! What every engine does, and what is this one's own.

use std::{sync::Arc, time::Duration};

use berth_engine::{Engine, EngineError, Home, Observed};
use berth_engine_incus::Reach;
use berth_model::VmId;
use berth_testkit::{Bench, conformance};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{sleep, timeout},
};

use crate::bench::{Cluster, MEMBERS, PATIENCE, guest, spec, within};

pub(crate) async fn conforms(cluster: &Cluster) {
    conformance(Bench {
        engine: Arc::new(cluster.engine(&MEMBERS, Reach::Network)),
        spec: spec(),
        guest: guest(),
        patience: PATIENCE,
        free_port: 4321,
    })
    .await;
    assert_eq!(cluster.engine(&MEMBERS, Reach::Network).list().await, Ok(vec![]), "nothing is left");
}

/// Where the cluster's network is out of reach: the same connections, carried by the API.
pub(crate) async fn through_the_api(cluster: &Cluster) {
    let engine = cluster.engine(&MEMBERS, Reach::Api);
    let vm = VmId::random();
    within("create", engine.create(&vm, &spec())).await.expect("made");
    within("start", engine.start(&vm, &spec(), &guest())).await.expect("its sshd answers through the API");
    let refused = within("dial", engine.dial(&vm, 4321)).await.err();
    assert_eq!(refused, Some(EngineError::Refused { port: 4321 }), "where nothing listens, it is told");
    // It starts when sshd does, and is not waited for.
    let mut page = loop {
        match within("dial", engine.dial(&vm, 80)).await {
            Err(EngineError::Refused { .. }) => sleep(Duration::from_millis(200)).await,
            page => break page.expect("the web server answers"),
        }
    };
    page.write_all(b"GET / HTTP/1.0\r\n\r\n").await.expect("asked");
    page.shutdown().await.expect("the sending half closes");
    let mut said = String::new();
    within("the page", page.read_to_string(&mut said)).await.expect("the other half ends by itself");
    assert!(said.contains("Hello from vm-0.alice.koding.kd.io"), "{said}");
    within("remove", engine.remove(&vm)).await.expect("removed");
}

/// A connection stands still with its VM, and what is sent on it wakes the VM.
pub(crate) async fn open_connections(cluster: &Cluster) {
    let engine = cluster.engine(&MEMBERS, Reach::Network);
    let vm = VmId::random();
    within("create", engine.create(&vm, &spec())).await.expect("made");
    within("start", engine.start(&vm, &spec(), &guest())).await.expect("started");
    let mut shell = within("dial", engine.dial(&vm, 22)).await.expect("dialled");
    let mut banner = [0; 8];
    within("the banner", shell.read_exact(&mut banner)).await.expect("sshd greets");
    within("sleep", engine.sleep(&vm)).await.expect("it sleeps");
    let asleep = Observed::Asleep { called: false };
    assert_eq!(engine.observe(&vm).await, Ok(asleep.clone()), "an open connection is no call");
    let (called, sent) =
        tokio::join!(within("changed", engine.changed(&vm, &asleep)), shell.write_all(b"SSH-2.0-test\r\n"));
    sent.expect("its kernel takes it");
    assert_eq!(called, Ok(Observed::Asleep { called: true }), "who sends something calls it");
    within("start", engine.start(&vm, &spec(), &guest())).await.expect("it wakes");
    let mut keys = [0; 64];
    within("the answer", shell.read_exact(&mut keys))
        .await
        .expect("the same sshd goes on with the same client");
    within("remove", engine.remove(&vm)).await.expect("removed");
}

/// A server that dies in the middle: what it began is finished or made anew, and never there twice.
pub(crate) async fn interrupted(cluster: &Cluster) {
    let vm = VmId::random();
    for moment in [1, 40, 150, 400] {
        let engine = cluster.engine(&MEMBERS, Reach::Network);
        drop(timeout(Duration::from_millis(moment), engine.create(&vm, &spec())).await);
    }
    let engine = cluster.engine(&MEMBERS, Reach::Network);
    within("create", engine.create(&vm, &spec())).await.expect("made");
    assert_eq!(engine.observe(&vm).await, Ok(Observed::Off { ended: None }));
    assert_eq!(engine.list().await, Ok(vec![vm]), "once");
    for moment in [100, 700, 1500, 3000] {
        let engine = cluster.engine(&MEMBERS, Reach::Network);
        let (spec, guest, home) = (spec(), guest(), Home::Discard);
        let rebuilt = engine.rebuild(&vm, &spec, &guest, home, PATIENCE);
        drop(timeout(Duration::from_millis(moment), rebuilt).await);
    }
    within("start", engine.start(&vm, &spec(), &guest())).await.expect("whatever became of that, it starts");
    assert_eq!(engine.list().await, Ok(vec![vm]), "once");
    within("remove", engine.remove(&vm)).await.expect("removed");
    assert_eq!(engine.list().await, Ok(vec![]));
}

/// A home goes along to a new disk, and nothing else does.
pub(crate) async fn home_is_kept(cluster: &Cluster) {
    let engine = cluster.engine(&MEMBERS, Reach::Network);
    let vm = VmId::random();
    within("create", engine.create(&vm, &spec())).await.expect("made");
    within("start", engine.start(&vm, &spec(), &guest())).await.expect("started");
    let inside = "set -e; cd /home/alice; umask 077; echo kept >file; ln file second; setfattr -n user.x -v y file 2>/dev/null || true; \
                  chown -R 1000:1000 .; head -c 20000000 /dev/urandom >large; sha256sum large >sum; echo gone >/etc/gone";
    cluster.inside(&vm, inside);
    within("sleep", engine.sleep(&vm)).await.expect("it sleeps");
    let (spec, guest) = (spec(), guest());
    let rebuilt = engine.rebuild(&vm, &spec, &guest, Home::Keep, PATIENCE);
    within("rebuild", rebuilt).await.expect("it is made anew");
    assert_eq!(engine.observe(&vm).await, Ok(Observed::Off { ended: None }), "as one that was just made");
    within("start", engine.start(&vm, &spec, &guest)).await.expect("it starts");
    let inside = "set -e; cd /home/alice; sha256sum -c sum; [ ! -e /etc/gone ]; \
                  [ \"$(stat -c '%u %a %h' file)\" = '1000 600 2' ]; [ \"$(cat second)\" = kept ]";
    cluster.inside(&vm, inside);
    within("remove", engine.remove(&vm)).await.expect("removed");
}
