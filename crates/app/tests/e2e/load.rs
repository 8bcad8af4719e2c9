//! Many at once.

use crate::{
    Test,
    world::{VM, World},
};

pub(crate) const TESTS: &[(&str, Test)] = &[("load::two_hundred_clients_at_once", two_hundred)];

fn two_hundred(world: &World) {
    let _guard = world.alone();
    world.sh(&format!("ssh {VM} true")).ok();
    // 200 tunnels that all stand at the same time, each with the VM's sshd at its other end: the banner comes, and the
    // connection stays until the last one has it.
    let script = format!(
        "for i in $(seq 200); do
           (until [ -e go ]; do sleep 0.5; done) | ssh leeolayvar@ssh.koding.com nc {VM} 22 >banner.$i 2>error.$i &
         done
         for _ in $(seq 600); do n=$(cat banner.* | grep -c '^SSH-2.0-'); [ $n = 200 ] && break; sleep 0.4; done
         touch go; wait; echo $n; cat error.* >&2; rm -f go banner.* error.*"
    );
    assert_eq!(world.sh(&script).quiet(), "200\n");
}
