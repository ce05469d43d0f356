//! Many seeds in one test.

use core::fmt::Write;
use core::ops::Range;

use crate::run::Report;
use crate::scenario::Scenario;
use crate::seed::{Seed, seeds};
use crate::shrink::shrink;

/// What says which seeds to run instead of the usual ones.
const ASKED: &str = "REALTIME_SIM_SEED";
/// More tries than this make no scenario much smaller.
const TRIES_MAX: u32 = 2_000;

/// Runs the scenario of each seed, for tests; the environment variable `REALTIME_SIM_SEED` may ask
/// for other seeds, as [`seeds`] reads it.
///
/// `run` is [`run`](crate::run()), or a closure around [`run_app`](crate::run_app) and the like. It may
/// change the scenario first, or leave findings out of the report that are not its concern.
///
/// # Panics
///
/// When something does not hold: with the seed, what does not hold, the smallest scenario of which
/// it does not hold either, and the line that runs the seed again. An application that panics is run
/// many times to get there, and says so each time; one whose [`App::check`](crate::App::check)
/// returns an error is quiet. Also when `REALTIME_SIM_SEED` is no seed and no range of seeds.
///
/// # Examples
///
/// ```
/// use realtime_sim::{check_seeds, run};
///
/// // #[test]
/// fn whatever_happens_it_heals() {
///     check_seeds(0..20, run);
/// }
/// # whatever_happens_it_heals();
/// ```
#[track_caller]
pub fn check_seeds(usual: Range<u64>, run: impl Fn(&Scenario) -> Report) {
    let asked = std::env::var(ASKED).ok();
    let seeds = seeds(usual, asked.as_deref()).unwrap_or_else(|error| panic!("{ASKED}: {error}"));
    if let Some(failure) = first_failure(seeds, run) {
        panic!("{failure}");
    }
}

/// What there is to say of the first seed that fails.
fn first_failure(seeds: Range<u64>, run: impl Fn(&Scenario) -> Report) -> Option<String> {
    let (seed, finding) = seeds.into_iter().map(Seed).find_map(|seed| {
        let finding = run(&Scenario::of_seed(seed)).finding?;
        Some((seed, finding))
    })?;
    let scenario = Scenario::of_seed(seed);
    let mut last = finding.clone();
    let (small, tries) = shrink(&scenario, TRIES_MAX, |smaller| {
        let finding = run(smaller).finding.filter(|smaller| smaller.rule == finding.rule);
        let fails = finding.is_some();
        last = finding.unwrap_or_else(|| last.clone());
        fails
    });
    let (from, to) = (scenario.steps.len(), small.steps.len());
    let mut text = format!("seed {seed}: {finding}\n\n");
    let shrunk = write!(
        text,
        "{from} steps, shrunk to {to} in {tries} runs:\n\n{small}\n{last}\n\n\
         Run the seed again with\n{ASKED}={seed} cargo test\n"
    );
    shrunk.expect("a text takes everything");
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run;

    /// As if nobody could have a connection cut.
    fn never_cut(scenario: &Scenario) -> Report {
        let mut report = run(scenario);
        if let (None, true) = (&report.finding, scenario.to_string().contains(" cut ")) {
            let at = realtime_proto::Instant::EPOCH;
            report.finding = Some(crate::Finding { rule: "cut", at, what: "it is cut".into() });
        }
        report
    }

    #[test]
    fn a_failure_names_its_seed_and_shows_what_is_left_of_its_scenario() {
        assert_eq!(first_failure(0..5, run), None);
        let is_cut = |seed: &u64| never_cut(&Scenario::of_seed(Seed(*seed))).finding.is_some();
        let seed = (0..).find(is_cut).expect("one of all");
        let text = first_failure(0..seed + 1, never_cut).expect("a failure");
        assert!(
            text.starts_with(&format!("seed {seed}: cut: it is cut (at 0.000s)\n\n")),
            "{text}"
        );
        assert!(text.contains("steps, shrunk to 1 in "), "{text}");
        assert!(text.contains("\n\n+0ms     cut ben\n\ncut: it is cut"), "{text}");
        assert!(text.ends_with(&format!("REALTIME_SIM_SEED={seed} cargo test\n")), "{text}");
    }
}
