//! HTML to Markdown, in one pass over the tokens: no tree is built, so nothing overflows, however deep a page nests.

mod skip;
mod tags;
mod writer;

use std::cell::RefCell;

use html5ever::tendril::StrTendril;
use html5ever::tokenizer::states::RawKind;
use html5ever::tokenizer::{BufferQueue, Tag, TagKind, Token, TokenSink, TokenSinkResult, Tokenizer, TokenizerOpts};

use super::markdown::Markdown;
use super::read::Draft;
use skip::Rules;
use writer::Writer;

/// How often a page is read again because an element that is skipped in it does not end.
const MAX_UNENDED: usize = 3;

pub(super) fn read(html: &str) -> Draft {
    let (mut title, mut markdown) = convert(html, true);
    if markdown.is_empty() {
        // A page that is all navigation is better than none.
        (title, markdown) = convert(html, false);
    }
    let pages = vec![markdown.into_text()];
    Draft { media_type: "text/html", title, markdown: true, pages, paged: false }
}

/// A fragment, such as a mail's body.
pub(super) fn write(html: &str) -> Markdown {
    convert(html, false).1
}

/// An element that is skipped and has no end would take the rest of the page with it: then the page is read again, and
/// that element too.
fn convert(html: &str, drop_navigation: bool) -> (Option<String>, Markdown) {
    let mut rules = Rules::new(drop_navigation);
    loop {
        let writer = write_by(&rules, html);
        match writer.unended() {
            None => return writer.finish(),
            Some(element) if rules.shown.len() < MAX_UNENDED => rules.shown.push(element),
            Some(element) => rules.shown_from = element,
        }
    }
}

fn write_by(rules: &Rules, html: &str) -> Writer {
    let sink = Sink(RefCell::new(Writer::new(rules.clone())));
    let tokenizer = Tokenizer::new(sink, TokenizerOpts::default());
    let input = BufferQueue::default();
    input.push_back(StrTendril::from(html));
    // It stops at the end of each script; there is none to run.
    while !input.is_empty() {
        let _ = tokenizer.feed(&input);
    }
    tokenizer.end();
    tokenizer.sink.0.into_inner()
}

#[derive(Debug)]
struct Sink(RefCell<Writer>);

impl TokenSink for Sink {
    type Handle = ();

    fn process_token(&self, token: Token, _line: u64) -> TokenSinkResult<()> {
        let mut writer = self.0.borrow_mut();
        match token {
            Token::CharacterTokens(text) => writer.text(&text),
            Token::TagToken(tag) if tag.kind == TagKind::StartTag => {
                writer.open(&tag);
                return raw(&tag);
            }
            Token::TagToken(tag) => writer.close(&tag.name),
            _ => {}
        }
        TokenSinkResult::Continue
    }
}

/// Elements whose content is not markup, as the standard's tree builder tells its tokenizer.
fn raw(tag: &Tag) -> TokenSinkResult<()> {
    match &*tag.name {
        _ if tag.self_closing => TokenSinkResult::Continue,
        "script" => TokenSinkResult::RawData(RawKind::ScriptData),
        "style" | "xmp" | "iframe" | "noembed" | "noframes" => TokenSinkResult::RawData(RawKind::Rawtext),
        "title" | "textarea" => TokenSinkResult::RawData(RawKind::Rcdata),
        "plaintext" => TokenSinkResult::Plaintext,
        _ => TokenSinkResult::Continue,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(html: &str) -> String {
        read(html).pages.concat()
    }

    #[test]
    fn blocks_become_markdown() {
        let html = "<title>T &amp; t</title><style>p{}</style><h2>Head <b>ing</b></h2><p>One\n two<br>three<p>four\
                    <ul><li>a<li>b<ol><li>c</ol></ul><pre>x\n  y</pre><script>if (a < b) {}</script>end";
        let draft = read(html);
        assert_eq!(draft.title.as_deref(), Some("T & t"));
        assert_eq!(
            draft.pages.concat(),
            "## Head ing\n\nOne two\nthree\n\nfour\n\n- a\n- b\n  1. c\n\n```\nx\n  y\n```\n\nend"
        );
    }

    #[test]
    fn tables_are_tables_and_layouts_are_not() {
        assert_eq!(
            text("<table><tr><th>a<th>b<tr><td>1<td><p>2</p><p>3</p></table>"),
            "| a | b |\n| --- | --- |\n| 1 | 2 3 |"
        );
        assert_eq!(text("<table><tr><td><h1>A</h1>x<td><table><tr><td>in</table></table>"), "# A\n\nx\n\nin");
    }

    #[test]
    fn navigation_and_hidden_text_are_left_out() {
        assert_eq!(
            text("<nav><a>Home</a></nav><p>text<div style='display: none'>ignore</div><div hidden>x</div>"),
            "text"
        );
        assert_eq!(text("<nav>only"), "only");
    }

    #[test]
    fn what_does_not_end_hides_nothing_after_it() {
        assert_eq!(text("<nav>a</nav><p>one<nav>menu<p>two<nav>b</nav><p>three"), "one\n\nmenu\n\ntwo\n\nthree");
        assert_eq!(text("<p>one<div hidden>note<p>two"), "one\n\nnote\n\ntwo");
        let many = format!("<div hidden>x</div>{}end", "<div hidden>open<p>".repeat(50));
        let many = text(&many);
        assert!(many.ends_with("open\n\nend") && !many.contains('x'), "{many}");
        // What is no markup is no text, with an end or without one.
        assert_eq!(text("<p>one<style>p {}<p>two"), "one");
    }

    #[test]
    fn a_head_ends_with_the_first_tag_of_a_body() {
        for begun in ["<html><head><title>T</title>", "<head><title>T</title><meta charset=utf-8><link rel=x>"] {
            for body in ["<main>text", "<span>text</span>", "<h4>text</h4>", "<ul><li>text", "text"] {
                let draft = read(&format!("{begun}<style>p {{}}</style><script>1 < 2</script>{body}"));
                assert_eq!(draft.title.as_deref(), Some("T"));
                assert!(draft.pages.concat().trim_start_matches(['#', '-', ' ']) == "text", "{begun}{body}");
            }
        }
        assert_eq!(text("<head><title>a</title><title>b</title><noscript>c</noscript></head>d"), "d");
    }

    #[test]
    fn depth_costs_nothing() {
        let html = format!("{}deep{}", "<div><b><ul><li>".repeat(50_000), "</li></ul></b></div>".repeat(50_000));
        assert!(text(&html).contains("deep"));
    }
}
