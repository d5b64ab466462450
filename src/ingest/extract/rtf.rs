//! Rich text: control words, code pages by font, Unicode escapes, tables as rows.

mod charset;
mod scan;

use std::collections::HashMap;

use encoding_rs::Encoding;

use super::markdown::Markdown;
use super::read::Draft;
use charset::{charset, code_page};
use scan::{Scanner, Token};

/// Groups that nest deeper are read as if they did not.
const MAX_DEPTH: usize = 4_096;

/// Destinations that hold no text of the document. (One that begins with `\*` is dropped unless it is known.)
const DROPPED: [&str; 22] = [
    "fonttbl",
    "colortbl",
    "stylesheet",
    "info",
    "pict",
    "object",
    "listtable",
    "listoverridetable",
    "rsidtbl",
    "generator",
    "themedata",
    "datastore",
    "latentstyles",
    "xmlnstbl",
    "fldinst",
    "filetbl",
    "revtbl",
    "bkmkstart",
    "bkmkend",
    "nonshppict",
    "mmathPr",
    "pntext",
];

pub(super) fn read(bytes: &[u8]) -> Draft {
    let mut reader = Rtf::new(bytes);
    reader.run();
    reader.end_paragraph();
    reader.end_table();
    let title = (!reader.title.trim().is_empty()).then(|| reader.title.clone());
    let pages = vec![reader.out.into_text()];
    Draft { media_type: "application/rtf", title, markdown: true, pages, paged: false }
}

/// What a group inherits and gives back.
#[derive(Debug, Clone, Default)]
struct State {
    place: Place,
    font: i32,
    /// Characters to leave out after `\u`: a twin for old readers.
    skip: usize,
    heading: Option<usize>,
    in_table: bool,
    hidden: bool,
}

/// Where text goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Place {
    #[default]
    Body,
    Fonts,
    Title,
    Nowhere,
}

struct Rtf<'a> {
    scanner: Scanner<'a>,
    stack: Vec<State>,
    state: State,
    /// Closing braces that were opened beyond `MAX_DEPTH`.
    overflow: usize,
    /// The document's code page.
    code_page: &'static Encoding,
    fonts: HashMap<i32, &'static Encoding>,
    /// Bytes in a code page that wait for the next ones of their character.
    pending: Vec<u8>,
    /// The first half of a pair of UTF-16.
    surrogate: Option<u16>,
    to_skip: usize,
    /// The next control word is a destination that may be ignored.
    optional: bool,
    title: String,
    text: String,
    row: Vec<String>,
    rows: Vec<Vec<String>>,
    out: Markdown,
}

impl<'a> Rtf<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self {
            scanner: Scanner::new(bytes),
            stack: Vec::new(),
            state: State { skip: 1, ..State::default() },
            overflow: 0,
            code_page: encoding_rs::WINDOWS_1252,
            fonts: HashMap::new(),
            pending: Vec::new(),
            surrogate: None,
            to_skip: 0,
            optional: false,
            title: String::new(),
            text: String::new(),
            row: Vec::new(),
            rows: Vec::new(),
            out: Markdown::default(),
        }
    }

    fn run(&mut self) {
        while let Some(token) = self.scanner.next() {
            match token {
                Token::Open => self.open(),
                Token::Close => self.close(),
                Token::Word(word, number) => self.word(&word, number),
                Token::Optional => self.optional = true,
                Token::Byte(_) if self.to_skip > 0 => self.to_skip -= 1,
                Token::Byte(byte) => self.pending.extend(byte),
                Token::Symbol(symbol) => {
                    self.decode();
                    self.push(symbol);
                }
            }
        }
        self.decode();
    }

    fn open(&mut self) {
        self.decode();
        self.to_skip = 0;
        if self.stack.len() < MAX_DEPTH {
            self.stack.push(self.state.clone());
        } else {
            self.overflow += 1;
        }
    }

    fn close(&mut self) {
        self.decode();
        (self.to_skip, self.optional) = (0, false);
        if self.overflow > 0 {
            self.overflow -= 1;
        } else if let Some(state) = self.stack.pop() {
            self.state = state;
        }
    }

    fn word(&mut self, word: &str, number: Option<i32>) {
        if word == "u" {
            return self.unicode(number.unwrap_or(0));
        }
        self.decode();
        let optional = std::mem::take(&mut self.optional);
        match word {
            "bin" => self.scanner.pass(usize::try_from(number.unwrap_or(0)).unwrap_or(0)),
            "ansicpg" => self.code_page = code_page(number.unwrap_or(1252)).unwrap_or(self.code_page),
            "mac" => self.code_page = encoding_rs::MACINTOSH,
            "uc" => self.state.skip = usize::try_from(number.unwrap_or(1)).unwrap_or(1),
            "f" => self.state.font = number.unwrap_or(0),
            "fcharset" if self.state.place == Place::Fonts => {
                if let Some(encoding) = charset(number.unwrap_or(0)) {
                    self.fonts.insert(self.state.font, encoding);
                }
            }
            "v" => self.state.hidden = number != Some(0),
            "fonttbl" => self.state.place = Place::Fonts,
            "title" if self.state.place == Place::Nowhere => self.state.place = Place::Title,
            word if DROPPED.contains(&word) => self.state.place = Place::Nowhere,
            "footnote" | "annotation" | "shptxt" | "shppict" | "shpinst" | "fldrslt" => {}
            _ if optional => self.state.place = Place::Nowhere,
            word => self.layout(word, number),
        }
    }

    fn layout(&mut self, word: &str, number: Option<i32>) {
        match word {
            "par" | "sect" | "page" => self.end_paragraph(),
            "line" => self.push("\n"),
            "tab" => self.push("\t"),
            "emdash" => self.push("—"),
            "endash" => self.push("–"),
            "lquote" => self.push("‘"),
            "rquote" => self.push("’"),
            "ldblquote" => self.push("“"),
            "rdblquote" => self.push("”"),
            "bullet" => self.push("•"),
            "emspace" | "enspace" | "qmspace" => self.push(" "),
            "pard" => (self.state.heading, self.state.in_table) = (None, false),
            "plain" => self.state.hidden = false,
            "outlinelevel" => {
                self.state.heading = number.and_then(|level| usize::try_from(level).ok()).filter(|l| *l < 9)
            }
            "intbl" => self.state.in_table = true,
            "cell" | "nestcell" if self.state.place == Place::Body => self.row.push(std::mem::take(&mut self.text)),
            "row" | "nestrow" if self.state.place == Place::Body => {
                let row = std::mem::take(&mut self.row);
                self.rows.push(row);
            }
            _ => {}
        }
    }

    /// A unit of UTF-16, as a signed number.
    fn unicode(&mut self, number: i32) {
        self.decode();
        self.to_skip = self.state.skip;
        let unit = number as u16;
        let units = match self.surrogate.take() {
            Some(high) => vec![high, unit],
            None if (0xd800..0xdc00).contains(&unit) => return self.surrogate = Some(unit),
            None => vec![unit],
        };
        let text = char::decode_utf16(units).filter_map(Result::ok).collect::<String>();
        self.push(&text);
    }

    fn decode(&mut self) {
        if !self.pending.is_empty() {
            let encoding = self.fonts.get(&self.state.font).copied().unwrap_or(self.code_page);
            let bytes = std::mem::take(&mut self.pending);
            self.push(&encoding.decode_without_bom_handling(&bytes).0);
        }
    }

    fn push(&mut self, text: &str) {
        match self.state.place {
            Place::Title => self.title.push_str(text),
            Place::Body if !self.state.hidden => {
                if !self.state.in_table && !self.rows.is_empty() && self.row.is_empty() && !text.trim().is_empty() {
                    self.end_table();
                }
                self.text.push_str(text);
            }
            _ => {}
        }
    }

    fn end_paragraph(&mut self) {
        if self.state.place != Place::Body {
            return;
        }
        if self.state.in_table {
            return self.text.push('\n');
        }
        let text = std::mem::take(&mut self.text);
        match self.state.heading {
            Some(level) => self.out.heading(level + 1, &text),
            None => self.out.paragraph(text.trim()),
        }
    }

    fn end_table(&mut self) {
        self.rows.extend((!self.row.is_empty()).then(|| std::mem::take(&mut self.row)));
        let rows = std::mem::take(&mut self.rows);
        self.out.table(&rows);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(rtf: &str) -> String {
        read(rtf.as_bytes()).pages.concat()
    }

    #[test]
    fn code_pages_follow_the_font() {
        let rtf =
            r"{\rtf1\ansi\ansicpg1252{\fonttbl{\f0\fcharset238 A;}{\f1\fcharset0 B;}}\f0 \'9eena \f1 caf\'e9\par}";
        assert_eq!(text(rtf), "žena café");
    }

    #[test]
    fn symbols_stand_where_they_are_written() {
        assert_eq!(text(r"{\rtf1 one\~two\_three \{four\} five\|six\par}"), "one\u{a0}two-three {four} fivesix");
    }

    #[test]
    fn unicode_escapes_skip_their_twin() {
        assert_eq!(text(r"{\rtf1\uc1 a\u8364?b \u-10179?\u-8704?\par}"), "a€b 😀");
        assert_eq!(text(r"{\rtf1 {\uc2\u233 ab}x\par}"), "éx");
    }

    #[test]
    fn destinations_are_told_from_text() {
        let rtf = r"{\rtf1{\info{\title My title}{\author A}}{\*\unknown x}{\v hidden}\outlinelevel0 Head\par\pard Text{\footnote note}\par}";
        let draft = read(rtf.as_bytes());
        assert_eq!(draft.title.as_deref(), Some("My title"));
        assert_eq!(draft.pages.concat(), "# Head\n\nTextnote");
    }

    #[test]
    fn rows_become_a_table() {
        let rtf = r"{\rtf1 before\par\intbl a\cell b\cell\row\intbl 1\cell 2\cell\row\pard after\par}";
        assert_eq!(text(rtf), "before\n\n| a | b |\n| --- | --- |\n| 1 | 2 |\n\nafter");
    }

    #[test]
    fn broken_input_ends() {
        for rtf in ["{\\rtf1 \\'", "{\\rtf1 \\u", "{\\rtf1\\bin99999999999 x", "{\\rtf1 }}}}", "{\\rtf1\\bin-5 x}"] {
            text(rtf);
        }
        text(&format!("{{\\rtf1{}x{}", "{".repeat(100_000), "}".repeat(100_000)));
    }
}
