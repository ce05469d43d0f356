//! What the filter builder of the npm `@supabase/realtime-js` writes, what ours reads in it, and
//! what ours writes.

use realtime_proto::supabase::{Condition, Filter, FilterBuilder, FilterError, Operator};
use realtime_tests::dice::Dice;
use realtime_tests::fixture;
use realtime_tests::node::Script;
use serde_json::{Value, json};

const FILTERS: u64 = 20_000;

const OPERATORS: [Operator; 13] = [
    Operator::Eq,
    Operator::Neq,
    Operator::Lt,
    Operator::Lte,
    Operator::Gt,
    Operator::Gte,
    Operator::In,
    Operator::Is,
    Operator::Like,
    Operator::Ilike,
    Operator::Match,
    Operator::Imatch,
    Operator::IsDistinct,
];

/// Pieces of values, most of which mean something to a filter.
const PIECES: [&str; 20] = [
    "a",
    "B7",
    "é",
    "\u{1F600}",
    ",",
    "(",
    ")",
    "\"",
    "\\",
    " ",
    ".",
    "=",
    "not.",
    "in.",
    "null",
    "%",
    "_",
    "\n",
    "\u{A0}",
    "\u{2028}",
];

/// One condition, as an application means it.
#[derive(Clone, Debug)]
struct Meant {
    column: &'static str,
    negated: bool,
    operator: Operator,
    values: Vec<Value>,
}

impl Meant {
    fn draw(dice: &mut Dice) -> Self {
        let operator = *dice.pick(&OPERATORS);
        let values = match operator {
            Operator::In => list(dice),
            Operator::Is => {
                let words = [json!(null), json!(true), json!(false), json!("unknown")];
                vec![dice.pick(&words).clone()]
            }
            Operator::Like | Operator::Ilike | Operator::Match | Operator::Imatch => {
                vec![text(dice).into()]
            }
            _ if dice.one_in(10) => vec!["".into()],
            _ => vec![value(dice)],
        };
        let column = *dice.pick(&["id", "user_id", "Größe", "two words"]);
        Self { column, negated: dice.one_in(3), operator, values }
    }

    /// The condition as rows.mjs reads it.
    fn question(&self) -> Value {
        let value = match self.operator {
            Operator::In => Value::Array(self.values.clone()),
            _ => self.values[0].clone(),
        };
        json!([self.column, self.operator.as_str(), value, self.negated])
    }

    /// The values as texts; the builders leave out what a list of `in` holds already.
    fn texts(&self) -> Vec<String> {
        let mut texts = Vec::new();
        for text in self.values.iter().map(shown) {
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        texts
    }

    /// The condition as ours builds it.
    fn add(&self, filter: FilterBuilder) -> FilterBuilder {
        let column = filter.column(self.column);
        let column = if self.negated { column.not() } else { column };
        let texts = self.texts();
        let value = texts[0].as_str();
        match self.operator {
            Operator::Eq => column.eq(value),
            Operator::Neq => column.neq(value),
            Operator::Lt => column.lt(value),
            Operator::Lte => column.lte(value),
            Operator::Gt => column.gt(value),
            Operator::Gte => column.gte(value),
            Operator::In => column.one_of(&texts),
            Operator::Is => match value {
                "null" => column.is_null(),
                "true" => column.is_true(),
                "false" => column.is_false(),
                _ => column.is_unknown(),
            },
            Operator::Like => column.like(value),
            Operator::Ilike => column.ilike(value),
            Operator::Match => column.matches(value),
            Operator::Imatch => column.imatches(value),
            Operator::IsDistinct => column.is_distinct(value),
        }
    }

    fn assert_is(&self, read: &Condition, written: &str) {
        assert_eq!(read.column(), self.column, "{written}");
        assert_eq!(read.is_negated(), self.negated, "{written}");
        assert_eq!(read.operator(), self.operator, "{written}");
        assert_eq!(read.values(), self.texts(), "{written}");
    }
}

fn text(dice: &mut Dice) -> String {
    (0..1 + dice.below(5)).map(|_| *dice.pick(&PIECES)).collect()
}

fn value(dice: &mut Dice) -> Value {
    match dice.below(8) {
        0 => Value::Null,
        1 => dice.one_in(2).into(),
        // Integers that JavaScript holds exactly, and a fraction that both write alike.
        2 => ((dice.roll() >> 12) as i64 * [1, -1][dice.below(2)]).into(),
        3 => json!(0.5),
        _ => text(dice).into(),
    }
}

/// Values for `in`, some of them twice. No two are only alike as text, which the official builder
/// would write twice.
fn list(dice: &mut Dice) -> Vec<Value> {
    let mut values: Vec<Value> = Vec::new();
    for _ in 0..1 + dice.below(4) {
        let value = value(dice);
        if values.iter().all(|other| *other == value || shown(other) != shown(&value)) {
            values.push(value);
        }
    }
    values
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        value => value.to_string(),
    }
}

fn filter(text: &str) -> Filter {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn what_the_official_builder_writes_is_read_as_it_was_meant_and_built_alike() {
    let Some(mut npm) = Script::start("rows") else { return };
    let drawn: Vec<Vec<Meant>> = (0..FILTERS)
        .map(|seed| {
            let dice = &mut Dice::new(seed);
            (0..dice.below(4)).map(|_| Meant::draw(dice)).collect()
        })
        .collect();
    let question = |meant: &Vec<Meant>| -> String {
        json!({ "filter": meant.iter().map(Meant::question).collect::<Vec<_>>() }).to_string()
    };
    let questions: Vec<String> = drawn.iter().map(question).collect();
    npm.ask_all(&questions, |at, answer| {
        let written: String = serde_json::from_str(answer).unwrap();
        let read = filter(&written);
        assert_eq!(read.conditions().len(), drawn[at].len(), "{written}");
        for (meant, read) in drawn[at].iter().zip(read.conditions()) {
            meant.assert_is(read, &written);
        }
        assert_eq!(read.to_string(), written);
        let built = drawn[at].iter().fold(Filter::builder(), |filter, meant| meant.add(filter));
        assert_eq!(built.build(), Ok(read), "{written}");
    });
}

/// Where the two write a value in different ways: what npm writes, what ours writes, and what a
/// server reads in npm's.
#[test]
fn ours_quotes_what_a_server_would_trim_and_npm_what_javascript_would() {
    let Some(mut npm) = Script::start("rows") else { return };
    let cases = [
        // JavaScript does not count U+0085 as a space, and servers do.
        ("x\u{85}", "id=eq.x\u{85}", "id=eq.\"x\u{85}\"", "x"),
        // JavaScript counts U+FEFF as a space, and servers do not.
        ("\u{FEFF}x", "id=eq.\"\u{FEFF}x\"", "id=eq.\u{FEFF}x", "\u{FEFF}x"),
    ];
    let question = |value: &str| json!({ "filter": [["id", "eq", value, false]] }).to_string();
    let questions: Vec<String> = cases.iter().map(|(value, ..)| question(value)).collect();
    npm.ask_all(&questions, |at, answer| {
        let (value, npms, ours, read) = cases[at];
        assert_eq!(serde_json::from_str::<String>(answer).unwrap(), npms);
        assert_eq!(filter(npms).conditions()[0].values(), [read]);
        let built = Filter::builder().column("id").eq(value).build().unwrap();
        assert_eq!(built.to_string(), ours);
        assert_eq!(filter(ours), built);
    });
}

#[test]
fn a_list_is_written_differently_where_it_is_empty_or_holds_an_empty_text_or_the_same_twice() {
    let Some(mut npm) = Script::start("rows") else { return };
    let lists = [json!([]), json!([""]), json!([1, "1"])];
    let question = |list| json!({ "filter": [["id", "in", list, false]] }).to_string();
    let mut npms = Vec::new();
    npm.ask_all(&lists.map(question), |_, answer| {
        npms.push(serde_json::from_str::<Value>(answer).unwrap());
    });
    let throws = "Realtime `in` filter requires at least one value.";
    assert_eq!(npms, [json!({ "throws": throws }), "id=in.()".into(), "id=in.(1,1)".into()]);
    let ours = |values: &[&str]| {
        let built = Filter::builder().column("id").one_of(values).build();
        built.map(|filter| filter.to_string())
    };
    assert_eq!(ours(&[]), Err(FilterError::NoValues { column: "id".into() }));
    assert_eq!(ours(&[""]), Ok(r#"id=in.("")"#.into()));
    assert_eq!(ours(&["1", "1"]), Ok("id=in.(1)".into()));
    // What npm writes for the empty text is a list without values.
    assert!(matches!("id=in.()".parse::<Filter>(), Err(FilterError::NotAList { .. })));
}

/// The calls behind each vector, as rows.mjs reads them.
#[test]
fn the_vectors_of_filters_are_what_the_locked_realtime_js_gives() {
    let Some(mut npm) = Script::start("rows") else { return };
    let vectors: Value = serde_json::from_str(&fixture("filters.json")).unwrap();
    let calls = [
        ("eq", json!([["id", "eq", 1, false]])),
        ("multi", json!([["id", "eq", 1, false], ["age", "lt", 30, false]])),
        ("comma", json!([["name", "eq", "a,b", false]])),
        ("quote", json!([["n", "eq", r#"say "hi"\x"#, false]])),
        ("space", json!([["n", "eq", " x ", false]])),
        ("nulls", json!([["n", "eq", null, false]])),
        ("inn", json!([["s", "in", ["a", "b,c", 3, true, "a"], false]])),
        ("notin", json!([["s", "in", ["d", "e"], true]])),
        ("is", json!([["d", "is", null, false]])),
        ("notis", json!([["d", "is", null, true]])),
        ("like", json!([["t", "like", "%foo%", false]])),
        ("match", json!([["t", "match", "^(a|b)$", false]])),
        ("isd", json!([["x", "isdistinct", null, false]])),
        ("empty", json!([])),
        ("in_empty", json!([["s", "in", [], false]])),
    ];
    assert_eq!(vectors.as_object().unwrap().len(), calls.len());
    let questions = calls.clone().map(|(_, call)| json!({ "filter": call }).to_string());
    npm.ask_all(&questions, |at, answer| {
        let answer: Value = serde_json::from_str(answer).unwrap();
        let text = match answer["throws"].as_str() {
            Some(thrown) => format!("throws: {thrown}").into(),
            None => answer,
        };
        assert_eq!(text, vectors[calls[at].0], "{}", calls[at].0);
    });
}
