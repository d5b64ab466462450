//! Mails: subject, people and date, the body, and what is attached, mails in mails included.

use mail_parser::{Address, Message, MessageParser, MimeHeaders, PartType};

use super::failure::malformed;
use super::html;
use super::markdown::Markdown;
use super::read::{self, Draft, Hints, Problem, Reader};

/// Mails within mails that are opened; a deeper one is left out.
const MAX_DEPTH: usize = 8;

pub(super) fn read(reader: &Reader, bytes: &[u8]) -> Result<Draft, Problem> {
    let message = MessageParser::default().parse(bytes).ok_or_else(|| malformed("it is no mail"))?;
    let mut markdown = Markdown::default();
    write(reader, &message, &mut markdown, 0)?;
    Ok(Draft {
        media_type: "message/rfc822",
        title: message.subject().map(str::to_owned),
        markdown: true,
        pages: vec![markdown.into_text()],
        paged: false,
    })
}

fn write(reader: &Reader, message: &Message<'_>, out: &mut Markdown, depth: usize) -> Result<(), Problem> {
    out.heading(depth + 1, message.subject().unwrap_or_default());
    let people = [("From", message.from()), ("To", message.to()), ("Cc", message.cc())];
    let mut lines = people
        .into_iter()
        .filter_map(|(field, address)| Some(format!("{field}: {}", names(address?))))
        .collect::<Vec<_>>();
    lines.extend(message.date().map(|date| format!("Date: {}", date.to_rfc3339())));
    out.paragraph(&lines.join("\n"));

    // A text twin of HTML is the same words; where there is only HTML, the list of text bodies names it.
    for &id in &message.text_body {
        match message.part(id).map(|part| &part.body) {
            Some(PartType::Text(text)) => out.paragraph(text),
            Some(PartType::Html(text)) => out.append(html::write(text)),
            _ => {}
        }
    }
    for part in message.attachments() {
        attachment(reader, part, out, depth)?;
    }
    Ok(())
}

fn attachment(
    reader: &Reader,
    part: &mail_parser::MessagePart<'_>,
    out: &mut Markdown,
    depth: usize,
) -> Result<(), Problem> {
    let name = part.attachment_name();
    if let PartType::Message(message) = &part.body {
        return if depth < MAX_DEPTH { write(reader, message, out, depth + 1) } else { Ok(()) };
    }
    if let Some(name) = name {
        out.paragraph(&format!("Attachment: {name}"));
    }
    let declared = part.content_type().map(|kind| match kind.subtype() {
        Some(subtype) => format!("{}/{subtype}", kind.ctype()),
        None => kind.ctype().to_owned(),
    });
    let hints = Hints { filename: name.map(str::to_owned), media_type: declared };
    let draft = match &part.body {
        PartType::Html(text) => html::read(text),
        PartType::Text(text) => read::draft(reader, text.as_bytes(), &hints).or_else(skip)?,
        PartType::Binary(bytes) | PartType::InlineBinary(bytes) => read::draft(reader, bytes, &hints).or_else(skip)?,
        PartType::Message(_) | PartType::Multipart(_) => return Ok(()),
    };
    draft.pages.iter().for_each(|page| out.paragraph(page));
    Ok(())
}

/// What cannot be read beside a mail (pictures, signatures, locked files) leaves the mail readable. What is over a
/// limit does not: a bomb is a bomb wherever it hides.
fn skip(problem: Problem) -> Result<Draft, Problem> {
    match problem {
        Problem::Document(failure) if failure.reason != crate::document::FailureReason::TooLarge => Ok(Draft::default()),
        problem => Err(problem),
    }
}

fn names(address: &Address<'_>) -> String {
    let people = address.iter().map(|person| match (person.name(), person.address()) {
        (Some(name), Some(address)) => format!("{name} <{address}>"),
        (name, address) => name.or(address).unwrap_or_default().to_owned(),
    });
    people.collect::<Vec<_>>().join(", ")
}
