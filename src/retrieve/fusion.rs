//! Fusion: of the two branches of a search, and of retrieval with a reranker.
//!
//! It is ours and not the store's, so that scores, weights and ties are the same whatever the store, and every rank can
//! be explained.
//!
//! **By scores** ([`Method::Scores`]), the default: the weighted mean of the cosine, of BM25 as a share of its bound
//! ([`bm25_bound`]) and of the reranker's relevance. Each is a share of the highest that is possible, whatever the
//! question and the collection: a branch that found nothing good says so in low scores, where ranks would give its first
//! hit as much as the other's. Source: Bruch, Gai, Ingber, "An Analysis of Fusion Functions for Hybrid Retrieval", ACM
//! TOIS 42(1), 2023: convex combinations, with theoretical bounds for norms.
//!
//! **By ranks** ([`Method::Rrf`]): Σ weight / (k + rank), ranks counted from 1. Source: Cormack, Clarke, Buettcher,
//! "Reciprocal Rank Fusion outperforms Condorcet and individual Rank Learning Methods", SIGIR 2009.

use std::cmp::Ordering;
use std::collections::HashMap;

use uuid::Uuid;

use crate::vector_store::SparseVector;
use crate::vector_store::bm25::LARGEST_WEIGHT;

/// What is fused.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub enum Method {
    /// Scores.
    #[default]
    Scores,
    /// Reciprocal ranks.
    Rrf {
        /// Damps the lead of the first ranks.
        k: f32,
    },
}

/// Weights of what is fused. `dense` and `sparse` together are above 0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weights {
    /// Of the dense branch.
    pub dense: f32,
    /// Of the sparse branch.
    pub sparse: f32,
    /// Of the reranker.
    pub rerank: f32,
}

/// A hit of a branch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scored {
    /// The point.
    pub id: Uuid,
    /// The branch's own score.
    pub score: f32,
    /// Cosine similarity to the question, where it is known.
    pub cosine: Option<f32>,
}

/// What the branches found, each best first and without repetition.
#[derive(Debug, Clone, Copy)]
pub struct Branches<'a> {
    /// By cosine similarity.
    pub dense: &'a [Scored],
    /// By BM25.
    pub sparse: &'a [Scored],
    /// The highest BM25 that is possible, above 0.
    pub sparse_bound: f32,
}

/// Where a branch put a point.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Placing {
    /// Rank, from 1.
    pub rank: usize,
    /// The branch's own score.
    pub score: f32,
}

/// A point after fusion.
#[derive(Debug, Clone, PartialEq)]
pub struct Fused {
    /// The point.
    pub id: Uuid,
    /// What it is ranked by, as a share of the highest that is possible: 0..=1.
    pub score: f32,
    /// Its place in the dense branch.
    pub dense: Option<Placing>,
    /// Its place in the sparse branch.
    pub sparse: Option<Placing>,
    /// Cosine similarity to the question, where it is known.
    pub cosine: Option<f32>,
}

/// Fuses two branches. Equal scores: the higher cosine first, then the smaller id.
pub fn fuse(method: Method, weights: Weights, branches: Branches<'_>) -> Vec<Fused> {
    let mut fused: HashMap<Uuid, Fused> = HashMap::with_capacity(branches.dense.len() + branches.sparse.len());
    let unseen = |id| Fused { id, score: 0.0, dense: None, sparse: None, cosine: None };
    for (i, found) in branches.dense.iter().enumerate() {
        let entry = fused.entry(found.id).or_insert_with(|| unseen(found.id));
        entry.dense = Some(Placing { rank: i + 1, score: found.score });
        entry.cosine = found.cosine;
    }
    for (i, found) in branches.sparse.iter().enumerate() {
        let entry = fused.entry(found.id).or_insert_with(|| unseen(found.id));
        entry.sparse = Some(Placing { rank: i + 1, score: found.score });
        entry.cosine = entry.cosine.or(found.cosine);
    }
    // A passage that the dense branch did not find is farther than all that it found.
    let farthest = branches.dense.last().map_or(0.0, |found| found.score);
    let mut fused: Vec<Fused> = fused.into_values().collect();
    for point in &mut fused {
        let (dense, sparse) = match method {
            Method::Scores => {
                let bm25 = point.sparse.map_or(0.0, |placing| placing.score / branches.sparse_bound);
                (point.cosine.unwrap_or(farthest), bm25)
            }
            Method::Rrf { k } => (reciprocal(k, point.dense), reciprocal(k, point.sparse)),
        };
        let mean = (weights.dense * dense + weights.sparse * sparse) / (weights.dense + weights.sparse);
        point.score = mean.clamp(0.0, 1.0);
    }
    fused.sort_by(compare);
    fused
}

/// A reciprocal rank as a share of the first's.
fn reciprocal(k: f32, placing: Option<Placing>) -> f32 {
    placing.map_or(0.0, |placing| (k + 1.0) / (k + placing.rank as f32))
}

fn compare(a: &Fused, b: &Fused) -> Ordering {
    let cosine = |fused: &Fused| fused.cosine.unwrap_or(f32::NEG_INFINITY);
    b.score.total_cmp(&a.score).then_with(|| cosine(b).total_cmp(&cosine(a))).then_with(|| a.id.cmp(&b.id))
}

/// The BM25 of a passage that had every term of the question at its largest weight.
///
/// Stores keep their inverse document frequencies to themselves, so that their mean is taken from the best hit, whose
/// terms (`best`) and `score` are known: a term that it lacks counts as much as those that it has.
pub fn bm25_bound(question: &SparseVector, best: &SparseVector, score: f32) -> f32 {
    let weights: HashMap<u32, f32> = best.indices.iter().copied().zip(best.values.iter().copied()).collect();
    // (In f64, where the sum does not depend on the order of the terms.)
    let (mut largest, mut had) = (0.0, 0.0);
    for (index, value) in question.indices.iter().zip(&question.values) {
        largest += f64::from(value * LARGEST_WEIGHT);
        had += f64::from(value * weights.get(index).copied().unwrap_or(0.0));
    }
    // Its text may have another title by now than when it was stored, and then perhaps none of the terms.
    if had > 0.0 { score * (largest / had).max(1.0) as f32 } else { score }
}

/// A candidate's place after reranking.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reordered {
    /// Its position in the retrieval order, from 0.
    pub position: usize,
    /// What it is ranked by, in 0..=1: never rising along the final order.
    pub score: f32,
}

/// The final order of candidates whose retrieval order was reranked by its first `relevance.len()`.
///
/// `fused[i]` is the retrieval score of candidate `i` in 0..=1, never rising. The reranked ones come by relevance
/// (equal: by retrieval order), the rest keep their order below.
pub fn replace_order(fused: &[f32], relevance: &[f32]) -> Vec<Reordered> {
    let mut head = by_relevance(relevance);
    let floor = head.last().map_or(1.0, |last| last.score);
    let tail = (head.len()..fused.len()).map(|position| Reordered { position, score: floor * fused[position] });
    head.extend(tail);
    head
}

/// The same for a reranker that is fused with retrieval: the mean of both, by `weights.rerank` and by the weights of the
/// branches together; by ranks, those have the weight 1. What was not reranked has no relevance, and so stays below what
/// stood above it.
pub fn fuse_order(method: Method, weights: Weights, fused: &[f32], relevance: &[f32]) -> Vec<Reordered> {
    let mut rerank = vec![0.0; fused.len()];
    for (i, reordered) in by_relevance(relevance).iter().enumerate() {
        rerank[reordered.position] = match method {
            Method::Scores => reordered.score,
            Method::Rrf { k } => reciprocal(k, Some(Placing { rank: i + 1, score: reordered.score })),
        };
    }
    let (share, retrieval): (f32, Vec<f32>) = match method {
        Method::Scores => (weights.dense + weights.sparse, fused.to_vec()),
        Method::Rrf { k } => {
            let rank = |position: usize| (k + 1.0) / (k + position as f32 + 1.0);
            (1.0, (0..fused.len()).map(rank).collect())
        }
    };
    let score = |(position, (retrieval, rerank)): (usize, (f32, f32))| Reordered {
        position,
        score: ((share * retrieval + weights.rerank * rerank) / (share + weights.rerank)).min(1.0),
    };
    let mut order: Vec<Reordered> = retrieval.into_iter().zip(rerank).enumerate().map(score).collect();
    order.sort_by(by_score);
    order
}

/// A quarter of a probability's log-odds, as a probability: a classifier's 0.98 and 0.9998 differ by as much as its 0.5 and
/// 0.98, and would be the same beside other scores.
pub fn soften(probability: f32) -> f32 {
    let root = |share: f32| share.sqrt().sqrt();
    let (yes, no) = (root(probability.clamp(0.0, 1.0)), root(1.0 - probability.clamp(0.0, 1.0)));
    yes / (yes + no)
}

fn by_relevance(relevance: &[f32]) -> Vec<Reordered> {
    // A NaN counts as irrelevant.
    let score = |(position, &score): (usize, &f32)| Reordered {
        position,
        score: if score.is_nan() { 0.0 } else { score.clamp(0.0, 1.0) },
    };
    let mut order: Vec<Reordered> = relevance.iter().enumerate().map(score).collect();
    order.sort_by(by_score);
    order
}

fn by_score(a: &Reordered, b: &Reordered) -> Ordering {
    b.score.total_cmp(&a.score).then_with(|| a.position.cmp(&b.position))
}

#[cfg(test)]
mod tests;
