//! `rag-api eval spans`.

use std::path::PathBuf;

use clap::Args;
use rag_api::error::{Error, Result};
use rag_api::eval::collection::Query;
use rag_api::eval::index::Cutting;
use rag_api::eval::originals::Originals;
use rag_api::eval::ranking::{Ranking, Variant};
use rag_api::eval::spans::{Place, overlap, within};
use rag_api::eval::statistics::interval;
use rag_api::eval::{Index, metrics};
use rag_api::ingest::chunk::ChunkOptions;

use super::report::{Row, Values, width};
use super::retrieval::Context;
use super::{Bench, Common, each};
use crate::cli::say;

/// Chunks of a ranking.
const DEPTH: usize = 50;
/// Characters of a prompt's sources by which chunks of different sizes are compared: about 1,000 tokens.
const BUDGET: u64 = 4000;

#[derive(Debug, Args)]
pub(crate) struct SpansArgs {
    #[command(flatten)]
    pub(super) common: Common,
    /// Compare sizes of chunks and overlaps by hybrid retrieval, best recall within 4,000 characters first
    #[arg(long)]
    sweep: bool,
    /// Tokens of chunks that the sweep tries
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_values_t = [100, 150, 200, 254])]
    sizes: Vec<usize>,
    /// Tokens of overlap that the sweep tries
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_values_t = [0, 20, 40])]
    overlaps: Vec<usize>,
    /// What is read before each chunk
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["both"], hide = true)]
    contexts: Vec<Context>,
}

pub(super) fn read(arguments: &SpansArgs) -> Result<Vec<Originals>> {
    let Common { folders, queries, seed, .. } = &arguments.common;
    let read = |folder: &PathBuf| {
        let mut originals = Originals::read(folder)?;
        originals.collection.sample(queries.unwrap_or(usize::MAX), *seed);
        Ok(originals)
    };
    folders.iter().map(read).collect()
}

pub(super) async fn measure(bench: &mut Bench, arguments: &SpansArgs, collections: &[Originals]) -> Result<()> {
    for originals in collections {
        if !originals.unusable.is_empty() {
            let (name, unusable, spans) = (&originals.collection.name, &originals.unusable, originals.spans);
            let lines: Vec<String> = unusable.iter().map(usize::to_string).collect();
            let (count, lines) = (unusable.len(), lines.join(", "));
            say(&format!("{name}: left out {count} of {spans} spans, whose text is elsewhere (lines {lines})"))?;
        }
        if arguments.sweep {
            sweep(bench, arguments, originals).await?;
        } else {
            compare(bench, originals).await?;
        }
    }
    Ok(())
}

/// The ways to retrieve, by the settings in force.
async fn compare(bench: &mut Bench, originals: &Originals) -> Result<()> {
    let variants = Variant::all(&bench.config.retrieve, &bench.plain, &bench.models);
    let width = width(variants.iter().map(|variant| &variant.name));
    let collection = &originals.collection;
    let index = bench.index(&collection.name, &collection.documents, bench.cutting()).await?;
    bench.report.begin(&collection.name, collection.documents.len(), index.chunks(), collection.queries.len())?;
    let metrics = metric_names(bench);
    for variant in &variants {
        let values = ask_all(bench, &index, originals, variant).await?;
        bench.report.note(&variant.name, &metrics, collection.queries.iter().map(|query| &*query.id).zip(&values));
        bench.report.add(Row::mean(&variant.name, &metrics, &values), width)?;
    }
    Ok(())
}

/// One way to cut, and what it gave.
struct Trial {
    name: String,
    chunks: usize,
    values: Vec<Values>,
}

/// The ways to cut, by hybrid retrieval without a reranker.
async fn sweep(bench: &mut Bench, arguments: &SpansArgs, originals: &Originals) -> Result<()> {
    let collection = &originals.collection;
    let metrics = metric_names(bench);
    let configured = bench.cutting();
    let variants = Variant::all(&bench.config.retrieve, &bench.plain, &bench.models);
    let hybrid = variants.iter().find(|variant| variant.name == "hybrid");
    let hybrid = hybrid.ok_or_else(|| Error::not_found("hybrid retrieval"))?;
    let mut trials = Vec::new();
    for cutting in grid(arguments, configured) {
        let name = name(cutting);
        let title = format!("{} at {name}", collection.name);
        let index = bench.index(&title, &collection.documents, cutting).await?;
        let values = ask_all(bench, &index, originals, hybrid).await?;
        trials.push(Trial { name, chunks: index.chunks(), values });
    }
    // By the last metric, which does not depend on the number of chunks that a size of prompt holds.
    let last = metrics.len() - 1;
    let of = |trial: &Trial| -> Vec<f64> { trial.values.iter().filter_map(|values| values[last]).collect() };
    let base = of(&trials[0]);
    let chunks = trials[0].chunks;
    trials.sort_by(|a, b| of(b).iter().sum::<f64>().total_cmp(&of(a).iter().sum()));
    bench.report.begin(&collection.name, collection.documents.len(), chunks, collection.queries.len())?;
    say(&format!(
        "  delta: difference of {} to {}, the settings in force, with its 95 % interval",
        metrics[last],
        name(configured)
    ))?;
    let width = width(trials.iter().map(|trial| &trial.name));
    for trial in trials {
        bench.report.note(&trial.name, &metrics, collection.queries.iter().map(|query| &*query.id).zip(&trial.values));
        let differences: Vec<f64> = of(&trial).iter().zip(&base).map(|(value, base)| value - base).collect();
        let bounds = interval(&differences, arguments.common.seed);
        let delta = differences.iter().sum::<f64>() / differences.len().max(1) as f64;
        let mut row = Row::mean(&trial.name, &metrics, &trial.values);
        row.metrics.insert(0, ("chunks".to_owned(), Some(trial.chunks as f64)));
        row.metrics.push(("delta".to_owned(), Some(delta)));
        row.metrics.push(("low".to_owned(), bounds.map(|bounds| bounds.0)));
        row.metrics.push(("high".to_owned(), bounds.map(|bounds| bounds.1)));
        bench.report.add(row, width)?;
    }
    Ok(())
}

/// The settings in force first, then every other way to cut.
fn grid(arguments: &SpansArgs, configured: Cutting) -> Vec<Cutting> {
    let mut grid = vec![configured];
    for &max_tokens in &arguments.sizes {
        for &overlap in &arguments.overlaps {
            for context in &arguments.contexts {
                let cutting = context.apply(Cutting { options: ChunkOptions { max_tokens, overlap }, ..configured });
                if !grid.contains(&cutting) {
                    grid.push(cutting);
                }
            }
        }
    }
    grid
}

/// Such as `200/40`, and what is not read before a chunk.
fn name(cutting: Cutting) -> String {
    let context = match (cutting.title, cutting.headings) {
        (true, true) => "",
        (true, false) => " without headings",
        (false, true) => " without title",
        (false, false) => " bare",
    };
    format!("{}/{}{context}", cutting.options.max_tokens, cutting.options.overlap)
}

fn metric_names(bench: &Bench) -> Vec<String> {
    let k = bench.config.retrieve.rerank_top_k;
    vec![
        "ndcg@10".to_owned(),
        format!("recall@{k}"),
        format!("precision@{k}"),
        format!("iou@{k}"),
        format!("recall@{}kch", BUDGET / 1000),
    ]
}

async fn ask_all(bench: &Bench, index: &Index, originals: &Originals, variant: &Variant) -> Result<Vec<Values>> {
    let ranking = Ranking::new(&bench.models, index, variant)?;
    let k = bench.config.retrieve.rerank_top_k;
    let queries = &originals.collection.queries;
    let work = queries.iter().map(|query| ask(&ranking, index, &originals.relevant[&query.id], query, k)).collect();
    each(format!("{}: {}", originals.collection.name, variant.name), work).await
}

async fn ask(ranking: &Ranking<'_>, index: &Index, relevant: &[Place], query: &Query, k: usize) -> Result<Values> {
    let chunks = ranking.chunks(&query.text, DEPTH).await?;
    let places = index.places();
    let is_relevant = |place: &Place| relevant.iter().any(|span| span.overlaps(place));
    let judgements = places.iter().enumerate().filter(|(_, place)| is_relevant(place));
    let judgements = judgements.map(|(number, _)| (number.to_string(), 1)).collect();
    let order: Vec<String> = chunks.iter().map(usize::to_string).collect();
    let found: Vec<Place> = chunks.iter().filter_map(|chunk| places.get(*chunk)).cloned().collect();
    let best = overlap(&found[..k.min(found.len())], relevant);
    Ok(vec![
        Some(metrics::ndcg(&order, &judgements, 10)),
        Some(best.recall),
        Some(best.precision),
        Some(best.iou),
        Some(overlap(&within(&found, BUDGET), relevant).recall),
    ])
}
