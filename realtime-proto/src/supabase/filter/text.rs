//! The text of a filter: where it is cut, and which values stand in quotes.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;

use super::{Filter, FilterError};

/// Quotes a value where a filter needs it: when it holds one of `, ( ) " \`, or starts or ends with
/// a space.
///
/// # Examples
///
/// ```
/// use realtime_proto::supabase::quote_filter_value;
///
/// assert_eq!(quote_filter_value("plain"), "plain");
/// assert_eq!(quote_filter_value(r#"say "hi", then go"#), r#""say \"hi\", then go""#);
/// ```
#[must_use]
pub fn quote_filter_value(value: &str) -> Cow<'_, str> {
    let special = |c: char| matches!(c, ',' | '(' | ')' | '"' | '\\');
    if value.trim() == value && !value.contains(special) {
        return Cow::Borrowed(value);
    }
    let mut quoted = String::with_capacity(value.len() + 2);
    quoted.push('"');
    for c in value.chars() {
        if matches!(c, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted.push('"');
    Cow::Owned(quoted)
}

/// Cuts at the commas outside of quotes and parentheses, and trims the pieces.
///
/// A quote opens only at the start of a value: right after `.`, `(` or `,`, or at the very start
/// when `text` is the inside of a list.
pub(super) fn split(text: &str, inside_list: bool) -> Result<Vec<&str>, FilterError> {
    let mut pieces = Vec::new();
    let (mut start, mut depth, mut quoted, mut escaped) = (0, 0_usize, false, false);
    let mut before = if inside_list { ',' } else { ' ' };
    for (at, c) in text.char_indices() {
        if escaped {
            escaped = false;
        } else if quoted {
            match c {
                '\\' => escaped = true,
                '"' => quoted = false,
                _ => {}
            }
        } else {
            match c {
                '"' if matches!(before, '.' | '(' | ',') => quoted = true,
                '(' => depth += 1,
                ')' => depth = depth.saturating_sub(1),
                ',' if depth == 0 => {
                    pieces.push(text[start..at].trim());
                    start = at + 1;
                }
                _ => {}
            }
        }
        // Spaces are trimmed, so a quote behind one still starts its value.
        if !(c == ' ' && before == ',') {
            before = c;
        }
    }
    if quoted {
        return Err(FilterError::UnclosedQuote { condition: text[start..].into() });
    }
    pieces.push(text[start..].trim());
    Ok(pieces)
}

pub(super) fn read_list(value: &str) -> Result<Vec<String>, FilterError> {
    let inside = value
        .strip_prefix('(')
        .and_then(|rest| rest.strip_suffix(')'))
        .filter(|inside| !inside.trim().is_empty());
    let Some(inside) = inside else {
        return Err(FilterError::NotAList { value: value.into() });
    };
    let values = split(inside, true)?;
    if values.len() > Filter::IN_VALUES_MAX {
        return Err(FilterError::TooManyValues { len: values.len(), max: Filter::IN_VALUES_MAX });
    }
    Ok(values.into_iter().map(|value| unquote(value).into_owned()).collect())
}

/// Takes the quotes off a value that is quoted from end to end; any other is taken verbatim.
pub(super) fn unquote(value: &str) -> Cow<'_, str> {
    let Some(inside) = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return Cow::Borrowed(value);
    };
    let mut text = String::with_capacity(inside.len());
    let mut chars = inside.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => return Cow::Borrowed(value),
            '\\' => match chars.next() {
                Some(escaped) => text.push(escaped),
                // The closing quote was itself escaped.
                None => return Cow::Borrowed(value),
            },
            _ => text.push(c),
        }
    }
    Cow::Owned(text)
}
