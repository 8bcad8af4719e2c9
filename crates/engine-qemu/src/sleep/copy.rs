//! Copying a guest's memory: most of it is holes and zeros, which are neither read nor written.

use std::{fs::File, io, os::unix::fs::FileExt};

use rustix::{
    fs::{SeekFrom, seek},
    io::Errno,
};

/// The guest's pages; holes of files are not smaller.
const PAGE: usize = 4096;
const ZEROS: [u8; PAGE] = [0; PAGE];
/// So much is read at a time, in bytes, and between two of them is asked whether to go on.
const CHUNK: usize = 1 << 20;

/// What has been copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Copied {
    /// Of the pages that are not zero, and where they are.
    pub(super) sum: u32,
    /// Bytes of them.
    pub(super) bytes: u64,
}

/// Copies `from` to `to`, which is empty and gets the same length. `None` when `go_on`, asked after every chunk, has
/// said no.
pub(super) fn copy(from: &File, to: &File, mut go_on: impl FnMut() -> bool) -> io::Result<Option<Copied>> {
    let length = from.metadata()?.len();
    to.set_len(length)?;
    let mut sum = crc32fast::Hasher::new();
    let mut bytes = 0;
    let mut buffer = vec![0; CHUNK];
    let mut at = 0;
    while let Some((start, end)) = next_data(from, at, length)? {
        at = start;
        while at < end {
            if !go_on() {
                return Ok(None);
            }
            let wanted = usize::try_from(end - at).unwrap_or(CHUNK).min(CHUNK);
            let chunk = buffer.get_mut(..wanted).unwrap_or_default();
            from.read_exact_at(chunk, at)?;
            bytes += put(chunk, to, at, &mut sum)?;
            at += wanted as u64;
        }
    }
    Ok(Some(Copied { sum: sum.finalize(), bytes }))
}

/// Writes what is not zero, in runs as long as can be. Returns how much that was.
fn put(chunk: &[u8], to: &File, at: u64, sum: &mut crc32fast::Hasher) -> io::Result<u64> {
    let mut written = 0;
    let mut run = 0..0;
    for (number, page) in chunk.chunks(PAGE).enumerate() {
        let start = number * PAGE;
        if page == ZEROS.get(..page.len()).unwrap_or_default() {
            continue;
        }
        sum.update(&(at + start as u64).to_le_bytes());
        sum.update(page);
        written += page.len() as u64;
        if run.end != start {
            write_run(chunk, &run, to, at)?;
            run.start = start;
        }
        run.end = start + page.len();
    }
    write_run(chunk, &run, to, at)?;
    Ok(written)
}

fn write_run(chunk: &[u8], run: &std::ops::Range<usize>, to: &File, at: u64) -> io::Result<()> {
    to.write_all_at(chunk.get(run.clone()).unwrap_or_default(), at + run.start as u64)
}

/// The next stretch of a file that is no hole, from a page's beginning on.
fn next_data(file: &File, from: u64, length: u64) -> io::Result<Option<(u64, u64)>> {
    if from >= length {
        return Ok(None);
    }
    let start = match seek(file, SeekFrom::Data(from)) {
        Ok(start) => start / PAGE as u64 * PAGE as u64,
        Err(Errno::NXIO) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let end = seek(file, SeekFrom::Hole(start.max(from)))?.next_multiple_of(PAGE as u64);
    Ok(Some((start.max(from), end.min(length))))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use proptest::prelude::*;

    use super::*;

    fn content(file: &File) -> Vec<u8> {
        let mut content = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
        file.read_exact_at(&mut content, 0).unwrap();
        content
    }

    fn copied(from: &File) -> (Copied, File) {
        let to = tempfile::tempfile().unwrap();
        let copied = copy(from, &to, || true).unwrap().unwrap();
        assert!(content(&to) == content(from));
        (copied, to)
    }

    #[test]
    fn holes_and_zeros_stay_holes() {
        let from = tempfile::tempfile().unwrap();
        from.set_len(64 << 20).unwrap();
        from.write_all_at(b"first", 0).unwrap();
        from.write_all_at(&vec![0; 8 << 20], 8 << 20).unwrap();
        from.write_all_at(&vec![7; 2 * CHUNK], (32 << 20) + 4096).unwrap();
        from.write_all_at(b"last", (64 << 20) - 4).unwrap();
        let (copied, to) = copied(&from);
        assert_eq!(copied.bytes, (2 * CHUNK + 2 * PAGE) as u64);
        assert!(to.metadata().unwrap().blocks() * 512 < 3 << 20);
    }

    #[test]
    fn it_is_given_up_between_two_chunks() {
        let from = tempfile::tempfile().unwrap();
        from.write_all_at(&vec![7; 5 * CHUNK], 0).unwrap();
        let to = tempfile::tempfile().unwrap();
        let mut left = 2;
        let given_up = copy(&from, &to, || {
            left -= 1;
            left > 0
        });
        assert_eq!(given_up.unwrap(), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn whatever_the_layout_the_copy_and_its_sum_are_the_same(
            writes in prop::collection::vec((0u64..300, 0u8..3, 1usize..3 * PAGE), 0..12),
            length in 1u64..1 << 21,
            flipped in 0u64..1 << 21,
        ) {
            let from = tempfile::tempfile().unwrap();
            for (page, byte, count) in writes {
                from.write_all_at(&vec![byte; count], page * 4000).unwrap();
            }
            from.set_len(length).unwrap();
            let (first, to) = copied(&from);
            let (second, _) = copied(&to);
            prop_assert_eq!(first, second);
            if flipped < length {
                let mut byte = [0];
                to.read_exact_at(&mut byte, flipped).unwrap();
                to.write_all_at(&[byte[0] ^ 1], flipped).unwrap();
                prop_assert_ne!(copied(&to).0.sum, first.sum);
            }
        }
    }
}
