//! `sim replay`: one scenario again.

use std::process::ExitCode;

use realtime_sim::{Profile, Run, run as run_scenario};

use crate::source::{Source, profile};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// A seed, or the file of a scenario.
    source: Source,
    /// What kind of scenario a seed makes.
    #[arg(long, value_parser = profile, default_value = "swarm")]
    profile: Profile,
    /// Print every change.
    #[arg(long)]
    trace: bool,
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
    println!("{scenario}");
    let report = if arguments.trace {
        Run::new(&scenario).traced(|line| println!("{line}"))
    } else {
        run_scenario(&scenario)
    };
    println!(
        "{} events in {:.1} simulated seconds, trace hash {:016x}",
        report.events,
        report.simulated.as_secs_f64(),
        report.hash,
    );
    if let Some(finding) = report.finding {
        println!("failed: {finding}");
        return ExitCode::FAILURE;
    }
    let live = report.time_to_live.unwrap_or_default();
    println!("ok: everything was live {:.3} s after the healing", live.as_secs_f64());
    ExitCode::SUCCESS
}
