//! Images: what VMs boot from.
//!
//! An image is a folder `<image_dir>/<id>` with a kernel, an initrd, a disk and `manifest.json`. It appears whole, by a
//! rename, and is never changed: overlays lie over its disk. [`build()`] makes the stock image out of Debian packages;
//! what goes into it is in the crate's folder `image/`.
//!
//! Owned here: the folders below `image_dir`. Not owned: who uses which image, and when one may be deleted.
//!
//! Concurrency: readers need no lock. Builders exclude each other by `flock` on `<image_dir>/.lock`; names that begin
//! with a dot belong to whoever holds it.

mod build;
mod command;
mod definition;

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

pub use build::{BuildOptions, build, build_container};
use definition::Format;

/// Bytes of an image's disk as the guest sees it: no overlay may be smaller. With a larger one, the guest's file system
/// grows at the next boot.
pub const DISK_SIZE: u64 = 10 << 30;

/// Kernel arguments to add to an image's own where QEMU translates instead of KVM running the guest. Leaves out defences
/// against what a processor speculates: a translated guest pays for them and gets nothing.
pub const APPEND_TCG: &str = "mitigations=off";

const MANIFEST: &str = "manifest.json";
const KERNEL: &str = "vmlinuz";
const INITRD: &str = "initrd";
const DISK: &str = "disk";
const ARCHIVE: &str = "image.tar.zst";

/// An image that is whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Its folder's name; the same for ever.
    pub id: String,
    /// An uncompressed kernel, which QEMU's `-kernel` starts by PVH.
    pub kernel: PathBuf,
    /// An archive for `-initrd`.
    pub initrd: PathBuf,
    /// A raw, sparse ext4 file system without a partition table, [`DISK_SIZE`] long. Read only.
    pub disk: PathBuf,
    /// The kernel's arguments, for `-append`. See [`APPEND_TCG`].
    pub append: String,
    /// When it was built, to the second.
    pub made_at: SystemTime,
    /// Bytes that it takes on the host's disk.
    pub size: u64,
}

/// An image for system containers that is whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Its folder's name; the same for ever.
    pub id: String,
    /// A unified tarball of Incus, compressed with zstd: `metadata.yaml` and `rootfs/`.
    pub archive: PathBuf,
    /// When it was built, to the second.
    pub made_at: SystemTime,
}

/// An image in one of its formats.
trait Built: Sized {
    const FORMAT: Format;
    fn id(&self) -> &str;
    fn made_at(&self) -> SystemTime;
    /// The image with this id, if it is there and whole.
    fn read(image_dir: &Path, id: &str) -> Option<Self>;
}

impl Built for Image {
    const FORMAT: Format = Format::Vm;

    fn id(&self) -> &str {
        &self.id
    }

    fn made_at(&self) -> SystemTime {
        self.made_at
    }

    fn read(image_dir: &Path, id: &str) -> Option<Self> {
        let (dir, manifest, size) = read(image_dir, id, Self::FORMAT)?;
        let [kernel, initrd, disk] = [KERNEL, INITRD, DISK].map(|name| dir.join(name));
        let made_at = manifest.made_at()?;
        Some(Self { id: manifest.id, kernel, initrd, disk, append: manifest.append, made_at, size })
    }
}

impl Built for Container {
    const FORMAT: Format = Format::Container;

    fn id(&self) -> &str {
        &self.id
    }

    fn made_at(&self) -> SystemTime {
        self.made_at
    }

    fn read(image_dir: &Path, id: &str) -> Option<Self> {
        let (dir, manifest, _) = read(image_dir, id, Self::FORMAT)?;
        let made_at = manifest.made_at()?;
        Some(Self { id: manifest.id, archive: dir.join(ARCHIVE), made_at })
    }
}

/// What there is to know of an image besides its files.
#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    id: String,
    append: String,
    /// Seconds since 1970.
    made_at: u64,
    /// Where its packages came from.
    mirror: String,
}

impl Manifest {
    fn made_at(&self) -> Option<SystemTime> {
        UNIX_EPOCH.checked_add(Duration::from_secs(self.made_at))
    }
}

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// A program or file of the host is missing.
    #[error("{what} is missing: install the package {package}")]
    Missing {
        /// The program or file.
        what: String,
        /// The Debian and Ubuntu package that has it.
        package: &'static str,
    },
    /// There is not enough room.
    #[error("{} is full: building an image needs {needed_gb} GB", dir.display())]
    DiskFull {
        /// Where.
        dir: PathBuf,
        /// Room for a whole build, in gigabytes.
        needed_gb: u64,
    },
    /// The mirror cannot be reached or does not have what was asked for.
    #[error("the package mirror {mirror} does not answer as it should: {detail}")]
    Mirror {
        /// Its address.
        mirror: String,
        /// What the package manager said.
        detail: String,
    },
    /// A mirror's address that is none.
    #[error(
        "{0:?} is not the address of a package mirror: it begins with http:// or https:// and has no spaces"
    )]
    NotAMirror(String),
    /// An ordinary user of this host may not build.
    #[error(
        "this user has no range of user ids in /etc/subuid and /etc/subgid, which building needs: \
         sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER, or build as root"
    )]
    NoUserIds,
    /// A step of the build failed.
    #[error("the build of the image failed:\n{0}")]
    Build(String),
    /// The image folder cannot be used.
    #[error("{} cannot be used: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl ImageError {
    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::DiskFull { dir: path.to_owned(), needed_gb: build::NEEDED_GB }
            }
            _ => Self::Io { path: path.to_owned(), source },
        }
    }
}

/// The images in `image_dir`, the newest first. What is no whole image is passed over; no folder is no image. Blocks.
///
/// # Errors
/// If the folder cannot be read.
pub fn list(image_dir: &Path) -> Result<Vec<Image>, ImageError> {
    whole(image_dir)
}

/// As [`list`], for images of one format.
fn whole<T: Built>(image_dir: &Path) -> Result<Vec<T>, ImageError> {
    let entries = match fs::read_dir(image_dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(ImageError::io(image_dir)(error)),
    };
    let mut images = Vec::new();
    for entry in entries {
        let name = entry.map_err(ImageError::io(image_dir))?.file_name();
        if let Some(image) = name.to_str().and_then(|id| T::read(image_dir, id)) {
            images.push(image);
        }
    }
    images.sort_by(|one: &T, other| (other.made_at(), other.id()).cmp(&(one.made_at(), one.id())));
    Ok(images)
}

/// The image with this id, if it is there and whole. Blocks.
#[must_use]
pub fn find(image_dir: &Path, id: &str) -> Option<Image> {
    Image::read(image_dir, id)
}

/// The image that a new VM gets: the newest. Blocks.
///
/// # Errors
/// As [`list`].
pub fn find_latest(image_dir: &Path) -> Result<Option<Image>, ImageError> {
    Ok(list(image_dir)?.into_iter().next())
}

/// The folder of an image that has every file of its format, what there is to know of it, and its size.
fn read(image_dir: &Path, id: &str, format: Format) -> Option<(PathBuf, Manifest, u64)> {
    if id.is_empty() || id.starts_with('.') || id.contains('/') {
        return None;
    }
    let dir = image_dir.join(id);
    let manifest: Manifest = serde_json::from_slice(&fs::read(dir.join(MANIFEST)).ok()?).ok()?;
    if manifest.id != id {
        return None;
    }
    let mut size = 0;
    for file in format.files() {
        // In units of 512 bytes, whatever the file system's own.
        size += fs::metadata(dir.join(file)).ok().filter(fs::Metadata::is_file)?.blocks() * 512;
    }
    Some((dir, manifest, size))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(image_dir: &Path, id: &str, made_at: u64) -> PathBuf {
        let dir = image_dir.join(id);
        fs::create_dir_all(&dir).unwrap();
        for name in [KERNEL, INITRD, DISK] {
            fs::write(dir.join(name), [1; 5000]).unwrap();
        }
        let manifest = Manifest { id: id.into(), append: "quiet".into(), made_at, mirror: String::new() };
        fs::write(dir.join(MANIFEST), serde_json::to_vec(&manifest).unwrap()).unwrap();
        dir
    }

    #[test]
    fn the_newest_comes_first_and_what_is_not_whole_does_not_count() {
        let temporary = tempfile::tempdir().unwrap();
        let dir = temporary.path();
        assert_eq!(list(&dir.join("nowhere")).unwrap(), []);
        assert_eq!(find_latest(dir).unwrap(), None);
        put(dir, "debian-13-a", 1000);
        put(dir, "debian-13-b", 3000);
        put(dir, "debian-13-c", 2000);
        fs::remove_file(put(dir, "debian-13-d", 9000).join(INITRD)).unwrap();
        fs::write(put(dir, "debian-13-e", 9000).join(MANIFEST), "{").unwrap();
        put(dir, ".building", 9000);
        fs::rename(put(dir, "debian-13-f", 9000), dir.join("moved")).unwrap();
        let ids: Vec<_> = list(dir).unwrap().into_iter().map(|image| image.id).collect();
        assert_eq!(ids, ["debian-13-b", "debian-13-c", "debian-13-a"]);
        let latest = find_latest(dir).unwrap().unwrap();
        assert_eq!(latest.made_at, UNIX_EPOCH + Duration::from_secs(3000));
        assert_eq!(latest.kernel, dir.join("debian-13-b/vmlinuz"));
        assert!(latest.size >= 15_000, "{}", latest.size);
    }

    #[test]
    fn an_id_is_a_name_and_not_a_path() {
        let temporary = tempfile::tempdir().unwrap();
        put(temporary.path(), "debian-13-a", 1);
        assert!(find(temporary.path(), "debian-13-a").is_some());
        for id in ["", ".", "..", "../x/debian-13-a", "./debian-13-a", "debian-13-b"] {
            assert_eq!(find(temporary.path(), id), None, "{id}");
        }
    }
}
