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
use std::time::Duration;

use clap::Parser;
use futures::StreamExt;
use rag_api::catalog::{self, Catalog, Content, NewDocument, Publication, PutMode};
use rag_api::config::{self, LoadOptions};
use rag_api::document::{Passage, Principal, Scope, TenantId};
use rag_api::embedding::{Embedder, Priority};
use rag_api::error::{Error, Result};
use rag_api::ingest::chunk::{ChunkOptions, chunk};
use rag_api::ingest::extract::Extracted;
use rag_api::llm::extractive::{ANSWERABLE, Extractive, answerability};
use rag_api::llm::{GenerationEvent, GenerationRequest, Llm, ScoredPassage};
use rag_api::resilience::Deadline;
use rag_api::retrieve::{Backends, Mode, RetrievalRequest, Retriever};
use rag_api::vector_store::bm25::Bm25;
use rag_api::vector_store::{self, Point, VectorStore};
use rag_api::{embedding, models, rerank};
use serde::Deserialize;

const HOUR: Duration = Duration::from_secs(3600);

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
    #[serde(default)]
    title: String,
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

struct Bench {
    embedder: Arc<dyn Embedder>,
    store: Arc<dyn VectorStore>,
    catalog: Arc<dyn Catalog>,
    retriever: Retriever,
    options: ChunkOptions,
    top_k: usize,
}

#[tokio::main]
async fn main() -> Result<()> {
    let cli = Cli::parse();
    let dir = tempfile::tempdir().map_err(|error| Error::internal("no temporary folder", error))?;
    let bench = bench(dir.path()).await?;
    for name in &cli.collections {
        let chunks = bench.load(name, &read(&cli.folder.join(name).join("corpus.jsonl"), None)?).await?;
        println!("{name}: {chunks} chunks");
    }
    let mut scores = Vec::new();
    for (asked, name) in cli.collections.iter().enumerate() {
        for (owner, from) in cli.collections.iter().enumerate() {
            let (kind, count) = match asked == owner {
                true => (Kind::Own, cli.questions),
                false => (Kind::Foreign, cli.questions / 3),
            };
            let questions = read(&cli.folder.join(from).join("queries.jsonl"), Some(count))?;
            scores.extend(bench.ask(asked, name, kind, questions).await?);
        }
        let near = cli.folder.join(name).join("unanswerable.jsonl");
        if near.exists() {
            scores.extend(bench.ask(asked, name, Kind::Near, read(&near, Some(cli.questions))?).await?);
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

async fn bench(dir: &Path) -> Result<Bench> {
    let config = config::load(LoadOptions::default())?.config;
    models::init_runtime(&config.models)?;
    let embedder = embedding::build(&config.embedding, &config.models)?;
    let reranker = rerank::build(&config.rerank, &config.models, &embedder)?;
    let place = vector_store::Config::Edge { path: dir.join("vectors"), collection: "documents".to_owned() };
    let store = vector_store::build(&place, embedder.model())?;
    let catalog = catalog::build(&catalog::Config::Sqlite { path: dir.join("catalog.db") }).await?;
    let backends = Backends { embedder: embedder.clone(), store: store.clone(), reranker, catalog: catalog.clone() };
    let options = ChunkOptions { max_tokens: config.ingest.chunk_tokens, overlap: config.ingest.chunk_overlap };
    let top_k = config.retrieve.rerank_top_k;
    Ok(Bench { embedder, store, catalog, retriever: Retriever::new(backends, config.retrieve)?, options, top_k })
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

impl Bench {
    /// Loads a collection as a tenant with one document; every record keeps its own title.
    async fn load(&self, name: &str, corpus: &[Record]) -> Result<usize> {
        let tenant: TenantId = name.parse()?;
        let content = Content {
            filename: None,
            media_type: "text/plain".to_owned(),
            bytes: 0,
            sha256: String::new(),
            blob: String::new(),
        };
        let document = NewDocument {
            tenant: tenant.clone(),
            document_id: "corpus".parse()?,
            owner: Principal::public(),
            as_admin: true,
            readers: None,
            title: None,
            metadata: None,
            content,
            request: None,
        };
        self.catalog.put(document, PutMode::Create).await?;
        let Some(job) = self.catalog.claim(HOUR).await? else { return Err(Error::not_found("job")) };
        let bm25 = Bm25::new()?;
        let counter = self.embedder.token_counter();
        let mut passages = Vec::new();
        for record in corpus {
            let extracted = Extracted {
                media_type: "text/markdown".to_owned(),
                title: None,
                text: record.text.clone(),
                markdown: true,
                pages: Vec::new(),
            };
            for cut in chunk(&extracted, &record.title, &*counter, self.options) {
                let cut =
                    rag_api::document::Chunk { chunk_idx: u32::try_from(passages.len()).unwrap_or(u32::MAX), ..cut };
                passages.push(Passage {
                    document_id: job.record.document_id.clone(),
                    version: job.record.version,
                    title: record.title.clone(),
                    metadata: job.record.metadata.clone(),
                    chunk: cut,
                });
            }
        }
        let count = passages.len();
        let points = futures::stream::iter(passages).map(|passage| {
            let (tenant, bm25) = (tenant.clone(), &bm25);
            async move {
                let text = passage.contextual_text();
                let sparse = bm25.document(&text);
                let dense = self.embedder.embed(vec![text], Priority::Bulk).await?.pop().unwrap_or_default();
                Ok::<_, Error>(Point { tenant, principals: vec![Principal::public()], passage, dense, sparse })
            }
        });
        let mut batches = points.buffered(8).chunks(256);
        while let Some(batch) = batches.next().await {
            self.store.upsert(batch.into_iter().collect::<Result<_>>()?).await?;
        }
        let chunks = u32::try_from(count).unwrap_or(u32::MAX);
        let (version, access_version) = (job.record.version, job.record.access_version);
        let publication = Publication { version, chunks, access_version, title: String::new() };
        self.catalog.publish(&job.lease, &publication).await?;
        Ok(count)
    }

    async fn ask(&self, collection: usize, name: &str, kind: Kind, questions: Vec<Record>) -> Result<Vec<Score>> {
        let scope = Scope::new(name.parse()?, vec![Principal::public()]);
        let scores = futures::stream::iter(questions).map(|question| {
            let scope = scope.clone();
            async move {
                let request = RetrievalRequest {
                    scope,
                    question: question.text.clone(),
                    top_k: self.top_k,
                    filter: None,
                    mode: Mode::Hybrid,
                    rerank: true,
                    explain: false,
                    deadline: Deadline::after(HOUR),
                };
                let passages = self.retriever.retrieve(&request).await?.passages;
                let score = answerability(&question.text, &passages);
                let right = match question.answers.is_empty() || kind != Kind::Own {
                    true => None,
                    false => Some(holds(&extract(&question.text, passages).await?, &question.answers)),
                };
                Ok(Score { collection, kind, score, right, question: question.text })
            }
        });
        scores.buffered(2).collect::<Vec<_>>().await.into_iter().collect()
    }
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
