//! Filters on row changes: `column=op.value`, joined by commas.

mod builder;
mod text;

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cmp::Ordering;
use core::fmt;
use core::str::FromStr;

pub use self::builder::{ColumnFilter, FilterBuilder};
pub use self::text::quote_filter_value;
use self::text::{read_list, split, unquote};
use super::regex::Regex;
use super::row::{Cell, Row, like};
use crate::payload::Payload;

/// Conditions on a row, all of which have to hold.
///
/// Protocol §5.6. An empty filter lets every row through. `Display` prints the canonical text,
/// which reads back as the same filter.
///
/// # Examples
///
/// ```
/// use realtime_proto::Payload;
/// use realtime_proto::supabase::Filter;
///
/// let filter: Filter = r#"age=gte.18,name=in.(ann,"bob, jr")"#.parse()?;
/// assert!(filter.matches(&Payload::from_json(r#"{"age":20,"name":"bob, jr"}"#).unwrap()));
/// assert!(!filter.matches(&Payload::from_json(r#"{"age":20}"#).unwrap()));
/// assert_eq!(filter.to_string(), r#"age=gte.18,name=in.(ann,"bob, jr")"#);
/// # Ok::<(), realtime_proto::supabase::FilterError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    conditions: Vec<Condition>,
}

/// One condition of a [`Filter`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    column: String,
    negated: bool,
    operator: Operator,
    values: Vec<String>,
}

/// How a [`Condition`] compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operator {
    /// Equal.
    Eq,
    /// Not equal.
    Neq,
    /// Less than.
    Lt,
    /// Less than or equal.
    Lte,
    /// Greater than.
    Gt,
    /// Greater than or equal.
    Gte,
    /// Equal to one of a list.
    In,
    /// `null`, `true`, `false` or `unknown`.
    Is,
    /// SQL `LIKE`: `%` is any text, `_` any character, `\` escapes.
    Like,
    /// The same, whatever the case.
    Ilike,
    /// A regular expression of PostgreSQL that fits somewhere in the text.
    Match,
    /// The same, whatever the case.
    Imatch,
    /// Not equal, where two nulls count as equal; the value `null` is SQL's null.
    IsDistinct,
}

/// A filter that a server would refuse; says which part, why, and what to write.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FilterError {
    /// A comma with nothing before or behind it.
    #[error("a condition of the filter is empty; write column=op.value")]
    Empty,
    /// No `column=` at the start of a condition.
    #[error("`{condition}` has no column; write column=op.value")]
    NoColumn {
        /// The condition.
        condition: String,
    },
    /// No `.` between operator and value.
    #[error("`{condition}` has no operator; write column=op.value")]
    NoOperator {
        /// The condition.
        condition: String,
    },
    /// The operator is none of those known.
    #[error(
        "`{operator}` is not a filter operator; use eq, neq, lt, lte, gt, gte, in, is, like, \
         ilike, match, imatch or isdistinct"
    )]
    UnknownOperator {
        /// The word.
        operator: String,
        /// What stood behind it.
        value: String,
    },
    /// A quoted value does not end.
    #[error("a quoted value of `{condition}` does not end")]
    UnclosedQuote {
        /// The condition.
        condition: String,
    },
    /// The values of `in` are not in parentheses, or there are none.
    #[error("`{value}` is not a list; write in.(a,b)")]
    NotAList {
        /// What stood there.
        value: String,
    },
    /// More values behind `in` than a server takes.
    #[error("`in` takes at most {max} values and got {len}; use several bindings")]
    TooManyValues {
        /// How many there are.
        len: usize,
        /// How many there may be.
        max: usize,
    },
    /// No value to be equal to.
    #[error("`in` on `{column}` has no values; give it at least one")]
    NoValues {
        /// The column.
        column: String,
    },
    /// A column whose name cannot stand in a filter.
    #[error("`{column}` cannot stand in a filter; a column is named without any of = , ( ) \"")]
    Column {
        /// The name.
        column: String,
    },
    /// A word behind `is` that is not one of the four.
    #[error("`is` takes null, true, false or unknown, and got `{value}`")]
    NotATruthValue {
        /// The word.
        value: String,
    },
}

impl Operator {
    const ALL: [Self; 13] = [
        Self::Eq,
        Self::Neq,
        Self::Lt,
        Self::Lte,
        Self::Gt,
        Self::Gte,
        Self::In,
        Self::Is,
        Self::Like,
        Self::Ilike,
        Self::Match,
        Self::Imatch,
        Self::IsDistinct,
    ];

    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Eq => "eq",
            Self::Neq => "neq",
            Self::Lt => "lt",
            Self::Lte => "lte",
            Self::Gt => "gt",
            Self::Gte => "gte",
            Self::In => "in",
            Self::Is => "is",
            Self::Like => "like",
            Self::Ilike => "ilike",
            Self::Match => "match",
            Self::Imatch => "imatch",
            Self::IsDistinct => "isdistinct",
        }
    }
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Condition {
    /// The column it looks at.
    #[must_use]
    pub fn column(&self) -> &str {
        &self.column
    }

    /// Whether `not.` stands before the operator.
    #[must_use]
    pub const fn is_negated(&self) -> bool {
        self.negated
    }

    /// How it compares.
    #[must_use]
    pub const fn operator(&self) -> Operator {
        self.operator
    }

    /// The values without their quotes: several for [`Operator::In`], one for all others.
    #[must_use]
    pub fn values(&self) -> &[String] {
        &self.values
    }

    fn parse(condition: &str) -> Result<Self, FilterError> {
        let Some((column, rest)) = condition.split_once('=') else {
            return Err(FilterError::NoColumn { condition: condition.into() });
        };
        let column = column.trim();
        if column.is_empty() {
            return Err(FilterError::NoColumn { condition: condition.into() });
        }
        let (negated, rest) = match rest.strip_prefix("not.") {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        let Some((word, value)) = rest.split_once('.') else {
            return Err(FilterError::NoOperator { condition: condition.into() });
        };
        let Some(operator) = Operator::ALL.into_iter().find(|op| op.as_str() == word) else {
            return Err(FilterError::UnknownOperator {
                operator: word.into(),
                value: value.into(),
            });
        };
        let values = match operator {
            Operator::In => read_list(value)?,
            Operator::Is => {
                let word = unquote(value).to_ascii_lowercase();
                if !["null", "true", "false", "unknown"].contains(&&*word) {
                    return Err(FilterError::NotATruthValue { value: value.into() });
                }
                Vec::from([word])
            }
            Operator::Eq
            | Operator::Neq
            | Operator::Lt
            | Operator::Lte
            | Operator::Gt
            | Operator::Gte
            | Operator::Like
            | Operator::Ilike
            | Operator::Match
            | Operator::Imatch
            | Operator::IsDistinct => Vec::from([unquote(value).into_owned()]),
        };
        Ok(Self { column: column.into(), negated, operator, values })
    }

    fn value(&self) -> &str {
        self.values.first().map_or("", |value| value)
    }

    /// The regular expression it asks for, or what is wrong with it; `None` when it asks for none.
    pub(crate) fn regex(&self) -> Option<Result<Regex, String>> {
        match self.operator {
            Operator::Match => Some(Regex::new(self.value(), false)),
            Operator::Imatch => Some(Regex::new(self.value(), true)),
            Operator::Eq
            | Operator::Neq
            | Operator::Lt
            | Operator::Lte
            | Operator::Gt
            | Operator::Gte
            | Operator::In
            | Operator::Is
            | Operator::Like
            | Operator::Ilike
            | Operator::IsDistinct => None,
        }
    }

    /// SQL's three-valued answer: `None` where a null leaves it unknown.
    fn holds(&self, row: &Row<'_>) -> Option<bool> {
        let cell = Cell::read(row.column(&self.column)?);
        let ordering = |value: &str| cell.compare(value);
        let held = match self.operator {
            Operator::Eq => ordering(self.value()).map(Ordering::is_eq),
            Operator::Neq => ordering(self.value()).map(Ordering::is_ne),
            Operator::Lt => ordering(self.value()).map(Ordering::is_lt),
            Operator::Lte => ordering(self.value()).map(Ordering::is_le),
            Operator::Gt => ordering(self.value()).map(Ordering::is_gt),
            Operator::Gte => ordering(self.value()).map(Ordering::is_ge),
            Operator::In => {
                if cell == Cell::Null {
                    None
                } else {
                    Some(
                        self.values
                            .iter()
                            .any(|value| ordering(value).is_some_and(Ordering::is_eq)),
                    )
                }
            }
            Operator::Is => Some(match self.value() {
                "true" => cell == Cell::Bool(true),
                "false" => cell == Cell::Bool(false),
                _ => cell == Cell::Null,
            }),
            Operator::Like => cell.text().map(|text| like(&text, self.value())),
            Operator::Ilike => {
                cell.text().map(|text| like(&text.to_lowercase(), &self.value().to_lowercase()))
            }
            Operator::Match | Operator::Imatch => {
                let regex = self.regex()?.ok()?;
                cell.text().map(|text| regex.is_match(&text))
            }
            Operator::IsDistinct => Some(if self.value() == "null" {
                cell != Cell::Null
            } else {
                !ordering(self.value()).is_some_and(Ordering::is_eq)
            }),
        };
        held.map(|held| held != self.negated)
    }
}

impl Filter {
    /// The most values a server takes behind `in`.
    pub const IN_VALUES_MAX: usize = 100;

    /// Begins a filter without conditions.
    ///
    /// # Examples
    ///
    /// ```
    /// use realtime_proto::supabase::Filter;
    ///
    /// let filter = Filter::builder()
    ///     .column("age").gte(18)
    ///     .column("name").not().one_of(["ann", "bob, jr"])
    ///     .column("deleted_at").is_null()
    ///     .build()?;
    /// let text = r#"age=gte.18,name=not.in.(ann,"bob, jr"),deleted_at=is.null"#;
    /// assert_eq!(filter.to_string(), text);
    /// # Ok::<(), realtime_proto::supabase::FilterError>(())
    /// ```
    pub fn builder() -> FilterBuilder {
        FilterBuilder::default()
    }

    /// The conditions, in the order they were written.
    #[must_use]
    pub fn conditions(&self) -> &[Condition] {
        &self.conditions
    }

    /// Whether it lets every row through.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.conditions.is_empty()
    }

    /// Whether a row, given as a JSON object, passes every condition.
    ///
    /// As in PostgreSQL a comparison with null is not true, and neither is its negation. A column
    /// that the row does not have fails its condition. Numbers are compared as numbers, integers
    /// exactly, everything else as text. Regular expressions are those of PostgreSQL without
    /// references back, looks ahead and collating elements; one that cannot be read never holds.
    #[must_use]
    pub fn matches(&self, row: &Payload) -> bool {
        if self.is_empty() {
            return true;
        }
        row.as_json().and_then(Row::read).is_some_and(|row| self.matches_row(&row))
    }

    pub(crate) fn matches_row(&self, row: &Row<'_>) -> bool {
        self.conditions.iter().all(|condition| condition.holds(row) == Some(true))
    }
}

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let mut conditions = Vec::new();
        for condition in split(text, false)? {
            if condition.is_empty() {
                return Err(FilterError::Empty);
            }
            conditions.push(Condition::parse(condition)?);
        }
        Ok(Self { conditions })
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, condition) in self.conditions.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            condition.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let not = if self.negated { "not." } else { "" };
        write!(f, "{}={not}{}.", self.column, self.operator)?;
        if self.operator != Operator::In {
            return f.write_str(&quote_filter_value(self.value()));
        }
        for (index, value) in self.values.iter().enumerate() {
            f.write_str(if index == 0 { "(" } else { "," })?;
            // Between commas, nothing is no value.
            f.write_str(if value.is_empty() { "\"\"" } else { "" })?;
            f.write_str(&quote_filter_value(value))?;
        }
        f.write_str(")")
    }
}

impl From<Filter> for String {
    fn from(filter: Filter) -> Self {
        filter.to_string()
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::*;

    fn filter(text: &str) -> Filter {
        text.parse().unwrap()
    }

    fn row(text: &str) -> Payload {
        Payload::from_json(text).unwrap()
    }

    #[test]
    fn what_the_official_builder_writes_reads_back_as_the_same_text() {
        for text in [
            "id=eq.1",
            "id=eq.1,age=lt.30",
            r#"name=eq."a,b""#,
            r#"n=eq."say \"hi\"\\x""#,
            r#"n=eq." x ""#,
            "n=eq.null",
            r#"s=in.(a,"b,c",3,true)"#,
            "s=not.in.(d,e)",
            "d=is.null",
            "d=not.is.null",
            "t=like.%foo%",
            r#"t=match."^(a|b)$""#,
            "x=isdistinct.null",
            "",
        ] {
            let read = filter(text);
            assert_eq!(read.to_string(), text);
            assert_eq!(filter(&read.to_string()), read);
        }
    }

    #[test]
    fn quotes_come_off_and_escapes_are_undone() {
        let read = filter(r#"n=eq."say \"hi\"\\x""#);
        assert_eq!(read.conditions()[0].values(), [r#"say "hi"\x"#]);
        let read = filter(r#"s=in.(a, "b,c" ,3)"#);
        assert_eq!(read.conditions()[0].values(), ["a", "b,c", "3"]);
    }

    #[test]
    fn commas_in_parentheses_and_quotes_do_not_split() {
        let read = filter(r#" a=eq.(x,y) , b=eq."1,2",c=eq.it"s,d=eq.z"#);
        let columns: Vec<&str> = read.conditions().iter().map(Condition::column).collect();
        assert_eq!(columns, ["a", "b", "c", "d"]);
        assert_eq!(read.conditions()[2].values(), [r#"it"s"#]);
    }

    #[test]
    fn mistakes_are_told_apart() {
        let error = |text: &str| text.parse::<Filter>().unwrap_err().to_string();
        assert_eq!(error("id"), "`id` has no column; write column=op.value");
        assert_eq!(error("=eq.1"), "`=eq.1` has no column; write column=op.value");
        assert_eq!(error("id=eq"), "`id=eq` has no operator; write column=op.value");
        assert_eq!(
            error("id=zz.1"),
            "`zz` is not a filter operator; use eq, neq, lt, lte, gt, gte, in, is, like, ilike, \
             match, imatch or isdistinct"
        );
        assert_eq!(error("id=eq.1,"), "a condition of the filter is empty; write column=op.value");
        assert_eq!(error("id=in.1"), "`1` is not a list; write in.(a,b)");
        assert_eq!(error("id=in.()"), "`()` is not a list; write in.(a,b)");
        assert_eq!(
            error("id=is.maybe"),
            "`is` takes null, true, false or unknown, and got `maybe`"
        );
        assert_eq!(error(r#"id=eq."x"#), r#"a quoted value of `id=eq."x` does not end"#);
        let many = (0..=Filter::IN_VALUES_MAX).map(|n| n.to_string());
        let list = many.collect::<Vec<_>>().join(",");
        let too_many = "`in` takes at most 100 values and got 101; use several bindings";
        assert_eq!(error(&format!("id=in.({list})")), too_many);
    }

    #[test]
    fn what_is_built_reads_back_as_the_same_filter() {
        let built = Filter::builder()
            .column("a")
            .eq("")
            .column("b")
            .not()
            .one_of(["", "x", " y ", "x"])
            .column("c d")
            .imatches("^(a|b),\"$")
            .column("e")
            .is_distinct("null")
            .build()
            .unwrap();
        let text = r#"a=eq.,b=not.in.("",x," y "),c d=imatch."^(a|b),\"$",e=isdistinct.null"#;
        assert_eq!(built.to_string(), text);
        assert_eq!(filter(text), built);
    }

    #[test]
    fn what_cannot_be_built_says_what_to_do() {
        let error = |built: FilterBuilder| built.build().unwrap_err().to_string();
        let none: [&str; 0] = [];
        assert_eq!(
            error(Filter::builder().column("s").one_of(none).column("").eq(1)),
            "`in` on `s` has no values; give it at least one"
        );
        assert_eq!(
            error(Filter::builder().column("s").one_of(0..101)),
            "`in` takes at most 100 values and got 101; use several bindings"
        );
        assert!(Filter::builder().column("s").one_of(0..100).build().is_ok());
        for column in ["", " a", "a=b", "a,b", "\"a", "(a", "a)"] {
            assert_eq!(
                error(Filter::builder().column(column).eq(1)),
                format!(
                    "`{column}` cannot stand in a filter; a column is named without any of = , ( ) \""
                )
            );
        }
    }

    /// Rows, filters and verdicts of a recorded server (`supabase-v2-postgres-filters`).
    #[test]
    fn the_verdicts_of_a_real_server_are_repeated() {
        const FILTERS: [&str; 16] = [
            "id=eq.1",
            "id=neq.1",
            "id=lt.2",
            "id=lte.2",
            "id=gt.1",
            "id=gte.2",
            "id=in.(1,3)",
            "task=like.a%",
            "task=ilike.A%",
            "done=is.true",
            "user_id=is.null",
            "id=not.eq.1",
            "id=gt.1,task=eq.beta",
            "done=isdistinct.true",
            r#"task=eq."with, comma""#,
            r#"task=in.("with, comma",beta)"#,
        ];
        for (text, verdicts) in [
            (
                r#"{"id": 1, "done": true, "meta": null, "task": "alpha", "user_id": null}"#,
                "1011001111100000",
            ),
            (
                r#"{"id": 2, "done": false, "meta": null, "task": "beta", "user_id": "1111"}"#,
                "0101110000011101",
            ),
            (
                r#"{"id": 3, "done": null, "meta": null, "task": "with, comma", "user_id": null}"#,
                "0100111000110111",
            ),
        ] {
            let row = row(text);
            let ours: String = FILTERS
                .iter()
                .map(|text| if filter(text).matches(&row) { '1' } else { '0' })
                .collect();
            assert_eq!(ours, verdicts, "{text}");
        }
    }

    #[test]
    fn integers_beyond_53_bits_are_compared_exactly() {
        let row = row(r#"{"id":9007199254740993}"#);
        assert!(filter("id=eq.9007199254740993").matches(&row));
        assert!(!filter("id=eq.9007199254740992").matches(&row));
        assert!(filter("id=gt.9007199254740992").matches(&row));
        assert!(filter("id=lt.9007199254740993.5").matches(&row));
    }

    #[test]
    fn a_missing_column_fails_its_condition_and_so_does_its_negation() {
        let row = row(r#"{"id":1}"#);
        for text in ["x=eq.1", "x=not.eq.1", "x=is.null", "x=isdistinct.1"] {
            assert!(!filter(text).matches(&row), "{text}");
        }
        assert!(filter("").matches(&row));
    }

    #[test]
    fn a_comparison_with_null_is_neither_true_nor_false() {
        let row = row(r#"{"a":null}"#);
        for text in ["a=eq.1", "a=not.eq.1", "a=neq.1", "a=in.(1)", "a=like.%"] {
            assert!(!filter(text).matches(&row), "{text}");
        }
        assert!(filter("a=isdistinct.1").matches(&row));
        assert!(!filter("a=isdistinct.null").matches(&row));
    }

    #[test]
    fn regular_expressions_are_evaluated() {
        let row = row(r#"{"t":"Alpha-7","n":120,"z":null}"#);
        for text in
            ["t=match.^Al", r"t=match.\d$", "t=imatch.^ALPHA", "t=not.match.^b", "n=match.^1.0$"]
        {
            assert!(filter(text).matches(&row), "{text}");
        }
        for text in ["t=match.^al", "t=not.imatch.a", "z=match.", "t=match.(", "t=not.match.("] {
            assert!(!filter(text).matches(&row), "{text}");
        }
    }

    #[test]
    fn an_escape_of_like_survives_the_quotes_around_it() {
        let row = row(r#"{"t":"100%"}"#);
        assert!(filter(r#"t=like."100\\%""#).matches(&row));
    }
}
