//! `sim trace`: every change of a run, a line each.

use std::process::ExitCode;

use realtime_sim::Run;

use crate::failed::{Failed, legend, watch};
use crate::say::{say, tell};
use crate::source::Origin;

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    origin: Origin,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, String> {
    let scenario = arguments.origin.scenario()?;
    let ((report, records), panic) = watch(|| Run::new(&scenario).recorded());
    if !arguments.json {
        legend(&scenario.cast).iter().for_each(|line| say!("{line}"));
    }
    for record in &records {
        if arguments.json {
            say!("{}", record.to_json());
        } else {
            say!("{record}");
        }
    }
    if let Some(finding) = &report.finding {
        tell!("failed: {}", Failed::of(finding, &scenario.cast, panic.as_ref()));
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}
