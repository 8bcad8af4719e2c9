#![no_main]
//! One program for all targets, since each would be linked with nearly the same: `BERTH_FUZZ=nc_words PROGRAM CORPUS…`

use std::sync::OnceLock;

use berth_fuzz::{Target, by_name};

static TARGET: OnceLock<Target> = OnceLock::new();

fn target() -> Target {
    let name = std::env::var("BERTH_FUZZ").expect("BERTH_FUZZ names a target");
    by_name(&name).expect("a target of that name")
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| TARGET.get_or_init(target)(data));
