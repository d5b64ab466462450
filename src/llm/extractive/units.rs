//! Cuts a passage into what can be quoted by itself: sentences, list items, table rows, code blocks.

use std::sync::LazyLock;

use regex::Regex;
use unicode_segmentation::UnicodeSegmentation;

/// Longest list item that is quoted whole, in characters; a longer one is cut into its sentences.
const MAX_ITEM: usize = 300;

/// Abbreviations that do not end a sentence, though a capital follows.
const ABBREVIATIONS: [&str; 32] = [
    "approx.", "art.", "ave.", "ca.", "capt.", "cf.", "co.", "corp.", "dr.", "e.g.", "ed.", "eq.", "fig.", "gen.",
    "i.e.", "inc.", "jr.", "lt.", "ltd.", "mr.", "mrs.", "ms.", "mt.", "no.", "nos.", "p.", "pp.", "prof.", "sec.",
    "st.", "u.s.", "vs.",
];

/// The units of a Markdown or plain text, in order. Headings and table rules are none.
pub(super) fn split(text: &str) -> Vec<String> {
    let mut splitter = Splitter::default();
    for line in text.lines() {
        splitter.line(line);
    }
    if splitter.block == Block::Code {
        // The passage ends within the code.
        splitter.line("```");
    }
    splitter.end_block();
    splitter.units
}

#[derive(Debug, Default)]
struct Splitter {
    units: Vec<String>,
    block: Block,
    text: String,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Block {
    #[default]
    Paragraph,
    Item,
    Code,
    Table,
}

impl Splitter {
    fn line(&mut self, raw: &str) {
        let line = raw.trim();
        let fence = line.starts_with("```") || line.starts_with("~~~");
        if self.block == Block::Code {
            self.text.push('\n');
            self.text.push_str(if fence { "```" } else { raw.trim_end() });
            if fence {
                self.end_block();
            }
        } else if fence {
            self.end_block();
            self.block = Block::Code;
            self.text.push_str("```");
        } else if line.is_empty() || is_heading(line) {
            self.end_block();
        } else if is_rule(line) {
            // What a rule underlines is a heading, or the head of a table.
            match self.block {
                Block::Paragraph if !line.contains('|') => self.text.clear(),
                Block::Table => drop(self.units.pop()),
                _ => self.end_block(),
            }
        } else if is_row(line) {
            if self.block != Block::Table {
                self.end_block();
                self.block = Block::Table;
            }
            self.units.push(row(line));
        } else {
            self.prose(line);
        }
    }

    fn prose(&mut self, line: &str) {
        let line = line.trim_start_matches("> ").trim_start_matches('>');
        if self.block == Block::Table {
            self.end_block();
        }
        if let Some(item) = list_item(line) {
            self.end_block();
            self.block = Block::Item;
            self.text.push_str(item);
            return;
        }
        // Lines of a text without spaces between words are joined without one.
        let spaced = self.text.chars().next_back().is_some_and(|c| c.is_ascii() || c.is_alphabetic() && c < '\u{2e80}');
        if spaced {
            self.text.push(' ');
        }
        self.text.push_str(line);
    }

    fn end_block(&mut self) {
        let text = std::mem::take(&mut self.text);
        let block = std::mem::take(&mut self.block);
        if block == Block::Code {
            self.units.push(text);
            return;
        }
        let text = without_footnotes(&text);
        match block {
            Block::Item if text.chars().count() <= MAX_ITEM => self.units.push(text.trim().to_owned()),
            Block::Item | Block::Paragraph => sentences(&text, &mut self.units),
            Block::Code | Block::Table => {}
        }
        self.units.retain(|unit| unit.chars().any(char::is_alphanumeric));
    }
}

/// Takes a document's own `[3]` out, which would read as a citation of ours, and would end no sentence. What stands
/// between backquotes keeps its brackets.
pub(super) fn without_footnotes(text: &str) -> String {
    static FOOTNOTE: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"(?P<code>`+[^`]*`+)|[\[【]\s*\d{1,3}(?:\s*[,;–-]\s*\d{1,3})*\s*[\]】]")
            .expect("the pattern is a regular expression")
    });
    FOOTNOTE.replace_all(text, "${code}").into_owned()
}

/// Sentences by the Unicode rules (UAX #29), put together again where only an abbreviation ends.
fn sentences(text: &str, units: &mut Vec<String>) {
    let mut sentence = String::new();
    for piece in text.split_sentence_bounds() {
        sentence.push_str(piece);
        if !ends_in_abbreviation(&sentence) {
            units.push(std::mem::take(&mut sentence).trim().to_owned());
        }
    }
    units.push(sentence.trim().to_owned());
}

fn ends_in_abbreviation(sentence: &str) -> bool {
    let Some(word) = sentence.split_whitespace().next_back().filter(|word| word.ends_with('.')) else { return false };
    let word = word.trim_start_matches(['(', '[', '"', '“']);
    let initial = word.chars().count() == 2 && word.starts_with(|c: char| c.is_uppercase());
    initial || ABBREVIATIONS.contains(&word.to_lowercase().as_str())
}

fn is_heading(line: &str) -> bool {
    let marks = line.bytes().take_while(|byte| *byte == b'#').count();
    (1..=6).contains(&marks) && line[marks..].starts_with([' ', '\t'])
}

/// `---`, `===`, `|:--|--:|`.
fn is_rule(line: &str) -> bool {
    line.len() >= 3 && line.chars().all(|c| matches!(c, '-' | '=' | '|' | ':' | ' ' | '+'))
}

fn list_item(line: &str) -> Option<&str> {
    let bullet = line.strip_prefix("- ").or_else(|| line.strip_prefix("* ")).or_else(|| line.strip_prefix("• "));
    bullet.or_else(|| {
        let digits = line.bytes().take_while(u8::is_ascii_digit).count();
        let rest = &line[digits..];
        let item = rest.strip_prefix(". ").or_else(|| rest.strip_prefix(") "))?;
        (1..=3).contains(&digits).then_some(item)
    })
}

/// A row of a Markdown table, or of a sheet (cells between tabs).
fn is_row(line: &str) -> bool {
    line.starts_with('|') && line.len() > 1 || line.contains('\t')
}

fn row(line: &str) -> String {
    let separator = if line.starts_with('|') { '|' } else { '\t' };
    let cells = line.trim_matches('|').split(separator).map(str::trim).filter(|cell| !cell.is_empty());
    without_footnotes(&cells.collect::<Vec<_>>().join(" | "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_a_sheet_are_units_of_their_own() {
        let units = split("City\tHours\nBremen\t7-17\nPorto\t9-18\n\nA sentence.");
        assert_eq!(units, ["City | Hours", "Bremen | 7-17", "Porto | 9-18", "A sentence."]);
    }

    #[test]
    fn sentences_headings_lists_tables_and_code() {
        let text = "# Retention\n\nInvoices are kept for\nten years. Dr. J. Smith signs! \n\nTitle\n=====\n- first item\n  goes on\n\
                    2) second. Item\n\n| Kind | Years |\n|------|------:|\n| offer | 6 |\n\n> quoted text\n\n---\n```sh\nrm x[1]\n```\ntail";
        let units = split(text);
        assert_eq!(
            units,
            [
                "Invoices are kept for ten years.",
                "Dr. J. Smith signs!",
                "first item goes on",
                "second. Item",
                "offer | 6",
                "quoted text",
                "```\nrm x[1]\n```",
                "tail"
            ]
        );
    }

    #[test]
    fn chinese_sentences_and_lines() {
        assert_eq!(split("发票保存\n十年。合同保存六年！"), ["发票保存十年。", "合同保存六年！"]);
    }

    #[test]
    fn a_documents_own_footnotes_are_no_citations() {
        assert_eq!(split("It is so.[1] It was[2, 3] not [x] 5[2023]."), ["It is so.", "It was not [x] 5[2023]."]);
        assert_eq!(split("- a[1]\n\n| b[1] | c |"), ["a", "b | c"]);
        assert_eq!(split("Read `a[1]` well."), ["Read `a[1]` well."]);
    }

    #[test]
    fn nothing_to_say_gives_no_units() {
        assert!(split("").is_empty());
        assert!(split("# Only a heading\n\n---\n\n***").is_empty());
    }
}
