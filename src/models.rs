//! Where model files and native libraries come from: a folder, a hub, or the cache that the set-up filled.
//!
//! [`resolve`] turns a [`ModelSource`] into [`ModelFiles`] that are known to exist; [`init_runtime`] loads ONNX Runtime.

mod files;
mod hub;
mod runtime;
mod session;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::error::{Error, Result};

pub use files::ModelFiles;
pub(crate) use files::Pooling;
pub(crate) use runtime::session_count;
pub use runtime::{init_runtime, pdfium_library};
pub(crate) use session::{OnnxSession, encode};

/// The command that fills the models cache, for messages.
pub(crate) const SETUP_COMMAND: &str = "./deploy/setup models";

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

/// The files of a model. A hub's model is fetched into the cache the first time, which blocks for as long as that takes.
pub fn resolve(config: &Config, source: &ModelSource) -> Result<ModelFiles> {
    match source {
        ModelSource::Path(dir) => ModelFiles::in_dir(dir)
            .map_err(|missing| Error::config(format!("no model in {}: {missing}", dir.display()))),
        ModelSource::Cached(name) => ModelFiles::in_dir(&config.cache.join(name)).map_err(|missing| {
            let cache = config.cache.display();
            Error::config(format!("model {name} is not in {cache} ({missing}): run {SETUP_COMMAND}"))
        }),
        ModelSource::Hub(name) => hub::fetch_once(config, name),
    }
}

/// Names of the organisation whose models are known by their bare names, such as `all-MiniLM-L6-v2`.
const BARE_ORGANISATION: &str = "sentence-transformers/";

/// `path:DIR`, `hub:NAME`, or a plain name: with an organisation it is a hub's, without one it is in the cache.
/// (`sentence-transformers/NAME` is the same as `NAME`.)
impl FromStr for ModelSource {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let text = text.trim();
        match text.split_once(':') {
            Some(("path", dir)) if !dir.is_empty() => Ok(Self::Path(PathBuf::from(dir))),
            Some(("hub", name)) if is_model_name(name) => Ok(Self::Hub(name.to_owned())),
            None if is_model_name(text) => match text.strip_prefix(BARE_ORGANISATION).unwrap_or(text) {
                name if name.contains('/') => Ok(Self::Hub(name.to_owned())),
                name => Ok(Self::Cached(name.to_owned())),
            },
            _ => Err(Error::config(format!(
                "{text:?} names no model: use path:DIR, hub:NAME or a name such as all-MiniLM-L6-v2"
            ))),
        }
    }
}

/// `NAME` or `ORGANISATION/NAME`. Names become folders of the cache, so they may not climb out of it.
fn is_model_name(name: &str) -> bool {
    let is_part = |part: &str| {
        let sane = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        part.chars().all(sane) && part.starts_with(|c: char| c.is_ascii_alphanumeric())
    };
    name.len() <= 96 && name.split('/').count() <= 2 && name.split('/').all(is_part)
}

impl fmt::Display for ModelSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(dir) => write!(f, "path:{}", dir.display()),
            Self::Hub(name) => write!(f, "hub:{name}"),
            Self::Cached(name) => f.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_a_source() {
        let cached = ModelSource::Cached("all-MiniLM-L6-v2".to_owned());
        let hub = ModelSource::Hub("cross-encoder/ms-marco-MiniLM-L-6-v2".to_owned());
        for (text, source) in [
            ("all-MiniLM-L6-v2", &cached),
            ("sentence-transformers/all-MiniLM-L6-v2", &cached),
            ("cross-encoder/ms-marco-MiniLM-L-6-v2", &hub),
            ("hub:cross-encoder/ms-marco-MiniLM-L-6-v2", &hub),
            ("hub:bert", &ModelSource::Hub("bert".to_owned())),
            ("path:/models/mine: the good one", &ModelSource::Path("/models/mine: the good one".into())),
        ] {
            assert_eq!(&text.parse::<ModelSource>().unwrap(), source, "{text}");
            assert_eq!(&source.to_string().parse::<ModelSource>().unwrap(), source, "{text}");
        }
    }

    #[test]
    fn names_that_are_none() {
        for text in ["", "path:", "hub:", "openai:x", "..", "../x", "a/../b", "hub:a/b/c", "hub:.hidden", "a b"] {
            let error = text.parse::<ModelSource>().unwrap_err();
            assert!(error.message().contains("path:DIR"), "{text}: {error}");
        }
    }
}
