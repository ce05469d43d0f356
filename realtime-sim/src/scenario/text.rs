//! Scenarios as text: one line for each thing, written and read.

use core::fmt;
use core::str::FromStr;

use super::check::STEPS_MAX;
use super::span::{Span, read_span};
use super::steps::{Act, ActKind, Data, DataKind, Fault, FaultKind};
use super::words::{Word, instead};
use super::{Actor, ActorId, Cast, Op, Part, Scenario, Step, TopicSpec};
use crate::Seed;

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
            let kind = kind.ok_or_else(|| {
                unknown("event of the database", word, DataKind::ALL.iter().map(|k| k.word()))
            })?;
            return Ok(Op::Data(Data::read_parameters(kind, rest.iter(), self)?));
        }
        if let Ok(who) = ActorId::read(first, self) {
            let [word, rest @ ..] = rest else { return Err(format!("what does {first} do?")) };
            let kind = ActKind::ALL.iter().copied().find(|kind| kind.word() == *word);
            let kind = kind.ok_or_else(|| {
                unknown("act of an application", word, ActKind::ALL.iter().map(|k| k.word()))
            })?;
            return Ok(Op::Act(who, Act::read_parameters(kind, rest.iter(), self)?));
        }
        let kind = FaultKind::ALL.iter().copied().find(|kind| kind.word() == *first);
        let kind = kind.ok_or_else(|| {
            let names = self.actors.iter().map(|actor| actor.name.as_str());
            let known = names.chain(["database"]).chain(FaultKind::ALL.iter().map(|k| k.word()));
            let instead = instead(first, known);
            format!("`{first}` is neither a fault nor an application of this scenario; {instead}")
        })?;
        Ok(Op::Fault(Fault::read_parameters(kind, rest.iter(), self)?))
    }
}

fn unknown(what: &str, word: &str, known: impl Iterator<Item = &'static str>) -> String {
    format!("`{word}` is no {what}; {}", instead(word, known))
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
            let at = at.ok_or_else(|| unknown("flag of a topic", word, FLAGS.into_iter()))?;
            *spec.flag_mut(at) = true;
        }
        Ok(spec)
    }
}

/// A text is no scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScenarioError {
    /// The line, from 1.
    pub(super) line: usize,
    pub(super) mistake: String,
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
        let scenario = Self { seed: Seed(0), cast: Cast::default(), steps: Vec::new() };
        let mut reader = Reader { scenario, sent: 0 };
        // Some editors put a mark at the beginning that is no part of the text.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        for (at, line) in text.lines().enumerate() {
            // Names may have a `#` within: only a word that begins with one begins a remark.
            let words = line.split_whitespace().take_while(|word| !word.starts_with('#'));
            let words: Vec<&str> = words.collect();
            reader.read_line(&words).map_err(|mistake| ScenarioError { line: at + 1, mistake })?;
        }
        Ok(reader.scenario)
    }
}

/// A scenario that is being read.
struct Reader {
    scenario: Scenario,
    /// How much the steps send together.
    sent: u64,
}

impl Reader {
    fn read_line(&mut self, words: &[&str]) -> Result<(), String> {
        let Scenario { seed, cast, steps } = &mut self.scenario;
        match words {
            [] => {}
            ["seed", word] => {
                *seed = word.parse().map_err(|error: crate::SeedError| error.to_string())?;
            }
            // Steps name servers by their numbers, and are written behind all settings.
            ["set", ..] if !steps.is_empty() => {
                return Err("settings stand before the first step".into());
            }
            ["set", key, value] => {
                let known = cast.clone();
                cast.settings.read(key, value, &known)?;
            }
            [part @ ("client" | "manager"), name] => {
                Cast::check_actor(&cast.actors, name)?;
                let part = if *part == "client" { Part::Client } else { Part::Manager };
                cast.actors.push(Actor { name: (*name).into(), part });
                cast.check_sent(self.sent)?;
            }
            ["topic", rest @ ..] => {
                let spec = TopicSpec::read(rest)?;
                Cast::check_topic(&cast.topics, &spec)?;
                cast.topics.push(spec);
                cast.check_sent(self.sent)?;
            }
            ["seed", ..] => return Err("write `seed` and one number, as in `seed 7`".into()),
            ["set", ..] => {
                return Err("write `set KEY VALUE`, as in `set delay 20ms`".into());
            }
            [part @ ("client" | "manager"), ..] => {
                return Err(format!("write `{part} NAME`, a line for each, as in `{part} ana`"));
            }
            [after, rest @ ..] if after.starts_with('+') => {
                if steps.len() == STEPS_MAX {
                    return Err(format!("there are more than {STEPS_MAX} steps"));
                }
                let after = read_span(&after[1..])?;
                let op = cast.read_op(rest)?;
                self.sent += op.sends();
                cast.check_sent(self.sent)?;
                steps.push(Step { after, op });
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

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Scenario, String> {
        text.parse().map_err(|error: ScenarioError| error.to_string())
    }

    fn refused(text: &str) -> String {
        read(text).expect_err("it is refused")
    }

    #[test]
    fn settings_stand_before_the_steps() {
        let text = "set servers 3\nclient ana\n+0ms kill 2 1s\nset servers 1\n";
        assert_eq!(refused(text), "line 4: settings stand before the first step");
    }

    #[test]
    fn a_remark_begins_a_line_or_stands_behind_a_space() {
        let text = "# one\nclient ana # two\ntopic board realtime:board#1 presence ack #three\n";
        let scenario = read(text).unwrap();
        let topic = &scenario.cast.topics[0];
        assert_eq!((&*topic.topic, topic.presence, topic.ack), ("realtime:board#1", true, true));
        assert_eq!(read(&scenario.to_string()), Ok(scenario));
    }

    #[test]
    fn steps_less_than_a_millisecond_apart_are_read_as_they_were_written() {
        let mut scenario = read("client ana\n+1500us cut ana\n").unwrap();
        assert_eq!(scenario.steps[0].after, core::time::Duration::from_micros(1_500));
        assert_eq!(read(&scenario.to_string()).as_ref(), Ok(&scenario));
        scenario.steps[0].after = core::time::Duration::from_nanos(7);
        assert_eq!(read(&scenario.to_string()), Ok(scenario));
    }

    #[test]
    fn what_a_text_cannot_say_is_refused_when_it_is_made_by_hand() {
        let text = "set servers 3\nclient ana\ntopic room realtime:room\n+0ms kill 2 1s\n";
        type Change = fn(&mut Scenario);
        let changes: [(Change, usize); 8] = [
            (|it| it.cast.settings.servers = 2, 6),
            (|it| it.cast.settings.servers = 0, 2),
            (|it| it.cast.topics[0].topic = "#room".into(), 4),
            (|it| it.cast.topics[0].topic = "room ack".into(), 4),
            (|it| it.cast.topics[0].name = String::new(), 4),
            (|it| it.cast.actors[0].name = "cut".into(), 3),
            (|it| it.cast.actors[0].name = "a b".into(), 3),
            (|it| it.steps[0].after = core::time::Duration::MAX, 6),
        ];
        assert_eq!(read(text).unwrap().check(), Ok(()));
        for (change, line) in changes {
            let mut scenario = read(text).unwrap();
            change(&mut scenario);
            assert_eq!(scenario.check().map_err(|error| error.line), Err(line), "{scenario}");
            let finding = crate::run(&scenario).finding.expect("it is not run");
            assert_eq!(finding.rule, "scenario");
            assert_ne!(read(&scenario.to_string()), Ok(scenario));
        }
    }

    #[test]
    fn who_is_not_there_any_more_is_refused_and_no_panic() {
        let text = "client ana\nclient ben\ntopic room realtime:room\n+0ms ben open room\n";
        let mut scenario = read(text).unwrap();
        scenario.cast.actors.pop();
        assert!(scenario.check().is_err());
        scenario.cast.topics.pop();
        assert!(read(&scenario.to_string()).is_err());
    }

    #[test]
    fn floods_are_bounded_together() {
        let flood = |times: usize, cast: &str| {
            let floods = "+0ms garbage-flood ana 10000\n".repeat(times);
            read(&format!("client ana\n{cast}{floods}"))
        };
        assert!(flood(50, "").is_ok());
        assert!(flood(51, "").unwrap_err().starts_with("line 52: the steps send 510000 messages"));
        assert!(flood(26, "client ben\n").is_err());
        let later =
            format!("client ana\n{}client ben\n", "+0ms garbage-flood ana 10000\n".repeat(50));
        assert!(read(&later).is_err());
    }

    #[test]
    fn a_mistake_is_told_with_what_was_meant() {
        let told = [
            ("client ana\n+1s cutt ana\n", "do you mean `cut`?"),
            ("client ana\n+1s annna connect\n", "do you mean `ana`?"),
            ("client ana\n+1s explode ana\n", "write one of ana, database, cut, vanish, "),
            ("client ana\n+1s ana conect\n", "do you mean `connect`?"),
            ("client ana\n+1s database insrt\n", "do you mean `insert`?"),
            ("client ana\n+1s garbage ana no-json\n", "do you mean `not-json`?"),
            ("set dely 20ms\n", "do you mean `delay`?"),
            ("topic room realtime:room presense\n", "do you mean `presence`?"),
            ("client ana ben\n", "write `client NAME`, a line for each"),
            ("manager\n", "write `manager NAME`"),
            ("set delay = 20ms\n", "write `set KEY VALUE`, as in `set delay 20ms`"),
            ("seed\n", "write `seed` and one number"),
        ];
        for (text, what) in told {
            let error = refused(text);
            assert!(error.contains(what), "{text}{error}");
        }
    }

    #[test]
    fn the_mark_that_some_editors_put_at_the_beginning_is_skipped() {
        assert_eq!(read("\u{feff}seed 7\n").unwrap().seed, Seed(7));
    }
}
