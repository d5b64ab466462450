//! Reads an export line by line.

use std::io::{Read, Seek, SeekFrom};

use serde_json::Value;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};

use super::line::{FORMAT, Header, Line};
use crate::error::{Error, ErrorKind, Result};

/// Longest line: a piece of an original is 256 KiB, metadata no more than a form's field.
const MAX_LINE: u64 = 8 << 20;

/// The lines after the header.
#[derive(Debug)]
pub(super) struct Lines<R> {
    input: R,
    buffer: Vec<u8>,
    next: Option<Line>,
    /// Lines that were read.
    number: u64,
}

impl<R: AsyncBufRead + Unpin + Send> Lines<R> {
    /// Reads the first line, which says what the rest is.
    pub(super) async fn open(input: R) -> Result<(Header, Self)> {
        let mut lines = Self { input, buffer: Vec::new(), next: None, number: 0 };
        let foreign = || Error::new(ErrorKind::Invalid, "this is not an export of rag-api");
        if !lines.read().await.map_err(|error| foreign().with_source(error))? {
            return Err(foreign());
        }
        let first: Value = serde_json::from_slice(&lines.buffer).map_err(|_| foreign())?;
        match first["rag_api_export"].as_u64() {
            Some(format) if format == u64::from(FORMAT) => {}
            Some(_) => {
                let written_by = first["version"].as_str().unwrap_or("of another version");
                let message = format!("the export was written by rag-api {written_by} in a format unknown to this one");
                return Err(Error::new(ErrorKind::Invalid, message));
            }
            None => return Err(foreign()),
        }
        match serde_json::from_value(first) {
            Ok(Line::Header(header)) => Ok((header, lines)),
            _ => Err(lines.damaged("it is no header")),
        }
    }

    /// The next line; an error where the stream ends, for its last line is none to read over.
    pub(super) async fn next(&mut self) -> Result<Line> {
        if let Some(line) = self.next.take() {
            return Ok(line);
        }
        if !self.read().await? {
            let message = format!(
                "the export is cut off after line {}: its last line, with the counts, is not there",
                self.number
            );
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        serde_json::from_slice(&self.buffer).map_err(|error| self.damaged("it is none of an export").with_source(error))
    }

    /// The next line if it is `wanted`; else it stays the next one.
    pub(super) async fn next_if(&mut self, wanted: impl Fn(&Line) -> bool) -> Result<Option<Line>> {
        let line = self.next().await?;
        if wanted(&line) {
            return Ok(Some(line));
        }
        self.next = Some(line);
        Ok(None)
    }

    /// Nothing may follow the last line.
    pub(super) async fn finish(&mut self) -> Result<()> {
        if self.read().await? { Err(self.damaged("it follows the last one")) } else { Ok(()) }
    }

    /// An error of the line that was read last.
    pub(super) fn damaged(&self, why: &str) -> Error {
        Error::new(ErrorKind::Invalid, format!("line {} of the export is damaged or cut off: {why}", self.number))
    }

    /// Reads a line; false at the end.
    async fn read(&mut self) -> Result<bool> {
        self.buffer.clear();
        let read = (&mut self.input).take(MAX_LINE + 1).read_until(b'\n', &mut self.buffer).await;
        let bytes = read.map_err(|error| Error::unavailable("the export cannot be read", error))?;
        if bytes == 0 {
            return Ok(false);
        }
        self.number += 1;
        if bytes as u64 > MAX_LINE { Err(self.damaged("it is longer than any")) } else { Ok(true) }
    }
}

/// Whether a file ends with the last line of an export. Looks at its end alone, before anything of it is imported.
pub fn ends_whole(file: &mut (impl Read + Seek)) -> std::io::Result<bool> {
    /// More than the last line is long.
    const TAIL: u64 = 4096;
    let length = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut tail = Vec::new();
    file.take(TAIL).read_to_end(&mut tail)?;
    let text = tail.trim_ascii_end();
    let last = text.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    Ok(matches!(serde_json::from_slice(last), Ok(Line::End(_))))
}
