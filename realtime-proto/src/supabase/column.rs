//! Columns of a row, and the values of servers that send every value as text.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;
use core::iter::Peekable;
use core::str::Chars;

use bytes::Bytes;
use serde::Deserialize;

use super::row::Row;
use crate::payload::Payload;
use crate::wire::json;
use crate::wire::write_json_string;

/// A column of the table a row change is about.
///
/// # Examples
///
/// ```
/// use realtime_proto::Payload;
/// use realtime_proto::supabase::Column;
///
/// let id = Column::new("id", "int8");
/// let sent = Payload::from_json(r#""9007199254740993""#)?;
/// assert_eq!(id.convert(&sent).to::<i64>()?, 9_007_199_254_740_993);
/// # Ok::<(), realtime_proto::PayloadError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Column {
    /// The name.
    pub name: String,
    /// The name of its type in PostgreSQL, `int4` for instance; that of an array begins with `_`.
    #[serde(rename = "type")]
    pub type_name: String,
}

impl Column {
    /// A column of this name and type.
    #[must_use]
    pub fn new(name: impl Into<String>, type_name: impl Into<String>) -> Self {
        Self { name: name.into(), type_name: type_name.into() }
    }

    /// A value of the column as JSON of its type, where a server sent it as text.
    ///
    /// Protocol §5.5. What is not text is returned as it is, and so is text that does not read as a
    /// value of the type. Numbers keep all their digits, however many there are.
    ///
    /// | type | text | becomes |
    /// |---|---|---|
    /// | `bool` | `t`, `f` | `true`, `false` |
    /// | `int2` `int4` `int8` `float4` `float8` `numeric` `oid` | `1.10` | `1.10`, a number |
    /// | `json` `jsonb` | `{"a":1}` | the value that is written there |
    /// | `timestamp` | `2026-01-02 03:04:05` | `2026-01-02T03:04:05` |
    /// | `_` and any of these | `{1,NULL}` | an array of such values |
    /// | any other | | itself |
    ///
    /// This is what realtime-js does, but where that loses something:
    ///
    /// - An integer beyond 2^53 and a decimal stay exact; realtime-js rounds them to doubles.
    /// - Text that only begins like a number (`12abc`) stays text, and so do `Infinity` and `NaN`,
    ///   for which JSON has no number.
    /// - Arrays are read by PostgreSQL's own grammar: commas inside quotes do not split, escapes
    ///   are undone, an unquoted `NULL` is null, arrays nest, and `{1,true}` of a text type is an
    ///   array of texts.
    #[must_use]
    pub fn convert(&self, value: &Payload) -> Payload {
        match value.as_json().map(|raw| convert(&self.type_name, raw)) {
            Some(Cow::Owned(text)) => Payload::trusted_json(Bytes::from(text)),
            Some(Cow::Borrowed(_)) | None => value.clone(),
        }
    }
}

/// A row with the values of its columns [converted](Column::convert); a column that is not among
/// `columns` keeps its value.
///
/// # Examples
///
/// ```
/// use realtime_proto::Payload;
/// use realtime_proto::supabase::{Column, convert_row};
///
/// let columns = [Column::new("id", "int4"), Column::new("tags", "_text")];
/// let sent = Payload::from_json(r#"{"id":"1","tags":"{a,\"b,c\"}"}"#)?;
/// let row = convert_row(&columns, &sent);
/// assert_eq!(row.as_json(), Some(r#"{"id":1,"tags":["a","b,c"]}"#));
/// # Ok::<(), realtime_proto::PayloadError>(())
/// ```
#[must_use]
pub fn convert_row(columns: &[Column], row: &Payload) -> Payload {
    let Some(read) = row.as_json().and_then(Row::read) else { return row.clone() };
    let mut text = Vec::from(&b"{"[..]);
    let mut changed = false;
    for (name, raw) in read.columns() {
        if text.len() > 1 {
            text.push(b',');
        }
        write_json_string(name, &mut text);
        text.push(b':');
        let column = columns.iter().find(|column| column.name == name);
        let value = column.map_or(Cow::Borrowed(raw), |column| convert(&column.type_name, raw));
        changed |= matches!(value, Cow::Owned(_));
        text.extend_from_slice(value.as_bytes());
    }
    text.push(b'}');
    if changed { Payload::trusted_json(Bytes::from(text)) } else { row.clone() }
}

/// The raw JSON of a value, borrowed when it stays as it is.
fn convert<'a>(type_name: &str, raw: &'a str) -> Cow<'a, str> {
    if !raw.starts_with('"') {
        return Cow::Borrowed(raw);
    }
    let converted = json::string(raw).and_then(|text| convert_text(type_name, &text));
    converted.map_or(Cow::Borrowed(raw), Cow::Owned)
}

/// The JSON of a value that came as text; `None` when it stays text.
fn convert_text(type_name: &str, text: &str) -> Option<String> {
    match type_name {
        "bool" => match text {
            "t" => Some("true".into()),
            "f" => Some("false".into()),
            _ => None,
        },
        "int2" | "int4" | "int8" | "float4" | "float8" | "numeric" | "oid" => {
            is_number(text).then(|| text.into())
        }
        "json" | "jsonb" => json::is_json(text.as_bytes()).then(|| text.into()),
        "timestamp" => text.contains(' ').then(|| quoted(&text.replacen(' ', "T", 1))),
        array => convert_array(array.strip_prefix('_')?, text),
    }
}

fn is_number(text: &str) -> bool {
    text.starts_with(|c: char| c == '-' || c.is_ascii_digit())
        && text.ends_with(|c: char| c.is_ascii_digit())
        && json::is_json(text.as_bytes())
}

fn quoted(text: &str) -> String {
    let mut json = Vec::with_capacity(text.len() + 2);
    write_json_string(text, &mut json);
    String::from_utf8(json).unwrap_or_default()
}

/// More dimensions than PostgreSQL has.
const DIMENSIONS_MAX: usize = 6;

/// The JSON of an array in PostgreSQL's notation, `{1,"a b",NULL,{2}}`; `None` when it is none.
fn convert_array(element_type: &str, text: &str) -> Option<String> {
    let mut chars = text.chars().peekable();
    let mut json = String::new();
    read_array(element_type, &mut chars, DIMENSIONS_MAX, &mut json)?;
    chars.next().is_none().then_some(json)
}

fn read_array(
    element_type: &str,
    chars: &mut Peekable<Chars<'_>>,
    dimensions: usize,
    json: &mut String,
) -> Option<()> {
    chars.next_if_eq(&'{')?;
    let deeper = dimensions.checked_sub(1)?;
    json.push('[');
    skip_spaces(chars);
    if chars.next_if_eq(&'}').is_some() {
        json.push(']');
        return Some(());
    }
    loop {
        skip_spaces(chars);
        match chars.peek()? {
            '{' => read_array(element_type, chars, deeper, json)?,
            '"' => push_element(element_type, &read_quoted(chars)?, json),
            _ => {
                let element = read_unquoted(chars)?;
                if element.eq_ignore_ascii_case("null") {
                    json.push_str("null");
                } else {
                    push_element(element_type, &element, json);
                }
            }
        }
        skip_spaces(chars);
        match chars.next()? {
            ',' => json.push(','),
            '}' => {
                json.push(']');
                return Some(());
            }
            _ => return None,
        }
    }
}

fn push_element(element_type: &str, text: &str, json: &mut String) {
    json.push_str(&convert_text(element_type, text).unwrap_or_else(|| quoted(text)));
}

fn skip_spaces(chars: &mut Peekable<Chars<'_>>) {
    while chars.next_if(|c| c.is_ascii_whitespace()).is_some() {}
}

fn read_quoted(chars: &mut Peekable<Chars<'_>>) -> Option<String> {
    chars.next_if_eq(&'"')?;
    let mut text = String::new();
    loop {
        match chars.next()? {
            '"' => return Some(text),
            '\\' => text.push(chars.next()?),
            c => text.push(c),
        }
    }
}

/// An element up to the comma or brace that ends it; `None` when there is nothing.
fn read_unquoted(chars: &mut Peekable<Chars<'_>>) -> Option<String> {
    let mut text = String::new();
    while let Some(c) = chars.next_if(|c| !matches!(c, ',' | '{' | '}' | '"')) {
        text.push(if c == '\\' { chars.next()? } else { c });
    }
    let text = text.trim_ascii_end();
    (!text.is_empty()).then(|| text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn converted(type_name: &str, text: &str) -> String {
        let value = Payload::json(text).unwrap();
        Column::new("c", type_name).convert(&value).as_json().unwrap().into()
    }

    #[test]
    fn numbers_keep_every_digit() {
        for (type_name, text, expected) in [
            ("int8", "9223372036854775807", "9223372036854775807"),
            ("int8", "-9223372036854775808", "-9223372036854775808"),
            ("numeric", "12345678901234567890.1230", "12345678901234567890.1230"),
            ("float8", "1e+20", "1e+20"),
            ("float8", "-1.5e-07", "-1.5e-07"),
            ("oid", "4294967295", "4294967295"),
            ("_int8", "{9007199254740993,-1}", "[9007199254740993,-1]"),
        ] {
            assert_eq!(converted(type_name, text), expected);
        }
    }

    #[test]
    fn what_does_not_read_as_the_type_stays_text() {
        for (type_name, text) in [
            ("int4", "12abc"),
            ("int4", ""),
            ("int4", " 1"),
            ("int4", "1 "),
            ("float8", "Infinity"),
            ("numeric", "NaN"),
            ("bool", "true"),
            ("jsonb", "{bad"),
            ("uuid", "t"),
            ("_int4", "1,2"),
            ("_int4", "{1,2"),
            ("_int4", "{1,2}x"),
            ("_int4", "{1,,2}"),
            ("_text", "{\"a}"),
            ("_text", "{a\"b}"),
            ("_int4", "{{{{{{{1}}}}}}}"),
        ] {
            assert_eq!(converted(type_name, text), quoted(text), "{type_name}");
        }
    }

    /// As `select …::text` of PostgreSQL writes them.
    #[test]
    fn arrays_are_read_by_the_grammar_of_postgresql() {
        for (type_name, text, expected) in [
            ("_text", r#"{"a,b",c}"#, r#"["a,b","c"]"#),
            ("_text", r#"{"say \"hi\"","\\","{}"}"#, r#"["say \"hi\"","\\","{}"]"#),
            ("_text", r#"{NULL,"NULL",null}"#, r#"[null,"NULL",null]"#),
            ("_text", "{1,true}", r#"["1","true"]"#),
            ("_int4", "{{1,2},{3,NULL}}", "[[1,2],[3,null]]"),
            ("_bool", "{t,f}", "[true,false]"),
            ("_jsonb", r#"{"{\"a\": [1]}","2"}"#, r#"[{"a": [1]},2]"#),
            ("_float8", "{NaN,1.50}", r#"["NaN",1.50]"#),
            ("_timestamp", r#"{"2026-01-02 03:04:05"}"#, r#"["2026-01-02T03:04:05"]"#),
            ("_text", "{ a , b c }", r#"["a","b c"]"#),
            ("_text", "{}", "[]"),
        ] {
            assert_eq!(converted(type_name, text), expected);
        }
    }

    #[test]
    fn a_value_that_is_no_text_stays_as_it_is() {
        for raw in ["null", "true", "1.50", "[1, 2]", "{\"a\": 1}"] {
            let value = Payload::from_json(raw).unwrap();
            for type_name in ["int4", "bool", "jsonb", "_int4", "text"] {
                assert_eq!(Column::new("c", type_name).convert(&value), value);
            }
        }
        let bytes = Payload::binary(Vec::from(&b"t"[..]));
        assert_eq!(Column::new("c", "bool").convert(&bytes), bytes);
    }

    #[test]
    fn a_row_without_text_to_convert_is_not_copied() {
        let columns = [Column::new("id", "int4"), Column::new("name", "text")];
        let row = Payload::from_json(r#"{"id": 1, "name": "1", "other": "t"}"#).unwrap();
        let converted = convert_row(&columns, &row);
        assert_eq!(converted.as_bytes().as_ptr(), row.as_bytes().as_ptr());
        let list = Payload::from_json("[1]").unwrap();
        assert_eq!(convert_row(&columns, &list), list);
    }
}
