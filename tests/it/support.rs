//! What the tests share.
#![allow(dead_code, reason = "each helper is used by some of the modules")]

pub(crate) mod llm_server;

use std::path::PathBuf;

/// The models cache that `deploy/test` fills. Fails with the command that does so.
#[allow(clippy::disallowed_methods, reason = "tests find their models by the environment")]
pub(crate) fn models_dir() -> PathBuf {
    let dir = std::env::var_os("RAG_MODELS_DIR")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("XDG_CACHE_HOME").map(|home| PathBuf::from(home).join("rag-api")))
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache/rag-api")))
        .expect("HOME is set");
    assert!(
        dir.join("all-MiniLM-L6-v2/model.onnx").is_file(),
        "no models in {}: run ./deploy/setup models",
        dir.display()
    );
    dir
}
