//! Separated values: finds the separator, then gives rows that carry their headers.

use csv::{ReaderBuilder, StringRecord};

use super::markdown::Markdown;
use super::read::Draft;

const SEPARATORS: [u8; 4] = *b",;\t|";
/// Rows that are looked at to find the separator.
const SAMPLE: usize = 100;

pub(super) fn read(text: &str, extension: &str) -> Draft {
    // Excel writes the separator as a first line of its own.
    let (named, text) = match text.strip_prefix("sep=").and_then(|rest| rest.split_once('\n')) {
        Some((separator, rest)) => (separator.bytes().next(), rest),
        None => (None, text),
    };
    let separator = named.unwrap_or_else(|| match extension {
        "tsv" | "tab" => b'\t',
        _ => find_separator(text),
    });
    let rows = records(text, separator).map(|record| record.iter().map(str::to_owned).collect()).collect::<Vec<_>>();
    let mut markdown = Markdown::default();
    markdown.data(&rows);
    Draft { media_type: "text/csv", markdown: true, pages: vec![markdown.into_text()], ..Draft::default() }
}

fn records(text: &str, separator: u8) -> impl Iterator<Item = StringRecord> {
    let mut builder = ReaderBuilder::new();
    builder.has_headers(false).flexible(true).delimiter(separator);
    // Only reading from disk or bad UTF-8 can fail, and this is neither.
    builder.from_reader(text.as_bytes()).into_records().map_while(Result::ok)
}

/// The separator that cuts most rows into the same number of cells, and into many.
fn find_separator(text: &str) -> u8 {
    let score = |separator: u8| {
        let widths = records(text, separator).take(SAMPLE).map(|record| record.len()).collect::<Vec<_>>();
        let width = widths.first().copied().unwrap_or(1);
        let alike = widths.iter().filter(|other| **other == width).count();
        if width < 2 { 0 } else { 1_000 * alike / widths.len().max(1) + width.min(100) }
    };
    let mut best = (0, b',');
    for separator in SEPARATORS {
        let score = score(separator);
        if score > best.0 {
            best = (score, separator);
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(csv: &str) -> String {
        read(csv, "csv").pages.concat()
    }

    #[test]
    fn separators_are_found() {
        let table = "a\tb\n1,5\tx";
        for csv in ["a;b\n1,5;x\n", "a\tb\n1,5\tx\n", "a|b\n1,5|x\n", "a,b\n\"1,5\",x\n", "sep=;\na;b\n1,5;x\n"] {
            assert_eq!(text(csv), table, "{csv}");
        }
    }

    #[test]
    fn quoted_line_breaks_stay_in_their_cell() {
        assert_eq!(text("a,b\n\"Once upon\na time\",2\n"), "a\tb\nOnce upon a time\t2");
    }

    #[test]
    fn rows_of_uneven_length_are_kept() {
        assert_eq!(text("a,b\n1,2,3\n4\n"), "a\tb\n1\t2\t3\n4");
    }
}
