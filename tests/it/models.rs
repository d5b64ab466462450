//! Model files from every source, the runtime, and the real embedding model.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rag_api::embedding::{self, Embedder, Priority};
use rag_api::error::ErrorKind;
use rag_api::models::{self, ModelSource};

use crate::support;

mod hub;

pub(crate) const MINILM: &str = "all-MiniLM-L6-v2";

/// Models from the cache that the set-up filled; a hub that nobody runs.
pub(crate) fn config() -> models::Config {
    models::Config {
        cache: support::models_dir(),
        hub: "http://127.0.0.1:9".to_owned(),
        onnx_runtime: None,
        pdfium: None,
    }
}

/// The real embedding model on so many sessions.
pub(crate) fn minilm(sessions: usize) -> Arc<dyn Embedder> {
    let model = MINILM.parse().unwrap();
    embedding::build(&embedding::Config::Local { model, sessions }, &config()).unwrap()
}

pub(crate) fn tiny_cross_encoder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models/tiny-cross-encoder")
}

fn dot(left: &[f32], right: &[f32]) -> f32 {
    left.iter().zip(right).map(|(a, b)| a * b).sum()
}

async fn embed(embedder: &Arc<dyn Embedder>, texts: &[&str]) -> Vec<Vec<f32>> {
    let texts = texts.iter().map(|&text| text.to_owned()).collect();
    embedder.embed(texts, Priority::Interactive).await.unwrap()
}

#[test]
fn the_runtime_is_loaded_once_however_often_it_is_asked_for() {
    let first = models::init_runtime(&config()).unwrap();
    let second = models::init_runtime(&config()).unwrap();
    assert_eq!(format!("{first:?}"), format!("{second:?}"), "one environment");
    assert!(models::pdfium_library(&config()).unwrap().is_file());
}

#[test]
fn a_model_that_is_not_there_is_said_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let empty = models::Config { cache: dir.path().to_owned(), ..config() };
    let error = models::resolve(&empty, &MINILM.parse().unwrap()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().contains("./deploy/setup models") && !error.message().contains('\n'), "{error}");

    std::fs::write(dir.path().join("tokenizer.json"), "{}").unwrap();
    let error = models::resolve(&empty, &ModelSource::Path(dir.path().to_owned())).unwrap_err();
    assert!(error.message().ends_with("config.json is missing"), "{error}");
}

#[tokio::test]
async fn vectors_have_the_models_length_and_are_normalised() {
    let embedder = minilm(2);
    let model = embedder.model();
    assert_eq!((model.name.as_str(), model.dimensions, model.max_tokens), (MINILM, 384, 256));

    let texts =
        ["How hot is boiling water?", "Water boils at 100 °C.", "The queen reads a book.", "", "水在一百度沸腾", " \n"];
    let vectors = embed(&embedder, &texts).await;
    assert_eq!(vectors.len(), texts.len());
    for (vector, text) in vectors.iter().zip(texts) {
        assert_eq!(vector.len(), 384, "{text:?}");
        assert!((dot(vector, vector) - 1.0).abs() < 1e-4, "{text:?}");
    }
    assert!(dot(&vectors[0], &vectors[1]) > dot(&vectors[0], &vectors[2]) + 0.2);
    assert!(embedder.embed(Vec::new(), Priority::Bulk).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_vector_does_not_depend_on_its_company() {
    let embedder = minilm(1);
    let texts: Vec<String> = (0..40).map(|i| format!("note {i}: {}", "water heats slowly ".repeat(i % 7))).collect();
    let together = embedder.embed(texts.clone(), Priority::Bulk).await.unwrap();
    for (text, vector) in texts.iter().zip(&together) {
        let alone = embed(&embedder, &[text.as_str()]).await;
        assert!(dot(&alone[0], vector) > 0.9999, "{text}");
    }
}

#[tokio::test]
async fn a_long_text_is_cut_where_the_model_stops_reading() {
    let embedder = minilm(1);
    let words = |count: usize| "river mountain ".repeat(count / 2);
    assert_eq!(embedder.token_counter().count(&words(5000)), 5000, "counting does not cut");
    let vectors = embed(&embedder, &[&words(5000), &words(254), &words(100)]).await;
    assert!(dot(&vectors[0], &vectors[1]) > 0.9999, "254 words and two special tokens are all it reads");
    assert!(dot(&vectors[0], &vectors[2]) < 0.9999);
}

#[tokio::test]
async fn token_vectors_are_the_tokens_without_the_special_ones() {
    let embedder = minilm(1);
    let tokens = embedder.token_embedder().unwrap();
    let texts = vec!["Water boils at 100 °C.".to_owned(), String::new(), "river ".repeat(500)];
    let vectors = tokens.token_vectors(texts.clone(), 64, Priority::Interactive).await.unwrap();
    let rows: Vec<usize> = vectors.iter().map(|vectors| vectors.ids.len()).collect();
    assert_eq!(rows, [embedder.token_counter().count(&texts[0]), 0, 62]);
    for vectors in &vectors {
        assert_eq!((vectors.dimensions, vectors.values.len()), (384, vectors.ids.len() * 384));
        assert!(vectors.values.chunks(384).all(|row| (dot(row, row) - 1.0).abs() < 1e-4));
        let special = [101, 102];
        assert!(!vectors.ids.iter().any(|id| special.contains(id)), "no [CLS], no [SEP]");
    }
    // A cut for token vectors does not shorten what is embedded after it, on the same session.
    let vectors = embed(&embedder, &[&"river mountain ".repeat(127), &"river mountain ".repeat(31)]).await;
    assert!(dot(&vectors[0], &vectors[1]) < 0.9999);
}

#[tokio::test]
async fn a_request_that_goes_away_leaves_the_sessions_to_others() {
    let embedder = minilm(2);
    let mut bulk = embedder.embed(vec!["water ".repeat(200); 200], Priority::Bulk);
    assert!(futures::poll!(&mut bulk).is_pending());
    drop(bulk);
    let vectors = embed(&embedder, &["still here?"]).await;
    assert_eq!(vectors.len(), 1);
}

#[tokio::test]
async fn a_folder_is_named_with_a_digest_of_its_graph() {
    let model = ModelSource::Path(support::models_dir().join(MINILM));
    let embedder = embedding::build(&embedding::Config::Local { model, sessions: 1 }, &config()).unwrap();
    let name = &embedder.model().name;
    assert!(name.starts_with(&format!("{MINILM}@")) && name.len() == MINILM.len() + 9, "{name}");
}

#[test]
fn a_graph_that_is_none_is_said_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["tokenizer.json", "config.json", "tokenizer_config.json"] {
        std::fs::copy(tiny_cross_encoder().join(name), dir.path().join(name)).unwrap();
    }
    std::fs::write(dir.path().join("model.onnx"), "nonsense").unwrap();
    let model = ModelSource::Path(dir.path().to_owned());
    let error = embedding::build(&embedding::Config::Local { model, sessions: 1 }, &config()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().contains("model.onnx") && !error.message().contains('\n'), "{error}");
}
