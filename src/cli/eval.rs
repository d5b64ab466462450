//! `rag-api eval retrieval`.

use std::collections::HashSet;
use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use futures::{StreamExt, TryStreamExt};
use rag_api::config::Config;
use rag_api::document::TenantId;
use rag_api::error::{Error, Result};
use rag_api::eval::collection::Query;
use rag_api::eval::{Collection, Index, metrics};
use rag_api::retrieve::Mode;

use super::progress::bar;

/// Passages that are retrieved for a question: enough for [`DEPTH`] documents of several passages each.
const PASSAGES: usize = 200;
/// Documents of a ranking.
const DEPTH: usize = 100;

#[derive(Debug, Subcommand)]
pub(crate) enum EvalCommand {
    /// Measure retrieval on folders in BEIR's format (corpus.jsonl, queries.jsonl, qrels.tsv), without a server
    Retrieval(RetrievalArgs),
}

#[derive(Debug, Args)]
pub(crate) struct RetrievalArgs {
    /// Folders of collections
    #[arg(required = true)]
    folders: Vec<PathBuf>,
    /// At most so many questions of each collection, chosen at random
    #[arg(long, value_name = "N")]
    queries: Option<usize>,
    /// What the choice of questions depends on
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Write the metrics of every question to a file, by tabs
    #[arg(long, value_name = "FILE")]
    per_query: Option<PathBuf>,
}

/// A way to retrieve, by the name it has in the tables.
#[derive(Debug, Clone)]
struct Way {
    name: String,
    mode: Mode,
    rerank: bool,
}

/// nDCG@10, recall@10, recall@100 and the reciprocal rank.
type Scores = [f64; 4];

const METRICS: [&str; 4] = ["ndcg@10", "recall@10", "recall@100", "mrr"];

pub(crate) async fn eval(config: Config, command: EvalCommand) -> Result<ExitCode> {
    let EvalCommand::Retrieval(arguments) = command;
    // All of them first: a folder that is wrong is known before an hour of embedding.
    let mut collections = Vec::new();
    for folder in &arguments.folders {
        let mut collection = Collection::read(folder)?;
        collection.sample(arguments.queries.unwrap_or(usize::MAX), arguments.seed);
        collections.push(collection);
    }
    let index = Index::new(&config).await?;
    let ways = ways(&index);
    let mut means = vec![Vec::new(); ways.len()];
    let mut per_query = format!("collection\tway\tquery\t{}\n", METRICS.join("\t"));
    for (number, collection) in collections.iter().enumerate() {
        let tenant: TenantId = format!("c{number}").parse()?;
        let owners = load(&index, &tenant, collection).await?;
        super::say(&format!(
            "{}: {} documents, {} chunks, {} questions",
            collection.name,
            collection.documents.len(),
            owners.len(),
            collection.queries.len()
        ))?;
        for (way, means) in ways.iter().zip(&mut means) {
            let scores = measure(&index, &tenant, collection, &owners, way).await?;
            for (query, scores) in collection.queries.iter().zip(&scores) {
                let _ = writeln!(per_query, "{}\t{}\t{}\t{}", collection.name, way.name, query.id, row(scores, "\t"));
            }
            let mean = mean(&scores);
            super::say(&line(&way.name, &mean))?;
            means.push(mean);
        }
    }
    if collections.len() > 1 {
        super::say(&format!("mean of {} collections", collections.len()))?;
        for (way, means) in ways.iter().zip(&means) {
            super::say(&line(&way.name, &mean(means)))?;
        }
    }
    if let Some(file) = &arguments.per_query {
        let failed = |error| Error::config(format!("{} cannot be written", file.display())).with_source(error);
        std::fs::write(file, per_query).map_err(failed)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn ways(index: &Index) -> Vec<Way> {
    let way = |name: &str, mode, rerank| Way { name: name.to_owned(), mode, rerank };
    let mut ways =
        vec![way("dense", Mode::Dense, false), way("sparse", Mode::Sparse, false), way("hybrid", Mode::Hybrid, false)];
    if let Some(reranker) = index.reranker() {
        ways.push(way(&format!("hybrid + {reranker}"), Mode::Hybrid, true));
    }
    ways
}

async fn load(index: &Index, tenant: &TenantId, collection: &Collection) -> Result<Vec<usize>> {
    let bar = bar(0, format!("{}: embedding", collection.name));
    let owners = index.load(tenant, &collection.documents, |done, all| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
    });
    let owners = owners.await;
    bar.finish_and_clear();
    owners
}

/// The scores of every question, in order.
async fn measure(
    index: &Index,
    tenant: &TenantId,
    collection: &Collection,
    owners: &[usize],
    way: &Way,
) -> Result<Vec<Scores>> {
    let bar = bar(collection.queries.len() as u64, format!("{}: {}", collection.name, way.name));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let asked = futures::stream::iter(&collection.queries).map(|query| {
        let bar = &bar;
        async move {
            let scores = ask(index, tenant, collection, owners, way, query).await;
            bar.inc(1);
            scores
        }
    });
    let scores = asked.buffered(cores).try_collect().await;
    bar.finish_and_clear();
    scores
}

async fn ask(
    index: &Index,
    tenant: &TenantId,
    collection: &Collection,
    owners: &[usize],
    way: &Way,
    query: &Query,
) -> Result<Scores> {
    let found = index.retrieve(tenant, &query.text, way.mode, way.rerank, PASSAGES).await?;
    if !found.degraded.is_empty() {
        let what = found.degraded.join(", ");
        return Err(Error::config(format!(
            "question {} was answered without {what}: the machine is too busy",
            query.id
        )));
    }
    let mut seen = HashSet::new();
    let ranking: Vec<String> = found
        .passages
        .iter()
        .filter_map(|scored| owners.get(scored.passage.chunk.chunk_idx as usize))
        .filter(|owner| seen.insert(**owner))
        .take(DEPTH)
        .map(|owner| collection.documents[*owner].id.clone())
        .collect();
    let judgements = &collection.judgements[&query.id];
    Ok([
        metrics::ndcg(&ranking, judgements, 10),
        metrics::recall(&ranking, judgements, 10),
        metrics::recall(&ranking, judgements, DEPTH),
        metrics::reciprocal_rank(&ranking, judgements),
    ])
}

fn mean(scores: &[Scores]) -> Scores {
    std::array::from_fn(|i| scores.iter().map(|scores| scores[i]).sum::<f64>() / scores.len().max(1) as f64)
}

fn row(scores: &Scores, separator: &str) -> String {
    scores.map(|score| format!("{score:.4}")).join(separator)
}

fn line(way: &str, scores: &Scores) -> String {
    let cells: Vec<String> = METRICS.iter().zip(scores).map(|(metric, score)| format!("{metric} {score:.4}")).collect();
    format!("  {way:<28} {}", cells.join("  "))
}
