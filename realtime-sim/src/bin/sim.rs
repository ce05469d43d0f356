//! `sim run`: the profile of random faults, on as many seeds as asked for.
#![allow(clippy::print_stdout, reason = "a command prints")]

use core::panic::AssertUnwindSafe;
use core::time::Duration;
use std::io::Write as _;
use std::panic::catch_unwind;
use std::process::ExitCode;

use realtime_sim::{Seed, profile};

const USAGE: &str = "usage: sim run [--seeds FIRST..END] [--trace]

Runs the profile of random faults on the seeds from FIRST up to, not including, END (0..100 by
default; decimal, or hexadecimal behind 0x). --trace prints every change of every run.";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match read(&arguments) {
        Ok((first, end, trace)) => run(first, end, trace),
        Err(mistake) => {
            eprintln!("{mistake}\n\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn read(arguments: &[String]) -> Result<(u64, u64, bool), String> {
    let (mut first, mut end, mut trace) = (0, 100, false);
    let mut arguments = arguments.iter().map(String::as_str);
    match arguments.next() {
        Some("run") => {}
        Some(other) => return Err(format!("`{other}` is no command")),
        None => return Err("a command is missing".into()),
    }
    while let Some(argument) = arguments.next() {
        match argument {
            "--trace" => trace = true,
            "--seeds" => {
                let range = arguments.next().ok_or("--seeds needs a range, as in 0..100")?;
                let ends = range.split_once("..");
                let (from, to) =
                    ends.ok_or_else(|| format!("`{range}` is no range; write 0..100"))?;
                let seed = |text: &str| -> Result<u64, String> {
                    Ok(text.parse::<Seed>().map_err(|error| error.to_string())?.0)
                };
                (first, end) = (seed(from)?, seed(to)?);
                if first >= end {
                    return Err(format!("`{range}` has no seed in it"));
                }
            }
            other => return Err(format!("`{other}` is no option")),
        }
    }
    Ok((first, end, trace))
}

fn run(first: u64, end: u64, trace: bool) -> ExitCode {
    println!("seeds {first}..{end}, profile: random faults");
    let (mut steps, mut simulated, mut hash) = (0, Duration::ZERO, 0_u64);
    let mut slowest = (Duration::ZERO, first);
    for seed in first..end {
        let sink: Option<fn(&str)> = if trace { Some(print) } else { None };
        let Ok(report) = catch_unwind(AssertUnwindSafe(|| profile::run(seed, sink))) else {
            println!("seed {seed} failed");
            println!("replay: cargo sim run --seeds {seed}..{} --trace", seed.saturating_add(1));
            return ExitCode::FAILURE;
        };
        steps += report.steps;
        simulated += report.simulated;
        hash = hash.rotate_left(1) ^ report.hash;
        slowest = slowest.max((report.time_to_live, seed));
    }
    println!("seeds run         {:>12}", end - first);
    println!("events            {steps:>12}");
    // The same on every platform, in debug and release builds.
    println!("trace hash    {hash:016x}");
    println!("simulated hours   {:>12.1}", simulated.as_secs_f64() / 3_600.0);
    println!(
        "max time to live  {:>11.3}s  (seed {}; at most {:?} is allowed)",
        slowest.0.as_secs_f64(),
        slowest.1,
        profile::live_within(),
    );
    ExitCode::SUCCESS
}

/// A closed pipe, as `head` leaves, is no reason to panic in the middle of a run.
fn print(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
