//! What is answered when there is no answer. The words are part of the API.

use super::{Answer, FailureCode};

/// The sources do not answer the question.
pub const NOT_FOUND: &str = "The answer was not found in your documents.";

impl Answer {
    /// What is answered when this went wrong.
    pub fn failed(code: FailureCode) -> Self {
        Self { answer: text(code).to_owned(), code: Some(code), ..Self::default() }
    }
}

/// The text for a failure.
fn text(code: FailureCode) -> &'static str {
    match code {
        FailureCode::RetrievalFailed => "I'm having trouble accessing our knowledge base. Please try again.",
        FailureCode::Timeout => "The request took too long. Please try with a simpler question.",
        FailureCode::GenerationFailed => "I couldn't generate a response. Please try again.",
        FailureCode::Internal => "An unexpected error occurred.",
    }
}
