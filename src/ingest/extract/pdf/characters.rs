//! The characters of a page: no fake bold, words whole over line ends, paragraphs apart.

use std::collections::HashMap;

use pdfium_render::prelude::{PdfPageText, PdfPageTextChar, PdfRect};

/// Two equal characters closer than this share of the font size are one that was drawn twice to look bold. (The
/// narrowest pair of letters, as in "ill", is twice as far apart.)
const TWIN_DISTANCE: f32 = 0.1;

/// A step down that is larger than this many times the font size begins a paragraph.
const PARAGRAPH_STEP: f32 = 1.75;

/// The text of a page, as far as it lies in `area`: what is drawn beside the page, nobody sees.
pub(super) fn text(page: &PdfPageText<'_>, area: Option<PdfRect>) -> String {
    let (mut out, mut seen) = (String::new(), Seen::default());
    let mut last = None::<Place>;
    // Set at a line break until the next character tells what kind of break it was.
    let mut broken = false;
    for character in page.chars().iter() {
        let Some(c) = character.unicode_char() else { continue };
        match c {
            '\r' => {}
            '\n' => broken = true,
            // pdfium's mark for a hyphen that only a line end made.
            '\u{2}' | '\u{fffe}' => {
                out.push('\u{ad}');
            }
            c => {
                let place = Place::of(&character);
                if place.as_ref().zip(area.as_ref()).is_some_and(|(place, area)| place.is_outside(area)) {
                    continue;
                }
                if !c.is_whitespace() && place.as_ref().is_some_and(|place| seen.is_twin(c, place)) {
                    continue;
                }
                if std::mem::take(&mut broken) {
                    end_line(&mut out, c, last.as_ref(), place.as_ref());
                }
                let one_glyph = place.as_ref().zip(last.as_ref()).is_some_and(|(place, last)| place.is_at(last));
                push(&mut out, c, one_glyph);
                if !c.is_whitespace() {
                    last = place.or(last);
                }
            }
        }
    }
    out
}

/// Adds a character. A glyph for lam and alef, in text that pdfium has turned to reading order, comes with the two
/// letters the wrong way round.
fn push(out: &mut String, c: char, is_of_last_glyph: bool) {
    match out.chars().next_back() {
        Some(alef @ ('ا' | 'أ' | 'إ' | 'آ' | 'ٱ')) if c == 'ل' && is_of_last_glyph => {
            out.pop();
            out.extend([c, alef]);
        }
        _ => out.push(c),
    }
}

struct Place {
    x: f32,
    y: f32,
    size: f32,
}

impl Place {
    /// `None` for a character that pdfium put in.
    fn of(character: &PdfPageTextChar<'_>) -> Option<Self> {
        let (x, y) = character.origin().ok()?;
        let size = character.scaled_font_size().value.abs();
        Some(Self { x: x.value, y: y.value, size })
    }

    /// Whether both are parts of one glyph.
    fn is_at(&self, other: &Self) -> bool {
        (self.x - other.x).abs() < 0.01 && (self.y - other.y).abs() < 0.01
    }

    /// Beyond `area` by half a line: a character that begins outside may reach in.
    fn is_outside(&self, area: &PdfRect) -> bool {
        let margin = self.size / 2.0;
        self.x < area.left().value - margin
            || self.x > area.right().value + margin
            || self.y < area.bottom().value - margin
            || self.y > area.top().value + margin
    }
}

fn end_line(out: &mut String, next: char, before: Option<&Place>, after: Option<&Place>) {
    let kept = out.trim_end_matches(' ').len();
    out.truncate(kept);
    // A word that was cut at the line's end is one word; a name such as "Just-in-Time" keeps its hyphen.
    if out.ends_with('\u{ad}') {
        out.pop();
        out.push_str(if next.is_lowercase() { "" } else { "-" });
        return;
    }
    let paragraph = match (before, after) {
        (Some(before), Some(after)) => {
            let size = before.size.max(after.size).max(1.0);
            let step = (before.y - after.y).abs();
            step > size * PARAGRAPH_STEP || before.size.max(after.size) > before.size.min(after.size) * 1.25
        }
        _ => false,
    };
    out.push_str(if paragraph { "\n\n" } else { "\n" });
}

/// Where each character was drawn, by cells of one point.
#[derive(Debug, Default)]
struct Seen(HashMap<(char, i32, i32), Vec<(f32, f32)>>);

impl Seen {
    /// Whether the same character was drawn at (nearly) the same place before; notes it.
    fn is_twin(&mut self, c: char, place: &Place) -> bool {
        let near = (place.size * TWIN_DISTANCE).clamp(0.01, 1.0);
        let cell = |value: f32| value.floor() as i32;
        let (x, y) = (cell(place.x), cell(place.y));
        let around = (-1..=1).flat_map(|dx| (-1..=1).map(move |dy| (c, x + dx, y + dy)));
        let twin = around
            .filter_map(|key| self.0.get(&key))
            .flatten()
            .any(|(x, y)| (x - place.x).abs() <= near && (y - place.y).abs() <= near);
        if !twin {
            self.0.entry((c, x, y)).or_default().push((place.x, place.y));
        }
        twin
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ligature_of_lam_and_alef_is_put_right() {
        let mut out = "ا".to_owned();
        push(&mut out, 'إ', false);
        push(&mut out, 'ل', true);
        push(&mut out, 'ن', false);
        assert_eq!(out, "الإن");
        let mut out = "ا".to_owned();
        push(&mut out, 'ل', false);
        assert_eq!(out, "ال");
    }
}
