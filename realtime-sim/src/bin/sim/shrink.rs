//! `sim shrink`.

use std::process::ExitCode;

/// Nothing yet.
#[derive(clap::Args)]
pub(super) struct Arguments {}

pub(super) fn run(_: &Arguments) -> ExitCode {
    ExitCode::FAILURE
}
