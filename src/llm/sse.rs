//! Server-sent events, as chat APIs stream them: bytes in, the `data` of each event out.
//!
//! Follows the HTML standard's event stream format (lines end with CR, LF or CRLF; comments begin with a colon; several
//! data lines are one event), except that an event's type and id are not kept, because no chat API uses them.

use crate::error::{Error, ErrorKind, Result};

/// Longest event that is believed, in bytes: a token with its wrapping has some hundred.
const MAX_EVENT: usize = 1 << 20;

/// Collects bytes until an event is whole.
#[derive(Debug, Default)]
pub(super) struct Parser {
    line: Vec<u8>,
    data: Vec<u8>,
    has_data: bool,
    after_cr: bool,
}

impl Parser {
    /// The data of every event that `bytes` completes. An event over the bound is [`ErrorKind::Unavailable`].
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<Vec<String>> {
        let mut events = Vec::new();
        for &byte in bytes {
            let second_half = byte == b'\n' && std::mem::take(&mut self.after_cr);
            if second_half {
                continue;
            }
            self.after_cr = byte == b'\r';
            if matches!(byte, b'\r' | b'\n') {
                events.extend(self.end_line());
            } else {
                self.line.push(byte);
            }
            if self.line.len() + self.data.len() > MAX_EVENT {
                return Err(Error::new(ErrorKind::Unavailable, "the language model sent an endless event"));
            }
        }
        Ok(events)
    }

    fn end_line(&mut self) -> Option<String> {
        let line = std::mem::take(&mut self.line);
        let line = line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&line);
        if line.is_empty() {
            let data = std::mem::take(&mut self.data);
            return std::mem::take(&mut self.has_data).then(|| String::from_utf8_lossy(&data).into_owned());
        }
        let value = match line.strip_prefix(b"data") {
            Some([]) => Some(&[][..]),
            Some([b':', b' ', value @ ..] | [b':', value @ ..]) => Some(value),
            _ => None,
        };
        if let Some(value) = value {
            if self.has_data {
                self.data.push(b'\n');
            }
            self.has_data = true;
            self.data.extend_from_slice(value);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str =
        "\u{feff}: hello\r\ndata: {\"a\":\r\ndata:1}\r\n\r\nevent: x\nid: 3\ndata:  zwei\n\n\ndata\r\rdata: [DONE]\n\n";
    const EVENTS: [&str; 4] = ["{\"a\":\n1}", " zwei", "", "[DONE]"];

    #[test]
    fn every_line_ending_and_every_cut_gives_the_same_events() {
        for size in 1..STREAM.len() {
            let mut parser = Parser::default();
            let mut events = Vec::new();
            for piece in STREAM.as_bytes().chunks(size) {
                events.extend(parser.push(piece).unwrap());
            }
            assert_eq!(events, EVENTS, "in pieces of {size}");
        }
    }

    #[test]
    fn characters_cut_between_pieces_come_through() {
        let mut parser = Parser::default();
        let bytes = "data: 十年\n\n".as_bytes();
        assert!(parser.push(&bytes[..8]).unwrap().is_empty());
        assert_eq!(parser.push(&bytes[8..]).unwrap(), ["十年"]);
    }

    #[test]
    fn an_endless_line_is_refused() {
        let mut parser = Parser::default();
        let megabyte = vec![b'x'; MAX_EVENT];
        assert!(parser.push(&megabyte).is_ok());
        assert_eq!(parser.push(b"x").unwrap_err().kind(), ErrorKind::Unavailable);
    }
}
