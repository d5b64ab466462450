//! What each part of a search takes, called in this process one after the other.

use std::collections::HashSet;
use std::time::Instant;

use rag_api::auth::Keys;
use rag_api::document::{DocumentId, Principal, Scope, TenantId};
use rag_api::error::Result;
use rag_api::retrieve::fusion::{self, Weights};
use rag_api::vector_store::{Hit, SearchQuery, SearchResults};

use crate::Bench;
use crate::corpus::Corpus;
use crate::library::{self, Library};
use crate::load::{cpu_seconds, percentile};

/// Most questions that each part is timed with.
const QUESTIONS: usize = 500;

/// Runs `work` for every input and prints its times; what the last one gave.
async fn time<I, T, F: Future<Output = Result<T>>>(
    name: &str,
    inputs: impl IntoIterator<Item = I>,
    mut work: impl FnMut(I) -> F,
) -> Result<Vec<T>> {
    let (mut times, mut results) = (Vec::new(), Vec::new());
    let cpu = cpu_seconds("self");
    for input in inputs {
        let started = Instant::now();
        results.push(work(input).await?);
        times.push(started.elapsed().as_secs_f64() * 1e3);
    }
    let cpu = (cpu_seconds("self") - cpu) * 1e3 / times.len().max(1) as f64;
    println!("{name:28} {:8.3}  {:8.3}  {cpu:8.3}", percentile(&times, 0.5), percentile(&times, 0.99));
    Ok(results)
}

/// Prints a table of the parts.
pub(crate) async fn run(bench: &Bench) -> Result<()> {
    let config = library::config(&bench.folder, &bench.settings)?;
    let library = Library::open(&config).await?;
    let corpus = Corpus::new(bench.seed);
    let key = library.key(&config).await?;
    let keys = Keys::new(&config.auth, library.catalog.clone())?;
    let limiter = rag_api::limit::build(&config.limit).await?;
    let tenant: TenantId = "acme".parse()?;
    let readers = vec![Principal::public(), Principal::user("ada")?, Principal::group("g1")?, Principal::group("g2")?];
    let (scope, store) = (Scope::new(tenant.clone(), readers), &library.store);
    let questions: Vec<String> =
        (0..bench.requests.min(QUESTIONS)).map(|number| corpus.question(1_000_000 + number)).collect();
    let queries: Vec<SearchQuery> = questions
        .iter()
        .map(|question| SearchQuery {
            dense: Some(corpus.vector(question)),
            sparse: Some(library.bm25.query(question)),
            limit: 100,
            ..SearchQuery::default()
        })
        .collect();
    for query in queries.iter().take(50) {
        store.search(&scope, query.clone()).await?;
    }
    println!("\nparts, {} chunks          p50 ms    p99 ms    cpu ms", bench.chunks);
    time("key", &questions, |_| keys.authenticate(&key)).await?;
    time("limit", &questions, |_| limiter.take("key:query", config.limit.query)).await?;
    time("BM25 of the question", &questions, async |question| Ok(library.bm25.query(question))).await?;
    let dense = queries.iter().map(|query| SearchQuery { sparse: None, ..query.clone() });
    time("search, dense alone", dense, |query| store.search(&scope, query)).await?;
    let sparse = queries.iter().map(|query| SearchQuery { dense: None, ..query.clone() });
    time("search, sparse alone", sparse, |query| store.search(&scope, query)).await?;
    let found = time("search, both branches", queries.clone(), |query| store.search(&scope, query)).await?;
    time("fusion", &found, async |found| Ok(fuse(found))).await?;
    let wanted = found.iter().zip(&queries).map(|(found, query)| {
        (found.dense.iter().take(10).map(|hit| hit.id).collect::<Vec<_>>(), query.dense.as_deref())
    });
    let wanted: Vec<_> = wanted.collect();
    let shown = time("passages of 10 hits", &wanted, |(ids, question)| store.passages(&scope, ids, *question)).await?;
    let documents = shown.iter().map(|shown| {
        let documents: HashSet<DocumentId> = shown.iter().map(|found| found.passage.document_id.clone()).collect();
        documents.into_iter().collect::<Vec<_>>()
    });
    let documents: Vec<_> = documents.collect();
    time("check against the catalog", &documents, |documents| library.catalog.visibility(&tenant, documents)).await?;
    time("generation", &questions, |_| library.catalog.generation(&tenant)).await?;
    Ok(())
}

fn fuse(found: &SearchResults) -> usize {
    let weights = Weights { k: 60.0, dense: 1.0, sparse: 1.0 };
    let ranked = |hits: &[Hit]| hits.iter().map(|hit| (hit.id, hit.score)).collect::<Vec<_>>();
    fusion::fuse(&ranked(&found.dense), &ranked(&found.sparse), weights).len()
}
