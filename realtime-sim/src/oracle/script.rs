//! What the oracle knows of a scenario: its topics, who takes part, and the limits that hold.

use core::time::Duration;

use crate::NodeId;
use crate::scenario::{Cast, Part, TopicId, TopicSpec};

/// A cast, as far as the oracle judges by it.
#[derive(Debug)]
pub(super) struct Script {
    topics: Vec<TopicSpec>,
    /// By node: actors are the nodes of a scenario, in order.
    parts: Vec<Part>,
    /// How many channels a connection of a manager may hold.
    pub(super) channels_max: usize,
    /// How many events wait for an application at most.
    pub(super) events_max: usize,
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
            events_max: settings.events_max as usize,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_faster_the_retries_are_the_more_of_them_are_no_storm() {
        let [slow, fast] = [3_000, 100].map(Duration::from_millis);
        let max = Duration::from_secs(2);
        assert!(retries_max(slow, max) < retries_max(fast, max));
        assert!(retries_max(fast, max) < 60);
    }
}
