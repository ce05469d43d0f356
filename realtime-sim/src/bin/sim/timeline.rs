//! `sim timeline`: a run as a page.

use std::path::PathBuf;
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
    /// Where the page goes.
    #[arg(short, long, value_name = "FILE", default_value = "timeline.html")]
    output: PathBuf,
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
    let page = Run::new(&scenario).timeline(&arguments.source.name());
    let path = arguments.output.display();
    match std::fs::write(&arguments.output, page) {
        Ok(()) => {
            println!("{path}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {path} cannot be written: {error}");
            ExitCode::from(2)
        }
    }
}
