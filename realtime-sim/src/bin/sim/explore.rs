//! `sim explore`: every order of events in a small world.

use std::process::ExitCode;
use std::time::Instant;

use realtime_sim::{Beginning, Exploration, Explored, PathError};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// How many steps a sequence has at most.
    #[arg(long, default_value_t = 4)]
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

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let chosen = Beginning::ALL.into_iter().filter(|it| arguments.begin.is_none_or(|b| b == *it));
    std::panic::set_hook(Box::new(|_| {}));
    for begin in chosen {
        let exploration = match exploration(arguments, begin) {
            Ok(exploration) => exploration,
            Err(mistake) => {
                eprintln!("error: {mistake}");
                return ExitCode::from(2);
            }
        };
        if let Some(path) = &arguments.path {
            return replay(&exploration, path);
        }
        let started = Instant::now();
        let explored = exploration.run(|so_far| report(begin, so_far, started));
        if let Some(failure) = explored.failure {
            println!("failed: {}", failure.finding);
            let choices =
                arguments.choices.as_ref().map(|choices| format!(" --choices '{choices}'"));
            println!(
                "cargo sim explore --begin {}{} --path '{}'",
                begin.word(),
                choices.unwrap_or_default(),
                failure.path
            );
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
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
    println!(
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

fn replay(exploration: &Exploration, path: &str) -> ExitCode {
    match exploration.replay(path, |line| println!("{line}")) {
        Ok(None) => {
            println!("ok");
            ExitCode::SUCCESS
        }
        Ok(Some(finding)) => {
            println!("failed: {finding}");
            ExitCode::FAILURE
        }
        Err(mistake) => {
            eprintln!("error: {mistake}");
            ExitCode::from(2)
        }
    }
}
