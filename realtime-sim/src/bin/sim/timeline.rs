//! `sim timeline`: a run as a page.

use std::path::PathBuf;
use std::process::ExitCode;

use realtime_sim::Run;

use crate::failed::{play, watch};
use crate::made;
use crate::say::{say, tell};
use crate::source::Origin;

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    origin: Origin,
    /// Where the page goes; beside what cargo makes when left out.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, String> {
    let origin = &arguments.origin;
    let scenario = origin.scenario()?;
    let (page, _) = watch(|| Run::new(&scenario).timeline(&origin.name()));
    let path = arguments.output.clone().unwrap_or_else(|| made::path(&origin.file("html")));
    if let Err(error) = made::write(&path, &page) {
        tell!("error: {error}");
        return Ok(ExitCode::FAILURE);
    }
    say!("{}", path.display());
    if let (_, Some(failed)) = play(&scenario) {
        tell!("failed: {failed}");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}
