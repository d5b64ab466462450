//! Measures when the extractive answerer refuses: every collection is asked its own questions, those of the others, and
//! those that its documents come near to and do not answer.
//!
//! `cargo run --example calibrate_answerability -- FOLDER [--collections a,b] [--questions N]`, where
//! `FOLDER/<collection>/` has `corpus.jsonl` (`title`, `text`), `queries.jsonl` (`text`, and `answers` if they are known)
//! and perhaps `unanswerable.jsonl`. Chunks, models and retrieval are those of the configuration.
//!
//! The first table has, for each collection, the share of its own questions that are answered, of foreign ones that are
//! refused, of near ones that are refused, and of own ones whose answer holds a known answer. The second shows the first
//! collection's shares for other thresholds. Every score is written to `--scores FILE`.
#![allow(clippy::print_stdout, reason = "a command that prints a table")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Parser;
use futures::StreamExt;
use rag_api::config::{self, LoadOptions};
use rag_api::error::{Error, Result};
use rag_api::eval::cache::{Cache, MAX_BYTES};
use rag_api::eval::index::Cutting;
use rag_api::eval::ranking::{Ranking, Variant};
use rag_api::eval::{Collection, Index, Models};
use rag_api::ingest::chunk::ChunkOptions;
use rag_api::llm::extractive::{ANSWERABLE, Extractive, answerability};
use rag_api::llm::{GenerationEvent, GenerationRequest, Llm, ScoredPassage};
use serde::Deserialize;

#[derive(Debug, Parser)]
struct Cli {
    /// The folder of collections
    folder: PathBuf,
    /// Which of them; the first is the one to calibrate on
    #[arg(long, value_delimiter = ',', default_value = "squad2_dev,chunk_eval,clapnq_dev,scifact")]
    collections: Vec<String>,
    /// Questions of each collection, evenly spread over its file; each other collection is asked a third of them
    #[arg(long, default_value_t = 150)]
    questions: usize,
    /// Where to write every score
    #[arg(long)]
    scores: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
struct Record {
    text: String,
    #[serde(default)]
    answers: Vec<String>,
}

/// Whose question it is, for the collection that is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Own,
    Foreign,
    Near,
}

#[derive(Debug)]
struct Score {
    collection: usize,
    kind: Kind,
    score: f32,
    /// Whether the extractive answer holds a known answer, where one is known.
    right: Option<bool>,
    question: String,
}

#[tokio::main]
async fn main() -> Result<()> {
    let cli = Cli::parse();
    let config = config::load(LoadOptions::default())?.config;
    let cache = Arc::new(Cache::open(&config.models.cache.join("eval-cache/cache.db"), MAX_BYTES).await?);
    let models = Models::load(&config, std::slice::from_ref(&config.rerank), cache).await?;
    // The last way is hybrid with the reranker, where there is one.
    let variant = Variant::all(&config.retrieve, &config.retrieve, &models).pop();
    let variant = variant.ok_or_else(|| Error::not_found("way to retrieve"))?;
    let options = ChunkOptions { max_tokens: config.ingest.chunk_tokens, overlap: config.ingest.chunk_overlap };
    let cutting = Cutting { options, title: true, headings: true };
    let top_k = config.retrieve.rerank_top_k;
    let mut scores = Vec::new();
    for (asked, name) in cli.collections.iter().enumerate() {
        let collection = Collection::read(&cli.folder.join(name))?;
        let index = Index::build(&models, &collection.documents, cutting, |_, _| {}).await?;
        println!("{name}: {} chunks", index.chunks());
        let ranking = Ranking::new(&models, &index, &variant)?;
        for (owner, from) in cli.collections.iter().enumerate() {
            let (kind, count) = match asked == owner {
                true => (Kind::Own, cli.questions),
                false => (Kind::Foreign, cli.questions / 3),
            };
            let questions = read(&cli.folder.join(from).join("queries.jsonl"), Some(count))?;
            scores.extend(ask(&ranking, top_k, asked, kind, questions).await?);
        }
        let near = cli.folder.join(name).join("unanswerable.jsonl");
        if near.exists() {
            scores.extend(ask(&ranking, top_k, asked, Kind::Near, read(&near, Some(cli.questions))?).await?);
        }
    }
    report(&cli.collections, &scores);
    if let Some(file) = &cli.scores {
        let row = |s: &Score| {
            format!("{}\t{:?}\t{:.4}\t{:?}\t{}\n", cli.collections[s.collection], s.kind, s.score, s.right, s.question)
        };
        let table: String = scores.iter().map(row).collect();
        std::fs::write(file, table).map_err(|error| Error::internal("the scores cannot be written", error))?;
    }
    Ok(())
}

/// The records of a file, or so many of them, evenly spread.
fn read(file: &Path, count: Option<usize>) -> Result<Vec<Record>> {
    let wrong = |error: std::io::Error| Error::config(format!("{} cannot be read", file.display())).with_source(error);
    let text = std::fs::read_to_string(file).map_err(wrong)?;
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let step = count.map_or(1, |count| lines.len() / count.max(1)).max(1);
    let lines = lines.into_iter().step_by(step).take(count.unwrap_or(usize::MAX));
    let parse = |line: &str| serde_json::from_str(line).map_err(|error| wrong(error.into()));
    lines.map(parse).collect()
}

async fn ask(
    ranking: &Ranking<'_>,
    top_k: usize,
    collection: usize,
    kind: Kind,
    questions: Vec<Record>,
) -> Result<Vec<Score>> {
    let scores = futures::stream::iter(questions).map(|question| async move {
        let passages = ranking.retrieve(&question.text, top_k).await?.passages;
        let score = answerability(&question.text, &passages);
        let right = match question.answers.is_empty() || kind != Kind::Own {
            true => None,
            false => Some(holds(&extract(&question.text, passages).await?, &question.answers)),
        };
        Ok(Score { collection, kind, score, right, question: question.text })
    });
    scores.buffered(2).collect::<Vec<_>>().await.into_iter().collect()
}

async fn extract(question: &str, passages: Vec<ScoredPassage>) -> Result<String> {
    let (question, system, user) = (question.to_owned(), String::new(), String::new());
    let request = GenerationRequest { question, passages, system, user, max_tokens: 500 };
    let mut generation = Extractive.generate(&request).await?;
    let mut answer = String::new();
    while let Some(event) = generation.next().await {
        if let GenerationEvent::Text(text) = event? {
            answer.push_str(&text);
        }
    }
    Ok(answer)
}

fn holds(answer: &str, known: &[String]) -> bool {
    let answer = answer.to_lowercase();
    known.iter().any(|known| answer.contains(&known.to_lowercase()))
}

fn report(names: &[String], scores: &[Score]) {
    println!(
        "\ncollection\town answered\tforeign refused\tnear refused\tholds a known answer (threshold {ANSWERABLE})"
    );
    for (collection, name) in names.iter().enumerate() {
        let of = |kind| scores.iter().filter(move |score| score.collection == collection && score.kind == kind);
        let own = share(of(Kind::Own).map(|score| score.score >= ANSWERABLE));
        let foreign = share(of(Kind::Foreign).map(|score| score.score < ANSWERABLE));
        let near = share(of(Kind::Near).map(|score| score.score < ANSWERABLE));
        let right = share(of(Kind::Own).filter_map(|score| score.right));
        println!("{name}\t{own}\t{foreign}\t{near}\t{right}");
    }
    println!("\nthreshold\town answered\tforeign refused ({})", names[0]);
    for step in 0..=12 {
        let threshold = ANSWERABLE + 0.02 * (step as f32 - 6.0);
        let of = |kind| scores.iter().filter(move |score| score.collection == 0 && score.kind == kind);
        let own = share(of(Kind::Own).map(|score| score.score >= threshold));
        let foreign = share(of(Kind::Foreign).map(|score| score.score < threshold));
        println!("{threshold:.2}\t{own}\t{foreign}");
    }
}

fn share(outcomes: impl Iterator<Item = bool>) -> String {
    let outcomes: Vec<bool> = outcomes.collect();
    let hits = outcomes.iter().filter(|hit| **hit).count();
    match outcomes.len() {
        0 => "-".to_owned(),
        all => format!("{:.1} % of {all}", 100.0 * hits as f64 / all as f64),
    }
}
