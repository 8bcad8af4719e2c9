//! Falling asleep and waking: what is kept, how long it takes, and that nothing is lost.

use berth_engine::{Engine, EngineError};
use berth_model::VmId;

use crate::{
    bench::{Bench, image_dir},
    traffic::traffic,
};

pub(crate) async fn sleep() {
    let bench = Bench::new(image_dir()).await;
    let vm = VmId::random();
    bench.engine.create(&vm, &bench.spec).await.expect("it is made");
    assert_eq!(bench.engine.sleep(&vm).await, Err(EngineError::NotRunning));
    bench.start(&vm).await;
    traffic(&bench, &vm).await;
    bench.engine.remove(&vm).await.expect("it is removed");
}
