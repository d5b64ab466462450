//! One batched search of both branches.

use qdrant_edge::{
    EdgeShard, Filter as EdgeFilter, IdfCorpusParams, IdfParams, NamedQuery, QueryBatchRequest, QueryEnum,
    QueryRequest, QueryRequestBuilder, ScoredPoint, ScoringQuery, SearchParams, SparseVector as EdgeSparseVector,
    VectorInternal,
};

use super::terms::{Terms, Weights};
use super::{DENSE, SPARSE, failed, filter, payload};
use crate::document::TenantId;
use crate::error::Result;
use crate::vector_store::{Hit, SearchQuery, SearchResults};

/// Hits fetched beyond the limit, to see whether a tie runs across it.
const TIE_MARGIN: usize = 16;
/// Most hits fetched to end a tie: beyond it (thousands of equal texts), which of them are found is the engine's choice.
const MAX_FETCH: usize = 4_096;

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
    let mut fetch = query.limit + TIE_MARGIN;
    loop {
        let mut lists = branches.ask(shard, fetch)?;
        let tied = lists.dense.as_slice().cut_in_a_tie(query.limit, fetch)
            || lists.sparse.as_slice().cut_in_a_tie(query.limit, fetch);
        if tied && fetch < MAX_FETCH {
            fetch = (fetch * 4).min(MAX_FETCH);
            continue;
        }
        lists.sparse.retain(|point| point.score > 0.0);
        return Ok(SearchResults { dense: hits(lists.dense, query.limit)?, sparse: hits(lists.sparse, query.limit)? });
    }
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
    dense: Vec<ScoredPoint>,
    sparse: Vec<ScoredPoint>,
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
            lists.dense = answers.next().unwrap_or_default();
        }
        if self.sparse.is_some() {
            lists.sparse = answers.next().unwrap_or_default();
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

trait Ranked {
    /// Whether there may be more hits with the score of the last one that is kept.
    fn cut_in_a_tie(&self, limit: usize, fetched: usize) -> bool;
}

impl Ranked for [ScoredPoint] {
    fn cut_in_a_tie(&self, limit: usize, fetched: usize) -> bool {
        self.len() >= fetched && self.last().map(|last| last.score) == self.get(limit - 1).map(|kept| kept.score)
    }
}

/// The best `limit` hits, ties by id.
fn hits(points: Vec<ScoredPoint>, limit: usize) -> Result<Vec<Hit>> {
    let hit = |point: ScoredPoint| Ok(Hit { id: payload::uuid(point.id)?, score: point.score });
    let mut hits = points.into_iter().map(hit).collect::<Result<Vec<_>>>()?;
    hits.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.id.cmp(&b.id)));
    hits.truncate(limit);
    Ok(hits)
}
