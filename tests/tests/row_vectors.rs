//! `column_values.json`: what the official client makes of values that came as text, and what ours
//! makes of them.
#![expect(clippy::unwrap_used, reason = "a test fails on what it did not expect")]

use realtime_proto::Payload;
use realtime_proto::supabase::Column;
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
