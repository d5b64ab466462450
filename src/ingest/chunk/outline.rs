//! The headings of a Markdown text, and where its blocks begin.

use std::ops::Range;

use pulldown_cmark::{Event, HeadingLevel, Options, Parser, Tag, TagEnd};

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
}

impl Outline {
    pub(super) fn of_markdown(text: &str) -> Self {
        let mut outline = Self::default();
        let (mut depth, mut open) = (0_usize, None::<Heading>);
        for (event, range) in Parser::new_ext(text, Options::all()).into_offset_iter() {
            match event {
                Event::Start(tag) => {
                    if depth == 0 {
                        outline.blocks.push(range.start);
                        // Headings inside of quotations and lists are not the document's.
                        if let Tag::Heading { level, .. } = tag {
                            open = Some(Heading::new(range, level));
                        }
                    }
                    depth += 1;
                }
                Event::End(tag) => {
                    depth = depth.saturating_sub(1);
                    if let TagEnd::Heading(_) = tag {
                        outline.headings.extend(open.take());
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
                _ if depth == 0 => outline.blocks.push(range.start),
                _ => {}
            }
        }
        outline
    }

    /// Works out the path of every heading, in at most `room` tokens: the innermost headings are kept, and the last one
    /// is cut if it does not fit alone.
    pub(super) fn shorten(&mut self, room: usize, count: &mut dyn FnMut(&str) -> usize) {
        let mut stack = Vec::<(HeadingLevel, String, usize)>::new();
        for heading in &mut self.headings {
            let text = heading.text.split_whitespace().collect::<Vec<_>>().join(" ");
            while stack.last().is_some_and(|(level, ..)| *level >= heading.level) {
                stack.pop();
            }
            let above = stack.len();
            let (text, tokens) = fit(text, room, count);
            stack.push((heading.level, text, tokens));
            let mut left = room;
            let kept = stack.iter().rev().take_while(|(_, _, tokens)| {
                let fits = *tokens <= left;
                left = left.saturating_sub(*tokens);
                fits
            });
            let mut path = kept.map(|(_, text, _)| text.clone()).collect::<Vec<_>>();
            path.reverse();
            heading.above = above.min(path.len().saturating_sub(1));
            heading.tokens = room - left.min(room);
            heading.path = path;
        }
    }

    /// Headings above the text that begins at `at`; a heading that begins there is not above itself.
    pub(super) fn path_at(&self, at: usize) -> Vec<String> {
        let Some(index) = self.headings.partition_point(|heading| heading.range.start <= at).checked_sub(1) else {
            return Vec::new();
        };
        let heading = &self.headings[index];
        let depth = if at < heading.range.end { heading.above } else { heading.path.len() };
        heading.path[..depth].iter().filter(|text| !text.is_empty()).cloned().collect()
    }

    /// Most tokens that the headings above any chunk of this segment have.
    pub(super) fn largest_context(&self, segment: &Range<usize>) -> usize {
        let first = self.headings.partition_point(|heading| heading.range.start <= segment.start).saturating_sub(1);
        let inside = self.headings[first..].iter().take_while(|heading| heading.range.start < segment.end);
        inside.map(|heading| heading.tokens).max().unwrap_or(0)
    }

    /// Whether a heading begins at `at`.
    pub(super) fn is_heading(&self, at: usize) -> bool {
        self.headings.binary_search_by_key(&at, |heading| heading.range.start).is_ok()
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
        let mut outline = Outline::of_markdown(text);
        outline.shorten(room, &mut |text| text.split_whitespace().count());
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
