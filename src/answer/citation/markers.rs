//! Finds citation markers in a text.

use crate::answer::Citation;

/// Longest marker that is waited for, in bytes.
const MAX_MARKER: usize = 48;

/// Most sources of one range, such as `[1-3]`.
const MAX_RANGE: usize = 50;

/// Passes characters on, with every marker in its normal form.
#[derive(Debug)]
pub(super) struct Markers {
    sources: usize,
    characters: usize,
    citations: Vec<Citation>,
    /// White space that is shown only if something follows it.
    space: String,
    /// A marker was taken out after that white space.
    orphan: bool,
    /// The beginning of a marker, from its bracket.
    marker: String,
    backquotes: Backquotes,
}

impl Markers {
    pub(super) fn new(sources: usize) -> Self {
        Self {
            sources,
            characters: 0,
            citations: Vec::new(),
            space: String::new(),
            orphan: false,
            marker: String::new(),
            backquotes: Backquotes::default(),
        }
    }

    /// Number of characters that were passed on.
    pub(super) fn characters(&self) -> usize {
        self.characters
    }

    pub(super) fn citations(&self) -> &[Citation] {
        &self.citations
    }

    pub(super) fn push(&mut self, c: char, out: &mut String) {
        if !self.marker.is_empty() {
            if matches!(c, ']' | '】') {
                self.close(c, out);
                return;
            }
            let may_go_on = c.is_ascii_digit() || matches!(c, ',' | ';' | ' ' | '-' | '–');
            if may_go_on && self.marker.len() < MAX_MARKER {
                self.marker.push(c);
                return;
            }
            self.flush(out);
        }
        self.backquotes.push(c);
        match c {
            '[' | '【' if !self.backquotes.open() => self.marker.push(c),
            // One space is enough where a marker was, and none before a full stop.
            ' ' if self.orphan && !self.space.is_empty() => {}
            c if c.is_whitespace() => self.space.push(c),
            c => {
                if self.orphan && matches!(c, '.' | ',' | ';' | ':' | '!' | '?' | ')') {
                    self.space.clear();
                }
                self.flush(out);
                self.emit(c, out);
            }
        }
    }

    /// The text has ended: what was never closed is text, and white space at the end is nothing.
    pub(super) fn finish(&mut self, out: &mut String) {
        if !self.marker.is_empty() {
            self.flush(out);
        }
    }

    fn close(&mut self, bracket: char, out: &mut String) {
        let inside = self.marker.trim_start_matches(['[', '【']);
        let Some(numbers) = numbers(inside) else {
            self.flush(out);
            self.emit(bracket, out);
            return;
        };
        self.marker.clear();
        let known: Vec<usize> = numbers.into_iter().filter(|number| (1..=self.sources).contains(number)).collect();
        if known.is_empty() {
            self.orphan = true;
            return;
        }
        self.flush(out);
        for number in known {
            let start = self.characters;
            format!("[{number}]").chars().for_each(|c| self.emit(c, out));
            self.citations.push(Citation { source: number - 1, start, end: self.characters });
        }
    }

    /// Shows what was held back.
    fn flush(&mut self, out: &mut String) {
        self.orphan = false;
        let held = std::mem::take(&mut self.space) + &std::mem::take(&mut self.marker);
        held.chars().for_each(|c| self.emit(c, out));
    }

    fn emit(&mut self, c: char, out: &mut String) {
        if self.characters > 0 || !c.is_whitespace() {
            out.push(c);
            self.characters += 1;
        }
    }
}

/// The numbers of a marker, each once, in order; `None` if it is no marker. A number of more than three digits is a year
/// or an amount.
fn numbers(inside: &str) -> Option<Vec<usize>> {
    let number = |text: &str| {
        let text = text.trim();
        (1..=3).contains(&text.len()).then(|| text.parse::<usize>().ok()).flatten()
    };
    let mut numbers = Vec::new();
    for part in inside.split([',', ';']) {
        let (first, last) = match part.split_once(['-', '–']) {
            Some((first, last)) => (number(first)?, number(last)?),
            None => (number(part)?, number(part)?),
        };
        for number in (first..=last).take(MAX_RANGE) {
            if !numbers.contains(&number) {
                numbers.push(number);
            }
        }
    }
    Some(numbers)
}

/// Whether the text is between backquotes: a run of them opens, a run of the same length closes; a run of one or two
/// that was not closed in its line was not meant.
#[derive(Debug, Default)]
struct Backquotes {
    opened: usize,
    run: usize,
}

impl Backquotes {
    fn push(&mut self, c: char) {
        if c == '`' {
            self.run += 1;
            return;
        }
        if self.run > 0 {
            match self.opened {
                0 => self.opened = self.run,
                opened if opened == self.run => self.opened = 0,
                _ => {}
            }
            self.run = 0;
        }
        if c == '\n' && self.opened < 3 {
            self.opened = 0;
        }
    }

    fn open(&self) -> bool {
        self.opened > 0
    }
}
