//! Scenarios as text: one line for each thing, written and read.

use core::fmt;
use core::str::FromStr;

use super::steps::{Act, ActKind, Data, DataKind, Fault, FaultKind};
use super::words::{Span, Word, read_span};
use super::{Actor, ActorId, Cast, Op, Part, Scenario, Step, TopicSpec};
use crate::Seed;

/// More of anything than this is no scenario.
const ACTORS_MAX: usize = 32;
const TOPICS_MAX: usize = 32;
const STEPS_MAX: usize = 100_000;

/// Words that no application may be called.
const RESERVED: [&str; 6] = ["database", "client", "manager", "topic", "set", "seed"];

const FLAGS: [&str; 6] = ["presence", "ack", "echo", "private", "rows", "wait"];

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}", self.seed)?;
        for line in self.cast.settings.write(&self.cast) {
            writeln!(f, "{line}")?;
        }
        for actor in &self.cast.actors {
            let part = match actor.part {
                Part::Client => "client",
                Part::Manager => "manager",
            };
            writeln!(f, "{part} {}", actor.name)?;
        }
        for topic in &self.cast.topics {
            write!(f, "topic {} {}", topic.name, topic.topic)?;
            for (flag, is_set) in FLAGS.into_iter().zip(topic.flags()) {
                if is_set {
                    write!(f, " {flag}")?;
                }
            }
            writeln!(f)?;
        }
        if !self.steps.is_empty() {
            writeln!(f)?;
        }
        for step in &self.steps {
            writeln!(f, "{}", self.cast.line(step))?;
        }
        Ok(())
    }
}

impl Cast {
    /// A step as it is written in a scenario.
    ///
    /// # Panics
    ///
    /// When the step is about somebody or something that only another cast has.
    #[must_use]
    pub fn line(&self, step: &Step) -> String {
        format!("+{:<7} {}", Span(step.after), self.words(&step.op).join(" "))
    }

    /// What happens, as it is written in a scenario behind the time.
    ///
    /// # Panics
    ///
    /// When it is about somebody or something that only another cast has.
    #[must_use]
    pub fn words(&self, op: &Op) -> Vec<String> {
        let (mut words, rest) = match op {
            Op::Act(who, act) => {
                (vec![who.write(self), act.kind().word().into()], act.write_parameters(self))
            }
            Op::Data(data) => {
                (vec!["database".into(), data.kind().word().into()], data.write_parameters(self))
            }
            Op::Fault(fault) => (vec![fault.kind().word().into()], fault.write_parameters(self)),
        };
        words.extend(rest);
        words
    }

    pub(crate) fn read_op(&self, words: &[&str]) -> Result<Op, String> {
        let [first, rest @ ..] = words else { return Err("a step is missing".into()) };
        if *first == "database" {
            let [word, rest @ ..] = rest else { return Err("what does the database do?".into()) };
            let kind = DataKind::ALL.iter().copied().find(|kind| kind.word() == *word);
            let kind = kind.ok_or_else(|| unknown(word, DataKind::ALL.iter().map(|k| k.word())))?;
            return Ok(Op::Data(Data::read_parameters(kind, rest.iter(), self)?));
        }
        if let Ok(who) = ActorId::read(first, self) {
            let [word, rest @ ..] = rest else { return Err(format!("what does {first} do?")) };
            let kind = ActKind::ALL.iter().copied().find(|kind| kind.word() == *word);
            let kind = kind.ok_or_else(|| unknown(word, ActKind::ALL.iter().map(|k| k.word())))?;
            return Ok(Op::Act(who, Act::read_parameters(kind, rest.iter(), self)?));
        }
        let kind = FaultKind::ALL.iter().copied().find(|kind| kind.word() == *first);
        let kind = kind.ok_or_else(|| {
            format!("`{first}` is neither a fault nor an application of this scenario")
        })?;
        Ok(Op::Fault(Fault::read_parameters(kind, rest.iter(), self)?))
    }
}

fn unknown(word: &str, known: impl Iterator<Item = &'static str>) -> String {
    format!("`{word}` is not one of {}", known.collect::<Vec<_>>().join(", "))
}

impl TopicSpec {
    const fn flags(&self) -> [bool; 6] {
        [self.presence, self.ack, self.echo, self.private, self.rows, self.wait]
    }

    const fn flag_mut(&mut self, at: usize) -> &mut bool {
        match at {
            0 => &mut self.presence,
            1 => &mut self.ack,
            2 => &mut self.echo,
            3 => &mut self.private,
            4 => &mut self.rows,
            _ => &mut self.wait,
        }
    }

    /// The same topic with one flag less, for each that it has.
    pub(crate) fn plainer(&self) -> Vec<Self> {
        let flags = self.flags().into_iter().enumerate().filter(|(_, is_set)| *is_set);
        let without = |(at, _)| {
            let mut plainer = self.clone();
            *plainer.flag_mut(at) = false;
            plainer
        };
        flags.map(without).collect()
    }

    fn read(words: &[&str]) -> Result<Self, String> {
        let [name, topic, flags @ ..] = words else {
            return Err("write `topic NAME TOPIC` and its flags".into());
        };
        let mut spec = Self::new(*name, *topic);
        for word in flags {
            let at = FLAGS.iter().position(|flag| flag == word);
            let at = at.ok_or_else(|| unknown(word, FLAGS.into_iter()))?;
            *spec.flag_mut(at) = true;
        }
        Ok(spec)
    }
}

/// A text is no scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScenarioError {
    /// The line, from 1.
    line: usize,
    mistake: String,
}

impl fmt::Display for ScenarioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.mistake)
    }
}

impl core::error::Error for ScenarioError {}

impl FromStr for Scenario {
    type Err = ScenarioError;

    fn from_str(text: &str) -> Result<Self, ScenarioError> {
        let mut scenario = Self { seed: Seed(0), cast: Cast::default(), steps: Vec::new() };
        for (at, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default();
            let words: Vec<&str> = line.split_whitespace().collect();
            scenario
                .read_line(&words)
                .map_err(|mistake| ScenarioError { line: at + 1, mistake })?;
        }
        Ok(scenario)
    }
}

impl Scenario {
    fn read_line(&mut self, words: &[&str]) -> Result<(), String> {
        let cast = &mut self.cast;
        match words {
            [] => {}
            ["seed", seed] => {
                self.seed = seed.parse().map_err(|error: crate::SeedError| error.to_string())?;
            }
            ["set", key, value] => {
                let known = cast.clone();
                cast.settings.read(key, value, &known)?;
            }
            [part @ ("client" | "manager"), name] => {
                let taken = cast.actors.iter().any(|actor| actor.name == *name);
                let is_fault = FaultKind::ALL.iter().any(|kind| kind.word() == *name);
                if taken || is_fault || RESERVED.contains(name) {
                    return Err(format!("`{name}` means something else already"));
                }
                if cast.actors.len() == ACTORS_MAX {
                    return Err(format!("there are more than {ACTORS_MAX} applications"));
                }
                let part = if *part == "client" { Part::Client } else { Part::Manager };
                cast.actors.push(Actor { name: (*name).into(), part });
            }
            ["topic", rest @ ..] => {
                let spec = TopicSpec::read(rest)?;
                let taken =
                    |other: &TopicSpec| other.name == spec.name || other.topic == spec.topic;
                if cast.topics.iter().any(taken) {
                    return Err(format!("topic `{}` is there already", spec.name));
                }
                if cast.topics.len() == TOPICS_MAX {
                    return Err(format!("there are more than {TOPICS_MAX} topics"));
                }
                cast.topics.push(spec);
            }
            [after, rest @ ..] if after.starts_with('+') => {
                if self.steps.len() == STEPS_MAX {
                    return Err(format!("there are more than {STEPS_MAX} steps"));
                }
                let after = read_span(&after[1..])?;
                self.steps.push(Step { after, op: cast.read_op(rest)? });
            }
            [first, ..] => {
                return Err(format!(
                    "`{first}` begins no line; a step begins with how long after the one before \
                     it happens, as in `+100ms cut ana`"
                ));
            }
        }
        Ok(())
    }
}
