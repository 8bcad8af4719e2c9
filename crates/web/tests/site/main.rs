//! The whole router in process, and the connection loop over loopback.
#![cfg(test)]

mod acme;
mod api;
mod hostile;
mod issuer;
mod listen;
mod live;
mod many;
mod metrics;
mod oidc;
mod ops;
mod pages;
mod passkeys;
mod recordings;
mod routes;
mod sharing;
mod sites;
mod sites_hostile;
mod sites_kept;
mod sites_streams;
mod terminal;
mod tls;
mod vm;
mod watching;
mod weight;
mod world;
