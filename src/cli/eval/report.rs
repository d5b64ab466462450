//! What an evaluation found, for people, for programs, and question by question.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;

use rag_api::config::EffectiveSetting;
use rag_api::error::{Error, Result};
use rag_api::eval::statistics::mean;
use serde::{Serialize, Serializer};

use super::Common;
use crate::cli::say;

/// Rises when a field of the JSON changes its meaning or goes.
const SCHEMA: u32 = 1;
/// Width of a column of numbers.
const COLUMN: usize = 13;

/// What the names of settings begin with on which results depend.
const SETTINGS: [&str; 7] = [
    "RAG_CHUNK_",
    "RAG_EMBEDDING_MODEL",
    "RAG_LLM_MODEL",
    "RAG_MAX_CONTEXT_TOKENS",
    "RAG_MAX_OUTPUT_TOKENS",
    "RAG_RERANK",
    "RAG_RETRIEVAL_",
];

/// One question's values, in the order of the metrics; `None`: the metric does not apply to it.
pub(super) type Values = Vec<Option<f64>>;

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    schema: u32,
    command: &'static str,
    version: &'static str,
    /// The model's own name, which tells apart folders of one name.
    embedding_model: String,
    /// Those that results depend on.
    settings: BTreeMap<String, String>,
    seed: u64,
    max_questions: Option<usize>,
    collections: Vec<Section>,
    mean: Vec<Row>,
    #[serde(skip)]
    per_query: String,
}

#[derive(Debug, Serialize)]
struct Section {
    name: String,
    documents: usize,
    chunks: usize,
    questions: usize,
    rows: Vec<Row>,
}

/// A line of a table.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Row {
    pub(super) name: String,
    #[serde(serialize_with = "as_map")]
    pub(super) metrics: Vec<(String, Option<f64>)>,
}

fn as_map<S: Serializer>(metrics: &[(String, Option<f64>)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(metrics.iter().map(|(name, value)| (name, value)))
}

impl Row {
    /// The means of many questions' values.
    pub(super) fn mean(name: &str, metrics: &[String], values: &[Values]) -> Self {
        let of = |(i, metric): (usize, &String)| (metric.clone(), mean(values.iter().map(|values| values[i])));
        Self { name: name.to_owned(), metrics: metrics.iter().enumerate().map(of).collect() }
    }

    fn line(&self, width: usize) -> String {
        let cells: String = self.metrics.iter().map(|(_, value)| format!("{:>COLUMN$}", cell(*value))).collect();
        format!("  {:<width$}{cells}", self.name)
    }
}

fn cell(value: Option<f64>) -> String {
    match value {
        None => "–".to_owned(),
        // Counts.
        Some(value) if value > 1.0 && value.fract() == 0.0 => format!("{value:.0}"),
        Some(value) => format!("{value:.4}"),
    }
}

impl Report {
    pub(super) fn new(settings: &[EffectiveSetting], embedding_model: &str) -> Self {
        let matters = |setting: &&EffectiveSetting| SETTINGS.iter().any(|prefix| setting.name.starts_with(prefix));
        let pair = |setting: &EffectiveSetting| (setting.name.clone(), setting.value.clone());
        let settings = settings.iter().filter(matters).map(pair).collect();
        let embedding_model = embedding_model.to_owned();
        Self {
            schema: SCHEMA,
            command: "",
            version: env!("CARGO_PKG_VERSION"),
            embedding_model,
            settings,
            seed: 0,
            max_questions: None,
            collections: Vec::new(),
            mean: Vec::new(),
            per_query: String::new(),
        }
    }

    /// Begins a collection, and prints what it has.
    pub(super) fn begin(&mut self, name: &str, documents: usize, chunks: usize, questions: usize) -> Result<()> {
        self.collections.push(Section { name: name.to_owned(), documents, chunks, questions, rows: Vec::new() });
        say(&format!("{name}: {documents} documents, {chunks} chunks, {questions} questions")).map(drop)
    }

    /// Adds a line to the collection that was begun, and prints it, the first one under a head. Names are as wide as
    /// `width`.
    pub(super) fn add(&mut self, row: Row, width: usize) -> Result<()> {
        let Some(section) = self.collections.last_mut() else { return Ok(()) };
        if section.rows.is_empty() {
            say(&head(&row, width))?;
        }
        say(&row.line(width))?;
        section.rows.push(row);
        Ok(())
    }

    /// Notes every question's values.
    pub(super) fn note<'a>(
        &mut self,
        row: &str,
        metrics: &[String],
        values: impl IntoIterator<Item = (&'a str, &'a Values)>,
    ) {
        let Some(section) = self.collections.last() else { return };
        if self.per_query.is_empty() {
            let _ = writeln!(self.per_query, "collection\tway\tquery\t{}", metrics.join("\t"));
        }
        for (query, values) in values {
            let cell = |value: &Option<f64>| value.map_or(String::new(), |value| format!("{value:.4}"));
            let cells: Vec<String> = values.iter().map(cell).collect();
            let _ = writeln!(self.per_query, "{}\t{row}\t{query}\t{}", section.name, cells.join("\t"));
        }
    }

    /// Prints the means of the collections, if there are several, and writes the files that were asked for.
    pub(super) fn finish(mut self, command: &'static str, common: &Common) -> Result<ExitCode> {
        (self.command, self.seed, self.max_questions) = (command, common.seed, common.queries);
        if self.collections.len() > 1 {
            self.mean = self.means();
            let width = width(self.mean.iter().map(|row| &row.name));
            say(&format!("mean of {} collections", self.collections.len()))?;
            if let Some(row) = self.mean.first() {
                say(&head(row, width))?;
            }
            for row in &self.mean {
                say(&row.line(width))?;
            }
        }
        if let Some(file) = &common.per_query {
            write(file, &self.per_query)?;
        }
        if let Some(file) = &common.json {
            let json = serde_json::to_string_pretty(&self)
                .map_err(|error| Error::internal("the results cannot be written as JSON", error))?;
            write(file, &(json + "\n"))?;
        }
        Ok(ExitCode::SUCCESS)
    }

    /// The mean of each row over the collections, which have the same rows, perhaps in another order.
    fn means(&self) -> Vec<Row> {
        let Some(first) = self.collections.first() else { return Vec::new() };
        let row = |row: &Row| {
            let of = |(i, (metric, _)): (usize, &(String, Option<f64>))| {
                let of = |section: &'_ Section| section.rows.iter().find(|other| other.name == row.name).cloned();
                let rows = self.collections.iter().filter_map(of);
                (metric.clone(), mean(rows.map(|row| row.metrics.get(i).and_then(|(_, value)| *value))))
            };
            Row { name: row.name.clone(), metrics: row.metrics.iter().enumerate().map(of).collect() }
        };
        first.rows.iter().map(row).collect()
    }
}

/// How wide the column of these names is.
pub(super) fn width<'a>(names: impl Iterator<Item = &'a String>) -> usize {
    names.map(|name| name.chars().count() + 2).max().unwrap_or(0)
}

fn head(row: &Row, width: usize) -> String {
    let names: String = row.metrics.iter().map(|(name, _)| format!("{name:>COLUMN$}")).collect();
    format!("  {:<width$}{names}", "")
}

fn write(file: &Path, text: &str) -> Result<()> {
    let failed = |error| Error::config(format!("{} cannot be written", file.display())).with_source(error);
    std::fs::write(file, text).map_err(failed)
}
