use std::{
    fs, io,
    net::TcpStream,
    os::unix::net::{UnixListener, UnixStream},
    process::Stdio,
};

use super::*;
use crate::paths::{StateDir, VmPaths, private_dir};
use berth_model::VmId;

/// A host with two VMs.
struct Bench {
    dir: tempfile::TempDir,
    id: VmId,
    vm: VmPaths,
    other: VmPaths,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path(), dir.path()).unwrap();
        let id = VmId::random();
        let [vm, other] = [id, VmId::random()].map(|id| state.vm(&id));
        for paths in [&vm, &other] {
            private_dir(&paths.dir).unwrap();
            private_dir(&paths.memory).unwrap();
            fs::write(paths.disk(), "disk").unwrap();
            fs::write(paths.warm().memory(), "memory").unwrap();
        }
        fs::write(dir.path().join("berth.db"), "store").unwrap();
        fs::write(dir.path().join("image"), "image").unwrap();
        fs::write(dir.path().join("template"), "template").unwrap();
        fs::hard_link(dir.path().join("template"), vm.dir.join("forked")).unwrap();
        Self { dir, id, vm, other }
    }

    /// Does it in this VM's sandbox: a thread that is never anything else again.
    fn inside<T: Send>(&self, user_network: bool, work: impl FnOnce(&Self) -> T + Send) -> T {
        let user = VmUser::own(self.id, &self.vm, false).expect("its own files");
        assert_eq!(user.is_some(), rustix::process::geteuid().is_root());
        let reads = [self.dir.path().join("image")];
        let own = [self.vm.dir.as_path(), self.vm.memory.as_path()];
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                Sandbox { own, reads: &reads, qemu: Path::new("qemu-system-x86_64"), user_network, user }
                    .enter()
                    .expect("a sandbox");
                work(self)
            });
            inside.join().expect("what is done inside")
        })
    }
}

fn refused<T>(result: io::Result<T>) -> bool {
    result.is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
}

#[test]
fn neither_the_store_nor_another_vm_can_be_opened() {
    assert!(!landlock_is_missing(), "this test needs a kernel with Landlock");
    Bench::new().inside(false, |Bench { dir, vm, other, .. }| {
        for forbidden in [
            dir.path().join("berth.db"),
            other.disk(),
            other.warm().memory(),
            "/etc/passwd".into(),
            // The same ones by another way.
            vm.dir.join("../../berth.db"),
            Path::new("/proc/self/cwd").join(other.disk()),
        ] {
            assert!(refused(fs::File::open(&forbidden)), "{}", forbidden.display());
            assert!(refused(fs::write(&forbidden, "x")), "{}", forbidden.display());
        }
        for folder in [dir.path(), &other.dir, &other.memory, Path::new("/root"), Path::new("/dev/shm")] {
            assert!(refused(fs::read_dir(folder)), "{}", folder.display());
        }
        let link = vm.dir.join("link");
        assert!(fs::hard_link(other.disk(), &link).is_err() && fs::rename(other.disk(), &link).is_err());
        assert!(refused(fs::remove_file(other.disk())) && refused(fs::remove_dir(&vm.memory)));
        assert!(refused(fs::rename(&other.memory, other.memory.with_extension("removing"))));
        assert!(refused(std::os::unix::fs::symlink("/", vm.dir.join("way"))));
    });
}

#[test]
fn its_own_files_are_its_own() {
    Bench::new().inside(false, |Bench { dir, vm, .. }| {
        assert_eq!(fs::read_to_string(dir.path().join("image")).unwrap(), "image");
        assert!(refused(fs::write(dir.path().join("image"), "x")));
        for file in [vm.disk(), vm.warm().memory()] {
            fs::write(&file, "changed").unwrap();
        }
        let forked = vm.dir.join("forked");
        assert_eq!(fs::read_to_string(&forked).unwrap(), "template", "it is read");
        if rustix::process::geteuid().as_raw() >= 0x7000_0000 {
            assert!(refused(fs::write(&forked, "x")), "and is the template's");
        }
        fs::remove_file(&forked).unwrap();
        crate::paths::write_durably(&vm.ended(), b"{}").unwrap();
        private_dir(&vm.cold_new().0).unwrap();
        fs::rename(vm.cold_new().0, vm.cold().0).unwrap();
        fs::remove_dir(vm.cold().0).unwrap();
        private_dir(&vm.memory.join("freed")).unwrap();
        fs::rename(vm.warm().memory(), vm.memory.join("freed/memory")).unwrap();
        crate::paths::remove_tree(&vm.memory.join("freed")).unwrap();
    });
}

#[test]
fn nobody_is_called_and_no_other_process_is_touched() {
    let bench = Bench::new();
    let socket = bench.dir.path().join("admin.sock");
    let _listener = UnixListener::bind(&socket).unwrap();
    let here = std::process::id();
    bench.inside(false, |bench| {
        assert!(refused(UnixStream::connect(&socket)));
        assert!(refused(UnixListener::bind(bench.vm.dir.join("socket"))));
        assert!(refused(TcpStream::connect(("127.0.0.1", 22))));
        // A thread of its own, in the same process, is still itself to the kernel; one that is outside is not.
        let outside = rustix::process::getppid().expect("a parent");
        let signal = rustix::process::kill_process(outside, rustix::process::Signal::CONT);
        assert_eq!(signal, Err(rustix::io::Errno::PERM), "a signal to {}", outside.as_raw_nonzero());
        assert!(UnixStream::pair().is_ok(), "what is its own");
        assert!(here > 0);
    });
    bench.inside(true, |_| {
        assert!(refused(UnixStream::connect(&socket)), "the user network is of IP alone");
        let loopback = TcpStream::connect(("127.0.0.1", 1));
        assert!(loopback.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused));
    });
}

#[test]
#[expect(clippy::disallowed_methods, reason = "this crate runs programs")]
fn programs_start_and_gain_nothing() {
    let status = Bench::new().inside(false, |_| {
        let status =
            std::process::Command::new("cat").arg("/proc/self/status").stdin(Stdio::null()).output().unwrap();
        assert!(status.status.success(), "{status:?}");
        String::from_utf8(status.stdout).unwrap()
    });
    let of =
        |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).map(str::trim).unwrap().to_owned();
    assert_eq!((of("NoNewPrivs:").as_str(), of("Seccomp:").as_str()), ("1", "2"));
    let capabilities = u64::from_str_radix(&of("CapPrm:"), 16).unwrap();
    assert_eq!(capabilities & !CapabilitySet::DAC_READ_SEARCH.bits(), 0, "{capabilities:x}");
    if rustix::process::geteuid().is_root() {
        let users: Vec<u32> = of("Uid:").split_whitespace().map(|id| id.parse().unwrap()).collect();
        assert!(users.len() == 4 && users.iter().all(|id| *id >= 0x7000_0000), "{users:?}");
        assert!(!of("Groups:").split_whitespace().any(|group| group == "0"), "{status}");
    }
}
