//! `sim coverage`: what the scenarios of many seeds reach.

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Instant;

use realtime_sim::{Coverage, Need, Profile, Seed, Table, run as run_scenario};

use crate::progress::Progress;
use crate::source::{SeedRange, profile};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Which seeds, the end left out.
    #[arg(long, value_name = "A..B", default_value = "0..20000")]
    seeds: SeedRange,
    /// What kind of scenarios they make: swarm, calm or storm.
    #[arg(long, value_parser = profile, default_value = "swarm")]
    profile: Profile,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    // A panic is a finding, and is counted as one.
    std::panic::set_hook(Box::new(|_| {}));
    let coverage = cover(arguments);
    let tables = coverage.tables();
    for table in &tables {
        print(table);
    }
    let mut is_well = true;
    for table in &tables {
        for (words, _) in table.pick(|cell| cell.is_missing()) {
            println!("NEVER REACHED  {}: {words}", table.name);
            is_well = false;
        }
    }
    for table in &tables {
        for (words, cell) in table.pick(|cell| cell.is_surprise()) {
            let Need::Impossible(why) = cell.need else { continue };
            println!("REACHED {} TIMES  {}: {words}, though {why}", cell.count, table.name);
            is_well = false;
        }
    }
    let (reached, required) = coverage.reached();
    println!("reached {reached} of {required} that seeds must reach");
    if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs all seeds on all cores.
fn cover(arguments: &Arguments) -> Coverage {
    let SeedRange { first, end } = arguments.seeds;
    let begun = Instant::now();
    let next = AtomicU64::new(first);
    let sum = Mutex::new(Coverage::default());
    let work = || {
        let mut mine = Coverage::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end {
                break;
            }
            mine.merge(&run_scenario(&arguments.profile.scenario(Seed(seed))).coverage);
        }
        sum.lock().expect("no worker panics").merge(&mine);
    };
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let handles: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        let mut progress = Progress::new(end - first, None);
        while handles.iter().any(|handle| !handle.is_finished()) {
            std::thread::sleep(Duration::from_millis(50));
            progress.show(next.load(Ordering::Relaxed).min(end) - first, begun.elapsed());
        }
        progress.clear();
    });
    sum.into_inner().expect("no worker panics")
}

/// Prints a table: a list in columns of words and counts, or a matrix.
fn print(table: &Table) {
    println!("{}", table.name);
    let cells = |row: usize| {
        let width = table.columns.len();
        table.cells[row * width..(row + 1) * width].iter().map(|cell| match cell.need {
            _ if cell.count > 0 => short(cell.count),
            Need::Required => "NEVER".to_owned(),
            Need::Rare(_) => "0".to_owned(),
            Need::Impossible(_) => "·".to_owned(),
        })
    };
    let first = table.rows.iter().map(|row| row.chars().count()).max().unwrap_or_default();
    if table.columns.len() > 1 {
        print!("  {:first$}", "");
        for column in &table.columns {
            print!("  {column:>width$}", width = width(column));
        }
        println!();
    }
    for (at, row) in table.rows.iter().enumerate() {
        print!("  {row:first$}");
        for (column, cell) in table.columns.iter().zip(cells(at)) {
            print!("  {cell:>width$}", width = width(column));
        }
        println!();
    }
    println!();
}

/// As wide as the word of the column, and as the widest count.
fn width(column: &str) -> usize {
    column.chars().count().max(6)
}

/// A count in at most six characters: `98765`, `1234k`, `12.3M`.
fn short(count: u64) -> String {
    match count {
        0..100_000 => count.to_string(),
        100_000..10_000_000 => format!("{}k", count / 1_000),
        _ => format!("{:.1}M", count as f64 / 1e6),
    }
}
