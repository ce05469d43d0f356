//! What to tell of a scenario that fails: the finding, the smallest scenario, and how to see it.

use std::path::Path;

use realtime_sim::{Scenario, run, shrink};

use crate::failed::{Failed, watch};
use crate::interrupt::Interrupt;
use crate::made::{self, quoted};
use crate::say::{say, tell};
use crate::source::Origin;

/// More tries than this make no scenario much smaller.
const TRIES_MAX: u32 = 4_000;

/// Makes a failing scenario as small as it still fails by the same rule, and tells in how many
/// tries.
pub(super) fn smallest(scenario: &Scenario, rule: &str, interrupt: &Interrupt) -> (Scenario, u32) {
    let (smallest, _) = watch(|| {
        shrink(scenario, TRIES_MAX, |smaller| {
            !interrupt.came() && run(smaller).finding.is_some_and(|finding| finding.rule == rule)
        })
    });
    smallest
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
