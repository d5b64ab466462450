//! PDF, by pdfium: page by page, characters in the order of the page, each once.

mod characters;
mod guard;

use pdfium_render::prelude::{PdfDocument, PdfDocumentMetadataTagType, PdfFormFieldCommon, PdfPage, PdfRect, Pdfium, PdfiumError};
use pdfium_render::prelude::{PdfFormField, PdfiumInternalError};

use super::failure::{encrypted, malformed, too_large};
use super::read::{Draft, Problem, Reader};

pub(super) fn read(reader: &Reader, bytes: &[u8]) -> Result<Draft, Problem> {
    guard::check(bytes)?;
    let library = reader.pdfium.as_ref().ok_or_else(|| {
        Problem::Ours("pdfium is missing: run ./deploy/setup models, or name its library in the configuration".to_owned())
    })?;
    let bindings = Pdfium::bind_to_library(library)
        .map_err(|error| Problem::Ours(format!("pdfium ({}) could not be loaded: {error}", library.display())))?;
    let pdfium = Pdfium::new(bindings);
    let document = pdfium.load_pdf_from_byte_slice(bytes, None).map_err(refuse)?;

    let mut draft = Draft { media_type: "application/pdf", paged: true, ..Draft::default() };
    draft.title = title(&document);
    let (mut left, mut unread) = (reader.max_text_bytes, 0);
    for index in document.pages().as_range() {
        // One damaged page does not cost the others.
        let text = match document.pages().get(index) {
            Ok(page) => page_text(&page),
            Err(_damaged) => {
                unread += 1;
                String::new()
            }
        };
        left = left.checked_sub(text.len() as u64).ok_or_else(|| too_large("it holds more text than the limit"))?;
        draft.pages.push(text);
    }
    if draft.pages.len() == unread {
        return Err(malformed("none of its pages can be read").into());
    }
    Ok(draft)
}

fn refuse(error: PdfiumError) -> crate::document::Failure {
    match error {
        PdfiumError::PdfiumLibraryInternalError(
            PdfiumInternalError::PasswordError | PdfiumInternalError::SecurityError,
        ) => encrypted(),
        PdfiumError::PdfiumLibraryInternalError(_) => malformed("its structure cannot be read"),
        error => malformed(error),
    }
}

fn title(document: &PdfDocument<'_>) -> Option<String> {
    let title = document.metadata().get(PdfDocumentMetadataTagType::Title)?.value().trim().to_owned();
    let title = title.trim_start_matches("Microsoft Word - ").to_owned();
    (!title.is_empty()).then_some(title)
}

/// What a viewer shows of a page: its crop box, else its media box.
fn visible_area(page: &PdfPage<'_>) -> Option<PdfRect> {
    page.boundaries().bounding().ok().map(|boundary| boundary.bounds)
}

fn page_text(page: &PdfPage<'_>) -> String {
    let mut text = page.text().map(|text| characters::text(&text, visible_area(page))).unwrap_or_default();
    for line in form_lines(page) {
        text.push('\n');
        text.push_str(&line);
    }
    text
}

/// What form fields say: they are drawn over the page and no part of its text.
fn form_lines(page: &PdfPage<'_>) -> Vec<String> {
    let annotations = page.annotations();
    let fields = annotations.iter().filter_map(|annotation| {
        let field = annotation.as_form_field()?;
        let name = field.name().unwrap_or_default();
        let value = match field {
            PdfFormField::Text(field) => field.value(),
            PdfFormField::ComboBox(field) => field.value(),
            PdfFormField::ListBox(field) => field.value(),
            PdfFormField::Checkbox(field) => field.is_checked().ok().filter(|checked| *checked).map(|_| "yes".to_owned()),
            PdfFormField::RadioButton(field) => field.is_checked().ok().filter(|set| *set).and(field.group_value()),
            _ => None,
        };
        match (name.trim(), value.unwrap_or_default().trim()) {
            ("", "") => None,
            (name, "") => Some(name.to_owned()),
            ("", value) => Some(value.to_owned()),
            (name, value) => Some(format!("{name}: {value}")),
        }
    });
    let mut lines = fields.collect::<Vec<_>>();
    lines.dedup();
    lines
}
