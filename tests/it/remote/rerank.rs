//! Reranking by a Cohere-compatible server.

use std::sync::Arc;
use std::time::Duration;

use rag_api::config::Secret;
use rag_api::error::{Error, ErrorKind};
use rag_api::rerank::cohere::{Cohere, Config};
use rag_api::rerank::{self, Candidate, RerankUse, Reranker};
use serde_json::{Value, json};
use uuid::Uuid;

use super::KEY;
use crate::models::{config as models, minilm};
use crate::support::model_server::{ModelServer, Turn};

/// What is made wrong in an answer.
type Change = fn(&mut Value);

const HOUR: Duration = Duration::from_secs(3600);
const QUESTION: &str = "how long are invoices kept";

fn server_config(server: &ModelServer) -> Config {
    Config { model: "rerank-test".to_owned(), base_url: server.url.clone(), api_key: Some(Secret::new(KEY)) }
}

fn connect(server: &ModelServer, patience: Duration) -> Cohere {
    let reranker = Cohere::connect(&server_config(server), patience).unwrap();
    server.take_asked();
    reranker
}

fn candidates() -> Vec<Candidate> {
    let texts = ["The whale sings long songs.", "Invoices are kept for ten years.", "Bridges are painted."];
    let candidate = |(id, text): (u128, &str)| Candidate { id: Uuid::from_u128(id), text: text.to_owned() };
    (0..).zip(texts).map(candidate).collect()
}

async fn refused(reranker: &Cohere, server: &ModelServer, turn: Turn) -> Error {
    server.rerank_by([turn]);
    server.take_asked();
    let error = reranker.rerank(QUESTION, &candidates()).await.unwrap_err();
    assert!(!error.chain().contains(KEY) && !error.chain().contains("nvoices"), "{}", error.chain());
    assert_eq!(server.count_asked(), 1, "one call a question");
    error
}

#[tokio::test]
async fn a_question_is_one_call_and_scores_go_by_index() {
    let server = ModelServer::start();
    let config = rerank::Config::Cohere(server_config(&server));
    let reranker: Arc<dyn Reranker> = rerank::build(&config, &models(), &minilm(1)).unwrap().unwrap();
    assert_eq!((reranker.name(), reranker.usage()), ("cohere:rerank-test", RerankUse::FuseProbabilities));
    assert_eq!(server.take_asked().len(), 1, "the key and the model are tried at the start");

    let scores = reranker.rerank(QUESTION, &candidates()).await.unwrap();
    assert!(scores[1] > scores[0] && scores[1] > scores[2] && scores.len() == 3, "{scores:?}");
    let asked = server.take_asked();
    assert_eq!(asked.len(), 1);
    assert_eq!((asked[0].path, asked[0].authorization.as_deref()), ("/v2/rerank", Some(&*format!("Bearer {KEY}"))));
    assert_eq!((&asked[0].body["model"], &asked[0].body["query"]), (&json!("rerank-test"), &json!(QUESTION)));

    assert!(reranker.rerank(QUESTION, &[]).await.unwrap().is_empty());
    assert_eq!(server.count_asked(), 0);
    let long = [Candidate { id: Uuid::nil(), text: "é".repeat(50_000) }];
    reranker.rerank(QUESTION, &long).await.unwrap();
    assert_eq!(server.take_asked()[0].body["documents"][0].as_str().unwrap().len(), 8_000);
    assert!(!format!("{reranker:?} {config:?}").contains(KEY));
}

#[tokio::test]
async fn a_wrong_key_stops_the_start_and_a_server_that_is_down_does_not() {
    let server = ModelServer::start();
    for (status, names) in [
        (401, "check RAG_COHERE_API_KEY"),
        (404, "check RAG_RERANKER_MODEL and RAG_COHERE_BASE_URL"),
        (400, "check RAG_RERANKER_MODEL"),
    ] {
        server.rerank_by([Turn::Status(status, None)]);
        let error = Cohere::connect(&server_config(&server), HOUR).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.message().contains(names) && !error.chain().contains(KEY), "{}", error.chain());
    }
    server.rerank_by([Turn::Status(503, None), Turn::Work]);
    let reranker = Cohere::connect(&server_config(&server), HOUR).unwrap();
    assert_eq!(reranker.rerank(QUESTION, &candidates()).await.unwrap().len(), 3);
    let wrong = Config { base_url: "localhost".to_owned(), ..server_config(&server) };
    assert!(Cohere::connect(&wrong, HOUR).unwrap_err().message().contains("RAG_COHERE_BASE_URL"));
}

#[tokio::test]
async fn whatever_else_comes_is_an_error_and_never_a_wrong_order() {
    let server = ModelServer::start();
    let reranker = connect(&server, HOUR);
    for (status, kind) in [
        (429, ErrorKind::Unavailable),
        (500, ErrorKind::Unavailable),
        (401, ErrorKind::Config),
        (422, ErrorKind::Config),
    ] {
        let error = refused(&reranker, &server, Turn::Status(status, Some("0"))).await;
        assert_eq!(error.kind(), kind, "{status}");
    }
    let changes: [(Change, &str); 5] = [
        (|answer| drop(answer["results"].as_array_mut().unwrap().pop()), "2 results of 3 passages"),
        (|answer| answer["results"][0]["index"] = answer["results"][1]["index"].clone(), "twice"),
        (|answer| answer["results"][0]["index"] = 3.into(), "index 3 of 3 passages"),
        (|answer| answer["results"][0]["index"] = (-1).into(), "JSON of another form"),
        (|answer| answer["results"][0]["relevance_score"] = 7.5.into(), "7.5 is no relevance of 0 to 1"),
    ];
    for (change, problem) in changes {
        let error = refused(&reranker, &server, Turn::Change(change)).await;
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.chain().contains(problem), "{}", error.chain());
    }
    for turn in [Turn::Say("{\"results\": [NaN]}"), Turn::Say(""), Turn::Endless] {
        assert_eq!(refused(&reranker, &server, turn).await.kind(), ErrorKind::Unavailable);
    }
}

#[tokio::test]
async fn a_server_that_hangs_is_left_in_time() {
    let server = ModelServer::start();
    let reranker = connect(&server, Duration::from_millis(50));
    assert_eq!(refused(&reranker, &server, Turn::Silent).await.kind(), ErrorKind::Timeout);
    server.reader_gone().await;
}
