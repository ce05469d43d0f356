//! The columns of a row, read one level deep.

use alloc::borrow::Cow;
use alloc::vec::Vec;
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
        self.0
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.get())
    }

    /// Every column with its raw JSON.
    #[cfg(feature = "server")]
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
}
