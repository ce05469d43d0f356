//! What to tell of a scenario that fails: the finding, the smallest scenario, and how to see it.

use std::path::Path;

use realtime_sim::{Scenario, run, shrink};

use crate::failed::{Failed, watch};
use crate::interrupt::Interrupt;
use crate::made::{self, quoted};
use crate::say::{say, tell};
use crate::source::{Origin, missing};

/// More tries than this make no scenario much smaller.
const TRIES_MAX: u32 = 4_000;

/// Makes a failing scenario as small as it still fails by the same rule, and tells in how many
/// tries.
pub(super) fn smallest(scenario: &Scenario, rule: &str, interrupt: &Interrupt) -> (Scenario, u32) {
    let fails = |smaller: &Scenario| run(smaller).finding.is_some_and(|found| found.rule == rule);
    let (smallest, _) = watch(|| smallest_that(scenario, |it| !interrupt.came() && fails(it)));
    smallest
}

/// Whatever the smallest is, it can be replayed, so that something happens in it.
fn smallest_that(scenario: &Scenario, fails: impl Fn(&Scenario) -> bool) -> (Scenario, u32) {
    shrink(scenario, TRIES_MAX, |smaller| missing(smaller).is_none() && fails(smaller))
}

/// Tells of a failure; the last line replays it.
pub(super) fn report(origin: &Origin, scenario: &Scenario, failed: &Failed, interrupt: &Interrupt) {
    say!("\n{} fails: {failed}", origin.name());
    let (small, tries) = smallest(scenario, failed.rule, interrupt);
    let (from, to) = (scenario.steps.len(), small.steps.len());
    say!("shrunk from {from} steps to {to} in {tries} tries:\n\n{small}\nreplay it with");
    say!("{}", keep(&made::path(&origin.file("scenario")), &small, origin));
}

/// Writes a small scenario to a file, and tells how to replay it: from the file, or from where it
/// came when there can be no file.
pub(super) fn keep(path: &Path, small: &Scenario, origin: &Origin) -> String {
    match made::write(path, &small.to_string()) {
        Ok(()) => format!("cargo sim replay {} --trace", quoted(path)),
        Err(error) => {
            tell!("error: {error}");
            format!("cargo sim replay {origin} --trace")
        }
    }
}

#[cfg(test)]
mod tests {
    use realtime_sim::Seed;

    use super::*;

    #[test]
    fn what_fails_whatever_happens_is_shrunk_to_what_can_be_replayed() {
        let (small, _) = smallest_that(&Scenario::of_seed(Seed(33)), |_| true);
        assert_eq!(missing(&small), None, "{small}");
        assert_eq!((small.cast.actors.len(), small.steps.len()), (1, 1), "{small}");
    }
}
