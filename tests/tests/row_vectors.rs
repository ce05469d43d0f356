//! `column_values.json`: what the official client makes of values that came as text, and what ours
//! makes of them. `filters.json`: the same for filters. And what holds for every value.

use proptest::prelude::*;
use realtime_proto::Payload;
use realtime_proto::supabase::{Column, ColumnFilter, Filter, FilterBuilder, FilterError};
use realtime_tests::fixture;
use serde_json::{Value, json};

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

/// A text as PostgreSQL writes it as an element of an array: with quotes around it wherever it
/// could be taken for something else.
fn element(text: &str) -> String {
    let special = |c: char| matches!(c, ',' | '{' | '}' | '"' | '\\') || c.is_ascii_whitespace();
    if !text.is_empty() && !text.contains(special) && !text.eq_ignore_ascii_case("null") {
        return text.into();
    }
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// An array of texts and nulls, in JSON and as PostgreSQL writes it.
fn arrays() -> impl Strategy<Value = (Value, String)> {
    let text = prop_oneof!["[a-zN{},\"\\\\ ]{0,4}", any::<String>(), Just("null".to_owned())];
    let leaf = prop::option::of(text).prop_map(|text| {
        (json!(text), text.map_or_else(|| "NULL".to_owned(), |text| element(&text)))
    });
    let of = |inner: BoxedStrategy<(Value, String)>| {
        let elements = prop::collection::vec(inner, 0..4);
        elements.prop_map(|elements| {
            let (values, texts): (Vec<Value>, Vec<String>) = elements.into_iter().unzip();
            (Value::Array(values), format!("{{{}}}", texts.join(",")))
        })
    };
    let flat = of(leaf.boxed());
    prop_oneof![flat.clone(), of(flat.boxed())]
}

/// Types of every branch, and some that are none.
const TYPES: [&str; 12] = [
    "bool",
    "int8",
    "numeric",
    "jsonb",
    "timestamp",
    "text",
    "_text",
    "_int4",
    "_jsonb",
    "__text",
    "_",
    "",
];

fn filter_condition() -> impl Strategy<Value = (String, u8, bool, Vec<String>)> {
    let column = "[a-z_.é\\\\][a-z_. é\\\\]{0,3}[a-z]";
    let value = prop_oneof!["[a-z,()\"\\\\. ]{0,5}", any::<String>()];
    (column, any::<u8>(), any::<bool>(), prop::collection::vec(value, 1..5))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_array_reads_back_as_what_it_was_written_from((values, text) in arrays()) {
        let converted = Column::new("c", "_text").convert(&Payload::json(&text).unwrap());
        prop_assert_eq!(converted.to::<Value>().unwrap(), values, "{}", text);
    }

    #[test]
    fn every_text_stays_or_becomes_json(text in any::<String>(), type_name in prop::sample::select(&TYPES[..])) {
        for text in [format!("{{{text}}}"), text] {
            let value = Payload::json(&text).unwrap();
            let converted = Column::new("c", type_name).convert(&value);
            prop_assert!(Payload::from_json(converted.as_json().unwrap()).is_ok());
        }
    }

    #[test]
    fn every_64_bit_integer_arrives_digit_for_digit(number in any::<i64>()) {
        let value = Payload::json(&number.to_string()).unwrap();
        prop_assert_eq!(Column::new("c", "int8").convert(&value).to::<i64>(), Ok(number));
    }

    #[test]
    fn every_filter_that_is_built_reads_back(conditions in prop::collection::vec(filter_condition(), 0..4)) {
        let mut builder = Filter::builder();
        for (column, operator, negated, values) in &conditions {
            let column = builder.column(column);
            let column = if *negated { column.not() } else { column };
            let value = &values[0];
            builder = match operator % 8 {
                0 => column.eq(value),
                1 => column.gte(value),
                2 => column.like(value),
                3 => column.imatches(value),
                4 => column.is_distinct(value),
                5 => column.is_unknown(),
                _ => column.one_of(values),
            };
        }
        let filter = builder.build().unwrap();
        let text = filter.to_string();
        prop_assert_eq!(text.parse(), Ok(filter), "{}", text);
    }
}
