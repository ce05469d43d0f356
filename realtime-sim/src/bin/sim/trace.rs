//! `sim trace`: every change of a run, a line each.

use std::process::ExitCode;

use realtime_sim::{Profile, Run};

use crate::source::{Source, profile};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// A seed, or the file of a scenario.
    source: Source,
    /// What kind of scenario a seed makes.
    #[arg(long, value_parser = profile, default_value = "swarm")]
    profile: Profile,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
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
    let (report, records) = Run::new(&scenario).recorded();
    for record in &records {
        if arguments.json {
            println!("{}", record.to_json());
        } else {
            println!("{record}");
        }
    }
    if let Some(finding) = report.finding {
        eprintln!("failed: {finding}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
