//! The long documents of a collection of passages, put together again, with the stretches of them that are relevant.
//!
//! `corpus.jsonl` has passages with `start` and `end`; those of one `title` make one document. `spans.jsonl` has
//! `query-id`, `corpus` (the title), `start`, `end` and `content`, in characters of that document.

use std::collections::HashMap;
use std::path::Path;

use serde::Deserialize;

use super::collection::{Collection, Document, json_lines, wrong};
use super::spans::Place;
use crate::error::Result;

/// Most characters between two passages that are taken for a hole, and not for a mistake.
const MAX_HOLE: u64 = 1 << 20;

/// A collection whose documents are the originals.
#[derive(Debug, Clone)]
pub struct Originals {
    /// With the questions that have a usable span; its documents are the originals.
    pub collection: Collection,
    /// What is relevant, by question.
    pub relevant: HashMap<String, Vec<Place>>,
    /// Spans of `spans.jsonl`.
    pub spans: usize,
    /// Lines of spans whose text is not where they say it is; they are left out.
    pub unusable: Vec<usize>,
}

#[derive(Debug, Deserialize)]
struct Span {
    #[serde(rename = "query-id")]
    query: String,
    corpus: String,
    start: u64,
    end: u64,
    content: String,
}

impl Originals {
    /// Whether a folder has spans.
    pub fn are_in(folder: &Path) -> bool {
        folder.join("spans.jsonl").exists()
    }

    /// Reads a folder.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::Config`] that names the file.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("spans.jsonl");
        let spans: Vec<Span> = json_lines(&path)?;
        let mut collection = Collection::read(folder)?;
        collection.documents =
            rebuild(collection.documents).map_err(|problem| wrong(&folder.join("corpus.jsonl"), problem))?;
        let number = |(number, document): (usize, &Document)| (document.id.clone(), number);
        let numbers: HashMap<String, usize> = collection.documents.iter().enumerate().map(number).collect();
        let texts: Vec<Vec<char>> =
            collection.documents.iter().map(|document| document.text.chars().collect()).collect();
        let mut relevant: HashMap<String, Vec<Place>> = HashMap::new();
        let mut unusable = Vec::new();
        for (index, span) in spans.iter().enumerate() {
            match numbers.get(&span.corpus).filter(|number| is_at(&texts[**number], span)) {
                Some(&document) => {
                    let place = Place { document, range: span.start..span.end };
                    relevant.entry(span.query.clone()).or_default().push(place);
                }
                None => unusable.push(index + 1),
            }
        }
        collection.queries.retain(|query| relevant.contains_key(&query.id));
        if collection.queries.is_empty() {
            return Err(wrong(&path, "no question has a span whose text is where it says"));
        }
        Ok(Self { collection, relevant, spans: spans.len(), unusable })
    }
}

/// Whether a span's text is where it says.
fn is_at(text: &[char], span: &Span) -> bool {
    let range = usize::try_from(span.start).ok().zip(usize::try_from(span.end).ok());
    let found = range.and_then(|(start, end)| text.get(start..end));
    found.is_some_and(|found| !found.is_empty() && found.iter().copied().eq(span.content.chars()))
}

/// The documents that passages are of, in the order in which their titles come first. A hole between passages is blank.
fn rebuild(passages: Vec<Document>) -> std::result::Result<Vec<Document>, String> {
    let mut titles: Vec<String> = Vec::new();
    let mut parts: HashMap<String, Vec<(u64, String)>> = HashMap::new();
    for passage in passages {
        let Document { id, title, text, start: Some(start), end: Some(end) } = passage else {
            return Err(format!("passage {} has no start and end", passage.id));
        };
        if end.checked_sub(start) != Some(text.chars().count() as u64) {
            return Err(format!("passage {id} is not as long as its start and end say"));
        }
        if !parts.contains_key(&title) {
            titles.push(title.clone());
        }
        parts.entry(title).or_default().push((start, text));
    }
    let whole = |title: String| {
        let mut parts = parts.remove(&title).unwrap_or_default();
        parts.sort_by_key(|(start, _)| *start);
        let (mut text, mut length) = (String::new(), 0);
        for (start, part) in parts {
            if start.saturating_sub(length) > MAX_HOLE {
                return Err(format!("the passages of {title:?} leave a hole of {} characters", start - length));
            }
            while length < start {
                text.push(' ');
                length += 1;
            }
            // What the one before had already.
            let overlap = usize::try_from(length - start).unwrap_or(usize::MAX);
            for c in part.chars().skip(overlap) {
                text.push(c);
                length += 1;
            }
        }
        Ok(Document { id: title.clone(), title, text, start: None, end: None })
    };
    titles.into_iter().map(whole).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passage(title: &str, start: u64, text: &str) -> Document {
        let end = Some(start + text.chars().count() as u64);
        Document { id: format!("{title}-{start}"), title: title.into(), text: text.into(), start: Some(start), end }
    }

    #[test]
    fn passages_make_documents_by_their_places() {
        let passages =
            vec![passage("b", 4, "üü d"), passage("a", 0, "one"), passage("b", 0, "ab cü"), passage("b", 10, "end")];
        let rebuilt = rebuild(passages).unwrap();
        let texts: Vec<_> = rebuilt.iter().map(|document| (document.id.as_str(), document.text.as_str())).collect();
        assert_eq!(texts, [("b", "ab cüü d  end"), ("a", "one")]);
    }

    #[test]
    fn passages_that_cannot_be_placed_are_named() {
        let no_place = Document { start: None, ..passage("a", 0, "x") };
        assert_eq!(rebuild(vec![no_place]).unwrap_err(), "passage a-0 has no start and end");
        let short = Document { end: Some(9), ..passage("a", 0, "x") };
        assert_eq!(rebuild(vec![short]).unwrap_err(), "passage a-0 is not as long as its start and end say");
        let far = rebuild(vec![passage("a", u64::MAX - 8, "x")]).unwrap_err();
        assert!(far.contains("leave a hole"), "{far}");
    }

    #[test]
    fn spans_that_are_elsewhere_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("corpus.jsonl", r#"{"_id": "p1", "title": "a", "text": "Ten years.", "start": 0, "end": 10}"#);
        write("queries.jsonl", "{\"_id\": \"q1\", \"text\": \"How long?\"}\n{\"_id\": \"q2\", \"text\": \"Who?\"}");
        write("qrels.tsv", "q1\tp1\t1\nq2\tp1\t1\n");
        let span = |query: &str, start: u64, end: u64, content: &str| {
            format!(
                r#"{{"query-id": "{query}", "corpus": "a", "start": {start}, "end": {end}, "content": "{content}"}}"#
            )
        };
        let spans = [span("q1", 0, 3, "Ten"), span("q1", 4, 9, "Years"), span("q2", 8, 99, "s.")].join("\n");
        write("spans.jsonl", &spans);
        let read = Originals::read(folder.path()).unwrap();
        assert_eq!((read.spans, read.unusable), (3, vec![2, 3]));
        assert_eq!(read.relevant, [("q1".to_owned(), vec![Place { document: 0, range: 0..3 }])].into());
        assert_eq!(read.collection.queries.len(), 1);
        write("spans.jsonl", &span("q1", 1, 4, "Ten"));
        let wrong = Originals::read(folder.path()).unwrap_err();
        assert!(
            wrong.message().ends_with("spans.jsonl: no question has a span whose text is where it says"),
            "{wrong}"
        );
    }
}
