//! `sim shrink`: a failing scenario, as small as it still fails.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::failed::play;
use crate::failure;
use crate::interrupt::Interrupt;
use crate::made;
use crate::say::{say, tell};
use crate::source::Origin;

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    origin: Origin,
    /// Where to write it; to the terminal, and beside what cargo makes, when left out.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Whatever becomes of it, the scenario fails, and so does the command.
pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, String> {
    let origin = &arguments.origin;
    let scenario = origin.scenario()?;
    let (_, Some(failed)) = play(&scenario) else {
        return Err(format!("{} does not fail, so there is nothing to shrink", origin.name()));
    };
    // Ctrl-C hands out what it has so far; where it cannot be heard, it ends the command.
    let interrupt = Interrupt::listen().unwrap_or_default();
    let (small, tries) = failure::smallest(&scenario, failed.rule, &interrupt);
    let (from, to) = (scenario.steps.len(), small.steps.len());
    tell!("{failed}\nshrunk from {from} steps to {to} in {tries} tries");
    let path = arguments.output.clone().unwrap_or_else(|| {
        // The scenario alone, so that it can be sent somewhere.
        say!("{}", small.to_string().trim_end());
        made::path(&origin.file("small.scenario"))
    });
    tell!("replay it with\n{}", failure::keep(&path, &small, origin));
    Ok(ExitCode::FAILURE)
}
