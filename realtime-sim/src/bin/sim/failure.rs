//! What to tell of a scenario that fails: the finding, the smallest scenario, and how to see it.

use std::path::{Path, PathBuf};

use realtime_sim::{Finding, Scenario, run, shrink};

/// More runs than this make no scenario much smaller.
const RUNS_MAX: u32 = 4_000;

/// Makes a failing scenario as small as it still fails by the same rule.
pub(super) fn smallest(scenario: &Scenario, rule: &str) -> (Scenario, u32) {
    shrink(scenario, RUNS_MAX, |smaller| {
        run(smaller).finding.is_some_and(|finding| finding.rule == rule)
    })
}

/// Tells of a failure; the last line replays it.
pub(super) fn tell(name: &str, scenario: &Scenario, finding: &Finding) {
    println!("\n{name} failed\n  {finding}");
    let (small, runs) = smallest(scenario, finding.rule);
    println!(
        "shrunk from {} steps to {} in {runs} runs:\n\n{small}",
        scenario.steps.len(),
        small.steps.len(),
    );
    let path = path(name);
    match std::fs::write(&path, small.to_string()) {
        Ok(()) => println!("replay: cargo sim replay {} --trace", path.display()),
        Err(error) => println!("{} cannot be written: {error}", path.display()),
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
