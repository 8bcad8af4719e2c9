//! What a VM prints on its serial console: kept by the shim, shown by the engine.
//!
//! A guest may print for ever. The file holds the end of it, never more than [`KEPT`]; the run before stays beside it.

use std::{
    fs, io,
    io::{Read, Seek, SeekFrom},
};

use tokio::{
    fs::{File, OpenOptions},
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

use crate::paths::VmPaths;

/// The most that the file may hold, in bytes. At that size its first half is dropped.
const KEPT: usize = 512 << 10;
/// The most that is shown, in bytes.
pub(crate) const SHOWN: usize = 64 << 10;

/// The console of a new run: the file of the run before is put aside.
pub(crate) async fn begin(paths: &VmPaths) -> io::Result<Console> {
    match tokio::fs::rename(paths.console(), paths.previous_console()).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = create(paths).await?;
    Ok(Console { paths: paths.clone(), file, kept: Vec::new() })
}

/// The console of a run that goes on.
pub(crate) async fn resume(paths: &VmPaths) -> io::Result<Console> {
    let kept = match tokio::fs::read(paths.console()).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        other => other?,
    };
    let file = OpenOptions::new().append(true).create(true).mode(0o600).open(paths.console()).await?;
    Ok(Console { paths: paths.clone(), file, kept })
}

/// Reads what comes all the same, since QEMU must not wait.
pub(crate) async fn discard(mut line: UnixStream, why: &io::Error) {
    tracing::warn!(error = %why, "the console's text cannot be kept");
    let _ended = tokio::io::copy(&mut line, &mut tokio::io::sink()).await;
}

/// The console of a run, being written.
#[derive(Debug)]
pub(crate) struct Console {
    paths: VmPaths,
    file: File,
    /// What the file holds.
    kept: Vec<u8>,
}

impl Console {
    /// Writes down what comes from QEMU until it ends. A host whose disk is full loses text, and nothing else.
    pub(crate) async fn record(mut self, mut line: UnixStream) {
        let mut buffer = vec![0; 16 << 10];
        loop {
            let printed = match line.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(length) => buffer.get(..length).unwrap_or_default(),
            };
            if let Err(error) = self.keep(printed).await {
                tracing::warn!(%error, "the console's text cannot be kept");
            }
        }
    }

    async fn keep(&mut self, printed: &[u8]) -> io::Result<()> {
        self.kept.extend_from_slice(printed);
        if self.kept.len() > KEPT {
            self.kept.drain(..self.kept.len() - KEPT / 2);
            self.file = create(&self.paths).await?;
            self.file.write_all(&self.kept).await?;
        } else {
            self.file.write_all(printed).await?;
        }
        self.file.flush().await
    }
}

async fn create(paths: &VmPaths) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(paths.console()).await
}

/// The end of what was printed since the last start: at most 64 KiB of whole lines where there are any, without
/// control characters and terminal sequences but for line ends. Blocks.
pub(crate) fn shown(paths: &VmPaths) -> io::Result<String> {
    let mut file = match fs::File::open(paths.console()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        other => other?,
    };
    let length = file.metadata()?.len();
    let skipped = length.saturating_sub(SHOWN as u64);
    file.seek(SeekFrom::Start(skipped))?;
    let mut printed = Vec::new();
    file.take(SHOWN as u64).read_to_end(&mut printed)?;
    let mut from = printed.as_slice();
    if skipped > 0
        && let Some(end) = from.iter().position(|byte| *byte == b'\n')
    {
        from = from.get(end + 1..).unwrap_or_default();
    }
    Ok(plain(from))
}

/// Text without what a terminal would obey (ECMA-48): an escape sequence is dropped whole.
pub(crate) fn plain(printed: &[u8]) -> String {
    let mut text = String::with_capacity(printed.len().min(SHOWN));
    let lossy = String::from_utf8_lossy(printed);
    let mut chars = lossy.chars();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            if chars.as_str().starts_with('[') {
                // Parameters and intermediates, up to the final byte.
                chars.next();
                for c in chars.by_ref() {
                    if !matches!(c, ' '..='?') {
                        break;
                    }
                }
            }
            continue;
        }
        if text.len() + c.len_utf8() > SHOWN {
            break;
        }
        if c == '\t' {
            text.push(' ');
        } else if c == '\n' || !c.is_control() {
            text.push(c);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paths::StateDir;

    fn paths(dir: &tempfile::TempDir) -> VmPaths {
        let paths = StateDir::open(dir.path(), dir.path()).unwrap().vm(&berth_model::VmId::random());
        fs::create_dir(&paths.dir).unwrap();
        paths
    }

    async fn print(console: Console, text: &[u8]) {
        let (mut qemu, shim) = UnixStream::pair().unwrap();
        let write = async {
            qemu.write_all(text).await.unwrap();
            drop(qemu);
        };
        tokio::join!(console.record(shim), write);
    }

    #[tokio::test]
    async fn the_end_is_kept_within_its_bound_and_the_run_before_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let paths = paths(&dir);
        print(begin(&paths).await.unwrap(), b"first run").await;
        let console = begin(&paths).await.unwrap();
        assert_eq!(shown(&paths).unwrap(), "");
        assert_eq!(fs::read(paths.previous_console()).unwrap(), b"first run");
        let mut text = "a line of the console\n".repeat(4 * KEPT / 22);
        text.push_str("the end");
        print(console, text.as_bytes()).await;
        let size = fs::metadata(paths.console()).unwrap().len();
        assert!(size as usize <= KEPT && size as usize >= KEPT / 2, "{size}");
        let shown = shown(&paths).unwrap();
        assert!(shown.ends_with("a line of the console\nthe end"));
        assert!(shown.starts_with("a line of the console\n"), "only whole lines");
        assert!(shown.len() <= SHOWN && shown.len() > SHOWN - 100);
    }

    #[tokio::test]
    async fn a_run_that_goes_on_is_written_behind_what_there_is() {
        let dir = tempfile::tempdir().unwrap();
        let paths = paths(&dir);
        print(resume(&paths).await.unwrap(), b"one ").await;
        print(resume(&paths).await.unwrap(), b"two").await;
        assert_eq!(shown(&paths).unwrap(), "one two");
    }

    #[test]
    fn what_a_terminal_would_obey_is_dropped() {
        assert_eq!(
            plain(b"\x1b[2J\x1b[01;32m[  OK  ]\x1b[0m a\tb\r\n\x07\x1bcx\xff\n\x1b["),
            "[  OK  ] a b\ncx\u{fffd}\n"
        );
        assert!(plain(&vec![0xff; SHOWN]).len() <= SHOWN, "replacements are longer than what they replace");
    }

    #[test]
    fn a_vm_that_never_ran_has_printed_nothing() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(shown(&paths(&dir)).unwrap(), "");
    }
}
