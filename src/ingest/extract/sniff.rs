//! What a file is: by content first; by name and declared type only where content cannot tell (csv, Markdown, plain).

mod signature;

use super::failure::{Reading, encrypted, malformed, no_text, too_large, unsupported};
use super::package::{self, Package};
use super::read::Hints;

/// What is read here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Pdf,
    Docx,
    Pptx,
    /// Any workbook but OpenDocument's.
    Workbook,
    OpenDocument,
    Epub,
    Rtf,
    Gzip,
    Html,
    Mail,
    Csv,
    Markdown,
    Plain,
}

/// The kind of `bytes`, or why it is none.
pub(super) fn kind(bytes: &[u8], hints: &Hints) -> Reading<Kind> {
    let claim = Claim::of(hints);
    if bytes.is_empty() {
        return Err(if claim == Claim::Text { no_text() } else { malformed("it is empty") });
    }
    if bytes.starts_with(b"%PDF-") || (claim == Claim::Pdf && contains(&bytes[..bytes.len().min(1_024)], b"%PDF-")) {
        return Ok(Kind::Pdf);
    }
    if bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"PK\x05\x06") || bytes.starts_with(b"PK\x07\x08") {
        return zip(bytes, claim);
    }
    if bytes.starts_with(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1") {
        return compound(bytes);
    }
    if bytes.starts_with(b"{\\rtf") {
        return Ok(Kind::Rtf);
    }
    if bytes.starts_with(b"\x1f\x8b") {
        return Ok(Kind::Gzip);
    }
    if let Some(name) = signature::name(bytes) {
        return Err(unsupported(name));
    }
    if let Claim::Pdf | Claim::Package = claim {
        return Err(malformed("its content is of another kind"));
    }
    Ok(text(bytes, hints))
}

/// What name and declared type say, as far as it matters when content says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Claim {
    Pdf,
    /// A zip package with a document in it.
    Package,
    Text,
    Nothing,
}

impl Claim {
    fn of(hints: &Hints) -> Self {
        match (hints.extension().as_str(), hints.media_type().as_str()) {
            ("pdf", _) | ("", "application/pdf") => Self::Pdf,
            ("docx" | "docm" | "pptx" | "pptm" | "xlsx" | "xlsm" | "xlsb" | "odt" | "ods" | "odp" | "epub", _) => {
                Self::Package
            }
            ("txt" | "md" | "csv" | "tsv" | "html" | "htm" | "eml", _) => Self::Text,
            ("", media_type) if media_type.starts_with("text/") => Self::Text,
            _ => Self::Nothing,
        }
    }
}

fn zip(bytes: &[u8], claim: Claim) -> Reading<Kind> {
    let mut package = Package::open(bytes)?;
    let survey = package.survey()?;
    if survey.encrypted || is_sealed(&mut package)? {
        return Err(encrypted());
    }
    // A mimetype member, first and stored, is how OpenDocument and EPUB say what they are.
    let media_type = match package.has("mimetype") {
        true => package.bytes("mimetype")?.map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned()),
        false => None,
    };
    match media_type.as_deref() {
        Some("application/epub+zip") => return Ok(Kind::Epub),
        Some(name) if name.starts_with("application/vnd.oasis.opendocument.") => return Ok(Kind::OpenDocument),
        _ => {}
    }
    let holds = |part: &str| package.names().any(|name| name.starts_with(part));
    let office = package.has("[content_types].xml") || package.has("_rels/.rels");
    match () {
        () if office && holds("word/") => Ok(Kind::Docx),
        () if office && holds("ppt/") => Ok(Kind::Pptx),
        () if office && holds("xl/") => Ok(Kind::Workbook),
        () if package.has("meta-inf/container.xml") => Ok(Kind::Epub),
        () if package.has("content.xml") && package.has("meta-inf/manifest.xml") => Ok(Kind::OpenDocument),
        () if claim == Claim::Package => Err(malformed("the document inside the package is missing")),
        () if survey.unpacked > package::allowance(bytes.len()) => Err(package::over_allowance()),
        () if package.names().any(is_archive_name) => {
            Err(too_large("an archive inside an archive may unpack without end"))
        }
        () => Err(unsupported("an archive")),
    }
}

/// Whether an OpenDocument package is encrypted, or an EPUB's text is (a font alone does not matter).
fn is_sealed(package: &mut Package<'_>) -> Reading<bool> {
    if let Some(manifest) = package.xml("META-INF/manifest.xml")? {
        return Ok(manifest.contains("encryption-data"));
    }
    let Some(sealed) = package.xml("META-INF/encryption.xml")? else {
        return Ok(false);
    };
    let sealed = sealed.to_lowercase();
    Ok([".xhtml\"", ".html\"", ".htm\""].iter().any(|end| sealed.contains(end)))
}

/// OLE compound files: encrypted new office files, and the old ones. Stream names are UTF-16.
fn compound(bytes: &[u8]) -> Reading<Kind> {
    let has = |name: &str| contains(bytes, &name.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>());
    match () {
        () if has("EncryptedPackage") => Err(encrypted()),
        () if has("WordDocument") => Err(unsupported("an old Word document (.doc; save it as .docx)")),
        () if has("PowerPoint Document") => Err(unsupported("an old PowerPoint file (.ppt; save it as .pptx)")),
        () if has("Workbook") || has("Book") => Ok(Kind::Workbook),
        () if has("__substg1.0") => Err(unsupported("an Outlook message (.msg; save it as .eml)")),
        () => Err(unsupported("an old office file")),
    }
}

/// Whether bytes that came out of an archive are an archive again.
pub(super) fn is_archive(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\x1f\x8b") || signature::name(bytes) == Some("an archive")
}

fn is_archive_name(name: &str) -> bool {
    let end = name.rsplit('.').next().unwrap_or_default();
    ["zip", "gz", "tgz", "bz2", "xz", "7z", "rar", "zst", "tar"].contains(&end)
}

fn text(bytes: &[u8], hints: &Hints) -> Kind {
    // UTF-16 has zeros between the letters; ASCII is all that is looked for.
    let head = bytes.iter().take(16 << 10).filter(|byte| **byte != 0).copied().collect::<Vec<_>>();
    let head = String::from_utf8_lossy(&head).to_lowercase();
    let head = head.trim_start_matches(|c: char| c.is_whitespace() || matches!(c, '\u{feff}' | '\u{fffd}'));
    let (extension, media_type) = (hints.extension(), hints.media_type());
    let is_html_name = matches!(extension.as_str(), "html" | "htm" | "xhtml" | "shtml")
        || matches!(media_type.as_str(), "text/html" | "application/xhtml+xml");
    match extension.as_str() {
        _ if starts_like_html(head) => Kind::Html,
        _ if is_html_name && head.contains('<') => Kind::Html,
        "md" | "markdown" | "mdx" => Kind::Markdown,
        "csv" | "tsv" | "tab" => Kind::Csv,
        "eml" if mail_headers(head).0 >= 1 => Kind::Mail,
        "txt" | "text" | "log" if mail_headers(head).0 < 3 => Kind::Plain,
        _ if media_type == "message/rfc822" && mail_headers(head).0 >= 1 => Kind::Mail,
        _ if matches!(media_type.as_str(), "text/csv" | "text/tab-separated-values") => Kind::Csv,
        _ if matches!(media_type.as_str(), "text/markdown" | "text/x-markdown") => Kind::Markdown,
        _ if mail_headers(head).0 >= 3 && mail_headers(head).1 => Kind::Mail,
        _ => Kind::Plain,
    }
}

fn starts_like_html(head: &str) -> bool {
    let mut head = head;
    // A declaration and comments may stand before the root.
    while let Some(rest) = head.strip_prefix("<?xml").or_else(|| head.strip_prefix("<!--")) {
        let Some((_, after)) = rest.split_once('>') else { return false };
        head = after.trim_start();
    }
    ["<!doctype html", "<html", "<head", "<body"].iter().any(|start| head.starts_with(start))
}

/// How many known header fields stand at the top, and whether one is of the kind that only mail programs write.
fn mail_headers(head: &str) -> (usize, bool) {
    const PLAIN: &[&str] = &["from", "to", "cc", "subject", "date", "reply-to", "sender", "content-type"];
    const TECHNICAL: &[&str] =
        &["message-id", "mime-version", "received", "return-path", "delivered-to", "content-transfer-encoding"];
    let (mut known, mut technical) = (0, false);
    for (index, line) in head.lines().enumerate() {
        if line.trim().is_empty() {
            break;
        }
        if line.starts_with([' ', '\t']) || (index == 0 && line.starts_with("from ")) {
            continue;
        }
        let Some((name, _)) = line.split_once(':') else { break };
        known += usize::from(PLAIN.contains(&name) || TECHNICAL.contains(&name));
        technical |= TECHNICAL.contains(&name);
    }
    (known, technical)
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::FailureReason;

    fn named(bytes: &[u8], name: &str) -> Reading<Kind> {
        kind(bytes, &Hints { filename: Some(name.to_owned()), media_type: None })
    }

    #[test]
    fn content_wins_over_the_name() {
        assert_eq!(named(b"%PDF-1.4 ...", "a.txt").unwrap(), Kind::Pdf);
        assert_eq!(named(b"{\\rtf1 hi}", "a.doc").unwrap(), Kind::Rtf);
        assert_eq!(named(b"\n<!-- x --><!DOCTYPE html><p>x", "a.txt").unwrap(), Kind::Html);
        assert_eq!(named(b"plain words", "a.html").unwrap(), Kind::Plain);
        assert_eq!(named(b"plain words", "a.docx").unwrap_err().reason, FailureReason::Malformed);
    }

    #[test]
    fn names_decide_where_content_cannot() {
        assert_eq!(named(b"a,b\n1,2\n", "a.csv").unwrap(), Kind::Csv);
        assert_eq!(named(b"# a\n", "a.md").unwrap(), Kind::Markdown);
        assert_eq!(named(b"# a\n", "a").unwrap(), Kind::Plain);
        let declared = Hints { filename: None, media_type: Some("text/csv; charset=utf-8".into()) };
        assert_eq!(kind(b"a,b\n", &declared).unwrap(), Kind::Csv);
        let (letters, _, _) = encoding_rs::WINDOWS_1252.encode("BMW-Händler");
        assert_eq!(named(&letters, "notes.txt").unwrap(), Kind::Plain);
    }

    #[test]
    fn mail_is_told_by_its_headers() {
        let mail = b"From: a@example.org\r\nTo: b@example.org\r\nSubject: x\r\nMIME-Version: 1.0\r\n\r\nbody";
        assert_eq!(named(mail, "message").unwrap(), Kind::Mail);
        assert_eq!(named(b"To: do\n\nbuy milk", "list.txt").unwrap(), Kind::Plain);
    }

    #[test]
    fn an_empty_file_is_malformed_unless_it_claims_to_be_text() {
        assert_eq!(named(b"", "a.pdf").unwrap_err().reason, FailureReason::Malformed);
        assert_eq!(named(b"", "a.txt").unwrap_err().reason, FailureReason::NoText);
    }
}
