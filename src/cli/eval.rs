//! `rag-api eval retrieval | spans | answers`.

mod answers;
mod report;
mod retrieval;
mod spans;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};
use futures::{Stream, StreamExt, TryStreamExt};
use rag_api::config::{Config, Loaded};
use rag_api::error::Result;
use rag_api::eval::cache::{Cache, MAX_BYTES};
use rag_api::eval::collection::Document;
use rag_api::eval::index::Cutting;
use rag_api::eval::{Index, Models};
use rag_api::ingest::chunk::ChunkOptions;
use tempfile::TempDir;

use super::progress::bar;
use report::Report;

#[derive(Debug, Subcommand)]
pub(crate) enum EvalCommand {
    /// Measure retrieval on folders in BEIR's format (corpus.jsonl, queries.jsonl, qrels.tsv), without a server
    Retrieval(retrieval::RetrievalArgs),
    /// Measure chunking and retrieval on folders that also say which stretches of long documents are relevant
    /// (spans.jsonl)
    Spans(spans::SpansArgs),
    /// Measure the answers themselves, on folders whose questions have `answers`, or with unanswerable.jsonl
    Answers(answers::AnswersArgs),
}

impl EvalCommand {
    /// What the command line sets over the settings.
    pub(crate) fn common(&self) -> &Common {
        match self {
            Self::Retrieval(arguments) => &arguments.common,
            Self::Spans(arguments) => &arguments.common,
            Self::Answers(arguments) => &arguments.common,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Common {
    /// Folders of collections
    #[arg(required = true, value_name = "FOLDER")]
    folders: Vec<PathBuf>,
    /// At most so many questions of each collection, chosen at random
    #[arg(long, value_name = "N")]
    queries: Option<usize>,
    /// What the choice of questions depends on
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// A reranker, as RAG_RERANKER_MODEL names it (several: repeat it) [default: the configured one]
    #[arg(long, value_name = "NAME")]
    reranker: Vec<String>,
    /// Write the metrics of every question to a file, by tabs
    #[arg(long, value_name = "FILE")]
    per_query: Option<PathBuf>,
    /// Write all results to a file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Keep what the models computed in this folder, at most 2 GiB [default: eval-cache in the models cache]
    #[arg(long, value_name = "DIR", conflicts_with = "no_cache")]
    cache: Option<PathBuf>,
    /// Compute everything anew, and keep nothing
    #[arg(long)]
    no_cache: bool,
}

/// Plain reciprocal rank fusion (Cormack, Clarke and Buettcher, 2009), beside which other fusions are measured.
const PLAIN_FUSION: [(&str, &str); 4] = [
    ("RAG_RETRIEVAL_FUSION", "rrf"),
    ("RAG_RETRIEVAL_RRF_K", "60"),
    ("RAG_RETRIEVAL_DENSE_WEIGHT", "1"),
    ("RAG_RETRIEVAL_SPARSE_WEIGHT", "1"),
];

/// What every evaluation works with.
struct Bench {
    config: Config,
    /// Retrieval by [`PLAIN_FUSION`].
    plain: rag_api::retrieve::Config,
    models: Models,
    report: Report,
    /// Holds the cache of a run that keeps none.
    _scratch: TempDir,
}

/// Runs an evaluation. `load` gives the configuration with variables of the command line over it.
pub(crate) async fn eval(load: impl Fn(&[(&str, &str)]) -> Result<Loaded>, command: EvalCommand) -> Result<ExitCode> {
    let common = command.common();
    let mut rerankers = Vec::new();
    for name in &common.reranker {
        rerankers.push(load(&[("RAG_RERANKER_MODEL", name)])?.config.rerank);
    }
    let loaded = load(&[])?;
    if rerankers.is_empty() {
        rerankers.push(loaded.config.rerank.clone());
    }
    let plain = load(&PLAIN_FUSION)?.config.retrieve;
    let scratch = tempfile::tempdir()
        .map_err(|error| rag_api::error::Error::internal("no temporary folder can be made", error))?;
    let folder = match (&common.cache, common.no_cache) {
        (_, true) => scratch.path().to_owned(),
        (Some(folder), false) => folder.clone(),
        (None, false) => loaded.config.models.cache.join("eval-cache"),
    };
    // Collections first: a folder that is wrong is known before models are loaded.
    match command {
        EvalCommand::Retrieval(arguments) => {
            let collections = retrieval::read(&arguments)?;
            let mut bench = Bench::new(loaded, plain, &rerankers, (&folder, scratch)).await?;
            retrieval::measure(&mut bench, &arguments, &collections).await?;
            bench.report.finish("retrieval", &arguments.common)
        }
        EvalCommand::Spans(arguments) => {
            let collections = spans::read(&arguments)?;
            let mut bench = Bench::new(loaded, plain, &rerankers, (&folder, scratch)).await?;
            spans::measure(&mut bench, &arguments, &collections).await?;
            bench.report.finish("spans", &arguments.common)
        }
        EvalCommand::Answers(arguments) => {
            let collections = answers::read(&arguments)?;
            let mut bench = Bench::new(loaded, plain, &rerankers, (&folder, scratch)).await?;
            answers::measure(&mut bench, &collections).await?;
            bench.report.finish("answers", &arguments.common)
        }
    }
}

impl Bench {
    async fn new(
        loaded: Loaded,
        plain: rag_api::retrieve::Config,
        rerankers: &[rag_api::rerank::Config],
        (folder, scratch): (&Path, TempDir),
    ) -> Result<Self> {
        let cache = Arc::new(Cache::open(&folder.join("cache.db"), MAX_BYTES).await?);
        let models = Models::load(&loaded.config, rerankers, cache).await?;
        let report = Report::new(&loaded.settings, models.embedding_model());
        Ok(Self { config: loaded.config, plain, models, report, _scratch: scratch })
    }

    /// How documents are cut by the settings in force.
    fn cutting(&self) -> Cutting {
        let (max_tokens, overlap) = (self.config.ingest.chunk_tokens, self.config.ingest.chunk_overlap);
        Cutting { options: ChunkOptions { max_tokens, overlap }, title: true, headings: true }
    }

    /// Cuts, embeds and stores documents.
    async fn index(&self, name: &str, documents: &[Document], cutting: Cutting) -> Result<Index> {
        let most = self.models.max_chunk_tokens();
        if cutting.options.max_tokens > most {
            return Err(rag_api::error::Error::config(format!(
                "chunks of {} tokens: {} reads at most {most} besides its own",
                cutting.options.max_tokens,
                self.models.embedding_model()
            )));
        }
        let bar = bar(0, format!("{name}: embedding"));
        let index = Index::build(&self.models, documents, cutting, |done, all| {
            bar.set_length(all as u64);
            bar.set_position(done as u64);
        });
        let index = index.await;
        bar.finish_and_clear();
        index
    }
}

/// Runs as many at once as there are cores; the results in order.
async fn each<T, F: Future<Output = Result<T>>>(doing: String, work: Vec<F>) -> Result<Vec<T>> {
    let bar = bar(work.len() as u64, doing);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let results = counted(futures::stream::iter(work).buffered(cores), &bar).try_collect().await;
    bar.finish_and_clear();
    results
}

fn counted<S: Stream>(stream: S, bar: &indicatif::ProgressBar) -> impl Stream<Item = S::Item> {
    stream.inspect(|_| bar.inc(1))
}
