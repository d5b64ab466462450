//! Takes lines that begin with the sentinel out of a text.

use crate::llm::SENTINEL;

/// Marks that models put round a word, and white space.
const DRESS: [char; 9] = [' ', '\t', '\r', '*', '_', '`', '"', '\'', '>'];

/// Passes characters on, but holds a line back while it may be the sentinel.
#[derive(Debug)]
pub(super) struct Lines {
    held: String,
    state: State,
    seen: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The line so far is held.
    Undecided,
    /// The line is text.
    Text,
    /// The line is the sentinel: all of it goes.
    Sentinel,
}

impl Default for Lines {
    fn default() -> Self {
        Self { held: String::new(), state: State::Undecided, seen: false }
    }
}

impl Lines {
    pub(super) fn push(&mut self, c: char, mut pass: impl FnMut(char)) {
        if self.state == State::Undecided {
            self.state = self.decide(c);
            self.held.push(c);
            if self.state == State::Text {
                self.held.drain(..).for_each(&mut pass);
            }
        } else if self.state == State::Text {
            pass(c);
        }
        if c == '\n' {
            if self.state != State::Text {
                self.finish(pass);
            }
            self.state = State::Undecided;
        }
    }

    pub(super) fn finish(&mut self, pass: impl FnMut(char)) {
        let held = std::mem::take(&mut self.held);
        if self.state == State::Sentinel || core(&held).trim_end() == SENTINEL {
            self.seen = true;
        } else {
            held.chars().for_each(pass);
        }
    }

    pub(super) fn sentinel_seen(&self) -> bool {
        self.seen || self.state == State::Sentinel
    }

    /// What the line is, once `c` is added to what is held of it.
    fn decide(&self, c: char) -> State {
        let core = core(&self.held);
        if core == SENTINEL {
            // A letter would make it another word.
            return if c.is_alphanumeric() { State::Text } else { State::Sentinel };
        }
        let rest = &SENTINEL[core.len()..];
        let may_be = rest.starts_with(c) || core.is_empty() && (DRESS.contains(&c) || c == '\n');
        if may_be { State::Undecided } else { State::Text }
    }
}

/// What is held of a line is dress, then a beginning of the sentinel; this is the latter.
fn core(held: &str) -> &str {
    held.trim_start_matches(DRESS)
}
