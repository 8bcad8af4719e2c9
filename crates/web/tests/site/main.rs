//! The whole router in process, and the connection loop over loopback.
#![cfg(test)]

mod hostile;
mod listen;
mod live;
mod pages;
mod routes;
mod world;
