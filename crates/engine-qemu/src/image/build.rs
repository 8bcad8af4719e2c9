//! Making the stock image: in a hidden folder, then shown by a rename.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use rustix::{
    fs::{FlockOperation, flock, statvfs},
    io::Errno,
};

use super::{
    Built, Container, Image, ImageError, MANIFEST, Manifest,
    command::{self, Mode},
    definition::{self, Cache, Format},
    whole,
};

/// Gigabytes for the packages, the new root and the image at once.
pub(super) const NEEDED_GB: u64 = 4;

/// How the stock image is built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildOptions {
    /// Debian's packages, by http or https. The guest has this mirror too, so it must be reachable from there.
    pub mirror: String,
    /// Debian's security updates; the same holds.
    pub security_mirror: String,
    /// Downloaded packages, which make the next build quicker. `None` for a folder below the images' own.
    pub cache_dir: Option<PathBuf>,
    /// Build even if there is an image of this definition, to have today's packages in it. The old one stays.
    pub anew: bool,
}

impl Default for BuildOptions {
    fn default() -> Self {
        Self {
            mirror: "http://deb.debian.org/debian".to_owned(),
            security_mirror: "http://deb.debian.org/debian-security".to_owned(),
            cache_dir: None,
            anew: false,
        }
    }
}

/// Builds the stock image, or finds it: an image of the same definition is not built twice, and of several builders at
/// once, in one process or many, one works and the others wait. Blocks for a minute or two.
///
/// `progress` is given a line every few seconds. Killed at any moment, it leaves nothing but a hidden folder that the
/// next build removes.
///
/// # Errors
/// In words for the operator; nothing is left behind.
pub fn build(
    image_dir: &Path,
    options: &BuildOptions,
    progress: &mut dyn FnMut(&str),
) -> Result<Image, ImageError> {
    build_as(image_dir, options, progress)
}

/// The same root as [`build()`]'s, as an archive that a cluster of Incus makes system containers from. All else as there.
///
/// # Errors
/// As [`build()`].
pub fn build_container(
    image_dir: &Path,
    options: &BuildOptions,
    progress: &mut dyn FnMut(&str),
) -> Result<Container, ImageError> {
    build_as(image_dir, options, progress)
}

fn build_as<T: Built>(
    image_dir: &Path,
    options: &BuildOptions,
    progress: &mut dyn FnMut(&str),
) -> Result<T, ImageError> {
    for mirror in [&options.mirror, &options.security_mirror] {
        check_mirror(mirror)?;
    }
    let definition = definition::id(T::FORMAT, options);
    if !options.anew
        && let Some(image) = built(image_dir, &definition)?
    {
        return Ok(image);
    }
    fs::create_dir_all(image_dir).map_err(ImageError::io(image_dir))?;
    let _lock = lock(image_dir, progress)?;
    if !options.anew
        && let Some(image) = built(image_dir, &definition)?
    {
        return Ok(image);
    }
    remove_leftovers(image_dir)?;
    let mode = Mode::of_this_process();
    command::check_tools(mode)?;
    check_room(image_dir)?;
    let work = command::work_dir(image_dir);
    let image = build_in(&work, image_dir, &definition, mode, options, progress);
    match fs::remove_dir_all(&work) {
        Err(error) if image.is_ok() && error.kind() != io::ErrorKind::NotFound => {
            Err(ImageError::io(&work)(error))
        }
        _ => image,
    }
}

fn check_mirror(mirror: &str) -> Result<(), ImageError> {
    let is_address = ["http://", "https://"].iter().any(|scheme| mirror.starts_with(scheme));
    if is_address && mirror.chars().all(|c| c.is_ascii_graphic() && !"[]".contains(c)) {
        Ok(())
    } else {
        Err(ImageError::NotAMirror(mirror.to_owned()))
    }
}

/// The newest image of a definition. Those that were built anew have a number after it.
fn built<T: Built>(image_dir: &Path, definition: &str) -> Result<Option<T>, ImageError> {
    Ok(whole(image_dir)?.into_iter().find(|image: &T| {
        image.id().strip_prefix(definition).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    }))
}

fn lock(image_dir: &Path, progress: &mut dyn FnMut(&str)) -> Result<File, ImageError> {
    let path = image_dir.join(".lock");
    let error = |error: Errno| ImageError::io(&path)(error.into());
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(ImageError::io(&path))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => {
            progress("waiting for another build of an image");
            flock(&file, FlockOperation::LockExclusive).map_err(error)?;
        }
        result => result.map_err(error)?,
    }
    Ok(file)
}

/// What builders that were killed have left. Only with the lock.
fn remove_leftovers(image_dir: &Path) -> Result<(), ImageError> {
    for entry in fs::read_dir(image_dir).map_err(ImageError::io(image_dir))? {
        let entry = entry.map_err(ImageError::io(image_dir))?;
        if entry.file_name().to_string_lossy().starts_with(".building-") {
            fs::remove_dir_all(entry.path()).map_err(ImageError::io(&entry.path()))?;
        }
    }
    Ok(())
}

fn check_room(image_dir: &Path) -> Result<(), ImageError> {
    let room = statvfs(image_dir).map_err(|error| ImageError::io(image_dir)(error.into()))?;
    if room.f_bavail.saturating_mul(room.f_frsize) < NEEDED_GB * 1_000_000_000 {
        return Err(ImageError::DiskFull { dir: image_dir.to_owned(), needed_gb: NEEDED_GB });
    }
    Ok(())
}

fn build_in<T: Built>(
    work: &Path,
    image_dir: &Path,
    definition: &str,
    mode: Mode,
    options: &BuildOptions,
    progress: &mut dyn FnMut(&str),
) -> Result<T, ImageError> {
    let results = work.join("image");
    let new_cache = work.join("packages");
    let cache = options.cache_dir.clone().unwrap_or_else(|| image_dir.join(".packages"));
    for dir in [&results, &new_cache, &cache] {
        fs::create_dir_all(dir).map_err(ImageError::io(dir))?;
    }
    let arguments = match (plain(&cache), plain(&new_cache)) {
        (Some(from), Some(to)) => definition::arguments(T::FORMAT, options, Some(&Cache { from, to })),
        _ => definition::arguments(T::FORMAT, options, None),
    };
    command::run(mode, &arguments, &results, &options.mirror, progress)?;
    progress("writing the image down");
    let id = free_id(image_dir, definition);
    finish(&results, &id, options, T::FORMAT)?;
    let dir = image_dir.join(&id);
    fs::rename(&results, &dir).map_err(ImageError::io(&dir))?;
    sync(image_dir)?;
    // The packages of this build in place of those of earlier ones: the cache does not grow with the years.
    if plain(&cache).is_some() && plain(&new_cache).is_some() && fs::remove_dir_all(&cache).is_ok() {
        let _ = fs::rename(&new_cache, &cache);
    }
    T::read(image_dir, &id).ok_or_else(|| ImageError::Build("the image is not whole".to_owned()))
}

/// A path as mmdebstrap's hooks take it: they split their words at spaces and know no quotes that we would want to rely
/// on. Without one, the build does without a cache.
fn plain(path: &Path) -> Option<&str> {
    path.to_str().filter(|path| path.chars().all(|c| c.is_ascii_alphanumeric() || "/._-+@".contains(c)))
}

fn free_id(image_dir: &Path, definition: &str) -> String {
    let mut id = definition.to_owned();
    let mut number = 1;
    while image_dir.join(&id).exists() {
        number += 1;
        id = format!("{definition}-{number}");
    }
    id
}

/// Makes the results an image, down to the disk, so that the rename shows it whole even after a power cut.
fn finish(results: &Path, id: &str, options: &BuildOptions, format: Format) -> Result<(), ImageError> {
    let manifest = Manifest {
        id: id.to_owned(),
        append: definition::APPEND.to_owned(),
        made_at: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        mirror: options.mirror.clone(),
    };
    let path = results.join(MANIFEST);
    let text = serde_json::to_vec_pretty(&manifest).map_err(|error| ImageError::Build(error.to_string()))?;
    fs::write(&path, text).map_err(ImageError::io(&path))?;
    for name in format.files().iter().chain([&MANIFEST]) {
        let path = results.join(name);
        fs::set_permissions(&path, Permissions::from_mode(0o444)).map_err(ImageError::io(&path))?;
        sync(&path)?;
    }
    fs::set_permissions(results, Permissions::from_mode(0o755)).map_err(ImageError::io(results))?;
    sync(results)
}

fn sync(path: &Path) -> Result<(), ImageError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(ImageError::io(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image_of(dir: &Path, options: &BuildOptions, number: &str) -> String {
        let id = format!("{}{number}", definition::id(Format::Vm, options));
        let results = dir.join(".results");
        fs::create_dir_all(&results).unwrap();
        for name in Format::Vm.files() {
            fs::write(results.join(name), "x").unwrap();
        }
        finish(&results, &id, options, Format::Vm).unwrap();
        fs::rename(results, dir.join(&id)).unwrap();
        id
    }

    #[test]
    fn what_is_there_is_not_built_again() {
        let temporary = tempfile::tempdir().unwrap();
        let options = BuildOptions::default();
        let id = image_of(temporary.path(), &options, "-2");
        let image = build(temporary.path(), &options, &mut |line| panic!("{line}")).unwrap();
        assert_eq!(image.id, id);
        assert_eq!(
            free_id(temporary.path(), &definition::id(Format::Vm, &options)),
            definition::id(Format::Vm, &options)
        );
        assert_eq!(free_id(temporary.path(), &id), format!("{id}-2"));
        assert!(built::<Image>(temporary.path(), "debian-13").unwrap().is_some());
        assert!(built::<Image>(temporary.path(), "debian").unwrap().is_some_and(|found| found.id == id));
        assert!(
            built::<Image>(temporary.path(), "deb").unwrap().is_none(),
            "another definition that begins alike"
        );
    }

    #[test]
    fn leftovers_go_and_images_stay() {
        let temporary = tempfile::tempdir().unwrap();
        let id = image_of(temporary.path(), &BuildOptions::default(), "");
        fs::create_dir_all(temporary.path().join(".building-1/image")).unwrap();
        fs::create_dir_all(temporary.path().join(".packages")).unwrap();
        remove_leftovers(temporary.path()).unwrap();
        let mut left: Vec<_> =
            fs::read_dir(temporary.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, [".packages", &*id]);
    }

    #[test]
    fn one_builder_at_a_time() {
        let temporary = tempfile::tempdir().unwrap();
        let held = lock(temporary.path(), &mut |line| panic!("{line}")).unwrap();
        let waiting = std::thread::scope(|scope| {
            let (sender, receiver) = std::sync::mpsc::sync_channel(1);
            let dir = temporary.path();
            let second =
                scope.spawn(move || lock(dir, &mut |line| sender.send(line.to_owned()).unwrap()).is_ok());
            let line = receiver.recv().unwrap();
            assert!(!second.is_finished());
            drop(held);
            assert!(second.join().unwrap());
            line
        });
        assert_eq!(waiting, "waiting for another build of an image");
    }

    #[test]
    fn mirrors_are_addresses() {
        check_mirror("https://mirror.example.org:8080/debian").unwrap();
        for wrong in
            ["", "mirror.example.org", "http://x [trusted=yes]", "http://x\ndeb http://y", "file:/srv"]
        {
            assert!(check_mirror(wrong).is_err(), "{wrong}");
        }
    }
}
