//! The columns of a row, read one level deep, and how their values compare.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;
use core::cmp::Ordering;
use core::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// A JSON object as its keys and raw values, in the order they were written.
///
/// A key that comes twice counts as it was last, at the place where it was first, as in
/// PostgreSQL's `jsonb` and in JavaScript.
pub(crate) struct Row<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Row<'a> {
    /// Reads `text`; `None` when it is not a JSON object.
    pub(crate) fn read(text: &'a str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// The raw JSON of one column.
    pub(crate) fn column(&self, name: &str) -> Option<&'a str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.get())
    }

    /// Every column with its raw JSON.
    pub(crate) fn columns(&self) -> impl Iterator<Item = (&str, &'a str)> {
        self.0.iter().map(|(key, value)| (&**key, value.get()))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Row<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct RowVisitor;

        impl<'de> Visitor<'de> for RowVisitor {
            type Value = Row<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Row<'de>, A::Error> {
                let mut columns: Vec<(Cow<'de, str>, &'de RawValue)> = Vec::new();
                let mut index = alloc::collections::BTreeMap::new();
                while let Some(Key(key)) = map.next_key::<Key<'de>>()? {
                    let value = map.next_value()?;
                    match index.get(&key) {
                        Some(&at) => columns[at] = (key, value),
                        None => {
                            index.insert(key.clone(), columns.len());
                            columns.push((key, value));
                        }
                    }
                }
                Ok(Row(columns))
            }
        }

        deserializer.deserialize_map(RowVisitor)
    }
}

/// A key that borrows unless it holds an escape; a bare `Cow` would always own.
#[derive(serde::Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

/// One value of a row, as far as a comparison cares.
#[derive(Debug, PartialEq)]
pub(super) enum Cell<'a> {
    Null,
    Bool(bool),
    Number(&'a str),
    Text(Cow<'a, str>),
}

impl<'a> Cell<'a> {
    pub(super) fn read(raw: &'a str) -> Self {
        match raw.bytes().next() {
            Some(b'n') => Self::Null,
            Some(b't') => Self::Bool(true),
            Some(b'f') => Self::Bool(false),
            Some(b'-' | b'0'..=b'9') => Self::Number(raw),
            Some(b'"') => match serde_json::from_str::<String>(raw) {
                Ok(text) => Self::Text(text.into()),
                Err(_) => Self::Text(raw.into()),
            },
            _ => Self::Text(raw.into()),
        }
    }

    /// As text; `None` for null.
    pub(super) fn text(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Null => None,
            Self::Bool(true) => Some("true".into()),
            Self::Bool(false) => Some("false".into()),
            Self::Number(raw) => Some((*raw).into()),
            Self::Text(text) => Some((&**text).into()),
        }
    }

    /// How it stands to the value of a condition; `None` for null.
    pub(super) fn compare(&self, value: &str) -> Option<Ordering> {
        match self {
            Self::Null => None,
            Self::Bool(held) => match value.to_ascii_lowercase().as_str() {
                "true" | "t" => Some(held.cmp(&true)),
                "false" | "f" => Some(held.cmp(&false)),
                _ => Some((if *held { "true" } else { "false" }).cmp(value)),
            },
            Self::Number(raw) => Some(compare_numbers(raw, value).unwrap_or_else(|| {
                // Not a number on the other side: text is all there is to compare.
                (*raw).cmp(value)
            })),
            Self::Text(text) => Some((**text).cmp(value)),
        }
    }
}

fn compare_numbers(left: &str, right: &str) -> Option<Ordering> {
    if let (Ok(left), Ok(right)) = (left.parse::<i128>(), right.parse::<i128>()) {
        return Some(left.cmp(&right));
    }
    let (left, right) = (left.parse::<f64>().ok()?, right.parse::<f64>().ok()?);
    left.partial_cmp(&right)
}

/// SQL `LIKE`, in time proportional to text times pattern.
pub(super) fn like(text: &str, pattern: &str) -> bool {
    enum Piece {
        Any,
        One,
        Char(char),
    }
    let mut pieces = Vec::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        pieces.push(match c {
            '%' => Piece::Any,
            '_' => Piece::One,
            '\\' => Piece::Char(chars.next().unwrap_or('\\')),
            _ => Piece::Char(c),
        });
    }
    let text: Vec<char> = text.chars().collect();
    let (mut t, mut p) = (0, 0);
    // Where to go on when the newest `%` has to swallow one more character.
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        match pieces.get(p) {
            Some(Piece::Any) => {
                p += 1;
                retry = Some((p, t));
                continue;
            }
            Some(Piece::One) => {
                p += 1;
                t += 1;
                continue;
            }
            Some(Piece::Char(c)) if *c == text[t] => {
                p += 1;
                t += 1;
                continue;
            }
            Some(Piece::Char(_)) | None => {}
        }
        let Some((back, from)) = retry else {
            return false;
        };
        retry = Some((back, from + 1));
        (p, t) = (back, from + 1);
    }
    pieces[p..].iter().all(|piece| matches!(piece, Piece::Any))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_key_counts_as_it_was_last() {
        let row = Row::read(r#"{"a":1,"b":2,"a":3}"#).unwrap();
        assert_eq!(row.column("a"), Some("3"));
        assert_eq!(row.column("b"), Some("2"));
        assert_eq!(row.column("c"), None);
    }

    #[test]
    fn only_an_object_is_a_row() {
        for text in ["[]", "1", "null", "\"x\"", "", "{"] {
            assert!(Row::read(text).is_none(), "{text}");
        }
    }

    #[test]
    fn like_knows_its_wildcards_and_escapes() {
        for (text, pattern, expected) in [
            ("alpha", "a%", true),
            ("alpha", "%pha", true),
            ("alpha", "a%h%", true),
            ("alpha", "_lpha", true),
            ("alpha", "lpha", false),
            ("100%", r"100\%", true),
            ("100x", r"100\%", false),
            ("", "%", true),
            ("", "_", false),
            ("é😀", "__", true),
        ] {
            assert_eq!(like(text, pattern), expected, "{text} like {pattern}");
        }
    }
}
