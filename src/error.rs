//! The one error type that crosses a seam: few kinds, named for what the caller can do about them.
//!
//! Two messages live in an [`Error`]: [`Error::message`] may be shown to a client, the `source` chain is for the log.
//! It is logged once, at the boundary (`http`, the worker or the command line).

use std::fmt;
use std::time::Duration;

/// What the caller can do about an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request is wrong; changing it helps, repeating it does not.
    Invalid,
    /// Nothing is there, or the caller may not know that something is.
    NotFound,
    /// The state of the thing forbids it (a repeated `Idempotency-Key` with another body, a lost lease).
    Conflict,
    /// Larger than a stated limit.
    TooLarge,
    /// A dependency is down or overloaded; trying again later helps.
    Unavailable,
    /// The deadline passed.
    Timeout,
    /// The start cannot go on: a setting, a model or a file is missing or wrong.
    Config,
    /// A defect of ours.
    Internal,
}

/// An error with a message for the client, and what caused it for the log.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    /// JSON pointer of the field that is wrong (RFC 6901), for [`ErrorKind::Invalid`].
    pointer: Option<String>,
    /// How long a dependency asks to be left alone, for [`ErrorKind::Unavailable`].
    retry_after: Option<Duration>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `kind` with a message that a client may read: lower case, no full stop.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), pointer: None, retry_after: None, source: None }
    }

    /// Keeps what caused this error, for the log.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Names the field that is wrong by its JSON pointer, such as `/filters/year`.
    #[must_use]
    pub fn at(mut self, pointer: impl Into<String>) -> Self {
        self.pointer = Some(pointer.into());
        self
    }

    /// Keeps how long the dependency asks to be left alone.
    #[must_use]
    pub fn with_retry_after(mut self, pause: Duration) -> Self {
        self.retry_after = Some(pause);
        self
    }

    /// [`ErrorKind::Invalid`] at a field.
    pub fn invalid(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message).at(pointer)
    }

    /// [`ErrorKind::NotFound`]: the same words whether it is missing or not the caller's.
    pub fn not_found(what: &str) -> Self {
        Self::new(ErrorKind::NotFound, format!("no such {what}"))
    }

    /// [`ErrorKind::Unavailable`] with its cause.
    pub fn unavailable(
        message: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::new(ErrorKind::Unavailable, message).with_source(source)
    }

    /// [`ErrorKind::Internal`] with its cause.
    pub fn internal(message: impl Into<String>, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::new(ErrorKind::Internal, message).with_source(source)
    }

    /// [`ErrorKind::Config`]: one line that names the setting and what to do.
    pub fn config(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Config, message)
    }

    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The message for the client.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// JSON pointer of the wrong field, if one is known.
    pub fn pointer(&self) -> Option<&str> {
        self.pointer.as_deref()
    }

    /// How long the dependency asks to be left alone, if it does.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Whether trying the same thing again may succeed.
    pub fn is_transient(&self) -> bool {
        matches!(self.kind, ErrorKind::Unavailable | ErrorKind::Timeout)
    }

    /// The message with every cause behind it, for the log: `a: b: c`.
    pub fn chain(&self) -> String {
        let mut text = self.message.clone();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| &**source as &(dyn std::error::Error + 'static))
    }
}
