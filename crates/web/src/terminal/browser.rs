//! The page's end: a WebSocket, and whether somebody is still there.

use std::{pin::pin, time::Duration};

use axum::extract::ws::{CloseFrame, Message, close_code};
use bytes::Bytes;
use futures::{Sink, SinkExt, Stream, StreamExt};
use tokio::time::{Instant, sleep_until};

use super::wire::{FromPage, ToPage};

/// A page that says nothing is asked this often whether it is there,
const ASK_EVERY: Duration = Duration::from_secs(25);
/// and is gone when it has said nothing for so long.
const GONE_AFTER: Duration = Duration::from_secs(70);

/// A page.
pub(crate) struct Browser<S> {
    socket: S,
    heard: Instant,
    asked: Instant,
}

/// The page is gone.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Gone;

impl<S, E> Browser<S>
where
    S: Stream<Item = Result<Message, E>> + Sink<Message> + Unpin,
{
    pub(crate) fn new(socket: S) -> Self {
        let now = Instant::now();
        Self { socket, heard: now, asked: now }
    }

    /// What the page says next. Nothing is lost when the future is dropped.
    pub(crate) async fn next(&mut self) -> Result<FromPage, Gone> {
        loop {
            let ask_at = self.heard.max(self.asked) + ASK_EVERY;
            let message = tokio::select! {
                message = self.socket.next() => message.ok_or(Gone)?.map_err(|_| Gone)?,
                () = sleep_until(ask_at) => {
                    if self.heard.elapsed() >= GONE_AFTER {
                        return Err(Gone);
                    }
                    self.asked = Instant::now();
                    self.send(Message::Ping(Bytes::new())).await?;
                    continue;
                }
            };
            self.heard = Instant::now();
            if let Some(said) = FromPage::read(message).map_err(|_| Gone)? {
                return Ok(said);
            }
        }
    }

    /// Tells it something.
    pub(crate) async fn say(&mut self, word: &ToPage) -> Result<(), Gone> {
        self.send(word.message()).await
    }

    /// Shows it something.
    pub(crate) async fn show(&mut self, data: Bytes) -> Result<(), Gone> {
        self.send(Message::Binary(data)).await
    }

    /// Tells it the last word, and waits until it has heard.
    pub(crate) async fn bye(&mut self, word: &ToPage) -> Result<(), Gone> {
        self.say(word).await?;
        self.send(Message::Close(Some(CloseFrame { code: close_code::NORMAL, reason: "".into() }))).await?;
        let mut rest = pin!(&mut self.socket);
        while let Some(Ok(message)) = rest.next().await {
            if matches!(message, Message::Close(_)) {
                break;
            }
        }
        Ok(())
    }

    async fn send(&mut self, message: Message) -> Result<(), Gone> {
        self.socket.send(message).await.map_err(|_| Gone)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        pin::Pin,
        task::{Context, Poll},
    };

    use super::*;

    /// A page that hears and never says anything; after some pings it does not even do that.
    struct Mute {
        pings: usize,
        answers: usize,
        owed: bool,
    }

    impl Stream for Mute {
        type Item = Result<Message, Infallible>;

        fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
            if std::mem::take(&mut self.owed) {
                return Poll::Ready(Some(Ok(Message::Pong(Bytes::new()))));
            }
            Poll::Pending
        }
    }

    impl Sink<Message> for Mute {
        type Error = Infallible;

        fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn start_send(mut self: Pin<&mut Self>, message: Message) -> Result<(), Infallible> {
            assert_eq!(message, Message::Ping(Bytes::new()));
            self.pings += 1;
            self.owed = self.pings <= self.answers;
            Ok(())
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_page_that_answers_nothing_is_gone_soon_and_one_that_answers_is_not() {
        let began = Instant::now();
        let mut page = Browser::new(Mute { pings: 0, answers: 0, owed: false });
        assert_eq!(page.next().await, Err(Gone));
        assert!(began.elapsed() >= GONE_AFTER && began.elapsed() < GONE_AFTER + ASK_EVERY);

        let began = Instant::now();
        let mut page = Browser::new(Mute { pings: 0, answers: 1000, owed: false });
        assert_eq!(page.next().await, Err(Gone));
        assert!(began.elapsed() > ASK_EVERY * 1000);
    }
}
