//! A model from a hub, fetched from a local server that speaks the hub's protocol.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use rag_api::error::{Error, ErrorKind};
use rag_api::models::{self, ModelFiles, ModelSource};
use sha2::{Digest, Sha256};

use super::{config, tiny_cross_encoder};

const NAME: &str = "cross-encoder/tiny";

/// What the hub does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    WrongChecksum,
    WrongSize,
    NoGraph,
    Unavailable,
    Private,
    Circle,
}

#[derive(Debug)]
struct Hub {
    files: BTreeMap<&'static str, Vec<u8>>,
    fault: Fault,
    asked: Mutex<Vec<String>>,
}

impl Hub {
    /// Starts a hub that has the tiny cross-encoder, its graph where the real hub keeps it; gives its address.
    async fn start(fault: Fault) -> (Arc<Self>, String) {
        let read = |name: &str| std::fs::read(tiny_cross_encoder().join(name)).unwrap();
        let mut files: BTreeMap<_, _> =
            ["config.json", "tokenizer.json", "tokenizer_config.json"].map(|name| (name, read(name))).into();
        if fault != Fault::NoGraph {
            files.insert("onnx/model.onnx", read("model.onnx"));
        }
        let hub = Arc::new(Self { files, fault, asked: Mutex::default() });
        let router = Router::new()
            .route("/{organisation}/{name}/resolve/main/{*file}", get(resolve))
            .route("/store/{*file}", get(store))
            .with_state(hub.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        (hub, address)
    }
}

/// Small files are in the answer; a large one is in the store, and the answer says its size and SHA-256.
async fn resolve(
    State(hub): State<Arc<Hub>>,
    Path((organisation, name, file)): Path<(String, String, String)>,
) -> Response {
    hub.asked.lock().unwrap().push(file.clone());
    if hub.fault == Fault::Unavailable {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    if hub.fault == Fault::Private {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let found = hub.files.get(file.as_str()).filter(|_| format!("{organisation}/{name}") == NAME);
    let Some(bytes) = found else {
        return StatusCode::NOT_FOUND.into_response();
    };
    if file != "onnx/model.onnx" {
        return ([(header::ETAG, "\"b2b2\"")], bytes.clone()).into_response();
    }
    let digest = Sha256::digest(if hub.fault == Fault::WrongChecksum { b"another" } else { bytes.as_slice() });
    let size = bytes.len() + usize::from(hub.fault == Fault::WrongSize);
    let mut headers = HeaderMap::new();
    let mut set = |name: &'static str, value: String| headers.insert(name, HeaderValue::from_str(&value).unwrap());
    let next =
        if hub.fault == Fault::Circle { format!("/{NAME}/resolve/main/{file}") } else { format!("/store/{file}") };
    set("location", next);
    set("x-linked-size", size.to_string());
    set("x-linked-etag", format!("\"{digest:x}\""));
    (StatusCode::FOUND, headers).into_response()
}

async fn store(State(hub): State<Arc<Hub>>, Path(file): Path<String>) -> Response {
    hub.files.get(file.as_str()).cloned().map_or(StatusCode::NOT_FOUND.into_response(), IntoResponse::into_response)
}

async fn fetch(hub: String, cache: &std::path::Path) -> Result<ModelFiles, Error> {
    let config = models::Config { cache: cache.to_owned(), hub, ..config() };
    let source = ModelSource::Hub(NAME.to_owned());
    // (It blocks, as at the start of the product.)
    tokio::task::spawn_blocking(move || models::resolve(&config, &source)).await.unwrap()
}

#[tokio::test]
async fn a_model_is_fetched_once() {
    let cache = tempfile::tempdir().unwrap();
    let (hub, address) = Hub::start(Fault::None).await;
    let files = fetch(address.clone(), cache.path()).await.unwrap();
    assert_eq!(files.dir(), cache.path().join("hub/cross-encoder--tiny"));
    assert!(files.graph().ends_with("onnx/model.onnx"));
    for name in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        let fetched = std::fs::read(files.dir().join(name)).unwrap();
        assert_eq!(fetched, std::fs::read(tiny_cross_encoder().join(name)).unwrap(), "{name}");
    }
    let graph = std::fs::read(files.graph()).unwrap();
    assert_eq!(graph, std::fs::read(tiny_cross_encoder().join("model.onnx")).unwrap());

    let asked = hub.asked.lock().unwrap().len();
    assert_eq!(fetch(address, cache.path()).await.unwrap(), files);
    assert_eq!(hub.asked.lock().unwrap().len(), asked, "the second time nothing is asked");
    let left: Vec<_> = std::fs::read_dir(cache.path().join("hub")).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[tokio::test]
async fn two_that_fetch_at_once_both_get_it() {
    let cache = tempfile::tempdir().unwrap();
    let (_, address) = Hub::start(Fault::None).await;
    let (one, two) = tokio::join!(fetch(address.clone(), cache.path()), fetch(address, cache.path()));
    assert_eq!(one.unwrap(), two.unwrap());
}

#[tokio::test]
async fn what_is_wrong_is_said_in_one_line_and_nothing_is_kept() {
    for (fault, words) in [
        (Fault::WrongChecksum, "SHA-256"),
        (Fault::WrongSize, "ended after"),
        (Fault::NoGraph, "no ONNX graph"),
        (Fault::Unavailable, "503"),
        (Fault::Private, "does not give it to us"),
        (Fault::Circle, "redirects in circles"),
    ] {
        let cache = tempfile::tempdir().unwrap();
        let (_, address) = Hub::start(fault).await;
        let error = fetch(address, cache.path()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{fault:?}");
        assert!(error.message().contains(words) && error.message().contains(NAME), "{fault:?}: {error}");
        assert!(!error.message().contains('\n'), "{fault:?}: {error}");
        assert_eq!(std::fs::read_dir(cache.path().join("hub")).unwrap().count(), 0, "{fault:?}");
    }
}

#[tokio::test]
async fn a_hub_that_is_not_there_is_said() {
    let cache = tempfile::tempdir().unwrap();
    // A port that was just free: nobody listens there.
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = fetch(format!("http://{free}"), cache.path()).await.unwrap_err();
    assert!(error.message().contains("does not answer") && error.message().contains("path:DIR"), "{error}");
}
