//! BM25 as sparse vectors: term-frequency weights here, inverse document frequencies in the store (`Modifier::Idf`).
//!
//! One tokenizer for questions and documents, and for every store, so that scores agree: NFKC, lower case, accents
//! folded, words cut at what is not alphanumeric, English stop words and stemming. Scripts that are written without
//! spaces are cut into overlapping pairs of characters first, as Lucene's CJK analyzer does: it needs no dictionary,
//! gives the same tokens in a question as in a document, and keeps digits (the engine's own `Multilingual` tokenizer
//! drops every token without a letter, such as years and article numbers).
//!
//! A change of what is made here orphans the stored vectors: raise [`REVISION`].

use std::borrow::Cow;

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfkc_quick};

use crate::error::Result;
use crate::vector_store::SparseVector;

/// Counts changes of tokens or weights; a store refuses vectors of another revision.
pub const REVISION: u32 = 1;

/// How soon more of a term weighs no more.
const K1: f32 = 1.2;

/// What a term's weight in a document comes near to, the more the document has of it.
pub const LARGEST_WEIGHT: f32 = K1 + 1.0;

/// Turns texts into BM25 vectors.
#[derive(Debug)]
pub struct Bm25 {
    model: Model,
}

impl Bm25 {
    /// The one model. Fails in a build without the feature `edge`, which brings the tokenizer.
    pub fn new() -> Result<Self> {
        Model::new().map(|model| Self { model })
    }

    /// The weights of a document's terms (k1 1.2, b 0.75). Empty if it has none.
    pub fn document(&self, text: &str) -> SparseVector {
        self.model.document(&prepare(text))
    }

    /// A question's terms, each of weight 1. Empty if it has none, as when all are stop words.
    pub fn query(&self, text: &str) -> SparseVector {
        self.model.query(&prepare(text))
    }
}

/// Text in compatibility form, with pairs of characters for words where words are not spaced.
fn prepare(text: &str) -> Cow<'_, str> {
    let text = match is_nfkc_quick(text.chars()) {
        IsNormalized::Yes => Cow::Borrowed(text),
        IsNormalized::No | IsNormalized::Maybe => Cow::Owned(text.nfkc().collect()),
    };
    if text.is_ascii() || !text.chars().any(is_unspaced) {
        return text;
    }
    let mut pairs = String::with_capacity(text.len() * 3);
    let mut previous: Option<char> = None;
    let mut run = 0;
    for c in text.chars() {
        if is_unspaced(c) {
            match previous {
                Some(first) => {
                    pairs.push(' ');
                    pairs.push(first);
                    pairs.push(c);
                }
                None => run = 0,
            }
            run += 1;
            previous = Some(c);
        } else {
            end_run(&mut pairs, previous.take(), run);
            pairs.push(c);
        }
    }
    end_run(&mut pairs, previous, run);
    Cow::Owned(pairs)
}

/// A character that stands alone is a word of its own.
fn end_run(pairs: &mut String, last: Option<char>, run: usize) {
    if let Some(last) = last {
        if run == 1 {
            pairs.push(' ');
            pairs.push(last);
        }
        pairs.push(' ');
    }
}

/// Han, kana and Hangul. (Korean has spaces, but its particles are part of the word, so pairs find more.)
fn is_unspaced(c: char) -> bool {
    matches!(c,
        '\u{1100}'..='\u{11FF}'
        | '\u{3005}'..='\u{3007}'
        | '\u{3041}'..='\u{3096}'
        | '\u{30A1}'..='\u{30FA}'
        | '\u{30FC}'..='\u{30FF}'
        | '\u{3400}'..='\u{4DBF}'
        | '\u{4E00}'..='\u{9FFF}'
        | '\u{AC00}'..='\u{D7A3}'
        | '\u{F900}'..='\u{FAFF}'
        | '\u{20000}'..='\u{323AF}')
}

#[cfg(feature = "edge")]
use engine::Model;

#[cfg(feature = "edge")]
mod engine {
    use qdrant_edge::bm25_embed::{EdgeBm25, EdgeBm25Config};
    use qdrant_edge::external::ordered_float::NotNan;
    use qdrant_edge::{SparseVector as EdgeSparseVector, TokenizerType};

    use super::{K1, SparseVector};
    use crate::error::{Error, Result};

    /// Length at which a document's weights are neither raised nor lowered, in tokens after stop words: what an English
    /// chunk of about 200 subword tokens (the chunks that the local models read) leaves, 150 words less their stop words.
    const AVERAGE_LENGTH: f64 = 90.0;

    #[derive(Debug)]
    pub(super) struct Model(EdgeBm25);

    impl Model {
        pub(super) fn new() -> Result<Self> {
            let number = |value| NotNan::new(value).map_err(|error| Error::internal("a BM25 parameter is NaN", error));
            let config = EdgeBm25Config {
                k: number(f64::from(K1))?,
                b: number(0.75)?,
                avg_len: number(AVERAGE_LENGTH)?,
                tokenizer: TokenizerType::Word,
                language: Some("english".to_owned()),
                ascii_folding: Some(true),
                ..EdgeBm25Config::default()
            };
            EdgeBm25::new(config).map(Self).map_err(|error| Error::internal("BM25 refused its parameters", error))
        }

        pub(super) fn document(&self, text: &str) -> SparseVector {
            ours(self.0.embed_document(text))
        }

        pub(super) fn query(&self, text: &str) -> SparseVector {
            ours(self.0.embed_query(text))
        }
    }

    fn ours(vector: EdgeSparseVector) -> SparseVector {
        SparseVector { indices: vector.indices, values: vector.values }
    }
}

/// Without the feature `edge` there is no tokenizer: no value of this type exists.
#[cfg(not(feature = "edge"))]
#[derive(Debug)]
enum Model {}

#[cfg(not(feature = "edge"))]
impl Model {
    fn new() -> Result<Self> {
        Err(crate::error::Error::config(
            "this binary was built without the feature `edge`, which brings the BM25 tokenizer",
        ))
    }

    fn document(&self, _text: &str) -> SparseVector {
        match *self {}
    }

    fn query(&self, _text: &str) -> SparseVector {
        match *self {}
    }
}

#[cfg(all(test, feature = "edge"))]
mod tests {
    use super::*;

    fn shared(document: &str, question: &str) -> usize {
        let bm25 = Bm25::new().unwrap();
        let document = bm25.document(document);
        bm25.query(question).indices.iter().filter(|index| document.indices.contains(index)).count()
    }

    #[test]
    fn runs_become_pairs_and_the_rest_is_left() {
        assert_eq!(prepare("plain text 2023"), "plain text 2023");
        assert_eq!(prepare("保留十年"), " 保留 留十 十年 ");
        assert_eq!(prepare("发票invoice保 2023"), " 发票 invoice 保  2023");
        assert_eq!(prepare("ﬁle №5"), "file No5");
    }

    #[test]
    fn english_is_stemmed_and_stop_words_go() {
        assert_eq!(shared("Invoices are kept for ten years.", "How long is an invoice kept?"), 2);
        assert!(Bm25::new().unwrap().query("what is the").indices.is_empty());
        assert_eq!(shared("Der Müller", "muller"), 1);
    }

    #[test]
    fn numbers_are_words() {
        assert_eq!(shared("Article 404 of 2023", "404"), 1);
        assert_eq!(shared("第404条", "404"), 1);
    }

    #[test]
    fn chinese_and_japanese_questions_meet_their_documents() {
        assert!(shared("发票必须保留十年。", "发票要保留多久?") >= 2);
        assert!(shared("請求書は十年間保管されます。", "請求書の保管期間") >= 3);
        assert_eq!(shared("发票必须保留十年。", "天气怎么样"), 0);
    }

    #[test]
    fn a_longer_document_weighs_a_term_less() {
        let bm25 = Bm25::new().unwrap();
        let short = bm25.document("invoice");
        let long = bm25.document(&format!("invoice {}", "other words follow here ".repeat(50)));
        let index = short.indices[0];
        let position = long.indices.iter().position(|i| *i == index).unwrap();
        assert!(short.values[0] > long.values[position]);
    }
}
