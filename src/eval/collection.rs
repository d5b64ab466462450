//! Collections in BEIR's format: `corpus.jsonl` (`_id`, `title`, `text`), `queries.jsonl` (`_id`, `text`) and `qrels.tsv`
//! (`query-id`, `corpus-id`, `score`, with a head).
//!
//! Beyond BEIR, and where they are there: a question's `answers`, `unanswerable.jsonl` with questions that no document
//! answers, and what [`super::originals`] reads.

use std::collections::HashMap;
use std::path::Path;

use rand::SeedableRng;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::metrics::Judgements;
use crate::error::{Error, Result};

/// A document.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Document {
    /// Its id, which judgements name.
    #[serde(rename = "_id")]
    pub id: String,
    /// Its title, perhaps empty.
    #[serde(default)]
    pub title: String,
    /// Its text.
    pub text: String,
    /// Where it is a passage of a longer text: the first character, in Unicode scalar values.
    #[serde(default)]
    pub start: Option<u64>,
    /// One past the last character.
    #[serde(default)]
    pub end: Option<u64>,
}

/// A question.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Query {
    /// Its id, which judgements name.
    #[serde(rename = "_id")]
    pub id: String,
    /// Its text.
    pub text: String,
    /// What answers it, in words that a person chose; any of them will do.
    #[serde(default)]
    pub answers: Vec<String>,
}

/// Documents, questions, and what is relevant for which.
#[derive(Debug, Clone)]
pub struct Collection {
    /// The name of its folder.
    pub name: String,
    /// In the order of the file.
    pub documents: Vec<Document>,
    /// The questions that have a relevant document, in the order of the file.
    pub queries: Vec<Query>,
    /// By question.
    pub judgements: HashMap<String, Judgements>,
    /// Questions that no document answers.
    pub unanswerable: Vec<Query>,
}

impl Collection {
    /// Reads a folder.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::Config`] that names the file, and the line where one is wrong.
    pub fn read(folder: &Path) -> Result<Self> {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let documents = json_lines(&folder.join("corpus.jsonl"))?;
        let judgements = judgements(&folder.join("qrels.tsv"))?;
        let mut queries: Vec<Query> = json_lines(&folder.join("queries.jsonl"))?;
        let judged = |query: &Query| judgements.get(&query.id).is_some_and(|of| of.values().any(|grade| *grade > 0));
        queries.retain(judged);
        if queries.is_empty() {
            return Err(wrong(&folder.join("queries.jsonl"), "no question has a relevant document in qrels.tsv"));
        }
        let unanswerable = folder.join("unanswerable.jsonl");
        let unanswerable = if unanswerable.exists() { json_lines(&unanswerable)? } else { Vec::new() };
        Ok(Self { name, documents, queries, judgements, unanswerable })
    }

    /// Keeps at most `count` questions (and as many unanswerable ones), chosen at random by `seed`, in the order of the
    /// file.
    pub fn sample(&mut self, count: usize, seed: u64) {
        sample(&mut self.queries, count, seed);
        sample(&mut self.unanswerable, count, seed);
    }
}

fn sample(queries: &mut Vec<Query>, count: usize, seed: u64) {
    if count >= queries.len() {
        return;
    }
    let mut random = rand::rngs::StdRng::seed_from_u64(seed);
    let mut chosen = rand::seq::index::sample(&mut random, queries.len(), count).into_vec();
    chosen.sort_unstable();
    *queries = chosen.into_iter().map(|i| queries[i].clone()).collect();
}

pub(super) fn wrong(path: &Path, problem: impl std::fmt::Display) -> Error {
    Error::config(format!("{}: {problem}", path.display()))
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|error| wrong(path, "cannot be read").with_source(error))
}

/// The lines that are not empty, with their numbers from 1.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(i, line)| (i + 1, line)).filter(|(_, line)| !line.trim().is_empty())
}

pub(super) fn json_lines<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    let text = read(path)?;
    let parse = |(number, line)| {
        serde_json::from_str(line).map_err(|error| wrong(path, format_args!("line {number}: {error}")))
    };
    lines(&text).map(parse).collect()
}

fn judgements(path: &Path) -> Result<HashMap<String, Judgements>> {
    let text = read(path)?;
    let mut all: HashMap<String, Judgements> = HashMap::new();
    for (number, line) in lines(&text) {
        let fields: Vec<&str> = line.split('\t').map(str::trim).collect();
        if number == 1 && fields.first() == Some(&"query-id") {
            continue;
        }
        let malformed =
            || wrong(path, format_args!("line {number}: expected query-id, corpus-id and a score, by tabs"));
        let [query, document, score] = fields[..] else { return Err(malformed()) };
        // Grades below 0 (spam, in some judgements) are not relevant either.
        let grade = score.parse::<i64>().map_err(|_| malformed())?;
        let grade = u32::try_from(grade.max(0)).map_err(|_| malformed())?;
        all.entry(query.to_owned()).or_default().insert(document.to_owned(), grade);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(qrels: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let write = |name, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write(
            "corpus.jsonl",
            "{\"_id\": \"d1\", \"title\": \"T\", \"text\": \"a\"}\n\n{\"_id\": \"d2\", \"text\": \"b\"}\n",
        );
        write("queries.jsonl", "{\"_id\": \"q1\", \"text\": \"A?\"}\n{\"_id\": \"q2\", \"text\": \"B?\"}\n");
        write("qrels.tsv", qrels);
        folder
    }

    #[test]
    fn a_folder_is_read() {
        let folder = folder("query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td2\t0\nq2\td2\t-1\n");
        let collection = Collection::read(folder.path()).unwrap();
        assert_eq!(collection.documents.len(), 2);
        let kept: Vec<&str> = collection.queries.iter().map(|query| query.id.as_str()).collect();
        assert_eq!(kept, ["q1"], "q2 has nothing relevant");
        assert_eq!(collection.judgements["q1"], [("d1".to_owned(), 2), ("d2".to_owned(), 0)].into());
    }

    #[test]
    fn what_is_wrong_is_named() {
        let problem = |qrels| Collection::read(folder(qrels).path()).unwrap_err().message().to_owned();
        assert!(problem("q1 d1 1\n").ends_with("qrels.tsv: line 1: expected query-id, corpus-id and a score, by tabs"));
        assert!(problem("q1\td1\tx\n").contains("line 1"));
        assert!(problem("").ends_with("no question has a relevant document in qrels.tsv"));
        let nowhere = Collection::read(Path::new("/nowhere")).unwrap_err();
        assert!(nowhere.message().ends_with("corpus.jsonl: cannot be read"));
    }

    #[test]
    fn a_sample_is_the_same_for_a_seed() {
        let folder = folder("q1\td1\t1\nq2\td2\t1\n");
        let mut one = Collection::read(folder.path()).unwrap();
        let mut other = one.clone();
        one.sample(1, 7);
        other.sample(1, 7);
        assert_eq!((one.queries.len(), &one.queries), (1, &other.queries));
        other.sample(5, 7);
        assert_eq!(other.queries.len(), 1);
    }
}
