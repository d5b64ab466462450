//! Replicas over what they share: PostgreSQL, Redis, S3 and Qdrant's protocol. Nothing that a replica remembers matters.

mod jobs;
mod restart;
mod trouble;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::fleet::Fleet;
use crate::support::{TestApp, eventually};

/// The documents that a search by this key finds on this replica.
async fn found(app: &TestApp, key: &str) -> Vec<String> {
    let (status, answer) = app.post(key, "/v1/search", &json!({ "query": "How long are invoices kept?" })).await;
    assert_eq!(status, 200, "{answer}");
    let sources = answer["sources"].as_array().expect("sources").iter();
    sources.map(|source| source["document_id"].as_str().expect("an id").to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn any_replica_works_and_answers_and_changes_hold_on_all() {
    let fleet = Fleet::start().await;
    let api = fleet.app(&[("RAG_WORKER_CONCURRENCY", "0")]).await;
    let other = fleet.app(&[]).await;
    let ada = api.create_key("ada", &["legal"], &["query", "ingest"]).await;
    let bob = other.create_key("bob", &["sales"], &["query"]).await;
    let document = json!({
        "text": "Invoices are kept for ten years.", "document_id": "retention", "readers": ["group:legal"]
    });
    // What one takes the other works on.
    api.index(&ada, &document).await;
    for app in [&api, &other] {
        assert_eq!(found(app, &ada).await, ["retention"]);
        assert!(found(app, &bob).await.is_empty());
    }

    // The same question again, anywhere, is answered from the cache, for those who may read the same.
    let ask = async |app: &TestApp, key: &str| -> Value {
        app.post(key, "/v1/query", &json!({ "query": "How long are invoices kept?" })).await.1
    };
    assert_eq!(ask(&api, &ada).await["cached"], false);
    assert_eq!(ask(&other, &ada).await["cached"], true);
    assert_eq!(ask(&other, &bob).await["answerable"], false);

    // Each of these holds at the next request on the other replica.
    let readers = json!({ "readers": ["group:legal", "group:sales"] });
    let (status, _) = other.send(&ada, Method::PATCH, "/v1/documents/retention", &readers).await;
    assert_eq!(status, 200);
    assert_eq!(found(&api, &bob).await, ["retention"]);
    assert_eq!(ask(&api, &bob).await["answerable"], true);
    let (status, _) = api.send(&ada, Method::DELETE, "/v1/documents/retention", &Value::Null).await;
    assert_eq!(status, 204);
    assert!(found(&other, &ada).await.is_empty());
    assert_eq!(ask(&other, &ada).await["answerable"], false);
    assert_eq!(ask(&other, &bob).await["answerable"], false);

    // A key that one replica revokes is refused by all as soon as they look at it again.
    let id = bob.split('_').nth(1).expect("a key's id");
    let (status, _) = api.send(&api.admin_key, Method::DELETE, &format!("/v1/keys/{id}"), &Value::Null).await;
    assert_eq!(status, 204);
    let refused = async || other.post(&bob, "/v1/search", &json!({ "query": "invoices" })).await.0 == 403;
    eventually("the key is refused", refused).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_is_exact_over_three_replicas() {
    let fleet = Fleet::start().await;
    let changes = [
        ("RAG_RATE_LIMIT_REQUESTS", "100"),
        ("RAG_RATE_LIMIT_WINDOW_SECONDS", "3600"),
        ("RAG_MAX_CONCURRENT_QUERIES", "1000"),
        ("RAG_WORKER_CONCURRENCY", "0"),
    ];
    let replicas = [fleet.app(&changes).await, fleet.app(&changes).await, fleet.app(&changes).await];
    let ask = async |app: &TestApp| {
        let request = app.request(&app.admin_key, Method::POST, "/v1/search").json(&json!({ "query": "invoices" }));
        let response = request.send().await.expect("a response");
        let number = |name: &str| -> u64 {
            let value = response.headers().get(name).unwrap_or_else(|| panic!("{name} is missing"));
            value.to_str().expect("text").parse().expect("a number")
        };
        assert_eq!(number("ratelimit-limit"), 100);
        assert!(number("ratelimit-remaining") < 100 && number("ratelimit-reset") <= 3600);
        let status = response.status();
        if status == StatusCode::TOO_MANY_REQUESTS {
            // The first comes back after one hundredth of the window.
            assert!((1..=36).contains(&number("retry-after")));
        }
        status.as_u16()
    };
    let asked = replicas.iter().cycle().take(1000).map(ask);
    let mut statuses: Vec<u16> = futures::future::join_all(asked).await;
    statuses.sort_unstable();
    let served = statuses.partition_point(|status| *status < 300);
    assert_eq!((served, statuses[0], statuses[100], statuses[999]), (100, 200, 429, 429), "{statuses:?}");
}
