//! A server that speaks OpenAI's embeddings and Cohere's rerank, and misbehaves as it is told.
//!
//! Its models are simple and real: a text's vector counts its words, and a passage's relevance is the share of the
//! question's words that it has. It runs on a thread of its own, because models are built by calls that block.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use tokio::sync::{Notify, oneshot};

use super::PATIENCE;

/// Length of the vectors.
pub(crate) const DIMENSIONS: usize = 128;

/// What the server does with a request.
#[derive(Debug, Clone)]
pub(crate) enum Turn {
    /// Answers.
    Work,
    /// Answers, after this was done to the answer.
    Change(fn(&mut Value)),
    /// A status, with `Retry-After` if there is one, and a body that quotes the request and its key.
    Status(u16, Option<&'static str>),
    /// A success whose body is this.
    Say(&'static str),
    /// A success whose body never ends.
    Endless,
    /// Takes the request and never answers.
    Silent,
}

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) path: &'static str,
    pub(crate) authorization: Option<String>,
    pub(crate) body: Value,
}

/// A running server.
pub(crate) struct ModelServer {
    /// For `RAG_COHERE_BASE_URL`; with `/v1` for `RAG_OPENAI_BASE_URL`.
    pub(crate) url: String,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
}

#[derive(Default)]
struct Shared {
    embedding: Mutex<VecDeque<Turn>>,
    rerank: Mutex<VecDeque<Turn>>,
    asked: Mutex<Vec<Asked>>,
    gone: Notify,
}

impl ModelServer {
    /// A server whose models work.
    pub(crate) fn start() -> Self {
        super::install_tls();
        let shared = Arc::new(Shared::default());
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a listener for tokio");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let routes = Router::new().route("/v1/embeddings", post(embeddings)).route("/v2/rerank", post(rerank));
        let routes = routes.with_state(shared.clone());
        let (stop, stopped) = oneshot::channel::<()>();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
                tokio::select! {
                    served = axum::serve(listener, routes) => served.expect("it serves"),
                    // The sender says nothing: it goes, with the server.
                    _ = stopped => {}
                }
            });
        });
        Self { url, shared, stop: Some(stop) }
    }

    /// For `RAG_OPENAI_BASE_URL`.
    pub(crate) fn openai_url(&self) -> String {
        format!("{}/v1", self.url)
    }

    /// What is done with the next requests for embeddings, one each; the last for all that come after.
    pub(crate) fn embed_by(&self, turns: impl IntoIterator<Item = Turn>) {
        *self.shared.embedding.lock().unwrap() = turns.into_iter().collect();
    }

    /// The same for reranking.
    pub(crate) fn rerank_by(&self, turns: impl IntoIterator<Item = Turn>) {
        *self.shared.rerank.lock().unwrap() = turns.into_iter().collect();
    }

    /// The requests since the last time.
    pub(crate) fn take_asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.shared.asked.lock().unwrap())
    }

    /// How many requests there were since then.
    pub(crate) fn count_asked(&self) -> usize {
        self.shared.asked.lock().unwrap().len()
    }

    /// Waits until somebody who was answered by [`Turn::Silent`] has gone away.
    pub(crate) async fn reader_gone(&self) {
        tokio::time::timeout(PATIENCE, self.shared.gone.notified()).await.expect("the reader goes away");
    }
}

impl Drop for ModelServer {
    fn drop(&mut self) {
        drop(self.stop.take());
    }
}

async fn embeddings(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    let request = note(&shared, "/v1/embeddings", &headers, &body);
    assert_eq!(request["encoding_format"], "float");
    let texts: Vec<&str> =
        request["input"].as_array().expect("texts").iter().map(|text| text.as_str().unwrap()).collect();
    assert!(texts.iter().all(|text| !text.is_empty()), "OpenAI takes no empty text");
    let embedding =
        |(index, text): (usize, &&str)| json!({ "object": "embedding", "index": index, "embedding": vector(text) });
    let data: Vec<Value> = texts.iter().enumerate().map(embedding).collect();
    let usage = json!({ "prompt_tokens": 1, "total_tokens": 1 });
    let answer = json!({ "object": "list", "data": data, "model": request["model"], "usage": usage });
    let turn = next(&shared.embedding);
    follow(turn, &shared, (&headers, &request), answer).await
}

async fn rerank(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    let request = note(&shared, "/v2/rerank", &headers, &body);
    let documents = request["documents"].as_array().expect("documents");
    assert_eq!(request["top_n"], documents.len());
    let question = words(request["query"].as_str().expect("a query"));
    let relevance = |document: &Value| {
        let has = words(document.as_str().expect("a text"));
        question.iter().filter(|word| has.contains(word)).count() as f64 / question.len().max(1) as f64
    };
    let mut results: Vec<(usize, f64)> = documents.iter().map(relevance).enumerate().collect();
    // Best first, as Cohere answers.
    results.sort_by(|left, right| right.1.total_cmp(&left.1));
    let results: Vec<Value> =
        results.iter().map(|(index, score)| json!({ "index": index, "relevance_score": score })).collect();
    let answer = json!({ "id": "test", "results": results, "meta": { "api_version": { "version": "2" } } });
    let turn = next(&shared.rerank);
    follow(turn, &shared, (&headers, &request), answer).await
}

fn note(shared: &Shared, path: &'static str, headers: &HeaderMap, body: &[u8]) -> Value {
    let body: Value = serde_json::from_slice(body).expect("JSON");
    let authorization = headers.get(header::AUTHORIZATION).map(|value| value.to_str().unwrap().to_owned());
    shared.asked.lock().unwrap().push(Asked { path, authorization, body: body.clone() });
    body
}

fn next(turns: &Mutex<VecDeque<Turn>>) -> Turn {
    let mut turns = turns.lock().unwrap();
    match turns.len() {
        0 => Turn::Work,
        1 => turns[0].clone(),
        _ => turns.pop_front().expect("a turn"),
    }
}

/// Tells when a response is dropped before its end.
struct Reader(Arc<Shared>);

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.gone.notify_one();
    }
}

async fn follow(turn: Turn, shared: &Arc<Shared>, asked: (&HeaderMap, &Value), mut answer: Value) -> Response {
    match turn {
        Turn::Work => axum::Json(answer).into_response(),
        Turn::Change(change) => {
            change(&mut answer);
            axum::Json(answer).into_response()
        }
        Turn::Status(status, retry_after) => {
            let message = format!("{asked:?}");
            let quote = json!({ "error": { "message": message, "type": "some_error", "code": "some_code" } });
            let mut response = (StatusCode::from_u16(status).unwrap(), axum::Json(quote)).into_response();
            if let Some(value) = retry_after {
                response.headers_mut().insert(header::RETRY_AFTER, value.parse().unwrap());
            }
            response
        }
        Turn::Say(text) => ([(header::CONTENT_TYPE, "application/json")], text).into_response(),
        Turn::Endless => {
            let piece = || Ok::<_, std::convert::Infallible>(Bytes::from_static(&[b' '; 64 << 10]));
            Body::from_stream(futures::stream::repeat_with(piece)).into_response()
        }
        Turn::Silent => {
            let _reader = Reader(shared.clone());
            std::future::pending().await
        }
    }
}

/// An answer's vectors as base64, which some servers give whatever they are asked for.
pub(crate) fn as_base64(answer: &mut Value) {
    for item in answer["data"].as_array_mut().unwrap() {
        let numbers = item["embedding"].as_array().unwrap().iter();
        let bytes: Vec<u8> = numbers.flat_map(|number| (number.as_f64().unwrap() as f32).to_le_bytes()).collect();
        item["embedding"] = BASE64_STANDARD.encode(bytes).into();
    }
}

/// What the server gives for a text: how often it has words that hash to a place. Not of length 1.
pub(crate) fn vector(text: &str) -> Vec<f32> {
    let mut vector = vec![0.0; DIMENSIONS];
    // Every text has this one, so that none is nowhere.
    vector[0] = 0.1;
    for word in words(text) {
        let mut hasher = DefaultHasher::new();
        word.hash(&mut hasher);
        vector[1 + hasher.finish() as usize % (DIMENSIONS - 1)] += 1.0;
    }
    vector
}

fn words(text: &str) -> Vec<String> {
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| word.len() > 2);
    words.map(str::to_lowercase).collect()
}
