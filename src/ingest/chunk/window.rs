//! Reads a Markdown text a window at a time, so that what its outline takes does not grow with the text.
//!
//! The parser builds a tree of all it is given, some fifty bytes for each `*`: a text of markers costs fifty times its
//! size. Windows end where a segment does, which the next window begins with, so that they show in no chunk.

use std::ops::Range;

use super::outline::{Fence, Outline};
use super::segment;

/// Most bytes that are parsed at once.
const SIZE: usize = 256 << 10;

/// A stretch of a text. The places of its outline and its segments count from its start.
#[derive(Debug)]
pub(super) struct Window {
    pub(super) start: usize,
    pub(super) outline: Outline,
    pub(super) segments: Vec<Range<usize>>,
}

/// The windows of a text, in order, without a gap.
#[derive(Debug)]
pub(super) struct Windows<'a> {
    text: &'a str,
    size: usize,
    at: usize,
    /// The code that `at` is inside of.
    fence: Option<Fence>,
}

impl<'a> Windows<'a> {
    pub(super) fn of(text: &'a str) -> Self {
        Self { text, size: SIZE, at: 0, fence: None }
    }
}

impl Iterator for Windows<'_> {
    type Item = Window;

    fn next(&mut self) -> Option<Window> {
        let rest = &self.text[self.at..];
        let window = &rest[..end(rest, self.size)];
        if window.is_empty() {
            return None;
        }
        let mut outline = Outline::of_markdown(window, self.fence);
        let mut segments = segment::of(window, &outline);
        let mut size = window.len();
        // What is last may go on behind the window, and is left to the next one.
        if size < rest.len() && segments.len() > 1 {
            size = segments.pop().map_or(size, |last| last.start);
            self.fence = outline.fence_at(size);
            outline.truncate(size);
        }
        let start = self.at;
        self.at += size;
        Some(Window { start, outline, segments })
    }
}

/// Where a window of at most `size` bytes ends: after a line, if one ends in its second half.
fn end(text: &str, size: usize) -> usize {
    if text.len() <= size {
        return text.len();
    }
    let (half, most) = (text.floor_char_boundary(size / 2), text.floor_char_boundary(size));
    text[half..most].rfind('\n').map_or(most, |at| half + at + 1)
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use super::super::outline::Above;
    use super::*;

    /// Where segments begin, and the headings above them.
    fn layout(text: &str, size: usize) -> Vec<(usize, Vec<String>)> {
        let (mut above, mut layout) = (Above::default(), Vec::new());
        for mut window in (Windows { size, ..Windows::of(text) }) {
            window.outline.shorten(100, &mut above, &mut |text| text.split_whitespace().count());
            layout.extend(
                window
                    .segments
                    .iter()
                    .map(|segment| (window.start + segment.start, window.outline.path_at(segment.start))),
            );
        }
        layout
    }

    fn sections(count: usize) -> String {
        let words = format!("{}\n\n", "Words of a paragraph that goes on for a while. ".repeat(20)).repeat(3);
        (0..count)
            .map(|n| match n % 7 {
                0 => format!("# Part {n}\n\n{words}\n\n"),
                2 | 5 => format!("### Section {n}\n\n{words}\n\n- one\n- two\n\n{words}\n\n"),
                3 => format!("```sh\n# no heading {n}\n\n{words}\n```\n\n"),
                1 => format!("Under {n}\n---\n\n> # quoted\n\n{words}\n\n"),
                _ => format!("| a | b |\n| - | - |\n| {n} | {words} |\n\n"),
            })
            .collect()
    }

    #[test]
    fn windows_show_in_no_segment_and_no_path() {
        let text = sections(200);
        let whole = layout(&text, usize::MAX);
        assert!(whole.len() > 50 && whole.iter().any(|(_, path)| path.len() == 2), "{whole:?}");
        for size in [40 << 10, 64 << 10, 100_001] {
            assert_eq!(layout(&text, size), whole, "windows of {size}");
        }
    }

    #[test]
    fn code_over_many_windows_is_code_to_its_end() {
        let code = "# no heading\n\nmake install  # of the program\n\n```\n# nor this\n\n".repeat(4_000);
        let text = format!("# Guide\n\ntext\n\n````sh\n{code}````\n\n# End\n\n{}last", "more\n\n".repeat(4_000));
        for size in [40 << 10, 64 << 10, SIZE] {
            let layout = layout(&text, size);
            let end = text.find("# End").unwrap();
            assert!(layout.last().unwrap().0 > end && layout[1].0 < end);
            for (at, path) in &layout[1..] {
                let expected: &[&str] = match at.cmp(&end) {
                    Ordering::Less => &["Guide"],
                    Ordering::Equal => &[],
                    Ordering::Greater => &["End"],
                };
                assert_eq!(path, expected, "at {at}, windows of {size}");
            }
        }
        // Code without an end is code to the last line.
        let text = &text[..text.find("````\n\n# End").unwrap()];
        assert!(layout(text, 64 << 10)[1..].iter().all(|(_, path)| path == &["Guide"]));
    }

    #[test]
    fn windows_leave_no_gap() {
        for text in ["*a".repeat(100_000), "中文".repeat(50_000), "# h\n".repeat(50_000), sections(100)] {
            let mut at = 0;
            for window in (Windows { size: 40 << 10, ..Windows::of(&text) }) {
                assert_eq!(window.start + window.segments[0].start, at);
                assert!(window.segments.windows(2).all(|pair| pair[0].end == pair[1].start));
                at = window.start + window.segments.last().unwrap().end;
            }
            assert_eq!(at, text.len());
        }
    }
}
