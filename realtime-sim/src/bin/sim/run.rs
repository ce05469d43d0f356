//! `sim run`: the scenarios of many seeds.

use std::process::ExitCode;

use realtime_sim::{Scenario, Seed, run as run_scenario};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The first seed.
    from: u64,
    /// The first that is not run.
    to: u64,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    std::panic::set_hook(Box::new(|_| {}));
    let (mut steps, mut failed) = (0, 0);
    for seed in arguments.from..arguments.to {
        let report = run_scenario(&Scenario::of_seed(Seed(seed)));
        steps += report.steps;
        if let Some(finding) = report.finding {
            failed += 1;
            println!("{seed}: {finding}");
        }
    }
    println!("{} seeds, {steps} steps, {failed} failed", arguments.to - arguments.from);
    ExitCode::SUCCESS
}
