//! One batched search of both branches.

use qdrant_edge::{
    EdgeShard, Filter as EdgeFilter, IdfCorpusParams, IdfParams, NamedQuery, QueryBatchRequest, QueryEnum,
    QueryRequest, QueryRequestBuilder, ScoredPoint, ScoringQuery, SearchParams, SparseVector as EdgeSparseVector,
    VectorInternal,
};

use super::terms::{Terms, Weights};
use super::{DENSE, SPARSE, failed, fetch, filter, point};
use crate::document::TenantId;
use crate::error::Result;
use crate::vector_store::{Hit, SearchQuery, SearchResults, ranking};

/// The IDF that the engine gives every term over a corpus without points.
const IDF_OF_NOTHING: f32 = std::f32::consts::LN_2;

/// Whom a search is for.
pub(super) struct Searcher {
    /// What it may see.
    pub(super) visible: EdgeFilter,
    /// Its tenant, over which IDF is taken: a foreign tenant's documents change no score.
    pub(super) tenant: TenantId,
}

/// Searches both branches with what is visible inside each.
pub(super) fn search(
    shard: &EdgeShard,
    searcher: &Searcher,
    terms: &Terms,
    query: SearchQuery,
) -> Result<SearchResults> {
    let sparse = query.sparse.filter(|sparse| !sparse.indices.is_empty());
    let weighed = sparse.map(|sparse| terms.weigh(&searcher.tenant, sparse));
    let (sparse, corpus) = match weighed {
        Some(Weights::Weighted(mut sparse)) => {
            sparse.values.iter_mut().for_each(|weight| *weight /= IDF_OF_NOTHING);
            (Some(sparse), filter::nothing())
        }
        Some(Weights::Unknown(sparse)) => (Some(sparse), filter::tenant(&searcher.tenant)),
        None => (None, filter::nothing()),
    };
    let sparse = sparse.map(|sparse| EdgeSparseVector { indices: sparse.indices, values: sparse.values });
    let branches = Branches {
        visible: &searcher.visible,
        dense: query.dense.map(|dense| nearest(DENSE, VectorInternal::Dense(dense))),
        sparse: sparse.map(|sparse| nearest(SPARSE, VectorInternal::Sparse(sparse))),
        params: SearchParams { idf: Some(IdfParams::Corpus(IdfCorpusParams { corpus })), ..SearchParams::default() },
    };
    if query.limit == 0 {
        return Ok(SearchResults::default());
    }
    let mut fetch = ranking::first_fetch(query.limit);
    let mut lists = branches.ask(shard, fetch)?;
    while let Some(more) = ranking::next_fetch([&lists.dense, &lists.sparse], query.limit, fetch) {
        fetch = more;
        lists = branches.ask(shard, fetch)?;
    }
    lists.sparse.retain(|hit| hit.score > 0.0);
    let (dense, sparse) = (ranking::best(lists.dense, query.limit), ranking::best(lists.sparse, query.limit));
    let best_terms = sparse.first().map(|best| fetch::terms(shard, best.id)).transpose()?.unwrap_or_default();
    Ok(SearchResults { dense, sparse, best_terms })
}

/// The parts of a search that do not depend on how many hits are fetched.
struct Branches<'a> {
    visible: &'a EdgeFilter,
    dense: Option<ScoringQuery>,
    sparse: Option<ScoringQuery>,
    params: SearchParams,
}

/// What the engine found, in its order.
#[derive(Default)]
struct Lists {
    dense: Vec<Hit>,
    sparse: Vec<Hit>,
}

impl Branches<'_> {
    fn ask(&self, shard: &EdgeShard, fetch: usize) -> Result<Lists> {
        let mut queries = Vec::with_capacity(2);
        if let Some(dense) = &self.dense {
            queries.push(self.branch(dense, None, fetch));
        }
        if let Some(sparse) = &self.sparse {
            queries.push(self.branch(sparse, Some(self.params.clone()), fetch));
        }
        if queries.is_empty() {
            return Ok(Lists::default());
        }
        let mut answers = shard.query_batch(QueryBatchRequest::new(queries)).map_err(failed)?.into_iter();
        let mut lists = Lists::default();
        if self.dense.is_some() {
            lists.dense = hits(answers.next().unwrap_or_default())?;
        }
        if self.sparse.is_some() {
            lists.sparse = hits(answers.next().unwrap_or_default())?;
        }
        Ok(lists)
    }

    fn branch(&self, query: &ScoringQuery, params: Option<SearchParams>, fetch: usize) -> QueryRequest {
        let request = QueryRequestBuilder::new(fetch).query(query.clone()).filter(self.visible.clone());
        QueryRequest { params, ..request.build() }
    }
}

fn nearest(using: &str, query: VectorInternal) -> ScoringQuery {
    ScoringQuery::Vector(QueryEnum::Nearest(NamedQuery { query, using: Some(using.to_owned()) }))
}

fn hits(points: Vec<ScoredPoint>) -> Result<Vec<Hit>> {
    points.into_iter().map(|point| Ok(Hit { id: point::uuid(point.id)?, score: point.score })).collect()
}
