//! Writes Markdown: blocks apart by an empty line, items of a list and rows of a table by a line break.

/// Deepest heading of Markdown.
const MAX_HEADING: usize = 6;

/// A table of data stays a table while it fits into a chunk; a longer one is written row by row, each with its headers.
const SHORT_TABLE: usize = 1_200;

#[derive(Debug, Default)]
pub(super) struct Markdown {
    text: String,
    in_list: bool,
}

impl Markdown {
    pub(super) fn heading(&mut self, level: usize, text: &str) {
        let text = one_line(text);
        if !text.is_empty() {
            self.block();
            self.text.extend(std::iter::repeat_n('#', level.clamp(1, MAX_HEADING)));
            self.text.push(' ');
            self.text.push_str(&text);
        }
    }

    /// A paragraph; its line breaks stay.
    pub(super) fn paragraph(&mut self, text: &str) {
        let text = text.trim_matches(|c: char| c == '\n' || c == ' ');
        if !text.trim().is_empty() {
            self.block();
            self.text.push_str(text);
        }
    }

    /// An item, `depth` from 0; `marker` is `-` or a number with its dot.
    pub(super) fn item(&mut self, depth: usize, marker: &str, text: &str) {
        let text = one_line(text);
        if !text.is_empty() {
            if self.in_list {
                self.text.push('\n');
            } else {
                self.block();
            }
            self.text.extend(std::iter::repeat_n("  ", depth.min(8)));
            self.text.push_str(marker);
            self.text.push(' ');
            self.text.push_str(&text);
            self.in_list = true;
        }
    }

    /// Preformatted text, fenced.
    pub(super) fn code(&mut self, text: &str) {
        let text = text.trim_matches('\n');
        if !text.trim().is_empty() {
            let mut fence = "```".to_owned();
            while text.contains(&fence) {
                fence.push('`');
            }
            self.block();
            self.text.push_str(&format!("{fence}\n{text}\n{fence}"));
        }
    }

    /// A table whose first row is its head.
    pub(super) fn table(&mut self, rows: &[Vec<String>]) {
        let table = render_table(rows);
        self.paragraph(&table);
    }

    /// Rows of data: a table if it is short, else one line per row in which every value carries its header.
    pub(super) fn data(&mut self, rows: &[Vec<String>]) {
        let bytes = rows.iter().flatten().map(|cell| cell.len() + 3).sum::<usize>();
        match rows {
            [head, body @ ..] if bytes > SHORT_TABLE && is_head(head, body) => {
                for row in body {
                    self.record(head, row);
                }
                self.in_list = false;
            }
            _ if bytes > SHORT_TABLE => {
                for row in rows {
                    self.record(&[], row);
                }
                self.in_list = false;
            }
            _ => self.table(rows),
        }
    }

    fn record(&mut self, head: &[String], row: &[String]) {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let cell = one_line(cell);
            if cell.is_empty() {
                continue;
            }
            if !line.is_empty() {
                line.push_str("; ");
            }
            if let Some(header) = head.get(column).map(|header| one_line(header)).filter(|header| !header.is_empty()) {
                line.push_str(&header);
                line.push_str(": ");
            }
            line.push_str(&cell);
        }
        self.item(0, "-", &line);
    }

    /// Markdown that was written elsewhere.
    pub(super) fn append(&mut self, other: Self) {
        self.paragraph(&other.text);
    }

    pub(super) fn len(&self) -> usize {
        self.text.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    pub(super) fn into_text(self) -> String {
        self.text
    }

    fn block(&mut self) {
        self.in_list = false;
        if !self.text.is_empty() {
            self.text.push_str("\n\n");
        }
    }
}

/// Every run of white space as one space.
pub(super) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether a first row names its columns: it fills most of them, without numbers.
fn is_head(head: &[String], body: &[Vec<String>]) -> bool {
    let columns = body.iter().map(Vec::len).max().unwrap_or(0);
    let named = head.iter().filter(|cell| !cell.trim().is_empty()).count();
    let numbers = head.iter().filter(|cell| cell.trim().parse::<f64>().is_ok()).count();
    named * 2 > columns && numbers * 2 < named.max(1)
}

fn render_table(rows: &[Vec<String>]) -> String {
    // A column without any content, as spreadsheets have them, says nothing.
    let width = rows.iter().map(Vec::len).max().unwrap_or(0);
    let columns = (0..width)
        .filter(|column| rows.iter().any(|row| row.get(*column).is_some_and(|cell| !cell.trim().is_empty())))
        .collect::<Vec<_>>();
    let mut text = String::new();
    for (index, row) in rows.iter().filter(|row| row.iter().any(|cell| !cell.trim().is_empty())).enumerate() {
        if index > 0 {
            text.push('\n');
        }
        text.push('|');
        for column in &columns {
            let cell = row.get(*column).map(|cell| one_line(cell).replace('|', "\\|")).unwrap_or_default();
            text.push_str(&format!(" {cell} |"));
        }
        if index == 0 {
            text.push_str("\n|");
            text.push_str(&" --- |".repeat(columns.len()));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(rows: &[&[&str]]) -> Vec<Vec<String>> {
        rows.iter().map(|row| row.iter().map(|cell| (*cell).to_owned()).collect()).collect()
    }

    #[test]
    fn blocks_are_apart_and_items_together() {
        let mut markdown = Markdown::default();
        markdown.heading(1, "A\n title");
        markdown.item(0, "-", "one");
        markdown.item(1, "2.", "two");
        markdown.paragraph("text");
        markdown.code("a\n```\nb");
        assert_eq!(markdown.into_text(), "# A title\n\n- one\n  2. two\n\ntext\n\n````\na\n```\nb\n````");
    }

    #[test]
    fn a_short_table_stays_one() {
        let mut markdown = Markdown::default();
        markdown.data(&rows(&[&["a", "", "b"], &["1", "", "x|y"]]));
        assert_eq!(markdown.into_text(), "| a | b |\n| --- | --- |\n| 1 | x\\|y |");
    }

    #[test]
    fn rows_of_a_long_table_carry_their_headers() {
        let mut table = rows(&[&["Name", "City"]]);
        table.extend((0..200).map(|n| vec![format!("person {n}"), format!("city\n{n}")]));
        let mut markdown = Markdown::default();
        markdown.data(&table);
        let text = markdown.into_text();
        assert!(text.starts_with("- Name: person 0; City: city 0\n- Name: person 1;"), "{text}");
    }
}
