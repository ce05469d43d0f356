//! What to tell of a scenario that fails: the finding, the smallest scenario, and how to see it.

use std::path::{Path, PathBuf};

use realtime_sim::{Finding, Scenario, run, shrink};

use crate::interrupt::Interrupt;

/// More tries than this make no scenario much smaller.
const TRIES_MAX: u32 = 4_000;

/// Makes a failing scenario as small as it still fails by the same rule, and tells in how many
/// tries.
pub(super) fn smallest(scenario: &Scenario, rule: &str, interrupt: &Interrupt) -> (Scenario, u32) {
    shrink(scenario, TRIES_MAX, |smaller| {
        !interrupt.came() && run(smaller).finding.is_some_and(|finding| finding.rule == rule)
    })
}

/// Tells of a failure; the last line replays it.
pub(super) fn tell(name: &str, scenario: &Scenario, finding: &Finding, interrupt: &Interrupt) {
    println!("\n{name} fails: {finding}");
    let (small, tries) = smallest(scenario, finding.rule, interrupt);
    let (from, to) = (scenario.steps.len(), small.steps.len());
    println!("shrunk from {from} steps to {to} in {tries} tries:\n\n{small}\nreplay it with");
    let path = path(name);
    match std::fs::write(&path, small.to_string()) {
        Ok(()) => println!("cargo sim replay {} --trace", path.display()),
        Err(error) => println!("a file of it; {} cannot be written: {error}", path.display()),
    }
}

/// Where the scenario of a failure goes: to what cargo makes, if that is here.
fn path(name: &str) -> PathBuf {
    let file = format!("{}.scenario", name.replace([' ', '/'], "-"));
    let folder = Path::new("target/sim");
    if Path::new("target").is_dir() && std::fs::create_dir_all(folder).is_ok() {
        return folder.join(file);
    }
    file.into()
}
