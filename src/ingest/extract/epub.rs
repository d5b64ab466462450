//! E-books: the documents of the spine, in reading order, each read as HTML.

use std::collections::HashMap;

use percent_encoding::percent_decode_str;

use super::failure::{Reading, malformed};
use super::package::Package;
use super::pptx::resolve;
use super::read::Draft;
use super::xml::{Node, Xml};
use super::{decode, html};

pub(super) fn read(bytes: &[u8]) -> Reading<Draft> {
    let mut package = Package::open(bytes)?;
    let container =
        package.xml("META-INF/container.xml")?.ok_or_else(|| malformed("it does not say where its text is"))?;
    let root = root_file(&container)?.ok_or_else(|| malformed("it does not say where its text is"))?;
    let book = package.xml(&root)?.ok_or_else(|| malformed("its table of contents is missing"))?;
    let book = Book::parse(&book, &root)?;
    let folder = root.rsplit_once('/').map_or("", |(folder, _)| folder);
    let (mut texts, mut found) = (Vec::new(), false);
    for target in book.spine.iter().filter_map(|id| book.manifest.get(id)) {
        let Some(chapter) = part(&mut package, folder, target)? else { continue };
        found = true;
        let chapter = html::read(&decode::xml(chapter)).pages.concat();
        if !chapter.is_empty() {
            texts.push(chapter);
        }
    }
    if !found {
        return Err(malformed("none of its chapters is in it"));
    }
    let text = texts.join("\n\n");
    Ok(Draft { media_type: "application/epub+zip", title: book.title, markdown: true, pages: vec![text], paged: false })
}

/// The part that a link names. Links are percent-encoded, but some writers put names as they are.
fn part(package: &mut Package<'_>, folder: &str, link: &str) -> Reading<Option<Vec<u8>>> {
    let path = link.split('#').next().unwrap_or_default();
    let decoded = percent_decode_str(path).decode_utf8_lossy();
    for name in [&*decoded, path, link] {
        if let Some(bytes) = package.bytes(&resolve(folder, name))? {
            return Ok(Some(bytes));
        }
    }
    Ok(None)
}

fn root_file(container: &str) -> Reading<Option<String>> {
    let mut reader = Xml::new(container, "META-INF/container.xml");
    while let Some(node) = reader.next()? {
        if let Node::Open(element) = node
            && element.name() == "rootfile"
        {
            return Ok(element.attribute("full-path"));
        }
    }
    Ok(None)
}

#[derive(Debug, Default)]
struct Book {
    title: Option<String>,
    /// Where each item is.
    manifest: HashMap<String, String>,
    /// Items in reading order.
    spine: Vec<String>,
}

impl Book {
    fn parse(xml: &str, part: &str) -> Reading<Self> {
        let mut book = Self::default();
        let mut reader = Xml::new(xml, part);
        let mut in_title = false;
        while let Some(node) = reader.next()? {
            match node {
                Node::Open(element) => match element.name() {
                    "title" => in_title = book.title.is_none(),
                    "item" => {
                        let id = element.attribute("id").unwrap_or_default();
                        book.manifest.insert(id, element.attribute("href").unwrap_or_default());
                    }
                    "itemref" => book.spine.extend(element.attribute("idref")),
                    _ => {}
                },
                Node::Close(element) if element.name() == "title" => in_title = false,
                Node::Text(text) if in_title => book.title.get_or_insert_default().push_str(&text),
                _ => {}
            }
        }
        Ok(book)
    }
}
