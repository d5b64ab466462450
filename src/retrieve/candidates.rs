//! Candidates: what both branches found, fused, and checked once more against the catalog.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use super::fusion::{self, Branches, Fused, Method, Reordered, Scored};
use super::{Explanation, RetrievalRequest, Retriever};
use crate::document::{DocumentId, Passage, Scope, TenantId, Version, point_id};
use crate::error::Result;
use crate::telemetry::metrics;
use crate::vector_store::{Found, Hit, SearchQuery, SearchResults};

/// Fewest hits of each branch.
const MIN_BRANCH: usize = 100;
/// Hits of each branch for each candidate that is kept.
const BRANCH_FACTOR: usize = 4;
/// Hits that are read for each candidate that is kept.
const SHORTLIST: usize = 2;
/// Most searches for one question: each goes round what the catalog refused in those before.
const MAX_ROUNDS: usize = 5;

/// One content of a document.
type Content = (DocumentId, Version);

/// A passage that may be shown, with its ranks.
#[derive(Debug)]
pub(super) struct Candidate {
    /// Its ranks in the branches and its fused score.
    pub(super) fused: Fused,
    /// Its rank after fusion, from 1.
    pub(super) rank: usize,
    /// What was found.
    pub(super) passage: Passage,
}

impl Candidate {
    /// Why it stands where it stands.
    pub(super) fn explain(&self, place: Reordered, relevance: &[f32]) -> Explanation {
        Explanation {
            id: self.passage.chunk_id(),
            dense_rank: self.fused.dense.map(|placing| placing.rank),
            dense_score: self.fused.cosine,
            sparse_rank: self.fused.sparse.map(|placing| placing.rank),
            sparse_score: self.fused.sparse.map(|placing| placing.score),
            fused_rank: self.rank,
            fused_score: self.fused.score,
            rerank_score: relevance.get(place.position).copied(),
            score: place.score,
        }
    }
}

/// What a hit is of.
fn content(found: &Found) -> Content {
    (found.passage.document_id.clone(), found.passage.version)
}

/// Why the catalog refuses a hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    /// The document is deleted, or was never published.
    Deleted,
    /// Another version is served: a replacement is being written, or has just been published.
    Version,
    /// The caller may not read it.
    Access,
}

impl Refusal {
    fn as_str(self) -> &'static str {
        match self {
            Self::Deleted => "deleted",
            Self::Version => "version",
            Self::Access => "access",
        }
    }
}

impl Retriever {
    /// Searches, fuses and keeps the best candidates that the catalog lets through.
    ///
    /// The store may still hold, or already hold, contents that are not served. They are left out and the search is
    /// repeated without them: a version that was published in between is found then, so that a reader sees the old or
    /// the new version and never neither.
    pub(super) async fn candidates(
        &self,
        request: &RetrievalRequest,
        dense: Option<Vec<f32>>,
    ) -> Result<Vec<Candidate>> {
        let keep = self.config.top_k.max(request.top_k);
        let mut query = SearchQuery {
            dense,
            sparse: (request.mode != super::Mode::Dense).then(|| self.bm25.query(&request.question)),
            filter: request.filter.clone(),
            exclude: Vec::new(),
            limit: MIN_BRANCH.max(BRANCH_FACTOR * keep),
        };
        let mut round = 1;
        loop {
            let results = self.backends.store.search(&request.scope, query.clone()).await?;
            let fused = self.fuse(request, &query, &results, &HashMap::new());
            // More than are kept, because their places are exact only when their cosines are known.
            let best = &fused[..(SHORTLIST * keep).min(fused.len())];
            let mut found = self.read(&request.scope, &query, best).await?;
            // What was refused before is looked at again: it may have been published meanwhile.
            let mut looked_at: HashSet<_> = query.exclude.iter().cloned().collect();
            looked_at.extend(found.iter().map(content));
            let refused = self.refused(&request.scope, &looked_at).await?;
            if found.len() != best.len()
                || refused.len() != query.exclude.len()
                || query.exclude.iter().any(|content| !refused.contains_key(content))
            {
                // Go round all of them at once: while a corpus is loaded again, half of the hits may be refused.
                found = self.read(&request.scope, &query, &fused).await?;
                looked_at.extend(found.iter().map(content));
                let refused = self.refused(&request.scope, &looked_at).await?;
                count(&found, &refused);
                if round < MAX_ROUNDS {
                    round += 1;
                    query.exclude = refused.into_keys().collect();
                    continue;
                }
                found.retain(|found| !refused.contains_key(&content(found)));
            }
            return Ok(self.ranked(request, &query, &results, found, keep));
        }
    }

    /// Fuses the branches. `cosines` are those that are known beside the dense branch's.
    fn fuse(
        &self,
        request: &RetrievalRequest,
        query: &SearchQuery,
        results: &SearchResults,
        cosines: &HashMap<Uuid, f32>,
    ) -> Vec<Fused> {
        let dense: Vec<_> =
            results.dense.iter().map(|hit| Scored { id: hit.id, score: hit.score, cosine: Some(hit.score) }).collect();
        let scored = |hit: &Hit| Scored { id: hit.id, score: hit.score, cosine: cosines.get(&hit.id).copied() };
        let sparse: Vec<_> = results.sparse.iter().map(scored).collect();
        let sparse_bound = match (self.config.fusion, &query.sparse, results.sparse.first()) {
            (Method::Scores, Some(question), Some(best)) => {
                fusion::bm25_bound(question, &results.best_terms, best.score)
            }
            _ => 1.0,
        };
        let branches = Branches { dense: &dense, sparse: &sparse, sparse_bound };
        fusion::fuse(self.config.fusion, self.weights(request.mode), branches)
    }

    /// What is stored of these hits; those that went away after the search are left out.
    async fn read(&self, scope: &Scope, query: &SearchQuery, hits: &[Fused]) -> Result<Vec<Found>> {
        let ids: Vec<Uuid> = hits.iter().map(|hit| hit.id).collect();
        let mut found = self.backends.store.passages(scope, &ids, query.dense.as_deref()).await?;
        let foreign = drop_foreign(scope.tenant(), &mut found);
        if foreign > 0 {
            metrics::RECHECK_DROPPED.add(foreign as u64, &[("reason", Refusal::Access.as_str())]);
            tracing::error!(foreign, "the vector store let hits of another tenant through");
        }
        Ok(found)
    }

    /// The best `keep` of what was read, in the order that it has now that all cosines are known.
    fn ranked(
        &self,
        request: &RetrievalRequest,
        query: &SearchQuery,
        results: &SearchResults,
        found: Vec<Found>,
        keep: usize,
    ) -> Vec<Candidate> {
        let cosines = found.iter().filter_map(|found| Some((found.id, found.cosine?))).collect();
        let mut passages: HashMap<Uuid, Passage> = found.into_iter().map(|found| (found.id, found.passage)).collect();
        let fused = self.fuse(request, query, results, &cosines).into_iter();
        let read = fused.filter_map(|fused| Some((passages.remove(&fused.id)?, fused)));
        let candidate = |(i, (passage, fused))| Candidate { fused, rank: i + 1, passage };
        read.take(keep).enumerate().map(candidate).collect()
    }

    /// Those among `contents` that may not be shown, and why, by one look into the catalog.
    async fn refused(&self, scope: &Scope, contents: &HashSet<Content>) -> Result<HashMap<Content, Refusal>> {
        if contents.is_empty() {
            return Ok(HashMap::new());
        }
        let documents: HashSet<_> = contents.iter().map(|(document, _)| document.clone()).collect();
        let documents: Vec<_> = documents.into_iter().collect();
        let visible = self.backends.catalog.visibility(scope.tenant(), &documents).await?;
        let refusal = |content: &Content| {
            let why = match visible.get(&content.0) {
                None => Refusal::Deleted,
                Some(served) if served.version != content.1 => Refusal::Version,
                Some(served) if !scope.may_read(scope.tenant(), &served.readers) => Refusal::Access,
                Some(_) => return None,
            };
            Some((content.clone(), why))
        };
        Ok(contents.iter().filter_map(refusal).collect())
    }
}

/// Drops hits of other tenants; a point's id is made of its tenant. Returns their number.
fn drop_foreign(tenant: &TenantId, found: &mut Vec<Found>) -> usize {
    let all = found.len();
    found.retain(|hit| {
        let passage = &hit.passage;
        hit.id == point_id(tenant, &passage.document_id, passage.version, passage.chunk.chunk_idx)
    });
    all - found.len()
}

/// Counts refused hits by reason. One for lack of access, outside the moment of a change of readers, means that the
/// store's filter is wrong.
fn count(found: &[Found], refused: &HashMap<Content, Refusal>) {
    for refusal in [Refusal::Deleted, Refusal::Version, Refusal::Access] {
        let hits = found.iter().filter(|found| refused.get(&content(found)) == Some(&refusal)).count();
        if hits > 0 {
            metrics::RECHECK_DROPPED.add(hits as u64, &[("reason", refusal.as_str())]);
        }
        if hits > 0 && refusal == Refusal::Access {
            tracing::warn!(hits, "the catalog refused hits for lack of access that the vector store let through");
        }
    }
}
