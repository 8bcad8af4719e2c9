//! Bodies on their way: passed on as they come, one piece at a time, in either direction.
//!
//! Nothing is taken from one side before the other has taken what came before, so however large a body is, what of it is
//! here is a few buffers.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout};

use super::{
    kept::{Connection, Keep},
    room::Place,
};

/// So long is the beginning of a body waited for before anything goes to the VM: a body that is not as its header says
/// shows that at once.
const BEGINS_WITHIN: Duration = Duration::from_secs(1);
/// So long a visitor may pause in the middle of a body.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why a body ends early.
#[derive(Debug, thiserror::Error)]
pub(super) enum Cut {
    /// What came is no body.
    #[error("the body cannot be read")]
    Malformed(#[source] axum::Error),
    /// Nothing came for a long time.
    #[error("the rest of the body did not come in time")]
    Late,
}

/// When the VM last took a piece of a body.
pub(super) struct Progress(Mutex<Instant>);

impl Default for Progress {
    fn default() -> Self {
        Self(Mutex::new(Instant::now()))
    }
}

impl Progress {
    fn note(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Waits until nothing has been taken for so long.
    pub(super) async fn stalled(&self, patience: Duration) {
        loop {
            let until = *self.0.lock().unwrap_or_else(PoisonError::into_inner) + patience;
            if until <= Instant::now() {
                return;
            }
            sleep_until(until).await;
        }
    }
}

/// The body of a visitor's request.
pub(super) struct FromVisitor {
    first: Option<Frame<Bytes>>,
    rest: Body,
    /// What is still to come, where the header has said it.
    left: Option<u64>,
    progress: Arc<Progress>,
    paused: Option<Pin<Box<Sleep>>>,
}

impl FromVisitor {
    /// Waits for the beginning of a body.
    pub(super) async fn begin(mut body: Body, progress: Arc<Progress>) -> Result<Self, Cut> {
        let left = body.size_hint().exact();
        let first = if body.is_end_stream() {
            None
        } else {
            // Who sends nothing before it is answered is let through.
            match timeout(BEGINS_WITHIN, body.frame()).await {
                Ok(Some(first)) => Some(first.map_err(Cut::Malformed)?),
                Ok(None) | Err(_) => None,
            }
        };
        progress.note();
        Ok(Self { first, rest: body, left, progress, paused: None })
    }

    fn count(&mut self, frame: &Frame<Bytes>) {
        self.progress.note();
        let len = frame.data_ref().map_or(0, |data| u64::try_from(data.len()).unwrap_or(u64::MAX));
        self.left = self.left.map(|left| left.saturating_sub(len));
    }
}

impl HttpBody for FromVisitor {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        if let Some(first) = self.first.take() {
            self.count(&first);
            return Poll::Ready(Some(Ok(first)));
        }
        match Pin::new(&mut self.rest).poll_frame(context) {
            Poll::Ready(frame) => {
                self.paused = None;
                if let Some(Ok(frame)) = &frame {
                    self.count(frame);
                }
                Poll::Ready(frame.map(|frame| frame.map_err(Cut::Malformed)))
            }
            Poll::Pending => {
                let paused = self.paused.get_or_insert_with(|| Box::pin(sleep(PATIENCE)));
                ready!(paused.as_mut().poll(context));
                Poll::Ready(Some(Err(Cut::Late)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// The body of a VM's answer, and all that it needs for as long as it flows.
pub(super) struct FromVm {
    body: Incoming,
    connection: Option<Connection>,
    /// Where the connection goes when all of the body has come.
    keep: Option<Keep>,
    ended: bool,
    _place: Place,
}

impl FromVm {
    pub(super) fn new(body: Incoming, connection: Connection, keep: Option<Keep>, place: Place) -> Self {
        Self { body, connection: Some(connection), keep, ended: false, _place: place }
    }
}

impl Drop for FromVm {
    fn drop(&mut self) {
        let whole = self.ended || self.body.is_end_stream();
        if let (Some(connection), Some(keep), true) = (self.connection.take(), self.keep.take(), whole) {
            keep.put(connection);
        }
    }
}

impl HttpBody for FromVm {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        match &frame {
            Some(Ok(_)) => {}
            None => self.ended = true,
            Some(Err(_)) => self.keep = None,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::{StreamExt, TryStreamExt, stream};

    async fn begin(body: Body) -> Result<FromVisitor, Cut> {
        FromVisitor::begin(body, Arc::default()).await
    }

    fn body(pieces: Vec<Result<&'static str, &'static str>>, then_silent: bool) -> Body {
        let pieces = stream::iter(pieces).map_ok(Bytes::from).map_err(std::io::Error::other);
        if then_silent {
            Body::from_stream(pieces.chain(stream::pending()))
        } else {
            Body::from_stream(pieces)
        }
    }

    #[tokio::test]
    async fn a_body_comes_through_as_it_is() {
        let body = begin(body(vec![Ok("one "), Ok("two")], false)).await.unwrap();
        assert_eq!(body.collect().await.unwrap().to_bytes(), "one two");
        let mut known = begin(Body::from("twelve bytes")).await.unwrap();
        assert_eq!(known.size_hint().exact(), Some(12));
        known.frame().await.unwrap().unwrap();
        assert_eq!(known.size_hint().exact(), Some(0));
        let none = begin(Body::empty()).await.unwrap();
        assert!(none.is_end_stream());
        assert_eq!(none.size_hint().exact(), Some(0));
    }

    #[tokio::test]
    async fn a_body_that_is_none_shows_before_anything_is_sent() {
        assert!(matches!(begin(body(vec![Err("bad")], false)).await, Err(Cut::Malformed(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_visitor_who_stops_in_the_middle_is_given_up() {
        let mut body = begin(body(vec![Ok("half")], true)).await.unwrap();
        body.frame().await.unwrap().unwrap();
        let begun = tokio::time::Instant::now();
        assert!(matches!(body.frame().await, Some(Err(Cut::Late))));
        assert_eq!(begun.elapsed(), PATIENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn one_who_waits_for_an_answer_first_is_let_through() {
        let begun = tokio::time::Instant::now();
        let body = begin(body(vec![], true)).await.unwrap();
        assert_eq!(begun.elapsed(), BEGINS_WITHIN);
        assert!(!body.is_end_stream());
    }
}
