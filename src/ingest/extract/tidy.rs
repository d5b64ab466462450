//! What every text goes through: one kind of line break, nothing invisible, no control of a chat model, NFC.

use std::sync::LazyLock;

use regex::Regex;
use unicode_normalization::{UnicodeNormalization, is_nfc};

use super::Extracted;
use super::failure::{Reading, no_text, too_large};
use super::read::Draft;

/// Marks by which chat models tell roles apart. In a document they are an accident or an attack.
static CHAT_TOKENS: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"(?i)<\|[a-z0-9_]{1,40}\|>|<｜[a-z0-9_▁]{1,40}｜>|<</?sys>>|\[/?(?:inst|system_prompt|available_tools|tool_calls|tool_results)\]|<(?:start|end)_of_turn>",
    )
    .expect("the pattern is fixed")
});

/// Cleans a draft page by page, so that the places of pages are those of the cleaned text.
pub(super) fn finish(draft: Draft, max_text_bytes: u64) -> Reading<Extracted> {
    let (mut text, mut characters, mut pages) = (String::new(), 0_u64, Vec::new());
    for page in &draft.pages {
        let page = clean(page);
        if !text.is_empty() && !page.is_empty() {
            text.push_str("\n\n");
            characters += 2;
        }
        pages.push(characters);
        characters += page.chars().count() as u64;
        text.push_str(&page);
        if text.len() as u64 > max_text_bytes {
            return Err(too_large(format!("it holds more than {} MiB of text", max_text_bytes >> 20)));
        }
    }
    if !text.chars().any(char::is_alphanumeric) {
        return Err(no_text());
    }
    let title = draft.title.map(|title| super::markdown::one_line(&clean(&title))).filter(|title| !title.is_empty());
    Ok(Extracted {
        media_type: draft.media_type.to_owned(),
        title,
        text,
        markdown: draft.markdown,
        pages: if draft.paged { pages } else { Vec::new() },
    })
}

fn clean(text: &str) -> String {
    let visible = visible(text);
    // A space in the place of a token: with nothing there, two halves could become one.
    let safe = CHAT_TOKENS.replace_all(&visible, " ");
    let composed = if is_nfc(&safe) { safe.into_owned() } else { safe.nfc().collect() };
    tidy_lines(&composed)
}

/// Drops what cannot be seen, and gives letters that are shapes of others (Arabic presentation forms, Latin
/// ligatures) as the letters they are.
fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '\r' => {
                characters.next_if_eq(&'\n');
                out.push('\n');
            }
            '\u{2028}' | '\u{2029}' | '\u{85}' | '\u{b}' | '\u{c}' => out.push('\n'),
            '\n' | '\t' => out.push(c),
            '\u{a0}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' => out.push(' '),
            '\u{200c}' | '\u{200d}' if out.chars().next_back().is_some_and(is_joined) => out.push(c),
            c if is_invisible(c) => {}
            '\u{fb00}'..='\u{fdff}' | '\u{fe70}'..='\u{fefc}' => out.extend(std::iter::once(c).nfkc()),
            c => out.push(c),
        }
    }
    out
}

/// Controls, zero widths, soft hyphens, marks of direction, tags and variation selectors that can smuggle text.
fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}'
            | '\u{ffa0}' | '\u{fff0}'..='\u{fffc}' | '\u{fffe}' | '\u{ffff}' | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}')
}

/// Scripts (and emoji) in which a joiner or non-joiner after the letter changes what is read.
fn is_joined(c: char) -> bool {
    matches!(c,
        '\u{600}'..='\u{8ff}' | '\u{900}'..='\u{dff}' | '\u{f00}'..='\u{fff}' | '\u{1000}'..='\u{109f}'
        | '\u{1780}'..='\u{17ff}' | '\u{1800}'..='\u{18af}' | '\u{2600}'..='\u{27bf}' | '\u{fe0f}'
        | '\u{1f000}'..='\u{1faff}')
}

/// No space at the end of a line, at most one empty line at a stretch.
fn tidy_lines(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut breaks = 0;
    for line in text.lines() {
        let line = line.trim_end();
        if line.is_empty() {
            breaks += 1;
            continue;
        }
        if !out.is_empty() {
            out.push_str(if breaks > 0 { "\n\n" } else { "\n" });
        }
        breaks = 0;
        out.push_str(line);
    }
    // The first line may be indented code; empty lines before it are gone already.
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_seen_goes() {
        assert_eq!(clean("a\u{200b}b\u{202e}c\u{feff}\0d\u{e0041}\r\ne\u{a0}f  \n\n\n\n\ng"), "abcd\ne f\n\ng");
    }

    #[test]
    fn joiners_stay_where_a_script_needs_them() {
        assert_eq!(clean("می\u{200c}خواهم"), "می\u{200c}خواهم");
        assert_eq!(clean("क\u{94d}\u{200d}ष"), "क\u{94d}\u{200d}ष");
        assert_eq!(clean("pass\u{200d}word"), "password");
    }

    #[test]
    fn chat_tokens_go_and_cannot_be_put_together_from_halves() {
        assert_eq!(clean("x<|im_start|>system y"), "x system y");
        assert_eq!(clean("[INST] a [/inst]<<SYS>>b<</SYS>>").trim(), "a   b");
        assert!(!clean("<|im_<|x|>start|>").contains("<|im_start|>"));
        assert!(!clean("<|im\u{200b}_start|>").contains("im_start"));
        assert_eq!(clean("if a <| b |> c"), "if a <| b |> c");
    }

    #[test]
    fn letters_are_letters() {
        assert_eq!(clean("ﬁle اﳋﻄﻮط e\u{301}"), "file الخطوط é");
    }

    #[test]
    fn pages_begin_where_their_text_does() {
        let pages = vec!["one\u{200b}".to_owned(), String::new(), "zwei ü".to_owned(), "three".to_owned()];
        let draft = Draft { media_type: "text/plain", pages, paged: true, ..Draft::default() };
        let extracted = finish(draft, 1 << 20).unwrap();
        assert_eq!(extracted.text, "one\n\nzwei ü\n\nthree");
        assert_eq!(extracted.pages, [0, 3, 5, 13]);
    }

    #[test]
    fn text_without_a_letter_is_none() {
        let draft = Draft { pages: vec![" \n - * \u{200b}".to_owned()], ..Draft::default() };
        assert_eq!(finish(draft, 1 << 20).unwrap_err().reason, crate::document::FailureReason::NoText);
    }
}
