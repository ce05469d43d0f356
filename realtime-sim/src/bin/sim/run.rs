//! `sim run`: the scenarios of many seeds, on all cores, until one fails.

use core::time::Duration;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use realtime_sim::{Finding, Profile, Report, Seed, run as run_scenario};

use crate::failure;
use crate::progress::Progress;
use crate::source::{SeedRange, profile};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Which seeds, the end left out.
    #[arg(long, value_name = "A..B", default_value = "0..1000")]
    seeds: SeedRange,
    /// What kind of scenarios they make: swarm, calm or storm.
    #[arg(long, value_parser = profile, default_value = "swarm")]
    profile: Profile,
    /// Stop after so long, wherever it is.
    #[arg(long, value_name = "M")]
    minutes: Option<u64>,
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
    /// The failing run with the least seed.
    failed: Option<(u64, Finding)>,
}

impl Sum {
    fn add(&mut self, seed: u64, report: Report) {
        self.seeds += 1;
        self.events += report.events;
        self.client_time += report.simulated * report.actors as u32;
        self.hash = self.hash.wrapping_add(report.hash ^ Seed(seed).child("sum", 0).0);
        self.times_to_live.extend(report.time_to_live.map(|time| (time, seed)));
        if let Some(finding) = report.finding {
            if self.failed.as_ref().is_none_or(|(first, _)| seed < *first) {
                self.failed = Some((seed, finding));
            }
        }
    }

    /// The time to live that this part of the runs did not exceed.
    fn quantile(&self, part: f64) -> (Duration, u64) {
        let last = self.times_to_live.len().saturating_sub(1);
        let at = (last as f64 * part).round() as usize;
        self.times_to_live.get(at).copied().unwrap_or_default()
    }
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let SeedRange { first, end } = arguments.seeds;
    println!("seeds {first}..{end}, profile {}", arguments.profile.word());
    // A panic is a finding; its text is told with it.
    std::panic::set_hook(Box::new(|_| {}));
    let begun = Instant::now();
    let until = arguments.minutes.map(|minutes| begun + Duration::from_secs(60 * minutes));
    let (next, over) = (AtomicU64::new(first), AtomicBool::new(false));
    let sum = Mutex::new(Sum::default());
    let work = || {
        let mut mine = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            let late = until.is_some_and(|until| Instant::now() >= until);
            if seed >= end || late || over.load(Ordering::Relaxed) {
                break;
            }
            let report = run_scenario(&arguments.profile.scenario(Seed(seed)));
            if report.finding.is_some() {
                over.store(true, Ordering::Relaxed);
            }
            mine.push((seed, report));
            if mine.len() == 64 {
                let mut sum = sum.lock().expect("no worker panics");
                mine.drain(..).for_each(|(seed, report)| sum.add(seed, report));
            }
        }
        let mut sum = sum.lock().expect("no worker panics");
        mine.drain(..).for_each(|(seed, report)| sum.add(seed, report));
    };
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let handles: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        let mut progress = Progress::new(end - first);
        while handles.iter().any(|handle| !handle.is_finished()) {
            std::thread::sleep(Duration::from_millis(50));
            let done = next.load(Ordering::Relaxed).min(end) - first;
            progress.show(done, begun.elapsed());
        }
        progress.clear();
    });
    let mut sum = sum.into_inner().expect("no worker panics");
    sum.times_to_live.sort_unstable();
    print(&sum, begun.elapsed());
    match sum.failed {
        None => ExitCode::SUCCESS,
        Some((seed, finding)) => {
            failure::tell(
                &format!("seed {seed}"),
                &arguments.profile.scenario(Seed(seed)),
                &finding,
            );
            ExitCode::FAILURE
        }
    }
}

fn print(sum: &Sum, took: Duration) {
    let secs = took.as_secs_f64();
    println!("seeds run        {:>14}", sum.seeds);
    println!("events           {:>14}  {:.0} a second", sum.events, sum.events as f64 / secs);
    println!("client-hours     {:>14.1}", sum.client_time.as_secs_f64() / 3_600.0);
    println!("took             {secs:>13.1}s");
    // The same on every platform, in debug and in release builds.
    println!("trace hash     {:016x}", sum.hash);
    for (name, part) in [("p50", 0.5), ("p99", 0.99), ("max", 1.0)] {
        let (time, seed) = sum.quantile(part);
        println!("time to live {name} {:>13.3}s  (seed {seed})", time.as_secs_f64());
    }
}
