//! Regular expressions of PostgreSQL, as far as a filter of the local server needs them.
//!
//! An expression is compiled to a small program whose threads all step through the text at once, so
//! that the time is that of text times program, whatever the expression. Left out are references
//! back and looks ahead, which take more than that, and collating elements.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::iter::Peekable;
use core::str::Chars;

/// A compiled expression.
#[derive(Debug)]
pub(crate) struct Regex {
    program: Vec<Step>,
    ignores_case: bool,
}

/// The largest program: repetitions are written out.
const STEPS_MAX: usize = 4_096;

const TOO_COMPLEX: &str = "regular expression is too complex";

/// How deep groups may lie in each other.
const DEPTH_MAX: usize = 64;

/// The most repetitions, as in PostgreSQL.
const REPEATS_MAX: u32 = 255;

#[derive(Debug)]
enum Step {
    /// One character of a set.
    One(Set),
    /// Nothing, at a place.
    At(Place),
    /// Goes on here and there.
    Fork(usize, usize),
    Go(usize),
    Done,
}

/// Characters, or all but those.
#[derive(Clone, Debug)]
struct Set {
    negated: bool,
    items: Vec<Item>,
}

#[derive(Clone, Copy, Debug)]
enum Item {
    Range(char, char),
    Class { class: Class, negated: bool },
}

#[derive(Clone, Copy, Debug)]
enum Class {
    Alnum,
    Alpha,
    Blank,
    Cntrl,
    Digit,
    Graph,
    Lower,
    Print,
    Punct,
    Space,
    Upper,
    Xdigit,
    Word,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    Start,
    End,
    WordStart,
    WordEnd,
    WordEdge,
    NoWordEdge,
}

/// An expression as it is read.
#[derive(Clone, Debug)]
enum Node {
    One(Set),
    At(Place),
    Both(Vec<Self>),
    Either(Vec<Self>),
    Repeat { node: Box<Self>, least: u32, most: Option<u32> },
}

impl Regex {
    /// Compiles an expression.
    ///
    /// The error says what is wrong with it, or what of it this does not know.
    pub(crate) fn new(text: &str, ignores_case: bool) -> Result<Self, String> {
        let (text, ignores_case) = match text.strip_prefix("(?i)") {
            Some(rest) => (rest, true),
            None => (text, ignores_case),
        };
        let mut reader = Reader { chars: text.chars().peekable(), depth: 0 };
        let node = reader.alternatives()?;
        if reader.chars.next().is_some() {
            return Err("parentheses () not balanced".into());
        }
        let mut writer = Writer::default();
        writer.write(&node)?;
        writer.push(Step::Done)?;
        Ok(Self { program: writer.program, ignores_case })
    }

    /// Whether the expression fits somewhere in `text`.
    pub(crate) fn is_match(&self, text: &str) -> bool {
        let (mut here, mut next) = (Threads::new(self), Threads::new(self));
        let mut before = None;
        let mut chars = text.chars().peekable();
        loop {
            let after = chars.peek().copied();
            // It may begin anywhere.
            if self.follow(0, before, after, &mut here) {
                return true;
            }
            let Some(c) = chars.next() else { return false };
            let ahead = chars.peek().copied();
            next.clear();
            for &at in &here.ready {
                let Step::One(set) = &self.program[at] else { continue };
                if set.holds(c, self.ignores_case) && self.follow(at + 1, Some(c), ahead, &mut next)
                {
                    return true;
                }
            }
            core::mem::swap(&mut here, &mut next);
            before = Some(c);
        }
    }

    /// Lets a thread go on until each of its ways needs a character; whether one is done.
    fn follow(
        &self,
        from: usize,
        before: Option<char>,
        after: Option<char>,
        threads: &mut Threads,
    ) -> bool {
        let mut open = Vec::from([from]);
        while let Some(at) = open.pop() {
            if core::mem::replace(&mut threads.seen[at], true) {
                continue;
            }
            match &self.program[at] {
                Step::One(_) => threads.ready.push(at),
                Step::At(place) if place.is_here(before, after) => open.push(at + 1),
                Step::At(_) => {}
                Step::Fork(one, other) => open.extend([*other, *one]),
                Step::Go(to) => open.push(*to),
                Step::Done => return true,
            }
        }
        false
    }
}

/// Writes the program of an expression.
#[derive(Default)]
struct Writer {
    program: Vec<Step>,
    /// How many nodes it went through; those without a step take time too.
    nodes: usize,
}

impl Writer {
    fn push(&mut self, step: Step) -> Result<usize, String> {
        if self.program.len() >= STEPS_MAX {
            return Err(TOO_COMPLEX.into());
        }
        self.program.push(step);
        Ok(self.program.len() - 1)
    }

    fn write(&mut self, node: &Node) -> Result<(), String> {
        self.nodes += 1;
        if self.nodes > 4 * STEPS_MAX {
            return Err(TOO_COMPLEX.into());
        }
        match node {
            Node::One(set) => drop(self.push(Step::One(set.clone()))?),
            Node::At(place) => drop(self.push(Step::At(*place))?),
            Node::Both(nodes) => {
                for node in nodes {
                    self.write(node)?;
                }
            }
            Node::Either(nodes) => {
                let mut ends = Vec::new();
                for (at, node) in nodes.iter().enumerate() {
                    if at + 1 == nodes.len() {
                        self.write(node)?;
                        break;
                    }
                    let fork = self.push(Step::Go(0))?;
                    self.write(node)?;
                    ends.push(self.push(Step::Go(0))?);
                    self.program[fork] = Step::Fork(fork + 1, self.program.len());
                }
                let end = self.program.len();
                for at in ends {
                    self.program[at] = Step::Go(end);
                }
            }
            Node::Repeat { node, least, most } => {
                for _ in 0..*least {
                    self.write(node)?;
                }
                match most {
                    None => {
                        let fork = self.push(Step::Go(0))?;
                        self.write(node)?;
                        self.push(Step::Go(fork))?;
                        self.program[fork] = Step::Fork(fork + 1, self.program.len());
                    }
                    Some(most) => {
                        let mut forks = Vec::new();
                        for _ in *least..*most {
                            forks.push(self.push(Step::Go(0))?);
                            self.write(node)?;
                        }
                        let end = self.program.len();
                        for fork in forks {
                            self.program[fork] = Step::Fork(fork + 1, end);
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

/// Where the threads stand before a character.
struct Threads {
    ready: Vec<usize>,
    seen: Vec<bool>,
}

impl Threads {
    fn new(regex: &Regex) -> Self {
        Self { ready: Vec::new(), seen: alloc::vec![false; regex.program.len()] }
    }

    fn clear(&mut self) {
        self.ready.clear();
        self.seen.fill(false);
    }
}

impl Place {
    fn is_here(self, before: Option<char>, after: Option<char>) -> bool {
        let is_word = |c: Option<char>| c.is_some_and(|c| Class::Word.holds(c));
        let (before_word, after_word) = (is_word(before), is_word(after));
        match self {
            Self::Start => before.is_none(),
            Self::End => after.is_none(),
            Self::WordStart => !before_word && after_word,
            Self::WordEnd => before_word && !after_word,
            Self::WordEdge => before_word != after_word,
            Self::NoWordEdge => before_word == after_word,
        }
    }
}

impl Set {
    const fn of(items: Vec<Item>) -> Self {
        Self { negated: false, items }
    }

    fn holds(&self, c: char, ignores_case: bool) -> bool {
        let held = |c: char| self.items.iter().any(|item| item.holds(c));
        let held =
            held(c) || (ignores_case && (c.to_lowercase().any(held) || c.to_uppercase().any(held)));
        held != self.negated
    }
}

impl Item {
    fn holds(self, c: char) -> bool {
        match self {
            Self::Range(first, last) => (first..=last).contains(&c),
            Self::Class { class, negated } => class.holds(c) != negated,
        }
    }
}

impl Class {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "alnum" => Self::Alnum,
            "alpha" => Self::Alpha,
            "blank" => Self::Blank,
            "cntrl" => Self::Cntrl,
            "digit" => Self::Digit,
            "graph" => Self::Graph,
            "lower" => Self::Lower,
            "print" => Self::Print,
            "punct" => Self::Punct,
            "space" => Self::Space,
            "upper" => Self::Upper,
            "xdigit" => Self::Xdigit,
            "word" => Self::Word,
            _ => return None,
        })
    }

    fn holds(self, c: char) -> bool {
        match self {
            Self::Alnum => c.is_alphanumeric(),
            Self::Alpha => c.is_alphabetic(),
            Self::Blank => matches!(c, ' ' | '\t'),
            Self::Cntrl => c.is_control(),
            Self::Digit => c.is_ascii_digit(),
            Self::Graph => !c.is_whitespace() && !c.is_control(),
            Self::Lower => c.is_lowercase(),
            Self::Print => !c.is_control(),
            Self::Punct => c.is_ascii_punctuation(),
            Self::Space => c.is_whitespace(),
            Self::Upper => c.is_uppercase(),
            Self::Xdigit => c.is_ascii_hexdigit(),
            Self::Word => c.is_alphanumeric() || c == '_',
        }
    }
}

struct Reader<'a> {
    chars: Peekable<Chars<'a>>,
    depth: usize,
}

impl Reader<'_> {
    fn alternatives(&mut self) -> Result<Node, String> {
        let mut branches = Vec::from([self.branch()?]);
        while self.chars.next_if_eq(&'|').is_some() {
            branches.push(self.branch()?);
        }
        Ok(Node::Either(branches))
    }

    fn branch(&mut self) -> Result<Node, String> {
        let mut nodes = Vec::new();
        while let Some(c) = self.chars.next_if(|c| !matches!(c, '|' | ')')) {
            let node = self.atom(c)?;
            nodes.push(self.repeated(node)?);
        }
        Ok(Node::Both(nodes))
    }

    fn atom(&mut self, c: char) -> Result<Node, String> {
        Ok(match c {
            '.' => Node::One(Set { negated: true, items: Vec::new() }),
            '^' => Node::At(Place::Start),
            '$' => Node::At(Place::End),
            '[' => Node::One(self.brackets()?),
            '(' => self.group()?,
            '\\' => self.escape()?,
            '*' | '+' | '?' => return Err("quantifier operand invalid".into()),
            c => Node::One(Set::of(Vec::from([Item::Range(c, c)]))),
        })
    }

    fn group(&mut self) -> Result<Node, String> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(TOO_COMPLEX.into());
        }
        if self.chars.next_if_eq(&'?').is_some() && self.chars.next_if_eq(&':').is_none() {
            return Err("`(?` other than `(?:` is not supported by this server".into());
        }
        let node = self.alternatives()?;
        if self.chars.next_if_eq(&')').is_none() {
            return Err("parentheses () not balanced".into());
        }
        self.depth -= 1;
        Ok(node)
    }

    fn repeated(&mut self, node: Node) -> Result<Node, String> {
        let (least, most) = match self.chars.peek().copied() {
            Some('*') => (0, None),
            Some('+') => (1, None),
            Some('?') => (0, Some(1)),
            // A brace that begins no number stands for itself.
            Some('{') if self.chars.clone().nth(1).is_some_and(|c| c.is_ascii_digit()) => {
                self.chars.next();
                let bounds = self.bounds()?;
                return self.finish(node, bounds);
            }
            _ => return Ok(node),
        };
        self.chars.next();
        self.finish(node, (least, most))
    }

    fn finish(&mut self, node: Node, (least, most): (u32, Option<u32>)) -> Result<Node, String> {
        // As few as possible fits where as many as possible does.
        self.chars.next_if_eq(&'?');
        if matches!(self.chars.peek(), Some('*' | '+' | '?')) {
            return Err("quantifier operand invalid".into());
        }
        Ok(Node::Repeat { node: Box::new(node), least, most })
    }

    /// What stands in braces, up to the closing one.
    fn bounds(&mut self) -> Result<(u32, Option<u32>), String> {
        let least = self.number();
        let most = if self.chars.next_if_eq(&',').is_some() {
            self.chars.peek().is_some_and(char::is_ascii_digit).then(|| self.number())
        } else {
            Some(least)
        };
        let is_closed = self.chars.next() == Some('}');
        let in_order = most.is_none_or(|most| least <= most && most <= REPEATS_MAX);
        if is_closed && in_order && least <= REPEATS_MAX {
            Ok((least, most))
        } else {
            Err("invalid repetition count(s)".into())
        }
    }

    fn number(&mut self) -> u32 {
        let mut number = 0_u32;
        while let Some(digit) = self.chars.peek().and_then(|c| c.to_digit(10)) {
            number = number.saturating_mul(10).saturating_add(digit);
            self.chars.next();
        }
        number
    }

    fn escape(&mut self) -> Result<Node, String> {
        let Some(c) = self.chars.next() else { return Err("invalid escape \\ sequence".into()) };
        let place = match c {
            'A' => Place::Start,
            'Z' => Place::End,
            'm' => Place::WordStart,
            'M' => Place::WordEnd,
            'y' => Place::WordEdge,
            'Y' => Place::NoWordEdge,
            c => return Ok(Node::One(Set::of(Vec::from([escaped(c)?])))),
        };
        Ok(Node::At(place))
    }

    fn brackets(&mut self) -> Result<Set, String> {
        let unbalanced = || String::from("brackets [] not balanced");
        let negated = self.chars.next_if_eq(&'^').is_some();
        let mut items = Vec::new();
        loop {
            let c = self.chars.next().ok_or_else(unbalanced)?;
            let first = match c {
                ']' if !items.is_empty() => return Ok(Set { negated, items }),
                '[' if self.chars.peek() == Some(&':') => {
                    items.push(self.class()?);
                    continue;
                }
                '[' if matches!(self.chars.peek(), Some('.' | '=')) => {
                    return Err("collating elements are not supported by this server".into());
                }
                '\\' => match escaped(self.chars.next().ok_or_else(unbalanced)?)? {
                    Item::Range(c, _) => c,
                    class @ Item::Class { .. } => {
                        items.push(class);
                        continue;
                    }
                },
                c => c,
            };
            let is_range = self.chars.peek() == Some(&'-')
                && self.chars.clone().nth(1).is_some_and(|c| c != ']');
            if !is_range {
                items.push(Item::Range(first, first));
                continue;
            }
            self.chars.next();
            let last = match self.chars.next().ok_or_else(unbalanced)? {
                '\\' => match escaped(self.chars.next().ok_or_else(unbalanced)?)? {
                    Item::Range(c, _) => c,
                    Item::Class { .. } => return Err("invalid character range".into()),
                },
                c => c,
            };
            if last < first {
                return Err("invalid character range".into());
            }
            items.push(Item::Range(first, last));
        }
    }

    /// The class of `[:name:]`, behind its bracket.
    fn class(&mut self) -> Result<Item, String> {
        self.chars.next();
        let mut name = String::new();
        while let Some(c) = self.chars.next_if(char::is_ascii_lowercase) {
            name.push(c);
        }
        let is_closed = self.chars.next() == Some(':') && self.chars.next() == Some(']');
        match Class::named(&name).filter(|_| is_closed) {
            Some(class) => Ok(Item::Class { class, negated: false }),
            None => Err("invalid character class".into()),
        }
    }
}

/// What a character stands for behind a backslash.
fn escaped(c: char) -> Result<Item, String> {
    let class = |class, negated| Item::Class { class, negated };
    Ok(match c {
        'd' => class(Class::Digit, false),
        'D' => class(Class::Digit, true),
        's' => class(Class::Space, false),
        'S' => class(Class::Space, true),
        'w' => class(Class::Word, false),
        'W' => class(Class::Word, true),
        'n' => Item::Range('\n', '\n'),
        'r' => Item::Range('\r', '\r'),
        't' => Item::Range('\t', '\t'),
        'f' => Item::Range('\u{c}', '\u{c}'),
        'v' => Item::Range('\u{b}', '\u{b}'),
        c if c.is_ascii_alphanumeric() => {
            return Err(format!("`\\{c}` is not supported by this server"));
        }
        c => Item::Range(c, c),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `select text ~ expression` of PostgreSQL answers.
    #[test]
    fn expressions_fit_as_in_postgresql() {
        for (expression, fits, fits_not) in [
            ("b", &["b", "abc"][..], &["", "ac"][..]),
            ("^a", &["a", "ab"], &["ba", ""]),
            ("a$", &["a", "ba"], &["ab"]),
            ("^(a|b)$", &["a", "b"], &["ab", "c", ""]),
            ("^a*$", &["", "aaa"], &["aab"]),
            ("^a+b?$", &["a", "aab"], &["b", "abb"]),
            ("^(ab){2,3}$", &["abab", "ababab"], &["ab", "abababab"]),
            ("^a{2}$", &["aa"], &["a", "aaa"]),
            ("^a{2,}$", &["aa", "aaaa"], &["a"]),
            ("^a{,2}$", &["a{,2}"], &["a"]),
            ("^.$", &["x", "é", "\n"], &["", "xy"]),
            ("^[a-cx]+$", &["abcx"], &["d", ""]),
            ("^[^a-c]$", &["d", "-"], &["a"]),
            ("^[]a]$", &["]", "a"], &["b"]),
            ("^[a-]$", &["-", "a"], &["b"]),
            ("^[[:alpha:]_]+$", &["aé_"], &["a1"]),
            (r"^\d{3}-\w+$", &["123-a_1"], &["12-a", "123-"]),
            (r"^[\d.]+$", &["1.5"], &["1,5"]),
            (r"^\.$", &["."], &["x"]),
            (r"\mcat\M", &["a cat", "cat!"], &["cats", "tomcat"]),
            (r"\ycat", &["cat", "a cats"], &["tomcat"]),
            ("^(?:a|)b$", &["b", "ab"], &["aab"]),
            ("", &["", "x"], &[]),
            ("a|^$", &["", "ba"], &["b"]),
            ("^(a?){30}a{30}$", &["aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"], &["aaaa"]),
            ("^a*?$", &["aa"], &["ab"]),
            ("x^", &[], &["x", "x^"]),
        ] {
            let regex = Regex::new(expression, false).unwrap();
            for text in fits {
                assert!(regex.is_match(text), "{text:?} ~ {expression}");
            }
            for text in fits_not {
                assert!(!regex.is_match(text), "{text:?} !~ {expression}");
            }
        }
    }

    #[test]
    fn the_case_is_ignored_where_that_is_asked_for() {
        for (expression, text) in [("^É", "été"), ("[a-c]", "B"), ("straSSe", "STRASSE")] {
            assert!(Regex::new(expression, true).unwrap().is_match(text), "{expression}");
            assert!(!Regex::new(expression, false).unwrap().is_match(text), "{expression}");
        }
        assert!(Regex::new("(?i)A", false).unwrap().is_match("a"));
    }

    #[test]
    fn what_is_no_expression_or_not_known_is_an_error() {
        for (expression, error) in [
            ("(a", "parentheses () not balanced"),
            ("a)", "parentheses () not balanced"),
            ("[a", "brackets [] not balanced"),
            ("[b-a]", "invalid character range"),
            ("[[:nope:]]", "invalid character class"),
            ("*a", "quantifier operand invalid"),
            ("a**", "quantifier operand invalid"),
            ("a{3,2}", "invalid repetition count(s)"),
            ("a{256}", "invalid repetition count(s)"),
            ("a\\", "invalid escape \\ sequence"),
            (r"(a)\1", r"`\1` is not supported by this server"),
            ("a(?=b)", "`(?` other than `(?:` is not supported by this server"),
            ("((a{255}){255}){255}", TOO_COMPLEX),
            ("((((){255}){255}){255}){255}", TOO_COMPLEX),
        ] {
            assert_eq!(Regex::new(expression, false).unwrap_err(), error, "{expression}");
        }
        let deep = "(".repeat(10_000);
        assert!(Regex::new(&deep, false).is_err());
    }

    #[test]
    fn whatever_is_written_is_read_or_refused_in_time() {
        const ALPHABET: &[char] = &[
            'a', 'b', '^', '$', '.', '*', '+', '?', '(', ')', '[', ']', '{', '}', '|', '\\', '1',
            '9', ',', ':', '-', 'd', 'y', 'é',
        ];
        let mut rng = crate::rng::Rng::new(1);
        let mut pick = |below: usize| (rng.next_u64() % below as u64) as usize;
        let mut read = 0;
        for _ in 0..50_000 {
            let length = pick(14);
            let expression: String = (0..length).map(|_| ALPHABET[pick(ALPHABET.len())]).collect();
            if let Ok(regex) = Regex::new(&expression, pick(2) == 0) {
                read += 1;
                regex.is_match("ab1 9é\n,a-d");
            }
        }
        assert!(read > 10_000, "{read}");
    }
}
