use std::{fs, io::Write, path::Path};

use super::*;

fn made_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::new(vec![], OffsetDateTime::UNIX_EPOCH);
    for (name, content) in files {
        let path = dir.path().join("file");
        fs::write(&path, content).unwrap();
        assert!(writer.add(name, &path).unwrap(), "{name}");
    }
    writer.finish().unwrap().0
}

fn whole() -> Vec<u8> {
    made_of(&[(DATABASE, b"data"), (HOST_KEY, b"key"), ("certificates/koding.com.pem", b"pem")])
}

fn refused(archive: &[u8]) -> String {
    let dir = tempfile::tempdir().unwrap();
    unpack(archive, dir.path()).unwrap_err().to_string()
}

/// An archive with one entry that is as bad as whoever made it likes.
fn hostile(name: &str, make: impl FnOnce(&mut tar::Header)) -> Vec<u8> {
    let mut tar = tar::Builder::new(vec![]);
    let mut header = tar::Header::new_gnu();
    header.set_size(1);
    header.set_mode(0o777);
    // Not by its setter, which refuses what a stranger would not.
    header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
    make(&mut header);
    header.set_cksum();
    tar.append(&header, &b"x"[..]).unwrap();
    tar.into_inner().unwrap()
}

#[test]
fn what_was_put_in_comes_out_and_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let manifest = unpack(&whole()[..], dir.path()).unwrap();
    assert_eq!(manifest.schema, berth_store::schema_version());
    assert_eq!(manifest.files.len(), 3);
    assert_eq!(fs::read(dir.path().join(DATABASE)).unwrap(), b"data");
    let pem = dir.path().join("certificates/koding.com.pem");
    assert_eq!(fs::read(&pem).unwrap(), b"pem");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&pem), mode(pem.parent().unwrap())), (0o600, 0o700));
}

#[test]
fn only_what_belongs_in_a_backup_is_put_in() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::new(vec![], OffsetDateTime::UNIX_EPOCH);
    let file = dir.path().join("file");
    fs::write(&file, "x").unwrap();
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&file, &link).unwrap();
    for name in ["lock", "certificates/.new", "certificates/../lock", "recordings/a/b", "certificates/"] {
        assert!(!writer.add(name, &file).unwrap(), "{name}");
    }
    assert!(!writer.add(HOST_KEY, &link).unwrap());
    fs::File::create(&file).unwrap().set_len(MAX_SMALL + 1).unwrap();
    assert!(!writer.add(HOST_KEY, &file).unwrap(), "too large for one");
}

#[test]
fn a_backup_that_ends_early_or_was_changed_is_refused() {
    let archive = whole();
    for end in [0, 100, 511, 512, 700, 1024, 2048, archive.len() / 2] {
        let told = refused(&archive[..end]);
        assert!(told.contains("Nothing was restored"), "{end}: {told}");
    }
    let at = archive.windows(4).position(|bytes| bytes == b"data").unwrap();
    let mut changed = archive.clone();
    changed[at] = b'D';
    assert!(refused(&changed).contains("berth.db is not what it was"));
    let mut longer = archive;
    let end = longer.len() - 1024;
    longer.truncate(end);
    longer.write_all(&hostile("host_key", |_| ())).unwrap();
    assert!(refused(&longer).contains("goes on after its end"));
    assert!(refused(&made_of(&[(HOST_KEY, b"key")])).contains("a file is missing"));
    assert!(refused(b"PK\x03\x04 this is no tar archive at all").contains("Nothing was restored"));
}

#[test]
fn paths_links_and_doubles_are_refused_and_nothing_is_written_elsewhere() {
    use tar::EntryType;
    for name in
        ["/etc/passwd", "../host_key", "certificates/../../x", "./host_key", "vms/0/disk.qcow2", "lock"]
    {
        assert!(refused(&hostile(name, |_| ())).contains("that no backup has"), "{name}");
    }
    for kind in [EntryType::Symlink, EntryType::Link, EntryType::Directory, EntryType::Fifo, EntryType::Char]
    {
        let archive = hostile("host_key", |header| {
            header.set_entry_type(kind);
            header.set_size(0);
            header.set_link_name("/etc/passwd").unwrap();
        });
        assert!(refused(&archive).contains("that no backup has"), "{kind:?}");
    }
    let large = hostile("host_key", |header| header.set_size(MAX_SMALL + 1));
    assert!(refused(&large).contains("that no backup has"));
    let endless = hostile("berth.db", |header| header.set_size(1 << 40));
    assert!(refused(&endless).contains("its end is missing"));
    let mut twice = hostile("host_key", |_| ());
    twice.truncate(twice.len() - 1024);
    twice.write_all(&hostile("host_key", |_| ())).unwrap();
    assert!(refused(&twice).contains("more than once"));
}

#[test]
fn one_of_a_newer_berth_is_refused_by_its_name() {
    let archive = whole();
    let newer = |from: &str, to: &str| {
        let text = String::from_utf8_lossy(&archive).replace(from, to);
        refused(text.as_bytes())
    };
    assert!(newer("\"format\": 1", "\"format\": 2").contains("newer than this one"));
    let schema = format!("\"schema\": {}", berth_store::schema_version());
    assert!(newer(&schema, "\"schema\": 99").contains("newer than this one"));
}
