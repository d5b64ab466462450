//! Lays a text out in segments of bounded size, so that cutting a large text costs no more than cutting its parts.

use std::ops::Range;

use super::outline::Outline;

/// From this size on a segment ends at the next heading …
const AT_HEADING: usize = 4 << 10;
/// … from this size on at the next block …
const AT_BLOCK: usize = 12 << 10;
/// … and a block that is larger than this is cut inside.
const MAX: usize = 16 << 10;

/// The pages of a text; all of it, if it has none.
pub(super) fn by_pages(text: &str, pages: &[usize]) -> Vec<Range<usize>> {
    let mut bounds = vec![0];
    bounds.extend(pages.iter().copied().filter(|page| *page > 0));
    bounds.push(text.len());
    bounds.dedup();
    bounds.windows(2).map(|pair| pair[0]..pair[1]).collect()
}

/// The segments of a text, in order, without a gap.
pub(super) fn of(text: &str, outline: &Outline) -> Vec<Range<usize>> {
    let mut segments = Vec::new();
    let mut start = 0;
    for &block in &outline.blocks {
        let size = block.saturating_sub(start);
        if size >= AT_BLOCK || (size >= AT_HEADING && outline.is_heading(block)) {
            push(text, start..block, &mut segments);
            start = block;
        }
    }
    push(text, start..text.len(), &mut segments);
    segments
}

/// Adds a segment, cut into pieces if it is too large.
fn push(text: &str, mut range: Range<usize>, segments: &mut Vec<Range<usize>>) {
    while range.len() > MAX {
        let end = range.start + best_end(&text[range.clone()]);
        segments.push(range.start..end);
        range.start = end;
    }
    if !range.is_empty() {
        segments.push(range);
    }
}

/// Where to cut a text that is too large: after an empty line, a line, a sentence, a word, else anywhere, as late as
/// possible in the second half of what a segment may hold.
fn best_end(text: &str) -> usize {
    let (half, most) = (text.floor_char_boundary(MAX / 2), text.floor_char_boundary(MAX));
    let window = &text[half..most];
    let sentence = |c: char| matches!(c, '。' | '！' | '？' | '．');
    let found = window
        .rfind("\n\n")
        .map(|at| at + 2)
        .or_else(|| window.rfind('\n').map(|at| at + 1))
        .or_else(|| [". ", "! ", "? "].iter().filter_map(|end| window.rfind(end)).max().map(|at| at + 2))
        .or_else(|| window.char_indices().rfind(|(_, c)| sentence(*c)).map(|(at, c)| at + c.len_utf8()))
        .or_else(|| window.char_indices().rfind(|(_, c)| c.is_whitespace()).map(|(at, c)| at + c.len_utf8()));
    half + found.unwrap_or(window.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_bounded_and_leave_no_gap() {
        for text in
            ["x".repeat(100_000), "中文。".repeat(20_000), "a line\n".repeat(20_000), "# h\n\ntext\n\n".repeat(9_000)]
        {
            let segments = of(&text, &Outline::of_markdown(&text, None));
            assert!(segments.iter().all(|segment| segment.len() <= MAX));
            assert_eq!(segments.first().unwrap().start, 0);
            assert!(segments.windows(2).all(|pair| pair[0].end == pair[1].start));
            assert_eq!(segments.last().unwrap().end, text.len());
        }
    }
}
