//! A model's folder: which files it holds, and what they say.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tokenizers::Tokenizer;

use crate::error::{Error, Result};

/// Where a folder may hold its graph: beside the tokenizer, or where the hub keeps exported graphs.
pub(super) const GRAPHS: [&str; 2] = ["model.onnx", "onnx/model.onnx"];
/// Without these there is no tokenizer.
pub(super) const REQUIRED: [&str; 3] = ["tokenizer.json", "config.json", "tokenizer_config.json"];
/// Where a sentence embedder says how its token vectors become one.
pub(super) const POOLING: &str = "1_Pooling/config.json";
/// Where a sentence embedder says how many tokens it reads.
pub(super) const SENTENCE_CONFIG: &str = "sentence_bert_config.json";

/// Most tokens of a text that any model here reads, whatever it allows: attention needs memory quadratic in it
/// (12 heads × 1024² × 4 bytes are 50 MB per session), and chunks are far shorter.
const LONGEST_TEXT: u64 = 1024;
/// What BERT and its kin read, where a folder does not say.
const USUAL_LONGEST_TEXT: u64 = 512;

/// How token vectors become one vector of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pooling {
    /// Their mean.
    Mean,
    /// The first one, of the token [CLS].
    Cls,
}

/// The files of one model, all there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelFiles {
    dir: PathBuf,
    graph: PathBuf,
}

impl ModelFiles {
    /// The model in `dir`, or which file is missing.
    pub(super) fn in_dir(dir: &Path) -> Result<Self, String> {
        if let Some(missing) = REQUIRED.iter().find(|name| !dir.join(name).is_file()) {
            return Err(format!("{missing} is missing"));
        }
        let graph = GRAPHS.iter().map(|name| dir.join(name)).find(|path| path.is_file());
        let graph = graph.ok_or_else(|| format!("{} is missing", GRAPHS.join(" or ")))?;
        Ok(Self { dir: dir.to_owned(), graph })
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The ONNX graph.
    pub fn graph(&self) -> &Path {
        &self.graph
    }

    /// Most tokens of a text that the model reads, special tokens included.
    pub(crate) fn max_tokens(&self) -> Result<usize> {
        let number = |file: &str, field: &str| -> Result<Option<u64>> {
            // Some exports write "no limit" as 1e30, which is a number but no limit.
            Ok(read_json(&self.dir.join(file))?.and_then(|json| json[field].as_u64()))
        };
        let positions = number("config.json", "max_position_embeddings")?;
        let chosen = match number(SENTENCE_CONFIG, "max_seq_length")? {
            Some(tokens) => Some(tokens),
            None => number("tokenizer_config.json", "model_max_length")?,
        };
        let tokens = chosen.or(positions).unwrap_or(USUAL_LONGEST_TEXT);
        let tokens = tokens.min(positions.unwrap_or(u64::MAX)).min(LONGEST_TEXT);
        // Room for the special tokens and one more; less is a broken file.
        if tokens < 4 {
            return Err(Error::config(format!("{}: a model that reads {tokens} tokens", self.dir.display())));
        }
        Ok(usize::try_from(tokens).unwrap_or(usize::MAX))
    }

    /// Whether token vectors are averaged (the default) or the first one stands for all.
    pub(crate) fn pooling(&self) -> Result<Pooling> {
        let Some(json) = read_json(&self.dir.join(POOLING))? else {
            return Ok(Pooling::Mean);
        };
        let is_on = |mode: &str| json[mode].as_bool().unwrap_or(false);
        match (is_on("pooling_mode_mean_tokens"), is_on("pooling_mode_cls_token")) {
            (true, false) => Ok(Pooling::Mean),
            (false, true) => Ok(Pooling::Cls),
            _ => Err(Error::config(format!("{}/{POOLING} asks for neither mean nor CLS pooling", self.dir.display()))),
        }
    }

    /// The tokenizer as it is, without truncation and padding.
    pub(crate) fn tokenizer(&self) -> Result<Tokenizer> {
        // Else it would use a thread pool of all cores, beside our own threads.
        tokenizers::utils::parallelism::set_parallelism(false);
        let path = self.dir.join("tokenizer.json");
        let broken = |error| Error::config(format!("cannot read {}", path.display())).with_source(error);
        let mut tokenizer = Tokenizer::from_file(&path).map_err(broken)?;
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(broken)?;
        Ok(tokenizer)
    }

    /// The ONNX graph's bytes.
    pub(crate) fn read_graph(&self) -> Result<Vec<u8>> {
        read(&self.graph)
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| Error::config(format!("cannot read {}", path.display())).with_source(error))
}

/// The JSON in a file; `None`: no such file.
fn read_json(path: &Path) -> Result<Option<Value>> {
    if !path.is_file() {
        return Ok(None);
    }
    let json = serde_json::from_slice(&read(path)?);
    json.map(Some).map_err(|error| Error::config(format!("{} is not JSON", path.display())).with_source(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> (tempfile::TempDir, ModelFiles) {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::create_dir_all(dir.path().join(name).parent().unwrap()).unwrap();
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let files = ModelFiles { dir: dir.path().to_owned(), graph: dir.path().join("model.onnx") };
        (dir, files)
    }

    #[test]
    fn the_nearest_file_says_how_long_a_text_may_be() {
        let config = ("config.json", r#"{"max_position_embeddings": 512}"#);
        let tokenizer = ("tokenizer_config.json", r#"{"model_max_length": 384}"#);
        let no_limit = ("tokenizer_config.json", r#"{"model_max_length": 1000000000000000019884624838656}"#);
        let sentence = ("sentence_bert_config.json", r#"{"max_seq_length": 256}"#);
        for (files, tokens) in [
            (vec![config, tokenizer, sentence], 256),
            (vec![config, tokenizer], 384),
            (vec![config, no_limit], 512),
            (vec![("config.json", r#"{"max_position_embeddings": 8192}"#)], 1024),
            (vec![], 512),
        ] {
            assert_eq!(folder(&files).1.max_tokens().unwrap(), tokens, "{files:?}");
        }
    }

    #[test]
    fn pooling_is_mean_unless_the_folder_says_cls() {
        let cls = ("1_Pooling/config.json", r#"{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}"#);
        let max = ("1_Pooling/config.json", r#"{"pooling_mode_max_tokens": true}"#);
        assert_eq!(folder(&[]).1.pooling().unwrap(), Pooling::Mean);
        assert_eq!(folder(&[cls]).1.pooling().unwrap(), Pooling::Cls);
        assert!(folder(&[max]).1.pooling().unwrap_err().message().contains("neither mean nor CLS"));
    }

    #[test]
    fn a_missing_file_is_named() {
        let (dir, _) = folder(&[("tokenizer.json", "{}"), ("config.json", "{}"), ("tokenizer_config.json", "{}")]);
        assert_eq!(ModelFiles::in_dir(dir.path()).unwrap_err(), "model.onnx or onnx/model.onnx is missing");
        std::fs::create_dir(dir.path().join("onnx")).unwrap();
        std::fs::write(dir.path().join("onnx/model.onnx"), "").unwrap();
        assert!(ModelFiles::in_dir(dir.path()).unwrap().graph().ends_with("onnx/model.onnx"));
        std::fs::remove_file(dir.path().join("config.json")).unwrap();
        assert_eq!(ModelFiles::in_dir(dir.path()).unwrap_err(), "config.json is missing");
    }
}
