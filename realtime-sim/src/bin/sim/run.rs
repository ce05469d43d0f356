//! `sim run`: the scenarios of many seeds, on all cores, until one fails.

use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Instant;

use realtime_sim::{Finding, Profile, Report, Seed, run as run_scenario};

use crate::failure;
use crate::interrupt::{self, Interrupt};
use crate::progress::Progress;
use crate::source::{SeedRange, profile};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Which seeds, the end left out; the first thousand, or with --minutes as many as there is
    /// time for.
    #[arg(long, value_name = "A..B")]
    seeds: Option<SeedRange>,
    /// What kind of scenarios they make: swarm, calm or storm.
    #[arg(long, value_parser = profile, default_value = "swarm")]
    profile: Profile,
    /// Stop after so long, wherever it is.
    #[arg(long, value_name = "M")]
    minutes: Option<u64>,
    /// Go on when a seed fails, and list all that do.
    #[arg(long)]
    keep_going: bool,
}

impl Arguments {
    fn seeds(&self) -> Range<u64> {
        let usual = if self.minutes.is_some() { u64::MAX } else { 1_000 };
        self.seeds.map_or(0..usual, |seeds| seeds.first..seeds.end)
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
    failed: BTreeMap<u64, Finding>,
}

impl Sum {
    fn add(&mut self, seed: u64, report: Report) {
        self.seeds += 1;
        self.events += report.events;
        self.client_time += report.simulated * report.actors as u32;
        self.hash = self.hash.wrapping_add(report.hash ^ Seed(seed).child("sum", 0).0);
        self.times_to_live.extend(report.time_to_live.map(|time| (time, seed)));
        self.failed.extend(report.finding.map(|finding| (seed, finding)));
    }

    /// The time to live that this part of the runs did not exceed.
    fn quantile(&self, part: f64) -> (Duration, u64) {
        let last = self.times_to_live.len().saturating_sub(1);
        let at = (last as f64 * part).round() as usize;
        self.times_to_live.get(at).copied().unwrap_or_default()
    }
}

/// What the workers of a run share.
struct Work {
    profile: Profile,
    until: Option<Instant>,
    interrupt: Interrupt,
    next: AtomicU64,
    /// Seeds from here on are not run: one before them failed. Those before it are, so that the
    /// first that fails is the same however many workers there are.
    end: AtomicU64,
    keep_going: bool,
    sum: Mutex<Sum>,
}

impl Work {
    fn work(&self) {
        let mut mine = Vec::new();
        loop {
            let seed = self.next.fetch_add(1, Ordering::Relaxed);
            let late = self.until.is_some_and(|until| Instant::now() >= until);
            if seed >= self.end.load(Ordering::Relaxed) || late || self.interrupt.came() {
                break;
            }
            let report = run_scenario(&self.profile.scenario(Seed(seed)));
            if report.finding.is_some() && !self.keep_going {
                self.end.fetch_min(seed, Ordering::Relaxed);
            }
            mine.push((seed, report));
            if mine.len() == 64 {
                self.hand_in(&mut mine);
            }
        }
        self.hand_in(&mut mine);
    }

    fn hand_in(&self, reports: &mut Vec<(u64, Report)>) {
        let mut sum = self.sum.lock().expect("no worker panics");
        reports.drain(..).for_each(|(seed, report)| sum.add(seed, report));
    }
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let seeds = arguments.seeds();
    // A panic is a finding; its text is told with it.
    std::panic::set_hook(Box::new(|_| {}));
    let begun = Instant::now();
    let span = arguments.minutes.map(|minutes| Duration::from_secs(60 * minutes));
    let work = Work {
        profile: arguments.profile,
        until: span.map(|span| begun + span),
        interrupt: Interrupt::listen().unwrap_or_default(),
        next: AtomicU64::new(seeds.start),
        end: AtomicU64::new(seeds.end),
        keep_going: arguments.keep_going,
        sum: Mutex::default(),
    };
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let handles: Vec<_> = (0..workers).map(|_| scope.spawn(|| work.work())).collect();
        let mut progress = Progress::new(seeds.end - seeds.start, span);
        while handles.iter().any(|handle| !handle.is_finished()) {
            std::thread::sleep(Duration::from_millis(50));
            let next = work.next.load(Ordering::Relaxed).min(seeds.end);
            progress.show(next - seeds.start, begun.elapsed());
        }
        progress.clear();
    });
    let Work { interrupt, sum, .. } = work;
    let mut sum = sum.into_inner().expect("no worker panics");
    sum.times_to_live.sort_unstable();
    print(&sum, arguments.profile, begun.elapsed());
    if arguments.keep_going {
        sum.failed.iter().for_each(|(seed, finding)| println!("seed {seed} fails: {finding}"));
    }
    if let Some((seed, finding)) = sum.failed.first_key_value() {
        let scenario = arguments.profile.scenario(Seed(*seed));
        failure::tell(&format!("seed {seed}"), &scenario, finding, &interrupt);
        return ExitCode::FAILURE;
    }
    if interrupt.came() {
        println!("interrupted");
        return ExitCode::from(interrupt::EXIT_CODE);
    }
    ExitCode::SUCCESS
}

fn print(sum: &Sum, profile: Profile, took: Duration) {
    let secs = took.as_secs_f64();
    println!("seeds run        {:>14}  profile {}", sum.seeds, profile.word());
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
