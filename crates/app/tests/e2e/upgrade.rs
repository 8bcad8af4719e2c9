//! A server is replaced while people are in their VMs by it.

use std::{process::Command, thread::scope, time::Duration};

use crate::{
    Test,
    run::wait_for,
    world::{VM, World},
};

pub(crate) const TESTS: &[(&str, Test)] =
    &[("upgrade::who_is_in_a_vm_stays_there_while_the_server_is_replaced", replaced)];

/// The new server, which is no child of the test's.
struct Pid(String);

impl Pid {
    fn end(&self, signal: &str) {
        let _ = Command::new("kill").args([signal, &self.0]).output();
    }
}

impl Drop for Pid {
    fn drop(&mut self) {
        self.end("-KILL");
    }
}

fn replaced(world: &World) {
    let _guard = world.alone();
    let home = world.home_with_key(&["-t", "ed25519", "-N", ""]);
    let mut terminal = world.terminal_at(&home, &format!("ssh -L 9191:localhost:80 {VM}"));
    terminal.expect(":~$");
    let mut old = world.take_server();
    // Some seconds of bytes, of which many are under way when the server is replaced.
    let bytes = format!(
        "ssh {VM} 'for i in $(seq 80); do head -c 65536 /dev/zero; sleep 0.1; done' | tee flowing | wc -c"
    );
    let flowing_into = world.path(&home).join("flowing");
    let new = scope(|scope| {
        let flowing = scope.spawn(|| world.sh_at(&home, &bytes).ok());
        let has_begun = || std::fs::metadata(&flowing_into).is_ok_and(|file| file.len() > 0);
        wait_for("the bytes flow", Duration::from_secs(60), has_begun);
        let told: serde_json::Value =
            serde_json::from_str(&world.admin(&["upgrade", "--json"]).ok()).unwrap();
        let new = Pid(told["serves"].to_string());
        assert!(told["connections"].as_u64().unwrap() >= 2, "{told}");
        assert_eq!(flowing.join().unwrap().trim(), (80 * 65536).to_string());
        new
    });
    terminal.send("echo still $((40 + 2))\n");
    terminal.expect("still 42");
    // A forward opens a new channel in the tunnelled session, and a new tunnel is the new server's.
    assert!(world.sh_at(&home, "curl -sS http://localhost:9191/").ok().contains("<html"));
    assert_eq!(world.sh(&format!("ssh {VM} hostname")).ok(), "vm-0\n");
    // What sleeps by the new one is woken by a key that is typed at the old one.
    world.admin(&["vm", "sleep", VM]).ok();
    terminal.send("echo awake $((40 + 3))\n");
    terminal.expect("awake 43");
    assert_eq!(old.try_wait().unwrap(), None, "it has somebody");
    world.admin(&["key", "remove", "leeolayvar", &home]).ok();
    let (rest, code) = terminal.finish();
    assert!(code.is_some_and(|code| code != 0), "{rest}");
    wait_for("the old server ends", Duration::from_secs(30), || old.try_wait().unwrap().is_some());
    new.end("-TERM");
    let program = format!("/proc/{}/exe", new.0);
    wait_for("the new server ends", Duration::from_secs(60), || std::fs::read_link(&program).is_err());
    world.start_server();
}
