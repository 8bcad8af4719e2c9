//! Frames on QEMU's stream: each is a `u32` length in network byte order, then that many bytes.
//!
//! Pure buffers, no I/O. [`Decoder`] never holds more than [`READ_BUFFER`] bytes and refuses a length that no
//! frame of this network can have. [`Outbox`] grows with what is put in: whoever fills it asks [`Outbox::len`]
//! first.

use crate::MTU;

/// The longest frame, in bytes: an Ethernet header, one VLAN tag and [`MTU`] bytes.
pub(crate) const MAX_FRAME: usize = 14 + 4 + MTU;

const PREFIX: usize = 4;

/// Room for four of the longest frames, so that one read brings several.
const READ_BUFFER: usize = 4 * (PREFIX + MAX_FRAME);

/// An outbox that is empty gives back what it has beyond this, in bytes.
const OUTBOX_KEPT: usize = 1 << 20;

/// The other end announced a frame that cannot be: the stream is out of step, or not QEMU's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a frame of {0} bytes was announced, the longest possible is {MAX_FRAME}")]
pub(crate) struct FrameTooLong(pub(crate) usize);

/// Takes bytes as they arrive, gives frames.
pub(crate) struct Decoder {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { buffer: vec![0; READ_BUFFER].into_boxed_slice(), start: 0, end: 0 }
    }
}

impl Decoder {
    /// Where the next bytes go; call [`Decoder::filled`] after. Empty only while a whole frame waits in
    /// [`Decoder::next_frame`].
    pub(crate) fn room(&mut self) -> &mut [u8] {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.buffer.len() - self.end < PREFIX + MAX_FRAME {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        self.buffer.get_mut(self.end..).unwrap_or_default()
    }

    /// `count` bytes of [`Decoder::room`] now hold data.
    pub(crate) fn filled(&mut self, count: usize) {
        self.end = (self.end + count).min(self.buffer.len());
    }

    /// The next whole frame, without its length. After an error the stream is of no more use.
    pub(crate) fn next_frame(&mut self) -> Result<Option<&[u8]>, FrameTooLong> {
        let held = self.buffer.get(self.start..self.end).unwrap_or_default();
        let Some((prefix, rest)) = held.split_first_chunk::<PREFIX>() else { return Ok(None) };
        let length = u32::from_be_bytes(*prefix) as usize;
        if length > MAX_FRAME {
            return Err(FrameTooLong(length));
        }
        let Some(frame) = rest.get(..length) else { return Ok(None) };
        self.start += PREFIX + length;
        Ok(Some(frame))
    }
}

/// Frames on their way out, length prefixes included.
///
/// `buffer[start..end]` is waiting; what lies beyond `end` is stale but initialised, so that a frame costs no
/// zeroing.
#[derive(Default)]
pub(crate) struct Outbox {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Outbox {
    /// Adds a frame of `length` bytes, at most [`MAX_FRAME`], which `fill` must write in full.
    pub(crate) fn push<R>(&mut self, length: usize, fill: impl FnOnce(&mut [u8]) -> R) -> R {
        debug_assert!(length <= MAX_FRAME, "a frame of {length} bytes");
        if self.start > 0 && self.buffer.len() < self.end + PREFIX + length {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let (body, after) = (self.end + PREFIX, self.end + PREFIX + length);
        if self.buffer.len() < after {
            self.buffer.resize(after, 0);
        }
        if let Some(prefix) = self.buffer.get_mut(self.end..body) {
            prefix.copy_from_slice(&(length as u32).to_be_bytes());
        }
        self.end = after;
        fill(self.buffer.get_mut(body..after).unwrap_or_default())
    }

    /// The bytes to write next.
    pub(crate) fn pending(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// The first `count` bytes of [`Outbox::pending`] are written.
    pub(crate) fn sent(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            self.buffer.truncate(OUTBOX_KEPT);
            self.buffer.shrink_to(OUTBOX_KEPT);
        }
    }

    /// How many bytes wait.
    pub(crate) fn len(&self) -> usize {
        self.end - self.start
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn feed(decoder: &mut Decoder, mut bytes: &[u8]) -> Result<Vec<Vec<u8>>, FrameTooLong> {
        let mut frames = Vec::new();
        while !bytes.is_empty() {
            let room = decoder.room();
            let count = room.len().min(bytes.len());
            assert!(count > 0, "a decoder without a whole frame has room");
            room[..count].copy_from_slice(&bytes[..count]);
            decoder.filled(count);
            bytes = &bytes[count..];
            while let Some(frame) = decoder.next_frame()? {
                frames.push(frame.to_vec());
            }
        }
        Ok(frames)
    }

    #[test]
    fn the_longest_frame_passes_and_one_byte_more_does_not() {
        let mut outbox = Outbox::default();
        outbox.push(MAX_FRAME, |frame| frame.fill(7));
        assert_eq!(feed(&mut Decoder::default(), outbox.pending()).unwrap(), [vec![7; MAX_FRAME]]);

        let announced = ((MAX_FRAME + 1) as u32).to_be_bytes();
        assert_eq!(feed(&mut Decoder::default(), &announced), Err(FrameTooLong(MAX_FRAME + 1)));
    }

    #[test]
    fn an_outbox_that_was_large_gives_its_memory_back() {
        let mut outbox = Outbox::default();
        for _ in 0..40 {
            outbox.push(MAX_FRAME, |frame| frame.fill(1));
        }
        outbox.sent(outbox.len());
        assert_eq!(outbox.len(), 0);
        assert!(outbox.buffer.capacity() <= OUTBOX_KEPT);
    }

    proptest! {
        #[test]
        fn frames_survive_any_cut(
            frames in vec(vec(any::<u8>(), 0..3000), 0..40),
            cuts in vec(1..5000usize, 1..40),
            sends in vec(1..5000usize, 1..40),
        ) {
            let mut outbox = Outbox::default();
            let mut decoder = Decoder::default();
            let mut seen = Vec::new();
            let mut wire = Vec::new();
            let mut sends = sends.into_iter().cycle();
            for frame in &frames {
                outbox.push(frame.len(), |out| out.copy_from_slice(frame));
                let count = sends.next().unwrap().min(outbox.len());
                wire.extend_from_slice(&outbox.pending()[..count]);
                outbox.sent(count);
            }
            wire.extend_from_slice(outbox.pending());
            let mut cuts = cuts.into_iter().cycle();
            let mut rest = &wire[..];
            while !rest.is_empty() {
                let (now, later) = rest.split_at(cuts.next().unwrap().min(rest.len()));
                seen.extend(feed(&mut decoder, now).unwrap());
                rest = later;
            }
            prop_assert_eq!(seen, frames);
        }

        #[test]
        fn no_bytes_make_it_panic_or_grow(bytes in vec(any::<u8>(), 0..4000), small in any::<bool>()) {
            let mut bytes = bytes;
            if small && bytes.len() > 2 {
                bytes[0] = 0;
                bytes[1] = 0;
            }
            let mut decoder = Decoder::default();
            if let Ok(frames) = feed(&mut decoder, &bytes) {
                prop_assert!(frames.iter().all(|frame| frame.len() <= MAX_FRAME));
            }
            prop_assert_eq!(decoder.buffer.len(), READ_BUFFER);
        }
    }
}
