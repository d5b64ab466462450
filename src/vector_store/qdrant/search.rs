//! One batched search of both branches, and what is stored of its hits.

use std::collections::HashMap;

use qdrant_client::qdrant::query::Variant;
use qdrant_client::qdrant::{
    DenseVector, Filter as QdrantFilter, GetPoints, IdfParams, Query, QueryBatchPoints, QueryPoints, ScoredPoint,
    ScrollPoints, SearchParams, SparseVector as QdrantSparse, Value, VectorInput, VectorsSelector, vector_input,
    with_vectors_selector,
};
use uuid::Uuid;

use super::server::{READ_LIMIT, Server};
use super::{DENSE, SPARSE, filter, point, value};
use crate::document::Scope;
use crate::error::Result;
use crate::vector_store::{Found, Hit, SearchQuery, SearchResults, SparseVector, payload, ranking};

/// Ids of one request: so few points are compared one by one, never by the graph.
const MAX_IDS: usize = 256;

/// The part of a search that does not depend on how many hits are fetched.
pub(super) struct Branches<'a> {
    pub(super) server: &'a Server,
    pub(super) collection: &'a str,
    /// What the search may see; inside each branch.
    pub(super) visible: QdrantFilter,
    /// The tenant's points, over which IDF is taken: a foreign tenant's documents change no score.
    pub(super) corpus: QdrantFilter,
    dense: Option<VectorInput>,
    sparse: Option<VectorInput>,
}

impl<'a> Branches<'a> {
    pub(super) fn new(
        server: &'a Server,
        collection: &'a str,
        [visible, corpus]: [QdrantFilter; 2],
        query: &SearchQuery,
    ) -> Self {
        let dense = query.dense.clone().map(dense);
        let sparse = query.sparse.clone().filter(|sparse| !sparse.indices.is_empty());
        let sparse = sparse.map(|SparseVector { indices, values }| VectorInput {
            variant: Some(vector_input::Variant::Sparse(QdrantSparse { indices, values })),
        });
        Self { server, collection, visible, corpus, dense, sparse }
    }

    /// The best `limit` hits of each branch.
    pub(super) async fn search(&self, limit: usize) -> Result<SearchResults> {
        if limit == 0 || (self.dense.is_none() && self.sparse.is_none()) {
            return Ok(SearchResults::default());
        }
        let mut fetch = ranking::first_fetch(limit);
        let [mut dense, mut sparse] = self.ask(fetch).await?;
        while let Some(more) = ranking::next_fetch([&dense, &sparse], limit, fetch) {
            fetch = more;
            [dense, sparse] = self.ask(fetch).await?;
        }
        sparse.retain(|hit| hit.score > 0.0);
        let (dense, sparse) = (ranking::best(dense, limit), ranking::best(sparse, limit));
        let best_terms = match sparse.first() {
            Some(best) => self.terms(best.id).await?,
            None => SparseVector::default(),
        };
        Ok(SearchResults { dense, sparse, best_terms })
    }

    async fn ask(&self, fetch: usize) -> Result<[Vec<Hit>; 2]> {
        let idf =
            SearchParams { idf: Some(IdfParams { corpus: Some(self.corpus.clone()) }), ..SearchParams::default() };
        let dense = self.dense.as_ref().map(|vector| self.branch(DENSE, vector, None, fetch));
        let sparse = self.sparse.as_ref().map(|vector| self.branch(SPARSE, vector, Some(idf), fetch));
        let (has_dense, has_sparse) = (dense.is_some(), sparse.is_some());
        let request = QueryBatchPoints {
            collection_name: self.collection.to_owned(),
            query_points: dense.into_iter().chain(sparse).collect(),
            timeout: Some(READ_LIMIT.as_secs()),
            ..QueryBatchPoints::default()
        };
        let answer = self.server.answer(READ_LIMIT, self.server.reads().query_batch(request)).await?;
        let mut answers = answer.result.into_iter().map(|batch| batch.result);
        let mut next = |asked| hits(if asked { answers.next() } else { None }.unwrap_or_default());
        Ok([next(has_dense)?, next(has_sparse)?])
    }

    fn branch(&self, using: &str, vector: &VectorInput, params: Option<SearchParams>, fetch: usize) -> QueryPoints {
        QueryPoints {
            collection_name: self.collection.to_owned(),
            query: Some(Query { variant: Some(Variant::Nearest(vector.clone())) }),
            using: Some(using.to_owned()),
            filter: Some(self.visible.clone()),
            params,
            limit: Some(fetch as u64),
            with_payload: Some(false.into()),
            ..QueryPoints::default()
        }
    }

    /// The terms of a point; none if it is gone.
    async fn terms(&self, id: Uuid) -> Result<SparseVector> {
        let selector = VectorsSelector { names: vec![SPARSE.to_owned()] };
        let request = GetPoints {
            collection_name: self.collection.to_owned(),
            ids: vec![id.to_string().into()],
            with_payload: Some(false.into()),
            with_vectors: Some(with_vectors_selector::SelectorOptions::Include(selector).into()),
            timeout: Some(READ_LIMIT.as_secs()),
            ..GetPoints::default()
        };
        let answer = self.server.answer(READ_LIMIT, self.server.reads().get(request)).await?;
        let vectors = answer.result.into_iter().next().and_then(|point| point.vectors);
        Ok(point::vectors(vectors).1)
    }
}

fn dense(data: Vec<f32>) -> VectorInput {
    VectorInput { variant: Some(vector_input::Variant::Dense(DenseVector { data })) }
}

fn hits(points: Vec<ScoredPoint>) -> Result<Vec<Hit>> {
    points.into_iter().map(|point| Ok(Hit { id: point::uuid(point.id)?, score: point.score })).collect()
}

/// What is stored of these points and may be read, in their order. The similarity is the score that Qdrant gives them,
/// so that no vector travels.
pub(super) async fn passages(
    server: &Server,
    collection: &str,
    scope: &Scope,
    ids: &[Uuid],
    question: Option<&[f32]>,
) -> Result<Vec<Found>> {
    let mut found = HashMap::with_capacity(ids.len());
    for ids in ids.chunks(MAX_IDS) {
        let Some(readable) = filter::readable(scope, ids) else { continue };
        for (id, cosine, fields) in read(server, collection, readable, ids.len(), question).await? {
            if let Some(passage) = payload::passage(value::from_qdrant(fields), scope)? {
                found.insert(id, Found { id, cosine, passage });
            }
        }
    }
    Ok(ids.iter().filter_map(|id| found.remove(id)).collect())
}

/// A stored point: its id, its similarity to the question if there is one, its payload.
type Stored = (Uuid, Option<f32>, HashMap<String, Value>);

async fn read(
    server: &Server,
    collection: &str,
    filter: QdrantFilter,
    limit: usize,
    question: Option<&[f32]>,
) -> Result<Vec<Stored>> {
    let Some(question) = question else {
        let request = ScrollPoints {
            collection_name: collection.to_owned(),
            filter: Some(filter),
            limit: Some(limit as u32),
            with_payload: Some(true.into()),
            timeout: Some(READ_LIMIT.as_secs()),
            ..ScrollPoints::default()
        };
        let answer = server.answer(READ_LIMIT, server.reads().scroll(request)).await?;
        return answer.result.into_iter().map(|point| Ok((point::uuid(point.id)?, None, point.payload))).collect();
    };
    let request = QueryPoints {
        collection_name: collection.to_owned(),
        query: Some(Query { variant: Some(Variant::Nearest(dense(question.to_vec()))) }),
        using: Some(DENSE.to_owned()),
        filter: Some(filter),
        limit: Some(limit as u64),
        with_payload: Some(true.into()),
        timeout: Some(READ_LIMIT.as_secs()),
        ..QueryPoints::default()
    };
    let answer = server.answer(READ_LIMIT, server.reads().query(request)).await?;
    answer.result.into_iter().map(|point| Ok((point::uuid(point.id)?, Some(point.score), point.payload))).collect()
}
