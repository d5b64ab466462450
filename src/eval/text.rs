//! Compares answers with what people answered, as SQuAD's own script does (Rajpurkar et al., arXiv:1606.05250).

use std::collections::HashMap;

/// The words of a text: lower case, without ASCII punctuation and without a, an, the.
pub fn words(text: &str) -> Vec<String> {
    let clean: String = text.to_lowercase().chars().filter(|c| !c.is_ascii_punctuation()).collect();
    clean.split_whitespace().filter(|word| !matches!(*word, "a" | "an" | "the")).map(str::to_owned).collect()
}

/// How well an answer agrees with the reference that it agrees with best.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Agreement {
    /// Harmonic mean of the shares of words that the two have in common.
    pub f1: f64,
    /// Share of the reference's words that are in the answer: what a long quote is not punished for.
    pub recall: f64,
    /// 1 if the words are the same.
    pub exact: f64,
    /// 1 if the answer has the reference's words in a row.
    pub contains: f64,
}

/// The best of each over the references. (Nothing agrees with nothing: no reference is no agreement.)
pub fn agreement(answer: &str, references: &[String]) -> Agreement {
    let answer = words(answer);
    let mut best = Agreement::default();
    for reference in references {
        let reference = words(reference);
        let (precision, recall) = common(&answer, &reference);
        let f1 = if precision + recall > 0.0 { 2.0 * precision * recall / (precision + recall) } else { 0.0 };
        best.f1 = best.f1.max(f1);
        best.recall = best.recall.max(recall);
        best.exact = best.exact.max(f64::from(u8::from(answer == reference)));
        best.contains = best.contains.max(f64::from(u8::from(contains(&answer, &reference))));
    }
    best
}

/// The shares of the answer's and of the reference's words that the other has too.
fn common(answer: &[String], reference: &[String]) -> (f64, f64) {
    let mut left: HashMap<&str, usize> = HashMap::new();
    for word in reference {
        *left.entry(word).or_default() += 1;
    }
    let mut common = 0;
    for word in answer {
        if let Some(count) = left.get_mut(word.as_str()).filter(|count| **count > 0) {
            *count -= 1;
            common += 1;
        }
    }
    let share = |of: &[String]| f64::from(common) / of.len().max(1) as f64;
    (share(answer), share(reference))
}

/// Whether `words` has `part` in a row. Nothing is in nothing.
pub fn contains(words: &[String], part: &[String]) -> bool {
    !part.is_empty() && words.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(answer: &str, references: &[&str], expected: [f64; 4]) {
        let references: Vec<String> = references.iter().map(|reference| (*reference).to_owned()).collect();
        let found = agreement(answer, &references);
        let found = [found.f1, found.recall, found.exact, found.contains];
        for (value, expected) in found.iter().zip(expected) {
            assert!((value - expected).abs() < 1e-9, "{answer}: {found:?}");
        }
    }

    #[test]
    fn words_as_squad_has_them() {
        assert_eq!(words("The U.S. price, an \"all-time\" high!"), ["us", "price", "alltime", "high"]);
        assert_eq!(words("the a an"), [""; 0]);
    }

    /// By hand: of 4 words 2 are common with the 3 of the reference: 2/4 and 2/3, so F1 is 4/7.
    #[test]
    fn agreement_is_the_best_of_the_references() {
        check("It began in October", &["in October 1973"], [4.0 / 7.0, 2.0 / 3.0, 0.0, 0.0]);
        check("It began in October", &["1973", "October"], [0.4, 1.0, 0.0, 1.0]);
        check("October, 1973.", &["the October 1973"], [1.0, 1.0, 1.0, 1.0]);
        check("", &["October"], [0.0; 4]);
        check("October", &[], [0.0; 4]);
        // A word counts as often as both have it.
        check("no no no", &["no"], [0.5, 1.0, 0.0, 1.0]);
    }
}
