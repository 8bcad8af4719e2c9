use berth_model::Secret;
use berth_vnet::Network;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt},
    sync::{Mutex, mpsc, watch},
};

use super::*;
use crate::shim::agent::Agent;

struct Bench {
    observed: watch::Sender<Observed>,
    commands: mpsc::Receiver<Command>,
    agent: UnixStream,
    desk: Arc<Desk>,
}

fn bench() -> Bench {
    let (observed, seen) = watch::channel(Observed::Booting);
    let (ask, commands) = mpsc::channel(4);
    let (agent, line) = UnixStream::pair().unwrap();
    let guest = Guest {
        hostname: "vm-0".to_owned(),
        names: vec!["vm-0.alice.koding.kd.io".to_owned()],
        user: "alice".parse().unwrap(),
        authorized_keys: String::new(),
        others: vec![],
        host_key: Secret::new(String::new()),
        host_certificate: String::new(),
    };
    let desk = Desk {
        observed: seen,
        commands: ask,
        guest: watch::Sender::new(Some(Arc::new(guest))),
        given: watch::Sender::new(None),
        agent: Arc::new(Mutex::new(Agent::new(line))),
        network: Network::spawn(&TaskTracker::new()),
        qemu: watch::Sender::new(None),
        memory: std::path::PathBuf::new(),
        disk: std::path::PathBuf::new(),
        copying: tokio::sync::Mutex::new(()),
    };
    Bench { observed, commands, agent, desk: Arc::new(desk) }
}

impl Bench {
    /// What is answered to one line, up to the end of the connection.
    async fn says(&self, line: &str) -> String {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        ours.write_all(line.as_bytes()).await.unwrap();
        answer(&self.desk, theirs).await.unwrap();
        let mut text = String::new();
        ours.read_to_string(&mut text).await.unwrap();
        text
    }
}

#[tokio::test]
async fn what_is_asked_is_answered_and_what_is_not_understood_is_denied() {
    let mut bench = bench();
    assert_eq!(
        bench.says("{\"v\":1,\"do\":\"observe\"}\n").await,
        "{\"v\":1,\"reply\":\"observed\",\"observed\":{\"is\":\"booting\"}}\n"
    );
    assert_eq!(
        bench.says("{\"v\":1,\"do\":\"stop\",\"patience_ms\":5}\n").await,
        "{\"v\":1,\"reply\":\"done\"}\n"
    );
    let asked = bench.commands.recv().await;
    assert!(matches!(asked, Some(Command::Stop(patience)) if patience == Duration::from_millis(5)));
    bench.says("{\"v\":1,\"do\":\"kill\"}\n").await;
    assert!(matches!(bench.commands.recv().await, Some(Command::Kill)));
    assert!(bench.says("{\"v\":1,\"do\":\"let_go\"}\n").await.contains("not_asleep"));
    assert!(bench.says("{\"v\":1,\"do\":\"usage\"}\n").await.contains("not_running"));
    assert!(bench.says("{\"v\":1,\"do\":\"dial\",\"port\":22}\n").await.contains("not_running"));
    assert!(bench.says("{\"v\":9,\"do\":\"fly\"}\n").await.contains("\"speaks\":1"));
    assert!(bench.says("fly\n").await.contains("malformed"));
    bench.observed.send(Observed::Running).unwrap();
    assert!(
        bench.says("{\"v\":1,\"do\":\"dial\",\"port\":22}\n").await.contains("not_running"),
        "no guest is there"
    );
}

#[tokio::test]
async fn a_change_is_told_when_it_comes_and_not_to_one_who_left() {
    let bench = bench();
    let asked = bench.says("{\"v\":1,\"do\":\"changed\",\"known\":{\"is\":\"booting\"}}\n");
    let change = async {
        tokio::task::yield_now().await;
        bench.observed.send(Observed::Running).unwrap();
    };
    let (told, ()) = tokio::join!(asked, change);
    assert!(told.contains("running"), "{told}");

    let (mut ours, theirs) = UnixStream::pair().unwrap();
    ours.write_all(b"{\"v\":1,\"do\":\"changed\",\"known\":{\"is\":\"running\"}}\n").await.unwrap();
    drop(ours);
    answer(&bench.desk, theirs).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn one_who_says_nothing_is_dropped() {
    let bench = bench();
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    answer(&bench.desk, theirs).await.unwrap();
    assert_eq!(ours.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn keys_are_noted_while_it_boots_and_put_in_while_it_runs() {
    let mut bench = bench();
    let set = "{\"v\":1,\"do\":\"set_authorized_keys\",\"authorized_keys\":\"ssh-ed25519 AAAA\"}\n";
    assert!(bench.says(set).await.contains("done"));
    assert_eq!(bench.desk.guest.borrow().as_ref().unwrap().authorized_keys, "ssh-ed25519 AAAA");
    bench.observed.send(Observed::Running).unwrap();
    let denied = bench.says(set).await;
    assert!(denied.contains("did not take the keys"), "an agent that does not answer: {denied}");
    let mut heard = Vec::new();
    BufReader::new(&mut bench.agent).read_until(b'\n', &mut heard).await.unwrap();
    assert!(String::from_utf8_lossy(&heard).contains("guest-sync-delimited"));
}
