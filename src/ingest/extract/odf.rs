//! OpenDocument text, sheets and slides: one reader, for they share their elements.

use super::failure::{Reading, malformed};
use super::markdown::Markdown;
use super::package::Package;
use super::read::Draft;
use super::xml::{self, Element, Node, Xml};

/// A cell or row that says it repeats more often than this is filling, not content.
const MAX_REPEAT: usize = 64;

pub(super) fn read(bytes: &[u8]) -> Reading<Draft> {
    let mut package = Package::open(bytes)?;
    let content = package.xml("content.xml")?.ok_or_else(|| malformed("its main part is missing"))?;
    let declared = package.bytes("mimetype")?.unwrap_or_default();
    let declared = String::from_utf8_lossy(&declared).into_owned();
    let (form, media_type) = match () {
        () if declared.contains("spreadsheet") => (Form::Sheets, "application/vnd.oasis.opendocument.spreadsheet"),
        () if declared.contains("presentation") => (Form::Slides, "application/vnd.oasis.opendocument.presentation"),
        () => (Form::Text, "application/vnd.oasis.opendocument.text"),
    };
    let mut pages = Content::new(form).read(&content, "content.xml", false)?;
    if form == Form::Text {
        // Headers and footers of text documents stand with the styles of their pages.
        let styles = package.xml("styles.xml")?.unwrap_or_default();
        let running = Content::new(Form::Text).read(&styles, "styles.xml", true)?.concat();
        if let (Some(page), true) = (pages.first_mut(), running.chars().any(char::is_alphabetic)) {
            page.push_str("\n\n");
            page.push_str(&running);
        }
    }
    let meta = package.xml("meta.xml")?.unwrap_or_default();
    let title = xml::texts_of(&meta, "meta.xml", "title").unwrap_or_default().into_iter().next();
    let paged = form != Form::Text;
    Ok(Draft { media_type, title, markdown: true, pages, paged })
}

#[derive(Debug, Default)]
struct Table {
    rows: Vec<Vec<String>>,
    /// How often the current cell repeats.
    repeat: usize,
}

/// What a document is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Text,
    Sheets,
    Slides,
}

#[derive(Debug)]
struct Paragraph {
    text: String,
    /// Its level, if it is a heading.
    heading: Option<usize>,
}

#[derive(Debug)]
struct Content {
    form: Form,
    pages: Vec<String>,
    /// Whether `out` is a page, even if it is empty.
    begun: bool,
    out: Markdown,
    /// Paragraphs that are open: a note or text box stands inside another one.
    paragraphs: Vec<Paragraph>,
    /// How many lists are open.
    lists: usize,
    tables: Vec<Table>,
    skipped: usize,
    /// Depth of headers and footers, where only they are wanted.
    running: usize,
}

/// Deleted text, and what only editors need.
const SKIPPED: [&str; 5] = ["tracked-changes", "forms", "note-citation", "creator", "sequence-decls"];

impl Content {
    fn new(form: Form) -> Self {
        Self {
            form,
            pages: Vec::new(),
            begun: form == Form::Text,
            out: Markdown::default(),
            paragraphs: Vec::new(),
            lists: 0,
            tables: Vec::new(),
            skipped: 0,
            running: 0,
        }
    }

    fn read(mut self, xml: &str, part: &str, only_running: bool) -> Reading<Vec<String>> {
        let mut reader = Xml::new(xml, part);
        while let Some(node) = reader.next()? {
            match node {
                Node::Open(element) if SKIPPED.contains(&element.name()) => self.skipped += 1,
                Node::Close(element) if SKIPPED.contains(&element.name()) => {
                    self.skipped = self.skipped.saturating_sub(1);
                }
                _ if self.skipped > 0 => {}
                Node::Open(element) if matches!(element.name(), "header" | "footer") => self.running += 1,
                Node::Close(element) if matches!(element.name(), "header" | "footer") => {
                    self.running = self.running.saturating_sub(1);
                }
                _ if only_running && self.running == 0 => {}
                Node::Open(element) => self.open(&element),
                Node::Close(element) => self.close(element.name()),
                // White space is one space; real ones are elements.
                Node::Text(text) => self.push(&text.replace(['\n', '\r', '\t'], " ")),
            }
        }
        self.end_page();
        Ok(self.pages)
    }

    fn open(&mut self, element: &Element<'_>) {
        let number = |name: &str| element.attribute(name).and_then(|value| value.parse::<usize>().ok());
        match element.name() {
            "p" => self.paragraphs.push(Paragraph { text: String::new(), heading: None }),
            "h" => {
                let heading = Some(number("outline-level").unwrap_or(1));
                self.paragraphs.push(Paragraph { text: String::new(), heading });
            }
            "s" => self.push(&" ".repeat(number("c").unwrap_or(1).min(MAX_REPEAT))),
            "tab" => self.push("\t"),
            "line-break" => self.push("\n"),
            "list" => self.lists += 1,
            "note-body" | "annotation" => self.push(" ("),
            "page" if self.form == Form::Slides => self.begin_page(),
            "table" => {
                if self.form == Form::Sheets && self.tables.is_empty() {
                    self.begin_page();
                    self.out.heading(2, &element.attribute("name").unwrap_or_default());
                }
                self.tables.push(Table::default());
            }
            "table-row" => {
                if let Some(table) = self.tables.last_mut() {
                    table.rows.push(Vec::new());
                }
            }
            "table-cell" | "covered-table-cell" => {
                if let Some(table) = self.tables.last_mut() {
                    table.repeat = number("number-columns-repeated").unwrap_or(1);
                    if let Some(row) = table.rows.last_mut() {
                        row.push(String::new());
                    }
                }
            }
            _ => {}
        }
    }

    fn close(&mut self, name: &str) {
        match name {
            "p" | "h" => self.end_paragraph(),
            "list" => self.lists = self.lists.saturating_sub(1),
            "note-body" | "annotation" => self.push(")"),
            "table-cell" | "covered-table-cell" => self.end_cell(),
            "table-row" => {
                // Sheets end in rows of nothing.
                if let Some(table) = self.tables.last_mut() {
                    table.rows.pop_if(|row| row.iter().all(String::is_empty));
                }
            }
            "table" => self.end_table(),
            _ => {}
        }
    }

    fn push(&mut self, text: &str) {
        if let Some(paragraph) = self.paragraphs.last_mut() {
            paragraph.text.push_str(text);
        }
    }

    fn end_paragraph(&mut self) {
        let Some(Paragraph { text, heading }) = self.paragraphs.pop() else { return };
        let text = text.trim();
        if text.is_empty() {
            return;
        }
        if let Some(outer) = self.paragraphs.last_mut() {
            outer.text.push_str(text);
        } else if let Some(cell) = self.tables.last_mut().and_then(|table| table.rows.last_mut()?.last_mut()) {
            if !cell.is_empty() {
                cell.push('\n');
            }
            cell.push_str(text);
        } else if let Some(level) = heading {
            self.out.heading(level, text);
        } else if self.lists > 0 && self.form == Form::Text {
            self.out.item(self.lists - 1, "-", text);
        } else {
            self.out.paragraph(text);
        }
    }

    fn end_cell(&mut self) {
        let Some(table) = self.tables.last_mut() else { return };
        let repeat = std::mem::replace(&mut table.repeat, 1);
        if let Some(row) = table.rows.last_mut()
            && let (Some(cell), 2..=MAX_REPEAT) = (row.last().cloned(), repeat)
        {
            row.extend(std::iter::repeat_n(cell, repeat - 1));
        }
    }

    fn end_table(&mut self) {
        let Some(table) = self.tables.pop() else { return };
        match self.tables.last_mut().and_then(|outer| outer.rows.last_mut()?.last_mut()) {
            Some(cell) => table.rows.iter().for_each(|row| {
                cell.push('\n');
                cell.push_str(&row.join(" "));
            }),
            None if self.form == Form::Sheets => self.out.data(&table.rows),
            None => self.out.table(&table.rows),
        }
    }

    fn begin_page(&mut self) {
        self.end_page();
        self.begun = true;
    }

    fn end_page(&mut self) {
        let text = std::mem::take(&mut self.out).into_text();
        if self.begun {
            self.pages.push(text);
        }
        self.begun = false;
    }
}
