//! `sim explore`: every order of events in a small world.

use std::process::ExitCode;
use std::time::Instant;

use realtime_sim::{Beginning, Exploration, Explored, PathError};

use crate::failed::{Failed, legend, watch};
use crate::say::say;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// How many steps a sequence has at most.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    depth: u32,
    /// How many faults a sequence has at most.
    #[arg(long, default_value_t = 2)]
    faults: u32,
    /// Where the world begins: offline, opening or live; everywhere when left out.
    #[arg(long, value_parser = beginning)]
    begin: Option<Beginning>,
    /// What may happen, commas between: `cut ana, ana send room`; everything usual when left out.
    #[arg(long)]
    choices: Option<String>,
    /// Take the steps of one path instead, and print every change.
    #[arg(long, requires = "begin")]
    path: Option<String>,
}

fn beginning(word: &str) -> Result<Beginning, String> {
    let found = Beginning::ALL.into_iter().find(|beginning| beginning.word() == word);
    found
        .ok_or_else(|| format!("a world begins {}", Beginning::ALL.map(Beginning::word).join(", ")))
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, String> {
    let chosen = Beginning::ALL.into_iter().filter(|it| arguments.begin.is_none_or(|b| b == *it));
    for begin in chosen {
        let exploration =
            exploration(arguments, begin).map_err(|mistake: PathError| mistake.to_string())?;
        if let Some(path) = &arguments.path {
            return replay(&exploration, path).map_err(|mistake| mistake.to_string());
        }
        let started = Instant::now();
        let (explored, panic) = watch(|| exploration.run(|so_far| report(begin, so_far, started)));
        if let Some(failure) = explored.failure {
            let cast = &exploration.begin.cast;
            say!("failed: {}", Failed::of(&failure.finding, cast, panic.as_ref()));
            let choices =
                arguments.choices.as_ref().map(|choices| format!(" --choices '{choices}'"));
            say!(
                "cargo sim explore --begin {}{} --path '{}'",
                begin.word(),
                choices.unwrap_or_default(),
                failure.path
            );
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn exploration(arguments: &Arguments, begin: Beginning) -> Result<Exploration, PathError> {
    let mut exploration = Exploration::small(begin).with_depth(arguments.depth);
    // A path says itself how many there are.
    let faults_max = if arguments.path.is_some() { u32::MAX } else { arguments.faults };
    exploration = exploration.with_faults_max(faults_max);
    match &arguments.choices {
        Some(choices) => exploration.with_choices(choices),
        None => Ok(exploration),
    }
}

fn report(begin: Beginning, explored: &Explored, started: Instant) {
    say!(
        "{:<8} depth {}: {} states, {} steps tried, {} merged, {} events, {:.1} s",
        begin.word(),
        explored.depth,
        explored.states,
        explored.tried,
        explored.merged,
        explored.events,
        started.elapsed().as_secs_f64()
    );
}

fn replay(exploration: &Exploration, path: &str) -> Result<ExitCode, PathError> {
    let cast = &exploration.begin.cast;
    // In silence first: a path that does not exist has no trace.
    watch(|| exploration.replay(path, |_| {})).0?;
    legend(cast).iter().for_each(|line| say!("{line}"));
    let (finding, panic) = watch(|| exploration.replay(path, |line| say!("{line}")));
    if let Some(finding) = finding? {
        say!("failed: {}", Failed::of(&finding, cast, panic.as_ref()));
        return Ok(ExitCode::FAILURE);
    }
    say!("ok");
    Ok(ExitCode::SUCCESS)
}
