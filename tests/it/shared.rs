//! The product over what replicas share: its cache and limits in Redis, its originals in a bucket.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::redis::{RedisServer, SHARED};
use crate::support::{TestApp, eventually, s3};

fn document() -> Value {
    json!({ "text": "Invoices are kept for ten years.", "document_id": "retention", "readers": ["public"] })
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_and_limits_are_in_redis_and_the_product_does_without_it() {
    let mut redis = RedisServer::start();
    let changes = [
        ("RAG_REDIS_URL", redis.url()),
        ("RAG_RATE_LIMIT_REQUESTS", "40000".to_owned()),
        ("RAG_RATE_LIMIT_WINDOW_SECONDS", "86400".to_owned()),
        ("RAG_REPLICAS", "4".to_owned()),
    ];
    let changes = changes.each_ref().map(|(name, value)| (*name, value.as_str()));
    let app = TestApp::start_with(&changes).await;
    app.index(&app.admin_key, &document()).await;
    let ask = async || {
        let body = json!({ "query": "How long are invoices kept?" });
        let request = app.request(&app.admin_key, Method::POST, "/v1/query").json(&body);
        let response = request.send().await.expect("a response");
        assert_eq!(response.status(), 200);
        let limit = response.headers()["ratelimit-limit"].to_str().expect("text").to_owned();
        (limit, response.json::<Value>().await.expect("JSON"))
    };
    assert_eq!(ask().await.1["cached"], false);
    let (limit, again) = ask().await;
    assert_eq!((limit.as_str(), &again["cached"]), ("40000", &json!(true)), "{again}");
    let keys = redis.command(&["KEYS", "rag:*"]);
    for kind in ["rag:cache:{default}/answer/", "rag:cache:{default}/embedding/", "rag:{limit}:"] {
        assert!(keys.lines().any(|key| key.starts_with(kind)), "{kind}: {keys}");
    }

    app.request(&app.admin_key, Method::DELETE, "/v1/documents/retention").send().await.expect("a response");
    assert_eq!(redis.command(&["KEYS", "rag:cache:*"]), "", "no text of what was deleted stays");
    app.index(&app.admin_key, &document()).await;

    redis.kill();
    let (limit, without) = ask().await;
    assert_eq!((limit.as_str(), &without["cached"]), ("10000", &json!(false)), "{without}");
    assert_eq!(without["degraded"], json!(["cache"]));
    // All of this process's apps have one gauge, so its value may be another's.
    assert!(app.metrics().await.contains("\nrag_limits_local "));

    redis.restart();
    eventually("limits are shared", async || ask().await.0 == "40000").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_of_a_tenant_have_one_limit() {
    let url = format!("{}/7", SHARED.url());
    let changes =
        [("RAG_REDIS_URL", url.as_str()), ("RAG_RATE_LIMIT_REQUESTS", "5"), ("RAG_RATE_LIMIT_WINDOW_SECONDS", "86400")];
    let (one, two) = (TestApp::start_with(&changes).await, TestApp::start_with(&changes).await);
    let mut statuses = Vec::new();
    for app in [&one, &two].into_iter().cycle().take(8) {
        let (status, _) = app.post(&app.admin_key, "/v1/search", &json!({ "query": "invoices" })).await;
        statuses.push(status);
    }
    assert_eq!(statuses, [200, 200, 200, 200, 200, 429, 429, 429]);
}

#[tokio::test(flavor = "multi_thread")]
async fn originals_are_in_a_bucket() {
    let bucket = s3::SHARED.make_bucket();
    let url = format!("s3://{bucket}/rag");
    let mut changes = vec![("RAG_STORAGE_URL", url.as_str())];
    let environment = s3::SHARED.environment();
    changes.extend(environment.iter().map(|(name, value)| (*name, value.as_str())));
    let app = TestApp::start_with(&changes).await;
    app.index(&app.admin_key, &document()).await;
    let stored = s3::SHARED.folder(&bucket).join("rag/default/retention");
    assert_eq!(std::fs::read_dir(&stored).expect("a folder").count(), 1);
    let content = app.request(&app.admin_key, Method::GET, "/v1/documents/retention/content").send().await;
    assert_eq!(content.expect("a response").text().await.expect("text"), "Invoices are kept for ten years.");
    let (status, found) = app.post(&app.admin_key, "/v1/search", &json!({ "query": "invoices" })).await;
    assert_eq!((status, &found["sources"][0]["document_id"]), (200, &json!("retention")), "{found}");

    let deleted = app.request(&app.admin_key, Method::DELETE, "/v1/documents/retention").send().await;
    assert!(deleted.expect("a response").status().is_success());
    let left = std::fs::read_dir(&stored).map_or(0, Iterator::count);
    assert_eq!(left, 0);
}
