//! Bodies: bounded on the way in, guarded on the way out.

use std::error::Error as StdError;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::{Body, Bytes, HttpBody};
use http_body_util::BodyExt;
use hyper::body::{Frame, SizeHint};
use tower_http::timeout::TimeoutError;

use crate::http::problem::Refusal;

/// A body that keeps something alive until it has been sent or dropped.
#[derive(Debug)]
pub(super) struct Guarded<G> {
    body: Body,
    _guard: G,
}

impl<G> Guarded<G> {
    pub(super) fn new(body: Body, guard: G) -> Self {
        Self { body, _guard: guard }
    }
}

impl<G: Unpin> HttpBody for Guarded<G> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A request body that errs past `limit` bytes.
///
/// It errs only at the end of the body (or after [`BoundedBody::DRAIN`] times the limit): a client that is still
/// sending when its connection closes sees a reset connection instead of the answer.
#[derive(Debug)]
pub(super) struct BoundedBody {
    body: Body,
    limit: u64,
    seen: u64,
}

/// The body was over its limit, in bytes.
#[derive(Debug, thiserror::Error)]
#[error("the body is larger than {0} bytes")]
pub(super) struct OverLimit(u64);

impl BoundedBody {
    /// How far past its limit a body is read and thrown away.
    const DRAIN: u64 = 4;

    pub(super) fn new(body: Body, limit: u64) -> Self {
        Self { body, limit, seen: 0 }
    }
}

impl HttpBody for BoundedBody {
    type Data = Bytes;
    type Error = Box<dyn StdError + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        loop {
            let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
            let over = self.seen > self.limit;
            let Some(frame) = frame else {
                return Poll::Ready(over.then(|| Err(OverLimit(self.limit).into())));
            };
            let frame = frame?;
            self.seen += frame.data_ref().map_or(0, |data| data.len() as u64);
            if self.seen <= self.limit {
                return Poll::Ready(Some(Ok(frame)));
            }
            if self.seen > self.limit.saturating_mul(Self::DRAIN) {
                return Poll::Ready(Some(Err(OverLimit(self.limit).into())));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.seen <= self.limit && self.body.is_end_stream()
    }
}

/// Reads a whole body of at most `limit` bytes.
pub(super) async fn read(body: Body, limit: u64) -> Result<Bytes, Refusal> {
    match BoundedBody::new(body, limit).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) => Err(refusal_for(&*error)),
    }
}

/// Why a body could not be read.
pub(super) fn refusal_for(error: &(dyn StdError + 'static)) -> Refusal {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(OverLimit(limit)) = error.downcast_ref() {
            return Refusal::BodyTooLarge(*limit);
        }
        if error.is::<TimeoutError>() {
            return Refusal::BodyTimeout;
        }
        cause = error.source();
    }
    Refusal::Malformed(format!("the body could not be read: {error}"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::stream;
    use tower_http::timeout::TimeoutBody;

    use super::*;

    fn chunked(chunks: usize) -> Body {
        Body::from_stream(stream::iter((0..chunks).map(|_| Ok::<_, std::io::Error>(Bytes::from_static(&[0; 10])))))
    }

    #[tokio::test]
    async fn a_body_up_to_the_limit_is_read() {
        assert_eq!(read(chunked(10), 100).await.unwrap().len(), 100);
    }

    #[tokio::test]
    async fn a_larger_body_is_refused() {
        for chunks in [11, 30, 1_000_000] {
            assert!(matches!(read(chunked(chunks), 100).await, Err(Refusal::BodyTooLarge(100))), "{chunks}");
        }
    }

    #[tokio::test]
    async fn a_body_that_stops_arriving_is_a_timeout() {
        let silent = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
        let body = Body::new(TimeoutBody::new(Duration::from_millis(1), silent));
        assert!(matches!(read(body, 100).await, Err(Refusal::BodyTimeout)));
    }
}
