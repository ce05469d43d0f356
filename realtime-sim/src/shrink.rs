//! From a scenario that fails to a small one that fails in the same way.

use core::ops::Range;
use core::time::Duration;
use std::collections::BTreeSet;

use crate::Seed;
use crate::scenario::{
    ActorId, Cast, Op, Part, Scenario, Settings, Step, TopicSpec, simpler_spans,
};
use crate::seed::Hash;

/// More steps than this have more pairs than time to try them.
const PAIRED_MAX: usize = 30;
/// Seeds that are as simple as any.
const SMALL_SEEDS: Range<u64> = 0..8;

/// Makes a scenario that fails as small as it still fails, and tells how often it was tried.
///
/// `fails` says of a scenario whether it fails in the same way, and depends on nothing but the
/// scenario. What is left out or made simpler, in this order: applications and topics with all
/// their steps; steps, many at once and then one by one, with the time before them or without;
/// settings that differ from the defaults, flags of topics, managers that may be clients; numbers
/// and delays; and last the seed. This goes on until nothing is left that could be simpler, or
/// until `tries_max` scenarios were tried. What `fails` says yes to is the smallest so far, so it
/// can show how far the search is; when it says no from some time on, the search ends soon.
///
/// # Examples
///
/// ```
/// use realtime_sim::{Run, Scenario, shrink};
///
/// let scenario: Scenario = "\
/// client ana
/// client ben
/// topic room realtime:room presence
/// topic feed realtime:feed
///
/// +0ms     ana connect
/// +30ms    ben connect
/// +0ms     ana open room
/// +720ms   ben open room
/// +0ms     ben open feed
/// +3s      crash ana room
/// +3170ms  cut ben
/// "
/// .parse()?;
///
/// // As if no channel must ever be lost, which nobody promises.
/// let (small, _) = shrink(&scenario, 1_000, |scenario| {
///     let (_, records) = Run::new(scenario).recorded();
///     records.iter().any(|record| record.detail.contains("errored"))
/// });
/// assert_eq!(small.to_string(), "\
/// seed 0
/// client ana
/// topic room realtime:room
///
/// +0ms     ana connect
/// +0ms     ana open room
/// +100ms   crash ana room
/// ");
/// # Ok::<(), realtime_sim::ScenarioError>(())
/// ```
#[must_use]
pub fn shrink(
    scenario: &Scenario,
    tries_max: u32,
    fails: impl FnMut(&Scenario) -> bool,
) -> (Scenario, u32) {
    let seen = BTreeSet::new();
    let mut search = Search { best: scenario.clone(), fails, seen, tries: 0, tries_max };
    search.run();
    (search.best, search.tries)
}

struct Search<F> {
    /// The smallest that fails so far.
    best: Scenario,
    fails: F,
    /// The hashes of what was tried.
    seen: BTreeSet<u64>,
    tries: u32,
    tries_max: u32,
}

impl<F: FnMut(&Scenario) -> bool> Search<F> {
    fn run(&mut self) {
        loop {
            let before = self.best.clone();
            self.drop_actors();
            self.drop_topics();
            self.drop_steps();
            self.drop_pairs();
            self.simplify_cast();
            self.simplify_steps();
            if self.best == before && !self.try_small_seeds() && !self.drop_steps_with_draws() {
                break;
            }
        }
    }

    /// Takes a scenario for the best one if it fails.
    fn take(&mut self, scenario: Scenario) -> bool {
        let mut hash = Hash::new();
        hash.write(scenario.to_string().as_bytes());
        if self.tries >= self.tries_max || !self.seen.insert(hash.value()) {
            return false;
        }
        self.tries += 1;
        let fails = (self.fails)(&scenario);
        if fails {
            self.best = scenario;
        }
        fails
    }

    fn take_cast(&mut self, change: impl FnOnce(&mut Cast)) -> bool {
        let mut cast = self.best.cast.clone();
        change(&mut cast);
        self.take(recast(&self.best, cast))
    }

    fn drop_actors(&mut self) {
        for at in (0..self.best.cast.actors.len()).rev() {
            self.take_cast(|cast| drop(cast.actors.remove(at)));
        }
    }

    fn drop_topics(&mut self) {
        for at in (0..self.best.cast.topics.len()).rev() {
            self.take_cast(|cast| drop(cast.topics.remove(at)));
        }
    }

    /// Leaves steps out: all, halves, quarters, and so on down to single ones. The last come first,
    /// because all that happen after the failure can go at once.
    fn drop_steps(&mut self) {
        let mut count = self.best.steps.len();
        while count > 0 {
            let mut end = self.best.steps.len();
            while end > 0 {
                let start = end.saturating_sub(count);
                self.drop_range(start..end);
                end = start;
            }
            count /= 2;
        }
    }

    fn drop_range(&mut self, range: Range<usize>) -> bool {
        self.take(without(&self.best, range.clone(), Time::Passes))
            || self.take(without(&self.best, range, Time::Goes))
    }

    /// Leaves out two steps that are of use only together, or undo each other.
    fn drop_pairs(&mut self) {
        if self.best.steps.len() > PAIRED_MAX {
            return;
        }
        let mut second = self.best.steps.len();
        while second > 1 {
            second -= 1;
            for first in (0..second).rev() {
                let one = without(&self.best, second..second + 1, Time::Passes);
                if self.take(without(&one, first..first + 1, Time::Passes)) {
                    second = self.best.steps.len();
                    break;
                }
            }
        }
    }

    fn simplify_cast(&mut self) {
        self.take_cast(|cast| cast.settings = Settings::default());
        while self
            .best
            .cast
            .settings
            .simpler()
            .into_iter()
            .any(|settings| self.take_cast(|cast| cast.settings = settings))
        {}
        for at in 0..self.best.cast.actors.len() {
            self.take_cast(|cast| cast.actors[at].part = Part::Client);
        }
        for at in 0..self.best.cast.topics.len() {
            self.take_cast(|cast| {
                let TopicSpec { name, topic, .. } = cast.topics[at].clone();
                cast.topics[at] = TopicSpec::new(name, topic);
            });
            while self.best.cast.topics[at]
                .plainer()
                .into_iter()
                .any(|plainer| self.take_cast(|cast| cast.topics[at] = plainer))
            {}
        }
    }

    fn simplify_steps(&mut self) {
        for at in 0..self.best.steps.len() {
            while simpler_steps(&self.best.steps[at]).into_iter().any(|step| {
                let mut scenario = self.best.clone();
                scenario.steps[at] = step;
                self.take(scenario)
            }) {}
        }
    }

    fn try_small_seeds(&mut self) -> bool {
        let mut seeds = SMALL_SEEDS.start..SMALL_SEEDS.end.min(self.best.seed.0);
        seeds.any(|seed| self.take(Scenario { seed: Seed(seed), ..self.best.clone() }))
    }

    /// A step may be needed only for what it shifts in the draws; with others it can go.
    fn drop_steps_with_draws(&mut self) -> bool {
        (0..self.best.steps.len()).rev().any(|at| {
            SMALL_SEEDS.into_iter().any(|seed| {
                let shorter = without(&self.best, at..at + 1, Time::Passes);
                self.take(Scenario { seed: Seed(seed), ..shorter })
            })
        })
    }
}

/// What becomes of the time before steps that are left out.
#[derive(Clone, Copy)]
enum Time {
    /// What follows happens when it did.
    Passes,
    /// What follows happens sooner.
    Goes,
}

/// The same with another cast. Steps about somebody or something that is not in it are left out,
/// and their time passes all the same.
fn recast(scenario: &Scenario, cast: Cast) -> Scenario {
    let mut steps = Vec::with_capacity(scenario.steps.len());
    let mut passed = Duration::ZERO;
    for step in &scenario.steps {
        passed += step.after;
        let words = scenario.cast.words(&step.op);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        if let Ok(op) = cast.read_op(&words) {
            steps.push(Step { after: core::mem::take(&mut passed), op });
        }
    }
    Scenario { seed: scenario.seed, cast, steps }
}

/// The same step sooner, or with one parameter that is simpler.
fn simpler_steps(step: &Step) -> Vec<Step> {
    let at_once = (!step.after.is_zero()).then_some(Duration::ZERO);
    let spans = at_once.into_iter().chain(simpler_spans(step.after));
    let sooner = spans.map(|after| Step { after, op: step.op.clone() });
    let ops = match &step.op {
        Op::Act(who, act) => {
            let first = (who.0 > 0).then(|| Op::Act(ActorId(0), act.clone()));
            let acts = act.simpler().into_iter().map(|act| Op::Act(*who, act));
            first.into_iter().chain(acts).collect()
        }
        Op::Data(data) => data.simpler().into_iter().map(Op::Data).collect(),
        Op::Fault(fault) => fault.simpler().into_iter().map(Op::Fault).collect::<Vec<_>>(),
    };
    sooner.chain(ops.into_iter().map(|op| Step { after: step.after, op })).collect()
}

fn without(scenario: &Scenario, range: Range<usize>, time: Time) -> Scenario {
    let mut scenario = scenario.clone();
    let start = range.start;
    let passed: Duration = scenario.steps.drain(range).map(|step| step.after).sum();
    if let (Time::Passes, Some(next)) = (time, scenario.steps.get_mut(start)) {
        next.after += passed;
    }
    scenario
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coverage::PushEnd;
    use crate::run_with;
    use crate::subject::{ChannelTold, Flaw, Flawed, Told};

    /// As many as the `sim` command takes.
    const TRIES_MAX: u32 = 4_000;

    /// A push that was not taken ends twice, if a channel was lost before.
    #[derive(Debug, Default)]
    struct EndsTwice {
        lost: bool,
    }

    impl Flaw for EndsTwice {
        fn tell(&mut self, told: &mut Vec<Told>) {
            let Some(Told::Channel(_, event)) = told.last() else { return };
            self.lost |= matches!(event, ChannelTold::Errored { .. });
            let is_taken = |end: &PushEnd| *end == PushEnd::Ok;
            if self.lost && matches!(event, ChannelTold::Ended { end, .. } if !is_taken(end)) {
                told.extend(told.last().cloned());
            }
        }
    }

    /// It never gets over a third loss of its connection.
    #[derive(Debug, Default)]
    struct GivesUp {
        losses: u32,
    }

    impl Flaw for GivesUp {
        fn tell(&mut self, told: &mut Vec<Told>) {
            self.losses += u32::from(matches!(told.last(), Some(Told::Disconnected { .. })));
        }

        fn is_live(&self, is_live: bool) -> bool {
            is_live && self.losses < 3
        }
    }

    /// It says that a channel is live when something was missed while no channel was.
    #[derive(Debug, Default)]
    struct LiveTooEarly {
        live: BTreeSet<u32>,
    }

    impl Flaw for LiveTooEarly {
        fn tell(&mut self, told: &mut Vec<Told>) {
            let Some(Told::Channel(key, event)) = told.last().cloned() else { return };
            if event == ChannelTold::Live {
                self.live.insert(key.life);
            } else if matches!(event, ChannelTold::Errored { .. } | ChannelTold::Rejoining) {
                self.live.remove(&key.life);
            } else if matches!(event, ChannelTold::Gap { .. }) && self.live.is_empty() {
                told.extend(
                    [ChannelTold::Live, ChannelTold::Live].map(|live| Told::Channel(key, live)),
                );
            }
        }
    }

    /// The lengths of what the first scenarios that a flaw breaks are shrunk to.
    fn lengths<F: Flaw>(count: usize) -> Vec<usize> {
        let rule = |scenario: &Scenario| {
            run_with::<Flawed<F>>(scenario).finding.map(|finding| finding.rule)
        };
        let seeds = (0..).map(|seed| Scenario::of_seed(Seed(seed)));
        let broken = seeds.filter_map(|scenario| Some((rule(&scenario)?, scenario)));
        let shrunk = broken.take(count).map(|(broken, scenario)| {
            let (small, _) =
                shrink(&scenario, TRIES_MAX, |scenario| rule(scenario) == Some(broken));
            assert_eq!(rule(&small), Some(broken), "what it was shrunk to fails:\n{small}");
            let again: Scenario = small.to_string().parse().expect("what was written");
            assert_eq!(rule(&again), Some(broken), "and so does its text:\n{small}");
            small.steps.len()
        });
        shrunk.collect()
    }

    #[test]
    fn what_seeds_find_is_shrunk_to_a_dozen_steps_and_mostly_to_fewer() {
        let mut lengths =
            [lengths::<EndsTwice>(12), lengths::<GivesUp>(12), lengths::<LiveTooEarly>(12)]
                .concat();
        lengths.sort_unstable();
        assert_eq!(lengths.len(), 36);
        assert!(lengths[lengths.len() / 2] <= 12, "the median of {lengths:?}");
    }

    #[test]
    fn what_is_left_out_takes_its_time_along_or_leaves_it() {
        let scenario: Scenario =
            "client ana\n+1s cut ana\n+2s vanish ana\n+3s cut ana".parse().expect("a scenario");
        let after = |scenario: &Scenario| -> Vec<u64> {
            scenario.steps.iter().map(|step| step.after.as_secs()).collect()
        };
        assert_eq!(after(&without(&scenario, 1..2, Time::Passes)), [1, 5]);
        assert_eq!(after(&without(&scenario, 1..2, Time::Goes)), [1, 3]);
        assert_eq!(after(&without(&scenario, 1..3, Time::Passes)), [1]);
    }

    #[test]
    fn steps_about_somebody_who_is_gone_go_along() {
        let text = "client ana\nclient ben\ntopic room realtime:room\ntopic feed realtime:feed\n\
                    +1s ana open room\n+2s cut ana\n+3s ben open room\n+4s ben open feed";
        let scenario: Scenario = text.parse().expect("a scenario");
        let is_about_ben = |scenario: &Scenario| {
            scenario
                .steps
                .iter()
                .any(|step| matches!(step.op, Op::Act(..)) && step.after.as_secs() == 6)
        };
        let mut seen = false;
        let (small, _) = shrink(&scenario, TRIES_MAX, |scenario| {
            seen |= is_about_ben(scenario);
            scenario.cast.actors.iter().any(|actor| actor.name == "ben")
        });
        assert!(seen, "ben acts at the time he did, without ana");
        assert_eq!(small.to_string(), "seed 0\nclient ben\n");
    }

    #[test]
    fn it_ends_when_nothing_or_everything_fails_and_when_it_tried_enough() {
        let scenario = Scenario::of_seed(Seed(3));
        assert_eq!(shrink(&scenario, TRIES_MAX, |_| false).0, scenario);
        assert_eq!(shrink(&scenario, TRIES_MAX, |_| true).0.to_string(), "seed 0\n");
        let mut asked = 0;
        let (_, tries) = shrink(&scenario, 7, |_| {
            asked += 1;
            asked % 2 == 0
        });
        assert_eq!((asked, tries), (7, 7), "as often as it may");
    }
}
