//! What is Qdrant's own: how it is reached, what it refuses, and what it does to those who trust it.

use std::sync::Arc;

use qdrant_client::qdrant::collections_client::CollectionsClient;
use qdrant_client::qdrant::points_client::PointsClient;
use qdrant_client::qdrant::{
    CreateCollection, DeleteCollection, Distance, Filter as QdrantFilter, PointStruct, Query, QueryPoints,
    UpdateStatus, UpsertPoints, VectorParams, VectorParamsMap, VectorsConfig, WriteOrderingType, vectors_config,
};
use rag_api::config::Secret;
use rag_api::document::Scope;
use rag_api::embedding::EmbeddingModel;
use rag_api::error::{Error, ErrorKind};
use rag_api::vector_store::{self, ChunkPage, Config, Point, SearchQuery, VectorStore, Versions};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::net::TcpSocket;
use tonic::transport::Channel;
use uuid::Uuid;

use super::conformance::{DIMENSIONS, point, vector};
use super::{count, model};
use crate::support::qdrant_server::{Fault, Options, QdrantServer, SHARED};
use crate::support::{TestApp, install_tls};

/// A store in a collection of its own, which goes with it.
pub(super) struct Opened {
    pub(super) store: Arc<dyn VectorStore>,
    url: String,
    collection: String,
}

impl Drop for Opened {
    fn drop(&mut self) {
        let (url, collection_name) = (self.url.clone(), std::mem::take(&mut self.collection));
        let delete = async move {
            let mut collections = CollectionsClient::connect(url).await?;
            collections.delete(DeleteCollection { collection_name, timeout: None }).await?;
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let deleted = std::thread::spawn(move || runtime.block_on(delete)).join();
        if !std::thread::panicking() {
            deleted.expect("no panic").expect("the collection is deleted");
        }
    }
}

/// A real server where `RAG_TEST_QDRANT_URL` names one, else the test server.
#[allow(clippy::disallowed_methods, reason = "tests find a real server by the environment")]
fn server_url() -> String {
    std::env::var("RAG_TEST_QDRANT_URL").unwrap_or_else(|_| SHARED.url.clone())
}

fn config(url: &str, collection: &str) -> Config {
    // The store asks a server that is not there by HTTP.
    install_tls();
    Config::Qdrant { url: url.to_owned(), api_key: None, collection: collection.to_owned() }
}

pub(super) async fn qdrant() -> Opened {
    let (url, collection) = (server_url(), format!("test-{}", Uuid::new_v4()));
    let store = vector_store::build(&config(&url, &collection), &model()).await.unwrap();
    store.check().await.unwrap_or_else(|error| panic!("{}", error.chain()));
    Opened { store, url, collection }
}

/// A store on a server of its own.
async fn opened(server: &QdrantServer) -> Arc<dyn VectorStore> {
    vector_store::build(&config(&server.url, "documents"), &model()).await.unwrap()
}

async fn refused(url: &str, model: &EmbeddingModel) -> Error {
    let error = vector_store::build(&config(url, "documents"), model).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{}", error.chain());
    assert!(!error.message().contains('\n'), "{error}");
    error
}

fn points(number: u32, text: &str) -> Vec<Point> {
    (0..number).map(|i| point("a", 1, i, text)).collect()
}

async fn raw(server: &QdrantServer) -> PointsClient<Channel> {
    PointsClient::connect(server.url.clone()).await.unwrap().max_decoding_message_size(usize::MAX)
}

async fn raw_count(server: &QdrantServer, filter: Option<QdrantFilter>) -> usize {
    let query = QueryPoints {
        collection_name: "documents".to_owned(),
        query: Some(Query::new_nearest(vector(1))),
        using: Some("dense".to_owned()),
        filter,
        limit: Some(10_000),
        ..QueryPoints::default()
    };
    raw(server).await.query(query).await.unwrap().into_inner().result.len()
}

fn raw_point(number: u64, bytes: usize) -> PointStruct {
    let vectors = std::collections::HashMap::from([("dense".to_owned(), vector(number))]);
    let mut point = PointStruct::new(number, vectors, qdrant_client::Payload::new());
    point.payload.insert("text".to_owned(), "x".repeat(bytes).into());
    point
}

#[tokio::test(flavor = "multi_thread")]
async fn every_write_waits_and_keeps_its_order() {
    let server = QdrantServer::start(Options::default());
    let store = opened(&server).await;
    store.upsert(points(10, "invoice")).await.unwrap();
    let (tenant, document) = ("acme".parse().unwrap(), "a".parse().unwrap());
    let attributes = vector_store::DocumentAttributes {
        principals: vec!["user:ada".parse().unwrap()],
        title: String::new(),
        metadata: serde_json::Map::new(),
    };
    store.set_attributes(&tenant, &document, 1, &attributes).await.unwrap();
    store.delete(&tenant, &document, Versions::All).await.unwrap();
    for method in ["upsert", "set_payload", "delete", "create_field_index"] {
        let calls = server.calls(method);
        assert!(!calls.is_empty(), "{method}");
        for call in calls {
            assert_eq!((call.wait, call.ordering), (Some(true), Some(WriteOrderingType::Medium.into())), "{method}");
        }
    }
    assert_eq!(server.calls("create_field_index").len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_test_server_shows_late_what_nobody_waited_for() {
    let server = QdrantServer::start(Options::default());
    let store = opened(&server).await;
    let upsert = UpsertPoints {
        collection_name: "documents".to_owned(),
        points: vec![raw_point(1, 1)],
        ..UpsertPoints::default()
    };
    let answer = raw(&server).await.upsert(upsert.clone()).await.unwrap().into_inner();
    assert_eq!(answer.result.unwrap().status(), UpdateStatus::Acknowledged);
    assert_eq!(raw_count(&server, None).await, 0);
    server.settle("documents");
    assert_eq!(raw_count(&server, None).await, 1);
    // A later write that waits applies what came before it.
    let second = UpsertPoints { points: vec![raw_point(2, 1)], ..upsert };
    raw(&server).await.upsert(second).await.unwrap();
    store.upsert(points(1, "invoice")).await.unwrap();
    assert_eq!(raw_count(&server, None).await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_lists_are_everything_to_the_server_and_nothing_to_us() {
    let server = QdrantServer::start(Options::default());
    let store = opened(&server).await;
    store.upsert(points(3, "invoice")).await.unwrap();
    assert_eq!(raw_count(&server, Some(QdrantFilter::should([]))).await, 3);
    assert_eq!(raw_count(&server, Some(QdrantFilter::must([QdrantFilter::should([]).into()]))).await, 3);

    let asked = server.calls("query_batch").len();
    let nobody = Scope::new("acme".parse().unwrap(), Vec::new());
    let query = SearchQuery { dense: Some(vector(1)), limit: 10, ..SearchQuery::default() };
    assert!(store.search(&nobody, query.clone()).await.unwrap().dense.is_empty());
    let ada = Scope::new("acme".parse().unwrap(), vec!["user:ada".parse().unwrap()]);
    let nothing = SearchQuery { filter: Some(rag_api::retrieve::filter::Filter::NOTHING), ..query };
    assert!(store.search(&ada, nothing).await.unwrap().dense.is_empty());
    let ids: Vec<Uuid> = points(3, "invoice").iter().map(Point::id).collect();
    assert!(store.passages(&nobody, &ids, None).await.unwrap().is_empty());
    assert!(store.passages(&nobody, &ids, Some(&vector(1))).await.unwrap().is_empty());
    assert!(store.passages(&ada, &[], Some(&vector(1))).await.unwrap().is_empty());
    assert_eq!(server.calls("query_batch").len(), asked, "what sees nothing is not asked");
    assert_eq!(store.passages(&ada, &ids, None).await.unwrap().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_fails_on_its_way_is_whole_in_the_end() {
    for fault in [Fault::Refused, Fault::AnswerLost, Fault::Twice] {
        let server = QdrantServer::start(Options::default());
        let store = opened(&server).await;
        server.fail("upsert", 1, fault);
        store.upsert(points(600, "invoice")).await.unwrap();
        assert_eq!(count(&*store).await, 600, "{fault:?}");
        let sizes: Vec<_> = server.calls("upsert").iter().map(|call| call.points).collect();
        match fault {
            Fault::Twice => assert_eq!(sizes, [256, 256, 88]),
            _ => assert_eq!(sizes, [256, 256, 256, 256, 88]),
        }
        server.fail("delete", 0, fault);
        store.delete(&"acme".parse().unwrap(), &"a".parse().unwrap(), Versions::All).await.unwrap();
        assert_eq!(count(&*store).await, 0, "{fault:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_unavailable_is_tried_thrice() {
    let server = QdrantServer::start(Options::default());
    let store = opened(&server).await;
    store.upsert(points(3, "invoice")).await.unwrap();
    for method in ["query_batch", "scroll"] {
        for _ in 0..2 {
            server.fail(method, 0, Fault::Refused);
        }
    }
    assert_eq!(count(&*store).await, 3);
    let page = ChunkPage { from: 0, limit: 9 };
    let chunks = store.chunks(&"acme".parse().unwrap(), &"a".parse().unwrap(), 1, page).await.unwrap();
    assert_eq!(chunks.len(), 3);
    for _ in 0..3 {
        server.fail("upsert", 0, Fault::Refused);
    }
    let error = store.upsert(points(1, "invoice")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.message().contains(&server.url), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_falls_silent_ends_in_a_timeout() {
    let server = QdrantServer::start(Options::default());
    let store = opened(&server).await;
    server.fail("query_batch", 0, Fault::Silence);
    let ada = Scope::new("acme".parse().unwrap(), vec!["user:ada".parse().unwrap()]);
    let query = SearchQuery { dense: Some(vector(1)), limit: 10, ..SearchQuery::default() };
    assert_eq!(store.search(&ada, query).await.unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(server.calls("query_batch").len(), 1, "a search has no time for a second silence");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_stay_below_what_servers_take() {
    let server = QdrantServer::start(Options::default());
    let store = opened(&server).await;
    let upsert = |points| UpsertPoints {
        collection_name: "documents".to_owned(),
        wait: Some(true),
        points,
        ..UpsertPoints::default()
    };
    let large = raw(&server).await.upsert(upsert(vec![raw_point(1, 5 << 20)])).await.unwrap_err();
    assert_eq!(large.code(), tonic::Code::OutOfRange, "{large}");
    store.upsert(points(200, &"long ".repeat(10_000))).await.unwrap();
    assert_eq!(count(&*store).await, 200);
    assert!(server.calls("upsert").len() >= 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_is_sent_and_a_wrong_one_stops_the_start() {
    let server = QdrantServer::start(Options { api_key: Some("right-key"), ..Options::default() });
    let with_key = |key: &str| Config::Qdrant {
        url: server.url.clone(),
        api_key: Some(Secret::new(key)),
        collection: "documents".to_owned(),
    };
    let store = vector_store::build(&with_key("right-key"), &model()).await.unwrap();
    store.upsert(points(1, "invoice")).await.unwrap();
    let error = refused(&server.url, &model()).await;
    assert!(error.message().contains("RAG_VECTOR_DB_API_KEY"), "{error}");
    let error = vector_store::build(&with_key("wrong-key"), &model()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(!error.chain().contains("wrong-key") && !format!("{error:?} {store:?}").contains("-key"), "{error:?}");
    let error = vector_store::build(&with_key("new\nline"), &model()).await.unwrap_err();
    assert!(error.message().starts_with("RAG_VECTOR_DB_API_KEY must be"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_server_stops_the_start() {
    for version in ["1.18.3", "0.19.0", "?"] {
        let server = QdrantServer::start(Options { version, ..Options::default() });
        let error = refused(&server.url, &model()).await;
        assert!(error.message().contains(version) && error.message().contains("1.19 or newer"), "{error}");
        assert!(server.calls("create_collection").is_empty());
    }
    for version in ["1.19.0", "1.20.1-dev", "2.0.0"] {
        opened(&QdrantServer::start(Options { version, ..Options::default() })).await.check().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_model_or_somebody_elses_collection_stops_the_start() {
    let server = QdrantServer::start(Options::default());
    opened(&server).await;
    for other in [
        EmbeddingModel { name: "other-model".to_owned(), ..model() },
        EmbeddingModel { dimensions: DIMENSIONS * 2, ..model() },
    ] {
        let error = refused(&server.url, &other).await;
        assert!(error.message().contains("test-model (8 dimensions)"), "{error}");
        assert!(error.message().contains("RAG_VECTOR_DB_COLLECTION"), "{error}");
    }
    let server = QdrantServer::start(Options::default());
    let dense = VectorParams { size: 8, distance: Distance::Cosine.into(), ..VectorParams::default() };
    let map = VectorParamsMap { map: [("dense".to_owned(), dense)].into() };
    let foreign = CreateCollection {
        collection_name: "documents".to_owned(),
        vectors_config: Some(VectorsConfig { config: Some(vectors_config::Config::ParamsMap(map)) }),
        ..CreateCollection::default()
    };
    CollectionsClient::connect(server.url.clone()).await.unwrap().create(foreign).await.unwrap();
    let error = refused(&server.url, &model()).await;
    assert!(error.message().contains("was not made by rag-api"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_start_at_once_share_one_collection() {
    let server = QdrantServer::start(Options::default());
    let starts = (0..8).map(|_| {
        let config = config(&server.url, "documents");
        tokio::spawn(async move { vector_store::build(&config, &model()).await.unwrap() })
    });
    let stores = futures::future::try_join_all(starts.collect::<Vec<_>>()).await.unwrap();
    for (i, store) in (0..).zip(&stores) {
        store.check().await.unwrap();
        store.upsert(vec![point("a", 1, i, "invoice")]).await.unwrap();
    }
    for store in &stores {
        assert_eq!(count(&**store).await, 8);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_creation_that_nobody_heard_of_is_found() {
    let server = QdrantServer::start(Options::default());
    server.fail("create_collection", 0, Fault::AnswerLost);
    opened(&server).await.check().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_comes_late_is_waited_for() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("http://{}", socket.local_addr().unwrap());
    let store = vector_store::build(&config(&url, "documents"), &model()).await.unwrap();
    assert_eq!(store.check().await.unwrap_err().kind(), ErrorKind::Unavailable);
    let _server = QdrantServer::start_on(socket.listen(64).unwrap().into_std().unwrap(), Options::default());
    store.check().await.unwrap();
    store.upsert(points(2, "invoice")).await.unwrap();
    assert_eq!(count(&*store).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_ends_is_made_again() {
    let mut server = QdrantServer::start(Options::default());
    let store = opened(&server).await;
    for i in 0..5 {
        store.upsert(vec![point("a", 1, i, "invoice")]).await.unwrap();
        server.restart();
        assert_eq!(count(&*store).await, i as usize + 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_port_of_rest_is_named() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let read = stream.read(&mut request).await.unwrap_or(0);
            let answer = match request[..read].starts_with(b"GET / HTTP/1.1\r\n") {
                true => "HTTP/1.1 200 OK\r\ncontent-length: 41\r\n\r\n{\"title\":\"qdrant - vector search engine\"}",
                false => "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
            };
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    let error = refused(&url, &model()).await;
    assert!(error.message().contains("is Qdrant's REST") && error.message().contains("6334"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_product_runs_on_it() {
    let server = QdrantServer::start(Options { api_key: Some("right-key"), ..Options::default() });
    let changes = [("RAG_VECTOR_DB_URL", &*server.url), ("RAG_VECTOR_DB_API_KEY", "right-key")];
    let app = TestApp::start_with(&changes).await;
    let document =
        json!({"document_id": "rules", "text": "Invoices are kept for ten years.", "metadata": {"year": 2023}});
    app.index(&app.admin_key, &document).await;
    let question = json!({"query": "How long are invoices kept?", "filters": {"year": {"$gte": 2023}}});
    let (status, found) = app.post(&app.admin_key, "/v1/search", &question).await;
    assert_eq!((status, &found["sources"][0]["document_id"]), (200, &json!("rules")), "{found}");
    let (status, chunks) = app.get(&app.admin_key, "/v1/documents/rules/chunks").await;
    assert_eq!((status, &chunks["chunks"][0]["text"]), (200, &json!("Invoices are kept for ten years.")), "{chunks}");
    let stranger = app.create_key("eve", &[], &["query"]).await;
    let (_, found) = app.post(&stranger, "/v1/search", &question).await;
    assert_eq!(found["sources"], json!([]), "{found}");
    let (status, _) = app.send(&app.admin_key, Method::DELETE, "/v1/documents/rules", &Value::Null).await;
    assert!(status < 300, "{status}");
    let (_, found) = app.post(&app.admin_key, "/v1/search", &question).await;
    assert_eq!(found["sources"], json!([]), "{found}");
    app.stop().await;
    assert!(server.calls("query_batch").len() >= 2);
}
