//! What is measured of the way to VMs' websites: Berth's and nginx as a reverse proxy side by side, run by run.
//!
//! ```text
//!   load (hyper) ──┬──► nginx ─────────────┬──► target (a small page, a large one, a sink, a WebSocket)
//!                  └──► stand_in: Berth    ┘
//! ```
//!
//! nginx is configured as its manual says for applications with WebSockets, and writes no log. Both make a connection to
//! the target for each request, and keep those of their clients.

mod load;
mod peer;
mod target;

use std::{path::Path, time::Duration};

use tokio::time::sleep;
use tokio_util::task::TaskTracker;

use self::{peer::Peer, target::Target};
use super::{
    rate::at_once,
    ratios::{BOTH, Both, Ratios, turns},
    servers,
};
use crate::{cli::BenchHttpArgs, command::Context};

/// How much of everything is measured.
struct Extent {
    /// Of a run that counts requests.
    time: Duration,
    /// Bytes of a large body.
    bulk: usize,
    /// WebSockets that are open at once: fewer than Berth lets a VM have.
    idle: usize,
}

const WHOLE: Extent = Extent { time: Duration::from_secs(3), bulk: 512 << 20, idle: 200 };
const QUICK: Extent = Extent { time: Duration::from_millis(100), bulk: 4 << 20, idle: 10 };

/// So long after the last change memory is looked at.
const REST: Duration = Duration::from_secs(1);

/// Measures everything, in files below `dir`.
pub(super) async fn measure(
    context: &Context<'_>,
    dir: &Path,
    args: &BenchHttpArgs,
    tasks: &TaskTracker,
) -> anyhow::Result<Ratios> {
    let extent = if args.quick { &QUICK } else { &WHOLE };
    servers::make_keys(dir).await?;
    let target = Target::open(extent.bulk, tasks).await?;
    let both =
        Both { peer: Peer::nginx(dir, target.port).await?, berth: Peer::berth(dir, target.port).await? };
    let mut bench = Bench { both, extent, runs: args.runs, ratios: Ratios::with("NGINX") };
    let say = |what: &str| context.output.note(&format!("{what}…"));
    // The first time is not like the others.
    for whose in BOTH {
        bench.both.of(whose).door.requests(1, extent.time / 10).await?;
    }
    // Before anything leaves memory behind that they could take.
    say("WebSockets");
    bench.websockets().await?;
    for clients in [1, 50, 200] {
        say(&format!("Requests by {clients} at once"));
        bench.requests(clients).await?;
    }
    say("Throughput");
    bench.throughput().await?;
    Ok(bench.ratios)
}

struct Bench<'a> {
    both: Both<Peer>,
    extent: &'a Extent,
    runs: u32,
    ratios: Ratios,
}

impl Bench<'_> {
    async fn requests(&mut self, clients: u32) -> anyhow::Result<()> {
        let at_once = at_once(clients);
        for whose in turns(self.runs) {
            let peer = self.both.of(whose);
            let before = peer.tree()?.cpu();
            let rate = peer.door.requests(clients, self.extent.time).await?;
            let took = peer.tree()?.cpu().saturating_sub(before);
            self.ratios.add(&format!("requests, {at_once}"), "/s", whose, rate.each_second);
            let each = took.as_secs_f64() * 1e6 / f64::from(rate.times.max(1));
            self.ratios.add(&format!("CPU of a request, {at_once}"), "µs", whose, each);
        }
        Ok(())
    }

    async fn throughput(&mut self) -> anyhow::Result<()> {
        let rate = |took: Duration| self.extent.bulk as f64 / 1e6 / took.as_secs_f64();
        for whose in turns(self.runs) {
            let door = self.both.of(whose).door.clone();
            self.ratios.add("download", "MB/s", whose, rate(door.download(self.extent.bulk).await?));
            self.ratios.add("upload", "MB/s", whose, rate(door.upload(self.extent.bulk).await?));
        }
        Ok(())
    }

    async fn websockets(&mut self) -> anyhow::Result<()> {
        let idle = self.extent.idle;
        for whose in turns(1) {
            let peer = self.both.of(whose);
            let before = peer.tree()?.memory()?;
            let mut open = Vec::with_capacity(idle);
            for _ in 0..idle {
                open.push(peer.door.websocket().await?);
            }
            sleep(REST).await;
            let after = peer.tree()?.memory()?;
            drop(open);
            sleep(REST).await;
            let each = after.saturating_sub(before) as f64 / idle as f64 / 1e3;
            self.ratios.add(&format!("memory of a WebSocket, of {idle}"), "kB", whose, each);
        }
        Ok(())
    }
}
