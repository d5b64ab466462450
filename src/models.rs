//! Where model files come from: a folder, a hub, or the cache that the set-up filled.

use std::path::PathBuf;

/// Where a model's files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelSource {
    /// A folder with `model.onnx` (or `onnx/model.onnx`) and the tokenizer files.
    Path(PathBuf),
    /// A name on a model hub, such as `cross-encoder/ms-marco-MiniLM-L-6-v2`; fetched once into the cache.
    Hub(String),
    /// A folder of the models cache, filled by the set-up, such as `all-MiniLM-L6-v2`.
    Cached(String),
}

/// Where models and native libraries are looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The models cache.
    pub cache: PathBuf,
    /// The hub, such as `https://huggingface.co`.
    pub hub: String,
    /// ONNX Runtime's shared library; `None`: found in the cache.
    pub onnx_runtime: Option<PathBuf>,
    /// pdfium's shared library; `None`: found in the cache.
    pub pdfium: Option<PathBuf>,
}
