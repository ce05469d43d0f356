//! `sim coverage`: what the scenarios of many seeds reach.

use std::process::ExitCode;

use realtime_sim::{Coverage, Need, Profile, Report, Scenario, Seed, Table};

use crate::failed::{Failed, play};
use crate::failure;
use crate::interrupt::{self, Interrupt};
use crate::pool::Pool;
use crate::say::say;
use crate::source::{Origin, SeedRange, profile};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Which seeds, the end left out.
    #[arg(long, value_name = "A..B", default_value = "0..20000", allow_hyphen_values = true)]
    seeds: SeedRange,
    /// What kind of scenarios they make.
    #[arg(long, value_parser = profile(), default_value = "swarm")]
    profile: Profile,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let Arguments { seeds, profile } = *arguments;
    // Where Ctrl-C cannot be heard, it ends the command.
    let interrupt = Interrupt::listen().unwrap_or_default();
    let pool = Pool { seeds, profile, span: None, keep_going: false, interrupt: interrupt.clone() };
    let Covered { coverage, played, first } = cover(&pool, play);
    // What a run reached that does not hold to its end says nothing.
    if let Some((seed, failed)) = first {
        let origin = Origin::of_seed(Seed(seed), profile);
        failure::report(&origin, &profile.scenario(Seed(seed)), &failed, &interrupt);
        return ExitCode::FAILURE;
    }
    let tables = coverage.tables();
    tables.iter().for_each(print);
    if interrupt.came() {
        say!("interrupted after {played} of {} seeds", seeds.count);
        return ExitCode::from(interrupt::EXIT_CODE);
    }
    let mut is_well = true;
    for table in &tables {
        for (words, _) in table.pick(|cell| cell.is_missing()) {
            say!("NEVER REACHED  {}: {words}", table.name);
            is_well = false;
        }
    }
    for table in &tables {
        for (words, cell) in table.pick(|cell| cell.is_surprise()) {
            let Need::Impossible(why) = cell.need else { continue };
            say!("REACHED {} TIMES  {}: {words}, though {why}", cell.count, table.name);
            is_well = false;
        }
    }
    let (reached, required) = coverage.reached();
    say!("reached {reached} of {required} that seeds must reach");
    if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What the scenarios of many seeds reached together.
#[derive(Default)]
struct Covered {
    coverage: Coverage,
    played: u64,
    /// The first seed that failed, if one did.
    first: Option<(u64, Failed)>,
}

fn cover(pool: &Pool, play: impl Fn(&Scenario) -> (Report, Option<Failed>) + Sync) -> Covered {
    let mut covered = Covered::default();
    pool.play_with(play, |seed, report, failed| {
        covered.coverage.merge(&report.coverage);
        covered.played += 1;
        let is_first = covered.first.as_ref().is_none_or(|(first, _)| seed < *first);
        if let Some(failed) = failed.filter(|_| is_first) {
            covered.first = Some((seed, failed));
        }
    });
    covered
}

/// Prints a table: a list in columns of words and counts, or a matrix.
fn print(table: &Table) {
    say!("{}", table.name);
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
    let line = |row: &str, cells: &mut dyn Iterator<Item = String>| {
        let columns = table.columns.iter().zip(cells);
        let columns =
            columns.map(|(column, cell)| format!("  {cell:>width$}", width = width(column)));
        say!("  {row:first$}{}", columns.collect::<String>());
    };
    if table.columns.len() > 1 {
        line("", &mut table.columns.iter().cloned());
    }
    for (at, row) in table.rows.iter().enumerate() {
        line(row, &mut cells(at));
    }
    say!("");
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

#[cfg(test)]
mod tests {
    use realtime_sim::run;

    use super::*;

    #[test]
    fn a_seed_that_fails_is_not_lost_among_those_that_are_counted() {
        let pool = Pool {
            seeds: "0..60".parse().expect("seeds"),
            profile: Profile::Swarm,
            span: None,
            keep_going: false,
            interrupt: Interrupt::default(),
        };
        let fail_from = |first: u64| {
            move |scenario: &Scenario| {
                let failed = (scenario.seed.0 >= first).then(|| Failed::made_up(scenario));
                (run(scenario), failed)
            }
        };
        let covered = cover(&pool, fail_from(40));
        let first = covered.first.map(|(seed, failed)| (seed, failed.to_string()));
        assert_eq!(first, Some((40, "G1: made up (at 0.000s)".into())));
        let covered = cover(&pool, fail_from(60));
        assert!(covered.first.is_none() && covered.played == 60);
        assert!(covered.coverage.reached().0 > 0);
    }
}
