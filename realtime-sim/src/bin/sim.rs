//! Runs seeds.
#![allow(clippy::print_stdout, reason = "a command prints")]

use std::process::ExitCode;

use realtime_sim::{Scenario, Seed, run, run_traced};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args[0] == "trace" {
        let seed: u64 = args[1].parse().expect("a seed");
        let scenario = Scenario::of_seed(Seed(seed));
        println!("{scenario}");
        let report = run_traced(&scenario, |line| println!("{line}"));
        println!("{report:?}");
        return ExitCode::SUCCESS;
    }
    let (from, to): (u64, u64) = (args[1].parse().expect("a"), args[2].parse().expect("b"));
    std::panic::set_hook(Box::new(|_| {}));
    let (mut steps, mut failed) = (0, 0);
    for seed in from..to {
        let report = run(&Scenario::of_seed(Seed(seed)));
        steps += report.steps;
        if let Some(finding) = report.finding {
            failed += 1;
            println!("{seed}: {finding}");
        }
    }
    println!("{} seeds, {steps} steps, {failed} failed", to - from);
    ExitCode::SUCCESS
}
