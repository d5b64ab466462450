//! Presentations: one page per slide, in the order of the show: title, text, tables, charts, notes, comments.

use std::collections::HashMap;

use super::docx::core_title;
use super::failure::{Reading, malformed};
use super::markdown::Markdown;
use super::package::Package;
use super::read::Draft;
use super::xml::{self, Element, Node, Xml};

const MEDIA_TYPE: &str = "application/vnd.openxmlformats-officedocument.presentationml.presentation";

pub(super) fn read(bytes: &[u8]) -> Reading<Draft> {
    let mut package = Package::open(bytes)?;
    let main = "ppt/presentation.xml";
    let presentation = package.xml(main)?.ok_or_else(|| malformed("its main part is missing"))?;
    let relations = relations(&mut package, main)?;
    let mut draft = Draft { media_type: MEDIA_TYPE, markdown: true, paged: true, ..Draft::default() };
    for id in slide_ids(&presentation)? {
        let Some((_, path)) = relations.get(&id) else { continue };
        draft.pages.push(slide(&mut package, path)?);
    }
    draft.title = core_title(&mut package)?.filter(|title| title != "PowerPoint Presentation");
    Ok(draft)
}

fn slide_ids(presentation: &str) -> Reading<Vec<String>> {
    let mut reader = Xml::new(presentation, "ppt/presentation.xml");
    let mut ids = Vec::new();
    while let Some(node) = reader.next()? {
        if let Node::Open(element) = node
            && element.name() == "sldId"
        {
            ids.extend(element.prefixed("id"));
        }
    }
    Ok(ids)
}

fn slide(package: &mut Package<'_>, path: &str) -> Reading<String> {
    let Some(text) = package.xml(path)? else { return Ok(String::new()) };
    let mut markdown = Shapes::default().read(&text, path, false)?;
    let mut related = relations(package, path)?.into_values().collect::<Vec<_>>();
    related.sort();
    for (kind, target) in related {
        let part = match kind.as_str() {
            "notesSlide" | "chart" | "diagramData" | "comments" | "comment" => {
                package.xml(&target)?.unwrap_or_default()
            }
            _ => continue,
        };
        match kind.as_str() {
            "notesSlide" => markdown.append(Shapes::default().read(&part, &target, true)?),
            // Axis labels and names of series; the numbers say little without them and much noise with them.
            "chart" | "diagramData" => {
                xml::texts_of(&part, &target, "t")?.iter().for_each(|text| markdown.paragraph(text));
                xml::texts_of(&part, &target, "strCache")?.iter().for_each(|text| markdown.paragraph(text));
            }
            _ => {
                let element = if kind == "comments" && part.contains("<p:text") { "text" } else { "t" };
                xml::texts_of(&part, &target, element)?.iter().for_each(|text| markdown.paragraph(text));
            }
        }
    }
    Ok(markdown.into_text())
}

/// The relationships of a part: id → (kind, path in the package). External targets are left out.
fn relations(package: &mut Package<'_>, part: &str) -> Reading<HashMap<String, (String, String)>> {
    let (folder, file) = part.rsplit_once('/').unwrap_or(("", part));
    let name = format!("{folder}/_rels/{file}.rels");
    let text = package.xml(&name)?.unwrap_or_default();
    let mut reader = Xml::new(&text, &name);
    let mut relations = HashMap::new();
    while let Some(node) = reader.next()? {
        let Node::Open(element) = node else { continue };
        if element.name() != "Relationship" || element.attribute("TargetMode").as_deref() == Some("External") {
            continue;
        }
        let kind = element.attribute("Type").unwrap_or_default();
        let kind = kind.rsplit('/').next().unwrap_or_default().to_owned();
        let target = resolve(folder, &element.attribute("Target").unwrap_or_default());
        relations.insert(element.attribute("Id").unwrap_or_default(), (kind, target));
    }
    Ok(relations)
}

/// A target relative to the folder of the part that names it.
pub(super) fn resolve(folder: &str, target: &str) -> String {
    if let Some(absolute) = target.strip_prefix('/') {
        return absolute.to_owned();
    }
    let mut path = folder.split('/').filter(|step| !step.is_empty()).collect::<Vec<_>>();
    for step in target.split('/') {
        match step {
            ".." => drop(path.pop()),
            "" | "." => {}
            step => path.push(step),
        }
    }
    path.join("/")
}

/// Reads the shapes of a slide or of its notes.
#[derive(Debug, Default)]
struct Shapes {
    out: Markdown,
    /// What the shape is: `title`, `body`, `sldNum` …
    placeholder: String,
    paragraph: String,
    /// Paragraphs of the shape so far.
    shape: Vec<String>,
    table: Option<Vec<Vec<String>>>,
    skipped: usize,
    in_text: bool,
}

impl Shapes {
    fn read(mut self, xml: &str, part: &str, notes: bool) -> Reading<Markdown> {
        let mut reader = Xml::new(xml, part);
        while let Some(node) = reader.next()? {
            match node {
                Node::Open(element) if element.name() == "Fallback" => self.skipped += 1,
                Node::Close(element) if element.name() == "Fallback" => self.skipped = self.skipped.saturating_sub(1),
                _ if self.skipped > 0 => {}
                Node::Open(element) => self.open(&element),
                Node::Close(element) => self.close(element.name(), notes),
                Node::Text(text) if self.in_text => self.paragraph.push_str(&text),
                Node::Text(_) => {}
            }
        }
        Ok(self.out)
    }

    fn open(&mut self, element: &Element<'_>) {
        match element.name() {
            "sp" => {
                self.placeholder.clear();
                self.shape.clear();
            }
            "ph" => self.placeholder = element.attribute("type").unwrap_or_else(|| "body".to_owned()),
            "t" => self.in_text = true,
            "br" => self.paragraph.push('\n'),
            "tab" => self.paragraph.push('\t'),
            "tbl" => self.table = Some(Vec::new()),
            "tr" => {
                if let Some(table) = &mut self.table {
                    table.push(Vec::new());
                }
            }
            "tc" => {
                if let Some(row) = self.table.as_mut().and_then(|table| table.last_mut()) {
                    row.push(String::new());
                }
            }
            _ => {}
        }
    }

    fn close(&mut self, name: &str, notes: bool) {
        match name {
            "t" => self.in_text = false,
            "p" => self.end_paragraph(),
            "tbl" => {
                let rows = self.table.take().unwrap_or_default();
                self.out.table(&rows);
            }
            "sp" => self.end_shape(notes),
            _ => {}
        }
    }

    fn end_paragraph(&mut self) {
        let text = std::mem::take(&mut self.paragraph);
        if text.trim().is_empty() {
            return;
        }
        match self.table.as_mut().and_then(|table| table.last_mut()?.last_mut()) {
            Some(cell) => {
                cell.push_str(text.trim());
                cell.push('\n');
            }
            None => self.shape.push(text.trim().to_owned()),
        }
    }

    fn end_shape(&mut self, notes: bool) {
        let text = std::mem::take(&mut self.shape).join("\n");
        match self.placeholder.as_str() {
            // Repeated on every slide.
            "sldNum" | "dt" | "ftr" | "hdr" | "sldImg" => {}
            "title" | "ctrTitle" if !notes => self.out.heading(2, &text),
            _ => self.out.paragraph(&text),
        }
        self.placeholder.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::resolve;

    #[test]
    fn targets_are_relative_to_their_part() {
        assert_eq!(resolve("ppt/slides", "../notesSlides/notesSlide1.xml"), "ppt/notesSlides/notesSlide1.xml");
        assert_eq!(resolve("ppt", "/ppt/slides/slide1.xml"), "ppt/slides/slide1.xml");
        assert_eq!(resolve("ppt", "../../../x.xml"), "x.xml");
    }
}
