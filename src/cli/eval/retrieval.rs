//! `rag-api eval retrieval`.

use std::collections::HashSet;

use clap::{Args, ValueEnum};
use rag_api::error::Result;
use rag_api::eval::collection::Query;
use rag_api::eval::index::Cutting;
use rag_api::eval::ranking::{Ranking, Variant};
use rag_api::eval::{Collection, Index, metrics};

use super::report::{Row, Values, width};
use super::{Bench, Common, each};

/// Passages that are retrieved for a question: enough for [`DEPTH`] documents of several passages each.
const PASSAGES: usize = 200;
/// Documents of a ranking.
const DEPTH: usize = 100;

#[derive(Debug, Args)]
pub(crate) struct RetrievalArgs {
    #[command(flatten)]
    pub(super) common: Common,
    /// What is read before each chunk
    #[arg(long, value_enum, default_value_t = Context::Both, hide = true)]
    context: Context,
}

/// What is read before each chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Context {
    /// Title and headings.
    Both,
    /// The title.
    Title,
    /// The headings above it.
    Headings,
    /// Nothing.
    None,
}

impl Context {
    pub(super) fn apply(self, cutting: Cutting) -> Cutting {
        let (title, headings) = match self {
            Self::Both => (true, true),
            Self::Title => (true, false),
            Self::Headings => (false, true),
            Self::None => (false, false),
        };
        Cutting { title, headings, ..cutting }
    }
}

pub(super) fn read(arguments: &RetrievalArgs) -> Result<Vec<Collection>> {
    let Common { folders, queries, seed, .. } = &arguments.common;
    let read = |folder: &std::path::PathBuf| {
        let mut collection = Collection::read(folder)?;
        collection.sample(queries.unwrap_or(usize::MAX), *seed);
        Ok(collection)
    };
    folders.iter().map(read).collect()
}

pub(super) async fn measure(bench: &mut Bench, arguments: &RetrievalArgs, collections: &[Collection]) -> Result<()> {
    let metrics = ["ndcg@10", "recall@10", "recall@100", "mrr"].map(str::to_owned);
    let variants = Variant::all(&bench.config.retrieve, &bench.plain, &bench.models);
    let width = width(variants.iter().map(|variant| &variant.name));
    let cutting = arguments.context.apply(bench.cutting());
    for collection in collections {
        let Collection { name, documents, queries, .. } = collection;
        let index = bench.index(name, documents, cutting).await?;
        bench.report.begin(name, documents.len(), index.chunks(), queries.len())?;
        for variant in &variants {
            let ranking = Ranking::new(&bench.models, &index, variant)?;
            let work = queries.iter().map(|query| ask(&ranking, &index, collection, query)).collect();
            let values = each(format!("{name}: {}", variant.name), work).await?;
            bench.report.note(&variant.name, &metrics, queries.iter().map(|query| &*query.id).zip(&values));
            bench.report.add(Row::mean(&variant.name, &metrics, &values), width)?;
        }
    }
    Ok(())
}

async fn ask(ranking: &Ranking<'_>, index: &Index, collection: &Collection, query: &Query) -> Result<Values> {
    let chunks = ranking.chunks(&query.text, PASSAGES).await?;
    let mut seen = HashSet::new();
    let ranking: Vec<String> = chunks
        .iter()
        .filter_map(|chunk| index.places().get(*chunk))
        .filter(|place| seen.insert(place.document))
        .take(DEPTH)
        .map(|place| collection.documents[place.document].id.clone())
        .collect();
    let judgements = &collection.judgements[&query.id];
    Ok(vec![
        Some(metrics::ndcg(&ranking, judgements, 10)),
        Some(metrics::recall(&ranking, judgements, 10)),
        Some(metrics::recall(&ranking, judgements, DEPTH)),
        Some(metrics::reciprocal_rank(&ranking, judgements)),
    ])
}
