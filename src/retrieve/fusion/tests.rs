use super::*;

const RRF: Method = Method::Rrf { k: 60.0 };
const WEIGHTS: Weights = Weights { dense: 1.0, sparse: 1.0, rerank: 1.0 };

fn id(n: u128) -> Uuid {
    Uuid::from_u128(n)
}

fn ids(fused: &[Fused]) -> Vec<u128> {
    fused.iter().map(|fused| fused.id.as_u128()).collect()
}

fn dense(hits: &[(u128, f32)]) -> Vec<Scored> {
    hits.iter().map(|&(n, score)| Scored { id: id(n), score, cosine: Some(score) }).collect()
}

fn sparse(hits: &[(u128, f32)]) -> Vec<Scored> {
    hits.iter().map(|&(n, score)| Scored { id: id(n), score, cosine: None }).collect()
}

/// Fuses with a bound of BM25 of 10.
fn fuse_both(method: Method, weights: Weights, dense: &[Scored], sparse: &[Scored]) -> Vec<Fused> {
    fuse(method, weights, Branches { dense, sparse, sparse_bound: 10.0 })
}

#[test]
fn by_ranks_what_both_branches_found_comes_first() {
    let dense = dense(&[(1, 0.9), (2, 0.8), (3, 0.7)]);
    let sparse = sparse(&[(3, 9.0), (4, 8.0), (2, 1.0)]);
    let fused = fuse_both(RRF, WEIGHTS, &dense, &sparse);
    // 3: 1/63 + 1/61; 2: 1/62 + 1/63; 1: 1/61; 4: 1/62.
    assert_eq!(ids(&fused), [3, 2, 1, 4]);
    assert!((fused[0].score - (61.0 / 63.0 + 1.0) / 2.0).abs() < 1e-6);
    assert_eq!(fused[0].dense, Some(Placing { rank: 3, score: 0.7 }));
    assert_eq!(fused[3].dense, None);
    assert_eq!(fused[3].sparse, Some(Placing { rank: 2, score: 8.0 }));
}

#[test]
fn by_scores_a_branch_counts_for_as_much_as_it_found() {
    // BM25 found next to nothing: by ranks its first hit is as good as the nearest passage, by scores it is not.
    let dense = dense(&[(1, 0.9), (2, 0.3)]);
    let sparse = sparse(&[(2, 1.0)]);
    assert_eq!(ids(&fuse_both(RRF, WEIGHTS, &dense, &sparse)), [2, 1]);
    let fused = fuse_both(Method::Scores, WEIGHTS, &dense, &sparse);
    assert_eq!(ids(&fused), [1, 2]);
    assert!((fused[0].score - 0.45).abs() < 1e-6 && (fused[1].score - 0.2).abs() < 1e-6, "{fused:?}");
}

#[test]
fn a_cosine_that_is_not_known_is_that_of_the_farthest() {
    let near = dense(&[(1, 0.9), (2, 0.4)]);
    let mut lexical = sparse(&[(3, 5.0), (4, 5.0)]);
    lexical[1].cosine = Some(0.2);
    let fused = fuse_both(Method::Scores, WEIGHTS, &near, &lexical);
    assert_eq!(ids(&fused), [1, 3, 4, 2]);
    assert_eq!((fused[1].score, fused[1].cosine, fused[2].cosine), (0.45, None, Some(0.2)));
}

#[test]
fn weights_decide() {
    let (dense, mut sparse) = (dense(&[(1, 0.5)]), sparse(&[(2, 5.0)]));
    sparse[0].cosine = Some(0.0);
    for method in [RRF, Method::Scores] {
        let more_sparse = Weights { sparse: 3.0, ..WEIGHTS };
        assert_eq!(ids(&fuse_both(method, more_sparse, &dense, &sparse))[0], 2);
        assert_eq!(ids(&fuse_both(method, Weights { dense: 2.0, ..WEIGHTS }, &dense, &sparse))[0], 1);
    }
}

#[test]
fn ties_go_to_the_cosine_then_to_the_id() {
    // 7 and 8 have swapped ranks and so equal sums; 8 has the better cosine.
    let (near, lexical) = (dense(&[(8, 0.9), (7, 0.8)]), sparse(&[(7, 5.0), (8, 4.0)]));
    assert_eq!(ids(&fuse_both(RRF, WEIGHTS, &near, &lexical)), [8, 7]);
    // One branch each, the same rank: the one with a cosine first.
    assert_eq!(ids(&fuse_both(RRF, WEIGHTS, &dense(&[(9, 0.1)]), &sparse(&[(1, 9.0)]))), [9, 1]);
    // Below 0 all scores are 0, and the cosine decides.
    assert_eq!(ids(&fuse_both(Method::Scores, WEIGHTS, &dense(&[(5, -0.1), (4, -0.1), (3, -0.3)]), &[])), [4, 5, 3]);
}

#[test]
fn the_order_does_not_depend_on_the_hash_map() {
    let near = dense(&(0..50).map(|n| (n, 1.0)).collect::<Vec<_>>());
    let lexical = sparse(&(50..100).map(|n| (n, 1.0)).collect::<Vec<_>>());
    for method in [RRF, Method::Scores] {
        let first = fuse_both(method, WEIGHTS, &near, &lexical);
        for _ in 0..20 {
            assert_eq!(fuse_both(method, WEIGHTS, &near, &lexical), first);
        }
    }
}

#[test]
fn nothing_gives_nothing() {
    assert!(replace_order(&[], &[]).is_empty());
    for method in [RRF, Method::Scores] {
        assert!(fuse_both(method, WEIGHTS, &[], &[]).is_empty());
        assert!(fuse_order(method, WEIGHTS, &[], &[]).is_empty());
    }
}

#[test]
fn the_best_score_is_one() {
    let (near, lexical) = (dense(&[(1, 1.0)]), sparse(&[(1, 10.0)]));
    for method in [RRF, Method::Scores] {
        assert_eq!(fuse_both(method, WEIGHTS, &near, &lexical)[0].score, 1.0);
        let alone = Weights { sparse: 0.0, ..WEIGHTS };
        assert_eq!(fuse_both(method, alone, &near, &[])[0].score, 1.0);
        assert_eq!(fuse_order(method, WEIGHTS, &[1.0, 0.5], &[1.0, 0.5])[0], Reordered { position: 0, score: 1.0 });
    }
}

fn terms(weights: &[(u32, f32)]) -> SparseVector {
    let (indices, values) = weights.iter().copied().unzip();
    SparseVector { indices, values }
}

#[test]
fn the_bound_of_bm25_is_what_all_terms_would_give() {
    let question = terms(&[(1, 1.0), (2, 1.0)]);
    // Both terms have an idf of 3: 2 × 3 × the largest weight.
    let all = 6.0 * LARGEST_WEIGHT;
    let bound = |best: &[(u32, f32)], score| bm25_bound(&question, &terms(best), score);
    assert!((bound(&[(1, 1.0), (2, 0.5), (9, 2.0)], 4.5) - all).abs() < 1e-5);
    // One term alone says as much of the other.
    assert!((bound(&[(2, 1.5)], 4.5) - all).abs() < 1e-5);
    assert_eq!(bound(&[(9, 1.0)], 4.5), 4.5, "the terms of the hit are not known");
    assert_eq!(bound(&[(1, 9.0), (2, 9.0)], 4.5), 4.5, "no less than what was found");
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
fn ranks_of_retrieval_and_reranker_are_fused() {
    let order = |weight, fused: &[f32], relevance: &[f32]| {
        positions(&fuse_order(RRF, Weights { rerank: weight, ..WEIGHTS }, fused, relevance))
    };
    let fused = [0.9, 0.8, 0.7, 0.6];
    // Rerank order 2, 1, 0: equal weights make the middle one no better; ties keep the retrieval order.
    assert_eq!(order(1.0, &fused, &[0.1, 0.2, 0.3]), [0, 2, 1, 3]);
    assert_eq!(order(3.0, &fused, &[0.1, 0.2, 0.3]), [2, 1, 0, 3]);
    assert_eq!(order(1.0, &fused[..3], &[0.5, 0.5, 0.5]), [0, 1, 2]);
}

#[test]
fn scores_of_retrieval_and_reranker_are_fused() {
    let order = |weight, fused: &[f32], relevance: &[f32]| {
        positions(&fuse_order(Method::Scores, Weights { rerank: weight, ..WEIGHTS }, fused, relevance))
    };
    let fused = [0.9, 0.5, 0.4, 0.3];
    // Retrieval has the weight 2: 0 has 1.8 + 0.1, 1 has 1 + 0.2, 2 has 0.8 + 0.9.
    assert_eq!(order(1.0, &fused, &[0.1, 0.2, 0.9]), [0, 2, 1, 3]);
    assert_eq!(order(2.0, &fused, &[0.1, 0.2, 0.9]), [2, 0, 1, 3]);
    assert_eq!(order(1.0, &[0.5, 0.5, 0.5], &[0.5, f32::NAN, 0.5]), [0, 2, 1]);
    assert_eq!(order(0.0, &fused, &[0.0, 1.0]), [0, 1, 2, 3]);
}

#[test]
fn a_classifiers_certainty_is_softened() {
    let sigmoid = |logit: f32| 1.0 / (1.0 + (-logit).exp());
    for logit in [-8.0, -1.0, 0.0, 4.0] {
        assert!((soften(sigmoid(logit)) - sigmoid(logit / 4.0)).abs() < 1e-3, "{logit}");
    }
    assert_eq!((soften(0.0), soften(1.0), soften(2.0)), (0.0, 1.0, 1.0));
    assert!(soften(f32::NAN).is_nan(), "which counts as irrelevant");
}
