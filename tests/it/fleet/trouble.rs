//! Each thing that replicas share is refused, hung, slowed and reset in turn, under load: the stated degraded mode, no
//! pile-up, and all as before once it is back.

use futures::StreamExt;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::fleet::Fleet;
use crate::support::proxy::{Proxy, Trouble};
use crate::support::{PATIENCE, TestApp, eventually};

const TROUBLES: [Trouble; 4] = [Trouble::Refused, Trouble::Hung, Trouble::Slow, Trouble::Reset];
/// Requests under way at once, and how many in all for each trouble.
const CLIENTS: usize = 8;
const REQUESTS: usize = 40;

/// A fleet's setting whose URL leads through a proxy.
struct Troubled {
    fleet: Fleet,
    proxy: Proxy,
    app: TestApp,
}

impl Troubled {
    async fn start(setting: &'static str) -> Self {
        let mut fleet = Fleet::start().await;
        let proxy = fleet.lead_through_a_proxy(setting).await;
        let app = fleet.app(&[("RAG_REPLICAS", "1")]).await;
        let document = json!({ "text": "Invoices are kept for ten years.", "document_id": "retention" });
        app.index(&app.admin_key, &document).await;
        Self { fleet, proxy, app }
    }

    /// Statuses and bodies of questions that clients ask at once, and `/health` in between.
    async fn load(&self) -> Vec<(u16, Value)> {
        let ask = async |n: usize| {
            if n.is_multiple_of(CLIENTS) {
                assert_eq!(self.app.get("", "/health").await.0, 200);
            }
            // Another question each time: the cache has none of them.
            let body = json!({ "query": format!("How long are invoices of the year {n} kept?") });
            let answer = self.app.post(&self.app.admin_key, "/v1/query", &body);
            tokio::time::timeout(PATIENCE, answer).await.expect("an answer")
        };
        let asked = futures::stream::iter(0..REQUESTS).map(ask).buffer_unordered(CLIENTS);
        asked.collect().await
    }

    /// It is as it was, by itself.
    async fn recovers(&self) {
        self.proxy.trouble(Trouble::None);
        eventually("all is as before", || async {
            let body = json!({ "query": "How long are invoices kept?" });
            let (status, answer) = self.app.post(&self.app.admin_key, "/v1/query", &body).await;
            status == 200 && answer["cached"] == true && answer["degraded"] == json!([])
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_questions_are_answered_uncached() {
    let troubled = Troubled::start("RAG_REDIS_URL").await;
    troubled.recovers().await;
    for trouble in TROUBLES {
        troubled.proxy.trouble(trouble);
        for (status, answer) in troubled.load().await {
            assert_eq!((status, &answer["answerable"]), (200, &json!(true)), "{trouble:?}: {answer}");
            assert_eq!(answer["degraded"], json!(["cache"]), "{trouble:?}");
        }
        troubled.recovers().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_vector_store_questions_say_so_and_its_breaker_opens() {
    let troubled = Troubled::start("RAG_VECTOR_DB_URL").await;
    for trouble in [Trouble::Refused, Trouble::Hung] {
        troubled.proxy.trouble(trouble);
        let answers = troubled.load().await;
        let failed = answers.iter().filter(|(status, _)| *status == 503);
        for (_, answer) in failed.clone() {
            assert_eq!(answer["code"], "retrieval_failed", "{trouble:?}: {answer}");
        }
        assert_eq!(failed.count(), answers.len(), "{trouble:?}: {answers:?}");
        let metrics = troubled.app.metrics().await;
        assert!(metrics.contains("rag_breaker_state{breaker=\"vector_store\"} 2"), "{trouble:?}");
        troubled.recovers().await;
    }
    assert!(!troubled.fleet.qdrant.calls("query_batch").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_database_requests_are_refused_and_nothing_is_lost() {
    let troubled = Troubled::start("RAG_DATABASE_URL").await;
    for trouble in [Trouble::Refused, Trouble::Reset] {
        troubled.proxy.trouble(trouble);
        for (status, answer) in troubled.load().await {
            assert!([503, 504].contains(&status), "{trouble:?}: {status} {answer}");
        }
        troubled.recovers().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_bucket_questions_are_answered_and_uploads_refused() {
    let troubled = Troubled::start("RAG_STORAGE_URL").await;
    for trouble in [Trouble::Refused, Trouble::Reset] {
        troubled.proxy.trouble(trouble);
        for (status, answer) in troubled.load().await {
            assert_eq!((status, &answer["answerable"]), (200, &json!(true)), "{trouble:?}: {answer}");
        }
        let app = &troubled.app;
        let document = json!({ "text": "Receipts are kept for two years." });
        let (status, answer) = app.send(&app.admin_key, Method::PUT, "/v1/documents/receipts", &document).await;
        assert_eq!(status, 503, "{trouble:?}: {answer}");
        assert_eq!(app.get(&app.admin_key, "/v1/documents/receipts").await.0, 404, "it was not acknowledged");
        troubled.recovers().await;
        let (status, answer) = app.send(&app.admin_key, Method::PUT, "/v1/documents/receipts", &document).await;
        assert_eq!(status, 202, "{answer}");
        assert_eq!(app.send(&app.admin_key, Method::DELETE, "/v1/documents/receipts", &Value::Null).await.0, 204);
    }
}
