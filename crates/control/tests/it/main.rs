//! Control with a real store in memory and the engine in memory.

mod access;
mod keys;
mod lifecycle;
#[cfg(test)]
mod world;
