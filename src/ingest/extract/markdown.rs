//! Writes Markdown: blocks apart by an empty line, items of a list and rows of a table by a line break.

/// Deepest heading of Markdown.
const MAX_HEADING: usize = 6;

/// Rows of data are written in blocks of about this many bytes, each under the headers, so that a block fits into a
/// chunk and is understood there.
const DATA_BLOCK: usize = 500;

/// With fewer rows than this to a block, headers over them would be most of the text: each value gets its own.
const MIN_ROWS: usize = 3;

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

    /// Rows of data, cells apart by tabs: blocks of rows under the headers, or `header: value; …` where rows are wide.
    pub(super) fn data(&mut self, rows: &[Vec<String>]) {
        let bytes = |row: &[String]| row.iter().map(|cell| cell.len() + 1).sum::<usize>();
        let all = rows.iter().map(|row| bytes(row)).sum::<usize>();
        let (head, body) = match rows {
            [head, body @ ..] if all > DATA_BLOCK && is_head(head, body) => (head.as_slice(), body),
            rows => (&[][..], rows),
        };
        let mean = all / rows.len().max(1);
        if !head.is_empty() && bytes(head) + MIN_ROWS * mean > DATA_BLOCK {
            body.iter().for_each(|row| self.record(head, row));
            self.in_list = false;
            return;
        }
        let head = if head.is_empty() { String::new() } else { data_line(head) + "\n" };
        let mut block = head.clone();
        for line in body.iter().map(|row| data_line(row)) {
            if block.len() > head.len() && block.len() + line.len() > DATA_BLOCK {
                self.paragraph(&block);
                block.clone_from(&head);
            }
            block.push_str(&line);
            block.push('\n');
        }
        self.paragraph(&block);
    }

    fn record(&mut self, head: &[String], row: &[String]) {
        let named = row.iter().enumerate().filter_map(|(column, cell)| {
            let cell = one_line(cell);
            let header = head.get(column).map(|header| one_line(header)).unwrap_or_default();
            match (header.is_empty(), cell.is_empty()) {
                (_, true) => None,
                (true, false) => Some(cell),
                (false, false) => Some(format!("{header}: {cell}")),
            }
        });
        let line = named.collect::<Vec<_>>().join("; ");
        self.item(0, "-", &line);
    }

    /// Markdown that was written elsewhere.
    pub(super) fn append(&mut self, other: Self) {
        self.paragraph(&other.text);
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

/// A row with tabs between its cells. A `#` in front would make it a heading.
fn data_line(row: &[String]) -> String {
    let cells = row.iter().map(|cell| one_line(cell)).collect::<Vec<_>>();
    let line = cells.join("\t");
    let line = line.trim_end();
    if line.starts_with('#') { format!("\\{line}") } else { line.to_owned() }
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
    fn a_short_table_is_one_block() {
        let mut markdown = Markdown::default();
        markdown.data(&rows(&[&["#", "b"], &["1", "x\ny"]]));
        assert_eq!(markdown.into_text(), "\\#\tb\n1\tx y");
    }

    #[test]
    fn tables_of_documents_are_tables() {
        let mut markdown = Markdown::default();
        markdown.table(&rows(&[&["a", "", "b"], &["1", "", "x|y"]]));
        assert_eq!(markdown.into_text(), "| a | b |\n| --- | --- |\n| 1 | x\\|y |");
    }

    #[test]
    fn blocks_of_a_long_table_carry_its_headers() {
        let mut table = rows(&[&["Name", "City"]]);
        table.extend((0..200).map(|n| vec![format!("person {n}"), format!("city\n{n}")]));
        let mut markdown = Markdown::default();
        markdown.data(&table);
        let text = markdown.into_text();
        let blocks = text.split("\n\n").collect::<Vec<_>>();
        assert!(blocks.len() > 5 && blocks.iter().all(|block| block.starts_with("Name\tCity\nperson ")), "{text}");
        assert!(blocks.iter().all(|block| block.len() <= DATA_BLOCK + 1));
        assert_eq!(blocks.iter().map(|block| block.lines().count() - 1).sum::<usize>(), 200);
    }

    #[test]
    fn values_of_wide_rows_carry_their_headers() {
        let head = (0..30).map(|n| format!("column {n}")).collect::<Vec<_>>();
        let row = (0..30).map(|n| if n == 1 { String::new() } else { format!("value {n}") }).collect::<Vec<_>>();
        let mut markdown = Markdown::default();
        markdown.data(&[head, row.clone(), row]);
        let text = markdown.into_text();
        assert_eq!(text.lines().count(), 2);
        assert!(text.starts_with("- column 0: value 0; column 2: value 2;"), "{text}");
    }
}
