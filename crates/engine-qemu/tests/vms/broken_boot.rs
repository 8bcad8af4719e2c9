//! A boot that fails: the start says so, nothing runs on, and the boot log is kept.

use std::{fs, os::unix::fs::symlink};

use berth_engine::{Engine, EngineError, Observed};
use berth_engine_qemu::image;
use berth_model::VmId;

use crate::bench::{Bench, image_dir, qemus, shims};

pub(crate) async fn broken_boot() {
    let good = image::find_latest(&image_dir()).expect("images are listed").expect("there is one");
    let images = tempfile::tempdir().expect("a temporary folder");
    let dir = images.path().join(&good.id);
    fs::create_dir(&dir).expect("the folder is ours");
    let from = good.disk.parent().expect("it is in a folder");
    for name in ["vmlinuz", "disk", "manifest.json"] {
        symlink(from.join(name), dir.join(name)).expect("the folder is ours");
    }
    fs::write(dir.join("initrd"), b"no archive at all").expect("the folder is ours");

    let bench = Bench::new(images.path().to_owned()).await;
    let vm = VmId::random();
    bench.engine.create(&vm, &bench.spec).await.expect("it is made");
    let error = bench.engine.start(&vm, &bench.spec, &bench.guest).await.expect_err("no guest comes up");
    assert!(
        matches!(&error, EngineError::StartFailed { reason } if reason.contains("did not come up")),
        "{error:?}\n{}",
        bench.shim_log(&vm)
    );
    let log = bench.engine.boot_log(&vm).await.expect("there is a log");
    assert!(log.contains("Kernel panic"), "{log}");
    assert!(matches!(bench.engine.observe(&vm).await, Ok(Observed::Off { ended: Some(_) })));
    assert_eq!((qemus(&vm.to_string()).len(), shims(&vm.to_string()).len()), (0, 0));
}
