//! What a guest reaches: the world, if the host does; never the host itself.

use std::{
    io,
    net::{IpAddr, TcpListener, UdpSocket},
};

use berth_engine::Engine;
use berth_model::VmId;

use crate::bench::{Bench, image_dir};

pub(crate) async fn neighbours() {
    let bench = Bench::new(image_dir()).await;
    let vm = VmId::random();
    bench.engine.create(&vm, &bench.spec).await.expect("it is made");
    bench.start(&vm).await;

    // Listens on every address that the host has, of either family.
    let tcp = TcpListener::bind("[::]:0").expect("a port");
    tcp.set_nonblocking(true).expect("a listener");
    let port = tcp.local_addr().expect("it is bound").port();
    let udp = UdpSocket::bind(("::", port)).expect("the same port");
    udp.set_nonblocking(true).expect("a socket");

    let mut targets: Vec<IpAddr> =
        ["127.0.0.1", "169.254.77.1", "fe80::1%berth"].iter().filter_map(|text| text.parse().ok()).collect();
    targets.extend(host_addresses());
    println!(" from inside to {targets:?}, port {port}");
    // An address of its own makes the guest send to the host's, which it has too.
    let others = "nic=$(ls /sys/class/net | grep -v -e lo -e berth | head -n 1); \
                  sudo ip addr flush dev $nic scope global; sudo ip addr add 203.0.113.77/24 dev $nic; \
                  sudo ip route replace default dev $nic onlink via 203.0.113.1 || true; \
                  sudo ip -6 addr add fd77::77/64 dev $nic; sudo ip -6 route replace default dev $nic || true";
    for setup in ["true", others] {
        bench.prints(&vm, setup).await;
        for target in &targets {
            let attempt = format!(
                "timeout 2 bash -c 'echo x >/dev/tcp/{target}/{port}' 2>/dev/null; \
                 timeout 2 bash -c 'echo x >/dev/udp/{target}/{port}' 2>/dev/null; true"
            );
            bench.prints(&vm, &attempt).await;
        }
    }
    let connected = tcp.accept().map(|(_, from)| from).map_err(|error| error.kind());
    assert_eq!(connected, Err(io::ErrorKind::WouldBlock), "a connection came");
    let arrived = udp.recv_from(&mut [0; 16]).map(|(_, from)| from).map_err(|error| error.kind());
    assert_eq!(arrived, Err(io::ErrorKind::WouldBlock), "a datagram came");
    bench.engine.remove(&vm).await.expect("it is removed");
}

/// The addresses from which the host would speak to the world, without the loopback ones.
fn host_addresses() -> Vec<IpAddr> {
    let toward = [("0.0.0.0:0", "192.0.2.200:9"), ("[::]:0", "[2001:db8::1]:9")];
    toward
        .iter()
        .filter_map(|(from, to)| {
            let socket = UdpSocket::bind(from).ok()?;
            socket.connect(to).ok()?;
            Some(socket.local_addr().ok()?.ip())
        })
        .collect()
}
