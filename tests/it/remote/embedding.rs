//! Embeddings by an OpenAI-compatible server.

use std::sync::Arc;
use std::time::Duration;

use rag_api::config::Secret;
use rag_api::embedding::openai::{Config, Limits, OpenAiEmbedder};
use rag_api::embedding::{self, Embedder, Priority};
use rag_api::error::{Error, ErrorKind, Result};
use rag_api::rerank;
use rag_api::resilience::{Retry, RetryingEmbedder, retry};
use serde_json::{Value, json};

use super::KEY;
use crate::models::{config as models, minilm};
use crate::support::eventually;
use crate::support::model_server::{DIMENSIONS, ModelServer, Turn, as_base64, vector};

/// What is made wrong in an answer.
type Change = fn(&mut Value);

const HOUR: Duration = Duration::from_secs(3600);
/// So long that only a defect reaches it.
const NEVER: Limits = Limits { questions: 64, bulk: 4, question: HOUR, chunks: HOUR, total: HOUR };

fn server_config(server: &ModelServer) -> Config {
    Config { model: "test-model".to_owned(), base_url: server.openai_url(), api_key: Some(Secret::new(KEY)) }
}

fn connect(server: &ModelServer, limits: Limits) -> Arc<OpenAiEmbedder> {
    let counter = minilm(1).token_counter();
    let embedder = OpenAiEmbedder::connect(&server_config(server), counter, limits).unwrap();
    server.take_asked();
    Arc::new(embedder)
}

fn texts(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("text number{number} about invoice{number}")).collect()
}

fn unit(vector: &[f32]) -> Vec<f32> {
    let norm = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    vector.iter().map(|value| value / norm).collect()
}

fn assert_near(left: &[f32], right: &[f32]) {
    assert_eq!(left.len(), right.len());
    assert!(left.iter().zip(right).all(|(a, b)| (a - b).abs() < 1e-5), "{left:?} {right:?}");
}

/// Asks for two texts, of whose answer this is made; the error.
async fn refused(embedder: &OpenAiEmbedder, server: &ModelServer, turn: Turn) -> Error {
    server.embed_by([turn]);
    let error = embedder.embed(texts(2), Priority::Bulk).await.unwrap_err();
    assert!(!error.chain().contains(KEY) && !error.chain().contains("invoice"), "{}", error.chain());
    error
}

#[tokio::test]
async fn the_start_finds_out_what_the_model_gives() {
    let server = ModelServer::start();
    let embedder = embedding::build(&embedding::Config::OpenAi(server_config(&server)), &models()).unwrap();
    let model = embedder.model();
    assert_eq!((model.name.as_str(), model.dimensions), ("openai:test-model", DIMENSIONS));
    let asked = server.take_asked();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].body["model"], "test-model");
    assert_eq!(asked[0].authorization.as_deref(), Some(format!("Bearer {KEY}").as_str()));
    assert_eq!(embedder.token_counter().count("two words"), 2);

    assert!(embedder.token_embedder().is_none());
    let error = rerank::build(&rerank::Config::LateInteraction { cache_bytes: 1 }, &models(), &embedder).unwrap_err();
    assert!(error.message().contains("needs token vectors, which embedding model openai:test-model"), "{error}");
    let shown = format!("{embedder:?} {:?}", server_config(&server));
    assert!(!shown.contains(KEY), "{shown}");
}

#[tokio::test]
async fn a_start_that_cannot_find_out_stops_with_what_to_do() {
    let server = ModelServer::start();
    let start = || {
        let built = embedding::build(&embedding::Config::OpenAi(server_config(&server)), &models());
        built.map(drop)
    };
    for (status, names) in [
        (401, "check RAG_OPENAI_API_KEY"),
        (403, "check RAG_OPENAI_API_KEY"),
        (404, "check RAG_EMBEDDING_MODEL and RAG_OPENAI_BASE_URL"),
        (400, "check RAG_EMBEDDING_MODEL"),
        (307, "check RAG_OPENAI_BASE_URL"),
    ] {
        server.embed_by([Turn::Status(status, None)]);
        let error = start().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        let chain = error.chain();
        assert!(chain.starts_with("RAG_EMBEDDING_MODEL=openai:test-model ") && chain.contains(names), "{chain}");
        assert!(!chain.contains(KEY), "{chain}");
        assert_eq!(server.take_asked().len(), 1, "{status} is not asked again");
    }
    // What may pass is asked again.
    server.embed_by([Turn::Status(503, Some("0")), Turn::Work]);
    start().unwrap();
    assert_eq!(server.take_asked().len(), 2);

    let empty = rag_api::models::Config { cache: tempfile::tempdir().unwrap().path().to_owned(), ..models() };
    let error = embedding::build(&embedding::Config::OpenAi(server_config(&server)), &empty).unwrap_err();
    assert!(error.message().contains("./deploy/setup models"), "the tokenizer is from there: {error}");
}

#[tokio::test]
async fn many_texts_are_several_requests_and_keep_their_order() {
    let server = ModelServer::start();
    let embedder = connect(&server, NEVER);
    let reversed = |answer: &mut Value| answer["data"].as_array_mut().unwrap().reverse();
    for turn in [Turn::Work, Turn::Change(reversed), Turn::Change(as_base64)] {
        server.embed_by([turn]);
        let vectors = embedder.embed(texts(70), Priority::Bulk).await.unwrap();
        assert_eq!(vectors.len(), 70);
        for (found, text) in vectors.iter().zip(texts(70)) {
            assert_near(found, &unit(&vector(&text)));
        }
        let mut sizes: Vec<usize> =
            server.take_asked().iter().map(|asked| asked.body["input"].as_array().unwrap().len()).collect();
        sizes.sort_unstable();
        assert_eq!(sizes, [6, 32, 32]);
    }
    assert!(embedder.embed(Vec::new(), Priority::Bulk).await.unwrap().is_empty());
    assert_eq!(server.count_asked(), 0, "nothing is not asked for");

    let odd = vec![String::new(), "é".repeat(50_000)];
    assert_eq!(embedder.embed(odd, Priority::Interactive).await.unwrap().len(), 2);
    let sent = server.take_asked().remove(0).body;
    assert_eq!(sent["input"][1].as_str().unwrap().len(), 8_000, "a text is cut to what the model reads");
}

#[tokio::test]
async fn a_question_does_not_wait_for_documents() {
    let server = ModelServer::start();
    let embedder = connect(&server, NEVER);
    server.embed_by([Turn::Silent, Turn::Silent, Turn::Silent, Turn::Silent, Turn::Work]);
    let bulk = {
        let embedder = embedder.clone();
        tokio::spawn(async move { embedder.embed(texts(320), Priority::Bulk).await })
    };
    eventually("documents take every place of theirs", async || server.count_asked() == 4).await;
    assert_eq!(embedder.embed(texts(1), Priority::Interactive).await.unwrap().len(), 1);
    assert_eq!(server.take_asked().len(), 5, "six requests of documents wait");

    bulk.abort();
    assert!(bulk.await.unwrap_err().is_cancelled());
    server.reader_gone().await;
    let after = embedder.embed(texts(100), Priority::Bulk).await.unwrap();
    assert_eq!(after.len(), 100, "who goes away gives its places back");
}

#[tokio::test]
async fn what_may_pass_is_tried_again_by_the_wrapper_alone() {
    let server = ModelServer::start();
    let embedder = connect(&server, NEVER);
    for status in [408, 429, 500, 502, 503] {
        let error = refused(&embedder, &server, Turn::Status(status, Some("7"))).await;
        assert!(error.is_transient(), "{status}: {error}");
        assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
        assert_eq!(server.take_asked().len(), 1, "{status} is not asked again here");
    }
    for status in [400, 401, 403, 404, 413, 422] {
        let error = refused(&embedder, &server, Turn::Status(status, None)).await;
        assert_eq!(error.kind(), ErrorKind::Config, "{status}");
        assert!(error.message().contains("check RAG_"), "{status}: {error}");
    }
    server.take_asked();

    let policy = retry::Policy { base: Duration::ZERO, ..retry::Policy::default() };
    let patient = RetryingEmbedder::new(embedder, Retry::new("embedding", policy), HOUR);
    server.embed_by([Turn::Status(429, Some("0.01")), Turn::Status(500, None), Turn::Work]);
    assert_eq!(patient.embed(texts(2), Priority::Interactive).await.unwrap().len(), 2);
    assert_eq!(server.take_asked().len(), 3);
    server.embed_by([Turn::Status(500, None)]);
    assert!(patient.embed(texts(2), Priority::Interactive).await.is_err());
    assert_eq!(server.take_asked().len(), 3);
    server.embed_by([Turn::Status(429, Some("7200"))]);
    assert!(patient.embed(texts(2), Priority::Interactive).await.is_err());
    assert_eq!(server.take_asked().len(), 1, "the server asks for longer than there is");
}

#[tokio::test]
async fn every_wait_has_its_end() -> Result<()> {
    let short = Duration::from_millis(50);
    for (limits, priority) in [
        (Limits { question: short, ..NEVER }, Priority::Interactive),
        (Limits { chunks: short, ..NEVER }, Priority::Bulk),
        (Limits { total: short, ..NEVER }, Priority::Bulk),
    ] {
        let server = ModelServer::start();
        let embedder = connect(&server, limits);
        server.embed_by([Turn::Silent]);
        let error = embedder.embed(texts(2), priority).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{limits:?}");
        server.reader_gone().await;
    }
    let server = ModelServer::start();
    let embedder = connect(&server, NEVER);
    let error = refused(&embedder, &server, Turn::Endless).await;
    assert!(error.chain().contains("more than 16777216 bytes"), "{}", error.chain());
    Ok(())
}

#[tokio::test]
async fn an_answer_to_another_question_is_an_error() {
    let server = ModelServer::start();
    let embedder = connect(&server, NEVER);
    let changes: [(Change, &str); 7] = [
        (|answer| drop(answer["data"].as_array_mut().unwrap().pop()), "1 vectors of 2 texts"),
        (|answer| answer["data"] = json!([]), "0 vectors of 2 texts"),
        (|answer| answer["data"][1]["index"] = 0.into(), "index 0 twice"),
        (|answer| answer["data"][1]["index"] = 2.into(), "index 2 of 2 texts"),
        (|answer| answer["data"][0]["embedding"][3] = Value::Null, "JSON of another form"),
        (|answer| answer["data"][0]["embedding"] = json!([0.0, 0.0]), "a vector without a direction at 0"),
        (|answer| answer["data"][0]["embedding"] = "AADAfw==".into(), "a vector without a direction at 0"),
    ];
    for (change, problem) in changes {
        let error = refused(&embedder, &server, Turn::Change(change)).await;
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{problem}");
        assert!(error.chain().contains(problem), "{}", error.chain());
    }
    let shorter: fn(&mut Value) = |answer| answer["data"][1]["embedding"] = json!([0.6, 0.8]);
    let error = refused(&embedder, &server, Turn::Change(shorter)).await;
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().contains("gave vectors of 128 numbers at the start, and gives 2 now"), "{error}");
    for text in ["<html>secret invoice</html>", "", "{\"data\": [{\"index\": 0, \"embedding\": [NaN]}]}", "{}"] {
        let error = refused(&embedder, &server, Turn::Say(text)).await;
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{text}");
    }
}

#[tokio::test]
async fn nobody_there_stops_the_start_by_name() {
    let server = ModelServer::start();
    let wrong = Config { base_url: "localhost:8080".to_owned(), ..server_config(&server) };
    let unsendable = Config { api_key: Some(Secret::new("sk\n")), ..server_config(&server) };
    for (config, names) in [(wrong, "RAG_OPENAI_BASE_URL is not"), (unsendable, "RAG_OPENAI_API_KEY holds")] {
        let error = embedding::build(&embedding::Config::OpenAi(config), &models()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.chain().contains(names) && !error.chain().contains("sk\n"), "{}", error.chain());
    }
}
