//! Paragraphs and tables of a part, as Markdown. Nested paragraphs (text boxes) and tables are stacks, not recursion.

use std::collections::HashMap;

use super::super::failure::Reading;
use super::super::markdown::Markdown;
use super::super::xml::{Element, Node, Xml};
use super::styles::{Numbering, Role, Styles, outline};

#[derive(Debug, Default)]
struct Paragraph {
    text: String,
    style: String,
    outline: Option<Role>,
    list: Option<String>,
    level: usize,
}

#[derive(Debug, Default)]
struct Table {
    rows: Vec<Vec<String>>,
}

#[derive(Debug)]
pub(super) struct Body<'a> {
    styles: &'a Styles,
    numbering: &'a Numbering,
    /// The text of the first paragraph in the style `Title`.
    pub(super) title: Option<String>,
    counters: HashMap<(String, usize), usize>,
    out: Markdown,
    paragraphs: Vec<Paragraph>,
    tables: Vec<Table>,
    /// Depth of elements whose content is not text of the document.
    skipped: usize,
    in_text: bool,
}

/// Deleted or moved text, the older twin of a drawing, and instructions of fields.
const SKIPPED: [&str; 6] = ["del", "moveFrom", "Fallback", "instrText", "delInstrText", "sectPr"];

impl<'a> Body<'a> {
    pub(super) fn new(styles: &'a Styles, numbering: &'a Numbering) -> Self {
        Self {
            styles,
            numbering,
            title: None,
            counters: HashMap::new(),
            out: Markdown::default(),
            paragraphs: Vec::new(),
            tables: Vec::new(),
            skipped: 0,
            in_text: false,
        }
    }

    /// Reads one part: the document, a header or a footer.
    pub(super) fn read(&mut self, xml: &str, part: &str) -> Reading<Markdown> {
        let mut reader = Xml::new(xml, part);
        while let Some(node) = reader.next()? {
            match node {
                Node::Open(element) if SKIPPED.contains(&element.name()) => self.skipped += 1,
                Node::Close(element) if SKIPPED.contains(&element.name()) => {
                    self.skipped = self.skipped.saturating_sub(1);
                }
                _ if self.skipped > 0 => {}
                Node::Open(element) => self.open(&element),
                Node::Close(element) => self.close(element.name()),
                Node::Text(text) if self.in_text => self.push(&text),
                Node::Text(_) => {}
            }
        }
        (self.skipped, self.in_text) = (0, false);
        self.paragraphs.clear();
        self.tables.clear();
        Ok(std::mem::take(&mut self.out))
    }

    fn open(&mut self, element: &Element<'_>) {
        let value = || element.attribute("val").unwrap_or_default();
        match element.name() {
            "p" => self.paragraphs.push(Paragraph::default()),
            "t" => self.in_text = true,
            "tab" | "ptab" => self.push("\t"),
            "br" | "cr" => self.push("\n"),
            "noBreakHyphen" => self.push("-"),
            "footnoteReference" | "endnoteReference" => {
                let id = element.attribute("id").unwrap_or_default();
                self.push(&format!("[^{id}]"));
            }
            "tbl" => self.tables.push(Table::default()),
            "tr" => self.with_table(|table| table.rows.push(Vec::new())),
            "tc" => self.with_table(|table| {
                if let Some(row) = table.rows.last_mut() {
                    row.push(String::new());
                }
            }),
            "pStyle" => self.with_paragraph(|paragraph| paragraph.style = value()),
            "outlineLvl" => self.with_paragraph(|paragraph| paragraph.outline = outline(&value())),
            "numId" => self.with_paragraph(|paragraph| paragraph.list = Some(value())),
            "ilvl" => self.with_paragraph(|paragraph| paragraph.level = value().parse().unwrap_or(0)),
            // Mathematics: enough that a formula reads in order.
            "sup" => self.push("^"),
            "sub" => self.push("_"),
            "den" => self.push("/"),
            _ => {}
        }
    }

    fn close(&mut self, name: &str) {
        match name {
            "t" => self.in_text = false,
            "p" => self.end_paragraph(),
            "tbl" => self.end_table(),
            _ => {}
        }
    }

    fn push(&mut self, text: &str) {
        // Tab stops are declared by elements of the same name outside of any text.
        self.with_paragraph(|paragraph| paragraph.text.push_str(text));
    }

    fn with_paragraph(&mut self, change: impl FnOnce(&mut Paragraph)) {
        if let Some(paragraph) = self.paragraphs.last_mut() {
            change(paragraph);
        }
    }

    fn with_table(&mut self, change: impl FnOnce(&mut Table)) {
        if let Some(table) = self.tables.last_mut() {
            change(table);
        }
    }

    fn end_paragraph(&mut self) {
        let Some(paragraph) = self.paragraphs.pop() else { return };
        let text = paragraph.text.trim();
        if text.is_empty() {
            return;
        }
        if let Some(cell) = self.tables.last_mut().and_then(|table| table.rows.last_mut()?.last_mut()) {
            if !cell.is_empty() {
                cell.push('\n');
            }
            return cell.push_str(text);
        }
        let list = paragraph.list.or_else(|| self.styles.numbering(&paragraph.style)).filter(|list| list != "0");
        match (paragraph.outline.or_else(|| self.styles.role(&paragraph.style)), list) {
            (Some(Role::Title), _) => {
                self.title.get_or_insert_with(|| text.to_owned());
                self.out.heading(1, text);
            }
            (Some(Role::Heading(level)), _) => self.out.heading(level, text),
            (None, Some(list)) => {
                let marker = self.marker(list, paragraph.level);
                self.out.item(paragraph.level, &marker, text);
            }
            (None, None) => self.out.paragraph(text),
        }
    }

    fn marker(&mut self, list: String, level: usize) -> String {
        if !self.numbering.is_numbered(&list, level) {
            return "-".to_owned();
        }
        // A step out ends the deeper counts.
        self.counters.retain(|(other, deeper), _| *other != list || *deeper <= level);
        let count = self.counters.entry((list, level)).or_insert(0);
        *count += 1;
        format!("{count}.")
    }

    fn end_table(&mut self) {
        let Some(table) = self.tables.pop() else { return };
        match self.tables.last_mut().and_then(|outer| outer.rows.last_mut()?.last_mut()) {
            Some(cell) => {
                for row in &table.rows {
                    cell.push('\n');
                    cell.push_str(&row.join(" "));
                }
            }
            // One cell is a frame, not a table.
            None => match table.rows.as_slice() {
                [row] if row.len() == 1 => self.out.paragraph(&row[0]),
                rows => self.out.table(rows),
            },
        }
    }
}
