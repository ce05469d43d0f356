//! `sim replay`: one scenario again.

use std::process::ExitCode;

use realtime_sim::{Run, run as run_scenario};

use crate::failed::{Failed, legend, watch};
use crate::say::say;
use crate::source::Origin;

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    origin: Origin,
    /// Print every change.
    #[arg(long)]
    trace: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, String> {
    let scenario = arguments.origin.scenario()?;
    say!("{scenario}");
    let (report, panic) = if arguments.trace {
        legend(&scenario.cast).iter().for_each(|line| say!("{line}"));
        watch(|| Run::new(&scenario).traced(|line| say!("{line}")))
    } else {
        watch(|| run_scenario(&scenario))
    };
    say!(
        "{} events in {:.1} simulated seconds, trace hash {:016x}",
        report.events,
        report.simulated.as_secs_f64(),
        report.hash,
    );
    if let Some(finding) = &report.finding {
        say!("failed: {}", Failed::of(finding, &scenario.cast, panic.as_ref()));
        return Ok(ExitCode::FAILURE);
    }
    let live = report.time_to_live.unwrap_or_default();
    say!("ok: everything was live {:.3} s after the healing", live.as_secs_f64());
    Ok(ExitCode::SUCCESS)
}
