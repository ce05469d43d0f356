//! Building a filter, condition by condition.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Display;

use super::{Condition, Filter, FilterError, Operator};

/// Builds a [`Filter`], from [`Filter::builder`]; all its conditions have to hold.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct FilterBuilder {
    conditions: Vec<Condition>,
    /// The first mistake.
    mistake: Option<FilterError>,
}

/// A condition that is half said, from [`FilterBuilder::column`].
#[derive(Clone, Debug)]
#[must_use]
pub struct ColumnFilter {
    builder: FilterBuilder,
    column: String,
    negated: bool,
}

impl FilterBuilder {
    /// Begins a condition on a column.
    pub fn column(self, name: impl Into<String>) -> ColumnFilter {
        ColumnFilter { builder: self, column: name.into(), negated: false }
    }

    /// Ends the filter.
    ///
    /// # Errors
    ///
    /// [`FilterError`] for the first condition that a server would refuse: a column that cannot be
    /// named, or no value, or more than [`Filter::IN_VALUES_MAX`], in [`ColumnFilter::one_of`].
    pub fn build(self) -> Result<Filter, FilterError> {
        match self.mistake {
            Some(mistake) => Err(mistake),
            None => Ok(Filter { conditions: self.conditions }),
        }
    }
}

impl ColumnFilter {
    /// Turns the condition around. A null passes neither a comparison nor its opposite.
    #[expect(clippy::should_implement_trait, reason = "it is the word of the filter language")]
    pub fn not(mut self) -> Self {
        self.negated = !self.negated;
        self
    }

    /// The column equals `value`.
    pub fn eq(self, value: impl Display) -> FilterBuilder {
        self.compare(Operator::Eq, &value)
    }

    /// The column does not equal `value`.
    pub fn neq(self, value: impl Display) -> FilterBuilder {
        self.compare(Operator::Neq, &value)
    }

    /// The column is less than `value`.
    pub fn lt(self, value: impl Display) -> FilterBuilder {
        self.compare(Operator::Lt, &value)
    }

    /// The column is less than or equal to `value`.
    pub fn lte(self, value: impl Display) -> FilterBuilder {
        self.compare(Operator::Lte, &value)
    }

    /// The column is greater than `value`.
    pub fn gt(self, value: impl Display) -> FilterBuilder {
        self.compare(Operator::Gt, &value)
    }

    /// The column is greater than or equal to `value`.
    pub fn gte(self, value: impl Display) -> FilterBuilder {
        self.compare(Operator::Gte, &value)
    }

    /// The column equals one of `values`, `in` on the wire; a value that comes twice is sent once.
    pub fn one_of<V: Display>(self, values: impl IntoIterator<Item = V>) -> FilterBuilder {
        let mut distinct: Vec<String> = Vec::new();
        for value in values {
            let value = value.to_string();
            if !distinct.contains(&value) {
                distinct.push(value);
            }
        }
        self.finish(Operator::In, distinct)
    }

    /// The column is null.
    pub fn is_null(self) -> FilterBuilder {
        self.compare(Operator::Is, &"null")
    }

    /// The column, a boolean, is true.
    pub fn is_true(self) -> FilterBuilder {
        self.compare(Operator::Is, &"true")
    }

    /// The column, a boolean, is false.
    pub fn is_false(self) -> FilterBuilder {
        self.compare(Operator::Is, &"false")
    }

    /// The column, a boolean, is null.
    pub fn is_unknown(self) -> FilterBuilder {
        self.compare(Operator::Is, &"unknown")
    }

    /// The column, a text, is like an SQL pattern: `%` is any text, `_` any character.
    pub fn like(self, pattern: impl Display) -> FilterBuilder {
        self.compare(Operator::Like, &pattern)
    }

    /// The same, whatever the case.
    pub fn ilike(self, pattern: impl Display) -> FilterBuilder {
        self.compare(Operator::Ilike, &pattern)
    }

    /// The column, a text, matches a POSIX regular expression; `match` on the wire.
    pub fn matches(self, regex: impl Display) -> FilterBuilder {
        self.compare(Operator::Match, &regex)
    }

    /// The same, whatever the case; `imatch` on the wire.
    pub fn imatches(self, regex: impl Display) -> FilterBuilder {
        self.compare(Operator::Imatch, &regex)
    }

    /// The column differs from `value`, where null differs from every value; `isdistinct` on the
    /// wire. The value `null` is SQL's null.
    pub fn is_distinct(self, value: impl Display) -> FilterBuilder {
        self.compare(Operator::IsDistinct, &value)
    }

    fn compare(self, operator: Operator, value: &dyn Display) -> FilterBuilder {
        self.finish(operator, Vec::from([value.to_string()]))
    }

    fn finish(self, operator: Operator, values: Vec<String>) -> FilterBuilder {
        let Self { mut builder, column, negated } = self;
        let is_nameless = column.is_empty() || column.trim() != column;
        let max = Filter::IN_VALUES_MAX;
        let mistake = if is_nameless || column.contains(['=', ',', '(', ')', '"']) {
            Some(FilterError::Column { column: column.clone() })
        } else if values.is_empty() {
            Some(FilterError::NoValues { column: column.clone() })
        } else if values.len() > max {
            Some(FilterError::TooManyValues { len: values.len(), max })
        } else {
            None
        };
        builder.mistake = builder.mistake.or(mistake);
        builder.conditions.push(Condition { column, negated, operator, values });
        builder
    }
}
