//! `/ops/connections`: who is connected to what, now.

use askama::Template;
use axum::{http::StatusCode, response::Response};
use berth_control::ConnectionInfo;

use crate::{
    asked::Query,
    frame::{Frame, Here},
    problem::Problem,
    visitor::Operator,
    words::{self, Moment, size},
};

/// So many are shown at once; the search finds the others.
const SHOWN: usize = 200;

#[derive(Template)]
#[template(path = "ops_connections.html")]
struct Page {
    frame: Frame,
    query: String,
    connections: Vec<Connection>,
    count: usize,
}

struct Connection {
    by: String,
    from: String,
    vm: String,
    port: u16,
    since: Moment,
    sent: String,
    received: String,
    bytes: String,
}

impl From<ConnectionInfo> for Connection {
    fn from(info: ConnectionInfo) -> Self {
        Self {
            by: info.by,
            from: info.from.to_string(),
            vm: info.vm.to_string(),
            port: info.port,
            since: Moment::new(info.since),
            sent: size(info.sent),
            received: size(info.received),
            bytes: format!("{} bytes in, {} bytes out", info.sent, info.received),
        }
    }
}

pub(crate) async fn show(Operator(member): Operator, query: Query) -> Result<Response, Problem> {
    let query = query.search().to_lowercase();
    let (found, count) = member.acting.connections(&query, SHOWN)?;
    let page = Page {
        frame: Frame::new(&member.visitor, Here::Ops("connections")),
        query,
        connections: found.into_iter().map(Connection::from).collect(),
        count,
    };
    words::show(StatusCode::OK, &page)
}
