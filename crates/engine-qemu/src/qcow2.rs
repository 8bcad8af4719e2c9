//! The head of a qcow2 file: whether it stands by itself, and the name of an image that Berth writes into it.
//!
//! Read by our own few lines before any program of QEMU's opens a file that somebody brings: a header can name other files
//! of the host, and qemu-img would open them. (docs/interop/qcow2.rst of QEMU)

use std::{
    fs::{File, OpenOptions},
    io::{self, Read},
    os::unix::{ffi::OsStrExt, fs::FileExt},
    path::Path,
};

const MAGIC: [u8; 4] = *b"QFI\xfb";
/// Our own header extension, which QEMU passes over: the id of the image whose kernel the disk boots with.
const IMAGE: u32 = 0x6272_7468;
const END: u32 = 0;
/// So much of a file is looked at. The header with its extensions is in the first cluster, which has 512 bytes at least.
const HEAD: u64 = 4096;
const EXTENSIONS_V2: usize = 72;
/// Of version 3's incompatible features: what of them makes no other file necessary and no data doubtful.
const COMPRESSION_TYPE: u64 = 1 << 3;
const EXTENDED_L2: u64 = 1 << 4;
/// And what makes another one necessary.
const EXTERNAL_DATA: u64 = 1 << 2;

/// Why a file cannot be a VM's disk: a clause without a full stop.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unfit {
    #[error("it is no qcow2 file")]
    NotQcow2,
    #[error("it needs another file, which it lies over")]
    Overlay,
    #[error("its data is in another file")]
    ExternalData,
    #[error("it is encrypted")]
    Encrypted,
    #[error("it was not closed, or is damaged: qemu-img check tells more")]
    Damaged,
    #[error("it needs a newer QEMU")]
    Unknown,
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
}

/// What a file's head says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// The size of the disk as a guest sees it, in bytes.
    pub(crate) size: u64,
    /// The image whose kernel it boots with.
    pub(crate) image: Option<String>,
}

/// Judges a file that may be anything. Blocks.
pub(crate) fn judge(path: &Path) -> Result<Head, Unfit> {
    Ok(read(&File::open(path)?)?.head)
}

/// Judges a VM's own disk, into which a guest that has taken its QEMU over may have written anything: it lies over `base` or over
/// nothing, and over no other file. Blocks.
pub(crate) fn lies_over(path: &Path, base: &Path) -> Result<(), Unfit> {
    let mut bytes = Vec::new();
    File::open(path)?.take(HEAD).read_to_end(&mut bytes)?;
    if !bytes.starts_with(&MAGIC) || bytes.len() < EXTENSIONS_V2 {
        return Err(Unfit::NotQcow2);
    }
    if number(&bytes, 4, 4) > 2 && number(&bytes, 72, 8) & EXTERNAL_DATA != 0 {
        return Err(Unfit::ExternalData);
    }
    let place = |at: usize, length: usize| usize::try_from(number(&bytes, at, length)).unwrap_or(usize::MAX);
    let (at, length) = (place(8, 8), place(16, 4));
    let below = bytes.get(at..at.saturating_add(length));
    if at == 0 || below == Some(base.as_os_str().as_bytes()) { Ok(()) } else { Err(Unfit::Overlay) }
}

/// Writes the image's name into a file of ours that has none yet. Blocks.
pub(crate) fn name_image(path: &Path, image: &str) -> Result<(), Unfit> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let Found { head: Head { image: None, .. }, end, room } = read(&file)? else { return Ok(()) };
    let length = u32::try_from(image.len()).map_err(|_| Unfit::Unknown)?;
    let mut extension = IMAGE.to_be_bytes().to_vec();
    extension.extend(length.to_be_bytes());
    extension.extend(image.as_bytes());
    extension.resize(extension.len().next_multiple_of(8), 0);
    // The mark of the end, again.
    extension.extend([0; 8]);
    if end + extension.len() > room {
        return Err(Unfit::Unknown);
    }
    file.write_all_at(&extension, u64::try_from(end).map_err(|_| Unfit::Unknown)?)?;
    Ok(())
}

struct Found {
    head: Head,
    /// Where its extensions end.
    end: usize,
    /// Where they have to.
    room: usize,
}

fn read(file: &File) -> Result<Found, Unfit> {
    let mut bytes = Vec::new();
    file.take(HEAD).read_to_end(&mut bytes)?;
    let short = |at: usize| number(&bytes, at, 4);
    let long = |at: usize| number(&bytes, at, 8);
    if !bytes.starts_with(&MAGIC) || bytes.len() < EXTENSIONS_V2 {
        return Err(Unfit::NotQcow2);
    }
    let extensions = match short(4) {
        2 => EXTENSIONS_V2,
        3 => {
            match long(72) & !(COMPRESSION_TYPE | EXTENDED_L2) {
                0 => {}
                bits if bits & EXTERNAL_DATA != 0 => return Err(Unfit::ExternalData),
                bits if bits & 0b11 != 0 => return Err(Unfit::Damaged),
                _ => return Err(Unfit::Unknown),
            }
            usize::try_from(short(100)).map_err(|_| Unfit::Unknown)?
        }
        _ => return Err(Unfit::Unknown),
    };
    if long(8) != 0 || short(16) != 0 {
        return Err(Unfit::Overlay);
    }
    if short(32) != 0 {
        return Err(Unfit::Encrypted);
    }
    // 512 bytes to 2 MiB.
    let cluster = 1_usize.checked_shl(u32::try_from(short(20)).unwrap_or(u32::MAX)).unwrap_or(0);
    let bytes = bytes.get(..cluster).unwrap_or(&bytes);
    let (image, end) = image_of(bytes, extensions);
    Ok(Found { head: Head { size: long(24), image }, end, room: bytes.len() })
}

/// The image that one of the extensions names, and where they end; for those that are not in the head, beyond it.
fn image_of(bytes: &[u8], mut at: usize) -> (Option<String>, usize) {
    let mut image = None;
    while at + 8 <= bytes.len() {
        let (kind, length) = (number(bytes, at, 4), number(bytes, at + 4, 4));
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if kind == u64::from(END) {
            return (image, at);
        }
        let begin = at + 8;
        if kind == u64::from(IMAGE) {
            let name = bytes.get(begin..begin.saturating_add(length));
            image = name.and_then(|name| std::str::from_utf8(name).ok()).map(str::to_owned);
        }
        at = begin.saturating_add(length).saturating_add(7) & !7;
    }
    (image, bytes.len())
}

/// A big-endian number of so many bytes; 0 beyond the end.
fn number(bytes: &[u8], at: usize, length: usize) -> u64 {
    let digits = bytes.get(at..at.saturating_add(length)).unwrap_or_default();
    digits.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use std::{fs, process::Command};

    use super::*;

    fn qemu_img(words: &[&str], dir: &Path) -> String {
        #[expect(clippy::disallowed_methods, reason = "this crate runs qemu-img")]
        let output = Command::new("qemu-img").args(words).current_dir(dir).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn a_file_that_stands_by_itself_keeps_the_name_of_an_image() {
        let dir = tempfile::tempdir().unwrap();
        for compat in ["0.10", "1.1"] {
            let path = dir.path().join(compat);
            let option = format!("compat={compat}");
            qemu_img(&["create", "-q", "-f", "qcow2", "-o", &option, compat, "3M"], dir.path());
            assert_eq!(judge(&path).unwrap(), Head { size: 3 << 20, image: None });
            name_image(&path, "debian-13-abc").unwrap();
            name_image(&path, "another").unwrap();
            assert_eq!(judge(&path).unwrap().image.as_deref(), Some("debian-13-abc"));
            qemu_img(&["check", "-q", compat], dir.path());
            assert!(qemu_img(&["info", compat], dir.path()).contains("virtual size: 3 MiB"));
        }
    }

    #[test]
    fn what_leads_to_other_files_of_the_host_is_refused_unopened() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        qemu_img(&["create", "-q", "-f", "qcow2", "base", "1M"], dir.path());
        qemu_img(&["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", "base", "over"], dir.path());
        assert!(matches!(judge(&at("over")), Err(Unfit::Overlay)));
        lies_over(&at("over"), Path::new("base")).unwrap();
        lies_over(&at("base"), Path::new("base")).unwrap();
        assert!(matches!(lies_over(&at("over"), Path::new("bas")), Err(Unfit::Overlay)));
        assert!(matches!(lies_over(&at("over"), Path::new("another")), Err(Unfit::Overlay)));
        qemu_img(&["create", "-q", "-f", "qcow2", "-o", "data_file=elsewhere", "apart", "1M"], dir.path());
        assert!(matches!(judge(&at("apart")), Err(Unfit::ExternalData)));
        assert!(matches!(lies_over(&at("apart"), Path::new("base")), Err(Unfit::ExternalData)));
        let bytes = fs::read(at("base")).unwrap();
        let with = |at_byte: usize, value: u8| {
            let mut changed = bytes.clone();
            changed[at_byte] = value;
            fs::write(at("changed"), changed).unwrap();
            judge(&at("changed"))
        };
        assert!(matches!(with(79, 1), Err(Unfit::Damaged)), "dirty");
        assert!(matches!(with(79, 2), Err(Unfit::Damaged)), "corrupt");
        assert!(matches!(with(72, 1), Err(Unfit::Unknown)));
        assert!(matches!(with(35, 1), Err(Unfit::Encrypted)));
        assert!(matches!(with(7, 9), Err(Unfit::Unknown)));
        assert!(matches!(with(0, b'X'), Err(Unfit::NotQcow2)));
        fs::write(at("short"), b"QFI\xfb").unwrap();
        assert!(matches!(judge(&at("short")), Err(Unfit::NotQcow2)));
    }
}
