//! A connection that gives up on clients that neither send nor read.
//!
//! hyper bounds the time of a request's head, but only once it knows which protocol is spoken; and nothing bounds how
//! long a client may leave a response unread. Both hold a connection, and with it a place of `max_connections`.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// How an HTTP/2 connection begins (RFC 9113, 3.4). hyper reads as long as what comes may still become this.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How long a client may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// Until the protocol is known.
    pub(super) opening: Duration,
    /// Between two steps of sending.
    pub(super) write: Duration,
}

/// A stream with [`Patience`].
#[derive(Debug)]
pub(super) struct PatientIo<I> {
    io: I,
    /// Bytes of the preface that have come, and when the rest must have; `None` once the protocol is known.
    opening: Option<(usize, Pin<Box<Sleep>>)>,
    patience: Patience,
    /// Runs while a write waits.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<I> PatientIo<I> {
    pub(super) fn new(io: I, patience: Patience) -> Self {
        let opening = Some((0, Box::pin(tokio::time::sleep(patience.opening))));
        Self { io, opening, patience, stalled: None }
    }

    /// Notes what was read while the protocol was not known.
    fn opened(&mut self, read: &[u8]) {
        let Some((seen, _)) = &mut self.opening else { return };
        let rest = &HTTP2_PREFACE[*seen..];
        *seen += read.len();
        if read.is_empty() || !rest.starts_with(read) || *seen == HTTP2_PREFACE.len() {
            self.opening = None;
        }
    }

    /// Ends a write that has waited too long.
    fn watch<T>(&mut self, context: &mut Context<'_>, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.stalled = None;
            return outcome;
        }
        let until = Instant::now() + self.patience.write;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        stalled.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for PatientIo<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut self.io).poll_read(context, buffer);
        match (&outcome, &mut self.opening) {
            (Poll::Ready(_), Some(_)) => self.opened(&buffer.filled()[before..]),
            (Poll::Pending, Some((_, until))) => {
                return until.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()));
            }
            (_, None) => {}
        }
        outcome
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for PatientIo<I> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.io).poll_write(context, bytes);
        self.watch(context, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.io).poll_write_vectored(context, slices);
        self.watch(context, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.io).poll_flush(context);
        self.watch(context, outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.io).poll_shutdown(context);
        self.watch(context, outcome)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    use super::*;

    const LONG: Duration = Duration::from_secs(3600);
    const SHORT: Duration = Duration::from_millis(5);

    fn pair(opening: Duration, write: Duration) -> (DuplexStream, PatientIo<DuplexStream>) {
        let (client, server) = tokio::io::duplex(64);
        (client, PatientIo::new(server, Patience { opening, write }))
    }

    #[tokio::test]
    async fn a_client_that_leaves_the_protocol_open_is_given_up() {
        for sent in [&b""[..], b"P", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r"] {
            let (mut client, mut server) = pair(SHORT, LONG);
            client.write_all(sent).await.unwrap();
            let error = server.read_exact(&mut [0; 64]).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{sent:?}");
        }
    }

    #[tokio::test]
    async fn a_known_protocol_is_left_to_hyper() {
        for sent in [&b"G"[..], b"POST", HTTP2_PREFACE] {
            let (mut client, mut server) = pair(LONG, LONG);
            for byte in sent {
                client.write_all(&[*byte]).await.unwrap();
                server.read_exact(&mut [0]).await.unwrap();
            }
            assert!(server.opening.is_none(), "{sent:?}");
        }
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_is_given_up() {
        let (_client, mut server) = pair(LONG, SHORT);
        let error = server.write_all(&[0; 1024]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_client_that_reads_gets_everything() {
        let (mut client, mut server) = pair(LONG, LONG);
        let mut received = vec![0; 1024];
        let (written, read) = tokio::join!(server.write_all(&[7; 1024]), client.read_exact(&mut received));
        written.unwrap();
        read.unwrap();
        assert!(received.iter().all(|byte| *byte == 7) && server.stalled.is_none());
    }
}
