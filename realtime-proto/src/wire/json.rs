//! Just enough JSON to find one's way in a frame without building anything.
//!
//! A value is checked against the grammar of RFC 8259 while it is skipped, so what is handed on as
//! raw JSON is JSON. Nothing is allocated but for strings with escapes and for nesting deeper than
//! 128.

use alloc::borrow::Cow;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

/// A mistake and the byte it is at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JsonError {
    what: Cow<'static, str>,
    at: usize,
}

impl JsonError {
    pub(crate) fn missing(key: &'static str) -> Self {
        Self { what: alloc::format!("the key `{key}` is missing").into(), at: 0 }
    }
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.what, self.at)
    }
}

/// A place in a JSON text.
#[derive(Clone, Debug)]
pub(crate) struct Cursor<'a> {
    text: &'a str,
    at: usize,
    /// Where the text begins in the frame, for errors.
    offset: usize,
}

/// The open arrays and objects around a place, innermost last: a bit each, set for objects.
#[derive(Default)]
struct Nesting {
    innermost: u128,
    depth: u32,
    /// Full words of what lies further out.
    outer: Vec<u128>,
}

impl Nesting {
    fn open(&mut self, object: bool) {
        if self.depth > 0 && self.depth % 128 == 0 {
            self.outer.push(self.innermost);
            self.innermost = 0;
        }
        self.innermost = (self.innermost << 1) | u128::from(object);
        self.depth += 1;
    }

    fn close(&mut self) {
        self.depth -= 1;
        self.innermost >>= 1;
        if self.depth % 128 == 0 {
            self.innermost = self.outer.pop().unwrap_or_default();
        }
    }

    const fn in_object(&self) -> bool {
        self.innermost & 1 == 1
    }
}

impl<'a> Cursor<'a> {
    pub(crate) const fn new(text: &'a str) -> Self {
        Self::at(text, 0)
    }

    /// A text that begins `offset` bytes into the frame.
    pub(crate) const fn at(text: &'a str, offset: usize) -> Self {
        Self { text, at: 0, offset }
    }

    /// Skips white space and tells the byte that follows.
    pub(crate) fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = bytes.get(self.at) {
            self.at += 1;
        }
        bytes.get(self.at).copied()
    }

    /// Takes the byte that must follow.
    pub(crate) fn expect(&mut self, byte: u8, name: &'static str) -> Result<(), JsonError> {
        if self.peek() != Some(byte) {
            return Err(self.error(name));
        }
        self.at += 1;
        Ok(())
    }

    /// Takes a byte if it follows.
    pub(crate) fn accept(&mut self, byte: u8) -> bool {
        let follows = self.peek() == Some(byte);
        self.at += usize::from(follows);
        follows
    }

    /// Makes sure that nothing but white space is left.
    pub(crate) fn end(&mut self) -> Result<(), JsonError> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.mistake("nothing more was expected")),
        }
    }

    /// Takes a string.
    pub(crate) fn string(&mut self, name: &'static str) -> Result<Cow<'a, str>, JsonError> {
        if self.peek() != Some(b'"') {
            return Err(self.error(name));
        }
        let start = self.at;
        if !self.skip_string()? {
            return Ok(Cow::Borrowed(&self.text[start + 1..self.at - 1]));
        }
        let unescaped: String = serde_json::from_str(&self.text[start..self.at])
            .map_err(|e| JsonError { what: e.to_string().into(), at: self.offset + start })?;
        Ok(Cow::Owned(unescaped))
    }

    /// Takes a whole value and gives its text.
    pub(crate) fn value(&mut self) -> Result<&'a str, JsonError> {
        self.peek();
        let start = self.at;
        let mut nesting = Nesting::default();
        loop {
            self.skip_opening(&mut nesting)?;
            // A value has ended here; so may everything it stands in.
            loop {
                if nesting.depth == 0 {
                    return Ok(&self.text[start..self.at]);
                }
                let object = nesting.in_object();
                if self.accept(b',') {
                    if object {
                        self.skip_key()?;
                    }
                    break;
                }
                let (close, name) =
                    if object { (b'}', "`,` or `}`") } else { (b']', "`,` or `]`") };
                self.expect(close, name)?;
                nesting.close();
            }
        }
    }

    /// Where the value that follows begins, for [`since`](Self::since).
    pub(crate) fn mark(&mut self) -> usize {
        self.peek();
        self.at
    }

    /// The text that was taken since a mark.
    pub(crate) fn since(&self, mark: usize) -> &'a str {
        &self.text[mark..self.at]
    }

    /// Skips a scalar, or the openings up to the first one; an empty array or object is whole.
    fn skip_opening(&mut self, nesting: &mut Nesting) -> Result<(), JsonError> {
        loop {
            match self.peek() {
                Some(b'{') => {
                    self.at += 1;
                    if self.accept(b'}') {
                        return Ok(());
                    }
                    nesting.open(true);
                    self.skip_key()?;
                }
                Some(b'[') => {
                    self.at += 1;
                    if self.accept(b']') {
                        return Ok(());
                    }
                    nesting.open(false);
                }
                Some(b'"') => return self.skip_string().map(drop),
                Some(b'-' | b'0'..=b'9') => return self.skip_number(),
                Some(b't') => return self.skip_word("true"),
                Some(b'f') => return self.skip_word("false"),
                Some(b'n') => return self.skip_word("null"),
                Some(_) | None => return Err(self.error("a value")),
            }
        }
    }

    fn skip_key(&mut self) -> Result<(), JsonError> {
        if self.peek() != Some(b'"') {
            return Err(self.error("a key"));
        }
        self.skip_string()?;
        self.expect(b':', "`:`")
    }

    fn skip_word(&mut self, word: &'static str) -> Result<(), JsonError> {
        if !self.text[self.at..].starts_with(word) {
            return Err(self.error("a value"));
        }
        self.at += word.len();
        Ok(())
    }

    fn skip_number(&mut self) -> Result<(), JsonError> {
        self.take(b'-');
        if !self.take(b'0') {
            self.skip_digits()?;
        }
        if self.take(b'.') {
            self.skip_digits()?;
        }
        if self.take(b'e') || self.take(b'E') {
            if !self.take(b'+') {
                self.take(b'-');
            }
            self.skip_digits()?;
        }
        Ok(())
    }

    fn skip_digits(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        while self.text.as_bytes().get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
        if self.at == start { Err(self.error("a digit")) } else { Ok(()) }
    }

    fn take(&mut self, byte: u8) -> bool {
        let follows = self.text.as_bytes().get(self.at) == Some(&byte);
        self.at += usize::from(follows);
        follows
    }

    /// Skips a string that begins here, and tells whether it has escapes.
    fn skip_string(&mut self) -> Result<bool, JsonError> {
        let bytes = self.text.as_bytes();
        let mut escapes = false;
        self.at += 1;
        loop {
            match bytes.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(escapes);
                }
                Some(b'\\') => {
                    escapes = true;
                    self.at += 1;
                    self.skip_escape()?;
                }
                Some(0x20..) => self.at += 1,
                Some(_) => {
                    return Err(self.mistake("a control character in a string"));
                }
                None => return Err(self.error("the end of a string")),
            }
        }
    }

    fn skip_escape(&mut self) -> Result<(), JsonError> {
        let rest = &self.text.as_bytes()[self.at..];
        let length = match rest {
            [b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => 1,
            [b'u', digits @ ..]
                if digits.len() >= 4 && digits[..4].iter().all(u8::is_ascii_hexdigit) =>
            {
                5
            }
            _ => return Err(self.error("an escape")),
        };
        self.at += length;
        Ok(())
    }

    fn mistake(&self, what: &'static str) -> JsonError {
        JsonError { what: what.into(), at: self.offset + self.at }
    }

    /// Says what should have been here.
    pub(crate) fn error(&self, wanted: &'static str) -> JsonError {
        let found = match self.text[self.at..].chars().next() {
            Some(letter) => alloc::format!("expected {wanted}, found `{letter}`"),
            None => alloc::format!("expected {wanted}, found the end"),
        };
        JsonError { what: found.into(), at: self.offset + self.at }
    }
}

/// Calls `each` with every key of an object, at the value, which it has to take.
///
/// A key that comes twice is given twice; who keeps the last one reads like JavaScript and Elixir.
pub(crate) fn for_each_key<'a>(
    cursor: &mut Cursor<'a>,
    mut each: impl FnMut(&str, &mut Cursor<'a>) -> Result<(), JsonError>,
) -> Result<(), JsonError> {
    cursor.expect(b'{', "an object")?;
    if cursor.accept(b'}') {
        return Ok(());
    }
    loop {
        let key = cursor.string("a key")?;
        cursor.expect(b':', "`:`")?;
        each(&key, cursor)?;
        if !cursor.accept(b',') {
            return cursor.expect(b'}', "`,` or `}`");
        }
    }
}

/// Calls `each` with every key of an object, the offset of its value, and the value's text.
pub(crate) fn for_each_member<'a>(
    cursor: &mut Cursor<'a>,
    mut each: impl FnMut(&str, usize, &'a str) -> Result<(), JsonError>,
) -> Result<(), JsonError> {
    for_each_key(cursor, |key, cursor| {
        let value = cursor.value()?;
        each(key, cursor.offset + cursor.at - value.len(), value)
    })
}

/// The values of some members of an object, by their keys; `None` when the text is no object.
pub(crate) fn members<'a, const N: usize>(
    text: &'a str,
    keys: [&str; N],
) -> Option<[Option<&'a str>; N]> {
    let mut found = [None; N];
    let mut cursor = Cursor::new(text);
    for_each_member(&mut cursor, |key, _, value| {
        if let Some(at) = keys.iter().position(|wanted| *wanted == key) {
            found[at] = Some(value);
        }
        Ok(())
    })
    .ok()?;
    Some(found)
}

/// Whether the bytes are one JSON value.
pub(crate) fn is_json(bytes: &[u8]) -> bool {
    let Ok(text) = core::str::from_utf8(bytes) else { return false };
    let mut cursor = Cursor::new(text);
    cursor.value().is_ok() && cursor.end().is_ok()
}

/// A JSON string as text; `None` when it is something else.
pub(crate) fn string(text: &str) -> Option<Cow<'_, str>> {
    Cursor::new(text).string("a string").ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn skip(text: &str) -> Result<&str, String> {
        let mut cursor = Cursor::new(text);
        let value = cursor.value().map_err(|e| e.to_string())?;
        cursor.end().map_err(|e| e.to_string())?;
        Ok(value)
    }

    #[test]
    fn what_is_json_is_skipped_whole() {
        for text in [
            "null",
            "true",
            "false",
            "0",
            "-0",
            "-1.5e+10",
            "1E9",
            "\"\"",
            "[]",
            "{}",
            "[[],{}]",
            r#"{"a":[1,{"b":null}],"c":"\u00e9\n\"\\"}"#,
            r#""\ud800""#,
            " [ 1 , 2 ] ",
        ] {
            assert_eq!(skip(text), Ok(text.trim()), "{text}");
        }
    }

    #[test]
    fn what_is_not_json_is_refused_with_its_place() {
        for (text, error) in [
            ("", "expected a value, found the end at byte 0"),
            ("nul", "expected a value, found `n` at byte 0"),
            ("01", "nothing more was expected at byte 1"),
            ("-", "expected a digit, found the end at byte 1"),
            ("1.", "expected a digit, found the end at byte 2"),
            ("1e", "expected a digit, found the end at byte 2"),
            ("[1,]", "expected a value, found `]` at byte 3"),
            ("[1 2]", "expected `,` or `]`, found `2` at byte 3"),
            ("{a:1}", "expected a key, found `a` at byte 1"),
            ("{\"a\" 1}", "expected `:`, found `1` at byte 5"),
            ("{\"a\":1,}", "expected a key, found `}` at byte 7"),
            ("[}", "expected a value, found `}` at byte 1"),
            ("[1}", "expected `,` or `]`, found `}` at byte 2"),
            ("\"a", "expected the end of a string, found the end at byte 2"),
            ("\"\\x\"", "expected an escape, found `x` at byte 2"),
            ("\"\\u12\"", "expected an escape, found `u` at byte 2"),
            ("\"\n\"", "a control character in a string at byte 1"),
            ("{} {}", "nothing more was expected at byte 3"),
        ] {
            assert_eq!(skip(text), Err(error.to_string()), "{text:?}");
        }
    }

    #[test]
    fn nesting_is_kept_apart_however_deep_it_is() {
        for depth in [1, 127, 128, 129, 255, 256, 257, 100_000] {
            let text = ["[".repeat(depth), "]".repeat(depth)].concat();
            assert_eq!(skip(&text), Ok(&*text), "{depth}");
            let text = ["{\"a\":[".repeat(depth), "]}".repeat(depth)].concat();
            assert_eq!(skip(&text), Ok(&*text), "{depth}");
            let text = ["{\"a\":[".repeat(depth), "}]".repeat(depth)].concat();
            assert!(skip(&text).is_err(), "{depth}");
        }
    }

    #[test]
    fn members_are_found_and_the_last_of_two_counts() {
        let text = r#"{"a":1,"b":{"a":2},"\u0061":3}"#;
        assert_eq!(members(text, ["a", "b", "c"]), Some([Some("3"), Some(r#"{"a":2}"#), None]));
        assert_eq!(members("[]", ["a"]), None);
    }
}
