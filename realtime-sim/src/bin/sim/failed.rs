//! What failed, in words for people: with the names of the scenario, and where a panic was.

use core::cell::RefCell;
use core::fmt;
use core::panic::AssertUnwindSafe;
use std::panic::{catch_unwind, resume_unwind};

use realtime_sim::{Cast, Finding, Part, Report, Scenario, run};

use crate::say::tell;

/// What does not hold.
#[derive(Clone, Debug)]
pub(super) struct Failed {
    pub(super) rule: &'static str,
    words: String,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

impl Failed {
    pub(super) fn of(finding: &Finding, cast: &Cast, panic: Option<&Panic>) -> Self {
        let mut words = with_names(&finding.to_string(), cast);
        if let Some(panic) = panic.filter(|_| finding.rule == "panic") {
            words = format!("{words}, panicked at {}", panic.place);
        }
        Self { rule: finding.rule, words }
    }
}

/// Plays a scenario; tells what failed, if something did.
pub(super) fn play(scenario: &Scenario) -> (Report, Option<Failed>) {
    let (report, panic) = watch(|| run(scenario));
    let failed = report.finding.as_ref();
    let failed = failed.map(|finding| Failed::of(finding, &scenario.cast, panic.as_ref()));
    (report, failed)
}

/// What is said of a panic.
#[derive(Debug)]
pub(super) struct Panic {
    place: String,
    words: String,
}

thread_local! {
    /// While panics of this thread are findings: the last one.
    static WATCH: RefCell<Option<Option<Panic>>> = const { RefCell::new(None) };
}

/// Has panics remembered where they are findings; all others are printed as usual.
pub(super) fn listen() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let is_watched = WATCH.with_borrow_mut(|watch| {
            let Some(last) = watch else { return false };
            let place = info.location().map_or_else(|| "?".into(), ToString::to_string);
            *last = Some(Panic { place, words: info.to_string() });
            true
        });
        if !is_watched {
            usual(info);
        }
    }));
}

/// Does something that makes a finding of a panic, and tells where the panic was.
pub(super) fn watch<T>(work: impl FnOnce() -> T) -> (T, Option<Panic>) {
    WATCH.set(Some(None));
    let done = catch_unwind(AssertUnwindSafe(work));
    let panic = WATCH.take().flatten();
    match done {
        Ok(done) => (done, panic),
        // It is no finding, but a mistake of the simulator.
        Err(unwinds) => {
            if let Some(panic) = panic {
                tell!("{}", panic.words);
            }
            resume_unwind(unwinds)
        }
    }
}

/// What the nodes and topics of a trace are called in the scenario, a remark each.
pub(super) fn legend(cast: &Cast) -> Vec<String> {
    let actors = cast.actors.iter().enumerate().map(|(at, actor)| {
        let part = match actor.part {
            Part::Client => "client",
            Part::Manager => "manager",
        };
        format!("# node{at} is the {part} {}", actor.name)
    });
    let topics =
        cast.topics.iter().map(|topic| format!("# {} is the topic {}", topic.topic, topic.name));
    actors.chain(topics).collect()
}

/// Puts the names of a scenario beside the numbers of nodes, and for those of topics.
fn with_names(words: &str, cast: &Cast) -> String {
    let words = replace(words, "node", "", |at| {
        cast.actors.get(at).map(|actor| format!("node{at} ({})", actor.name))
    });
    replace(&words, "TopicId(", ")", |at| cast.topics.get(at).map(|topic| topic.name.clone()))
}

/// Replaces each number between `before` and `after` that has another name.
fn replace(
    words: &str,
    before: &str,
    after: &str,
    name: impl Fn(usize) -> Option<String>,
) -> String {
    let mut parts = words.split(before);
    let mut replaced: String = parts.next().unwrap_or_default().into();
    for part in parts {
        let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
        let (number, rest) = part.split_at(digits);
        let named = number.parse().ok().and_then(&name).zip(rest.strip_prefix(after));
        match named {
            Some((name, rest)) => replaced.extend([&name, rest]),
            None => replaced.extend([before, part]),
        }
    }
    replaced
}

#[cfg(test)]
impl Failed {
    /// What no scenario finds.
    pub(super) fn made_up(scenario: &Scenario) -> Self {
        let at = realtime_proto::Instant::EPOCH;
        Self::of(&Finding { rule: "G1", at, what: "made up".into() }, &scenario.cast, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_names_who_it_is_about_as_the_scenario_does() {
        let text =
            "seed 1\nclient ana\nmanager ben\ntopic feed realtime:feed\n\n+0ms ana connect\n";
        let cast = text.parse::<Scenario>().expect("a scenario").cast;
        for (words, expected) in [
            ("G3: node1: push 28 has no outcome", "G3: node1 (ben): push 28 has no outcome"),
            ("node0 and node1", "node0 (ana) and node1 (ben)"),
            ("topic: TopicId(0), life: 3", "topic: feed, life: 3"),
            ("node12, a node, TopicId(7) and TopicId(", "node12, a node, TopicId(7) and TopicId("),
        ] {
            assert_eq!(with_names(words, &cast), expected);
        }
    }

    #[test]
    fn a_panic_that_is_a_finding_has_its_place_and_every_other_is_printed_as_usual() {
        listen();
        let (caught, panic) = watch(|| catch_unwind(|| panic!("on purpose")).is_err());
        let place = panic.map(|panic| panic.place).unwrap_or_default();
        assert!(caught && place.contains("failed.rs:"), "{place}");
        let (_, panic) = watch(|| ());
        assert!(panic.is_none(), "one panic is told once");
        assert!(catch_unwind(|| watch(|| panic!("on purpose"))).is_err());
        assert!(WATCH.take().is_none(), "who does not catch it is not watched any more");
    }
}
