//! The folder: what files are called, which there are, and whether they are whole.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use berth_model::{AccountName, VmName};
use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, PrimitiveDateTime, macros::format_description};

/// How the last line of a recording ends that is whole. In what appeared on a terminal its quotes would be escaped.
pub(crate) const WHOLE: &str = "End of the recording";
const WHOLE_END: &[u8] = b",\"m\",\"End of the recording\"]\n";
/// Bytes that are looked at for the end of the last whole line, at a time.
const CHUNK: u64 = 64 * 1024;

/// By which way somebody had the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordingWay {
    /// By ssh in direct mode.
    Direct,
    /// By the terminal in the page.
    Web,
}

impl RecordingWay {
    fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Web => "web",
        }
    }
}

/// What became of a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordingState {
    /// The session goes on.
    UnderWay,
    /// All that appeared is there.
    Complete,
    /// Something is missing: its end, or what came when the disk was too slow.
    Incomplete,
}

/// A recording.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordingInfo {
    /// What names it: the name of its file.
    pub name: String,
    /// When it began.
    #[serde(with = "time::serde::rfc3339")]
    pub began: OffsetDateTime,
    /// Whose session it was.
    pub account: AccountName,
    /// In which VM.
    pub vm: VmName,
    /// By which way.
    pub way: RecordingWay,
    /// How large it is.
    pub bytes: u64,
    /// What became of it.
    pub state: RecordingState,
}

/// A recording that is being read.
#[derive(Debug)]
pub struct Opened {
    /// What it is.
    pub info: RecordingInfo,
    /// Where it is.
    pub path: PathBuf,
    /// Its contents, from the beginning.
    pub file: File,
    /// So many bytes of it are whole lines. The rest is the beginning of one that a power cut has left.
    pub whole: u64,
}

/// The name of a recording, without its numbers of bytes and its state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) began: OffsetDateTime,
    pub(crate) account: AccountName,
    pub(crate) vm: VmName,
    pub(crate) way: RecordingWay,
    /// Tells apart what began in the same second.
    pub(crate) number: u32,
}

impl Name {
    /// `20261123T071022Z_alice_vm-0.alice.koding_direct_1a2b3c4d.cast`: in the order of time.
    pub(crate) fn file_name(&self) -> String {
        let format = format_description!("[year][month][day]T[hour][minute][second]Z");
        let began = self.began.to_offset(time::UtcOffset::UTC).format(&format).unwrap_or_default();
        format!("{began}_{}_{}_{}_{:08x}.cast", self.account, self.vm, self.way.as_str(), self.number)
    }

    /// Only what [`Name::file_name`] gives: nothing else in the folder is a recording, or can be asked for.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let format = format_description!("[year][month][day]T[hour][minute][second]Z");
        let mut parts = text.strip_suffix(".cast")?.split('_');
        let began = PrimitiveDateTime::parse(parts.next()?, &format).ok()?.assume_utc();
        let (account, vm) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let way = match parts.next()? {
            "direct" => RecordingWay::Direct,
            "web" => RecordingWay::Web,
            _ => return None,
        };
        let number = u32::from_str_radix(parts.next()?, 16).ok()?;
        let name = Self { began, account, vm, way, number };
        (parts.next().is_none() && name.file_name() == text).then_some(name)
    }
}

/// The folder, made if there is none, for nobody else.
pub(crate) fn make(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// The file of a new recording.
pub(crate) fn create(folder: &Path, name: &str) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(folder.join(name))
}

/// The names of all recordings and their sizes, the oldest first.
pub(crate) fn names(folder: &Path) -> io::Result<Vec<(Name, u64)>> {
    let mut found = vec![];
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let Some(name) = entry.file_name().to_str().and_then(Name::parse) else { continue };
        // One that was removed in this moment is none.
        let Ok(about) = entry.metadata() else { continue };
        if about.is_file() {
            found.push((name, about.len()));
        }
    }
    found.sort_by_key(|(name, _)| name.file_name());
    Ok(found)
}

/// What a recording is whose session does not go on.
pub(crate) fn info(folder: &Path, name: &Name, bytes: u64) -> RecordingInfo {
    let file_name = name.file_name();
    let whole = File::open(folder.join(&file_name)).and_then(|mut file| is_whole(&mut file));
    let state = if whole.unwrap_or(false) { RecordingState::Complete } else { RecordingState::Incomplete };
    let Name { began, account, vm, way, .. } = name.clone();
    RecordingInfo { name: file_name, began, account, vm, way, bytes, state }
}

fn is_whole(file: &mut File) -> io::Result<bool> {
    let length = WHOLE_END.len();
    if file.metadata()?.len() < length as u64 {
        return Ok(false);
    }
    file.seek(SeekFrom::End(-i64::try_from(length).unwrap_or(i64::MAX)))?;
    let mut end = vec![0; length];
    file.read_exact(&mut end)?;
    Ok(end == WHOLE_END)
}

/// Opens one for reading.
pub(crate) fn open(folder: &Path, name: &Name) -> io::Result<Opened> {
    let path = folder.join(name.file_name());
    let mut file = File::open(&path)?;
    let bytes = file.metadata()?.len();
    let whole = whole_lines(&mut file, bytes)?;
    file.rewind()?;
    Ok(Opened { info: info(folder, name, bytes), path, file, whole })
}

/// So many of these bytes are whole lines.
fn whole_lines(file: &mut File, bytes: u64) -> io::Result<u64> {
    let mut end = bytes;
    let mut chunk = vec![];
    while end > 0 {
        let start = end.saturating_sub(CHUNK);
        file.seek(SeekFrom::Start(start))?;
        chunk.clear();
        file.by_ref().take(end - start).read_to_end(&mut chunk)?;
        if let Some(at) = chunk.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_it_is_and_nothing_else_is_one() {
        let name = Name {
            began: time::macros::datetime!(2026-11-23 07:10:22 UTC),
            account: "alice".parse().unwrap(),
            vm: "vm-0.bob.koding".parse().unwrap(),
            way: RecordingWay::Direct,
            number: 0x1a_2b3c,
        };
        let text = "20261123T071022Z_alice_vm-0.bob.koding_direct_001a2b3c.cast";
        assert_eq!(name.file_name(), text);
        assert_eq!(Name::parse(text), Some(name));
        for wrong in [
            "",
            ".cast",
            "../20261123T071022Z_alice_vm-0.bob.koding_direct_001a2b3c.cast",
            "20261123T071022Z_alice_vm-0.bob.koding_direct_1a2b3c.cast",
            "20261123T071022Z_alice_vm-0.bob.koding_direct_001A2B3C.cast",
            "20261123T071022Z_alice_vm-0.bob.koding_sftp_001a2b3c.cast",
            "20261123T071022Z_../../x_vm-0.bob.koding_direct_001a2b3c.cast",
            "20261123T071022Z_alice_vm-0.bob.koding_direct_001a2b3c_x.cast",
        ] {
            assert_eq!(Name::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_beginning_of_a_line_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        for (text, whole) in [("", 0), ("abc", 0), ("a\nbc", 2), ("a\nbc\n", 5)] {
            fs::write(&path, text).unwrap();
            assert_eq!(
                whole_lines(&mut File::open(&path).unwrap(), text.len() as u64).unwrap(),
                whole,
                "{text}"
            );
        }
        let long = format!("a\n{}", "b".repeat(200_000));
        fs::write(&path, &long).unwrap();
        assert_eq!(whole_lines(&mut File::open(&path).unwrap(), long.len() as u64).unwrap(), 2);
    }
}
