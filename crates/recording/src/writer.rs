//! The thread that writes: the only one that has the files open for that.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use tokio::sync::mpsc;
use tracing::{error, info};

use crate::{
    recorder::{Limits, Missing, UnderWay},
    shelf,
};

/// What there is to do.
pub(crate) enum Job {
    Begin(Box<Begin>),
    /// A line of a recording, of which so much waits to be written.
    Line {
        id: u64,
        line: Vec<u8>,
    },
    /// The last line, and whether something is missing before it.
    End {
        id: u64,
        line: Vec<u8>,
        missing: Option<String>,
    },
}

pub(crate) struct Begin {
    pub(crate) id: u64,
    pub(crate) under_way: UnderWay,
    pub(crate) header: Vec<u8>,
    /// Set when nothing more of it is written.
    pub(crate) cut: Arc<AtomicBool>,
    /// Bytes of it that wait.
    pub(crate) waiting: Arc<AtomicUsize>,
    pub(crate) missing: Missing,
}

/// A file that is written to.
pub(crate) trait Sink: Send {
    fn write(&mut self, line: &[u8]) -> io::Result<()>;
    /// Cuts what came after so many bytes.
    fn cut(&mut self, length: u64) -> io::Result<()>;
}

impl Sink for File {
    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        self.write_all(line)
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }
}

struct Open {
    /// `None` once nothing more is written.
    sink: Option<Box<dyn Sink>>,
    under_way: UnderWay,
    size: u64,
    cut: Arc<AtomicBool>,
    waiting: Arc<AtomicUsize>,
    missing: Option<Missing>,
}

pub(crate) struct Writer<F> {
    folder: PathBuf,
    limits: Limits,
    create: F,
    open: HashMap<u64, Open>,
    /// Bytes of all recordings, as far as is known.
    used: u64,
    /// The last write failed, and that was told.
    told: bool,
    /// Bytes of all recordings that wait.
    waiting: Arc<AtomicUsize>,
}

impl<F: FnMut(&Path, &str) -> io::Result<Box<dyn Sink>>> Writer<F> {
    pub(crate) fn new(folder: PathBuf, limits: Limits, waiting: Arc<AtomicUsize>, create: F) -> Self {
        Self { folder, limits, create, open: HashMap::new(), used: 0, told: false, waiting }
    }

    /// Writes until nobody records any more.
    pub(crate) fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        self.count();
        while let Some(job) = jobs.blocking_recv() {
            self.take(job);
        }
    }

    fn take(&mut self, job: Job) {
        match job {
            Job::Begin(begin) => self.begin(*begin),
            Job::Line { id, line } => {
                self.write(id, &line);
                self.taken(id, line.len());
            }
            Job::End { id, line, missing } => {
                self.write(id, &line);
                self.taken(id, line.len());
                if let Some(mut open) = self.open.remove(&id)
                    && let (Some(what), Some(tell)) = (missing, open.missing.take())
                {
                    tell(&open.under_way.name, &what);
                }
            }
        }
    }

    fn begin(&mut self, Begin { id, under_way, header, cut, waiting, missing }: Begin) {
        let made = (self.create)(&self.folder, &under_way.name);
        let (sink, failed) = match made {
            Ok(sink) => (Some(sink), None),
            Err(error) => (None, Some(error)),
        };
        self.open.insert(id, Open { sink, under_way, size: 0, cut, waiting, missing: Some(missing) });
        match failed {
            Some(error) => self.fails(id, &error),
            None => self.write(id, &header),
        }
        self.taken(id, header.len());
    }

    fn taken(&self, id: u64, bytes: usize) {
        self.waiting.fetch_sub(bytes, Ordering::Relaxed);
        if let Some(open) = self.open.get(&id) {
            open.waiting.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    fn write(&mut self, id: u64, line: &[u8]) {
        let Some(open) = self.open.get(&id) else { return };
        if open.sink.is_none() {
            return;
        }
        let length = line.len() as u64;
        if open.size + length > self.limits.each {
            return self.stop(id, "it is as large as one may be");
        }
        if self.used + length > self.limits.all && !self.make_room(length) {
            return self.stop(id, "all recordings together are as large as they may be");
        }
        let Some(open) = self.open.get_mut(&id) else { return };
        let Some(sink) = &mut open.sink else { return };
        match sink.write(line) {
            Ok(()) => {
                open.size += length;
                self.used += length;
                self.told = false;
            }
            Err(error) => {
                // No part of a line is left where that is possible.
                let _cut = sink.cut(open.size);
                self.fails(id, &error);
            }
        }
    }

    /// The disk does not take it: told once, until it does again.
    fn fails(&mut self, id: u64, error: &io::Error) {
        if !std::mem::replace(&mut self.told, true) {
            error!(%error, folder = %self.folder.display(), "sessions are not recorded: the disk does not take it");
        }
        self.stop(id, &error.to_string());
    }

    /// Nothing more of it is written.
    fn stop(&mut self, id: u64, why: &str) {
        let Some(open) = self.open.get_mut(&id) else { return };
        open.sink = None;
        open.cut.store(true, Ordering::Relaxed);
        if let Some(tell) = open.missing.take() {
            tell(&open.under_way.name, why);
        }
    }

    /// Removes the oldest recordings whose sessions are over until there is room for so many bytes; whether there is.
    fn make_room(&mut self, length: u64) -> bool {
        // Others may have been removed by hand.
        let all = self.count();
        for (name, bytes) in all {
            if self.used + length <= self.limits.all {
                break;
            }
            let name = name.file_name();
            if self.open.values().any(|open| open.under_way.name == name) {
                continue;
            }
            match std::fs::remove_file(self.folder.join(&name)) {
                Ok(()) => {
                    info!(name, "a recording was removed, being the oldest: there is room for no more");
                    self.used = self.used.saturating_sub(bytes);
                }
                Err(error) => error!(%error, name, "a recording could not be removed"),
            }
        }
        self.used + length <= self.limits.all
    }

    /// Looks how much there is.
    fn count(&mut self) -> Vec<(shelf::Name, u64)> {
        match shelf::names(&self.folder) {
            Ok(all) => {
                self.used = all.iter().map(|(_, bytes)| bytes).sum();
                all
            }
            Err(error) => {
                error!(%error, folder = %self.folder.display(), "the recordings cannot be listed");
                vec![]
            }
        }
    }
}
