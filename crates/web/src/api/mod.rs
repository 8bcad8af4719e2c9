//! `/api/v1`: what people do on the pages, for programs that come with a token.
//!
//! ```text
//!   guard ──► gate: whose token, is it for this? ──► call: path, query, body ──► control.acting(…) ──► reply
//!   table ──► the router's rows ──► document (OpenAPI 3.1) ──► reference (the page)
//! ```
//!
//! An operation is one row of [`table`], and one function whose types are what the document says of it. What they look
//! like as JSON is in [`shapes`], and is kept as it is while control's own types change.

pub(crate) mod call;
pub(crate) mod document;
pub(crate) mod gate;
pub(crate) mod operation;
pub(crate) mod reference;
pub(crate) mod refusal;
pub(crate) mod reply;
pub(crate) mod shapes;
pub(crate) mod table;

mod account;
mod accounts;
mod audit;
mod invitations;
mod keys;
mod shares;
mod team_cas;
mod team_vms;
mod vms;

pub(crate) use refusal::Refusal;
