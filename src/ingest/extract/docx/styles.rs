//! Which styles are headings, and which lists are numbered.

use std::collections::HashMap;

use super::super::failure::Reading;
use super::super::xml::{Node, Xml};

/// What a paragraph style means for structure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Title,
    /// From 1.
    Heading(usize),
}

#[derive(Debug, Default)]
struct Style {
    role: Option<Role>,
    based_on: Option<String>,
    numbering: Option<String>,
}

#[derive(Debug, Default)]
pub(super) struct Styles(HashMap<String, Style>);

impl Styles {
    pub(super) fn parse(xml: &str) -> Reading<Self> {
        let mut styles = HashMap::<String, Style>::new();
        let mut reader = Xml::new(xml, "word/styles.xml");
        let mut current = None::<(String, Style)>;
        while let Some(node) = reader.next()? {
            match node {
                Node::Open(element) if element.name() == "style" => {
                    current = Some((element.attribute("styleId").unwrap_or_default(), Style::default()));
                }
                Node::Open(element) => {
                    let Some((_, style)) = &mut current else { continue };
                    let value = || element.attribute("val").unwrap_or_default();
                    match element.name() {
                        "name" => style.role = role_of_name(&value()).or(style.role),
                        "basedOn" => style.based_on = Some(value()),
                        "numId" => style.numbering = Some(value()),
                        "outlineLvl" => style.role = style.role.or(outline(&value())),
                        _ => {}
                    }
                }
                Node::Close(element) if element.name() == "style" => styles.extend(current.take()),
                _ => {}
            }
        }
        Ok(Self(styles))
    }

    /// The role of a style, inherited if need be.
    pub(super) fn role(&self, id: &str) -> Option<Role> {
        self.inherited(id, |style| style.role).or_else(|| role_of_name(id))
    }

    /// The list that a style belongs to.
    pub(super) fn numbering(&self, id: &str) -> Option<String> {
        self.inherited(id, |style| style.numbering.clone())
    }

    fn inherited<T>(&self, id: &str, get: impl Fn(&Style) -> Option<T>) -> Option<T> {
        // A chain that is longer is a circle.
        let chain = std::iter::successors(self.0.get(id), |style| self.0.get(style.based_on.as_deref()?));
        chain.take(16).find_map(get)
    }
}

/// Names are the same in every language's Word: `heading 1`, `Title`.
fn role_of_name(name: &str) -> Option<Role> {
    let name = name.to_lowercase();
    if name == "title" {
        return Some(Role::Title);
    }
    let level = name.strip_prefix("heading")?.trim().parse::<usize>().ok()?;
    (1..=9).contains(&level).then_some(Role::Heading(level))
}

/// `0` to `8`; `9` is body text.
pub(super) fn outline(value: &str) -> Option<Role> {
    value.parse::<usize>().ok().filter(|level| *level < 9).map(|level| Role::Heading(level + 1))
}

#[derive(Debug, Default)]
pub(super) struct Numbering {
    /// Levels with numbers (not bullets), by abstract list.
    numbered: HashMap<String, Vec<usize>>,
    abstracts: HashMap<String, String>,
}

impl Numbering {
    pub(super) fn parse(xml: &str) -> Reading<Self> {
        let mut numbering = Self::default();
        let mut reader = Xml::new(xml, "word/numbering.xml");
        let (mut list, mut instance, mut level) = (String::new(), String::new(), 0);
        while let Some(node) = reader.next()? {
            let Node::Open(element) = node else { continue };
            match element.name() {
                "abstractNum" => list = element.attribute("abstractNumId").unwrap_or_default(),
                "lvl" => level = element.attribute("ilvl").and_then(|level| level.parse().ok()).unwrap_or(0),
                "numFmt" if !matches!(element.attribute("val").as_deref(), Some("bullet" | "none") | None) => {
                    numbering.numbered.entry(list.clone()).or_default().push(level);
                }
                "num" => instance = element.attribute("numId").unwrap_or_default(),
                "abstractNumId" => {
                    let target = element.attribute("val").unwrap_or_default();
                    numbering.abstracts.insert(instance.clone(), target);
                }
                _ => {}
            }
        }
        Ok(numbering)
    }

    pub(super) fn is_numbered(&self, list: &str, level: usize) -> bool {
        let levels = self.abstracts.get(list).and_then(|list| self.numbered.get(list));
        levels.is_some_and(|levels| levels.contains(&level))
    }
}
