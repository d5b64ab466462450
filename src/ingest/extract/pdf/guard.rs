//! What a look at the raw bytes shows, before any parser is asked: pictures that unpack to gigabytes, and a page tree
//! that cannot be.

use regex::bytes::Regex;

use super::super::failure::{Reading, malformed, too_large};
use super::super::package::CEILING;

/// Dictionaries of streams are never packed themselves, so a search sees them all. A page tree may be; then pdfium is
/// left to judge it.
pub(super) fn check(bytes: &[u8]) -> Reading<()> {
    check_pictures(bytes)?;
    check_page_count(bytes)
}

/// A bilevel picture says its size in its first segment (ITU-T T.88, 7.2 and 7.4.8).
fn check_pictures(bytes: &[u8]) -> Reading<()> {
    for at in find_all(bytes, b"/JBIG2Decode") {
        // The rest of the dictionary, then the stream.
        let rest = &bytes[at..bytes.len().min(at + 4_096)];
        let Some(stream) = find_all(rest, b"stream").next() else { continue };
        let data = after_line_break(&rest[stream + b"stream".len()..]);
        let Some((width, height)) = jbig2_page_size(data) else { continue };
        if u64::from(width) * u64::from(height) / 8 > CEILING {
            return Err(too_large(format!("a picture in it unpacks to {width} × {height} dots")));
        }
    }
    Ok(())
}

/// Width and height of a JBIG2 page, if its first segment describes one.
fn jbig2_page_size(data: &[u8]) -> Option<(u32, u32)> {
    const PAGE_INFORMATION: u8 = 48;
    let flags = *data.get(4)?;
    if flags & 0x3f != PAGE_INFORMATION {
        return None;
    }
    // Number (4), flags (1), no referred-to segments (1), page (1 or 4), length (4).
    let header = if flags & 0x40 == 0 { 11 } else { 14 };
    let word = |at: usize| Some(u32::from_be_bytes(data.get(at..at + 4)?.try_into().ok()?));
    Some((word(header)?, word(header + 4)?))
}

/// Counts (of pages or of an outline) that are larger than the file are damage: each page takes at least a byte.
fn check_page_count(bytes: &[u8]) -> Reading<()> {
    let count = Regex::new(r"/Count[\x00\t\n\x0c\r ]+([0-9]{1,20})").expect("the pattern is fixed");
    for found in count.captures_iter(bytes) {
        let number = std::str::from_utf8(&found[1]).unwrap_or_default().parse::<u64>().unwrap_or(u64::MAX);
        // What is packed with the best ratio that deflate has (1032:1) may hold more than its size.
        if number > (bytes.len() as u64).saturating_mul(1_032) {
            return Err(malformed(format_args!("it says that it has {number} pages")));
        }
    }
    Ok(())
}

fn find_all<'a>(haystack: &'a [u8], needle: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    let mut from = 0;
    std::iter::from_fn(move || {
        let rest = haystack.get(from..)?;
        let at = from + memchr::memmem::find(rest, needle)?;
        from = at + needle.len();
        Some(at)
    })
}

/// Without the one line break that ends the word `stream`.
fn after_line_break(data: &[u8]) -> &[u8] {
    data.strip_prefix(b"\r\n").or_else(|| data.strip_prefix(b"\n")).unwrap_or(data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::FailureReason;

    fn picture(width: u32, height: u32) -> Vec<u8> {
        let mut bytes = b"<< /Filter /JBIG2Decode >>\nstream\n".to_vec();
        bytes.extend([0, 0, 0, 0, 48, 0, 1, 0, 0, 0, 19]);
        bytes.extend(width.to_be_bytes());
        bytes.extend(height.to_be_bytes());
        bytes
    }

    #[test]
    fn a_picture_of_gigabytes_is_too_large() {
        assert!(check(&picture(10_000, 14_000)).is_ok());
        assert_eq!(check(&picture(100_000, 100_000)).unwrap_err().reason, FailureReason::TooLarge);
        assert!(check(b"/JBIG2Decode stream").is_ok());
    }

    #[test]
    fn more_pages_than_a_file_can_hold_are_damage() {
        assert!(check(b"<</Type /Pages /Count 12>>").is_ok());
        assert_eq!(check(b"<</Type /Pages /Count 9999999999>>").unwrap_err().reason, FailureReason::Malformed);
    }
}
