//! The HTTP contract, from outside.

mod documents;
mod limits;
mod questions;

use rag_api::app::{App, Listeners};
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::support::TestApp;

/// Sends a body as it is; the response.
async fn raw(
    app: &TestApp,
    method: Method,
    path: &str,
    kind: &str,
    body: impl Into<reqwest::Body>,
) -> reqwest::Response {
    let request = app.request(&app.admin_key, method, path).header(CONTENT_TYPE, kind).body(body);
    request.send().await.expect("a response")
}

/// Checks an error body (RFC 9457) and gives the pointer of its field.
async fn problem(response: reqwest::Response, status: u16) -> Option<String> {
    let path = response.url().path().to_owned();
    assert_eq!(response.status(), status, "{path}");
    assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json", "{path}");
    let id = response.headers()["x-request-id"].to_str().expect("text").to_owned();
    let body: Value = response.json().await.expect("JSON");
    assert_eq!(body["status"], status, "{body}");
    assert_eq!(body["request_id"], id, "{body}");
    for field in ["type", "title", "detail"] {
        assert!(body[field].as_str().is_some_and(|text| !text.is_empty()), "{field}: {body}");
    }
    body["errors"][0]["pointer"].as_str().map(str::to_owned)
}

#[tokio::test]
async fn every_response_carries_an_id() {
    let app = TestApp::start().await;
    for (path, status) in [("/health", 200), ("/v1/documents", 401), ("/nowhere", 404), ("/v1/query", 405)] {
        let response = app.client.get(app.url(path)).send().await.expect("a response");
        assert_eq!(response.status(), status, "{path}");
        assert_eq!(response.headers()["x-request-id"].len(), 36, "{path}: a fresh UUID");
        let response =
            app.client.get(app.url(path)).header("x-request-id", "trace-7").send().await.expect("a response");
        assert_eq!(response.headers()["x-request-id"], "trace-7", "{path}");
    }
}

#[tokio::test]
async fn what_is_refused_says_why() {
    let app = TestApp::start().await;
    let get = async |path: &str| app.client.get(app.url(path)).send().await.expect("a response");
    let response = get("/v1/keys").await;
    assert_eq!(response.headers()["www-authenticate"], "Bearer");
    problem(response, 401).await;
    problem(app.request("rag_unknown_key", Method::GET, "/v1/keys").send().await.expect("a response"), 403).await;
    let key = app.create_key("ada", &[], &["query"]).await;
    problem(app.request(&key, Method::GET, "/v1/keys").send().await.expect("a response"), 403).await;
    problem(get("/v1/nowhere").await, 404).await;
    let response = app.client.delete(app.url("/v1/query")).send().await.expect("a response");
    assert_eq!(response.headers()["allow"], "POST");
    problem(response, 405).await;
    let bearer = app.client.get(app.url("/v1/keys")).bearer_auth(&app.admin_key).send().await.expect("a response");
    assert_eq!(bearer.status(), 200);
}

#[tokio::test]
async fn a_wrong_request_is_400_or_422_and_names_the_field() {
    let app = TestApp::start().await;
    let post = async |path: &str, body: &str| raw(&app, Method::POST, path, "application/json", body.to_owned()).await;
    problem(post("/v1/query", "{\"query\": ").await, 400).await;
    problem(raw(&app, Method::POST, "/v1/query", "text/plain", "why").await, 415).await;
    let long = "a".repeat(2001);
    let wrong = [
        ("/v1/query", json!({"query": "why", "colour": 1}), "/colour"),
        ("/v1/query", json!({"query": "why", "top_k": 0}), "/top_k"),
        ("/v1/query", json!({"query": "why", "top_k": 51}), "/top_k"),
        ("/v1/query", json!({"query": "why", "filters": {"year": {"$near": 1}}}), "/filters/year/$near"),
        ("/v1/query", json!({"query": " "}), "/query"),
        ("/v1/query", json!({"query": long}), "/query"),
        ("/v1/query", json!({}), "/query"),
        ("/v1/search", json!({"query": "why", "stream": true}), "/stream"),
        ("/v1/documents", json!({"text": "x", "document_id": "a b"}), "/document_id"),
        ("/v1/documents", json!({"text": ""}), "/text"),
        ("/v1/keys", json!({"user": "ada", "scopes": ["fly"]}), "/scopes/0"),
        ("/v1/keys", json!({"user": "ada", "scopes": []}), "/scopes"),
    ];
    for (path, body, pointer) in wrong {
        let found = problem(post(path, &body.to_string()).await, 422).await;
        assert_eq!(found.as_deref(), Some(pointer), "{path} {body}");
    }
    for (path, pointer) in [
        ("/v1/documents?limit=101", "/limit"),
        ("/v1/documents?cursor=x", "/cursor"),
        ("/v1/documents?status=lost", "/status"),
        ("/v1/documents?page=2", "/page"),
        ("/v1/keys?limit=0", "/limit"),
    ] {
        let response = app.request(&app.admin_key, Method::GET, path).send().await.expect("a response");
        assert_eq!(problem(response, 422).await.as_deref(), Some(pointer), "{path}");
    }
}

#[tokio::test]
async fn a_key_lives_and_dies() {
    let app = TestApp::start().await;
    let body = json!({"user": "ada", "groups": ["finance"], "scopes": ["query", "ingest"], "name": "laptop"});
    let (status, made) = app.post(&app.admin_key, "/v1/keys", &body).await;
    assert_eq!(status, 201);
    let (id, secret) = (made["id"].as_str().expect("an id"), made["key"].as_str().expect("a secret"));
    let path = format!("/v1/keys/{id}");
    let (status, shown) = app.get(&app.admin_key, &path).await;
    assert_eq!((status, &shown["name"], &shown["active"]), (200, &json!("laptop"), &json!(true)));
    assert!(!shown.to_string().contains(secret), "the secret is shown once");
    assert!(!app.get(&app.admin_key, "/v1/keys").await.1.to_string().contains(secret));
    assert_eq!(app.get(secret, "/v1/documents").await.0, 200);
    let off = app.send(&app.admin_key, Method::PATCH, &path, &json!({"active": false})).await;
    assert_eq!((off.0, &off.1["active"]), (200, &json!(false)));
    assert_eq!(app.get(secret, "/v1/documents").await.0, 403);
    assert_eq!(app.send(&app.admin_key, Method::DELETE, &path, &Value::Null).await.0, 204);
    assert_eq!(app.get(&app.admin_key, &path).await.0, 404);
    assert_eq!(app.send(&app.admin_key, Method::DELETE, &path, &Value::Null).await.0, 404);
}

#[tokio::test]
async fn keys_are_listed_page_by_page() {
    let app = TestApp::start().await;
    for user in ["a", "b", "c"] {
        app.create_key(user, &[], &["query"]).await;
    }
    let (_, all) = app.get(&app.admin_key, "/v1/keys").await;
    assert!(all["next_cursor"].is_null());
    let mut paged = Vec::new();
    let mut path = "/v1/keys?limit=1".to_owned();
    while !path.is_empty() {
        let (status, page) = app.get(&app.admin_key, &path).await;
        assert_eq!(status, 200, "{page}");
        paged.extend(page["keys"].as_array().expect("keys").iter().cloned());
        path = page["next_cursor"].as_str().map_or(String::new(), |next| format!("/v1/keys?limit=1&cursor={next}"));
    }
    assert_eq!(json!(paged), all["keys"]);
}

#[tokio::test]
async fn operators_see_health_readiness_and_metrics() {
    let app = TestApp::start().await;
    let (status, ready) = app.get("", "/ready").await;
    assert_eq!((status, &ready["status"]), (200, &json!("ready")));
    for dependency in ["catalog", "vector_store", "models"] {
        assert_eq!(ready["dependencies"][dependency]["status"], "up", "{dependency}");
    }
    app.post(&app.admin_key, "/v1/query", &json!({"query": "is anybody there?"})).await;
    let response = app.client.get(app.url("/metrics")).send().await.expect("metrics");
    assert_eq!(response.headers()[CONTENT_TYPE], "text/plain; version=0.0.4; charset=utf-8");
    let text = response.text().await.expect("text");
    for name in [
        "rag_queries_total{",
        "rag_query_latency_seconds_bucket{",
        "rag_http_requests_total{",
        "rag_documents{",
        "rag_dependency_up{",
        "process_resident_memory_bytes",
    ] {
        assert!(text.contains(name), "{name} in\n{text}");
    }
    assert!(!text.contains("anybody"), "a question's text is nowhere");
}

#[tokio::test]
async fn metrics_may_have_a_listener_of_their_own() {
    crate::support::install_tls();
    let dir = tempfile::tempdir().expect("a temporary folder");
    let config = crate::support::config(dir.path(), &[("RAG_METRICS_LISTEN", "127.0.0.1:0")]);
    let bind = async || TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let (api, metrics) = (bind().await, bind().await);
    let url = |listener: &TcpListener| format!("http://{}/metrics", listener.local_addr().expect("an address"));
    let (on_api, on_its_own) = (url(&api), url(&metrics));
    let stop = CancellationToken::new();
    let app = App::build(config).await.expect("the app is built");
    let running = tokio::spawn(app.run(Listeners { api, metrics: Some(metrics) }, stop.clone()));
    assert_eq!(reqwest::get(on_its_own).await.expect("a response").status(), 200);
    assert_eq!(reqwest::get(on_api).await.expect("a response").status(), 404);
    stop.cancel();
    running.await.expect("no panic").expect("a clean stop");
}

#[tokio::test]
async fn http2_is_spoken_too() {
    let app = TestApp::start().await;
    let client = reqwest::Client::builder().http2_prior_knowledge().build().expect("a client");
    let response = client.get(app.url("/v1/documents")).header("x-api-key", &app.admin_key).send().await;
    let response = response.expect("a response");
    assert_eq!((response.version(), response.status().as_u16()), (reqwest::Version::HTTP_2, 200));
}

#[tokio::test]
async fn the_description_is_served_and_needs_nobody_else() {
    let app = TestApp::start().await;
    let get = async |path: &str| app.client.get(app.url(path)).send().await.expect("a response");
    assert_eq!(get("/openapi.json").await.text().await.expect("text"), rag_api::http::openapi_json());
    let page = get("/docs").await;
    assert_eq!(page.url().path(), "/docs/index.html");
    let policy = page.headers()["content-security-policy"].to_str().expect("text").to_owned();
    assert!(policy.contains("default-src 'self'"), "{policy}");
    let page = page.text().await.expect("text");
    assert!(!page.contains("http://") && !page.contains("https://"), "{page}");
    for file in ["swagger-ui-bundle.js", "swagger-ui.css", "swagger-initializer.js"] {
        assert_eq!(get(&format!("/docs/{file}")).await.status(), 200, "{file}");
    }
    let start = get("/docs/swagger-initializer.js").await.text().await.expect("text");
    assert!(start.contains("../openapi.json") && !start.contains("https://"), "{start}");
    problem(get("/docs/nothing.js").await, 404).await;
}
