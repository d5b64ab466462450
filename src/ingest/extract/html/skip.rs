//! What of a page is no text of it: scripts, navigation, what is hidden.

use html5ever::tokenizer::Tag;

use super::tags::attribute;

/// Elements whose content is not markup: what is in one that does not end is never text.
const RAW: [&str; 6] = ["script", "style", "iframe", "noembed", "noframes", "title"];

/// Other elements with content that is no text of the page.
const DROPPED: [&str; 8] = ["noscript", "template", "svg", "object", "select", "datalist", "audio", "video"];

/// Elements that must have an end tag, so that a hidden one can be skipped to its end.
const CONTAINERS: [&str; 12] =
    ["div", "section", "article", "aside", "span", "ul", "ol", "table", "nav", "form", "figure", "details"];

/// What is to be left out of a page. Elements that are skipped are known by their number, in order.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    pub(super) drop_navigation: bool,
    /// Elements that are read although they would be skipped, ascending: they have no end.
    pub(super) shown: Vec<usize>,
    /// From this one on only raw elements are skipped.
    pub(super) shown_from: usize,
}

impl Rules {
    pub(super) fn new(drop_navigation: bool) -> Self {
        Self { drop_navigation, shown: Vec::new(), shown_from: usize::MAX }
    }
}

/// The element that is being skipped.
#[derive(Debug)]
struct Open {
    name: String,
    /// How many of its name are open.
    depth: usize,
    /// `None`: it is raw.
    number: Option<usize>,
}

/// Follows the tags of a page, and says which are left out.
#[derive(Debug)]
pub(super) struct Skipper {
    rules: Rules,
    /// How many elements were to be skipped, raw ones not counted.
    met: usize,
    open: Option<Open>,
}

impl Skipper {
    pub(super) fn new(rules: Rules) -> Self {
        Self { rules, met: 0, open: None }
    }

    pub(super) fn is_skipping(&self) -> bool {
        self.open.is_some()
    }

    /// Whether a start tag is left out.
    pub(super) fn skips_start(&mut self, tag: &Tag) -> bool {
        let name = &*tag.name;
        if let Some(open) = &mut self.open {
            open.depth += usize::from(open.name == name && !tag.self_closing);
            return true;
        }
        let is_raw = RAW.contains(&name);
        if !is_raw && !self.is_dropped(tag) {
            return false;
        }
        if tag.self_closing {
            return true;
        }
        let number = (!is_raw).then_some(self.met);
        self.met += usize::from(!is_raw);
        if number.is_some_and(|number| number >= self.rules.shown_from || self.rules.shown.contains(&number)) {
            return false;
        }
        self.open = Some(Open { name: name.to_owned(), depth: 1, number });
        true
    }

    /// Whether an end tag is left out.
    pub(super) fn skips_end(&mut self, name: &str) -> bool {
        let Some(open) = &mut self.open else { return false };
        open.depth -= usize::from(open.name == name);
        if open.depth == 0 {
            self.open = None;
        }
        true
    }

    /// The element that was being skipped when the page ended: what comes after it may be text.
    pub(super) fn unended(&self) -> Option<usize> {
        self.open.as_ref()?.number
    }

    fn is_dropped(&self, tag: &Tag) -> bool {
        let name = &*tag.name;
        if DROPPED.contains(&name) {
            return true;
        }
        if !CONTAINERS.contains(&name) {
            return false;
        }
        let hidden = attribute(tag, "hidden").is_some()
            || attribute(tag, "style").is_some_and(|style| {
                let style = style.replace(' ', "").to_lowercase();
                style.contains("display:none") || style.contains("visibility:hidden")
            });
        let navigation = name == "nav" || attribute(tag, "role").as_deref() == Some("navigation");
        hidden || (self.rules.drop_navigation && navigation)
    }
}
