//! The network as its users see it, with a guest in the same process.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that panics has failed")]

mod guest;
mod lifecycle;
mod sleep;
mod streams;
