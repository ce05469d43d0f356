//! What the filter builder of the npm `@supabase/realtime-js` writes, and what ours reads in it.

use realtime_proto::supabase::{Condition, Filter, FilterError, Operator};
use realtime_tests::dice::Dice;
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
            Operator::In => (0..1 + dice.below(4)).map(|_| value(dice)).collect(),
            Operator::Is => {
                let words = [json!(null), json!(true), json!(false), json!("unknown")];
                vec![dice.pick(&words).clone()]
            }
            Operator::Like | Operator::Ilike | Operator::Match | Operator::Imatch => {
                vec![text(dice).into()]
            }
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

    /// The values as texts; the builder leaves out what a list of `in` holds already.
    fn texts(&self) -> Vec<String> {
        let mut values: Vec<&Value> = Vec::new();
        for value in &self.values {
            if !values.contains(&value) {
                values.push(value);
            }
        }
        let text = |value: &Value| match value {
            Value::String(text) => text.clone(),
            value => value.to_string(),
        };
        values.into_iter().map(text).collect()
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

fn filter(text: &str) -> Filter {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn what_the_official_builder_writes_is_read_as_it_was_meant_and_written_alike() {
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
    });
}

/// Where the two write a value in different ways: what the builder wrote, and what ours writes for
/// the same filter.
#[test]
fn ours_quotes_what_a_server_would_trim_or_miss_and_npm_does_not() {
    let Some(mut npm) = Script::start("rows") else { return };
    let cases = [
        // Nothing behind the point is easily missed.
        ("", "id=eq.", r#"id=eq."""#),
        // JavaScript does not count U+0085 as a space, and servers do.
        ("\u{85}x", "id=eq.\u{85}x", "id=eq.\"\u{85}x\""),
        // JavaScript counts U+FEFF as a space, and servers do not.
        ("\u{FEFF}x", "id=eq.\"\u{FEFF}x\"", "id=eq.\u{FEFF}x"),
    ];
    let question = |value: &str| json!({ "filter": [["id", "eq", value, false]] }).to_string();
    let questions: Vec<String> = cases.iter().map(|(value, ..)| question(value)).collect();
    npm.ask_all(&questions, |at, answer| {
        let (value, npms, ours) = cases[at];
        let written: String = serde_json::from_str(answer).unwrap();
        assert_eq!(written, npms);
        for text in [npms, ours] {
            let read = filter(text);
            assert_eq!(read.conditions()[0].values(), [value], "{text:?}");
            assert_eq!(read.to_string(), ours);
        }
    });
}

#[test]
fn a_list_with_nothing_in_it_is_refused() {
    let Some(mut npm) = Script::start("rows") else { return };
    let lists = [json!([]), json!([""])];
    let question = |list| json!({ "filter": [["id", "in", list, false]] }).to_string();
    let mut answers = Vec::new();
    npm.ask_all(&lists.map(question), |_, answer| {
        answers.push(serde_json::from_str::<Value>(answer).unwrap());
    });
    // The official builder notices the list without values, and not the one with an empty value.
    let throws = "Realtime `in` filter requires at least one value.";
    assert_eq!(answers, [json!({ "throws": throws }), "id=in.()".into()]);
    let refused = "id=in.()".parse::<Filter>().unwrap_err();
    assert_eq!(refused, FilterError::NotAList { value: "()".into() });
}
