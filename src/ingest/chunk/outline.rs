//! The headings of a Markdown text, and where its blocks begin.

use std::ops::Range;

use pulldown_cmark::{CodeBlockKind, Event, HeadingLevel, Options, Parser, Tag, TagEnd};

#[derive(Debug)]
struct Heading {
    range: Range<usize>,
    level: HeadingLevel,
    text: String,
    /// Headings above it, outermost first, and itself; shortened to what a context may hold.
    path: Vec<String>,
    /// How many of `path` stand above it.
    above: usize,
    /// Tokens of `path`.
    tokens: usize,
}

#[derive(Debug, Default)]
pub(super) struct Outline {
    headings: Vec<Heading>,
    /// Where blocks of the top level begin, headings among them; ascending.
    pub(super) blocks: Vec<usize>,
    /// The path and its tokens that hold until the first heading.
    before: (Vec<String>, usize),
    /// Fenced code of the top level.
    fenced: Vec<(Range<usize>, Fence)>,
}

/// The headings that the next text stands under.
#[derive(Debug, Default)]
pub(super) struct Above(Vec<(HeadingLevel, String, usize)>);

impl Above {
    /// The innermost headings, as many as have `room`, outermost first; and their tokens.
    fn path(&self, room: usize) -> (Vec<String>, usize) {
        let mut left = room;
        let kept = self.0.iter().rev().take_while(|(_, _, tokens)| {
            let fits = *tokens <= left;
            left = left.saturating_sub(*tokens);
            fits
        });
        let mut path = kept.map(|(_, text, _)| text.clone()).collect::<Vec<_>>();
        path.reverse();
        (path, room - left.min(room))
    }
}

impl Outline {
    /// The outline of a text that begins inside of the code that `fence` opened, if it does.
    pub(super) fn of_markdown(text: &str, fence: Option<Fence>) -> Self {
        let code = fence.map_or(0, |fence| fence.end_in(text).unwrap_or(text.len()));
        let mut outline = Self { fenced: fence.map(|fence| (0..code, fence)).into_iter().collect(), ..Self::default() };
        outline.read(text, code);
        outline
    }

    /// Reads what begins at `from`.
    fn read(&mut self, text: &str, from: usize) {
        let (mut depth, mut open) = (0_usize, None::<Heading>);
        for (event, range) in Parser::new_ext(&text[from..], Options::all()).into_offset_iter() {
            let range = from + range.start..from + range.end;
            match event {
                Event::Start(tag) => {
                    if depth == 0 {
                        self.blocks.push(range.start);
                        match tag {
                            // Headings inside of quotations and lists are not the document's.
                            Tag::Heading { level, .. } => open = Some(Heading::new(range, level)),
                            Tag::CodeBlock(CodeBlockKind::Fenced(_)) => {
                                self.fenced.extend(Fence::of(&text[range.clone()]).map(|fence| (range, fence)));
                            }
                            _ => {}
                        }
                    }
                    depth += 1;
                }
                Event::End(tag) => {
                    depth = depth.saturating_sub(1);
                    if let TagEnd::Heading(_) = tag {
                        self.headings.extend(open.take());
                    }
                }
                Event::Text(piece) | Event::Code(piece) | Event::InlineMath(piece) => {
                    if let Some(heading) = &mut open {
                        heading.text.push_str(&piece);
                    }
                }
                Event::SoftBreak | Event::HardBreak => {
                    if let Some(heading) = &mut open {
                        heading.text.push(' ');
                    }
                }
                _ if depth == 0 => self.blocks.push(range.start),
                _ => {}
            }
        }
    }

    /// The fence of the code that `at` is inside of.
    pub(super) fn fence_at(&self, at: usize) -> Option<Fence> {
        let index = self.fenced.partition_point(|(range, _)| range.start < at).checked_sub(1)?;
        let (range, fence) = &self.fenced[index];
        (at < range.end).then_some(*fence)
    }

    /// Forgets what begins at `size` or behind it.
    pub(super) fn truncate(&mut self, size: usize) {
        self.headings.truncate(self.headings.partition_point(|heading| heading.range.start < size));
        self.blocks.truncate(self.blocks.partition_point(|block| *block < size));
    }

    /// Works out the path of every heading, in at most `room` tokens: the innermost headings are kept, and the last one
    /// is cut if it does not fit alone. `above` is what the text stands under, and becomes what the next one does.
    pub(super) fn shorten(&mut self, room: usize, above: &mut Above, count: &mut dyn FnMut(&str) -> usize) {
        self.before = above.path(room);
        for heading in &mut self.headings {
            let text = heading.text.split_whitespace().collect::<Vec<_>>().join(" ");
            while above.0.last().is_some_and(|(level, ..)| *level >= heading.level) {
                above.0.pop();
            }
            let outer = above.0.len();
            let (text, tokens) = fit(text, room, count);
            above.0.push((heading.level, text, tokens));
            (heading.path, heading.tokens) = above.path(room);
            heading.above = outer.min(heading.path.len().saturating_sub(1));
        }
    }

    /// Headings above the text that begins at `at`; a heading that begins there is not above itself.
    pub(super) fn path_at(&self, at: usize) -> Vec<String> {
        let index = self.headings.partition_point(|heading| heading.range.start <= at).checked_sub(1);
        let path = match index.map(|index| &self.headings[index]) {
            None => self.before.0.as_slice(),
            Some(heading) if at < heading.range.end => &heading.path[..heading.above],
            Some(heading) => heading.path.as_slice(),
        };
        path.iter().filter(|text| !text.is_empty()).cloned().collect()
    }

    /// Most tokens that the headings above any chunk of this segment have.
    pub(super) fn largest_context(&self, segment: &Range<usize>) -> usize {
        let first = self.headings.partition_point(|heading| heading.range.start <= segment.start).checked_sub(1);
        let before = if first.is_none() { self.before.1 } else { 0 };
        let inside = self.headings[first.unwrap_or(0)..].iter().take_while(|heading| heading.range.start < segment.end);
        inside.map(|heading| heading.tokens).fold(before, usize::max)
    }

    /// Whether a stretch holds headings and nothing else.
    pub(super) fn is_headings_only(&self, range: &Range<usize>) -> bool {
        let first = self.blocks.partition_point(|block| *block < range.start);
        let mut blocks = self.blocks[first..].iter().take_while(|block| **block < range.end).peekable();
        blocks.peek() == Some(&&range.start) && blocks.all(|block| self.is_heading(*block))
    }

    /// Whether a heading begins at `at`.
    pub(super) fn is_heading(&self, at: usize) -> bool {
        self.headings.binary_search_by_key(&at, |heading| heading.range.start).is_ok()
    }
}

/// What opens fenced code, and so what ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fence {
    mark: char,
    length: usize,
}

impl Fence {
    /// The fence at the start of `code`.
    fn of(code: &str) -> Option<Self> {
        let code = code.trim_start_matches(' ');
        let mark = code.chars().next().filter(|mark| matches!(mark, '`' | '~'))?;
        Some(Self { mark, length: code.chars().take_while(|c| *c == mark).count() })
    }

    /// Where the code ends that goes on in `text`: behind the line of its closing fence.
    fn end_in(self, text: &str) -> Option<usize> {
        let mut end = 0;
        for line in text.split_inclusive('\n') {
            end += line.len();
            let fence = line.trim_end();
            let marks = fence.trim_start_matches(' ');
            if fence.len() - marks.len() <= 3 && marks.len() >= self.length && marks.chars().all(|c| c == self.mark) {
                return Some(end);
            }
        }
        None
    }
}

impl Heading {
    fn new(range: Range<usize>, level: HeadingLevel) -> Self {
        Self { range, level, text: String::new(), path: Vec::new(), above: 0, tokens: 0 }
    }
}

/// As many of a heading's first words as have `room`, with an ellipsis for the rest; and their tokens.
fn fit(text: String, room: usize, count: &mut dyn FnMut(&str) -> usize) -> (String, usize) {
    let tokens = count(&text);
    if tokens <= room {
        return (text, tokens);
    }
    let (mut short, mut used) = (String::new(), count("…"));
    for word in text.split_inclusive(' ') {
        let tokens = count(word);
        if used + tokens > room {
            break;
        }
        used += tokens;
        short.push_str(word);
    }
    if short.is_empty() {
        return (String::new(), 0);
    }
    (format!("{}…", short.trim_end()), used)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outline(text: &str, room: usize) -> Outline {
        let mut outline = Outline::of_markdown(text, None);
        outline.shorten(room, &mut Above::default(), &mut |text| text.split_whitespace().count());
        outline
    }

    #[test]
    fn paths_follow_levels_and_pass_over_code() {
        let text = "# A\n\nintro\n\nB\n---\n\nunder b\n\n```sh\n# no heading\n```\n\n### `C` *d*\n\ndeep\n\n# E\nlast";
        let outline = outline(text, 100);
        let path = |needle: &str| outline.path_at(text.find(needle).unwrap());
        assert!(path("# A").is_empty());
        assert_eq!(path("intro"), ["A"]);
        assert_eq!(path("under b"), ["A", "B"]);
        assert_eq!(path("# no heading"), ["A", "B"]);
        assert_eq!(path("### `C`"), ["A", "B"]);
        assert_eq!(path("deep"), ["A", "B", "C d"]);
        assert_eq!(path("last"), ["E"]);
    }

    #[test]
    fn long_paths_lose_their_outermost_and_long_headings_their_end() {
        let text = "# one two three\n## four five\n### six\ntext\n# a b c d e f g\nmore";
        let outline = outline(text, 4);
        assert_eq!(outline.path_at(text.find("text").unwrap()), ["four five", "six"]);
        assert_eq!(outline.path_at(text.find("more").unwrap()), ["a b c…"]);
    }
}
