//! Reciprocal rank fusion: of the two branches of a search, and of the retrieval order with a reranker's order.
//!
//! It is ours and not the store's, so that k, weights and ties are the same whatever the store, and every rank can be
//! explained. Source: Cormack, Clarke, Buettcher, "Reciprocal Rank Fusion outperforms Condorcet and individual Rank
//! Learning Methods", SIGIR 2009: score = Σ weight / (k + rank), ranks counted from 1.

use std::cmp::Ordering;
use std::collections::HashMap;

use uuid::Uuid;

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
    /// Weighted sum of reciprocal ranks.
    pub score: f32,
    /// Its place in the dense branch.
    pub dense: Option<Placing>,
    /// Its place in the sparse branch.
    pub sparse: Option<Placing>,
}

/// k and the weights of the two branches.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weights {
    /// Damps the lead of the first ranks.
    pub k: f32,
    /// Of the dense branch.
    pub dense: f32,
    /// Of the sparse branch.
    pub sparse: f32,
}

/// One reciprocal rank.
fn reciprocal(k: f32, rank: usize) -> f32 {
    1.0 / (k + rank as f32)
}

/// Fuses two lists of (id, score), each best first and without repetition. Equal sums: the better dense score first,
/// then the smaller id.
pub fn fuse(dense: &[(Uuid, f32)], sparse: &[(Uuid, f32)], weights: Weights) -> Vec<Fused> {
    let mut fused: HashMap<Uuid, Fused> = HashMap::with_capacity(dense.len() + sparse.len());
    let unseen = |id| Fused { id, score: 0.0, dense: None, sparse: None };
    for (i, &(id, score)) in dense.iter().enumerate() {
        let entry = fused.entry(id).or_insert_with(|| unseen(id));
        entry.dense = Some(Placing { rank: i + 1, score });
        entry.score += weights.dense * reciprocal(weights.k, i + 1);
    }
    for (i, &(id, score)) in sparse.iter().enumerate() {
        let entry = fused.entry(id).or_insert_with(|| unseen(id));
        entry.sparse = Some(Placing { rank: i + 1, score });
        entry.score += weights.sparse * reciprocal(weights.k, i + 1);
    }
    let mut fused: Vec<Fused> = fused.into_values().collect();
    fused.sort_by(compare);
    fused
}

fn compare(a: &Fused, b: &Fused) -> Ordering {
    let dense = |fused: &Fused| fused.dense.map_or(f32::NEG_INFINITY, |placing| placing.score);
    b.score.total_cmp(&a.score).then_with(|| dense(b).total_cmp(&dense(a))).then_with(|| a.id.cmp(&b.id))
}

/// The highest score that [`fuse`] can give when these branches were asked.
pub fn best_possible(weights: Weights, dense: bool, sparse: bool) -> f32 {
    let weight = if dense { weights.dense } else { 0.0 } + if sparse { weights.sparse } else { 0.0 };
    weight * reciprocal(weights.k, 1)
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

/// The same for a reranker whose order is fused with the retrieval order: by 1 / (k + retrieval rank) + `weight` /
/// (k + rerank rank), as a share of the highest sum; equal: by retrieval order.
pub fn fuse_order(candidates: usize, relevance: &[f32], k: f32, weight: f32) -> Vec<Reordered> {
    let mut rerank = vec![0.0; candidates];
    for (i, reordered) in by_relevance(relevance).iter().enumerate() {
        rerank[reordered.position] = weight * reciprocal(k, i + 1);
    }
    let best = (1.0 + weight) * reciprocal(k, 1);
    let score = |(position, rerank)| Reordered { position, score: (reciprocal(k, position + 1) + rerank) / best };
    let mut order: Vec<Reordered> = rerank.into_iter().enumerate().map(score).collect();
    order.sort_by(by_score);
    order
}

fn by_relevance(relevance: &[f32]) -> Vec<Reordered> {
    // `max` takes the number where the other is not one: a NaN counts as irrelevant.
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
mod tests {
    use super::*;

    const WEIGHTS: Weights = Weights { k: 60.0, dense: 1.0, sparse: 1.0 };

    fn id(n: u128) -> Uuid {
        Uuid::from_u128(n)
    }

    fn ids(fused: &[Fused]) -> Vec<u128> {
        fused.iter().map(|fused| fused.id.as_u128()).collect()
    }

    #[test]
    fn what_both_branches_found_comes_first() {
        let dense = [(id(1), 0.9), (id(2), 0.8), (id(3), 0.7)];
        let sparse = [(id(3), 9.0), (id(4), 8.0), (id(2), 1.0)];
        let fused = fuse(&dense, &sparse, WEIGHTS);
        // 3: 1/63 + 1/61; 2: 1/62 + 1/63; 1: 1/61; 4: 1/62.
        assert_eq!(ids(&fused), [3, 2, 1, 4]);
        assert!((fused[0].score - (1.0 / 63.0 + 1.0 / 61.0)).abs() < 1e-7);
        assert_eq!(fused[0].dense, Some(Placing { rank: 3, score: 0.7 }));
        assert_eq!(fused[3].dense, None);
        assert_eq!(fused[3].sparse, Some(Placing { rank: 2, score: 8.0 }));
    }

    #[test]
    fn weights_decide() {
        let dense = [(id(1), 0.9)];
        let sparse = [(id(2), 9.0)];
        assert_eq!(ids(&fuse(&dense, &sparse, Weights { sparse: 2.0, ..WEIGHTS })), [2, 1]);
        assert_eq!(ids(&fuse(&dense, &sparse, Weights { dense: 2.0, ..WEIGHTS })), [1, 2]);
    }

    #[test]
    fn ties_go_to_the_dense_score_then_to_the_id() {
        // 7 and 8 have swapped ranks and so equal sums; 8 has the better dense score.
        let dense = [(id(8), 0.9), (id(7), 0.8)];
        let sparse = [(id(7), 5.0), (id(8), 4.0)];
        assert_eq!(ids(&fuse(&dense, &sparse, WEIGHTS)), [8, 7]);
        // One branch each, the same rank: the one with a dense score first.
        assert_eq!(ids(&fuse(&[(id(9), 0.1)], &[(id(1), 9.0)], WEIGHTS)), [9, 1]);
    }

    #[test]
    fn the_order_does_not_depend_on_the_hash_map() {
        let dense: Vec<_> = (0..50).map(|n| (id(n), 1.0)).collect();
        let sparse: Vec<_> = (50..100).map(|n| (id(n), 1.0)).collect();
        let first = fuse(&dense, &sparse, WEIGHTS);
        for _ in 0..20 {
            assert_eq!(fuse(&dense, &sparse, WEIGHTS), first);
        }
    }

    #[test]
    fn nothing_gives_nothing() {
        assert!(fuse(&[], &[], WEIGHTS).is_empty());
        assert!(replace_order(&[], &[]).is_empty());
        assert!(fuse_order(0, &[], 60.0, 1.0).is_empty());
    }

    #[test]
    fn the_best_score_is_one() {
        let fused = fuse(&[(id(1), 0.9)], &[(id(1), 3.0)], WEIGHTS);
        assert_eq!(fused[0].score / best_possible(WEIGHTS, true, true), 1.0);
        let fused = fuse(&[(id(1), 0.9)], &[], WEIGHTS);
        assert_eq!(fused[0].score / best_possible(WEIGHTS, true, false), 1.0);
    }

    fn positions(order: &[Reordered]) -> Vec<usize> {
        for pair in order.windows(2) {
            assert!(pair[0].score >= pair[1].score, "scores fall: {order:?}");
        }
        assert!(order.iter().all(|reordered| (0.0..=1.0).contains(&reordered.score)), "{order:?}");
        order.iter().map(|reordered| reordered.position).collect()
    }

    #[test]
    fn a_replacing_reranker_orders_the_head_and_leaves_the_tail_below() {
        let fused = [1.0, 0.9, 0.8, 0.7, 0.6];
        assert_eq!(positions(&replace_order(&fused, &[0.1, 0.9, 0.1])), [1, 0, 2, 3, 4]);
        assert_eq!(positions(&replace_order(&fused, &[f32::NAN, 7.0, -3.0])), [1, 0, 2, 3, 4]);
        assert_eq!(positions(&replace_order(&fused, &[])), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn a_fused_reranker_moves_candidates_between_the_two_orders() {
        // Rerank order 2, 1, 0: equal weights make the middle one no better; ties keep the retrieval order.
        assert_eq!(positions(&fuse_order(4, &[0.1, 0.2, 0.3], 60.0, 1.0)), [0, 2, 1, 3]);
        assert_eq!(positions(&fuse_order(4, &[0.1, 0.2, 0.3], 60.0, 3.0)), [2, 1, 0, 3]);
        assert_eq!(positions(&fuse_order(3, &[0.5, 0.5, 0.5], 60.0, 1.0)), [0, 1, 2]);
        let both_first = fuse_order(2, &[0.9, 0.1], 60.0, 1.0);
        assert_eq!(both_first[0], Reordered { position: 0, score: 1.0 });
    }
}
