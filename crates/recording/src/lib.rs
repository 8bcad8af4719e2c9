//! What appears on terminals, kept as files: asciicast v2, one for each session.
//!
//! Owns the files of one folder: their names, their bounds, who goes first when there is no room. Does not own which
//! sessions are recorded, nor who may look.
//!
//! ```text
//!   session ──► Recording: lines (cast) ──► bounded queue ──► one thread (writer) ──► files (shelf)
//! ```
//!
//! A session never waits: what does not fit into the queue is left out, counted, and marked in the file. One thread
//! writes for all sessions, so that a disk that hangs holds up nothing but recordings. Each line is whole by itself, so
//! that what a power cut leaves can be read up to its last line.

mod cast;
mod recorder;
mod shelf;
mod writer;

pub use recorder::{About, Limits, Recorder, Recording};
pub use shelf::{Opened, RecordingInfo, RecordingState, RecordingWay};
