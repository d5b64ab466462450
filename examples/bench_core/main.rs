//! Measures everything around the models: the stores, retrieval and HTTP, over a corpus that is made for it.
//!
//! `cargo run --example bench_core -- search --chunks 100000` fills a folder (kept in `--data`, and then not filled
//! again) and prints latencies of distinct searches over HTTP, what each part takes, and the time of embedding one
//! question by the real model. `query` compares cached answers with `/health`, `overload` sends three times what the
//! server can do, `start` measures how long a server takes to be ready after its corpus was written ten times.
//!
//! The server is this program in a second process: the real application, with an embedder that has the vectors of the
//! corpus's questions ready. Settings are changed by `--set RAG_NAME=VALUE`.
#![allow(clippy::print_stdout, reason = "a command that prints a table")]

mod corpus;
mod library;
mod load;
mod measure;
mod parts;

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use rag_api::error::{Error, Result};

#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Chunks of the corpus
    #[arg(long, global = true, default_value_t = 100_000)]
    chunks: usize,
    /// Where the corpus is, or is to be, kept; not given: a temporary folder
    #[arg(long, global = true)]
    data: Option<PathBuf>,
    /// What the corpus and the questions are drawn from
    #[arg(long, global = true, default_value_t = 7)]
    seed: u64,
    /// Requests of each measurement
    #[arg(long, global = true, default_value_t = 2_000)]
    requests: usize,
    /// Seconds of overload
    #[arg(long, global = true, default_value_t = 60)]
    seconds: u64,
    /// A setting of the server, such as RAG_MAX_CONCURRENT_QUERIES=32
    #[arg(long = "set", global = true, value_parser = setting)]
    settings: Vec<(String, String)>,
}

#[derive(Debug, Clone, Copy, Subcommand)]
enum Command {
    /// Fill the folder only
    Fill,
    /// Time each part in this process
    Parts,
    /// Distinct searches over HTTP
    Search,
    /// Cached answers beside /health
    Query,
    /// Three times as many searches as the server can do
    Overload,
    /// The start after ten rewrites
    Start,
    /// Be the server
    #[command(hide = true)]
    Serve,
}

fn setting(text: &str) -> std::result::Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("a setting is NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// What every measurement is given.
pub(crate) struct Bench {
    pub(crate) folder: PathBuf,
    pub(crate) chunks: usize,
    pub(crate) seed: u64,
    pub(crate) requests: usize,
    pub(crate) seconds: u64,
    pub(crate) settings: Vec<(String, String)>,
}

impl Bench {
    /// The arguments that make this program serve the folder.
    pub(crate) fn serve_arguments(&self) -> Vec<String> {
        let mut arguments = vec!["serve".to_owned(), format!("--data={}", self.folder.display())];
        arguments.push(format!("--seed={}", self.seed));
        arguments.extend(self.settings.iter().map(|(name, value)| format!("--set={name}={value}")));
        arguments
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let cli = Cli::parse();
    let temporary = tempfile::tempdir().map_err(|error| Error::internal("no temporary folder", error))?;
    let folder = cli.data.clone().unwrap_or_else(|| temporary.path().to_owned());
    let Cli { chunks, seed, requests, seconds, settings, .. } = cli;
    let bench = Bench { folder, chunks, seed, requests, seconds, settings };
    match cli.command {
        Command::Serve => {
            let corpus = corpus::Corpus::new(seed);
            return library::serve(bench.folder, corpus, &bench.settings).await;
        }
        Command::Start => return measure::start(&bench).await,
        _ => measure::fill(&bench).await?,
    }
    match cli.command {
        Command::Parts => parts::run(&bench).await,
        Command::Search => {
            parts::run(&bench).await?;
            measure::search(&bench).await
        }
        Command::Query => measure::query(&bench).await,
        Command::Overload => measure::overload(&bench).await,
        Command::Fill | Command::Start | Command::Serve => Ok(()),
    }
}
