//! What is measured of the gateway, in which order: Berth's and OpenSSH's sshd side by side, run by run.
//!
//! ```text
//!   load (russh, ssh) ──┬──► sshd as a jump host ──┬──► target (echo, source, sink) ◄── vm (russh's sshd)
//!                       └──► stand_in: Berth       ┘                                          ▲
//!                                      └── into the VM: through a tunnel, or by direct mode ──┘
//! ```
//!
//! The two gateways are processes of their own, so that what they take is told apart from what their clients take. They
//! share the machine with them: a figure that is bound by the processor says less of the faster of the two.

mod flood;
mod load;
mod peer;
mod target;
mod terminal;
mod vm;

use std::{
    net::Ipv4Addr,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use tokio::time::sleep;
use tokio_util::task::TaskTracker;

use self::{
    flood::Flood,
    load::{Cipher, Tunnel},
    peer::Peer,
    target::{HEARD, Target},
    terminal::{PRINTS, Terminal},
    vm::Vm,
};
pub(super) use self::{flood::flood, vm::host_key};
use super::{
    rate::at_once,
    ratios::{BOTH, Both, Ratios, Whose, turns},
    servers,
};
use crate::{
    cli::{BenchGatewayArgs, BenchGatewayPart as Part},
    command::Context,
    files,
};

/// How much of everything is measured.
struct Extent {
    /// Of a run that counts connections.
    time: Duration,
    idle: usize,
    /// Of Berth alone.
    idle_alone: usize,
    /// Tunnels that have had traffic, and bytes through each, each way.
    used: usize,
    used_bytes: usize,
    bulk: usize,
    pings: u32,
    openssh: u32,
    /// Log-ins beside a flood.
    flooded: u32,
}

const WHOLE: Extent = Extent {
    time: Duration::from_secs(3),
    idle: 1_000,
    idle_alone: 10_000,
    used: 20,
    used_bytes: 64 << 20,
    bulk: 16 * HEARD,
    pings: 2_000,
    openssh: 10,
    flooded: 50,
};

/// What a gateway has open for a tunnel, and so have its clients with the target; and what it has beside.
const FILES_OF_A_TUNNEL: u64 = 2;
const OTHER_FILES: u64 = 256;

const QUICK: Extent = Extent {
    time: Duration::from_millis(100),
    idle: 10,
    idle_alone: 20,
    used: 2,
    used_bytes: 1 << 20,
    bulk: HEARD,
    pings: 20,
    openssh: 1,
    flooded: 3,
};

/// Where a flood comes from. The clients are at 127.0.0.1.
const FLOOD: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// After so long, and so many log-ins beside a flood, there are enough: sshd takes seconds for each.
const ENOUGH: Duration = Duration::from_secs(5);
const LEAST: u32 = 3;

/// As many as Berth lets one member have.
const TERMINALS: u16 = 16;

/// So long after the last change memory is looked at.
const REST: Duration = Duration::from_secs(1);

/// Measures everything, in files below `dir`.
pub(super) async fn measure(
    context: &Context<'_>,
    dir: &Path,
    args: &BenchGatewayArgs,
    tasks: &TaskTracker,
) -> anyhow::Result<Ratios> {
    let extent = if args.quick { &QUICK } else { &WHOLE };
    servers::make_keys(dir).await?;
    let files = files::allow(FILES_OF_A_TUNNEL * extent.idle_alone as u64 + OTHER_FILES);
    let vm = Vm::listen().await?;
    let both = Both { peer: Peer::sshd(dir, vm.port).await?, berth: Peer::berth(dir, vm.port).await? };
    let target = Target::open(tasks).await?;
    vm.serve(&host_key(dir), target, tasks)?;
    let mut bench = Bench { both, target, extent, runs: args.runs, ratios: Ratios::with("SSHD") };
    let say = |what: &str| context.output.note(&format!("{what}…"));
    // The first time is not like the others.
    for whose in BOTH {
        bench.both.of(whose).way.connections(Tunnel::Forward, 1, extent.time / 10, target.echo).await?;
    }
    let wanted = |part| args.only.is_none_or(|only| only == part);
    if wanted(Part::Connections) {
        for clients in [1, 50, 200] {
            say(&format!("Connections by {clients} at once"));
            bench.connections(Tunnel::Forward, clients).await?;
        }
    }
    if wanted(Part::Openssh) {
        say("OpenSSH’s client");
        bench.openssh().await?;
    }
    if wanted(Part::RoundTrips) {
        say("Round trips");
        bench.round_trips(Tunnel::Forward).await?;
    }
    if wanted(Part::Direct) {
        say("Direct mode");
        bench.direct().await?;
    }
    if wanted(Part::Terminal) {
        say("Terminals");
        bench.terminals().await?;
    }
    if wanted(Part::Throughput) {
        for cipher in [Cipher::Aes128Gcm, Cipher::ChaCha20] {
            for tunnel in [Tunnel::Exec, Tunnel::Forward] {
                say(&format!("Throughput, {}, {}", name(tunnel), cipher.name()));
                bench.throughput(tunnel, cipher).await?;
            }
        }
    }
    if wanted(Part::Memory) {
        say("Memory");
        let most =
            usize::try_from(files.saturating_sub(OTHER_FILES) / FILES_OF_A_TUNNEL).unwrap_or(usize::MAX);
        if most < extent.idle_alone {
            context
                .output
                .note(&format!("A process may have {files} open files here: {most} tunnels at most"));
        }
        bench.memory(most).await?;
    }
    // Last, since sshd is not done with one when it has ended.
    if wanted(Part::Floods) {
        say("Log-ins beside a flood");
        bench.floods().await?;
    }
    Ok(bench.ratios)
}

struct Bench<'a> {
    both: Both<Peer>,
    target: Target,
    extent: &'a Extent,
    runs: u32,
    ratios: Ratios,
}

impl Bench<'_> {
    fn turns(&self) -> impl Iterator<Item = Whose> + use<> {
        turns(self.runs)
    }

    /// Beside a jump host and the VM's sshd behind it, which is the way in without direct mode. The VM's sshd is the same.
    async fn direct(&mut self) -> anyhow::Result<()> {
        for clients in [1, 50] {
            self.connections(Tunnel::Inside, clients).await?;
        }
        for _ in 0..self.extent.openssh {
            for whose in self.turns() {
                let began = Instant::now();
                self.both.of(whose).way.open(Tunnel::Inside, self.target.echo).await?.take(1).await?;
                let took = began.elapsed().as_secs_f64() * 1e3;
                self.ratios.add("into a VM, to the first byte", "ms", whose, took);
            }
        }
        self.round_trips(Tunnel::Inside).await?;
        self.throughput(Tunnel::Inside, Cipher::Aes128Gcm).await
    }

    async fn connections(&mut self, tunnel: Tunnel, clients: u32) -> anyhow::Result<()> {
        let what = within(tunnel);
        let at_once = format!("{what}{}", at_once(clients));
        for whose in self.turns() {
            let peer = self.both.of(whose);
            let before = peer.tree()?.cpu();
            let rate = peer.way.connections(tunnel, clients, self.extent.time, self.target.echo).await?;
            // Processes of sshd are counted when it has seen their end.
            sleep(REST / 2).await;
            let took = peer.tree()?.cpu().saturating_sub(before);
            self.ratios.add(&format!("connections, {at_once}"), "/s", whose, rate.each_second);
            let each = took.as_secs_f64() * 1e3 / f64::from(rate.times.max(1));
            self.ratios.add(&format!("CPU of a connection, {at_once}"), "ms", whose, each);
        }
        Ok(())
    }

    async fn openssh(&mut self) -> anyhow::Result<()> {
        for _ in 0..self.extent.openssh {
            for whose in self.turns() {
                let took = self.both.of(whose).way.openssh(self.target.echo).await?;
                self.ratios.add("ssh -W, to the first byte", "ms", whose, took.as_secs_f64() * 1e3);
            }
        }
        Ok(())
    }

    async fn round_trips(&mut self, tunnel: Tunnel) -> anyhow::Result<()> {
        let what = within(tunnel);
        for whose in self.turns() {
            let mut open = self.both.of(whose).way.open(tunnel, self.target.echo).await?;
            open.take(1).await?;
            let mut took = vec![];
            for _ in 0..self.extent.pings {
                took.push(open.round_trip().await?.as_secs_f64() * 1e6);
            }
            self.percentiles(&format!("round trip of a byte, {what}"), whose, took);
        }
        Ok(())
    }

    fn percentiles(&mut self, metric: &str, whose: Whose, mut took: Vec<f64>) {
        took.sort_by(f64::total_cmp);
        for percent in [50, 99] {
            let at = (took.len() * percent).div_ceil(100).saturating_sub(1);
            let value = took.get(at).copied().unwrap_or_default();
            self.ratios.add(&format!("{metric}p{percent}"), "µs", whose, value);
        }
    }

    /// The terminal in the page beside one by ssh: through a jump host, as above.
    async fn terminals(&mut self) -> anyhow::Result<()> {
        for whose in self.turns() {
            let mut open = self.terminal(whose, 1).await?;
            let mut took = vec![];
            for _ in 0..self.extent.pings {
                took.push(open.echo().await?.as_secs_f64() * 1e6);
            }
            self.percentiles("terminal, key to echo, ", whose, took);
            drop(open);
            let bulk = self.extent.bulk / 4;
            let took = self.terminal(whose, PRINTS).await?.output(bulk).await?;
            self.ratios.add("terminal, output", "MB/s", whose, bulk as f64 / 1e6 / took.as_secs_f64());
        }
        let metric = format!("memory of a terminal, of {TERMINALS}");
        for whose in BOTH {
            sleep(REST).await;
            let before = self.both.of(whose).tree()?.memory()?;
            let mut open = vec![];
            for number in 1..=TERMINALS {
                open.push(self.terminal(whose, number).await?);
            }
            self.memory_since(before, whose, usize::from(TERMINALS), &metric).await?;
        }
        Ok(())
    }

    async fn terminal(&self, whose: Whose, number: u16) -> anyhow::Result<Terminal> {
        let peer = self.both.of(whose);
        let port = if number == PRINTS { self.target.source } else { self.target.echo };
        match &peer.site {
            Some(site) => Terminal::in_a_page(site, number).await,
            None => Terminal::by_ssh(&peer.way, port).await,
        }
    }

    async fn throughput(&mut self, tunnel: Tunnel, cipher: Cipher) -> anyhow::Result<()> {
        let (bulk, Target { source, sink, .. }) = (self.extent.bulk, self.target);
        let rate = |took: Duration| bulk as f64 / 1e6 / took.as_secs_f64();
        for whose in self.turns() {
            let way = self.both.of(whose).way.with(cipher);
            let down = way.open(tunnel, source).await?.download(bulk).await?;
            let up = way.open(tunnel, sink).await?.upload(bulk).await?;
            let of = format!("{}, {}", name(tunnel), cipher.name());
            self.ratios.add(&format!("download, {of}"), "MB/s", whose, rate(down));
            self.ratios.add(&format!("upload, {of}"), "MB/s", whose, rate(up));
        }
        Ok(())
    }

    /// How long a log-in takes while somebody else begins connections and does not log in.
    async fn floods(&mut self) -> anyhow::Result<()> {
        let kinds = [
            ("log-in beside nobody", None),
            ("log-in beside a flood from another address", Some(FLOOD)),
            ("log-in beside a flood that is never refused", Some(super::stand_in::EXEMPT)),
        ];
        for whose in self.turns() {
            for (metric, from) in kinds {
                let way = &self.both.of(whose).way;
                let flood = from.map(|from| Flood::begin(from, way.address)).transpose()?;
                sleep(self.extent.time).await;
                let mut took = vec![];
                let first = Instant::now();
                for n in 0..self.extent.flooded {
                    let began = Instant::now();
                    if n >= LEAST && began - first > ENOUGH {
                        break;
                    }
                    way.open(Tunnel::Forward, self.target.echo).await?.take(1).await?;
                    took.push(began.elapsed().as_secs_f64() * 1e3);
                }
                drop(flood);
                for took in took {
                    self.ratios.add(metric, "ms", whose, took);
                }
                sleep(self.extent.time).await;
            }
        }
        Ok(())
    }

    async fn memory(&mut self, most: usize) -> anyhow::Result<()> {
        let Extent { idle, idle_alone, used, used_bytes, .. } = *self.extent;
        let (idle, idle_alone) = (idle.min(most), idle_alone.min(most));
        for whose in BOTH {
            self.memory_of(whose, idle, 0, &format!("memory of a tunnel, of {idle}")).await?;
            let after = format!("memory of a tunnel after {} MB each way, of {used}", used_bytes >> 20);
            self.memory_of(whose, used, used_bytes, &after).await?;
        }
        self.memory_of(Whose::Berth, idle_alone, 0, &format!("memory of a tunnel, of {idle_alone}")).await
    }

    /// What each of so many tunnels takes when so many bytes went through it both ways and nothing does any more.
    async fn memory_of(
        &mut self,
        whose: Whose,
        tunnels: usize,
        bytes: usize,
        metric: &str,
    ) -> anyhow::Result<()> {
        let peer = self.both.of(whose);
        let before = peer.tree()?.memory()?;
        let failed = || format!("The {metric}, cannot be measured of {}", self.ratios.name(whose));
        let mut open = peer.way.idle(tunnels, self.target.echo).await.with_context(failed)?;
        for tunnel in &mut open {
            tunnel.both_ways(bytes).await.with_context(failed)?;
        }
        self.memory_since(before, whose, tunnels, metric).await?;
        drop(open);
        sleep(REST).await;
        Ok(())
    }

    /// What each of so many takes that were opened since.
    async fn memory_since(
        &mut self,
        before: u64,
        whose: Whose,
        count: usize,
        metric: &str,
    ) -> anyhow::Result<()> {
        sleep(REST).await;
        let after = self.both.of(whose).tree()?.memory()?;
        self.ratios.add(metric, "kB", whose, after.saturating_sub(before) as f64 / count as f64 / 1e3);
        Ok(())
    }
}

/// In the names of metrics that tunnels have too.
fn within(tunnel: Tunnel) -> &'static str {
    match tunnel {
        Tunnel::Exec | Tunnel::Forward => "",
        Tunnel::Inside => "into a VM, ",
    }
}

fn name(tunnel: Tunnel) -> &'static str {
    match tunnel {
        Tunnel::Exec => "exec",
        Tunnel::Forward => "forward",
        Tunnel::Inside => "into a VM",
    }
}

impl Cipher {
    fn name(self) -> &'static str {
        match self {
            Self::Aes128Gcm => "aes128-gcm",
            Self::ChaCha20 => "chacha20",
        }
    }
}
