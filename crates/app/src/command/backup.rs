//! `berth admin backup`, `berth restore`, `berth admin vm disk …`

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, Gid, RenameFlags, Uid, chown, renameat_with};
use serde_json::json;
use time::OffsetDateTime;

use super::{Context, confirm, misfit};
use crate::{
    admin::wire::{Answer, Failure, FailureKind, Request},
    backup::{CONFIG, DATABASE, FOLDERS, HOST_KEY, Manifest, Writer, unpack},
    cli::{BackUpDiskArgs, BackupArgs, RestoreArgs, RestoreDiskArgs},
    config::Size,
    output::moment,
    state::{RESTORING, StateDir},
};

/// What SQLite may have left beside a database that was moved away, and would take for a part of another one.
const JOURNALS: [&str; 3] = ["berth.db-wal", "berth.db-shm", "berth.db-journal"];

pub(crate) fn back_up(context: &Context<'_>, args: &BackupArgs) -> Result<(), Failure> {
    must_be_free(&args.file)?;
    let state = context.config()?.state_dir;
    let Answer::DatabaseCopied { path, config } = context.ask(&Request::Backup {})? else {
        return Err(misfit());
    };
    let mut left_out = vec![];
    let made = write(args, &state, &path, config.as_deref(), &mut left_out);
    // Whether it is there is the server's affair at its next start, too.
    let _ = fs::remove_file(&path);
    let manifest = made.map_err(|error| unwritten(&args.file, &error))?;
    for file in left_out {
        context.output.note(&format!("{} is left out: it is no file of Berth's.", file.display()));
    }
    let bytes: u64 = manifest.files.iter().map(|file| file.size).sum();
    let text = format!(
        "{} has all but the VMs' disks: {} files, {}. Whoever has it has this Berth's keys: keep it as you would those.",
        args.file.display(),
        manifest.files.len(),
        Size::of(bytes)
    );
    context.output.result(&json!({ "backup": args.file, "manifest": manifest }), &text)
}

/// Before the server is asked for anything: a name that is taken is told at once.
fn must_be_free(file: &Path) -> Result<(), Failure> {
    if fs::symlink_metadata(file).is_err() {
        return Ok(());
    }
    let message = format!("{} is there already. Give another name.", file.display());
    Err(Failure::new(FailureKind::Conflict, message))
}

fn unwritten(file: &Path, error: &io::Error) -> Failure {
    Failure::new(FailureKind::Unavailable, format!("{} cannot be written: {error}.", file.display()))
}

fn folder_of(file: &Path) -> &Path {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// It appears when it is whole and on stable storage, and replaces nothing. What somebody else has put into the folders is left
/// out.
fn write(
    args: &BackupArgs,
    state: &Path,
    database: &Path,
    config: Option<&Path>,
    left_out: &mut Vec<PathBuf>,
) -> io::Result<Manifest> {
    let folder = folder_of(&args.file);
    let file = tempfile::Builder::new().prefix(".berth-backup-").tempfile_in(folder)?;
    let mut writer = Writer::new(BufWriter::new(&file), OffsetDateTime::now_utc());
    let missing = |what: &str| io::Error::other(format!("{what} is no file of Berth's"));
    for (name, path) in [(DATABASE, database), (HOST_KEY, &state.join(HOST_KEY))] {
        if !writer.add(name, path)? {
            return Err(missing(name));
        }
    }
    if let Some(config) = config
        && !writer.add(CONFIG, &fs::canonicalize(config)?)?
    {
        return Err(missing("the configuration"));
    }
    for folder in FOLDERS {
        if folder == "recordings" && args.no_recordings {
            continue;
        }
        for path in files_of(&state.join(folder))? {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            match writer.add(&format!("{folder}/{name}"), &path) {
                // One that makes room for newer ones, or for its successor.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Ok(true) => {}
                // Hidden ones are in the making.
                Ok(false) if name.starts_with('.') => {}
                Ok(false) => left_out.push(path),
                Err(error) => return Err(error),
            }
        }
    }
    let (mut buffer, manifest) = writer.finish()?;
    buffer.flush()?;
    drop(buffer);
    file.as_file().sync_all()?;
    file.persist_noclobber(&args.file).map_err(|error| error.error)?;
    File::open(folder)?.sync_all()?;
    Ok(manifest)
}

fn files_of(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
        entries => entries?,
    };
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    files.sort();
    Ok(files)
}

pub(crate) fn restore(context: &Context<'_>, args: &RestoreArgs) -> Result<(), Failure> {
    let dir = context.unjudged_config()?.state_dir;
    let archive = File::open(&args.file).map_err(|error| {
        let message = format!("{} cannot be read: {error}.", args.file.display());
        Failure::new(FailureKind::Invalid, message)
    })?;
    let state = StateDir::at(&dir);
    let in_use = |error: crate::state::StateError| Failure::new(FailureKind::Conflict, error.to_string());
    state.make().map_err(in_use)?;
    let _lock = state.lock().map_err(in_use)?;
    must_be_new(&dir)?;
    state.forget_restores();
    let failed = |error: io::Error| {
        let message = format!("The backup cannot be restored into {}: {error}.", dir.display());
        Failure::new(FailureKind::Unavailable, message)
    };
    let place = tempfile::Builder::new().prefix(RESTORING).tempdir_in(&dir).map_err(failed)?;
    let manifest = unpack(io::BufReader::new(archive), place.path())
        .map_err(|error| Failure::new(FailureKind::Invalid, error.to_string()))?;
    belong_to_the_owner_of(&dir, place.path()).map_err(failed)?;
    put_into_place(place.path(), &dir).map_err(failed)?;
    tell(context, &dir, &manifest)
}

/// Nothing is ever replaced: what is there may be the only copy.
fn must_be_new(dir: &Path) -> Result<(), Failure> {
    let ours = [DATABASE, HOST_KEY, CONFIG].into_iter().chain(JOURNALS).chain(FOLDERS);
    let Some(found) = ours.into_iter().find(|name| has_something(&dir.join(name))) else { return Ok(()) };
    let message = format!(
        "There is a {found} in {} already, and nothing is replaced. Restore into another folder with --state DIR, or move \
         it away first.",
        dir.display()
    );
    Err(Failure::new(FailureKind::Conflict, message))
}

/// An empty folder is nothing.
fn has_something(path: &Path) -> bool {
    match fs::read_dir(path) {
        Ok(mut entries) => entries.next().is_some(),
        Err(_) => fs::symlink_metadata(path).is_ok(),
    }
}

/// A server that runs as somebody else has to read what root restores.
pub(super) fn belong_to_the_owner_of(dir: &Path, path: &Path) -> io::Result<()> {
    let owner = fs::metadata(dir)?;
    let lock = dir.join("lock");
    let (uid, gid) = (owner.uid(), owner.gid());
    if uid == rustix::process::geteuid().as_raw() {
        return Ok(());
    }
    let give = |path: &Path| chown(path, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    give(&lock)?;
    let mut paths = vec![path.to_owned()];
    while let Some(path) = paths.pop() {
        give(&path)?;
        if path.is_dir() {
            paths.extend(files_of(&path)?);
        }
    }
    Ok(())
}

/// The database last: without it there is no state to be served.
fn put_into_place(from: &Path, dir: &Path) -> io::Result<()> {
    for name in FOLDERS {
        // One that is empty is replaced by rename(2).
        fs::rename(from.join(name), dir.join(name))?;
    }
    for name in [CONFIG, HOST_KEY, DATABASE] {
        match renameat_with(CWD, from.join(name), CWD, dir.join(name), RenameFlags::NOREPLACE) {
            Err(rustix::io::Errno::NOENT) if name == CONFIG => {}
            renamed => renamed?,
        }
    }
    File::open(dir)?.sync_all()
}

fn tell(context: &Context<'_>, dir: &Path, manifest: &Manifest) -> Result<(), Failure> {
    let config = dir.join(CONFIG);
    let start = match config.exists() {
        true => format!(
            "Its configuration is {}: put it where it belongs, and start the server with it.",
            config.display()
        ),
        false => "It had no configuration file. Start the server.".to_owned(),
    };
    let text = format!(
        "{} is as it was on {}. {start} VMs have no disks yet: berth admin vm disk restore VM FILE",
        dir.display(),
        moment(manifest.made)
    );
    context.output.result(&json!({ "restored": dir, "manifest": manifest }), &text)
}

pub(crate) fn back_up_disk(context: &Context<'_>, args: &BackUpDiskArgs) -> Result<(), Failure> {
    must_be_free(&args.file)?;
    let Answer::DiskCopied { vm, path } = context.ask(&Request::VmDiskCopy { vm: args.vm.clone() })? else {
        return Err(misfit());
    };
    let taken = take_away(&path, &args.file);
    // One that stays is replaced by the next.
    let _ = fs::remove_file(&path);
    let bytes = taken.map_err(|error| unwritten(&args.file, &error))?;
    let text = format!("{} has the disk of {vm}: {}.", args.file.display(), Size::of(bytes));
    context.output.result(&json!({ "vm": vm, "backup": args.file, "bytes": bytes }), &text)
}

/// Without copying it where that is possible. It is whole, on stable storage, and replaces nothing.
fn take_away(from: &Path, to: &Path) -> io::Result<u64> {
    let folder = folder_of(to);
    match fs::hard_link(from, to) {
        Ok(()) => {
            let me = (rustix::process::geteuid(), rustix::process::getegid());
            chown(to, Some(me.0), Some(me.1))?;
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(error),
        // Another file system, or one that knows no links.
        Err(_) => {
            let mut new = tempfile::Builder::new().prefix(".berth-backup-").tempfile_in(folder)?;
            io::copy(&mut File::open(from)?, new.as_file_mut())?;
            new.as_file().sync_all()?;
            new.persist_noclobber(to).map_err(|error| error.error)?;
        }
    }
    File::open(folder)?.sync_all()?;
    Ok(fs::metadata(to)?.len())
}

pub(crate) fn restore_disk(context: &Context<'_>, args: &RestoreDiskArgs) -> Result<(), Failure> {
    let RestoreDiskArgs { vm, file, yes } = args;
    let what =
        format!("This puts the disk in {} in the place of the one of {vm}, which is lost.", file.display());
    confirm::typed(context, &what, vm, *yes, "Nothing was done.")?;
    let file = std::path::absolute(file).unwrap_or_else(|_| file.clone());
    let Answer::Vm(vm) = context.ask(&Request::VmDiskReplace { vm: vm.clone(), file })? else {
        return Err(misfit());
    };
    context.output.result(&vm, &format!("{} has the disk of the file. It is {}.", vm.host, vm.status))
}
