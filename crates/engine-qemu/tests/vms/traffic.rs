//! Many sleeps with traffic in flight: no byte is lost, and nobody is kept waiting.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use berth_engine::{Engine, Observed, Stream};
use berth_model::VmId;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::bench::{Bench, PATIENCE};

const ROUNDS: usize = 50;
/// Said back by the guest.
const ECHO: u16 = 5001;
/// Said by the guest for as long as somebody listens.
const POUR: u16 = 5002;
/// Bytes to the guest in every round, in pieces.
const BURST: usize = 24 << 10;
/// The pattern repeats after this many bytes, which no buffer's size is a multiple of.
const PERIOD: usize = 251;

const GUEST: &str = r"
import socket, threading
def echo(c):
    while data := c.recv(65536):
        c.sendall(data)
    c.close()
def pour(c):
    data = bytes(i % 251 for i in range(251 * 64))
    try:
        while True:
            c.sendall(data)
    except OSError:
        c.close()
def serve(port, what):
    s = socket.create_server(('::', port), family=socket.AF_INET6, dualstack_ipv6=True)
    while True:
        threading.Thread(target=what, args=(s.accept()[0],)).start()
threading.Thread(target=serve, args=(5002, pour)).start()
serve(5001, echo)
";

/// A VM that runs falls asleep and wakes [`ROUNDS`] times. It runs in the end.
pub(crate) async fn traffic(bench: &Bench, vm: &VmId) {
    println!(" {ROUNDS} sleeps with traffic");
    let start =
        format!("cat >serve.py <<'END'\n{GUEST}\nEND\nsetsid -f python3 serve.py >serve.log 2>&1 </dev/null");
    bench.prints(vm, &start).await;
    let (from_echo, mut to_echo) = split(dial(bench, vm, ECHO).await);
    let (from_pour, _to_pour) = split(dial(bench, vm, POUR).await);
    let (echoed, poured) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut readers = JoinSet::new();
    readers.spawn(check(from_echo, Arc::clone(&echoed), Duration::ZERO));
    readers.spawn(check(from_pour, Arc::clone(&poured), Duration::from_millis(1)));

    let mut sent = 0;
    let mut times = Times::default();
    for round in 0..ROUNDS {
        say(&mut to_echo, &mut sent, BURST).await;
        let began = Instant::now();
        times.sleep.push(bench.sleep(vm).await);
        times.until_asleep.push(began.elapsed());
        if round % 2 == 0 {
            // Somebody types into a VM that sleeps.
            say(&mut to_echo, &mut sent, 1).await;
            bench.becomes(vm, &Observed::Asleep { called: true }).await;
        }
        let woken = Instant::now();
        bench.wake(vm).await;
        times.wake.push(woken.elapsed());
        if round % 2 == 0 {
            until(&echoed, sent).await;
            times.echo.push(woken.elapsed());
        }
    }
    until(&echoed, sent).await;
    readers.abort_all();
    while let Some(read) = readers.join_next().await {
        assert!(read.is_err_and(|error| error.is_cancelled()), "a reader has ended");
    }
    println!("  {sent} bytes came back, {} MB were poured", poured.load(Ordering::Relaxed) >> 20);
    times.print();
    bench.prints(vm, "pkill -f serve.py").await;
}

#[derive(Default)]
struct Times {
    sleep: Vec<Duration>,
    until_asleep: Vec<Duration>,
    wake: Vec<Duration>,
    echo: Vec<Duration>,
}

impl Times {
    fn print(&mut self) {
        let each = [
            ("sleep", &mut self.sleep),
            ("sleep with waiting for traffic", &mut self.until_asleep),
            ("wake", &mut self.wake),
            ("wake to the first echo", &mut self.echo),
        ];
        for (what, times) in each {
            times.sort_unstable();
            let at = |part: usize| times.get(times.len() * part / 100).copied().unwrap_or_default();
            println!("  {what}: p50 {:.1?}, p90 {:.1?}, p99 {:.1?}", at(50), at(90), at(99));
        }
    }
}

async fn dial(bench: &Bench, vm: &VmId, port: u16) -> Box<dyn Stream> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match bench.engine.dial(vm, port).await {
            Ok(stream) => return stream,
            Err(error) => assert!(Instant::now() < deadline, "{port}: {error:?}"),
        }
        sleep(Duration::from_millis(100)).await;
    }
}

async fn say(to: &mut WriteHalf<Box<dyn Stream>>, sent: &mut u64, count: usize) {
    let bytes: Vec<u8> = (*sent..).take(count).map(|at| (at % PERIOD as u64) as u8).collect();
    for piece in bytes.chunks(5000) {
        to.write_all(piece).await.expect("the connection lives");
    }
    *sent += count as u64;
}

/// Reads for ever, and checks each byte.
async fn check(mut from: ReadHalf<Box<dyn Stream>>, counted: Arc<AtomicU64>, pause: Duration) {
    let mut buffer = vec![0; 16 << 10];
    let mut at = 0u64;
    loop {
        let count = from.read(&mut buffer).await.expect("the connection lives");
        assert_ne!(count, 0, "the connection ended after {at} bytes");
        for byte in buffer.iter().take(count) {
            assert_eq!(u64::from(*byte), at % PERIOD as u64, "byte {at}");
            at += 1;
        }
        counted.store(at, Ordering::Relaxed);
        sleep(pause).await;
    }
}

async fn until(counted: &AtomicU64, wanted: u64) {
    let come = async {
        while counted.load(Ordering::Relaxed) < wanted {
            sleep(Duration::from_millis(2)).await;
        }
    };
    let all = timeout(PATIENCE, come).await;
    assert!(all.is_ok(), "{} of {wanted} bytes came back", counted.load(Ordering::Relaxed));
}
