use std::{fs, sync::Condvar};

use super::*;

const LIMITS: Limits = Limits { each: 4 << 20, all: 16 << 20 };

fn about(account: &str) -> About {
    About {
        account: account.parse().unwrap(),
        vm: "vm-0.alice.koding".parse().unwrap(),
        way: RecordingWay::Direct,
        began: time::macros::datetime!(2026-11-23 07:10:22 UTC),
    }
}

/// What was told to be missing.
type Told = Arc<Mutex<Vec<String>>>;

fn begin(recorder: &Recorder, told: &Told) -> Recording {
    let told = told.clone();
    recorder.begin(about("alice"), 80, 24, move |_, why| lock(&told).push(why.to_owned())).unwrap()
}

/// The events of a file: the sort and the words of each.
fn events(recorder: &Recorder, name: &str) -> Vec<(String, String)> {
    let opened = recorder.read(name).unwrap().unwrap();
    let text = fs::read_to_string(opened.path).unwrap();
    assert!(text.ends_with('\n') && opened.whole == text.len() as u64);
    let mut lines = text.lines();
    let header: serde_json::Value = serde_json::from_str(lines.next().unwrap()).unwrap();
    assert_eq!(header["version"], 2);
    let event = |line| serde_json::from_str::<(f64, String, String)>(line).unwrap();
    lines.map(event).map(|(_, kind, words)| (kind, words)).collect()
}

fn state(recorder: &Recorder, name: &str) -> RecordingState {
    recorder.list().unwrap().into_iter().find(|info| info.name == name).unwrap().state
}

#[tokio::test]
async fn what_appears_is_in_a_file_that_nobody_else_reads() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let within = folder.path().join("recordings");
    let recorder = Recorder::open(&within, LIMITS).unwrap();
    let told = Told::default();
    let mut recording = begin(&recorder, &told);
    let name = recording.name().to_owned();
    assert!(name.starts_with("20261123T071022Z_alice_vm-0.alice.koding_direct_"), "{name}");
    recording.output(b"sm\xc3");
    recording.output(b"\xb8r\r\n");
    recording.resized(100, 30);
    drop(recording);
    recorder.close().await;
    let expected = [("o", "sm"), ("o", "ør\r\n"), ("r", "100x30"), ("m", WHOLE)];
    assert_eq!(events(&recorder, &name), expected.map(|(kind, words)| (kind.to_owned(), words.to_owned())));
    assert_eq!(state(&recorder, &name), RecordingState::Complete);
    assert_eq!(*lock(&told), [""; 0]);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&within), mode(&within.join(&name))), (0o700, 0o600));
    assert!(recorder.begin(about("bob"), 80, 24, |_, _| ()).is_none(), "it is closed");
}

#[tokio::test]
async fn what_is_under_way_says_so_and_what_a_crash_has_left_is_incomplete() {
    let folder = tempfile::tempdir().unwrap();
    let recorder = Recorder::open(folder.path(), LIMITS).unwrap();
    let recording = begin(&recorder, &Told::default());
    let name = recording.name().to_owned();
    let crashed = "20200101T000000Z_bob_vm-0.alice.koding_web_00000001.cast";
    fs::write(folder.path().join(crashed), "{\"version\":2}\n[0.1,\"o\",\"x\"]\n[0.2,\"o\",\"cu").unwrap();
    fs::write(folder.path().join("notes.txt"), "not a recording").unwrap();
    // The writer may not have made it yet.
    while recorder.list().unwrap().len() < 2 {
        tokio::task::yield_now().await;
    }
    let all = recorder.list().unwrap();
    let states: Vec<_> = all.iter().map(|info| (info.name.as_str(), info.state)).collect();
    assert_eq!(states, [(name.as_str(), RecordingState::UnderWay), (crashed, RecordingState::Incomplete)]);
    assert_eq!(recorder.read(crashed).unwrap().unwrap().whole, 28, "up to its last whole line");
    for wrong in ["notes.txt", "../x", "20200101T000000Z_bob_vm-0.alice.koding_web_00000002.cast"] {
        assert!(recorder.read(wrong).unwrap().is_none(), "{wrong}");
    }
    assert_eq!(recorder.remove(crashed).unwrap().unwrap().name, crashed);
    assert!(recorder.remove(crashed).unwrap().is_none());
    drop(recording);
    recorder.close().await;
}

#[tokio::test]
async fn one_that_is_too_large_is_cut_and_said_to_be() {
    let folder = tempfile::tempdir().unwrap();
    let recorder = Recorder::open(folder.path(), Limits { each: 10_000, all: 1 << 20 }).unwrap();
    let told = Told::default();
    let mut recording = begin(&recorder, &told);
    let name = recording.name().to_owned();
    for _ in 0..1000 {
        recording.output(&[b'y'; 100]);
    }
    drop(recording);
    recorder.close().await;
    assert_eq!(*lock(&told), ["it is as large as one may be"]);
    assert_eq!(state(&recorder, &name), RecordingState::Incomplete);
    assert!(events(&recorder, &name).len() > 50);
    assert!(recorder.list().unwrap()[0].bytes <= 10_000);
}

#[tokio::test]
async fn the_oldest_go_when_there_is_no_room_and_never_one_that_is_under_way() {
    let folder = tempfile::tempdir().unwrap();
    let old = "20200101T000000Z_bob_vm-0.alice.koding_web_00000001.cast";
    let older = "20190101T000000Z_bob_vm-0.alice.koding_web_00000001.cast";
    for name in [old, older] {
        fs::write(folder.path().join(name), vec![b'x'; 40_000]).unwrap();
    }
    let recorder = Recorder::open(folder.path(), Limits { each: 1 << 20, all: 100_000 }).unwrap();
    let told = Told::default();
    let mut recording = begin(&recorder, &told);
    for _ in 0..40 {
        recording.output(&[b'y'; 1000]);
    }
    drop(recording);
    let mut second = begin(&recorder, &told);
    let name = second.name().to_owned();
    for _ in 0..200 {
        second.output(&[b'y'; 1000]);
    }
    drop(second);
    recorder.close().await;
    assert_eq!(*lock(&told), ["all recordings together are as large as they may be"]);
    let left: Vec<String> = recorder.list().unwrap().into_iter().map(|info| info.name).collect();
    assert_eq!(left, [name], "the others went for it, and it did not go for itself");
}

/// A disk that does what a test says.
#[derive(Clone, Default)]
struct Disk(Arc<(Mutex<DiskState>, Condvar)>);

#[derive(Default)]
struct DiskState {
    hangs: bool,
    room: Option<usize>,
    written: Vec<u8>,
}

impl Disk {
    fn recorder(&self, folder: &Path) -> Recorder {
        let disk = self.clone();
        Recorder::open_with(folder, LIMITS, move |_, _| Ok(Box::new(disk.clone()))).unwrap()
    }

    fn set(&self, hangs: bool, room: Option<usize>) {
        let (state, changed) = &*self.0;
        let mut state = lock(state);
        (state.hangs, state.room) = (hangs, room);
        changed.notify_all();
    }
}

impl Sink for Disk {
    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let (state, changed) = &*self.0;
        let mut state = changed.wait_while(lock(state), |state| state.hangs).unwrap();
        let fits = state.room.unwrap_or(usize::MAX).min(line.len());
        state.written.extend_from_slice(&line[..fits]);
        state.room = state.room.map(|room| room - fits);
        if fits < line.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        lock(&self.0.0).written.truncate(usize::try_from(length).unwrap());
        Ok(())
    }
}

async fn all_taken(recorder: &Recorder) {
    while recorder.shared.waiting.load(Ordering::Relaxed) > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_full_disk_breaks_no_session_and_leaves_whole_lines() {
    let (folder, disk, told) = (tempfile::tempdir().unwrap(), Disk::default(), Told::default());
    let recorder = disk.recorder(folder.path());
    disk.set(false, Some(500));
    let mut recording = begin(&recorder, &told);
    for _ in 0..100 {
        recording.output(b"something appears");
    }
    drop(recording);
    // The next one, as long as there is no room.
    drop(begin(&recorder, &told));
    all_taken(&recorder).await;
    disk.set(false, None);
    drop(begin(&recorder, &told));
    recorder.close().await;
    let told = lock(&told);
    assert_eq!(told.len(), 2, "{told:?}");
    let written = String::from_utf8(lock(&disk.0.0).written.clone()).unwrap();
    assert!(written.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()), "{written}");
}

#[tokio::test]
async fn a_disk_that_hangs_holds_nobody_up_and_what_is_missing_is_marked() {
    let (folder, disk, told) = (tempfile::tempdir().unwrap(), Disk::default(), Told::default());
    let recorder = disk.recorder(folder.path());
    disk.set(true, None);
    let mut recording = begin(&recorder, &told);
    let mut another = begin(&recorder, &told);
    // Much more than may wait.
    for _ in 0..1000 {
        recording.output(&[b'y'; 32 * 1024]);
    }
    assert!(recorder.shared.waiting.load(Ordering::Relaxed) <= 2 * WAITING, "what waits is bounded");
    another.output(b"it has room of its own");
    disk.set(false, None);
    all_taken(&recorder).await;
    recording.output(b"back");
    drop((recording, another));
    recorder.close().await;
    assert_eq!(recorder.shared.waiting.load(Ordering::Relaxed), 0);
    let written = String::from_utf8(lock(&disk.0.0).written.clone()).unwrap();
    assert!(written.contains("bytes are missing here: the disk was too slow\"]\n"), "marked where it is");
    assert!(written.contains("\"back\"") && written.contains("it has room of its own"));
    let told = lock(&told);
    assert!(told.len() == 1 && told[0].ends_with("bytes are missing, as the disk was too slow"), "{told:?}");
}
