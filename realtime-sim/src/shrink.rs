//! The smallest scenario that still fails.

use core::time::Duration;

use crate::Seed;
use crate::scenario::{Cast, Op, Part, Scenario, Step};

/// Makes a scenario that fails as small as it still fails, and tells how often it was run.
///
/// It drops applications, topics and steps, sets settings and flags back, and then makes what is
/// left easier to think about: round numbers, no waiting, the first of everybody. What `fails` says
/// of a scenario must depend on nothing but the scenario. At most `runs_max` are tried.
///
/// # Examples
///
/// ```
/// use realtime_sim::{FaultKind, Op, Scenario, Seed, shrink};
///
/// // Whatever has a cut after a send fails.
/// let is_cut = |op: &Op| matches!(op, Op::Fault(fault) if fault.kind() == FaultKind::Cut);
/// let is_send = |op: &Op| matches!(op, Op::Act(_, realtime_sim::Act::Send { .. }));
/// let fails = |scenario: &Scenario| {
///     let send = scenario.steps.iter().position(|step| is_send(&step.op));
///     send.is_some_and(|at| scenario.steps[at..].iter().any(|step| is_cut(&step.op)))
/// };
/// let large = (0..).map(|seed| Scenario::of_seed(Seed(seed))).find(|it| fails(it)).unwrap();
/// let (small, _) = shrink(&large, 10_000, fails);
/// assert_eq!(small.steps.len(), 2);
/// ```
#[must_use]
pub fn shrink(
    scenario: &Scenario,
    runs_max: u32,
    fails: impl FnMut(&Scenario) -> bool,
) -> (Scenario, u32) {
    let mut shrinker = Shrinker { best: scenario.clone(), runs: 0, runs_max, fails };
    loop {
        let before = shrinker.best.clone();
        shrinker.drop_members();
        shrinker.drop_steps();
        shrinker.set_back();
        shrinker.simplify_steps();
        shrinker.try_seeds();
        if shrinker.best == before || shrinker.is_over() {
            return (shrinker.best, shrinker.runs);
        }
    }
}

struct Shrinker<F> {
    best: Scenario,
    runs: u32,
    runs_max: u32,
    fails: F,
}

impl<F: FnMut(&Scenario) -> bool> Shrinker<F> {
    const fn is_over(&self) -> bool {
        self.runs >= self.runs_max
    }

    /// Keeps a smaller scenario if it fails, too.
    fn keep(&mut self, smaller: Option<Scenario>) -> bool {
        let Some(smaller) = smaller.filter(|smaller| *smaller != self.best) else { return false };
        if self.is_over() {
            return false;
        }
        self.runs += 1;
        let fails = (self.fails)(&smaller);
        if fails {
            self.best = smaller;
        }
        fails
    }

    /// Drops applications and topics with all that is about them.
    fn drop_members(&mut self) {
        let mut at = 0;
        while at < self.best.cast.actors.len() {
            let mut cast = self.best.cast.clone();
            cast.actors.remove(at);
            let smaller = (!cast.actors.is_empty()).then(|| self.with_cast(cast)).flatten();
            if !self.keep(smaller) {
                at += 1;
            }
        }
        let mut at = 0;
        while at < self.best.cast.topics.len() {
            let mut cast = self.best.cast.clone();
            cast.topics.remove(at);
            let smaller = (!cast.topics.is_empty()).then(|| self.with_cast(cast)).flatten();
            if !self.keep(smaller) {
                at += 1;
            }
        }
    }

    /// The same steps with other members, without those that are about members who are gone.
    fn with_cast(&self, cast: Cast) -> Option<Scenario> {
        let best = &self.best;
        let mut steps = Vec::new();
        let mut waited = Duration::ZERO;
        for step in &best.steps {
            let words = best.cast.words(&step.op);
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            match cast.read_op(&words) {
                Ok(op) => {
                    steps.push(Step { after: waited + step.after, op });
                    waited = Duration::ZERO;
                }
                Err(_) => waited += step.after,
            }
        }
        Some(Scenario { seed: best.seed, cast, steps })
    }

    /// Drops runs of steps, long ones first; time passes all the same, or does not.
    fn drop_steps(&mut self) {
        let mut length = self.best.steps.len().div_ceil(2).max(1);
        loop {
            let mut at = 0;
            while at < self.best.steps.len() && !self.is_over() {
                let smaller = self.without(at, length, true);
                if self.keep(smaller) {
                    continue;
                }
                let smaller = self.without(at, length, false);
                if !self.keep(smaller) {
                    at += length;
                }
            }
            if length == 1 || self.is_over() {
                return;
            }
            length = length.div_ceil(2);
        }
    }

    fn without(&self, at: usize, length: usize, time_passes: bool) -> Option<Scenario> {
        let mut smaller = self.best.clone();
        let end = (at + length).min(smaller.steps.len());
        let waited: Duration = smaller.steps.drain(at..end).map(|step| step.after).sum();
        if time_passes {
            if let Some(next) = smaller.steps.get_mut(at) {
                next.after += waited;
            }
        }
        Some(smaller)
    }

    /// Sets settings and flags back to what is usual.
    fn set_back(&mut self) {
        for settings in self.best.cast.settings.simpler() {
            // An earlier one may have been set back meanwhile; what is left is tried next time.
            let mut smaller = self.best.clone();
            smaller.cast.settings = settings;
            self.keep(Some(smaller));
        }
        for at in 0..self.best.cast.topics.len() {
            for plainer in self.best.cast.topics[at].plainer() {
                let mut smaller = self.best.clone();
                smaller.cast.topics[at] = plainer;
                self.keep(Some(smaller));
            }
        }
        for at in 0..self.best.cast.actors.len() {
            let mut smaller = self.best.clone();
            smaller.cast.actors[at].part = Part::Client;
            self.keep(Some(smaller));
        }
    }

    /// Makes single steps easier to think about.
    fn simplify_steps(&mut self) {
        let mut at = 0;
        while at < self.best.steps.len() && !self.is_over() {
            let after = self.best.steps[at].after;
            for simpler in simpler_spans(after) {
                let mut smaller = self.best.clone();
                smaller.steps[at].after = simpler;
                if self.keep(Some(smaller)) {
                    break;
                }
            }
            let candidates = simpler_ops(&self.best.steps[at].op);
            for op in candidates {
                let mut smaller = self.best.clone();
                smaller.steps[at].op = op;
                if self.keep(Some(smaller)) {
                    break;
                }
            }
            at += 1;
        }
    }

    /// What is drawn while it runs should not matter.
    fn try_seeds(&mut self) {
        for seed in 0..3 {
            if self.best.seed.0 <= seed {
                return;
            }
            let smaller = Scenario { seed: Seed(seed), ..self.best.clone() };
            if self.keep(Some(smaller)) {
                return;
            }
        }
    }
}

fn simpler_spans(span: Duration) -> Vec<Duration> {
    if span.is_zero() {
        return Vec::new();
    }
    let mut spans = vec![Duration::ZERO];
    spans.extend(crate::scenario::simpler_spans(span));
    spans
}

fn simpler_ops(op: &Op) -> Vec<Op> {
    match op {
        Op::Act(who, act) => act.simpler().into_iter().map(|act| Op::Act(*who, act)).collect(),
        Op::Data(data) => data.simpler().into_iter().map(Op::Data).collect(),
        Op::Fault(fault) => fault.simpler().into_iter().map(Op::Fault).collect(),
    }
}
