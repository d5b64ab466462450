//! Which reader for which kind, and what every text goes through after it.

use std::io::Read as _;
use std::path::PathBuf;

use super::failure::{Reading, malformed, too_large, unsupported};
use super::sniff::{self, Kind};
use super::{Extracted, csv, decode, docx, epub, html, mail, odf, package, pdf, pptx, rtf, sheet, tidy};
use crate::document::Failure;

/// What a file was called and declared as.
#[derive(Debug, Clone, Default)]
pub(super) struct Hints {
    pub(super) filename: Option<String>,
    pub(super) media_type: Option<String>,
}

impl Hints {
    /// The name's extension in lower case without its dot; empty if it has none.
    pub(super) fn extension(&self) -> String {
        let name = self.filename.as_deref().unwrap_or_default();
        name.rsplit(['/', '\\'])
            .next()
            .and_then(|name| name.rsplit_once('.'))
            .map(|(_, end)| end.to_lowercase())
            .unwrap_or_default()
    }

    /// The declared media type in lower case without parameters; empty if there is none.
    pub(super) fn media_type(&self) -> String {
        let declared = self.media_type.as_deref().unwrap_or_default();
        declared.split(';').next().unwrap_or_default().trim().to_lowercase()
    }

    /// The charset that the declared media type names.
    fn charset(&self) -> Option<String> {
        let declared = self.media_type.as_deref()?.to_lowercase();
        let value = declared.split("charset=").nth(1)?;
        Some(value.split(';').next().unwrap_or_default().trim().trim_matches('"').to_owned())
    }
}

/// What a reader made of a file, before [`tidy`].
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) media_type: &'static str,
    pub(super) title: Option<String>,
    pub(super) markdown: bool,
    /// The text by page (slide, sheet), or all of it in one piece.
    pub(super) pages: Vec<String>,
    /// Whether `pages` are pages.
    pub(super) paged: bool,
}

/// Why there is no text.
#[derive(Debug)]
pub(super) enum Problem {
    /// The document's fault.
    Document(Failure),
    /// The installation's: a message for the log.
    Ours(String),
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        Self::Document(failure)
    }
}

/// What readers need.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) pdfium: Option<PathBuf>,
    pub(super) max_text_bytes: u64,
}

/// The text of `bytes`.
pub(super) fn extract(reader: &Reader, bytes: &[u8], hints: &Hints) -> Result<Extracted, Problem> {
    let draft = draft(reader, bytes, hints)?;
    Ok(tidy::finish(draft, reader.max_text_bytes)?)
}

/// The text of `bytes` as its reader gives it. Attachments of mails come through here too.
pub(super) fn draft(reader: &Reader, bytes: &[u8], hints: &Hints) -> Result<Draft, Problem> {
    let kind = sniff::kind(bytes, hints)?;
    if kind == Kind::Gzip {
        let (bytes, hints) = gunzip(bytes, hints)?;
        return match sniff::kind(&bytes, &hints)? {
            Kind::Gzip => Err(nested().into()),
            kind => read(reader, kind, &bytes, &hints),
        };
    }
    read(reader, kind, bytes, hints)
}

fn read(reader: &Reader, kind: Kind, bytes: &[u8], hints: &Hints) -> Result<Draft, Problem> {
    Ok(match kind {
        Kind::Pdf => pdf::read(reader, bytes)?,
        Kind::Mail => mail::read(reader, bytes)?,
        Kind::Docx => docx::read(bytes)?,
        Kind::Pptx => pptx::read(bytes)?,
        Kind::Workbook => sheet::read(bytes, reader.max_text_bytes)?,
        Kind::OpenDocument => odf::read(bytes)?,
        Kind::Epub => epub::read(bytes)?,
        Kind::Rtf => rtf::read(bytes),
        Kind::Html => html::read(&text(bytes, hints, decode::declared_in_html(bytes))?),
        Kind::Csv => csv::read(&text(bytes, hints, Vec::new())?, &hints.extension()),
        Kind::Markdown => markdown(text(bytes, hints, Vec::new())?),
        Kind::Plain => plain(&text(bytes, hints, Vec::new())?),
        Kind::Gzip => return Err(nested().into()),
    })
}

fn text(bytes: &[u8], hints: &Hints, mut declared: Vec<String>) -> Reading<String> {
    declared.extend(hints.charset());
    decode::text(bytes, &declared).ok_or_else(|| unsupported("of no known kind"))
}

fn markdown(text: String) -> Draft {
    let title = front_matter_title(&text)
        .or_else(|| text.lines().find_map(|line| line.strip_prefix("# ")).map(|title| title.trim().to_owned()));
    Draft { media_type: "text/markdown", title, markdown: true, pages: vec![text], paged: false }
}

/// `title: …` between the `---` lines at the top.
fn front_matter_title(text: &str) -> Option<String> {
    let mut lines = text.lines();
    if lines.next()?.trim_end() != "---" {
        return None;
    }
    let value = lines.take_while(|line| line.trim_end() != "---").find_map(|line| line.strip_prefix("title:"))?;
    Some(value.trim().trim_matches(['"', '\'']).to_owned())
}

/// A form feed ends a page, as printers and RFCs have it.
fn plain(text: &str) -> Draft {
    let pages = text.split('\u{c}').map(str::to_owned).collect::<Vec<_>>();
    Draft { media_type: "text/plain", paged: pages.len() > 1, pages, ..Draft::default() }
}

/// One document that was packed for the way. Archives in it are not unpacked.
fn gunzip(bytes: &[u8], hints: &Hints) -> Reading<(Vec<u8>, Hints)> {
    let allowance = package::allowance(bytes.len());
    let mut unpacked = Vec::new();
    flate2::read::MultiGzDecoder::new(bytes)
        .take(allowance + 1)
        .read_to_end(&mut unpacked)
        .map_err(|error| malformed(format_args!("it cannot be unpacked: {error}")))?;
    if unpacked.len() as u64 > allowance {
        return Err(package::over_allowance());
    }
    if sniff::is_archive(&unpacked) {
        return Err(nested());
    }
    let filename = hints.filename.as_deref().map(|name| name.trim_end_matches(".gz").to_owned());
    Ok((unpacked, Hints { filename, media_type: None }))
}

fn nested() -> Failure {
    too_large("an archive inside an archive may unpack without end")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_are_parsed() {
        let hints = Hints {
            filename: Some("C:\\files\\Report.Final.DOCX".into()),
            media_type: Some("Text/CSV; charset=\"Shift_JIS\"; header=present".into()),
        };
        assert_eq!(hints.extension(), "docx");
        assert_eq!(hints.media_type(), "text/csv");
        assert_eq!(hints.charset().as_deref(), Some("shift_jis"));
    }

    #[test]
    fn a_declared_charset_is_read() {
        let reader = Reader { pdfium: None, max_text_bytes: 1 << 20 };
        // Too short to be told by its bytes.
        let (bytes, _, _) = encoding_rs::GBK.encode("发票 α");
        for declared in ["text/plain; charset=gbk", "text/plain;charset=\"GBK\"", "text/html; charset=gbk"] {
            let hints = Hints { filename: None, media_type: Some(declared.into()) };
            assert_eq!(draft(&reader, &bytes, &hints).unwrap().pages, ["发票 α"], "{declared}");
        }
        // A page that declares the same in itself.
        let (page, _, _) = encoding_rs::GBK.encode("<html><meta charset=gb2312><p>发票 α");
        let hints = Hints { filename: None, media_type: Some("text/html; charset=gbk".into()) };
        assert_eq!(draft(&reader, &page, &hints).unwrap().pages, ["发票 α"]);
    }

    #[test]
    fn titles_of_markdown() {
        assert_eq!(markdown("---\ntitle: \"A b\"\n---\n# C".into()).title.as_deref(), Some("A b"));
        assert_eq!(markdown("text\n# C\n".into()).title.as_deref(), Some("C"));
    }
}
