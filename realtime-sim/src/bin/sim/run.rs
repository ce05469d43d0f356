//! `sim run`: the scenarios of many seeds, on all cores, until one fails.

use core::time::Duration;
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Instant;

use realtime_sim::{Profile, Report, Seed};

use crate::failed::Failed;
use crate::failure;
use crate::interrupt::{self, Interrupt};
use crate::pool::Pool;
use crate::say::say;
use crate::source::{Origin, SeedRange, profile};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Which seeds, the end left out; the first thousand, or with --minutes as many as there is
    /// time for.
    #[arg(long, value_name = "A..B", allow_hyphen_values = true)]
    seeds: Option<SeedRange>,
    /// What kind of scenarios they make.
    #[arg(long, value_parser = profile(), default_value = "swarm")]
    profile: Profile,
    /// Stop after so long, wherever it is; parts of minutes count, too.
    #[arg(long, value_name = "M", value_parser = minutes, allow_hyphen_values = true)]
    minutes: Option<Duration>,
    /// Go on when a seed fails, and list all that do.
    #[arg(long)]
    keep_going: bool,
}

/// Reads a number of minutes.
fn minutes(word: &str) -> Result<Duration, String> {
    let number = word.parse::<f64>().ok();
    let span = number.and_then(|minutes| Duration::try_from_secs_f64(60.0 * minutes).ok());
    span.filter(|span| *span > Duration::ZERO).ok_or_else(|| {
        "that is no time to play in; write a number above 0 that a clock can count, as 0.5 or 90"
            .into()
    })
}

impl Arguments {
    fn seeds(&self) -> SeedRange {
        let usual = if self.minutes.is_some() { u64::MAX } else { 1_000 };
        self.seeds.unwrap_or(SeedRange { first: 0, count: usual })
    }
}

/// What all runs found together.
#[derive(Default)]
struct Sum {
    seeds: u64,
    events: u64,
    client_time: Duration,
    /// Whatever the order in which the runs ended.
    hash: u64,
    times_to_live: Vec<(Duration, u64)>,
    /// Every failing run by its seed.
    failed: BTreeMap<u64, Failed>,
}

impl Sum {
    fn add(&mut self, seed: u64, report: &Report, failed: Option<Failed>) {
        self.seeds += 1;
        self.events += report.events;
        self.client_time += report.simulated * report.actors as u32;
        self.hash = self.hash.wrapping_add(report.hash ^ Seed(seed).child("sum", 0).0);
        self.times_to_live.extend(report.time_to_live.map(|time| (time, seed)));
        self.failed.extend(failed.map(|failed| (seed, failed)));
    }

    /// The time to live that this part of the runs did not exceed.
    fn quantile(&self, part: f64) -> (Duration, u64) {
        let last = self.times_to_live.len().saturating_sub(1);
        let at = (last as f64 * part).round() as usize;
        self.times_to_live.get(at).copied().unwrap_or_default()
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, String> {
    let Arguments { profile, minutes, keep_going, .. } = *arguments;
    // Where Ctrl-C cannot be heard, it ends the command.
    let interrupt = Interrupt::listen().unwrap_or_default();
    let pool = Pool {
        seeds: arguments.seeds(),
        profile,
        span: minutes,
        keep_going,
        interrupt: interrupt.clone(),
    };
    let begun = Instant::now();
    let mut sum = Sum::default();
    pool.play(|seed, report, failed| sum.add(seed, &report, failed));
    if sum.seeds == 0 && !interrupt.came() {
        return Err("no seed was played in so short a time; give it more --minutes".into());
    }
    sum.times_to_live.sort_unstable();
    print(&sum, profile, begun.elapsed());
    if keep_going {
        sum.failed.iter().for_each(|(seed, failed)| say!("seed {seed} fails: {failed}"));
    }
    if let Some((seed, failed)) = sum.failed.first_key_value() {
        let origin = Origin::of_seed(Seed(*seed), profile);
        failure::report(&origin, &profile.scenario(Seed(*seed)), failed, &interrupt);
        return Ok(ExitCode::FAILURE);
    }
    if interrupt.came() {
        say!("interrupted");
        return Ok(ExitCode::from(interrupt::EXIT_CODE));
    }
    Ok(ExitCode::SUCCESS)
}

fn print(sum: &Sum, profile: Profile, took: Duration) {
    let secs = took.as_secs_f64();
    say!("seeds run        {:>14}  profile {}", sum.seeds, profile.word());
    say!("events           {:>14}  {:.0} a second", sum.events, sum.events as f64 / secs);
    say!("client-hours     {:>14.1}", sum.client_time.as_secs_f64() / 3_600.0);
    say!("took             {secs:>13.1}s");
    // The same on every platform, in debug and in release builds.
    say!("trace hash     {:016x}", sum.hash);
    for (name, part) in [("p50", 0.5), ("p99", 0.99), ("max", 1.0)] {
        let (time, seed) = sum.quantile(part);
        say!("time to live {name} {:>13.3}s  (seed {seed})", time.as_secs_f64());
    }
}
