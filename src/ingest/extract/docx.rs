//! Word documents: body with headings, lists and tables, notes, comments, headers and footers.

mod body;
mod styles;

use super::failure::{Reading, malformed};
use super::markdown::Markdown;
use super::package::Package;
use super::read::Draft;
use super::xml::{self, Node, Xml};
use body::Body;
use styles::{Numbering, Styles};

const MEDIA_TYPE: &str = "application/vnd.openxmlformats-officedocument.wordprocessingml.document";

pub(super) fn read(bytes: &[u8]) -> Reading<Draft> {
    let mut package = Package::open(bytes)?;
    let main = main_part(&mut package)?.unwrap_or_else(|| "word/document.xml".to_owned());
    let document = package.xml(&main)?.ok_or_else(|| malformed("its main part is missing"))?;
    let styles = Styles::parse(&package.xml("word/styles.xml")?.unwrap_or_default())?;
    let numbering = Numbering::parse(&package.xml("word/numbering.xml")?.unwrap_or_default())?;
    let mut context = Body::new(&styles, &numbering);

    let mut markdown = Markdown::default();
    for text in running(&mut package, &mut context, "word/header")? {
        markdown.paragraph(&text);
    }
    markdown.append(context.read(&document, &main)?);
    let styled_title = context.title.take();
    for (part, element) in [("word/footnotes.xml", "footnote"), ("word/endnotes.xml", "endnote")] {
        for note in notes(&package.xml(part)?.unwrap_or_default(), part, element)? {
            markdown.paragraph(&note);
        }
    }
    for comment in comments(&package.xml("word/comments.xml")?.unwrap_or_default())? {
        markdown.paragraph(&comment);
    }
    for text in running(&mut package, &mut context, "word/footer")? {
        markdown.paragraph(&text);
    }
    let title = core_title(&mut package)?.or(styled_title);
    Ok(Draft { media_type: MEDIA_TYPE, title, markdown: true, pages: vec![markdown.into_text()], paged: false })
}

/// Where the package's relationships say the document is.
fn main_part(package: &mut Package<'_>) -> Reading<Option<String>> {
    let relations = package.xml("_rels/.rels")?.unwrap_or_default();
    let mut reader = Xml::new(&relations, "_rels/.rels");
    while let Some(node) = reader.next()? {
        if let Node::Open(element) = node
            && element.attribute("Type").is_some_and(|kind| kind.ends_with("/officeDocument"))
        {
            return Ok(element.attribute("Target").filter(|target| package.has(target)));
        }
    }
    Ok(None)
}

/// The title among an office package's properties, without what a printer driver puts before it.
pub(super) fn core_title(package: &mut Package<'_>) -> Reading<Option<String>> {
    let properties = package.xml("docProps/core.xml")?.unwrap_or_default();
    let title = xml::texts_of(&properties, "docProps/core.xml", "title").unwrap_or_default().into_iter().next();
    let title = title.map(|title| title.trim().trim_start_matches("Microsoft Word - ").to_owned());
    Ok(title.filter(|title| !title.is_empty()))
}

/// Headers or footers: each text once, for every section repeats them.
fn running(package: &mut Package<'_>, context: &mut Body<'_>, start: &str) -> Reading<Vec<String>> {
    let mut names = package
        .names()
        .filter(|name| name.starts_with(start) && name.ends_with(".xml"))
        .map(str::to_owned)
        .collect::<Vec<_>>();
    names.sort();
    let mut texts = Vec::new();
    for name in names {
        let part = package.xml(&name)?.unwrap_or_default();
        let text = context.read(&part, &name)?.into_text();
        // A page number alone is no text.
        if text.chars().any(char::is_alphabetic) && !texts.contains(&text) {
            texts.push(text);
        }
    }
    Ok(texts)
}

/// `[^3]: …` for every footnote or endnote that is one; the separators have a type.
fn notes(xml: &str, part: &str, wanted: &str) -> Reading<Vec<String>> {
    let mut reader = Xml::new(xml, part);
    let (mut notes, mut current) = (Vec::new(), None::<(String, String)>);
    let mut in_text = false;
    while let Some(node) = reader.next()? {
        match node {
            Node::Open(element) if element.name() == wanted && element.attribute("type").is_none() => {
                current = Some((element.attribute("id").unwrap_or_default(), String::new()));
            }
            Node::Close(element) if element.name() == wanted => {
                let note = current.take().filter(|(_, text)| !text.trim().is_empty());
                notes.extend(note.map(|(id, text)| format!("[^{id}]: {}", text.trim())));
            }
            Node::Open(element) => in_text = element.name() == "t",
            Node::Close(element) => {
                in_text = false;
                if let ("p" | "tab" | "br", Some((_, text))) = (element.name(), &mut current) {
                    text.push(' ');
                }
            }
            Node::Text(piece) if in_text => {
                if let Some((_, text)) = &mut current {
                    text.push_str(&piece);
                }
            }
            Node::Text(_) => {}
        }
    }
    Ok(notes)
}

/// `Comment (author): …`
fn comments(xml: &str) -> Reading<Vec<String>> {
    let mut authors = Vec::new();
    let mut reader = Xml::new(xml, "word/comments.xml");
    while let Some(node) = reader.next()? {
        if let Node::Open(element) = node
            && element.name() == "comment"
        {
            authors.push(element.attribute("author").unwrap_or_default());
        }
    }
    let texts = xml::texts_of(xml, "word/comments.xml", "comment")?;
    Ok(std::iter::zip(authors, texts)
        .filter(|(_, text)| !text.trim().is_empty())
        .map(|(author, text)| format!("Comment ({author}): {}", text.trim()))
        .collect())
}
