//! Turns tags and text into Markdown blocks.

use html5ever::tokenizer::Tag;

use super::super::markdown::{Markdown, one_line};
use super::skip::{Rules, Skipper};
use super::tags::{attribute, is_block};

/// Lists and tables that are followed into each other; deeper ones are read as text.
const MAX_NESTING: usize = 64;

#[derive(Debug)]
struct List {
    /// The number of the next item; `None`: bullets.
    next: Option<usize>,
}

/// A table that is open. Text inside goes into the markdown of its last cell.
#[derive(Debug, Default)]
struct Table {
    rows: Vec<Vec<Markdown>>,
    /// It holds headings, lists or tables: it lays out a page.
    layout: bool,
    /// Lists that were open outside.
    lists: Vec<List>,
}

#[derive(Debug)]
pub(super) struct Writer {
    skipper: Skipper,
    title: Option<String>,
    in_title: bool,
    out: Markdown,
    inline: String,
    heading: Option<usize>,
    item: Option<(usize, String)>,
    lists: Vec<List>,
    tables: Vec<Table>,
    preformatted: usize,
}

impl Writer {
    pub(super) fn new(rules: Rules) -> Self {
        Self {
            skipper: Skipper::new(rules),
            title: None,
            in_title: false,
            out: Markdown::default(),
            inline: String::new(),
            heading: None,
            item: None,
            lists: Vec::new(),
            tables: Vec::new(),
            preformatted: 0,
        }
    }

    /// The number of the element that is being skipped.
    pub(super) fn unended(&self) -> Option<usize> {
        self.skipper.unended()
    }

    pub(super) fn finish(mut self) -> (Option<String>, Markdown) {
        self.flush();
        while !self.tables.is_empty() {
            self.end_table();
        }
        (self.title.map(|title| one_line(&title)).filter(|title| !title.is_empty()), self.out)
    }

    pub(super) fn text(&mut self, text: &str) {
        if self.in_title {
            return self.title.get_or_insert_default().push_str(text);
        }
        if self.skipper.is_skipping() {
            return;
        }
        if self.preformatted > 0 {
            return self.inline.push_str(text);
        }
        for (index, word) in text.split(|c: char| c.is_ascii_whitespace()).enumerate() {
            if index > 0 && !self.inline.is_empty() && !self.inline.ends_with([' ', '\n']) {
                self.inline.push(' ');
            }
            self.inline.push_str(word);
        }
    }

    pub(super) fn open(&mut self, tag: &Tag) {
        let name = &*tag.name;
        if name == "title" && self.title.is_none() && !self.skipper.is_skipping() {
            self.in_title = !tag.self_closing;
        } else if !self.skipper.skips_start(tag) {
            self.begin(name, tag);
        }
    }

    fn begin(&mut self, name: &str, tag: &Tag) {
        match name {
            "br" => self.line_break(),
            "img" => {
                let alt = attribute(tag, "alt").unwrap_or_default();
                self.text(&format!(" {alt} "));
            }
            "h1" | "h2" | "h3" | "h4" | "h5" | "h6" => {
                self.flush();
                self.heading = name[1..].parse().ok();
                self.mark_layout();
            }
            "ul" | "ol" | "menu" => {
                self.flush();
                let start = attribute(tag, "start").and_then(|start| start.parse().ok()).unwrap_or(1);
                self.lists.push(List { next: (name == "ol").then_some(start) });
            }
            "li" => self.begin_item(),
            "pre" | "listing" | "xmp" => {
                self.flush();
                self.preformatted += 1;
            }
            "table" => {
                self.flush();
                self.mark_layout();
                if self.tables.len() < MAX_NESTING {
                    let lists = std::mem::take(&mut self.lists);
                    self.tables.push(Table { lists, ..Table::default() });
                }
            }
            "tr" => {
                self.flush();
                if let Some(table) = self.tables.last_mut() {
                    table.rows.push(Vec::new());
                }
            }
            "td" | "th" => self.begin_cell(),
            name if is_block(name) && self.preformatted == 0 => self.flush(),
            _ => {}
        }
    }

    pub(super) fn close(&mut self, name: &str) {
        if name == "title" && self.in_title {
            self.in_title = false;
            return;
        }
        if self.skipper.skips_end(name) {
            return;
        }
        match name {
            "ul" | "ol" | "menu" => {
                self.flush();
                self.lists.pop();
            }
            "pre" | "listing" | "xmp" => {
                self.flush();
                self.preformatted = self.preformatted.saturating_sub(1);
            }
            "table" => {
                self.flush();
                self.end_table();
            }
            // What an empty one opened must not fall to the block after it.
            "li" | "h1" | "h2" | "h3" | "h4" | "h5" | "h6" if self.preformatted == 0 => {
                self.flush();
                (self.heading, self.item) = (None, None);
            }
            name if is_block(name) && self.preformatted == 0 => self.flush(),
            _ => {}
        }
    }

    fn line_break(&mut self) {
        let trimmed = self.inline.trim_end_matches(' ').len();
        self.inline.truncate(trimmed);
        self.inline.push('\n');
    }

    fn begin_item(&mut self) {
        self.flush();
        let depth = self.lists.len().saturating_sub(1);
        let marker = match self.lists.last_mut() {
            Some(List { next: Some(number) }) => {
                *number += 1;
                format!("{}.", *number - 1)
            }
            _ => "-".to_owned(),
        };
        self.item = Some((depth, marker));
    }

    fn begin_cell(&mut self) {
        self.flush();
        if let Some(table) = self.tables.last_mut() {
            if table.rows.is_empty() {
                table.rows.push(Vec::new());
            }
            if let Some(row) = table.rows.last_mut() {
                row.push(Markdown::default());
            }
        }
    }

    fn mark_layout(&mut self) {
        if let Some(table) = self.tables.last_mut() {
            table.layout = true;
        }
    }

    /// Where blocks go: the open cell, or the page.
    fn target(&mut self) -> &mut Markdown {
        let cell = self.tables.last_mut().and_then(|table| table.rows.last_mut()?.last_mut());
        cell.unwrap_or(&mut self.out)
    }

    /// Ends the open block.
    fn flush(&mut self) {
        let text = std::mem::take(&mut self.inline);
        if self.preformatted > 0 {
            return self.target().code(&text);
        }
        let text = text.trim();
        if text.is_empty() {
            return;
        }
        let (heading, item) = (self.heading.take(), self.item.take());
        let in_list = !self.lists.is_empty();
        let depth = self.lists.len();
        let target = self.target();
        match (heading, item) {
            (Some(level), _) => target.heading(level, text),
            (None, Some((depth, marker))) => target.item(depth, &marker, text),
            // A second block of an item.
            (None, None) if in_list => target.item(depth, "-", text),
            (None, None) => target.paragraph(text),
        }
    }

    fn end_table(&mut self) {
        let Some(table) = self.tables.pop() else { return };
        self.lists = table.lists;
        let columns = table.rows.iter().map(Vec::len).max().unwrap_or(0);
        if table.layout || columns < 2 {
            let target = self.target();
            table.rows.into_iter().flatten().for_each(|cell| target.append(cell));
            return;
        }
        let rows = table
            .rows
            .into_iter()
            .map(|row| row.into_iter().map(Markdown::into_text).collect::<Vec<_>>())
            .filter(|row| !row.is_empty())
            .collect::<Vec<_>>();
        self.target().table(&rows);
    }
}
