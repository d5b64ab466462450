//! Reads a model's text as it comes: finds citations, keeps those of real sources, and recognises the sentinel.
//!
//! A model may write `[1]`, `[1, 2]`, `[1-3]`, `[1][2]` or `【1】`; the answer always has `[1][2]`, so that each marker is
//! one source. A number that is no source is taken out of the text. Between backquotes brackets are code.

mod markers;
mod sentinel;

use super::Citation;
use markers::Markers;
use sentinel::Lines;

/// What a text has said so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing yet.
    Undecided,
    /// It is an answer, and text may be shown.
    Answer,
    /// The sources do not answer the question.
    NotFound,
}

/// Reads one answer, piece by piece.
#[derive(Debug)]
pub struct Reader {
    lines: Lines,
    markers: Markers,
}

impl Reader {
    /// For an answer that may cite the sources 1 to `sources`.
    pub fn new(sources: usize) -> Self {
        Self { lines: Lines::default(), markers: Markers::new(sources) }
    }

    /// Takes a piece; returns what may be shown now. What may be the beginning of a marker or of the sentinel is held
    /// back until it is decided.
    pub fn push(&mut self, piece: &str) -> String {
        let mut shown = String::new();
        for c in piece.chars() {
            self.lines.push(c, |c| self.markers.push(c, &mut shown));
        }
        shown
    }

    /// The text has ended; returns what was still held back.
    pub fn finish(&mut self) -> String {
        let mut shown = String::new();
        self.lines.finish(|c| self.markers.push(c, &mut shown));
        self.markers.finish(&mut shown);
        shown
    }

    /// What the text has said so far. A text that cites sources and also says that they do not answer is an answer.
    pub fn verdict(&self) -> Verdict {
        match (self.markers.characters(), self.lines.sentinel_seen()) {
            (0, true) => Verdict::NotFound,
            (0, false) => Verdict::Undecided,
            (_, true) if self.markers.citations().is_empty() => Verdict::NotFound,
            _ => Verdict::Answer,
        }
    }

    /// The citations of what was shown, in order.
    pub fn citations(&self) -> &[Citation] {
        self.markers.citations()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llm::SENTINEL;

    /// Reads a text in pieces of so many characters.
    fn read(text: &str, sources: usize, size: usize) -> (String, Vec<(usize, usize, usize)>, Verdict) {
        let mut reader = Reader::new(sources);
        let characters: Vec<char> = text.chars().collect();
        let mut answer = String::new();
        for piece in characters.chunks(size) {
            answer.push_str(&reader.push(&piece.iter().collect::<String>()));
        }
        answer.push_str(&reader.finish());
        let citations = reader.citations().iter().map(|c| (c.source, c.start, c.end)).collect();
        (answer, citations, reader.verdict())
    }

    #[track_caller]
    fn check(text: &str, answer: &str, citations: &[(usize, usize, usize)]) {
        for size in 1..=text.chars().count().max(1) {
            assert_eq!(
                read(text, 3, size),
                (answer.to_owned(), citations.to_vec(), Verdict::Answer),
                "pieces of {size}"
            );
        }
    }

    #[test]
    fn every_way_to_cite_becomes_one_marker_a_source() {
        check("Ten years [1].", "Ten years [1].", &[(0, 10, 13)]);
        check("Ten years [1, 2].", "Ten years [1][2].", &[(0, 10, 13), (1, 13, 16)]);
        check("Ten years[1][3].", "Ten years[1][3].", &[(0, 9, 12), (2, 12, 15)]);
        check("Ten years [1-3].", "Ten years [1][2][3].", &[(0, 10, 13), (1, 13, 16), (2, 16, 19)]);
        check("十年【2】。", "十年[2]。", &[(1, 2, 5)]);
        check("  Ten [ 1 ;1 ]\n", "Ten [1]", &[(0, 4, 7)]);
    }

    #[test]
    fn numbers_that_are_no_source_go() {
        check("Ten years [7].", "Ten years.", &[]);
        check("Ten [7] years [0][2, 9].", "Ten years [2].", &[(1, 10, 13)]);
        check("[4] Ten", "Ten", &[]);
        assert_eq!(read("Ten [1].", 0, 3).0, "Ten.");
    }

    #[test]
    fn other_brackets_stay() {
        for text in ["a [b] c", "a [] b", "[note: 1]", "in [2023] it", "a [1", "[[x]]", "tail [", "【注】"] {
            check(text, text, &[]);
        }
        check("a [x[1]", "a [x[1]", &[(0, 4, 7)]);
    }

    #[test]
    fn code_is_left_alone() {
        check("use `x[0]` or `[1]` [1]", "use `x[0]` or `[1]` [1]", &[(0, 20, 23)]);
        check("```\na[1]\n```\n[2]", "```\na[1]\n```\n[2]", &[(1, 13, 16)]);
        check("a stray ` here\nthen [1]", "a stray ` here\nthen [1]", &[(0, 20, 23)]);
    }

    #[test]
    fn the_sentinel_is_seen_in_pieces_and_in_dress() {
        for text in [
            SENTINEL.to_owned(),
            format!("\n {SENTINEL}\n"),
            format!("**{SENTINEL}**"),
            format!("{SENTINEL}: nothing is said about it"),
            format!("I cannot tell.\n{SENTINEL}"),
        ] {
            for size in 1..=text.len() {
                assert_eq!(read(&text, 3, size).2, Verdict::NotFound, "{text:?} in pieces of {size}");
            }
        }
    }

    #[test]
    fn the_sentinel_is_decided_before_anything_is_shown() {
        let mut reader = Reader::new(3);
        let (head, tail) = SENTINEL.split_at(5);
        assert_eq!((reader.push(head), reader.verdict()), (String::new(), Verdict::Undecided));
        assert_eq!(reader.push(tail), "");
        reader.push("\n");
        assert_eq!(reader.verdict(), Verdict::NotFound);
    }

    #[test]
    fn what_only_begins_like_the_sentinel_is_text() {
        let start = &SENTINEL[..4];
        check(&format!("{start}ble [1]"), &format!("{start}ble [1]"), &[(0, 8, 11)]);
        check(start, start, &[]);
        check(&format!("{SENTINEL}S"), &format!("{SENTINEL}S"), &[]);
    }

    #[test]
    fn a_cited_answer_with_a_sentinel_line_is_an_answer() {
        check(&format!("Ten years [1].\n{SENTINEL}\n"), "Ten years [1].", &[(0, 10, 13)]);
    }

    #[test]
    fn silence_is_undecided() {
        assert_eq!(read("", 3, 1), (String::new(), vec![], Verdict::Undecided));
        assert_eq!(read(" \n", 3, 1).2, Verdict::Undecided);
    }
}
