//! Retrieval metrics of one question, as `trec_eval` computes them: a ranking of document ids against judgements.
//!
//! A document counts as relevant if its grade is above 0. Documents without a judgement are not relevant.

use std::collections::HashMap;

/// Grades by document id.
pub type Judgements = HashMap<String, u32>;

/// Normalised discounted cumulative gain of the first `k` (`ndcg_cut_k`): the gain is the grade, the discount
/// log2(rank + 1), and the ideal ranking has all judged documents by falling grade (Järvelin and Kekäläinen, 2002).
/// 0 if nothing is relevant.
pub fn ndcg(ranking: &[String], judgements: &Judgements, k: usize) -> f64 {
    let found = ranking.iter().map(|id| judgements.get(id).copied().unwrap_or(0));
    let mut ideal: Vec<u32> = judgements.values().copied().collect();
    ideal.sort_unstable_by(|a, b| b.cmp(a));
    let best = gain(ideal.into_iter(), k);
    if best == 0.0 { 0.0 } else { gain(found, k) / best }
}

fn gain(grades: impl Iterator<Item = u32>, k: usize) -> f64 {
    grades.take(k).enumerate().map(|(i, grade)| f64::from(grade) / (i as f64 + 2.0).log2()).sum()
}

/// Share of the relevant documents that are among the first `k` (`recall_k`). 0 if nothing is relevant.
pub fn recall(ranking: &[String], judgements: &Judgements, k: usize) -> f64 {
    let relevant = judgements.values().filter(|grade| **grade > 0).count();
    let found = ranking.iter().take(k).filter(|id| is_relevant(id, judgements)).count();
    if relevant == 0 { 0.0 } else { found as f64 / relevant as f64 }
}

/// One over the rank of the first relevant document (`recip_rank`), 0 if there is none.
pub fn reciprocal_rank(ranking: &[String], judgements: &Judgements) -> f64 {
    ranking.iter().position(|id| is_relevant(id, judgements)).map_or(0.0, |i| 1.0 / (i as f64 + 1.0))
}

fn is_relevant(id: &str, judgements: &Judgements) -> bool {
    judgements.get(id).is_some_and(|grade| *grade > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judgements() -> Judgements {
        [("a", 2), ("b", 1), ("c", 0), ("d", 1)].map(|(id, grade)| (id.to_owned(), grade)).into()
    }

    fn ranking(ids: &str) -> Vec<String> {
        ids.chars().map(String::from).collect()
    }

    #[track_caller]
    fn near(value: f64, expected: f64) {
        assert!((value - expected).abs() < 1e-6, "{value} is not {expected}");
    }

    /// By hand: DCG of x, b, c, a is 1/log2(3) + 2/log2(5); the ideal of 2, 1, 1 is 2 + 1/log2(3) + 1/2.
    #[test]
    fn ndcg_discounts_and_normalises() {
        near(ndcg(&ranking("xbca"), &judgements(), 10), (0.630_929_75 + 0.861_353_12) / 3.130_929_75);
        near(ndcg(&ranking("xbca"), &judgements(), 2), 0.630_929_75 / 2.630_929_75);
        near(ndcg(&ranking("adb"), &judgements(), 10), 1.0);
        near(ndcg(&ranking("xyz"), &judgements(), 10), 0.0);
        near(ndcg(&ranking("a"), &Judgements::new(), 10), 0.0);
    }

    #[test]
    fn recall_counts_the_relevant() {
        near(recall(&ranking("xbca"), &judgements(), 10), 2.0 / 3.0);
        near(recall(&ranking("xbca"), &judgements(), 2), 1.0 / 3.0);
        near(recall(&ranking("xbca"), &Judgements::new(), 2), 0.0);
    }

    #[test]
    fn the_first_relevant_rank_counts() {
        near(reciprocal_rank(&ranking("xcba"), &judgements()), 1.0 / 3.0);
        near(reciprocal_rank(&ranking("xc"), &judgements()), 0.0);
    }
}
