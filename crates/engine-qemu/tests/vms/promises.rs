//! What every engine promises, kept by this one.

use std::sync::Arc;

use berth_engine::Engine;
use berth_testkit::conformance;

use crate::bench::{Bench, PATIENCE, image_dir};

pub(crate) async fn promises() {
    let bench = Bench::new(image_dir()).await;
    let engine: Arc<dyn Engine> = Arc::clone(&bench.engine) as _;
    let (spec, guest) = (bench.spec.clone(), bench.guest.clone());
    conformance(berth_testkit::Bench { engine, spec, guest, patience: PATIENCE, free_port: 4999 }).await;
}
