//! A pull reader of XML that knows elements by local name, never expands entities, and never recurses.

use std::borrow::Cow;

use quick_xml::Reader;
use quick_xml::events::{BytesEnd, BytesRef, BytesStart, Event};

use super::failure::{Reading, malformed};

pub(super) enum Node<'a> {
    Open(Element<'a>),
    /// An empty element opens and closes too.
    Close(Closed<'a>),
    Text(Cow<'a, str>),
}

pub(super) struct Element<'a>(BytesStart<'a>);

pub(super) struct Closed<'a>(BytesEnd<'a>);

impl Closed<'_> {
    pub(super) fn name(&self) -> &str {
        std::str::from_utf8(self.0.local_name().into_inner()).unwrap_or_default()
    }
}

impl Element<'_> {
    pub(super) fn name(&self) -> &str {
        std::str::from_utf8(self.0.local_name().into_inner()).unwrap_or_default()
    }

    /// An attribute by its local name; the first, if several differ by prefix only.
    pub(super) fn attribute(&self, local: &str) -> Option<String> {
        self.find(|key| key.rsplit(|byte| *byte == b':').next() == Some(local.as_bytes()))
    }

    /// An attribute that has a prefix, by its local name, where one without a prefix means something else
    /// (`r:id` beside `id`).
    pub(super) fn prefixed(&self, local: &str) -> Option<String> {
        self.find(|key| key.strip_suffix(local.as_bytes()).is_some_and(|prefix| prefix.ends_with(b":")))
    }

    fn find(&self, wanted: impl Fn(&[u8]) -> bool) -> Option<String> {
        let mut attributes = self.0.attributes();
        let attribute = attributes.with_checks(false).flatten().find(|attribute| wanted(attribute.key.into_inner()))?;
        let raw = String::from_utf8_lossy(&attribute.value);
        Some(match quick_xml::escape::unescape(&raw) {
            Ok(text) => text.into_owned(),
            Err(_unknown_entity) => raw.clone().into_owned(),
        })
    }
}

pub(super) struct Xml<'a> {
    reader: Reader<&'a [u8]>,
    part: &'a str,
}

impl<'a> Xml<'a> {
    /// Reads `text`; `part` names it in messages.
    pub(super) fn new(text: &'a str, part: &'a str) -> Self {
        let mut reader = Reader::from_str(text);
        let config = reader.config_mut();
        config.expand_empty_elements = true;
        config.allow_dangling_amp = true;
        Self { reader, part }
    }

    pub(super) fn next(&mut self) -> Reading<Option<Node<'a>>> {
        loop {
            let event = self.reader.read_event().map_err(|error| malformed(format_args!("{}: {error}", self.part)))?;
            return Ok(Some(match event {
                Event::Start(start) => Node::Open(Element(start)),
                Event::End(end) => Node::Close(Closed(end)),
                Event::Text(text) => Node::Text(text.xml10_content().unwrap_or_default()),
                Event::CData(text) => Node::Text(text.xml10_content().unwrap_or_default()),
                Event::GeneralRef(reference) => match resolve(&reference) {
                    Some(text) => Node::Text(text),
                    None => continue,
                },
                Event::Eof => return Ok(None),
                Event::Empty(_) | Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => continue,
            }));
        }
    }
}

/// A character reference or one of XML's five entities; any other reads as nothing.
fn resolve(reference: &BytesRef<'_>) -> Option<Cow<'static, str>> {
    if let Ok(Some(character)) = reference.resolve_char_ref() {
        return Some(Cow::Owned(character.to_string()));
    }
    let name = reference.decode().ok()?;
    quick_xml::escape::resolve_predefined_entity(&name).map(Cow::Borrowed)
}

/// All text of the elements called `local`, one string per element, in order.
pub(super) fn texts_of(xml: &str, part: &str, local: &str) -> Reading<Vec<String>> {
    let mut reader = Xml::new(xml, part);
    let (mut all, mut depth) = (Vec::new(), 0_usize);
    while let Some(node) = reader.next()? {
        match node {
            Node::Open(element) if element.name() == local => {
                if depth == 0 {
                    all.push(String::new());
                }
                depth += 1;
            }
            Node::Close(element) if element.name() == local => depth = depth.saturating_sub(1),
            Node::Text(text) if depth > 0 => {
                if let Some(last) = all.last_mut() {
                    last.push_str(&text);
                }
            }
            _ => {}
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entities_read_as_nothing_and_references_as_their_character() {
        let xml = r#"<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]><a><t>x&e;y &lt;&#65;</t><t/></a>"#;
        assert_eq!(texts_of(xml, "part", "t").unwrap(), ["xy <A", ""]);
    }

    #[test]
    fn a_prefixed_attribute_is_told_from_a_bare_one() {
        let mut xml = Xml::new(r#"<a id="1" r:id="2"/>"#, "part");
        let Some(Node::Open(element)) = xml.next().unwrap() else { panic!("an element") };
        assert_eq!(element.attribute("id").as_deref(), Some("1"));
        assert_eq!(element.prefixed("id").as_deref(), Some("2"));
    }
}
