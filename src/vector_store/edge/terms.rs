//! How many of a tenant's points hold each term, for the IDF of BM25.
//!
//! The engine counts a corpus anew for every search: it walks through all the tenant's points, and a search that finds
//! a hundred of a million pays for the million. So a large tenant's counts are kept here, and multiplied into the
//! question's weights; a small one is left to the engine. Counts are read from the stored vectors once, grow with every
//! write, and are read again when they have drifted: what was deleted is not known to them until then.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use qdrant_edge::{
    CountRequest, EdgeShard, Filter as EdgeFilter, PointId, ScrollRequest, VectorInternal, VectorStructInternal,
    WithVector,
};

use super::{SPARSE, failed};
use crate::document::TenantId;
use crate::error::Result;
use crate::vector_store::SparseVector;

/// Points of a tenant whose counts are kept: the engine counts fewer in less time than a search takes. It also bounds
/// how many tenants have counts.
const LARGE: usize = 10_000;

/// Counts are read again when so many parts of a hundred of the points have changed.
const DRIFT_PERCENT: usize = 2;

/// Points that are read at once.
const PAGE: usize = 10_000;

/// The counts of large tenants.
#[derive(Debug)]
pub(super) struct Terms {
    large: usize,
    tables: Mutex<HashMap<TenantId, Table>>,
}

/// The counts of one tenant.
#[derive(Debug, Default)]
struct Table {
    /// Points that have terms.
    points: usize,
    holding: HashMap<u32, u32>,
    /// Points written or deleted since the counts were read.
    changed: usize,
    /// The counts are being read, for the first time or again.
    reading: bool,
    /// They were read once.
    complete: bool,
}

/// What a search finds.
#[derive(Debug, PartialEq)]
pub(super) enum Weights {
    /// The question's weights times the IDF of each term.
    Weighted(SparseVector),
    /// The engine must count.
    Unknown(SparseVector),
}

impl Terms {
    pub(super) fn new() -> Self {
        Self { large: LARGE, tables: Mutex::default() }
    }

    /// Multiplies the IDF into a question's weights, where the counts are known.
    pub(super) fn weigh(&self, tenant: &TenantId, mut question: SparseVector) -> Weights {
        let tables = self.lock();
        let Some(table) = tables.get(tenant).filter(|table| table.complete) else {
            return Weights::Unknown(question);
        };
        for (term, weight) in question.indices.iter().zip(&mut question.values) {
            *weight *= table.idf(*term);
        }
        Weights::Weighted(question)
    }

    /// Notes points that were written.
    pub(super) fn written<'a>(&self, points: impl Iterator<Item = (&'a TenantId, &'a SparseVector)>) {
        let mut tables = self.lock();
        if tables.is_empty() {
            return;
        }
        for (tenant, terms) in points {
            if let Some(table) = tables.get_mut(tenant) {
                table.changed += 1;
                table.add(&terms.indices);
            }
        }
    }

    /// Notes that the points of a tenant that match this filter are about to go.
    pub(super) fn deleting(&self, shard: &EdgeShard, tenant: &TenantId, filter: &EdgeFilter) -> Result<()> {
        if !self.lock().contains_key(tenant) {
            return Ok(());
        }
        let count = CountRequest { filter: Some(filter.clone()), exact: false };
        let points = shard.count(count).map_err(failed)?;
        if let Some(table) = self.lock().get_mut(tenant) {
            table.changed += points.max(1);
        }
        Ok(())
    }

    /// Whether the counts must be read before they are right; who is told so reads them, and nobody else is.
    pub(super) fn must_read(&self, shard: &EdgeShard, tenant: &TenantId, corpus: &EdgeFilter) -> Result<bool> {
        if let Some(table) = self.lock().get(tenant)
            && (table.reading || !table.has_drifted())
        {
            return Ok(false);
        }
        let count = CountRequest { filter: Some(corpus.clone()), exact: false };
        let points = shard.count(count).map_err(failed)?;
        let mut tables = self.lock();
        if points < self.large {
            tables.remove(tenant);
            return Ok(false);
        }
        let table = tables.entry(tenant.clone()).or_default();
        Ok(!std::mem::replace(&mut table.reading, true))
    }

    /// Reads the counts. Blocks for about a second for each 100,000 points.
    pub(super) fn read(&self, shard: &EdgeShard, tenant: &TenantId, corpus: &EdgeFilter) -> Result<()> {
        let changed = self.lock().get(tenant).map_or(0, |table| table.changed);
        let read = count(shard, corpus);
        let mut tables = self.lock();
        let Some(table) = tables.get_mut(tenant) else { return Ok(()) };
        table.reading = false;
        let (points, holding) = read?;
        // What was written meanwhile is in the counts or is not: it is a change that they may lack.
        *table =
            Table { points, holding, changed: table.changed.saturating_sub(changed), reading: false, complete: true };
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<TenantId, Table>> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn add(&mut self, terms: &[u32]) {
        if terms.is_empty() {
            return;
        }
        self.points += 1;
        for term in terms {
            *self.holding.entry(*term).or_default() += 1;
        }
    }

    fn has_drifted(&self) -> bool {
        !self.complete || self.changed * 100 > self.points * DRIFT_PERCENT
    }

    /// The engine's formula (BM25's, as Lucene has it), so that a tenant's scores do not change when it grows large.
    fn idf(&self, term: u32) -> f32 {
        let (points, holding) = (self.points as f32, self.holding.get(&term).copied().unwrap_or(0) as f32);
        ((points - holding + 0.5).max(0.0) / (holding + 0.5) + 1.0).ln()
    }
}

/// Points that have terms, and how many hold each.
fn count(shard: &EdgeShard, corpus: &EdgeFilter) -> Result<(usize, HashMap<u32, u32>)> {
    let mut table = Table::default();
    let mut offset: Option<PointId> = None;
    loop {
        let request = ScrollRequest {
            offset,
            limit: Some(PAGE),
            filter: Some(corpus.clone()),
            with_payload: Some(false.into()),
            with_vector: WithVector::Selector(vec![SPARSE.to_owned()]),
            order_by: None,
        };
        let (records, next) = shard.scroll(request).map_err(failed)?;
        for record in &records {
            if let Some(VectorStructInternal::Named(vectors)) = &record.vector
                && let Some(VectorInternal::Sparse(terms)) = vectors.get(SPARSE)
            {
                table.add(&terms.indices);
            }
        }
        match next {
            Some(_) => offset = next,
            None => return Ok((table.points, table.holding)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::{EdgeStore, samples};
    use super::*;
    use crate::document::{Principal, Scope};
    use crate::vector_store::{Point, SearchQuery, VectorStore, Versions};

    impl Terms {
        fn with_large(large: usize) -> Self {
            Self { large, ..Self::new() }
        }
    }

    /// A point with the term 0, and some of the terms below 5.
    fn point(tenant: &str, number: u32) -> Point {
        let terms: Vec<u32> = (0..5).filter(|term| number.is_multiple_of(term + 1)).collect();
        let values = terms.iter().map(|term| 1.0 + (number + term) as f32 / 100.0).collect();
        samples::point(tenant, number, "", SparseVector { indices: terms, values })
    }

    async fn scores(store: &EdgeStore) -> Vec<(uuid::Uuid, f32)> {
        let scope = Scope::new("acme".parse().unwrap(), vec![Principal::public()]);
        let question = SparseVector { indices: vec![1, 2, 4, 77], values: vec![1.0; 4] };
        let query = SearchQuery { sparse: Some(question), limit: 100, ..SearchQuery::default() };
        let hits = store.search(&scope, query).await.unwrap().sparse;
        hits.into_iter().map(|hit| (hit.id, hit.score)).collect()
    }

    fn assert_equal(ours: &[(uuid::Uuid, f32)], engines: &[(uuid::Uuid, f32)]) {
        assert_eq!(ours.len(), engines.len());
        for (ours, engines) in ours.iter().zip(engines) {
            assert!(ours.0 == engines.0 && (ours.1 - engines.1).abs() < 1e-4, "{ours:?} {engines:?}");
        }
    }

    fn is_weighted(store: &EdgeStore) -> bool {
        let question = SparseVector::default();
        matches!(store.terms.weigh(&"acme".parse().unwrap(), question), Weights::Weighted(_))
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn kept_counts_give_the_scores_that_the_engine_gives() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = EdgeStore::open(folder.path(), &samples::model()).unwrap();
        store.upsert((1..60).map(|number| point("acme", number)).collect()).await.unwrap();
        store.upsert((1..90).map(|number| point("other", number * 4)).collect()).await.unwrap();
        let engines = scores(&store).await;
        assert!(engines.len() > 30 && !is_weighted(&store), "a small tenant is left to the engine");

        store.terms = Arc::new(Terms::with_large(50));
        assert_equal(&scores(&store).await, &engines);
        let counted = async {
            while !is_weighted(&store) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(60), counted).await.expect("the terms are counted");
        assert_equal(&scores(&store).await, &engines);

        // What is written counts at once; another tenant's does not.
        store.upsert(vec![point("acme", 60), point("other", 4_000)]).await.unwrap();
        let ours = scores(&store).await;
        let kept = std::mem::replace(&mut store.terms, Arc::new(Terms::new()));
        assert_equal(&ours, &scores(&store).await);

        // What is deleted is noticed, and a tenant that became small is left to the engine again.
        store.terms = kept;
        for number in 1..30 {
            let document = format!("d{number}").parse().unwrap();
            store.delete(&"acme".parse().unwrap(), &document, Versions::All).await.unwrap();
        }
        scores(&store).await;
        assert!(!is_weighted(&store));
    }
}
