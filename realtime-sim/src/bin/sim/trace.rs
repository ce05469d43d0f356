//! `sim trace`: every change of a run, a line each.

use std::process::ExitCode;

use realtime_sim::{Scenario, Seed, run_traced};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The seed.
    seed: Seed,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let scenario = Scenario::of_seed(arguments.seed);
    println!("{scenario}");
    let report = run_traced(&scenario, |line| println!("{line}"));
    println!("{report:?}");
    ExitCode::SUCCESS
}
