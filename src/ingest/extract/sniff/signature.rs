//! Kinds that are recognised only to be refused by name: pictures, sound, programs, archives.

/// How a kind begins, what must hold beside that, and its name.
type Signature = (&'static [u8], fn(&[u8]) -> bool, &'static str);

/// A text may begin with letters such as `BM`, in any encoding. Where the beginning is letters, a second check looks
/// at a place that holds numbers in the format, and could hold none of them in a text.
const SIGNATURES: &[Signature] = &[
    (b"\x89PNG\r\n\x1a\n", always, "a picture"),
    (b"\xff\xd8\xff", always, "a picture"),
    (b"GIF87a", has_gif_size, "a picture"),
    (b"GIF89a", has_gif_size, "a picture"),
    (b"BM", has_bitmap_header, "a picture"),
    (b"II*\0", always, "a picture"),
    (b"MM\0*", always, "a picture"),
    (b"RIFF", has_riff_form, "a picture, sound or film"),
    (b"ID3", |bytes| bytes.get(3).is_some_and(|version| (2..=4).contains(version)), "sound"),
    (b"OggS", |bytes| bytes.get(4) == Some(&0), "sound"),
    (b"\x7fELF", always, "a program"),
    (b"MZ", |bytes| bytes[..bytes.len().min(64)].contains(&0), "a program"),
    (b"7z\xbc\xaf\x27\x1c", always, "an archive"),
    (b"Rar!\x1a\x07", always, "an archive"),
    (b"\xfd7zXZ\0", always, "an archive"),
    (b"BZh", has_bzip2_block, "an archive"),
    (b"\x28\xb5\x2f\xfd", always, "an archive"),
    (b"SQLite format 3\0", always, "a database"),
];

/// What `bytes` are, if they are of a kind that is not read.
pub(super) fn name(bytes: &[u8]) -> Option<&'static str> {
    // The fields before the mark are filled up with zeros.
    if bytes.get(257..262) == Some(b"ustar") && bytes[..257].contains(&0) {
        return Some("an archive");
    }
    // A size of less than 16 MiB stands before it.
    if bytes.get(4..8) == Some(b"ftyp") && bytes[0] == 0 {
        return Some("a film or picture");
    }
    let found = SIGNATURES.iter().find(|(magic, check, _)| bytes.starts_with(magic) && check(bytes));
    found.map(|(_, _, name)| *name)
}

fn always(_: &[u8]) -> bool {
    true
}

/// Width and height below 8,192: the high bytes are no letters.
fn has_gif_size(bytes: &[u8]) -> bool {
    [7, 9].iter().all(|at| bytes.get(*at).is_some_and(|byte| *byte < 0x20))
}

/// The size of one of the known headers.
fn has_bitmap_header(bytes: &[u8]) -> bool {
    bytes.get(14..18).is_some_and(|size| size[0] < 128 && size[1..] == [0, 0, 0])
}

fn has_riff_form(bytes: &[u8]) -> bool {
    let form = bytes.get(8..12).unwrap_or_default();
    [b"WAVE", b"AVI ", b"WEBP", b"ACON", b"RMID"].iter().any(|known| form == *known)
}

/// The number of hundreds of kilobytes, then the mark of a block, or of the end.
fn has_bzip2_block(bytes: &[u8]) -> bool {
    let marks = [b"\x31\x41\x59\x26\x53\x59", b"\x17\x72\x45\x38\x50\x90"];
    bytes.get(3).is_some_and(u8::is_ascii_digit) && marks.iter().any(|mark| bytes[4..].starts_with(*mark))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_may_begin_with_the_letters_of_a_format() {
        let tar = format!("{:257}ustar", "Wörter");
        for text in [
            "BMW-Händler in Köln und Umgebung",
            "MZ heißt Megazyklus; damit rechnet man im Gerät nicht mehr, seit es Megahertz heißt",
            "RIFF-Räte der Küste",
            "ID3-Schlüssel für Musik",
            "OggS für Töne",
            "BZh1 über alles",
            "GIF89a für Bilder",
            "The ftyp box für Bilder",
            &tar,
        ] {
            let (latin, _, _) = encoding_rs::WINDOWS_1252.encode(text);
            assert_eq!(name(&latin), None, "{text}");
            assert_eq!(name(text.as_bytes()), None, "{text}");
        }
        let (chinese, _, _) = encoding_rs::GBK.encode("BMW 汽车经销商的名单和地址");
        assert_eq!(name(&chinese), None);
    }

    #[test]
    fn formats_are_known_by_more_than_letters() {
        let mut tar = b"notes.txt".to_vec();
        tar.resize(257, 0);
        tar.extend(b"ustar\x0000");
        let program = [b"MZ\x90\0\x03\0\0\0".as_slice(), &[0; 56]].concat();
        let known: [(&[u8], &str); 9] = [
            (b"BM\x46\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\x01\0\0\0", "a picture"),
            (b"GIF89a\x40\x01\xf0\0\xf7\0\0", "a picture"),
            (b"RIFF\x24\x08\0\0WAVEfmt ", "a picture, sound or film"),
            (b"ID3\x03\0\0\0\0\x0f\x76", "sound"),
            (b"OggS\0\x02\0\0", "sound"),
            (&program, "a program"),
            (b"BZh91AY&SY\x94\x24", "an archive"),
            (b"\0\0\0\x18ftypmp42", "a film or picture"),
            (&tar, "an archive"),
        ];
        for (bytes, kind) in known {
            assert_eq!(name(bytes), Some(kind), "{bytes:?}");
        }
    }
}
