//! The whole product with models of another server.

use rag_api::app::App;
use serde_json::{Value, json};

use super::KEY;
use crate::support::model_server::{ModelServer, Turn};
use crate::support::{TestApp, config};

const ASKED: &str = "How long are invoices kept?";

fn changes(server: &ModelServer) -> Vec<(&'static str, String)> {
    vec![
        ("RAG_EMBEDDING_MODEL", "openai:test-model".to_owned()),
        ("RAG_OPENAI_BASE_URL", server.openai_url()),
        ("RAG_OPENAI_API_KEY", KEY.to_owned()),
        ("RAG_RERANKER_MODEL", "cohere:rerank-test".to_owned()),
        ("RAG_COHERE_BASE_URL", server.url.clone()),
        ("RAG_COHERE_API_KEY", KEY.to_owned()),
        ("RAG_CACHE_TTL_SECONDS", "0".to_owned()),
    ]
}

async fn start(server: &ModelServer) -> TestApp {
    let changes = changes(server);
    let changes: Vec<(&str, &str)> = changes.iter().map(|(name, value)| (*name, value.as_str())).collect();
    TestApp::start_with(&changes).await
}

async fn ask(app: &TestApp) -> (u16, Value) {
    app.post(&app.admin_key, "/v1/query", &json!({ "query": ASKED, "explain": true })).await
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_are_answered_with_remote_models_and_without_them_it_is_said() {
    let server = ModelServer::start();
    let app = start(&server).await;
    for (id, text) in [
        ("invoices", "Invoices are kept for ten years. They are filed by the month."),
        ("leave", "Employees have thirty days of paid leave a year."),
        ("travel", "Travel by train is booked in second class."),
    ] {
        let document = json!({ "text": text, "document_id": id, "title": id, "readers": ["public"] });
        app.index(&app.admin_key, &document).await;
    }
    server.take_asked();

    let (status, answer) = ask(&app).await;
    assert_eq!(status, 200, "{answer}");
    assert!(answer["answer"].as_str().unwrap().starts_with("Invoices are kept for ten years. ["), "{answer}");
    assert_eq!(answer["sources"][0]["document_id"], "invoices", "{answer}");
    assert!(!answer["citations"].as_array().unwrap().is_empty(), "{answer}");
    assert_eq!(answer["degraded"], json!([]), "{answer}");
    let paths: Vec<&str> = server.take_asked().iter().map(|asked| asked.path).collect();
    assert_eq!(paths, ["/v1/embeddings", "/v2/rerank"], "one call each");

    for turn in [Turn::Status(503, None), Turn::Say("{\"results\": []}"), Turn::Silent] {
        server.rerank_by([turn.clone()]);
        let (status, answer) = ask(&app).await;
        assert_eq!((status, &answer["degraded"]), (200, &json!(["rerank"])), "{turn:?}: {answer}");
        assert!(answer["answer"].as_str().unwrap().starts_with("Invoices are kept for ten years. ["), "{answer}");
    }
    server.rerank_by([]);
    server.embed_by([Turn::Status(401, None)]);
    let (status, problem) = ask(&app).await;
    assert_eq!(status, 500, "{problem}");
    assert!(!problem.to_string().contains(KEY), "{problem}");
    server.embed_by([Turn::Status(429, Some("60"))]);
    let (status, problem) = ask(&app).await;
    assert_eq!(status, 503, "{problem}");
    server.embed_by([]);
    let (status, answer) = ask(&app).await;
    assert_eq!((status, &answer["degraded"]), (200, &json!([])), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_stops_the_start() {
    let server = ModelServer::start();
    server.embed_by([Turn::Status(401, None)]);
    let dir = tempfile::tempdir().unwrap();
    let changes = changes(&server);
    let changes: Vec<(&str, &str)> = changes.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let error = App::build(config(dir.path(), &changes)).await.unwrap_err();
    let chain = error.chain();
    assert!(chain.starts_with("RAG_EMBEDDING_MODEL=openai:test-model does not answer"), "{chain}");
    assert!(chain.contains("check RAG_OPENAI_API_KEY") && !chain.contains(KEY) && !chain.contains('\n'), "{chain}");
}
