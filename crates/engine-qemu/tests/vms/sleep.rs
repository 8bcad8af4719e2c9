//! Falling asleep and waking: what is kept, how long it takes, and that nothing is lost.

use berth_engine::{Engine, EngineError, Observed};
use berth_model::VmId;
use tokio::time::Instant;

use crate::bench::{Bench, image_dir, qemus, shims, soon};

const ASLEEP: Observed = Observed::Asleep { called: false };

pub(crate) async fn sleep() {
    let bench = Bench::new(image_dir()).await;
    let vm = VmId::random();
    bench.engine.create(&vm, &bench.spec).await.expect("it is made");
    assert_eq!(bench.engine.sleep(&vm).await, Err(EngineError::NotRunning));
    bench.start(&vm).await;
    let mut times = Vec::new();
    for round in 0..5 {
        let slept = Instant::now();
        bench.sleep(&vm).await;
        let slept = slept.elapsed();
        assert_eq!(qemus(&vm.to_string()).len(), 0);
        let seen = bench.engine.observe(&vm).await;
        assert_eq!(seen, Ok(ASLEEP), "{}", bench.shim_log(&vm));
        if round > 2 {
            soon("the shim goes", || shims(&vm.to_string()).is_empty()).await;
        }
        let woke = Instant::now();
        bench.engine.start(&vm, &bench.spec, &bench.guest).await.unwrap_or_else(|error| {
            panic!("{error:?} {}", bench.shim_log(&vm));
        });
        let woke = woke.elapsed();
        println!("  slept in {slept:.1?}, woke in {woke:.1?}");
        times.push((slept, woke));
        println!("{}", bench.prints(&vm, "date; uptime; free -m").await);
        println!("{:?}", bench.engine.usage(&vm).await);
    }
    println!("{}", bench.shim_log(&vm));
    bench.engine.remove(&vm).await.expect("it is removed");
}
