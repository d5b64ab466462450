//! One ONNX model on one thread: a tokenised text in, numbers out.

use std::path::Path;

use ort::environment::Environment;
use ort::session::Session;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::value::Tensor;
use tokenizers::{Encoding, Tokenizer, TruncationParams};

use super::runtime::{SESSION_OPTIONS, execution_providers};
use crate::error::{Error, ErrorKind, Result};

/// A text is cut to so many characters per token before it is tokenised, because the tokenizer reads a whole text before
/// it cuts it. English has 4 to 5, so that nothing is lost but words that are one unknown token.
const MAX_CHARS_PER_TOKEN: usize = 16;

/// A model that reads token ids. It runs one text (or pair) at a time: on CPUs that is as fast as a batch, without
/// padding, and the numbers of a dynamically quantised model do not depend on what else is in its batch.
#[derive(Debug)]
pub(crate) struct OnnxSession {
    session: Session,
    has_types: bool,
    output: String,
}

impl OnnxSession {
    /// Loads a graph. Its output is the first of `outputs` that it has, or the only one.
    pub(crate) fn open(environment: &Environment, graph: &Path, outputs: &[&str]) -> Result<Self> {
        let unusable = |error: String| Error::config(format!("cannot load {} ({error})", graph.display()));
        let session = builder(environment)
            .map_err(|error| unusable(error.to_string()))?
            .commit_from_file(graph)
            .map_err(|error| unusable(error.to_string()).with_source(error))?;
        let names: Vec<&str> = session.outputs().iter().map(|output| output.name()).collect();
        let known = outputs.iter().find(|name| names.contains(name));
        let output = match (known, &names[..]) {
            (Some(name), _) => (*name).to_owned(),
            (None, [only]) => (*only).to_owned(),
            (None, _) => {
                let (has, wanted) = (names.join(", "), outputs.join(", "));
                return Err(unusable(format!("its outputs are {has}, and none of {wanted}")));
            }
        };
        let has_types = session.inputs().iter().any(|input| input.name() == "token_type_ids");
        Ok(Self { session, has_types, output })
    }

    /// Runs one text; `read` gets the output's shape and numbers.
    pub(crate) fn run<T>(&mut self, encoding: &Encoding, read: impl FnOnce(&[i64], &[f32]) -> Result<T>) -> Result<T> {
        let mut inputs = ort::inputs! {
            "input_ids" => tensor(encoding.get_ids())?,
            "attention_mask" => tensor(encoding.get_attention_mask())?,
        };
        if self.has_types {
            inputs.push(("token_type_ids".into(), tensor(encoding.get_type_ids())?.into()));
        }
        let outputs = self.session.run(inputs).map_err(failed)?;
        let (shape, values) = outputs[self.output.as_str()].try_extract_tensor::<f32>().map_err(failed)?;
        if values.iter().all(|value| value.is_finite()) {
            read(shape, values)
        } else {
            Err(Error::new(ErrorKind::Internal, "the model gave numbers that are none"))
        }
    }
}

fn builder(environment: &Environment) -> ort::Result<SessionBuilder> {
    let mut builder = Session::builder(environment)?
        .with_execution_providers(execution_providers())?
        .with_optimization_level(GraphOptimizationLevel::Level3)?
        .with_intra_threads(1)?;
    for (key, value) in SESSION_OPTIONS {
        builder = builder.with_config_entry(key, value)?;
    }
    Ok(builder)
}

/// A batch of one.
fn tensor(numbers: &[u32]) -> Result<Tensor<i64>> {
    let numbers: Vec<i64> = numbers.iter().map(|&number| i64::from(number)).collect();
    Tensor::from_array(([1, numbers.len()], numbers)).map_err(failed)
}

fn failed(error: ort::Error) -> Error {
    Error::internal("the model failed", error)
}

/// The tokens of a text (with a passage: of the pair) as a model reads them: at most `max_tokens`, special ones included.
/// Of a pair, the longer text is cut first.
pub(crate) fn encode(tokenizer: &Tokenizer, text: &str, passage: Option<&str>, max_tokens: usize) -> Result<Encoding> {
    let tokens = |text| tokenizer.encode_fast(cut(text, max_tokens).as_ref(), false);
    let unreadable = |error| Error::internal("cannot tokenise a text", error);
    let first = tokens(text).map_err(unreadable)?;
    let second = passage.map(tokens).transpose().map_err(unreadable)?;
    let special = tokenizer.get_post_processor().map_or(0, |added| {
        use tokenizers::PostProcessor;
        added.added_tokens(second.is_some())
    });
    let params = TruncationParams { max_length: max_tokens.saturating_sub(special), ..TruncationParams::default() };
    let (first, second) =
        tokenizers::utils::truncation::truncate_encodings(first, second, &params).map_err(unreadable)?;
    tokenizer.post_process(first, second, true).map_err(unreadable)
}

/// Cuts a text that is far longer than the model reads. Runs of blanks, as columns of a report are filled up with, are
/// one blank in it: they are no tokens, and must not take the place of words.
fn cut(text: &str, max_tokens: usize) -> std::borrow::Cow<'_, str> {
    let most = max_tokens * MAX_CHARS_PER_TOKEN;
    if text.char_indices().nth(most).is_none() {
        return text.into();
    }
    let mut after_blank = false;
    let dense = text.chars().filter(|c| !(std::mem::replace(&mut after_blank, c.is_whitespace()) && c.is_whitespace()));
    dense.take(most).collect::<String>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(cut("short", 8), "short");
        assert_eq!(cut(&"水".repeat(1000), 8), "水".repeat(128));
        assert_eq!(cut(&format!("{}é", "a".repeat(127)), 8).chars().count(), 128);
    }

    #[test]
    fn blanks_do_not_take_the_place_of_words() {
        let row = |n: usize| format!("{n:<60}{:>100}\n", "x");
        let report = (0..4).map(row).collect::<String>() + "total";
        assert_eq!(cut(&report, 8), "0 x\n1 x\n2 x\n3 x\ntotal");
        // What is short enough is left as it is.
        assert_eq!(cut(&report, 100), report);
    }
}
