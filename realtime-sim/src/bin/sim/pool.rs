//! The scenarios of many seeds, on all cores.

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::sync::Mutex;
use std::time::Instant;

use realtime_sim::{Profile, Report, Scenario, Seed};

use crate::failed::{Failed, play};
use crate::interrupt::Interrupt;
use crate::progress::Progress;
use crate::source::SeedRange;

/// What is played.
pub(super) struct Pool {
    pub(super) seeds: SeedRange,
    pub(super) profile: Profile,
    /// How long at most.
    pub(super) span: Option<Duration>,
    /// Whether to go on when a seed fails.
    pub(super) keep_going: bool,
    pub(super) interrupt: Interrupt,
}

impl Pool {
    /// Plays all seeds, until one fails, and hands out what became of each, in any order.
    pub(super) fn play(&self, take: impl FnMut(u64, Report, Option<Failed>) + Send) {
        self.play_with(play, take);
    }

    /// The same, played in another way.
    pub(super) fn play_with(
        &self,
        play: impl Fn(&Scenario) -> (Report, Option<Failed>) + Sync,
        take: impl FnMut(u64, Report, Option<Failed>) + Send,
    ) {
        let begun = Instant::now();
        // A span that no clock can tell is as good as none.
        let until = self.span.and_then(|span| begun.checked_add(span));
        // Counted from the first seed on, so that nothing wraps behind the last.
        let next = AtomicU64::new(0);
        // Seeds from here on are not played: one before them failed. Those before it are, so that
        // the first that fails is the same however many workers there are.
        let end = AtomicU64::new(self.seeds.count);
        let take = Mutex::new(take);
        let work = || {
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let late = until.is_some_and(|until| Instant::now() >= until);
                if at >= end.load(Ordering::Relaxed) || late || self.interrupt.came() {
                    break;
                }
                let seed = self.seeds.first + at;
                let (report, failed) = play(&self.profile.scenario(Seed(seed)));
                if failed.is_some() && !self.keep_going {
                    end.fetch_min(at, Ordering::Relaxed);
                }
                let mut take = take.lock().expect("no worker panics");
                take(seed, report, failed);
            }
        };
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|scope| {
            let handles: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
            let mut progress = Progress::new(self.seeds.count, self.span);
            while handles.iter().any(|handle| !handle.is_finished()) {
                std::thread::sleep(Duration::from_millis(50));
                progress.show(next.load(Ordering::Relaxed).min(self.seeds.count), begun.elapsed());
            }
            progress.clear();
        });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use realtime_sim::run;

    use super::*;

    /// Plays seeds of which these fail; tells which were played, and whether they failed.
    fn played(seeds: &str, fail: &[u64], keep_going: bool) -> BTreeMap<u64, bool> {
        let pool = Pool {
            seeds: seeds.parse().expect("seeds"),
            profile: Profile::Swarm,
            span: None,
            keep_going,
            interrupt: Interrupt::default(),
        };
        let play = |scenario: &Scenario| {
            let fails = fail.contains(&scenario.seed.0);
            (run(scenario), fails.then(|| Failed::made_up(scenario)))
        };
        let mut played = BTreeMap::new();
        pool.play_with(play, |seed, _, failed| {
            played.insert(seed, failed.is_some());
        });
        played
    }

    #[test]
    fn the_last_seeds_of_all_are_played_once_and_then_it_ends() {
        let played = played("18446744073709551610..18446744073709551615", &[], false);
        assert_eq!(played.len(), 5);
        assert_eq!(played.keys().max(), Some(&(u64::MAX - 1)));
    }

    #[test]
    fn seeds_before_the_first_that_fails_are_all_played_and_with_keep_going_all_are() {
        let some = played("100..200", &[130, 120], false);
        assert!((100..=120).all(|seed| some.contains_key(&seed)), "{some:?}");
        assert!(some[&120] && !some.contains_key(&199), "{some:?}");
        let all = played("100..200", &[130, 120], true);
        assert_eq!((all.len(), all.values().filter(|failed| **failed).count()), (100, 2));
    }
}
