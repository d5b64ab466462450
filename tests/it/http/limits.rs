//! Limits: of keys, of addresses, and the way out when stopping.

use reqwest::Method;
use serde_json::json;

use super::problem;
use crate::support::TestApp;

#[tokio::test]
async fn a_key_over_its_limit_is_told_when_to_come_back() {
    let app = TestApp::start_with(&[("RAG_RATE_LIMIT_REQUESTS", "2")]).await;
    let ask = async |key: &str| {
        let request = app.request(key, Method::POST, "/v1/search").json(&json!({"query": "why"}));
        request.send().await.expect("a response")
    };
    for remaining in ["1", "0"] {
        let response = ask(&app.admin_key).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["ratelimit-limit"], "2");
        assert_eq!(response.headers()["ratelimit-remaining"], remaining);
        assert!(response.headers().contains_key("ratelimit-reset"));
    }
    let refused = ask(&app.admin_key).await;
    for header in ["retry-after", "ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"] {
        let seconds = refused.headers()[header].to_str().expect("text").parse::<u64>().expect("a number");
        assert!(seconds <= 60, "{header}: {seconds}");
    }
    problem(refused, 429).await;
    let other = app.create_key("ada", &[], &["query"]).await;
    assert_eq!(ask(&other).await.status(), 200, "every key has its own limit");
    assert_eq!(app.get(&app.admin_key, "/v1/documents").await.0, 200, "documents have another");
}

#[tokio::test]
async fn an_address_over_its_limit_is_refused_before_its_key_is_looked_at() {
    // Readiness is asked for while starting, and does not count.
    let app = TestApp::start_with(&[("RAG_ADDRESS_RATE_LIMIT", "1"), ("RAG_ADDRESS_RATE_LIMIT_BURST", "1")]).await;
    let ask = async |path: &str| app.client.get(app.url(path)).send().await.expect("a response");
    let mut refused = None;
    // One request a second is allowed: of two at once one is refused, however slow the machine, within a few tries.
    for _ in 0..100 {
        let (first, second) = tokio::join!(ask("/v1/keys"), ask("/v1/keys"));
        refused = [first, second].into_iter().find(|response| response.status() == 429);
        if refused.is_some() {
            break;
        }
    }
    let refused = refused.expect("one of two at once is refused");
    assert!(refused.headers().contains_key("retry-after"));
    problem(refused, 429).await;
    for path in ["/health", "/ready", "/metrics"] {
        for _ in 0..5 {
            assert_eq!(ask(path).await.status(), 200, "{path}");
        }
    }
}

#[tokio::test]
async fn a_stopping_server_says_so_and_still_serves() {
    let app = TestApp::start_with(&[("RAG_DRAIN_DELAY_SECONDS", "600")]).await;
    app.begin_stop();
    crate::support::eventually("draining", || async { app.get("", "/ready").await.0 == 503 }).await;
    assert_eq!(app.get("", "/ready").await.1["status"], "draining");
    assert_eq!(app.get("", "/health").await.0, 200);
    assert_eq!(app.get(&app.admin_key, "/v1/documents").await.0, 200);
}
