//! Cuts rich text into braces, control words and characters.

pub(super) enum Token {
    /// `{`
    Open,
    /// `}`
    Close,
    /// A control word and its number.
    Word(String, Option<i32>),
    /// `\*`: the destination that follows may be ignored.
    Optional,
    /// A byte of text, in the encoding of its font; `None` if its digits are none.
    Byte(Option<u8>),
    /// A character that has a symbol of its own.
    Symbol(&'static str),
}

pub(super) struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Passes over so many bytes of binary data.
    pub(super) fn pass(&mut self, bytes: usize) {
        self.at = self.at.saturating_add(bytes);
    }

    fn byte(&mut self) -> Option<u8> {
        let byte = self.bytes.get(self.at).copied();
        self.at += usize::from(byte.is_some());
        byte
    }

    /// After a backslash: a symbol, a byte in hexadecimal, or a word with a number.
    fn control(&mut self) -> Option<Token> {
        Some(match self.byte()? {
            b'\'' => {
                let digits = self.bytes.get(self.at..self.at + 2).and_then(|digits| std::str::from_utf8(digits).ok());
                self.at += 2;
                Token::Byte(digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()))
            }
            b'*' => Token::Optional,
            b'~' => Token::Symbol("\u{a0}"),
            b'_' => Token::Symbol("-"),
            b'\r' | b'\n' => Token::Word("par".to_owned(), None),
            symbol @ (b'\\' | b'{' | b'}') => Token::Byte(Some(symbol)),
            symbol if symbol.is_ascii_alphabetic() => self.word(),
            _ => Token::Symbol(""),
        })
    }

    fn word(&mut self) -> Token {
        let start = self.at - 1;
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_alphabetic) {
            self.at += 1;
        }
        let word = String::from_utf8_lossy(&self.bytes[start..self.at]).into_owned();
        let digits = self.at;
        if self.bytes.get(self.at) == Some(&b'-') {
            self.at += 1;
        }
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
        let number = std::str::from_utf8(&self.bytes[digits..self.at]).ok().and_then(|digits| digits.parse().ok());
        if self.bytes.get(self.at) == Some(&b' ') {
            self.at += 1;
        }
        Token::Word(word, number)
    }
}

impl Iterator for Scanner<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        loop {
            return Some(match self.byte()? {
                b'{' => Token::Open,
                b'}' => Token::Close,
                b'\\' => return self.control(),
                b'\r' | b'\n' | 0 => continue,
                byte => Token::Byte(Some(byte)),
            });
        }
    }
}
