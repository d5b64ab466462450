//! HTML to Markdown, in one pass over the tokens: no tree is built, so nothing overflows, however deep a page nests.

mod writer;

use std::cell::RefCell;

use html5ever::tendril::StrTendril;
use html5ever::tokenizer::states::RawKind;
use html5ever::tokenizer::{BufferQueue, Tag, TagKind, Token, TokenSink, TokenSinkResult, Tokenizer, TokenizerOpts};

use super::markdown::Markdown;
use super::read::Draft;
use writer::Writer;

pub(super) fn read(html: &str) -> Draft {
    let (mut title, mut markdown) = convert(html, true);
    if markdown.is_empty() {
        // A page that is all navigation, or whose navigation never ends, is better than none.
        (title, markdown) = convert(html, false);
    }
    let pages = vec![markdown.into_text()];
    Draft { media_type: "text/html", title, markdown: true, pages, paged: false }
}

/// A fragment, such as a mail's body.
pub(super) fn write(html: &str) -> Markdown {
    convert(html, false).1
}

fn convert(html: &str, drop_navigation: bool) -> (Option<String>, Markdown) {
    let sink = Sink(RefCell::new(Writer::new(drop_navigation)));
    let tokenizer = Tokenizer::new(sink, TokenizerOpts::default());
    let input = BufferQueue::default();
    input.push_back(StrTendril::from(html));
    // It stops at the end of each script; there is none to run.
    while !input.is_empty() {
        let _ = tokenizer.feed(&input);
    }
    tokenizer.end();
    tokenizer.sink.0.into_inner().finish()
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
    fn depth_costs_nothing() {
        let html = format!("{}deep{}", "<div><b><ul><li>".repeat(50_000), "</li></ul></b></div>".repeat(50_000));
        assert!(text(&html).contains("deep"));
    }
}
