//! Bytes to text: byte order mark, UTF-8, UTF-16 by its zeros, a declared charset that fits, else detection.

use std::borrow::Cow;

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE};

/// The text of `bytes`, or `None` if they are no text in any encoding. `declared` are charset labels found in or
/// beside the bytes; they are believed only where they fit.
pub(super) fn text(bytes: &[u8], declared: &[String]) -> Option<String> {
    if let Some((encoding, mark)) = Encoding::for_bom(bytes) {
        return Some(encoding.decode_without_bom_handling(&bytes[mark..]).0.into_owned());
    }
    if let Some(encoding) = utf16_by_zeros(bytes) {
        return Some(encoding.decode_without_bom_handling(bytes).0.into_owned());
    }
    if is_binary(bytes) {
        return None;
    }
    let encoding = choose(bytes, declared);
    Some(encoding.decode_without_bom_handling(bytes).0.into_owned())
}

fn choose(bytes: &[u8], declared: &[String]) -> &'static Encoding {
    // ISO-2022-JP is valid ASCII, told by its escapes alone.
    let escapes = bytes.contains(&0x1b);
    if !escapes && std::str::from_utf8(bytes).is_ok() {
        return UTF_8;
    }
    let mut declared = declared.iter().filter_map(|label| Encoding::for_label(label.trim().as_bytes()));
    if let Some(first) = declared.next()
        && declared.all(|other| other == first)
    {
        // One charset is declared, and the bytes agree. (A file that declares UTF-8 and is not has been ruled out above.)
        if first != UTF_8 && first.decode_without_bom_handling_and_without_replacement(bytes).is_some() {
            return first;
        }
    }
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Allow);
    detector.feed(bytes, true);
    detector.guess(None, Utf8Detection::Allow)
}

/// UTF-16 without a mark: nearly all zeros on one side of the pairs.
fn utf16_by_zeros(bytes: &[u8]) -> Option<&'static Encoding> {
    let sample = &bytes[..bytes.len().min(4_096) & !1];
    let pairs = sample.len() / 2;
    let zeros = |side: usize| sample.iter().skip(side).step_by(2).filter(|byte| **byte == 0).count();
    let (even, odd) = (zeros(0), zeros(1));
    match () {
        () if pairs < 2 => None,
        () if odd * 10 > pairs * 4 && even * 20 < pairs => Some(UTF_16LE),
        () if even * 10 > pairs * 4 && odd * 20 < pairs => Some(UTF_16BE),
        () => None,
    }
}

/// Control characters that no text has, more than one in a hundred bytes, or a zero.
fn is_binary(bytes: &[u8]) -> bool {
    let controls = bytes.iter().filter(|byte| matches!(byte, 1..=8 | 0x0b | 0x0e..=0x1a | 0x1c..=0x1f | 0x7f)).count();
    let zeros = bytes.iter().filter(|byte| **byte == 0).count();
    // A stray zero at the end of a line is a common slip of old programs.
    zeros * 1_000 > bytes.len() || controls * 100 > bytes.len()
}

/// An XML part: by mark, else by its declaration, else UTF-8.
pub(super) fn xml(bytes: Vec<u8>) -> String {
    let declared = declared_in_xml(&bytes);
    match (Encoding::for_bom(&bytes), declared) {
        (Some((encoding, mark)), _) => encoding.decode_without_bom_handling(&bytes[mark..]).0.into_owned(),
        (None, Some(encoding)) if encoding != UTF_8 => encoding.decode_without_bom_handling(&bytes).0.into_owned(),
        _ => match utf16_by_zeros(&bytes) {
            Some(encoding) => encoding.decode_without_bom_handling(&bytes).0.into_owned(),
            None => {
                String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
            }
        },
    }
}

fn declared_in_xml(bytes: &[u8]) -> Option<&'static Encoding> {
    let head = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]);
    let declaration = head.strip_prefix("<?xml")?.split("?>").next()?;
    let label = declaration.split("encoding").nth(1)?.trim_start_matches(['=', ' ', '"', '\'']);
    let encoding = Encoding::for_label(label.split(['"', '\'']).next()?.as_bytes())?;
    // A declaration that reads as ASCII is not in UTF-16, whatever it says.
    (encoding != UTF_16LE && encoding != UTF_16BE).then_some(encoding)
}

/// Every charset that an HTML page declares in its first 16 KiB, without repeats.
pub(super) fn declared_in_html(bytes: &[u8]) -> Vec<String> {
    let head: Cow<'_, str> = String::from_utf8_lossy(&bytes[..bytes.len().min(16 << 10)]);
    let head = head.to_lowercase();
    let mut labels = Vec::new();
    for piece in head.split("charset").skip(1) {
        let Some(value) = piece.trim_start().strip_prefix('=') else { continue };
        let value = value.trim_start_matches([' ', '"', '\'']);
        let label = value.split(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '_' | ':')).next();
        labels.extend(label.filter(|label| !label.is_empty()).map(str::to_owned));
    }
    labels.sort();
    labels.dedup();
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings_are_told_by_content() {
        let plain = |bytes: &[u8]| text(bytes, &[]);
        assert_eq!(plain("Grüße, Žluťoučký".as_bytes()).as_deref(), Some("Grüße, Žluťoučký"));
        assert_eq!(plain(b"\xef\xbb\xbfmark").as_deref(), Some("mark"));
        let utf16 = "a line of text".encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>();
        assert_eq!(plain(&utf16).as_deref(), Some("a line of text"));
        assert_eq!(plain(b"\x1b$B$3$s$K$A$O\x1b(B").as_deref(), Some("こんにちは"));
        let (cyrillic, _, _) = encoding_rs::WINDOWS_1251.encode("Съешь ещё этих мягких французских булок");
        assert_eq!(plain(&cyrillic).as_deref(), Some("Съешь ещё этих мягких французских булок"));
    }

    #[test]
    fn binary_is_no_text() {
        let noise = (0..1_024_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect::<Vec<_>>();
        assert_eq!(text(&noise, &[]), None);
    }

    #[test]
    fn a_declared_charset_is_believed_where_it_fits() {
        let (greek, _, _) = encoding_rs::ISO_8859_7.encode("Καλημέρα");
        assert_eq!(text(&greek, &["iso-8859-7".into()]).as_deref(), Some("Καλημέρα"));
        assert_eq!(text("naïve".as_bytes(), &["windows-1252".into()]).as_deref(), Some("naïve"));
    }

    #[test]
    fn html_declarations_are_found_in_any_dress() {
        let html = b"<meta charset=UTF-8><meta content='text/html; charset = \"koi8-r\"'>";
        assert_eq!(declared_in_html(html), ["koi8-r", "utf-8"]);
    }
}
