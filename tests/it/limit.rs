//! Limits per key.

mod conformance;
mod redis;

use std::time::Duration;

use rag_api::limit::{Backend, Config, Quota};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn memory_is_a_limiter() {
    let quota = Quota { requests: 100, window: Duration::from_secs(3_600) };
    let config = Config { query: quota, ingest: quota, backend: Backend::Memory };
    conformance::check(&[rag_api::limit::build(&config).await.unwrap()]).await;
    assert!(rag_api::limit::build_share(&config).is_none(), "it cannot be down");
}
