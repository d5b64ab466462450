//! Counts tokens of any stretch of a text in the time of a look-up: each word is put to the tokenizer once.
//!
//! The pieces are words, each with the white space before it, as tokenizers see them. Their sum is what the whole has
//! where a tokenizer works word by word (WordPiece), and close to it elsewhere; the caller measures what it keeps.

use std::cell::RefCell;
use std::collections::HashMap;

use text_splitter::ChunkSizer;

use crate::embedding::TokenCounter;

/// Longest piece: what has no white space (Chinese, base64) is counted in parts of this many bytes.
const MAX_PIECE: usize = 48;

/// Most words that are remembered. They come by frequency, so the first ones are the ones that matter.
const MAX_WORDS: usize = 200_000;

/// Remembers how many tokens a word has.
#[derive(Debug)]
pub(super) struct WordCache<'a> {
    counter: &'a dyn TokenCounter,
    words: RefCell<HashMap<Box<str>, u32>>,
}

impl<'a> WordCache<'a> {
    pub(super) fn new(counter: &'a dyn TokenCounter) -> Self {
        Self { counter, words: RefCell::default() }
    }

    /// Tokens of a text, piece by piece.
    pub(super) fn count(&self, text: &str) -> usize {
        pieces(text).map(|end_to_end| self.count_piece(&text[end_to_end]) as usize).sum()
    }

    fn count_piece(&self, piece: &str) -> u32 {
        let mut words = self.words.borrow_mut();
        if let Some(tokens) = words.get(piece) {
            return *tokens;
        }
        let tokens = self.counter.count(piece) as u32;
        if words.len() < MAX_WORDS {
            words.insert(piece.into(), tokens);
        }
        tokens
    }
}

/// Where the pieces of a text end, and how many tokens there are up to there.
#[derive(Debug)]
pub(super) struct Pieces {
    ends: Vec<usize>,
    sums: Vec<usize>,
}

impl Pieces {
    pub(super) fn of(text: &str, words: &WordCache<'_>) -> Self {
        let (mut ends, mut sums, mut sum) = (Vec::new(), Vec::new(), 0);
        for piece in pieces(text) {
            ends.push(piece.end);
            sum += words.count_piece(&text[piece]) as usize;
            sums.push(sum);
        }
        Self { ends, sums }
    }

    pub(super) fn total(&self) -> usize {
        self.sums.last().copied().unwrap_or(0)
    }
}

/// Tells text-splitter how many tokens a slice of `text` has.
pub(super) struct PieceCounts<'a> {
    text: &'a str,
    pieces: Pieces,
    words: &'a WordCache<'a>,
}

impl<'a> PieceCounts<'a> {
    pub(super) fn new(text: &'a str, pieces: Pieces, words: &'a WordCache<'a>) -> Self {
        Self { text, pieces, words }
    }

    fn count(&self, start: usize, end: usize) -> usize {
        let Pieces { ends, sums } = &self.pieces;
        // The pieces that `start` and `end` fall into.
        let first = ends.partition_point(|piece_end| *piece_end <= start);
        let last = ends.partition_point(|piece_end| *piece_end <= end);
        if first >= last {
            // Inside of one piece.
            return self.words.count(&self.text[start..end]);
        }
        let begin = first.checked_sub(1).map_or(0, |before| ends[before]);
        let head = match start == begin {
            true => sums[first] - first.checked_sub(1).map_or(0, |before| sums[before]),
            false => self.words.count(&self.text[start..ends[first]]),
        };
        let middle = sums[last - 1] - sums[first];
        let tail = self.words.count(&self.text[ends[last - 1]..end]);
        head + middle + tail
    }
}

impl ChunkSizer for PieceCounts<'_> {
    fn size(&self, chunk: &str) -> usize {
        let start = (chunk.as_ptr() as usize).wrapping_sub(self.text.as_ptr() as usize);
        match start.checked_add(chunk.len()) {
            Some(end) if end <= self.text.len() => self.count(start, end),
            // Not a slice of the text. (text-splitter gives only such.)
            _ => self.words.count(chunk),
        }
    }
}

/// The pieces of a text: white space, then a word; longer ones in parts.
fn pieces(text: &str) -> impl Iterator<Item = std::ops::Range<usize>> + '_ {
    let mut start = 0;
    std::iter::from_fn(move || {
        let rest = &text[start..];
        if rest.is_empty() {
            return None;
        }
        let (mut in_word, mut end) = (false, rest.len());
        for (at, c) in rest.char_indices() {
            let space = c.is_whitespace();
            if (space && in_word) || at + c.len_utf8() > MAX_PIECE && at > 0 {
                end = at;
                break;
            }
            in_word |= !space;
        }
        let piece = start..start + end;
        start = piece.end;
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A token per word and one per started four letters, as a stand-in that is easy to check by hand.
    #[derive(Debug)]
    struct Fours;

    impl TokenCounter for Fours {
        fn count(&self, text: &str) -> usize {
            text.split_whitespace().map(|word| word.chars().count().div_ceil(4)).sum()
        }
    }

    #[test]
    fn any_slice_is_counted_as_a_whole_would_be() {
        let text = "The quick brown  fox\n\njumps over thelazydogsthatsleep. End";
        let words = WordCache::new(&Fours);
        let sizer = PieceCounts::new(text, Pieces::of(text, &words), &words);
        for start in 0..text.len() {
            for end in start..=text.len() {
                assert_eq!(sizer.size(&text[start..end]), Fours.count(&text[start..end]), "{start}..{end}");
            }
        }
    }

    #[test]
    fn what_has_no_spaces_is_counted_in_parts() {
        let text = "a".repeat(1_000);
        let words = WordCache::new(&Fours);
        assert_eq!(words.count(&text), 250);
    }
}
