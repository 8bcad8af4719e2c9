//! What a VM can reach: neither another VM nor the host.

use crate::{
    Test,
    world::{VM, World},
};

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("isolation::a_vm_reaches_neither_the_host_nor_another_vm", nothing_is_reached),
    ("isolation::the_key_of_another_account_does_not_open_a_vm", inner_keys),
];

/// Tries to connect to everything that could be the host or a neighbour, from inside, and prints what answers.
const PROBE: &str = r#"
import socket, subprocess, sys, struct, concurrent.futures
targets = {"169.254.77.1", "169.254.77.3", "169.254.0.1", "10.0.2.2", "10.0.2.3", "198.51.100.1", "198.51.100.2", "fe80::1%berth", "ff02::1%berth"}
for line in subprocess.run(["ip", "-4", "route"], capture_output=True, text=True).stdout.splitlines() + \
        subprocess.run(["ip", "-6", "route"], capture_output=True, text=True).stdout.splitlines():
    words = line.split()
    if "via" in words:
        gateway, device = words[words.index("via") + 1], words[words.index("dev") + 1]
        targets.add(gateway + ("%" + device if gateway.startswith("fe80") else ""))
def reach(target):
    host, port = target
    try:
        info = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        s = socket.socket(info[0], info[1]); s.settimeout(3); s.connect(info[4])
        return f"{host} {port}"
    except OSError:
        return None
own = {l.split()[3].split("/")[0] for l in subprocess.run(["ip", "-o", "addr"], capture_output=True, text=True).stdout.splitlines()}
targets = [(t, p) for t in targets if t not in own for p in map(int, sys.argv[1:])]
with concurrent.futures.ThreadPoolExecutor(16) as pool:
    print("\n".join(filter(None, pool.map(reach, targets))))
"#;

fn nothing_is_reached(world: &World) {
    let _guard = world.shared();
    world.sh_at("mallory", "ssh vm-0.mallory.koding.kd.io true").ok();
    world.sh(&format!("ssh {VM} true")).ok();
    // Something that listens on the loopback and on every address of the host that runs the VMs.
    let mut listener = world.terminal(
        r#"exec python3 -uc 'import socket, time
s = socket.create_server(("0.0.0.0", 4801)); t = socket.create_server(("::1", 4801), family=socket.AF_INET6)
print("listening"); time.sleep(300)'"#,
    );
    listener.expect("listening");
    assert_eq!(world.sh("(exec 3<>/dev/tcp/127.0.0.1/4801) && echo reached").ok(), "reached\n");

    std::fs::write(world.path("mallory/probe.py"), PROBE).unwrap();
    // From inside: the host's ports that listen, the neighbour's sshd and apache.
    let found =
        world.sh_at("mallory", "ssh vm-0.mallory.koding.kd.io python3 - 4801 22 80 2222 8080 <probe.py").ok();
    assert_eq!(found.trim(), "", "a VM reached these");
    // The probe does find what can be reached.
    let found = world.sh_at("mallory", "sed 's/^targets = {/targets = {\"127.0.0.1\", /; s/^own = .*/own = set()/' probe.py | ssh vm-0.mallory.koding.kd.io python3 - 22").ok();
    assert!(found.contains("127.0.0.1 22"), "{found}");
}

fn inner_keys(world: &World) {
    let _guard = world.shared();
    // mallory's key at the second hop, the tutorial's account at the first.
    std::fs::copy(world.path("mallory/.ssh/id_ed25519"), world.path("home/stolen")).unwrap();
    let script = format!(
        "chmod 600 stolen; ssh -F none -o IdentitiesOnly=yes -i stolen -o BatchMode=yes \
         -o ProxyCommand='ssh leeolayvar@ssh.koding.com nc %h %p' leeolayvar@{VM} true"
    );
    let said = world.sh(&script).fails();
    assert!(said.contains("Permission denied"), "{said}");
}
