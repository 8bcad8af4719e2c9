//! The guest's way out: the wire from its second NIC, the wall, and the translator behind it.
//!
//! ```text
//!   guest ── QEMU ══ guest wire ══ wall ══ world wire ══ passt (a process of ours), or QEMU's user network
//!                                (frames, each behind its length in 4 bytes, both ways)
//! ```
//!
//! One task owns both wires. A passt is started from [outside](super::outside); one that ends is started again, less and less often; while there is none, frames from
//! the guest are dropped, as on a cable without a peer. The task ends when QEMU does.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::{Instant, sleep},
};

use super::{
    outside::Outside,
    wall::{Translator, Wall},
};

/// The largest frame that QEMU sends; one that says it is longer ends the wire.
const MAX_FRAME: usize = (64 << 10) + 4096;
const BUFFER: usize = 2 * MAX_FRAME;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A passt that lived this long was well.
const WELL: Duration = Duration::from_secs(60);

/// Lets a guest out through passt until its wire ends.
pub(super) async fn through_passt(guest: UnixStream, outside: &Outside) {
    let (from_guest, mut to_guest) = guest.into_split();
    let mut outbound = Outbound::new(from_guest, Wall::new(Translator::Passt));
    let mut pause = FIRST_PAUSE;
    loop {
        let started = Instant::now();
        match outside.passt() {
            Ok(world) => {
                if let Over::Guest = pass(&mut outbound, &mut to_guest, world).await {
                    return;
                }
                tracing::warn!("passt ended");
            }
            Err(error) => tracing::warn!(%error, "passt does not start"),
        }
        pause = if started.elapsed() > WELL { FIRST_PAUSE } else { (pause * 2).min(LONGEST_PAUSE) };
        tokio::select! {
            () = sleep(pause) => {}
            () = outbound.discard() => return,
        }
    }
}

/// Lets a guest out through QEMU's user network, until QEMU ends.
pub(super) async fn through_user_network(guest: UnixStream, world: UnixStream, network: [u8; 3]) {
    let (from_guest, mut to_guest) = guest.into_split();
    let mut outbound = Outbound::new(from_guest, Wall::new(Translator::UserNetwork { network }));
    pass(&mut outbound, &mut to_guest, world).await;
}

enum Over {
    Guest,
    World,
}

async fn pass(outbound: &mut Outbound, to_guest: &mut OwnedWriteHalf, world: UnixStream) -> Over {
    let (from_world, mut to_world) = world.into_split();
    // Never dropped in the middle of a frame for the guest: the guest's wire outlives this.
    let inbound = inbound(from_world, to_guest);
    tokio::pin!(inbound);
    let over = tokio::select! {
        over = &mut inbound => return over,
        over = outbound.run(&mut to_world) => over,
    };
    drop(to_world);
    match over {
        Over::Guest => Over::Guest,
        Over::World => inbound.await,
    }
}

/// Frames towards the guest, only whole ones.
async fn inbound(world: OwnedReadHalf, guest: &mut OwnedWriteHalf) -> Over {
    let mut frames = Frames::new(world);
    let mut batch = Vec::with_capacity(BUFFER);
    while frames.fill().await {
        batch.clear();
        while let Some(frame) = frames.next() {
            batch.extend_from_slice(frame);
        }
        if guest.write_all(&batch).await.is_err() {
            return Over::Guest;
        }
    }
    Over::World
}

/// Frames from the guest, and what becomes of them.
struct Outbound {
    frames: Frames,
    wall: Wall,
    batch: Vec<u8>,
}

impl Outbound {
    fn new(guest: OwnedReadHalf, wall: Wall) -> Self {
        Self { frames: Frames::new(guest), wall, batch: Vec::with_capacity(BUFFER) }
    }

    /// May be dropped at any time; a frame that is half with the old world is whole for no other.
    async fn run(&mut self, world: &mut OwnedWriteHalf) -> Over {
        while self.frames.fill().await {
            self.wall.look();
            self.batch.clear();
            while let Some(frame) = self.frames.next() {
                if frame.get(LENGTH..).is_some_and(|frame| self.wall.passes(frame)) {
                    self.batch.extend_from_slice(frame);
                }
            }
            if world.write_all(&self.batch).await.is_err() {
                return Over::World;
            }
        }
        Over::Guest
    }

    /// Drops what comes, until the guest's wire ends.
    async fn discard(&mut self) {
        while self.frames.fill().await {
            while self.frames.next().is_some() {}
        }
    }
}

const LENGTH: usize = 4;

/// A wire, cut into frames.
struct Frames {
    wire: OwnedReadHalf,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Frames {
    fn new(wire: OwnedReadHalf) -> Self {
        Self { wire, buffer: vec![0; BUFFER].into(), start: 0, end: 0 }
    }

    /// Waits for more bytes; `false` when there will be none, or what comes is no frame. To be called when
    /// [`Frames::next`] has no more. Nothing is lost when the future is dropped.
    async fn fill(&mut self) -> bool {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        match self.buffer.get_mut(self.end..) {
            // A buffer full of less than one frame.
            None | Some([]) => false,
            Some(room) => match self.wire.read(room).await {
                Ok(0) | Err(_) => false,
                Ok(length) => {
                    self.end += length;
                    true
                }
            },
        }
    }

    /// The next whole frame, its length in front.
    fn next(&mut self) -> Option<&[u8]> {
        let held = self.buffer.get(self.start..self.end)?;
        let (length, _) = held.split_first_chunk::<LENGTH>()?;
        let whole = LENGTH + usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let frame = held.get(..whole)?;
        self.start += whole;
        Some(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An IPv4 frame to `to`, its length in front.
    fn frame(to: [u8; 4], payload: usize) -> Vec<u8> {
        let mut frame = vec![0; 14 + 20 + payload];
        frame[12] = 8;
        frame[14] = 0x45;
        frame[23] = 1;
        frame[30..34].copy_from_slice(&to);
        let mut with_length = u32::try_from(frame.len()).unwrap().to_be_bytes().to_vec();
        with_length.append(&mut frame);
        with_length
    }

    const OUT: [u8; 4] = [1, 1, 1, 1];
    const HOST: [u8; 4] = [127, 0, 0, 1];

    #[tokio::test]
    async fn frames_are_judged_one_by_one_however_they_are_cut() {
        for cut in [1, 3, 5, 37, 1000, 70000] {
            let (mut guest, guest_wire) = UnixStream::pair().unwrap();
            let (mut world, world_wire) = UnixStream::pair().unwrap();
            let sent: Vec<u8> =
                [frame(OUT, 8), frame(HOST, 8), frame(OUT, 65000), frame(HOST, 65000), frame(OUT, 0)]
                    .concat();
            let passed: Vec<u8> = [frame(OUT, 8), frame(OUT, 65000), frame(OUT, 0)].concat();
            let send = async {
                for chunk in sent.chunks(cut) {
                    guest.write_all(chunk).await.unwrap();
                    tokio::task::yield_now().await;
                }
                guest.shutdown().await.unwrap();
            };
            let mut arrived = Vec::new();
            let receive = world.read_to_end(&mut arrived);
            let (_, (), received) =
                tokio::join!(through_user_network(guest_wire, world_wire, [100, 64, 77]), send, receive);
            received.unwrap();
            assert!(arrived == passed, "cut at {cut}: {} bytes of {}", arrived.len(), passed.len());
        }
    }

    #[tokio::test]
    async fn a_world_that_ends_leaves_the_guests_wire_between_frames() {
        let (mut guest, guest_wire) = UnixStream::pair().unwrap();
        let (from_guest, mut to_guest) = guest_wire.into_split();
        let mut outbound = Outbound::new(from_guest, Wall::new(Translator::Passt));
        let (mut world, world_wire) = UnixStream::pair().unwrap();
        let whole = frame(OUT, 100);
        world.write_all(&whole).await.unwrap();
        world.write_all(&whole[..50]).await.unwrap();
        drop(world);
        assert!(matches!(pass(&mut outbound, &mut to_guest, world_wire).await, Over::World));
        drop((outbound, to_guest));
        let mut arrived = Vec::new();
        guest.read_to_end(&mut arrived).await.unwrap();
        assert_eq!(arrived, whole);
    }

    #[tokio::test]
    async fn a_frame_that_is_too_long_ends_the_wire() {
        let (mut guest, guest_wire) = UnixStream::pair().unwrap();
        let (_world, world_wire) = UnixStream::pair().unwrap();
        let flood = async {
            guest.write_all(&u32::MAX.to_be_bytes()).await.unwrap();
            while guest.write_all(&[0; 4096]).await.is_ok() {}
        };
        tokio::join!(through_user_network(guest_wire, world_wire, [100, 64, 77]), flood);
    }
}
