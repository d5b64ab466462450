//! How much of what is relevant retrieval found, and how much else, counted in characters of the documents.
//!
//! The metrics of B. Smith and A. Troynikov, "Evaluating Chunking Strategies for Retrieval" (Chroma technical report,
//! July 2024), and their `chunking_evaluation`: a relevant character that was retrieved twice counts once, while what was
//! retrieved counts as often as it was retrieved, since it takes its place in a prompt each time.

use std::collections::BTreeMap;
use std::ops::Range;

/// A stretch of a document, in characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Which document, by its number.
    pub document: usize,
    /// First character, and one past the last.
    pub range: Range<u64>,
}

impl Place {
    /// Whether the two have a character in common.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.document == other.document && self.range.start.max(other.range.start) < self.range.end.min(other.range.end)
    }

    fn length(&self) -> u64 {
        self.range.end.saturating_sub(self.range.start)
    }
}

/// What was found of one question's relevant stretches.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Overlap {
    /// Relevant characters that were retrieved, as a share of the relevant ones.
    pub recall: f64,
    /// The same as a share of the retrieved ones.
    pub precision: f64,
    /// The same as a share of both (intersection over union).
    pub iou: f64,
}

/// Compares what was retrieved with what is relevant. Without anything relevant or retrieved, what is a share of it is 0.
pub fn overlap(retrieved: &[Place], relevant: &[Place]) -> Overlap {
    let (found, wanted) = (merged(retrieved), merged(relevant));
    let mut common = 0;
    for (document, ranges) in &wanted {
        for range in ranges {
            let others = found.get(document).into_iter().flatten();
            common +=
                others.map(|other| range.end.min(other.end).saturating_sub(range.start.max(other.start))).sum::<u64>();
        }
    }
    let relevant: u64 = wanted.values().flatten().map(|range| range.end - range.start).sum();
    let retrieved: u64 = retrieved.iter().map(Place::length).sum();
    Overlap {
        recall: share(common, relevant),
        precision: share(common, retrieved),
        iou: share(common, retrieved + relevant - common),
    }
}

/// The first places that fit into so many characters together: what a prompt of that size would hold. The first one that
/// does not fit is cut.
pub fn within(places: &[Place], characters: u64) -> Vec<Place> {
    let mut left = characters;
    let mut kept = Vec::new();
    for place in places {
        let length = place.length().min(left);
        if length == 0 {
            break;
        }
        left -= length;
        kept.push(Place { document: place.document, range: place.range.start..place.range.start + length });
    }
    kept
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// Ranges that do not overlap, by document.
fn merged(places: &[Place]) -> BTreeMap<usize, Vec<Range<u64>>> {
    let mut sorted: Vec<&Place> = places.iter().filter(|place| place.length() > 0).collect();
    sorted.sort_by_key(|place| (place.document, place.range.start));
    let mut merged: BTreeMap<usize, Vec<Range<u64>>> = BTreeMap::new();
    for place in sorted {
        let ranges = merged.entry(place.document).or_default();
        match ranges.last_mut() {
            Some(last) if place.range.start <= last.end => last.end = last.end.max(place.range.end),
            _ => ranges.push(place.range.clone()),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(document: usize, range: Range<u64>) -> Place {
        Place { document, range }
    }

    #[track_caller]
    fn check(retrieved: &[Place], relevant: &[Place], recall: f64, precision: f64, iou: f64) {
        let found = overlap(retrieved, relevant);
        for (value, expected) in [(found.recall, recall), (found.precision, precision), (found.iou, iou)] {
            assert!((value - expected).abs() < 1e-9, "{found:?}: {value} is not {expected}");
        }
    }

    /// By hand: 30 of the 50 relevant characters are among 120 retrieved ones, of which 20 were retrieved twice.
    #[test]
    fn relevant_characters_count_once_and_retrieved_ones_each_time() {
        let retrieved = [at(0, 0..50), at(0, 30..80), at(1, 0..20)];
        let relevant = [at(0, 40..60), at(0, 70..90), at(2, 0..10)];
        check(&retrieved, &relevant, 30.0 / 50.0, 30.0 / 120.0, 30.0 / 140.0);
    }

    #[test]
    fn the_ends() {
        check(&[at(0, 0..10)], &[at(0, 0..10)], 1.0, 1.0, 1.0);
        check(&[at(0, 0..10)], &[at(0, 10..20)], 0.0, 0.0, 0.0);
        check(&[at(0, 0..10)], &[at(1, 0..10)], 0.0, 0.0, 0.0);
        check(&[], &[at(0, 0..10)], 0.0, 0.0, 0.0);
        check(&[at(0, 0..10)], &[], 0.0, 0.0, 0.0);
        // Spans that overlap are one.
        check(&[at(0, 0..20)], &[at(0, 0..10), at(0, 5..15)], 1.0, 0.75, 0.75);
        assert!(at(0, 0..10).overlaps(&at(0, 9..11)) && !at(0, 0..10).overlaps(&at(0, 10..11)));
    }

    #[test]
    fn a_prompt_of_a_size_holds_the_first() {
        let places = [at(0, 0..60), at(1, 10..70), at(2, 0..5)];
        assert_eq!(within(&places, 100), [at(0, 0..60), at(1, 10..50)]);
        assert_eq!(within(&places, 60), [at(0, 0..60)]);
        assert_eq!(within(&places, 1000), places);
    }
}
