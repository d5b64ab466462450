//! A server that stops at a point of its work and says so.

use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

use super::PATIENCE;

/// Hears when a server has reached its point.
pub(crate) struct Held(TcpListener);

impl Held {
    /// Where a server is to report, with the settings that make it stop at `point`.
    pub(crate) async fn at(point: &str) -> (Self, [(&'static str, String); 2]) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        (Self(listener), [("RAG_TEST_HOLD", point.to_owned()), ("RAG_TEST_HOLD_ADDRESS", address)])
    }

    /// Waits until the point is reached; its name.
    pub(crate) async fn wait(&self) -> String {
        let accepted = tokio::time::timeout(PATIENCE, self.0.accept()).await.expect("the point is reached");
        let (mut stream, _) = accepted.unwrap();
        let mut point = String::new();
        stream.read_to_string(&mut point).await.unwrap();
        point
    }
}
