//! `sim shrink`: a failing scenario, as small as it still fails.

use std::path::PathBuf;
use std::process::ExitCode;

use realtime_sim::{Profile, run as run_scenario};

use crate::failure;
use crate::interrupt::Interrupt;
use crate::source::{Source, profile};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// A seed, or the file of a scenario.
    source: Source,
    /// What kind of scenario a seed makes.
    #[arg(long, value_parser = profile, default_value = "swarm")]
    profile: Profile,
    /// Where to write it; to the terminal when left out.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let scenario = match arguments.source.scenario(arguments.profile) {
        Ok(scenario) => scenario,
        Err(mistake) => {
            eprintln!("error: {mistake}");
            return ExitCode::from(2);
        }
    };
    std::panic::set_hook(Box::new(|_| {}));
    let Some(finding) = run_scenario(&scenario).finding else {
        eprintln!(
            "error: {} does not fail, so there is nothing to shrink",
            arguments.source.name()
        );
        return ExitCode::from(2);
    };
    // Ctrl-C hands out what it has so far; where it cannot be heard, it ends the command.
    let interrupt = Interrupt::listen().unwrap_or_default();
    let (small, tries) = failure::smallest(&scenario, finding.rule, &interrupt);
    eprintln!(
        "{finding}\nshrunk from {} steps to {} in {tries} tries",
        scenario.steps.len(),
        small.steps.len(),
    );
    match &arguments.output {
        None => print!("{small}"),
        Some(path) => {
            if let Err(error) = std::fs::write(path, small.to_string()) {
                eprintln!("error: {} cannot be written: {error}", path.display());
                return ExitCode::from(2);
            }
        }
    }
    ExitCode::SUCCESS
}
