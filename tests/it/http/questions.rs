//! `/v1/query` and `/v1/search`.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::TestApp;

async fn library() -> TestApp {
    let app = TestApp::start().await;
    let invoices = json!({
        "text": "Invoices are kept for ten years. They are stored in the archive of the finance department.",
        "title": "Retention policy", "document_id": "retention",
        "metadata": {"department": "finance", "year": 2024}, "readers": ["public"]
    });
    let parental = json!({
        "text": "Parental leave lasts fourteen months. Ask the personnel department for the form.",
        "title": "Parental leave", "document_id": "leave",
        "metadata": {"department": "personnel", "year": 2020}, "readers": ["public"]
    });
    app.index(&app.admin_key, &invoices).await;
    app.index(&app.admin_key, &parental).await;
    app
}

/// The names and data of server-sent events.
fn events(text: &str) -> Vec<(String, Value)> {
    let event = |block: &str| {
        let name = block.lines().find_map(|line| line.strip_prefix("event: "))?;
        let data = block.lines().find_map(|line| line.strip_prefix("data: "))?;
        Some((name.to_owned(), serde_json::from_str(data).expect("JSON")))
    };
    text.split("\n\n").filter_map(event).collect()
}

#[tokio::test]
async fn a_question_is_answered_with_its_sources() {
    let app = library().await;
    let (status, answer) =
        app.post(&app.admin_key, "/v1/query", &json!({"query": "How long are invoices kept?"})).await;
    assert_eq!(status, 200, "{answer}");
    assert!(answer["answer"].as_str().expect("text").contains("ten years"), "{answer}");
    assert_eq!((&answer["answerable"], &answer["error"], &answer["code"]), (&json!(true), &json!(false), &Value::Null));
    let source = &answer["sources"][0];
    assert_eq!((&source["id"], &source["document_id"]), (&json!("retention_0"), &json!("retention")));
    assert_eq!((&source["title"], &source["start"]), (&json!("Retention policy"), &json!(0)));
    assert_eq!(source["metadata"]["department"], "finance");
    assert!(source["score"].is_number() && source["page"].is_null());
    let citation = &answer["citations"][0];
    let marker = |field: &str| citation[field].as_u64().expect("a number") as usize;
    let text: Vec<char> = answer["answer"].as_str().expect("text").chars().collect();
    let marker: String = text[marker("start")..marker("end")].iter().collect();
    assert_eq!(marker, "[1]");
    for field in ["model", "usage", "latency_ms", "timings_ms", "cached", "degraded", "warnings", "request_id"] {
        assert!(!answer[field].is_null(), "{field}: {answer}");
    }
    assert!(answer.get("explain").is_none(), "only where it is asked for");
}

#[tokio::test]
async fn a_search_explains_itself_where_asked() {
    let app = library().await;
    let body = json!({"query": "invoices", "explain": true, "filters": {"department": "finance"}});
    let (status, found) = app.post(&app.admin_key, "/v1/search", &body).await;
    assert_eq!(status, 200, "{found}");
    assert_eq!(found["sources"].as_array().expect("sources").len(), 1, "the filter holds");
    let candidate = &found["explain"]["candidates"][0];
    assert_eq!((&candidate["id"], &candidate["fused_rank"]), (&json!("retention_0"), &json!(1)));
    for field in ["dense_rank", "dense_score", "sparse_rank", "sparse_score", "fused_score", "rerank_score"] {
        assert!(candidate.get(field).is_some(), "{field}: {candidate}");
    }
    assert!(found["explain"]["filter"].to_string().contains("finance"), "{found}");
    assert!(found.get("answer").is_none());
}

#[tokio::test]
async fn a_stream_has_sources_tokens_and_an_end() {
    let app = library().await;
    let body = json!({"query": "How long is parental leave?", "stream": true});
    let response = app.request(&app.admin_key, Method::POST, "/v1/query").json(&body).send().await.expect("a response");
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    assert_eq!(response.headers()["x-accel-buffering"], "no");
    let id = response.headers()["x-request-id"].to_str().expect("text").to_owned();
    let events = events(&response.text().await.expect("text"));
    let names: Vec<&str> = events.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!((names[0], names[names.len() - 1]), ("sources", "done"));
    assert!(names[1..names.len() - 1].iter().all(|name| *name == "token"), "{names:?}");
    assert_eq!(events[0].1["sources"][0]["document_id"], "leave");
    let told: String = events[1..events.len() - 1].iter().filter_map(|(_, data)| data["text"].as_str()).collect();
    let done = &events[events.len() - 1].1;
    assert_eq!(done["answer"], told);
    assert!(told.contains("fourteen months"), "{told}");
    assert_eq!(done["request_id"], id);
    assert!(done.get("sources").is_none(), "{done}");
}

#[tokio::test]
async fn a_deadline_that_passes_is_said_in_the_answers_own_body() {
    let app = library().await;
    let request = app.request(&app.admin_key, Method::POST, "/v1/query").header("x-request-timeout-ms", "1");
    let response =
        request.json(&json!({"query": "How long are invoices kept, and where?"})).send().await.expect("a response");
    assert_eq!(response.status(), 504);
    assert_eq!(response.headers()["content-type"], "application/json");
    let answer: Value = response.json().await.expect("JSON");
    assert_eq!((&answer["error"], &answer["code"]), (&json!(true), &json!("timeout")));
    assert_eq!(answer["answer"], "The request took too long. Please try with a simpler question.");
}

#[tokio::test]
async fn who_may_not_read_finds_nothing() {
    let app = library().await;
    let stranger = app.create_key_in("elsewhere", "eve", &[], &["query"]).await;
    let (status, answer) = app.post(&stranger, "/v1/query", &json!({"query": "How long are invoices kept?"})).await;
    assert_eq!((status, &answer["answerable"], &answer["sources"]), (200, &json!(false), &json!([])));
}
