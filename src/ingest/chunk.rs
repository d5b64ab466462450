//! Cuts text into chunks that the embedding model can read whole, at the boundaries a reader would choose.
//!
//! Markdown is parsed a window at a time (`window`), for its headings and blocks (`outline`). A text is laid out in
//! segments of a few kilobytes that end at headings or blocks (`segment`), so that cost grows with the text and not with
//! its square; each segment is cut by the `text-splitter` crate, with tokens counted once per word (`tokens`); every
//! chunk is then measured as the model will see it. No I/O.

mod outline;
mod segment;
mod tokens;
mod window;

use std::ops::Range;

use text_splitter::{ChunkConfig, MarkdownSplitter, TextSplitter};

use super::extract::Extracted;
use crate::document::{Chunk, context_title, contextual_text};
use crate::embedding::TokenCounter;
use outline::{Above, Outline};
use tokens::{PieceCounts, Pieces, WordCache};
use window::{Window, Windows};

/// How long chunks are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkOptions {
    /// Most tokens of a chunk with its title and headings, the model's special tokens not counted.
    pub max_tokens: usize,
    /// About how many tokens neighbouring chunks share; at most half of a chunk.
    pub overlap: usize,
}

/// Most chunks of a text. A longer one is not cut to its end.
pub const MAX_CHUNKS: usize = 50_000;

/// Share of a chunk that its own text keeps, whatever title and headings say.
const MIN_TEXT_SHARE: usize = 4;

/// Tokens that the `#` of a few headings may take.
const HEADING_MARKS: usize = 6;

/// Cuts `extracted` into chunks, in order.
///
/// Together they cover every character that is not white space; `text[start..end]` by characters is each chunk's text.
/// No chunk, read as [`contextual_text`] with `title`, has more than `options.max_tokens` tokens — save where the title
/// alone takes more than three quarters of them. Headings that would take more than half are cut, outermost first.
///
/// More than [`MAX_CHUNKS`] chunks say that the text is too long: what comes after the first one too many is not cut.
pub fn chunk(extracted: &Extracted, title: &str, counter: &dyn TokenCounter, options: ChunkOptions) -> Vec<Chunk> {
    let text = extracted.text.as_str();
    let title = context_title(title);
    let mut cutter = Cutter {
        text,
        title,
        markdown: extracted.markdown,
        options: ChunkOptions { max_tokens: options.max_tokens.max(1), ..options },
        words: WordCache::new(counter),
        counter,
        title_tokens: counter.count(title),
        cuts: Vec::new(),
    };
    let pages = page_starts(text, &extracted.pages);
    // A slide or sheet is a unit of meaning; the page of a book is not, and sentences run over its end.
    if extracted.markdown {
        segment::by_pages(text, &pages).into_iter().for_each(|part| cutter.cut_markdown(part));
    } else {
        let outline = Outline::default();
        let segments = segment::of(text, &outline);
        cutter.cut_window(0, &Window { start: 0, outline, segments });
    }
    number(text, &pages, cutter.cuts)
}

/// A chunk by its place in the text, in bytes.
struct Cut {
    range: Range<usize>,
    headings: Vec<String>,
}

struct Cutter<'a> {
    text: &'a str,
    title: &'a str,
    markdown: bool,
    options: ChunkOptions,
    words: WordCache<'a>,
    counter: &'a dyn TokenCounter,
    title_tokens: usize,
    cuts: Vec<Cut>,
}

impl Cutter<'_> {
    fn cut_markdown(&mut self, part: Range<usize>) {
        let room = (self.options.max_tokens / 2).saturating_sub(self.title_tokens);
        let mut above = Above::default();
        let mut windows = Windows::of(&self.text[part.clone()]);
        while !self.is_full()
            && let Some(mut window) = windows.next()
        {
            window.outline.shorten(room, &mut above, &mut |text| self.words.count(text));
            self.cut_window(part.start, &window);
        }
    }

    /// Cuts a window of the part that begins at `part`.
    fn cut_window(&mut self, part: usize, window: &Window) {
        let outline = &window.outline;
        let base = part + window.start;
        for segment in &window.segments {
            if self.is_full() {
                return;
            }
            let capacity = self.capacity(outline.largest_context(segment));
            let absolute = base + segment.start..base + segment.end;
            let mut ranges = self.split(absolute, capacity, self.options.overlap).into_iter().peekable();
            while let Some(mut range) = ranges.next() {
                let headings = outline.path_at(range.start - base);
                // Headings alone, before a section that fills a chunk, are no passage: they belong to what follows.
                while let Some(next) = ranges.peek()
                    && outline.is_headings_only(&(range.start - base..range.end - base))
                    && self.tokens(range.start..next.end, &headings) <= self.options.max_tokens
                {
                    range.end = next.end;
                    ranges.next();
                }
                self.keep(range, headings, capacity);
            }
        }
    }

    /// Whether there are too many chunks already.
    fn is_full(&self) -> bool {
        self.cuts.len() > MAX_CHUNKS
    }

    /// Tokens of a chunk as the model reads it.
    fn tokens(&self, range: Range<usize>, headings: &[String]) -> usize {
        let text = self.text[range].to_owned();
        let chunk = Chunk { chunk_idx: 0, text, headings: headings.to_vec(), page: None, start: 0, end: 0 };
        self.counter.count(&contextual_text(self.title, &chunk))
    }

    /// Tokens left for a chunk's own text beside a context of so many.
    fn capacity(&self, context: usize) -> usize {
        // Headings that move from the context into the text bring their marks along.
        let marks = if context > 0 { HEADING_MARKS } else { 0 };
        let left = self.options.max_tokens.saturating_sub(self.title_tokens + context + marks);
        left.max(self.options.max_tokens / MIN_TEXT_SHARE).max(1)
    }

    /// Keeps a chunk if the model reads it whole; cuts it smaller if counting word by word came out too low.
    fn keep(&mut self, range: Range<usize>, headings: Vec<String>, capacity: usize) {
        let tokens = self.tokens(range.clone(), &headings);
        if tokens <= self.options.max_tokens || capacity <= 1 {
            return self.cuts.push(Cut { range, headings });
        }
        let smaller = capacity * self.options.max_tokens / tokens * 9 / 10;
        // Where title and headings alone are too much, cutting the text does not help.
        if smaller < self.options.max_tokens / (2 * MIN_TEXT_SHARE) {
            return self.cuts.push(Cut { range, headings });
        }
        for part in self.split(range, smaller.max(1), 0) {
            self.keep(part, headings.clone(), smaller);
        }
    }

    /// The chunks of a stretch of text, in bytes of the whole.
    fn split(&self, range: Range<usize>, capacity: usize, overlap: usize) -> Vec<Range<usize>> {
        let text = &self.text[range.clone()];
        let pieces = Pieces::of(text, &self.words);
        if pieces.total() <= capacity {
            return trimmed(text).map(|inner| range.start + inner.start..range.start + inner.end).into_iter().collect();
        }
        let sizer = PieceCounts::new(text, pieces, &self.words);
        let overlap = overlap.min(capacity / 2);
        // `capacity / 2` is below it for every capacity that can be cut.
        let config = match ChunkConfig::new(capacity).with_sizer(sizer).with_overlap(overlap) {
            Ok(config) => config,
            Err(_overlap_too_large) => return vec![range],
        };
        let place = |(start, chunk): (usize, &str)| {
            let inner = trimmed(chunk)?;
            let start = range.start + start;
            Some(start + inner.start..start + inner.end)
        };
        if self.markdown {
            MarkdownSplitter::new(config).chunk_indices(text).filter_map(place).collect()
        } else {
            TextSplitter::new(config).chunk_indices(text).filter_map(place).collect()
        }
    }
}

/// The text without white space at its ends, but with the first line's indentation; `None` if nothing else is there.
fn trimmed(text: &str) -> Option<Range<usize>> {
    let end = text.trim_end().len();
    let first = text[..end].find(|c: char| !c.is_whitespace())?;
    let start = text[..first].rfind('\n').map_or(0, |at| at + 1);
    Some(start..end)
}

/// Where pages start, in bytes.
fn page_starts(text: &str, pages: &[u64]) -> Vec<usize> {
    let mut characters = Characters::new(text);
    pages.iter().map(|page| characters.byte_of(*page)).collect()
}

/// Numbers chunks and gives their places in characters.
fn number(text: &str, pages: &[usize], mut cuts: Vec<Cut>) -> Vec<Chunk> {
    cuts.sort_by_key(|cut| (cut.range.start, cut.range.end));
    cuts.truncate(MAX_CHUNKS + 1);
    let mut characters = Characters::new(text);
    cuts.into_iter()
        .enumerate()
        .map(|(index, cut)| {
            let chunk = &text[cut.range.clone()];
            let start = characters.of_byte(cut.range.start);
            let page = pages.partition_point(|page| *page <= cut.range.start);
            Chunk {
                chunk_idx: index as u32,
                text: chunk.to_owned(),
                headings: cut.headings,
                page: (page > 0).then_some(page as u32),
                start,
                end: start + chunk.chars().count() as u64,
            }
        })
        .collect()
}

/// Converts places between bytes and characters, in ascending order of the places asked for.
struct Characters<'a> {
    text: &'a str,
    byte: usize,
    character: u64,
}

impl<'a> Characters<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, byte: 0, character: 0 }
    }

    fn of_byte(&mut self, byte: usize) -> u64 {
        // Chunks that overlap begin before the last one's end, but never before its start.
        self.character += self.text[self.byte..byte].chars().count() as u64;
        self.byte = byte;
        self.character
    }

    fn byte_of(&mut self, character: u64) -> usize {
        let steps = character.saturating_sub(self.character) as usize;
        let rest = &self.text[self.byte..];
        self.byte += rest.char_indices().nth(steps).map_or(rest.len(), |(at, _)| at);
        self.character = self.character.max(character);
        self.byte
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Words;

    impl TokenCounter for Words {
        fn count(&self, text: &str) -> usize {
            text.split_whitespace().count()
        }
    }

    #[test]
    fn a_text_of_too_many_chunks_is_not_cut_to_its_end() {
        for markdown in [true, false] {
            let text = "one two three\n\n".repeat(2 * MAX_CHUNKS);
            let media_type = "text/plain".to_owned();
            let extracted = Extracted { media_type, title: None, text, markdown, pages: Vec::new() };
            let chunks = chunk(&extracted, "", &Words, ChunkOptions { max_tokens: 3, overlap: 0 });
            assert_eq!(chunks.len(), MAX_CHUNKS + 1);
            assert!(chunks.iter().all(|chunk| chunk.text == "one two three"));
        }
    }
}
