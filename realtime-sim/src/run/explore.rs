//! Every order of events in a small world, to a fixed depth.

use core::fmt;
use std::collections::BTreeSet;

use super::walk::Walk;
use crate::oracle::Finding;
use crate::scenario::{Op, Scenario};
use crate::subject::{ClientSubject, Scripted};

/// A small world and what may happen in it, in every order.
///
/// It begins as a scenario leaves it. From there on, each step is one of: the next message of one
/// direction of one socket arrives, the next timer of a client or a server fires, something that
/// lasted ends, an application sets the token it was asked for, something of
/// [`choices`](Self::choices) happens. All sequences of so many steps are played, the shorter ones
/// first, and at the end of each the world is healed and must come to rest as in every scenario.
///
/// # Which orders are merged
///
/// Clients and servers are deterministic and meet only through sockets that keep the order, so
/// what each of them was given, with the times, settles the state of everything. Two sequences
/// that give every machine the same are one state, and only the first goes on. That is decided by
/// what went in; no part of a machine is compared, hashed or trusted to print itself.
///
/// # Examples
///
/// ```
/// use realtime_sim::{Beginning, Exploration};
///
/// let explored = Exploration::small(Beginning::Opening).with_depth(3).run(|_| {});
/// assert_eq!(explored.failure, None);
/// assert!(explored.states > 100 && explored.merged > 0);
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Exploration {
    /// Who takes part, and what happens before the exploration begins, in the usual order.
    pub begin: Scenario,
    /// What may happen besides what was set off before; each as often as it makes sense.
    pub choices: Vec<Op>,
    /// How many steps a sequence has at most. Default 4.
    pub depth: u32,
    /// How many faults a sequence has at most. Default 2.
    pub faults_max: u32,
}

/// Where the small world of an [`Exploration`] begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Beginning {
    /// Nobody has done anything.
    Offline,
    /// The socket is open, the client was told to open both channels, and nothing of that has
    /// arrived yet.
    Opening,
    /// Both channels are live.
    Live,
}

impl Beginning {
    /// Every beginning.
    pub const ALL: [Self; 3] = [Self::Offline, Self::Opening, Self::Live];

    /// Its name on the command line.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Offline => "offline",
            Self::Opening => "opening",
            Self::Live => "live",
        }
    }
}

/// One client, one server, two topics, and no time on the way: whatever takes time is a choice.
const SMALL: &str = "\
seed 0
set delay 0ms
client ana
topic room realtime:room presence ack
topic rows realtime:rows rows
";
const OPEN: &str = "
+0ms ana connect
+1s ana open room
+0ms ana track room
+0ms ana open rows
";
const REST: &str = "+1s ana hint\n";
const CHOICES: &str = "
+0ms ana connect
+0ms ana disconnect
+0ms ana open room
+0ms ana open rows
+0ms ana close room
+0ms ana close rows
+0ms ana send room
+0ms ana rejoin room
+0ms ana hint
+0ms ana token 1h
+0ms database insert
+0ms cut ana
+0ms vanish ana
+0ms abandon ana
+0ms close ana 1001
+0ms refuse ana 503 1
+0ms flap ana 1
+0ms crash ana room
+0ms shut ana rows token-expired
+0ms refuse-joins-at-once ana unauthorized 1
+0ms lost-replies 0 1
+0ms twice 0 1
+0ms stale-close ana room
+0ms stale-error ana room
+0ms changes-fail rows 1s
+0ms suspend ana 1m
";

/// How far an exploration got.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Explored {
    /// Steps of the longest sequences.
    pub depth: u32,
    /// States that are different, each of which was healed and came to rest.
    pub states: u64,
    /// Steps that were tried.
    pub tried: u64,
    /// Steps that led to a state that another order had led to.
    pub merged: u64,
    /// Events of all worlds, with those that are played again to get to a state.
    pub events: u64,
    /// The first sequence that fails; there is no shorter one.
    pub failure: Option<Failure>,
}

/// A sequence of steps that ends with something that does not hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// What does not hold.
    pub finding: Finding,
    /// The steps, as [`Exploration::replay`] takes them.
    pub path: String,
}

/// A step that was asked for cannot happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathError {
    step: String,
    why: String,
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` cannot happen: {}", self.step, self.why)
    }
}

impl core::error::Error for PathError {}

impl Exploration {
    /// One client with two channels, and what usually happens to them.
    #[must_use]
    pub fn small(beginning: Beginning) -> Self {
        let read = |text: &str| -> Scenario { text.parse().expect("a scenario") };
        let begin = match beginning {
            Beginning::Offline => SMALL.to_owned(),
            Beginning::Opening => [SMALL, OPEN].concat(),
            Beginning::Live => [SMALL, OPEN, REST].concat(),
        };
        let choices = read(&[SMALL, CHOICES].concat()).steps;
        let choices = choices.into_iter().map(|step| step.op).collect();
        Self { begin: read(&begin), choices, depth: 4, faults_max: 2 }
    }

    /// The same with sequences of so many steps.
    #[must_use]
    pub const fn with_depth(mut self, depth: u32) -> Self {
        self.depth = depth;
        self
    }

    /// The same with so many faults in a sequence at most.
    #[must_use]
    pub const fn with_faults_max(mut self, faults_max: u32) -> Self {
        self.faults_max = faults_max;
        self
    }

    /// The same with other [`choices`](Self::choices): steps of a scenario without their times,
    /// commas between them.
    ///
    /// Fewer choices go deeper in the same time.
    ///
    /// # Errors
    ///
    /// When one of them is no step of the scenario it begins with.
    ///
    /// # Examples
    ///
    /// ```
    /// use realtime_sim::{Beginning, Exploration};
    ///
    /// let small = Exploration::small(Beginning::Live).with_choices("cut ana, ana send room")?;
    /// assert_eq!(small.choices.len(), 2);
    /// assert_eq!(small.with_depth(4).run(|_| {}).failure, None);
    /// # Ok::<(), realtime_sim::PathError>(())
    /// ```
    pub fn with_choices(mut self, choices: &str) -> Result<Self, PathError> {
        let read = |step: &str| {
            let words: Vec<&str> = step.split_whitespace().collect();
            let read = self.begin.cast.read_op(&words);
            read.map_err(|why| PathError { step: step.trim().into(), why })
        };
        self.choices = choices.split(',').map(read).collect::<Result<_, _>>()?;
        Ok(self)
    }

    /// Tries every sequence, those with fewer steps first, until one fails; `progress` hears of
    /// each depth that is done.
    #[must_use]
    pub fn run(&self, progress: impl FnMut(&Explored)) -> Explored {
        self.run_with::<ClientSubject>(progress)
    }

    /// The same with any client that can be scripted, as [`run_with`](crate::run_with).
    #[must_use]
    pub fn run_with<S: Scripted>(&self, mut progress: impl FnMut(&Explored)) -> Explored {
        let mut explored = Explored::default();
        let mut visited = BTreeSet::new();
        let mut frontier: Vec<Vec<u16>> = vec![Vec::new()];
        while explored.depth < self.depth && !frontier.is_empty() {
            explored.depth += 1;
            let mut next = Vec::new();
            for path in &frontier {
                if !self.extend::<S>(path, &mut visited, &mut next, &mut explored) {
                    return explored;
                }
            }
            frontier = next;
            progress(&explored);
        }
        explored
    }

    /// Tries everything that can follow a path; false when something fails.
    fn extend<S: Scripted>(
        &self,
        path: &[u16],
        visited: &mut BTreeSet<u128>,
        next: &mut Vec<Vec<u16>>,
        explored: &mut Explored,
    ) -> bool {
        for last in 0.. {
            let mut walk = Walk::new::<S>(self, |world| world);
            let went = walk.guard(|walk| {
                for step in path {
                    let step = walk.choices()[usize::from(*step)];
                    walk.take(step);
                }
                let Some(step) = walk.choices().get(usize::from(last)).copied() else {
                    return Went::NoFurther;
                };
                walk.take(step);
                if !walk.stage.is_over() {
                    if !visited.insert(walk.state()) {
                        return Went::SomewhereKnown;
                    }
                    walk.finish();
                }
                Went::SomewhereNew
            });
            explored.events += walk.stage.world.tally().events();
            if let Some(finding) = walk.stage.world.finding() {
                let path = walk.taken.join(", ");
                explored.failure = Some(Failure { finding: finding.clone(), path });
                return false;
            }
            explored.tried += 1;
            match went {
                Some(Went::SomewhereKnown) => explored.merged += 1,
                Some(Went::SomewhereNew) => {
                    explored.states += 1;
                    next.push([path, &[last]].concat());
                }
                Some(Went::NoFurther) | None => {
                    explored.tried -= 1;
                    break;
                }
            }
        }
        true
    }

    /// Takes the steps of a path, commas between them, and tells what does not hold; each line of
    /// the trace goes to `sink`.
    ///
    /// # Errors
    ///
    /// When a step of the path cannot happen there.
    ///
    /// # Examples
    ///
    /// ```
    /// use realtime_sim::{Beginning, Exploration};
    ///
    /// let small = Exploration::small(Beginning::Live);
    /// assert_eq!(small.replay("cut ana, timer of ana, up socket2", |_| {}), Ok(None));
    /// let error = small.replay("timer of ben", |_| {}).unwrap_err();
    /// assert!(error.to_string().starts_with("`timer of ben` cannot happen"));
    /// ```
    pub fn replay(&self, path: &str, sink: fn(&str)) -> Result<Option<Finding>, PathError> {
        self.replay_with::<ClientSubject>(path, sink)
    }

    /// The same with any client that can be scripted.
    ///
    /// # Errors
    ///
    /// When a step of the path cannot happen there.
    pub fn replay_with<S: Scripted>(
        &self,
        path: &str,
        sink: fn(&str),
    ) -> Result<Option<Finding>, PathError> {
        let mut walk = Walk::new::<S>(self, |world| world.with_trace(sink));
        let mut wrong = None;
        walk.guard(|walk| {
            for word in path.split(',').map(str::trim).filter(|word| !word.is_empty()) {
                let choices = walk.choices();
                let named = choices.iter().find(|choice| walk.name(**choice) == word);
                let Some(choice) = named else {
                    let instead = choices.iter().map(|choice| walk.name(*choice));
                    let why =
                        format!("there it is one of {}", instead.collect::<Vec<_>>().join(", "));
                    wrong = Some(PathError { step: word.into(), why });
                    return;
                };
                walk.take(*choice);
                if walk.stage.is_over() {
                    return;
                }
            }
            walk.finish();
        });
        match wrong {
            Some(error) => Err(error),
            None => Ok(walk.stage.world.finding().cloned()),
        }
    }
}

enum Went {
    NoFurther,
    SomewhereKnown,
    SomewhereNew,
}
