//! The failures of a document, in words for the person who uploaded it.

use crate::document::{Failure, FailureReason};

/// What a reader returns.
pub(super) type Reading<T> = Result<T, Failure>;

fn failure(reason: FailureReason, detail: impl Into<String>) -> Failure {
    Failure { reason, detail: detail.into() }
}

pub(super) fn encrypted() -> Failure {
    failure(FailureReason::Encrypted, "the file is protected by a password; remove the protection and upload it again")
}

/// `what` says what is wrong with the file, such as `the archive has no end`.
pub(super) fn malformed(what: impl std::fmt::Display) -> Failure {
    failure(
        FailureReason::Malformed,
        format!(
            "the file is damaged or not what its name says ({what}); save it anew in its program and upload it again"
        ),
    )
}

pub(in crate::ingest) fn no_text() -> Failure {
    failure(
        FailureReason::NoText,
        "the file holds no text (a scan or pictures only); run text recognition on it first and upload the result",
    )
}

/// `what` names the kind, such as `a picture`.
pub(super) fn unsupported(what: impl std::fmt::Display) -> Failure {
    failure(
        FailureReason::Unsupported,
        format!(
            "the file is {what}, which is not read here; upload txt, md, html, csv, tsv, eml, rtf, pdf, epub, docx, \
             docm, pptx, pptm, xlsx, xlsm, xlsb, xls, odt, ods or odp"
        ),
    )
}

/// `what` says which limit was passed, such as `it unpacks to more than 100 times its size`.
pub(super) fn too_large(what: impl std::fmt::Display) -> Failure {
    failure(FailureReason::TooLarge, format!("the file is too large to be read: {what}; split it or leave parts out"))
}

pub(super) fn timeout(seconds: u64) -> Failure {
    failure(
        FailureReason::Timeout,
        format!("reading the file took longer than {seconds} s; split it or save it in a simpler form"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_not_read_is_answered_with_one_line_of_what_is() {
        let detail = unsupported("a picture").detail;
        assert!(!detail.contains('\n') && detail.len() < 250, "{detail}");
        let read = "txt md html csv tsv eml rtf pdf epub docx docm pptx pptm xlsx xlsm xlsb xls odt ods odp";
        for kind in read.split(' ') {
            assert!(detail.split([' ', ',']).any(|word| word == kind), "{kind} in {detail}");
        }
    }
}
