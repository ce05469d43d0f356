//! The `sim` command: worlds from seeds and from files.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a command is a program")]

mod coverage;
mod explore;
mod failed;
mod failure;
mod interrupt;
mod made;
mod pool;
mod progress;
mod replay;
mod run;
mod say;
mod shrink;
mod source;
mod speed;
mod timeline;
mod trace;
mod zoo;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Worlds of Realtime clients, links and servers on virtual time, broken in every way.
#[derive(Parser)]
#[command(name = "cargo sim", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the scenarios of many seeds, until one fails.
    Run(run::Arguments),
    /// Run one scenario again: that of a seed, or a file.
    Replay(replay::Arguments),
    /// Make the scenario of a failing seed as small as it still fails.
    Shrink(shrink::Arguments),
    /// Count what the scenarios of many seeds reach; fail if something does not hold or was never
    /// reached.
    Coverage(coverage::Arguments),
    /// Draw a run as a page: lanes, frames as arrows, states as colours, faults.
    Timeline(timeline::Arguments),
    /// Print every change of a run.
    Trace(trace::Arguments),
    /// Try every order of events in a small world.
    Explore(explore::Arguments),
    /// Let the simulator find bugs that real clients had.
    Zoo(zoo::Arguments),
    /// Measure how fast worlds run.
    Speed(speed::Arguments),
}

fn main() -> ExitCode {
    failed::listen();
    let ended = match Arguments::parse().command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Replay(arguments) => replay::run(&arguments),
        Command::Shrink(arguments) => shrink::run(&arguments),
        Command::Coverage(arguments) => Ok(coverage::run(&arguments)),
        Command::Timeline(arguments) => timeline::run(&arguments),
        Command::Trace(arguments) => trace::run(&arguments),
        Command::Explore(arguments) => explore::run(&arguments),
        Command::Zoo(arguments) => zoo::run(&arguments),
        Command::Speed(arguments) => Ok(speed::run(&arguments)),
    };
    ended.unwrap_or_else(|mistake| {
        say::tell!("error: {mistake}");
        ExitCode::from(2)
    })
}
