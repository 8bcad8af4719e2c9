//! Connections that change from HTTP to another protocol, as WebSockets do (RFC 6455): bytes both ways from then on.

use axum::{
    body::Body,
    http::{
        HeaderValue,
        header::{CONNECTION, UPGRADE},
        request::Parts,
    },
    response::Response,
};
use berth_control::SiteEntry;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional_with_sizes;
use tokio_util::sync::CancellationToken;

use super::{
    carry::{Answer, may_upgrade},
    fields,
    kept::Connection,
    room::Place,
};
use crate::{host::VmHost, listen::Carrier};

/// What is on its way in each direction, at the most.
const BUFFER: usize = 16 * 1024;

/// A request that asks to change the protocol, on a connection that can.
pub(super) struct Upgrading {
    protocol: HeaderValue,
    visitor: OnUpgrade,
    carrier: Carrier,
}

impl Upgrading {
    /// Takes what is needed out of a request; `None` for one that does not ask.
    pub(super) fn of(parts: &mut Parts) -> Option<Self> {
        let protocol = fields::protocol(&parts.headers).filter(|_| may_upgrade(parts))?;
        let carrier = parts.extensions.get::<Carrier>()?.clone();
        Some(Self { protocol, visitor: parts.extensions.remove()?, carrier })
    }

    pub(super) fn protocol(&self) -> &HeaderValue {
        &self.protocol
    }

    /// Passes the VM's consent on. The two ends are joined when the visitor has it, until either of them ends, the server
    /// stops, or the visitor may see the site no longer.
    pub(super) fn answer(
        self,
        mut answer: Answer,
        host: &VmHost,
        held: (Connection, Place),
        entry: SiteEntry,
        stop: CancellationToken,
    ) -> Response {
        let Self { protocol, visitor, carrier } = self;
        let vm = hyper::upgrade::on(&mut answer);
        carrier.go_on(async move {
            let _held = held;
            let joined = async {
                let (visitor, vm) = tokio::try_join!(visitor, vm)?;
                let (mut visitor, mut vm) = (TokioIo::new(visitor), TokioIo::new(vm));
                // How it ended is the business of both ends, who know.
                let _ended = copy_bidirectional_with_sizes(&mut visitor, &mut vm, BUFFER, BUFFER).await;
                Ok::<_, hyper::Error>(())
            };
            tokio::select! {
                joined = joined => if let Err(error) = joined {
                    tracing::debug!(%error, "a connection did not change its protocol");
                },
                () = stop.cancelled() => {}
                () = entry.ended() => {}
            }
        });
        let (head, _) = answer.into_parts();
        let mut headers = head.headers;
        let agreed = headers.get(UPGRADE).cloned().unwrap_or(protocol);
        fields::from_vm(&mut headers, &host.name);
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, agreed);
        let mut response = Response::new(Body::empty());
        *response.status_mut() = head.status;
        *response.headers_mut() = headers;
        response
    }
}
