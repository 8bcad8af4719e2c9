//! Beginning a recording, telling it what happens, and looking at what there is.

use std::{
    collections::HashSet,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread,
};

use berth_model::{AccountName, VmName};
use time::OffsetDateTime;
use tokio::sync::{mpsc, oneshot};

use crate::{
    cast::Cast,
    shelf::{self, Name, Opened, RecordingInfo, RecordingState, RecordingWay, WHOLE},
    writer::{Begin, Job, Sink, Writer},
};

/// Bytes of one recording, and of all of them, that wait to be written.
const WAITING: usize = 1 << 20;
const WAITING_ALL: usize = 16 << 20;
/// Lines that wait, and recordings that are under way: each has a place for its last line.
const JOBS: usize = 8192;

/// How large recordings may be, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// One of them. What comes after that is not recorded.
    pub each: u64,
    /// All together. The oldest go first.
    pub all: u64,
}

/// What is recorded.
#[derive(Debug, Clone)]
pub struct About {
    /// Whose session.
    pub account: AccountName,
    /// In which VM.
    pub vm: VmName,
    /// By which way.
    pub way: RecordingWay,
    /// When it begins.
    pub began: OffsetDateTime,
}

/// Who is told, at most once, that something of a recording is missing: its name, and why, a clause without a full stop.
pub(crate) type Missing = Box<dyn FnOnce(&str, &str) + Send>;

/// The recordings of an installation. Clones are the same.
#[derive(Clone)]
pub struct Recorder {
    shared: Arc<Shared>,
}

struct Shared {
    folder: PathBuf,
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    waiting: Arc<AtomicUsize>,
    ids: AtomicU64,
    under_way: Arc<Mutex<HashSet<String>>>,
    done: Mutex<Option<oneshot::Receiver<()>>>,
}

impl Recorder {
    /// Records into this folder, which is made where there is none.
    ///
    /// # Errors
    /// The folder cannot be made, or the thread.
    pub fn open(folder: &Path, limits: Limits) -> io::Result<Self> {
        Self::open_with(folder, limits, |folder, name| {
            shelf::create(folder, name).map(|file| Box::new(file) as Box<dyn Sink>)
        })
    }

    pub(crate) fn open_with(
        folder: &Path,
        limits: Limits,
        create: impl FnMut(&Path, &str) -> io::Result<Box<dyn Sink>> + Send + 'static,
    ) -> io::Result<Self> {
        shelf::make(folder)?;
        let (jobs, queue) = mpsc::channel(JOBS);
        let (end, done) = oneshot::channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let writer = Writer::new(folder.to_owned(), limits, waiting.clone(), create);
        thread::Builder::new().name("recordings".to_owned()).spawn(move || {
            writer.run(queue);
            let _nobody_waits = end.send(());
        })?;
        let shared = Shared {
            folder: folder.to_owned(),
            jobs: Mutex::new(Some(jobs)),
            waiting,
            ids: AtomicU64::new(0),
            under_way: Arc::default(),
            done: Mutex::new(Some(done)),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Begins one. `missing` is told, once and from another thread, where something of it is not written. `None` where as many
    /// are under way as can be.
    #[must_use]
    pub fn begin(
        &self,
        about: About,
        columns: u16,
        rows: u16,
        missing: impl FnOnce(&str, &str) + Send + 'static,
    ) -> Option<Recording> {
        let jobs = lock(&self.shared.jobs).clone()?;
        let last = jobs.clone().try_reserve_owned().ok()?;
        let About { account, vm, way, began } = about;
        let title = format!("{account} in {vm}");
        let name = Name { began, account, vm, way, number: rand::random() }.file_name();
        let header = Cast::header(&title, columns, rows, began);
        let id = self.shared.ids.fetch_add(1, Ordering::Relaxed);
        let (cut, waiting) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(header.len())));
        let (bytes, missing) = (header.len(), Box::new(missing));
        lock(&self.shared.under_way).insert(name.clone());
        let under_way = UnderWay { name: name.clone(), all: self.shared.under_way.clone() };
        let begin = Begin { id, under_way, header, cut: cut.clone(), waiting: waiting.clone(), missing };
        self.shared.waiting.fetch_add(bytes, Ordering::Relaxed);
        if jobs.try_send(Job::Begin(Box::new(begin))).is_err() {
            self.shared.waiting.fetch_sub(bytes, Ordering::Relaxed);
            return None;
        }
        let all_waiting = self.shared.waiting.clone();
        Some(Recording {
            id,
            name,
            cast: Cast::new(),
            jobs,
            last: Some(last),
            cut,
            waiting,
            all_waiting,
            gap: 0,
            lost: 0,
        })
    }

    /// All of them, the latest first. Reads the folder: not for a thread that others wait for.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn list(&self) -> io::Result<Vec<RecordingInfo>> {
        let mut all = shelf::names(&self.shared.folder)?;
        all.reverse();
        Ok(all
            .into_iter()
            .map(|(name, bytes)| self.state(shelf::info(&self.shared.folder, &name, bytes)))
            .collect())
    }

    /// Opens one; `None` where there is none of this name.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn read(&self, name: &str) -> io::Result<Option<Opened>> {
        let Some(name) = Name::parse(name) else { return Ok(None) };
        match shelf::open(&self.shared.folder, &name) {
            Ok(opened) => Ok(Some(Opened { info: self.state(opened.info), ..opened })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes one; what it was, or `None` where there is none of this name. What is under way is written on to nowhere.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn remove(&self, name: &str) -> io::Result<Option<RecordingInfo>> {
        let Some(opened) = self.read(name)? else { return Ok(None) };
        std::fs::remove_file(&opened.path)?;
        Ok(Some(opened.info))
    }

    /// Waits until all is written of recordings that have ended, and records no more. Those that are under way are waited
    /// for.
    pub async fn close(&self) {
        drop(lock(&self.shared.jobs).take());
        let done = lock(&self.shared.done).take();
        if let Some(done) = done {
            let _the_thread_is_gone = done.await;
        }
    }

    fn state(&self, info: RecordingInfo) -> RecordingInfo {
        let under_way = lock(&self.shared.under_way).contains(&info.name);
        let state = if under_way { RecordingState::UnderWay } else { info.state };
        RecordingInfo { state, ..info }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The name of a recording among those that are under way: until its last line is written.
pub(crate) struct UnderWay {
    pub(crate) name: String,
    all: Arc<Mutex<HashSet<String>>>,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        lock(&self.all).remove(&self.name);
    }
}

/// A recording that is under way. Ends when it is dropped. Nothing here waits.
pub struct Recording {
    id: u64,
    name: String,
    cast: Cast,
    jobs: mpsc::Sender<Job>,
    /// The place of its last line.
    last: Option<mpsc::OwnedPermit<Job>>,
    cut: Arc<AtomicBool>,
    waiting: Arc<AtomicUsize>,
    all_waiting: Arc<AtomicUsize>,
    /// Bytes that appeared and were left out since the last line.
    gap: usize,
    /// The same from the beginning.
    lost: usize,
}

impl Recording {
    /// What names it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// This has appeared on the terminal.
    pub fn output(&mut self, data: &[u8]) {
        if self.cut.load(Ordering::Relaxed) {
            return;
        }
        if self.gap > 0 {
            let words = format!("{} bytes are missing here: the disk was too slow", self.gap);
            let line = self.cast.mark(&words);
            if self.put(line) {
                self.gap = 0;
            }
        }
        if self.gap > 0 {
            return self.leave_out(data.len());
        }
        if let Some(line) = self.cast.output(data)
            && !self.put(line)
        {
            self.leave_out(data.len());
        }
    }

    /// The terminal has another size.
    pub fn resized(&mut self, columns: u16, rows: u16) {
        let line = self.cast.resized(columns, rows);
        // What follows is drawn for this size, and without it looks odd at worst.
        let _left_out = !self.cut.load(Ordering::Relaxed) && self.put(line);
    }

    fn leave_out(&mut self, bytes: usize) {
        self.cast.forget();
        self.gap += bytes;
        self.lost += bytes;
    }

    /// Whether the line is on its way.
    fn put(&self, line: Vec<u8>) -> bool {
        let bytes = line.len();
        let fits = self.waiting.load(Ordering::Relaxed) + bytes <= WAITING
            && self.all_waiting.load(Ordering::Relaxed) + bytes <= WAITING_ALL;
        if !fits {
            return false;
        }
        self.count(bytes);
        let sent = self.jobs.try_send(Job::Line { id: self.id, line }).is_ok();
        if !sent {
            self.waiting.fetch_sub(bytes, Ordering::Relaxed);
            self.all_waiting.fetch_sub(bytes, Ordering::Relaxed);
        }
        sent
    }

    fn count(&self, bytes: usize) {
        self.waiting.fetch_add(bytes, Ordering::Relaxed);
        self.all_waiting.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        let (words, missing) = match self.lost {
            0 => (WHOLE.to_owned(), None),
            lost => {
                let what = format!("{lost} bytes are missing, as the disk was too slow");
                (format!("{WHOLE}: {what}"), Some(what))
            }
        };
        let line = self.cast.mark(&words);
        self.count(line.len());
        if let Some(last) = self.last.take() {
            last.send(Job::End { id: self.id, line, missing });
        }
    }
}

#[cfg(test)]
mod tests;
