//! Scenarios: who is there, what each topic is like, and what happens, one step a line.

mod check;
mod settings;
mod span;
mod steps;
mod swarm;
mod text;
mod words;

use core::time::Duration;

pub use settings::Settings;
pub use steps::{Act, ActKind, Data, DataKind, Fault, FaultKind};
pub use swarm::Profile;
pub use text::ScenarioError;
pub use words::{ActorId, CloseCode, Garbage, Refusal, ServerId, Shutting, TopicId, UpgradeStatus};

use crate::Seed;

/// A run to come: who takes part, and what happens to them in which order.
///
/// A scenario is a text that people read and write, the form of every regression and of what a
/// failing seed is shrunk to:
///
/// ```
/// use realtime_sim::Scenario;
///
/// let text = "\
/// seed 7
/// client ana
/// topic room realtime:room presence ack
///
/// +0ms     ana connect
/// +0ms     ana open room
/// +2s      cut ana
/// +100ms   ana send room
/// ";
/// let scenario: Scenario = text.parse()?;
/// assert_eq!(scenario.to_string(), text);
/// # Ok::<(), realtime_sim::ScenarioError>(())
/// ```
///
/// | line | meaning |
/// |---|---|
/// | `seed N` | The seed of whatever is drawn while it runs: jitter of links and of retries. |
/// | `set KEY VALUE` | A setting that differs from its default, see [`Settings`]. |
/// | `client NAME`, `manager NAME` | An application with a `Client`, or with a `Manager`. |
/// | `topic NAME TOPIC FLAGS…` | A topic of the wire and how channels of it are opened, see [`TopicSpec`]. |
/// | `+SPAN NAME ACT…` | So long after the line before, an application does something, see [`Act`]. |
/// | `+SPAN database DATA…` | Something happens in the database, see [`Data`]. |
/// | `+SPAN FAULT…` | Something goes wrong, see [`Fault`]. |
/// | `# …` | A remark, at the beginning of a line or behind a space. |
///
/// Settings, applications and topics stand before the steps that need them. A `SPAN` is a whole
/// number and one of the units `ns`, `us`, `ms`, `s`, `m`, `h` and `d`, a hundred years at most.
/// What the steps send together is bounded, so that no scenario asks more of a world than it takes;
/// a world that is asked for more all the same says so by the rule `flood`, and its client is not
/// to blame. A scenario that is made by hand can be checked with [`check`](Scenario::check).
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// The seed of all that is drawn while it runs.
    pub seed: Seed,
    /// Who takes part and how everything is set.
    pub cast: Cast,
    /// What happens, in order.
    pub steps: Vec<Step>,
}

/// Who takes part in a scenario and how everything is set.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cast {
    /// The settings of the servers, the network and the clients.
    pub settings: Settings,
    /// The applications.
    pub actors: Vec<Actor>,
    /// The topics.
    pub topics: Vec<TopicSpec>,
}

/// One application of a scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// Its name, the first word of what it does.
    pub name: String,
    /// What it runs on.
    pub part: Part,
}

/// What an application runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// A `Client`, or whatever client is put to the test.
    Client,
    /// A `Manager`.
    Manager,
}

/// A topic and how channels of it are opened.
///
/// In a scenario: `topic NAME TOPIC` and then any of the flags `presence`, `ack`, `echo`,
/// `private`, `rows` and `wait`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSpec {
    /// Its name in the steps.
    pub name: String,
    /// Its name on the wire; what does not start with `realtime:` is a plain Phoenix topic.
    pub topic: String,
    /// Whether presence is asked for.
    pub presence: bool,
    /// Whether broadcasts are acknowledged.
    pub ack: bool,
    /// Whether one's own broadcasts come back.
    pub echo: bool,
    /// Whether the channel is private, and its stored broadcasts are replayed after an outage.
    pub private: bool,
    /// Whether row changes are asked for.
    pub rows: bool,
    /// Whether the join waits for the row changes.
    pub wait: bool,
}

impl TopicSpec {
    /// A topic without flags.
    #[must_use]
    pub fn new(name: impl Into<String>, topic: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            topic: topic.into(),
            presence: false,
            ack: false,
            echo: false,
            private: false,
            rows: false,
            wait: false,
        }
    }

    /// Whether it is a topic of Supabase.
    #[must_use]
    pub fn is_supabase(&self) -> bool {
        self.topic.starts_with("realtime:")
    }
}

/// One step and how long after the one before it happens.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// How long after the step before.
    pub after: Duration,
    /// What happens.
    pub op: Op,
}

/// What happens in a step.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// An application does something.
    Act(ActorId, Act),
    /// Something happens in the database.
    Data(Data),
    /// Something goes wrong.
    Fault(Fault),
}

/// Spans that are easier to think about than this one, the simplest first.
pub(crate) fn simpler_spans(span: Duration) -> Vec<Duration> {
    words::Word::simpler(&span)
}
