//! A zip package that cannot be a bomb: what is unpacked is counted while it streams.

use std::collections::HashMap;
use std::io::{Cursor, Read};

use zip::ZipArchive;
use zip::result::ZipError;

use super::decode;
use super::failure::{Reading, encrypted, malformed, too_large, unsupported};

/// A package may unpack to this many times its size …
pub(super) const RATIO: u64 = 100;
/// … or to this much, so that a small ordinary office file is not refused …
pub(super) const FLOOR: u64 = 10 << 20;
/// … but never to more than this.
pub(super) const CEILING: u64 = 512 << 20;

/// How many bytes an archive of `packed` bytes may unpack to.
pub(super) fn allowance(packed: usize) -> u64 {
    (packed as u64).saturating_mul(RATIO).clamp(FLOOR, CEILING)
}

pub(super) fn over_allowance() -> crate::document::Failure {
    too_large(format!("it unpacks to more than {RATIO} times its size, or to more than {} MiB", CEILING >> 20))
}

pub(super) struct Package<'a> {
    archive: ZipArchive<Cursor<&'a [u8]>>,
    /// Index by lower-case name without a leading slash: writers differ in both.
    names: HashMap<String, usize>,
    left: u64,
    packed: u64,
}

impl<'a> Package<'a> {
    pub(super) fn open(bytes: &'a [u8]) -> Reading<Self> {
        let archive = ZipArchive::new(Cursor::new(bytes)).map_err(refuse)?;
        let names = (0..archive.len())
            .filter_map(|index| archive.name_for_index(index).map(|name| (plain(name), index)))
            .collect();
        Ok(Self { archive, names, left: allowance(bytes.len()), packed: bytes.len() as u64 })
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.keys().map(String::as_str)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.names.contains_key(&plain(name))
    }

    /// Looks at every member's header: encryption, and sizes that cannot be.
    pub(super) fn survey(&mut self) -> Reading<Survey> {
        let mut survey = Survey { encrypted: false, unpacked: 0 };
        for index in 0..self.archive.len() {
            let member = self.archive.by_index_raw(index).map_err(refuse)?;
            survey.encrypted |= member.encrypted();
            survey.unpacked = survey.unpacked.saturating_add(member.size());
            if member.compressed_size() > self.packed {
                return Err(malformed("a member claims to be larger than the archive that holds it"));
            }
        }
        Ok(survey)
    }

    /// The bytes of a member; `None` if there is none of that name.
    pub(super) fn bytes(&mut self, name: &str) -> Reading<Option<Vec<u8>>> {
        let Some(&index) = self.names.get(&plain(name)) else {
            return Ok(None);
        };
        let member = self.archive.by_index(index).map_err(refuse)?;
        let mut bytes = Vec::new();
        // One byte more than allowed tells "exactly full" from "over".
        let read = member.take(self.left + 1).read_to_end(&mut bytes);
        if bytes.len() as u64 > self.left {
            return Err(over_allowance());
        }
        self.left -= bytes.len() as u64;
        match read {
            Ok(_) => Ok(Some(bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::OutOfMemory => Err(over_allowance()),
            Err(error) => Err(malformed(format_args!("{name} cannot be unpacked: {error}"))),
        }
    }

    /// The text of an XML member, free of entities that unfold.
    pub(super) fn xml(&mut self, name: &str) -> Reading<Option<String>> {
        let Some(bytes) = self.bytes(name)? else {
            return Ok(None);
        };
        let text = decode::xml(bytes);
        refuse_entity_bomb(&text)?;
        Ok(Some(text))
    }
}

/// What the headers of an archive say.
pub(super) struct Survey {
    pub(super) encrypted: bool,
    pub(super) unpacked: u64,
}

fn plain(name: &str) -> String {
    name.replace('\\', "/").trim_start_matches('/').to_lowercase()
}

fn refuse(error: ZipError) -> crate::document::Failure {
    match error {
        ZipError::UnsupportedArchive(ZipError::PASSWORD_REQUIRED) | ZipError::InvalidPassword => encrypted(),
        ZipError::CompressionMethodNotSupported(_) => unsupported("an archive packed with a rare method"),
        error => malformed(error),
    }
}

/// Entities are never expanded here. One that is made of others is an attack, and the file is refused for it; an
/// external one reads as nothing.
fn refuse_entity_bomb(xml: &str) -> Reading<()> {
    let mut rest = xml;
    while let Some(at) = rest.find("<!ENTITY") {
        rest = &rest[at + "<!ENTITY".len()..];
        let declaration = &rest[..rest.find('>').unwrap_or(rest.len())];
        let refers = |pair: &[u8]| pair[0] == b'&' && (pair[1].is_ascii_alphabetic() || pair[1] == b'_');
        if declaration.as_bytes().windows(2).any(refers) {
            return Err(too_large("it holds entities that unfold into each other"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::FailureReason;

    #[test]
    fn nested_entities_are_a_bomb_and_external_ones_are_not() {
        let bomb = r#"<!DOCTYPE a [<!ENTITY x "xx"><!ENTITY y "&x;&x;">]><a>&y;</a>"#;
        assert_eq!(refuse_entity_bomb(bomb).unwrap_err().reason, FailureReason::TooLarge);
        let external = r#"<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>"#;
        assert!(refuse_entity_bomb(external).is_ok());
        assert!(refuse_entity_bomb(r#"<!DOCTYPE a [<!ENTITY amp "&#38;#38;">]><a/>"#).is_ok());
    }

    #[test]
    fn the_allowance_has_a_floor_and_a_ceiling() {
        assert_eq!(allowance(10), FLOOR);
        assert_eq!(allowance(1 << 20), 100 << 20);
        assert_eq!(allowance(1 << 30), CEILING);
    }
}
