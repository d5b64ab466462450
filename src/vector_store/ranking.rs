//! The best hits, ties by point id: engines break ties as they like, so that a search fetches more than it keeps until
//! no tie runs across the limit.

use super::Hit;

/// Hits fetched beyond the limit, to see whether a tie runs across it.
const TIE_MARGIN: usize = 16;
/// Most hits fetched to end a tie: beyond it (thousands of equal texts), which of them are found is the engine's choice.
const MAX_FETCH: usize = 4_096;

/// How many hits to fetch first, to keep `limit`.
pub(super) fn first_fetch(limit: usize) -> usize {
    limit + TIE_MARGIN
}

/// How many to fetch next, where a tie in one of `branches` (each in the engine's order) may go on beyond the `fetched`.
pub(super) fn next_fetch(branches: [&[Hit]; 2], limit: usize, fetched: usize) -> Option<usize> {
    let is_cut = |hits: &[Hit]| {
        let score = |hit: Option<&Hit>| hit.map(|hit| hit.score);
        hits.len() >= fetched && score(hits.last()) == score(hits.get(limit - 1))
    };
    (fetched < MAX_FETCH && branches.into_iter().any(is_cut)).then(|| (fetched * 4).min(MAX_FETCH))
}

/// The best `limit` hits.
pub(super) fn best(mut hits: Vec<Hit>, limit: usize) -> Vec<Hit> {
    hits.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.id.cmp(&b.id)));
    hits.truncate(limit);
    hits
}
