//! One batched search of both branches.

use std::collections::HashMap;

use qdrant_edge::{
    EdgeShard, Filter as EdgeFilter, IdfCorpusParams, IdfParams, NamedQuery, PointId, PrefetchBuilder,
    QueryBatchRequest, QueryEnum, QueryRequest, QueryRequestBuilder, ScoredPoint, ScoringQuery, SearchParams,
    SparseVector as EdgeSparseVector, VectorInternal,
};
use uuid::Uuid;

use super::{DENSE, SPARSE, failed, payload};
use crate::error::{Error, ErrorKind, Result};
use crate::vector_store::{Hit, SearchQuery, SearchResults};

/// Hits fetched beyond the limit, to see whether a tie runs across it.
const TIE_MARGIN: usize = 16;
/// Most hits fetched to end a tie: beyond it (thousands of equal texts), which of them are found is the engine's choice.
const MAX_FETCH: usize = 4_096;

/// Searches both branches with `visible` inside each. IDF is taken over `corpus`, the caller's tenant: a foreign
/// tenant's documents change no score.
pub(super) fn search(
    shard: &EdgeShard,
    visible: &EdgeFilter,
    corpus: EdgeFilter,
    query: SearchQuery,
) -> Result<SearchResults> {
    let sparse = query.sparse.filter(|sparse| !sparse.indices.is_empty());
    let sparse = sparse.map(|sparse| EdgeSparseVector { indices: sparse.indices, values: sparse.values });
    let branches = Branches {
        visible,
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
        let cosines = lists.cosines;
        let mut dense = hits(lists.dense, query.limit)?;
        dense.iter_mut().for_each(|hit| hit.cosine = Some(hit.score));
        let mut sparse = hits(lists.sparse, query.limit)?;
        sparse.iter_mut().for_each(|hit| hit.cosine = cosines.get(&hit.id).copied());
        return Ok(SearchResults { dense, sparse });
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
    /// Cosine similarity of the sparse branch's hits.
    cosines: HashMap<Uuid, f32>,
}

impl Branches<'_> {
    fn ask(&self, shard: &EdgeShard, fetch: usize) -> Result<Lists> {
        let mut queries = Vec::with_capacity(3);
        if let Some(dense) = &self.dense {
            queries.push(self.branch(dense, None, fetch));
        }
        if let Some(sparse) = &self.sparse {
            queries.push(self.branch(sparse, Some(self.params.clone()), fetch));
        }
        if let (Some(dense), Some(sparse)) = (&self.dense, &self.sparse) {
            queries.push(self.rescored(sparse, dense, fetch));
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
        for point in answers.next().unwrap_or_default() {
            lists.cosines.insert(uuid(point.id)?, point.score);
        }
        Ok(lists)
    }

    fn branch(&self, query: &ScoringQuery, params: Option<SearchParams>, fetch: usize) -> QueryRequest {
        let mut request = QueryRequestBuilder::new(fetch)
            .query(query.clone())
            .filter(self.visible.clone())
            .with_payload(true.into())
            .build();
        request.params = params;
        request
    }

    /// The hits of `first`, scored by `second`.
    fn rescored(&self, first: &ScoringQuery, second: &ScoringQuery, fetch: usize) -> QueryRequest {
        let prefetch = PrefetchBuilder::new(fetch)
            .query(first.clone())
            .params(self.params.clone())
            .filter(self.visible.clone())
            .build();
        QueryRequestBuilder::new(fetch)
            .add_prefetch(prefetch)
            .query(second.clone())
            .filter(self.visible.clone())
            .build()
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
    let mut points = points.into_iter().map(|point| Ok((uuid(point.id)?, point))).collect::<Result<Vec<_>>>()?;
    points.sort_by(|(a, x), (b, y)| y.score.total_cmp(&x.score).then_with(|| a.cmp(b)));
    points.truncate(limit);
    let hit = |(id, point): (Uuid, ScoredPoint)| {
        Ok(Hit { id, score: point.score, cosine: None, passage: payload::passage(point.payload)? })
    };
    points.into_iter().map(hit).collect()
}

fn uuid(id: PointId) -> Result<Uuid> {
    match id {
        PointId::Uuid(id) => Ok(id),
        PointId::NumId(_) => Err(Error::new(ErrorKind::Internal, "a stored point has a number for an id")),
    }
}
