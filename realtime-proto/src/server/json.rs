//! Small pieces of JSON text.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde_json::Value;

use crate::supabase::Row;
use crate::wire::write_json_string;

/// `text` as a JSON string.
pub(super) fn quoted(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len() + 2);
    write_json_string(text, &mut out);
    String::from_utf8(out).expect("a quoted string is UTF-8 as the string was")
}

/// Whether two texts are the same value, whatever the order of keys.
pub(super) fn same(left: &str, right: &str) -> bool {
    if left == right {
        return true;
    }
    let read = |text| serde_json::from_str::<Value>(text).ok();
    read(left).is_some_and(|left| Some(left) == read(right))
}

/// Appends the entries of a JSON object to one that is open and has entries, but not `without`.
pub(super) fn extend_object(out: &mut String, object: &str, without: &[&str]) {
    let Some(row) = Row::read(object) else {
        return;
    };
    for (key, value) in row.columns().filter(|(key, _)| !without.contains(key)) {
        out.push(',');
        out.push_str(&quoted(key));
        out.push(':');
        out.push_str(value);
    }
}

/// A number in 0..=134217727 that equal values share, in the range of Erlang's `phash2`.
pub(super) fn hash(text: &str) -> u32 {
    // Reading and printing again puts keys in order and takes spaces out.
    let canonical = serde_json::from_str::<Value>(text)
        .map_or_else(|_| text.into(), |value: Value| value.to_string());
    let mut hash: u64 = 0xCBF2_9CE4_8422_2325;
    for byte in canonical.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
    }
    ((hash ^ hash >> 27 ^ hash >> 54) & 0x07FF_FFFF) as u32
}

/// A JSON text as Elixir's `inspect` shows it, which is how Supabase quotes what it was sent.
pub(super) fn inspect(text: &str) -> String {
    serde_json::from_str::<Value>(text).map_or_else(|_| text.into(), |value| inspect_value(&value))
}

fn inspect_value(value: &Value) -> String {
    let list = |items: Vec<String>| items.join(", ");
    match value {
        Value::Null => "nil".into(),
        Value::Array(items) => format!("[{}]", list(items.iter().map(inspect_value).collect())),
        Value::Object(map) => {
            let entries = map
                .iter()
                .map(|(key, value)| format!("{} => {}", quoted(key), inspect_value(value)));
            format!("%{{{}}}", list(entries.collect()))
        }
        Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_share_a_hash_and_stay_in_range() {
        let hash_of_one = hash(r#"{"event":"*","table":"t"}"#);
        assert_eq!(hash_of_one, hash(r#"{ "table": "t", "event": "*" }"#));
        assert_ne!(hash_of_one, hash(r#"{"event":"*","table":"u"}"#));
        assert!((0..1_000).all(|n| hash(&n.to_string()) <= 134_217_727));
    }

    #[test]
    fn inspected_values_look_like_elixir() {
        assert_eq!(inspect("{}"), "%{}");
        assert_eq!(
            inspect(r#"{"b":[1,null],"a":"x"}"#),
            r#"%{"a" => "x", "b" => [1, nil]}"#
        );
    }
}
