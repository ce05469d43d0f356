//! `column_values.json`: what the official client makes of values that came as text, and what ours
//! makes of them. `filters.json`: the same for filters.

use realtime_proto::Payload;
use realtime_proto::supabase::{Column, ColumnFilter, Filter, FilterBuilder, FilterError};
use realtime_tests::fixture;
use serde_json::Value;

/// Where the protocol sheet calls the official client lossy, what PostgreSQL meant: by type and
/// text, as JSON.
const MEANT: [(&str, &str, &str); 3] = [
    ("int8", "9007199254740993", "9007199254740993"),
    ("_text", r#"{"a,b",c}"#, r#"["a,b","c"]"#),
    ("_int8", "{1,NULL,3}", "[1,null,3]"),
];

#[test]
fn every_vector_of_column_values_converts_as_recorded_or_exactly() {
    let vectors: Vec<Value> = serde_json::from_str(&fixture("column_values.json")).unwrap();
    assert_eq!(vectors.len(), 32);
    let mut meant = 0;
    for vector in &vectors {
        let type_name = vector["type"].as_str().unwrap();
        let converted =
            Column::new("c", type_name).convert(&Payload::json(&vector["value"]).unwrap());
        let ours: Value = converted.to().unwrap();
        let text = vector["value"].as_str().unwrap_or_default();
        let exact = MEANT.iter().find(|(of, from, _)| (*of, *from) == (type_name, text));
        if let Some((_, _, expected)) = exact {
            assert_eq!(converted.as_json(), Some(*expected));
            assert_ne!(ours, vector["output"], "no exception is needed for {vector}");
            meant += 1;
        } else {
            assert_eq!(ours, vector["output"], "{vector}");
        }
    }
    assert_eq!(meant, MEANT.len());
}

fn on(column: &str) -> ColumnFilter {
    Filter::builder().column(column)
}

/// The calls behind each vector.
fn filters() -> [(&'static str, FilterBuilder); 15] {
    let none: [&str; 0] = [];
    [
        ("eq", on("id").eq(1)),
        ("multi", on("id").eq(1).column("age").lt(30)),
        ("comma", on("name").eq("a,b")),
        ("quote", on("n").eq(r#"say "hi"\x"#)),
        ("space", on("n").eq(" x ")),
        ("nulls", on("n").eq("null")),
        ("inn", on("s").one_of(["a", "b,c", "3", "true", "a"])),
        ("notin", on("s").not().one_of(["d", "e"])),
        ("is", on("d").is_null()),
        ("notis", on("d").not().is_null()),
        ("like", on("t").like("%foo%")),
        ("match", on("t").matches("^(a|b)$")),
        ("isd", on("x").is_distinct("null")),
        ("empty", Filter::builder()),
        ("in_empty", on("s").one_of(none)),
    ]
}

#[test]
fn every_vector_of_filters_is_built_and_read_back() {
    let vectors: Value = serde_json::from_str(&fixture("filters.json")).unwrap();
    let vectors = vectors.as_object().unwrap();
    let calls = filters();
    assert_eq!(vectors.len(), calls.len());
    for (name, call) in calls {
        let expected = vectors[name].as_str().unwrap();
        match call.build() {
            Ok(filter) => {
                assert_eq!(filter.to_string(), expected, "{name}");
                assert_eq!(expected.parse(), Ok(filter), "{name}");
            }
            Err(error) => {
                assert!(expected.starts_with("throws: "), "{name}");
                assert_eq!(error, FilterError::NoValues { column: "s".into() });
            }
        }
    }
}
