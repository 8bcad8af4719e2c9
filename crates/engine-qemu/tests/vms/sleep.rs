//! Falling asleep and waking: what is kept, what is new after it, and that nothing is lost on the way.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use berth_engine::{Engine, EngineError, Guest, Observed};
use berth_model::VmId;
use tokio::time::Instant;

use crate::{
    bench::{Bench, image_dir, qemus, shims},
    kills::kills,
    traffic::traffic,
};

pub(crate) async fn sleep() {
    let bench = Bench::new(image_dir()).await;
    let vm = VmId::random();
    bench.engine.create(&vm, &bench.spec).await.expect("it is made");
    assert_eq!(bench.engine.sleep(&vm).await, Err(EngineError::NotRunning));
    bench.start(&vm).await;
    what_runs_can_be_asked(&bench, &vm).await;
    memory_is_kept_and_the_clock_is_right(&bench, &vm).await;
    keys_that_were_set_meanwhile_count(&bench, &vm).await;
    a_sleeping_vm_is_not_asked(&bench, &vm).await;
    traffic(&bench, &vm).await;
    kills(&bench, &vm).await;
}

async fn what_runs_can_be_asked(bench: &Bench, vm: &VmId) {
    println!(" usage, leases, a line on its terminals, room");
    let before = bench.engine.usage(vm).await.expect("it runs");
    bench.prints(vm, "dd if=/dev/zero of=zeros bs=1M count=8 oflag=direct 2>&1; rm zeros").await;
    let after = bench.engine.usage(vm).await.expect("it runs");
    assert!(after.cpu > before.cpu && after.disk >= before.disk + (8 << 20), "{before:?} {after:?}");
    assert!((64 << 20..bench.spec.memory).contains(&after.memory), "{after:?}");
    assert_eq!(bench.engine.leases(vm).await, Ok(vec![]));
    assert_eq!(bench.engine.tell(vm, "“hello”").await, Ok(()));
    let room = bench.engine.room().await.expect("there is some");
    assert!(room.memory >= bench.spec.memory && room.memory_free > 0 && room.disk_free > 0, "{room:?}");
}

async fn memory_is_kept_and_the_clock_is_right(bench: &Bench, vm: &VmId) {
    println!(" memory and clock");
    bench.prints(vm, "echo kept >/dev/shm/kept; echo kept >kept; sync; setsid -f sleep 1000 >/dev/null 2>&1 </dev/null").await;
    let id = vm.to_string();
    bench.sleep_for_good(vm).await;
    assert_eq!((qemus(&id).len(), shims(&id).len()), (0, 0));
    assert_eq!(bench.engine.sleep(vm).await, Ok(()), "it does");
    tokio::time::sleep(Duration::from_secs(2)).await;
    bench.wake(vm).await;
    assert_eq!(bench.prints(vm, "cat /dev/shm/kept; pgrep -c sleep").await, "kept\n1");
    let there: u64 = bench.prints(vm, "date +%s").await.parse().expect("a number");
    let here = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    assert!(here.abs_diff(there) <= 1, "{here} here, {there} there");
}

async fn keys_that_were_set_meanwhile_count(bench: &Bench, vm: &VmId) {
    println!(" keys");
    let second = bench.ssh.new_key("second", &["-t", "ed25519"]).await;
    let with = |keys: &str| Guest { authorized_keys: keys.to_owned(), ..bench.guest.clone() };
    bench.sleep(vm).await;
    assert_eq!(
        bench.engine.set_authorized_keys(vm, &second, &[], "").await,
        Ok(()),
        "its next start gives them"
    );
    bench.engine.start(vm, &bench.spec, &with(&second)).await.expect("it wakes");
    assert_eq!(bench.run(vm, "second", "true").await.status, Some(0));
    assert_ne!(bench.run(vm, "member", "true").await.status, Some(0));
    bench.sleep_for_good(vm).await;
    bench.wake(vm).await;
    assert_eq!(
        bench.run(vm, "member", "true").await.status,
        Some(0),
        "also by a shim that was not there before"
    );
}

async fn a_sleeping_vm_is_not_asked(bench: &Bench, vm: &VmId) {
    println!(" what only a running one can do");
    bench.sleep_for_good(vm).await;
    assert_eq!(bench.engine.usage(vm).await, Err(EngineError::NotRunning));
    assert_eq!(bench.engine.tell(vm, "x").await, Err(EngineError::NotRunning));
    assert_eq!(bench.engine.dial(vm, 22).await.err(), Some(EngineError::NotRunning));
    assert_eq!(bench.engine.stop(vm, Duration::ZERO).await, Err(EngineError::NotRunning));
    assert_eq!(bench.engine.observe(vm).await, Ok(Observed::Asleep { called: false }));
    assert_eq!(bench.another_engine().list().await, Ok(vec![*vm]));
    bench.wake(vm).await;
}

impl Bench {
    /// Puts the VM to sleep and waits until nothing of it is left but files.
    pub(crate) async fn sleep_for_good(&self, vm: &VmId) {
        for _ in 0..5 {
            // Its sshd says goodbye to the last connection; on a busy host that takes a while, and until then the
            // connection is open.
            tokio::time::sleep(Duration::from_secs(1)).await;
            self.sleep(vm).await;
            let deadline = Instant::now() + Duration::from_secs(4);
            while Instant::now() < deadline {
                if shims(&vm.to_string()).is_empty() {
                    assert_eq!(self.engine.observe(vm).await, Ok(Observed::Asleep { called: false }));
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            self.wake(vm).await;
        }
        panic!("its shim does not go\n{}", self.shim_log(vm));
    }
}
