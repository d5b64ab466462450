//! What is answered when there is no answer. The words are part of the API.

use super::FailureCode;

/// The sources do not answer the question.
pub const NOT_FOUND: &str = "The answer was not found in your documents.";

/// The text for a failure.
pub fn text(code: FailureCode) -> &'static str {
    match code {
        FailureCode::RetrievalFailed => "I'm having trouble accessing our knowledge base. Please try again.",
        FailureCode::Timeout => "The request took too long. Please try with a simpler question.",
        FailureCode::GenerationFailed => "I couldn't generate a response. Please try again.",
        FailureCode::Internal => "An unexpected error occurred.",
    }
}
