//! What the npm `@supabase/realtime-js` makes of columns that came as text, and what ours makes of
//! them.
//!
//! The texts are written from values, as PostgreSQL writes them, so there is a third opinion: ours
//! has to give the value back, exactly, and so has npm, but for its [`Weakness`]es.

use std::collections::BTreeMap;

use realtime_proto::Payload;
use realtime_proto::supabase::{Column, convert_row};
use realtime_tests::dice::Dice;
use realtime_tests::fixture;
use realtime_tests::node::Script;
use serde_json::value::RawValue;
use serde_json::{Value, json};

const ROWS: u64 = 20_000;

const INTEGERS: [&str; 4] = ["int2", "int4", "int8", "oid"];
const DECIMALS: [&str; 3] = ["numeric", "float4", "float8"];
const TEXTS: [&str; 9] =
    ["text", "uuid", "date", "timestamptz", "money", "bytea", "inet", "int4range", "my_type"];

/// What the official client is known to get wrong (protocol §5.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Weakness {
    /// A number of JavaScript's, for which JSON has none; ours stays text.
    Infinite,
    /// `NULL` in an array is the text `NULL`.
    Null,
    /// An array in an array is torn apart at its commas.
    Nested,
    /// An array with quotes that is not JSON by chance keeps the quotes, and splits inside of them.
    Quotes,
    /// An array of texts that is JSON by chance has numbers and booleans in it.
    Json,
}

/// A value, how PostgreSQL writes it, and what it is as JSON.
#[derive(Clone, Debug)]
struct Cell {
    type_name: String,
    sent: Value,
    meant: String,
    weakness: Option<Weakness>,
}

/// One value as text and as JSON.
struct Scalar {
    text: String,
    json: String,
}

impl Scalar {
    fn number(text: String) -> Self {
        Self { json: text.clone(), text }
    }

    fn text(text: String) -> Self {
        Self { json: Value::from(text.as_str()).to_string(), text }
    }
}

fn words(dice: &mut Dice) -> String {
    const PIECES: [&str; 20] = [
        "a",
        "B",
        "7",
        "-1",
        "1.5",
        "t",
        "true",
        "null",
        "é",
        "\u{1F600}",
        ",",
        "{",
        "}",
        "\"",
        "\\",
        " ",
        "\n",
        "(",
        "[",
        "'",
    ];
    (0..dice.below(4)).map(|_| *dice.pick(&PIECES)).collect()
}

fn digits(dice: &mut Dice, most: usize) -> String {
    let more = (0..dice.below(most)).map(|_| char::from(b'0' + dice.below(10) as u8));
    let more: String = more.collect();
    format!("{}{more}", 1 + dice.below(9))
}

fn document(dice: &mut Dice, depth: usize) -> Value {
    match dice.below(if depth == 0 { 4 } else { 6 }) {
        0 => Value::Null,
        1 => dice.one_in(2).into(),
        2 => (dice.below(2_000) as i64 - 1_000).into(),
        3 => words(dice).into(),
        4 => (0..dice.below(3)).map(|_| document(dice, depth - 1)).collect(),
        _ => (0..dice.below(3)).map(|_| (words(dice), document(dice, depth - 1))).collect(),
    }
}

fn scalar(type_name: &str, dice: &mut Dice) -> Scalar {
    let sign = if type_name != "oid" && dice.one_in(3) { "-" } else { "" };
    match type_name {
        "bool" => {
            let holds = dice.one_in(2);
            let text = if holds { "t" } else { "f" };
            Scalar { text: text.into(), json: holds.to_string() }
        }
        "int8" => Scalar::number(format!("{sign}{}", dice.roll() >> (1 + dice.below(60)))),
        "int2" | "int4" | "oid" => Scalar::number(format!("{sign}{}", dice.below(30_000))),
        "numeric" => {
            let (whole, part) = (digits(dice, 30), digits(dice, 20));
            Scalar::number(match dice.below(3) {
                0 => format!("{sign}{whole}"),
                1 => format!("{sign}0.000{part}"),
                _ => format!("{sign}{whole}.{part}"),
            })
        }
        "float4" | "float8" => match dice.below(8) {
            0 => Scalar::text("NaN".into()),
            1 => Scalar::text(format!("{sign}Infinity")),
            2 => Scalar::number(format!("{sign}1.{}e-07", digits(dice, 5))),
            3 => Scalar::number(format!("{sign}{}e+20", digits(dice, 1))),
            _ => Scalar::number(format!("{sign}{}.{}", digits(dice, 6), digits(dice, 6))),
        },
        "json" | "jsonb" => {
            let document = document(dice, 2);
            let json = match dice.below(2) {
                0 => document.to_string(),
                _ => serde_json::to_string_pretty(&document).unwrap(),
            };
            Scalar { text: json.clone(), json }
        }
        "timestamp" => {
            let [date, time] = ["2026-01-02", "03:04:05.678"];
            Scalar { text: format!("{date} {time}"), json: format!(r#""{date}T{time}""#) }
        }
        _ => Scalar::text(words(dice)),
    }
}

/// Whether `array_out` of PostgreSQL quotes an element.
fn is_quoted(text: &str) -> bool {
    let special = |c: char| matches!(c, '{' | '}' | ',' | '"' | '\\') || c.is_ascii_whitespace();
    text.is_empty() || text.eq_ignore_ascii_case("null") || text.contains(special)
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', r"\\").replace('"', "\\\""))
}

/// An array of one dimension or two, written as `array_out` of PostgreSQL does.
fn array(element: &str, dice: &mut Dice) -> Cell {
    let mut weakness = None;
    let (mut texts, mut jsons) = (Vec::new(), Vec::new());
    let mut plain = false;
    for _ in 0..dice.below(4) {
        if dice.one_in(12) {
            weakness = Some(Weakness::Null);
            texts.push("NULL".into());
            jsons.push("null".into());
            continue;
        }
        let Scalar { text, json } = scalar(element, dice);
        if text.ends_with("Infinity") && DECIMALS.contains(&element) {
            weakness = weakness.or(Some(Weakness::Infinite));
        }
        plain |= !is_quoted(&text);
        texts.push(if is_quoted(&text) { quoted(&text) } else { text });
        jsons.push(json);
    }
    let (mut text, mut meant) = (texts.join(","), jsons.join(","));
    let is_json = serde_json::from_str::<Value>(&format!("[{text}]")).is_ok();
    if !is_json && text.contains('"') {
        weakness = weakness.or(Some(Weakness::Quotes));
    } else if is_json && plain && TEXTS.contains(&element) {
        weakness = weakness.or(Some(Weakness::Json));
    }
    if !texts.is_empty() && dice.one_in(10) {
        weakness = Some(Weakness::Nested);
        (text, meant) = (format!("{{{text}}},{{{text}}}"), format!("[{meant}],[{meant}]"));
    }
    Cell {
        type_name: format!("_{element}"),
        sent: format!("{{{text}}}").into(),
        meant: format!("[{meant}]"),
        weakness,
    }
}

fn cell(dice: &mut Dice) -> Cell {
    let group: &[&str] = match dice.below(6) {
        0 => &["bool"],
        1 => &INTEGERS,
        2 => &DECIMALS,
        3 => &["json", "jsonb"],
        4 => &["timestamp"],
        _ => &TEXTS,
    };
    let type_name = *dice.pick(group);
    match dice.below(8) {
        // What a server sends that knows JSON's types.
        0 => {
            let sent = document(dice, 2);
            let sent = if sent.is_string() { Value::Null } else { sent };
            let array = ["", "_"][dice.below(2)];
            let meant = sent.to_string();
            Cell { type_name: format!("{array}{type_name}"), sent, meant, weakness: None }
        }
        1..4 => array(type_name, dice),
        _ => {
            let Scalar { text, json } = scalar(type_name, dice);
            let infinite = DECIMALS.contains(&type_name) && text.ends_with("Infinity");
            let weakness = infinite.then_some(Weakness::Infinite);
            Cell { type_name: type_name.into(), sent: text.into(), meant: json, weakness }
        }
    }
}

/// Whether they are the same to JavaScript, whose numbers are all doubles.
fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        // serde_json does not mind the last bits of a double.
        (Value::Number(left), Value::Number(right)) => {
            let [left, right] = [left, right].map(|number| number.as_f64().unwrap());
            (left - right).abs() <= left.abs() * 4.0 * f64::EPSILON
        }
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(l, r)| same(l, r))
        }
        (Value::Object(left), Value::Object(right)) => {
            left.len() == right.len()
                && left.iter().zip(right).all(|((l, left), (r, right))| l == r && same(left, right))
        }
        _ => left == right,
    }
}

/// Ours, column by column.
fn convert(columns: &[Column], record: &Value) -> BTreeMap<String, Box<RawValue>> {
    convert_row(columns, &Payload::json(record).unwrap()).to().unwrap()
}

fn question(cells: &[(String, Cell)]) -> (Vec<Column>, Value, String) {
    let columns = cells.iter().map(|(name, cell)| Column::new(name, &cell.type_name)).collect();
    let record: Value =
        cells.iter().map(|(name, cell)| (name.clone(), cell.sent.clone())).collect();
    let types = cells.iter().map(|(name, cell)| json!({"name": name, "type": cell.type_name}));
    let question = json!({ "columns": types.collect::<Vec<_>>(), "record": record });
    (columns, record, question.to_string())
}

#[test]
fn what_postgresql_writes_is_read_back_exactly_and_as_realtime_js_does_but_for_its_weaknesses() {
    let Some(mut npm) = Script::start("rows") else { return };
    let rows: Vec<Vec<(String, Cell)>> = (0..ROWS)
        .map(|seed| {
            let dice = &mut Dice::new(seed);
            (0..1 + dice.below(5)).map(|at| (format!("c{at}"), cell(dice))).collect()
        })
        .collect();
    let questions: Vec<String> = rows.iter().map(|cells| question(cells).2).collect();
    let mut weak: BTreeMap<Weakness, usize> = BTreeMap::new();
    npm.ask_all(&questions, |at, answer| {
        let (columns, record, _) = question(&rows[at]);
        let npms: Value = serde_json::from_str(answer).unwrap();
        let ours = convert(&columns, &record);
        for (name, cell) in &rows[at] {
            let meant: Value = serde_json::from_str(&cell.meant).unwrap();
            let our: Value = serde_json::from_str(ours[name].get()).unwrap();
            assert_eq!(our, meant, "ours, of {cell:?}");
            let element = cell.type_name.trim_start_matches('_');
            if cell.sent.is_string() && [&INTEGERS[..], &DECIMALS].concat().contains(&element) {
                assert_eq!(ours[name].get(), cell.meant, "every digit");
            }
            match cell.weakness {
                None => assert!(same(&npms[name], &meant), "npm {}, of {cell:?}", npms[name]),
                Some(weakness) => {
                    let count = weak.entry(weakness).or_default();
                    *count += usize::from(!same(&npms[name], &meant));
                }
            }
        }
    });
    for weakness in
        [Weakness::Infinite, Weakness::Null, Weakness::Nested, Weakness::Quotes, Weakness::Json]
    {
        let count = weak.remove(&weakness).unwrap_or_default();
        assert!(count > 100, "{weakness:?} was seen {count} times; is it mended?");
    }
}

/// One column of one row.
fn one(type_name: &str, sent: &Value) -> String {
    let columns = json!([{"name": "c", "type": type_name}]);
    json!({ "columns": columns, "record": {"c": sent} }).to_string()
}

#[test]
fn the_vectors_of_column_values_are_what_the_locked_realtime_js_gives() {
    let Some(mut npm) = Script::start("rows") else { return };
    let vectors: Vec<Value> = serde_json::from_str(&fixture("column_values.json")).unwrap();
    let question = |vector: &Value| one(vector["type"].as_str().unwrap(), &vector["value"]);
    let questions: Vec<String> = vectors.iter().map(question).collect();
    npm.ask_all(&questions, |at, answer| {
        let answer: Value = serde_json::from_str(answer).unwrap();
        assert!(same(&answer["c"], &vectors[at]["output"]), "{answer} for {}", vectors[at]);
    });
}

/// Text of no value: type, text, what npm makes of it, and what ours does.
#[test]
fn each_documented_difference_of_realtime_js_is_there() {
    let Some(mut npm) = Script::start("rows") else { return };
    let cases = [
        // Numbers are doubles.
        ("int8", "9007199254740993", json!(9_007_199_254_740_992_u64), "9007199254740993"),
        ("numeric", "1.10", json!(1.1), "1.10"),
        (
            "numeric",
            "0.1000000000000000055511151231257827",
            json!(0.1),
            "0.1000000000000000055511151231257827",
        ),
        ("float8", "Infinity", json!({"double": "Infinity"}), r#""Infinity""#),
        // A beginning is enough.
        ("int4", "12abc", json!(12), r#""12abc""#),
        ("int4", " 7", json!(7), r#"" 7""#),
        ("int4", "0x10", json!(0), r#""0x10""#),
        // Arrays are JSON, or else split at each comma.
        ("_int8", "{1,NULL,3}", json!([1, "NULL", 3]), "[1,null,3]"),
        ("_int4", "{{1,2},{3,4}}", json!(["{1", 2, "{3", 4]), "[[1,2],[3,4]]"),
        ("_text", r#"{"a,b",c}"#, json!([r#""a"#, r#"b""#, "c"]), r#"["a,b","c"]"#),
        ("_text", "{1,true}", json!([1, true]), r#"["1","true"]"#),
        ("_int4", "{1,,2}", json!([1, "", 2]), r#""{1,,2}""#),
    ];
    let questions: Vec<String> =
        cases.iter().map(|(type_name, text, ..)| one(type_name, &(*text).into())).collect();
    npm.ask_all(&questions, |at, answer| {
        let (type_name, text, npms, our) = &cases[at];
        let answer: Value = serde_json::from_str(answer).unwrap();
        assert_eq!(answer["c"], *npms, "{type_name} {text}");
        let columns = [Column::new("c", *type_name)];
        assert_eq!(convert(&columns, &json!({"c": text}))["c"].get(), *our, "{type_name} {text}");
    });
}

/// Text that was not written from a value, and no array: both leave it alone or read the same, but
/// for numbers that only begin well.
#[test]
fn text_of_no_value_stays_text() {
    const PIECES: [&str; 22] = [
        "t",
        "f",
        "true",
        "null",
        "1",
        "0",
        "-",
        "+",
        ".",
        "e",
        "E5",
        "x",
        " ",
        ":",
        "{",
        "}",
        "[",
        "]",
        "\"",
        ",",
        "2026-01-02",
        "é",
    ];
    let Some(mut npm) = Script::start("rows") else { return };
    let numbers = [&INTEGERS[..], &DECIMALS].concat();
    let types = [&numbers[..], &TEXTS, &["bool", "json", "jsonb", "timestamp"]].concat();
    let mut drawn: Vec<(&str, String)> = Vec::new();
    for seed in 0..ROWS {
        let dice = &mut Dice::new(seed);
        let text = (0..dice.below(5)).map(|_| *dice.pick(&PIECES)).collect();
        drawn.push((*dice.pick::<&str>(&types), text));
    }
    let questions: Vec<String> =
        drawn.iter().map(|(type_name, text)| one(type_name, &text.as_str().into())).collect();
    npm.ask_all(&questions, |at, answer| {
        let (type_name, text) = &drawn[at];
        let npms = &serde_json::from_str::<Value>(answer).unwrap()["c"];
        let ours = convert(&[Column::new("c", *type_name)], &json!({"c": text}));
        let our: Value = serde_json::from_str(ours["c"].get()).unwrap();
        let json = serde_json::from_str::<Value>(text);
        let begins = numbers.contains(type_name)
            && !(json.is_ok_and(|value| value.is_number()) && text.trim() == text);
        if begins {
            assert_eq!(our, **text, "{type_name}");
            assert!(npms == text || npms.is_number() || npms["double"].is_string(), "{npms}");
        } else {
            assert!(same(npms, &our), "{type_name} {text:?}: npm {npms}, ours {our}");
        }
    });
}

/// `convertChangeData` makes an object of the columns, and `__proto__` is none of its own.
#[test]
fn realtime_js_loses_a_column_named_like_a_prototype_and_ours_does_not() {
    let Some(mut npm) = Script::start("rows") else { return };
    let columns = ["__proto__", "constructor", "toString"].map(|name| Column::new(name, "int4"));
    let record = json!({"__proto__": "1", "constructor": "2", "toString": "3"});
    let types: Vec<Value> = columns
        .iter()
        .map(|column| json!({"name": column.name, "type": column.type_name}))
        .collect();
    npm.ask_all(&[json!({ "columns": types, "record": record }).to_string()], |_, answer| {
        let npms: Value = serde_json::from_str(answer).unwrap();
        assert_eq!(npms, json!({"constructor": 2, "toString": 3}));
    });
    let ours = convert_row(&columns, &Payload::json(&record).unwrap());
    let ours: Value = ours.to().unwrap();
    assert_eq!(ours, json!({"__proto__": 1, "constructor": 2, "toString": 3}));
}
