//! Opaque cursors of listings: base64url of the listing's name and where it goes on.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use crate::error::{Error, Result};

/// A listing; a cursor of one is not a cursor of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Listing {
    /// Documents, after an id.
    Documents,
    /// Chunks of a version of a document, from a number on.
    Chunks,
    /// Keys, after an id.
    Keys,
}

impl Listing {
    fn prefix(self) -> &'static str {
        match self {
            Self::Documents => "d:",
            Self::Chunks => "c:",
            Self::Keys => "k:",
        }
    }
}

/// The cursor for a position.
pub(super) fn encode(listing: Listing, position: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(format!("{}{position}", listing.prefix()))
}

/// The position of a cursor.
pub(super) fn decode(listing: Listing, cursor: &str) -> Result<String> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(cursor).map_err(|_| refused())?;
    let text = String::from_utf8(bytes).map_err(|_| refused())?;
    text.strip_prefix(listing.prefix()).map(str::to_owned).ok_or_else(refused)
}

/// What a cursor that is not ours gets.
pub(super) fn refused() -> Error {
    Error::invalid("/cursor", "cursor must be a `next_cursor` of this listing")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back() {
        for position in ["", "0193-doc", "a:b@c+d", "500"] {
            let cursor = encode(Listing::Documents, position);
            assert!(cursor.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_'), "{cursor}");
            assert_eq!(decode(Listing::Documents, &cursor).unwrap(), position);
        }
    }

    #[test]
    fn a_foreign_cursor_is_refused_by_name() {
        let chunks = encode(Listing::Chunks, "5");
        for cursor in ["", "!", "abc", "ZDo=", chunks.as_str()] {
            assert_eq!(decode(Listing::Documents, cursor).unwrap_err().pointer(), Some("/cursor"), "{cursor}");
        }
    }
}
