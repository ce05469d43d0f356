//! What sometimes happens: a simulator that never gets somewhere tests nothing there.
//!
//! Each run counts what it reached, and the counts of many runs are added up. What they must have
//! reached together is all that can be counted, less the exceptions in `excuses`, each of
//! which says why it cannot be.

mod axis;
mod excuses;
mod watch;

use core::marker::PhantomData;

use axis::{Axis, Count, Silent};
pub(crate) use axis::{ChannelView, Condition, ConnectionView, Course, Effect};
pub use axis::{Place, PushEnd, Sight, ViolationKind};
use realtime_proto::supabase::CauseKind;
pub(crate) use watch::{Conditions, Observer};

use crate::scenario::{
    ActKind, CloseCode, DataKind, FaultKind, Garbage, Refusal, Shutting, UpgradeStatus,
};

/// How often each pair of two sets was reached.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Counts<R, C = Count> {
    cells: Vec<u64>,
    of: PhantomData<fn() -> (R, C)>,
}

impl<R: Axis, C: Axis> Counts<R, C> {
    fn new() -> Self {
        Self { cells: vec![0; R::ALL.len() * C::ALL.len()], of: PhantomData }
    }

    fn add(&mut self, row: R, column: C, count: u64) {
        self.cells[row.number() * C::ALL.len() + column.number()] += count;
    }

    fn merge(&mut self, other: &Self) {
        self.cells.iter_mut().zip(&other.cells).for_each(|(count, more)| *count += more);
    }

    fn table(&self, name: &'static str, need: fn(R, C) -> Need) -> Table {
        let pairs = R::ALL.iter().flat_map(|row| C::ALL.iter().map(move |column| (*row, *column)));
        let cells = pairs.zip(&self.cells);
        Table {
            name,
            rows: R::ALL.iter().map(|row| row.word()).collect(),
            columns: C::ALL.iter().map(|column| column.word()).collect(),
            cells: cells
                .map(|((row, column), count)| Cell { count: *count, need: need(row, column) })
                .collect(),
        }
    }
}

/// Declares the tables: the field, its sets, its name, and what need not be reached.
macro_rules! tables {
    ($($field:ident: $row:ty, $column:ty, $name:literal, $need:expr;)+) => {
        /// How often what was reached, in one run or in many.
        ///
        /// # Examples
        ///
        /// ```
        /// use realtime_sim::{Coverage, Scenario, Seed, run};
        ///
        /// let mut coverage = Coverage::default();
        /// for seed in 0..10 {
        ///     coverage.merge(&run(&Scenario::of_seed(Seed(seed))).coverage);
        /// }
        /// let table = &coverage.tables()[0];
        /// assert_eq!(table.name, "states of a connection");
        /// assert!(table.cells.iter().any(|cell| cell.count > 0));
        /// ```
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Coverage {
            $($field: Counts<$row, $column>,)+
        }

        impl Default for Coverage {
            fn default() -> Self {
                Self { $($field: Counts::new(),)+ }
            }
        }

        impl Coverage {
            /// Adds what other runs reached.
            pub fn merge(&mut self, other: &Self) {
                $(self.$field.merge(&other.$field);)+
            }

            /// All that is counted, as tables.
            #[must_use]
            pub fn tables(&self) -> Vec<Table> {
                vec![$(self.$field.table($name, $need),)+]
            }
        }
    };
}

fn all<R, C>(_: R, _: C) -> Need {
    Need::Required
}

tables! {
    connections: ConnectionView, Count, "states of a connection", all;
    connection_steps: ConnectionView, ConnectionView, "a connection goes from … to …",
        excuses::connection;
    channels: ChannelView, Count, "states of a channel of a client", all;
    channel_steps: ChannelView, ChannelView, "a channel of a client goes from … to …",
        excuses::channel;
    leases: ChannelView, Count, "states of a channel of a manager", all;
    lease_steps: ChannelView, ChannelView, "a channel of a manager goes from … to …",
        excuses::lease;
    causes: CauseKind, Place, "causes, by where they are told", excuses::cause;
    faults: FaultKind, Condition, "faults, by how it was with whom they hit", all;
    effects: Effect, Count, "what servers did wrong, where it took effect", all;
    acts: ActKind, Condition, "acts of applications, by how it was with them", all;
    data: DataKind, Count, "what happens in the database", all;
    close_codes: CloseCode, Count, "close codes of servers", all;
    statuses: UpgradeStatus, Count, "statuses that refuse an upgrade", all;
    refusals: Refusal, Count, "words that refuse a join", all;
    shuttings: Shutting, Count, "words before a channel is closed", all;
    garbage: Garbage, Count, "frames that should not be", all;
    sights: Sight, Count, "told to applications", excuses::sight;
    pushes: PushEnd, Count, "ends of pushes", excuses::push;
    violations: ViolationKind, Count, "violations that were told", excuses::violation;
    silent: Silent, Count, "counted by clients and not told", excuses::silent;
    courses: Course, Count, "runs", all;
}

/// What one server did wrong.
pub(crate) struct Effects(Counts<Effect>);

/// What happened on the way to a world does not tell it from another, so that it is no part of
/// how a server prints.
impl core::fmt::Debug for Effects {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Effects")
    }
}

impl Default for Effects {
    fn default() -> Self {
        Self(Counts::new())
    }
}

impl Effects {
    pub(crate) fn add(&mut self, effect: Effect) {
        self.0.add(effect, Count, 1);
    }
}

impl Coverage {
    /// Adds what a server did wrong.
    pub(crate) fn add_effects(&mut self, effects: &Effects) {
        self.effects.merge(&effects.0);
    }
}

/// One set of counts, by one or two properties.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// What is counted.
    pub name: &'static str,
    /// The words of the rows.
    pub rows: Vec<String>,
    /// The words of the columns; one for a plain list.
    pub columns: Vec<String>,
    /// The counts, row by row.
    pub cells: Vec<Cell>,
}

/// One count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// How often it was reached.
    pub count: u64,
    /// Whether it must be.
    pub need: Need,
}

/// Whether something must be reached by many seeds together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// It must be.
    Required,
    /// It may be, and too seldom to be waited for: why, in one sentence.
    Rare(&'static str),
    /// It cannot be: why not, in one sentence.
    Impossible(&'static str),
}

impl Cell {
    /// Whether it must be reached and was not.
    #[must_use]
    pub const fn is_missing(&self) -> bool {
        self.count == 0 && matches!(self.need, Need::Required)
    }

    /// Whether it was reached although it is said that it cannot be.
    #[must_use]
    pub const fn is_surprise(&self) -> bool {
        self.count > 0 && matches!(self.need, Need::Impossible(_))
    }
}

impl Table {
    /// The words of each count that `which` picks: the row, and the column if there are several.
    pub fn pick(&self, which: impl Fn(&Cell) -> bool) -> impl Iterator<Item = (String, &Cell)> {
        let cells = self.cells.iter().enumerate().filter(move |(_, cell)| which(cell));
        cells.map(|(at, cell)| {
            let (row, column) = (at / self.columns.len(), at % self.columns.len());
            let words = match self.columns.len() {
                1 => self.rows[row].clone(),
                _ => format!("{} · {}", self.rows[row], self.columns[column]),
            };
            (words, cell)
        })
    }
}

impl Coverage {
    /// How many of all that must be reached were.
    #[must_use]
    pub fn reached(&self) -> (usize, usize) {
        let tables = self.tables();
        let mut required = 0;
        let mut missing = 0;
        for cell in tables.iter().flat_map(|table| &table.cells) {
            required += usize::from(cell.need == Need::Required);
            missing += usize::from(cell.is_missing());
        }
        (required - missing, required)
    }
}
