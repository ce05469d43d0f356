//! What the oracle knows of a scenario: its topics, who takes part, and the limits that hold.

use core::time::Duration;

use super::{Verdict, must};
use crate::NodeId;
use crate::scenario::{Cast, Part, Settings, TopicId, TopicSpec};

/// A cast, as far as the oracle judges by it.
#[derive(Debug)]
pub(super) struct Script {
    topics: Vec<TopicSpec>,
    /// By node: actors are the nodes of a scenario, in order.
    parts: Vec<Part>,
    /// How many channels a connection of a manager may hold.
    pub(super) channels_max: usize,
    /// How many joins a second leave on a connection at most.
    pub(super) joins_max: u32,
    /// How many events wait for an application at most.
    pub(super) events_max: usize,
    /// How long a manager keeps a channel that nobody holds.
    pub(super) linger: Duration,
    join_timeout: Duration,
    /// The longest delay before the first retry.
    pub(super) retry_first: Duration,
    /// Whether it is known when row changes flow. Version 1 of the protocol names no join in a
    /// `system` message, so that the word for an older join passes for one of the current.
    pub(super) rows_are_judged: bool,
    /// More attempts than this within [`STORM_WINDOW`] are no retries of the schedule.
    pub(super) retries_max: usize,
}

/// Storms are looked for in windows of this length.
pub(super) const STORM_WINDOW: Duration = Duration::from_secs(10);

impl Script {
    pub(super) fn new(cast: &Cast) -> Self {
        let settings = &cast.settings;
        Self {
            topics: cast.topics.clone(),
            parts: cast.actors.iter().map(|actor| actor.part).collect(),
            channels_max: settings.channels_max as usize,
            joins_max: settings.joins_max.max(1),
            events_max: settings.events_max as usize,
            linger: settings.linger,
            join_timeout: settings.join_timeout.max(INTERVAL_FLOOR),
            retry_first: settings.retry_first.min(settings.retry_max),
            rows_are_judged: !settings.vsn1,
            retries_max: retries_max(settings.retry_first, settings.retry_max),
        }
    }

    pub(super) fn topic(&self, name: &str) -> Option<TopicId> {
        let at = self.topics.iter().position(|spec| spec.topic == name)?;
        u8::try_from(at).ok().map(TopicId)
    }

    pub(super) fn spec(&self, topic: TopicId) -> Option<&TopicSpec> {
        self.topics.get(usize::from(topic.0))
    }

    pub(super) fn is_manager(&self, node: NodeId) -> bool {
        self.parts.get(node.0) == Some(&Part::Manager)
    }

    /// How long a client waits for the answer to a join. One that waits for the row changes, too,
    /// has 15 s at the server, and 10 s for the way (protocol §5.3).
    pub(super) fn joined_within(&self, spec: &TopicSpec) -> Duration {
        const WAITS: Duration = Duration::from_secs(25);
        if spec.rows && spec.wait { self.join_timeout.max(WAITS) } else { self.join_timeout }
    }

    /// How long a client waits for the answer to a heartbeat; it is not known where a join may
    /// wait at the server, which answers nothing meanwhile (protocol §2.1).
    pub(super) fn answered_within(&self) -> Option<Duration> {
        let waits = self.topics.iter().any(|spec| spec.rows && spec.wait);
        (!waits).then_some(ANSWERED_WITHIN)
    }

    /// Whether a node hears the broadcasts that it sends.
    pub(super) fn echoes(&self, node: NodeId, topic: TopicId) -> bool {
        !self.is_manager(node)
            && self.spec(topic).is_some_and(|spec| spec.echo && spec.is_supabase())
    }
}

/// How many retries there can be in a window: so many that even at an eighth of its ceiling each,
/// a quarter of what jitter gives on average, their delays are longer than the window; and a few
/// for short windows, where averages say little.
fn retries_max(first: Duration, max: Duration) -> usize {
    const FEW: usize = 10;
    const MANY: usize = 10_000;
    let (mut retries, mut ceiling, mut span) = (0, first.min(max), Duration::ZERO);
    while span < STORM_WINDOW && retries < MANY {
        span += (ceiling / 8).max(Duration::from_millis(1));
        ceiling = ceiling.saturating_mul(2).min(max);
        retries += 1;
    }
    FEW + retries
}

/// How long a client waits at most until it is connected, and for the answer to a heartbeat: no
/// scenario sets it.
const CONNECTS_WITHIN: Duration = Duration::from_secs(10);
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);
/// How many channels a connection may have.
const CHANNELS_MAX: usize = 100;
/// No interval that a scenario sets is shorter for a client.
const INTERVAL_FLOOR: Duration = Duration::from_millis(100);

/// How long it takes at most until a connection that died in silence is noticed.
pub(crate) fn noticed_within(settings: &Settings) -> Duration {
    settings.heartbeat.max(INTERVAL_FLOOR) + ANSWERED_WITHIN
}

/// How long it takes at most until every channel is live once nothing breaks any more, by the
/// settings (G8): a dead connection is noticed, the next is waited for and had, each of so many
/// channels has its turn to join, and so has a join that was lost.
pub(crate) fn live_within(settings: &Settings, channels: usize) -> Duration {
    let connected = settings.retry_max + CONNECTS_WITHIN;
    let turns = Duration::from_secs(1) / settings.joins_max.max(1) * channels as u32;
    let joined = turns + settings.join_timeout.max(INTERVAL_FLOOR) + settings.retry_max;
    noticed_within(settings) + connected + joined
}

/// A client promises to be live within that, if within anything.
pub(crate) fn check_promise(settings: &Settings, promised: Option<Duration>) -> Verdict {
    let within = live_within(settings, CHANNELS_MAX);
    must(promised.is_some_and(|promised| promised <= within), "G8", || {
        format!("a client promises to be live within {promised:?}, and {within:?} must do")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_may_not_promise_to_be_live_later_than_the_settings_allow() {
        let settings = Settings::default();
        assert_eq!(live_within(&settings, CHANNELS_MAX), Duration::from_secs(117));
        assert_eq!(check_promise(&settings, Some(Duration::from_secs(117))), Ok(()));
        for promised in [None, Some(Duration::from_millis(117_001))] {
            let verdict = check_promise(&settings, promised);
            assert_eq!(verdict.map_err(|(rule, _)| rule), Err("G8"), "{promised:?}");
        }
    }

    #[test]
    fn the_faster_the_retries_are_the_more_of_them_are_no_storm() {
        let [slow, fast] = [3_000, 100].map(Duration::from_millis);
        let max = Duration::from_secs(2);
        assert!(retries_max(slow, max) < retries_max(fast, max));
        assert!(retries_max(fast, max) < 60);
    }
}
