//! Every reason for a server to wake.

use alloc::collections::BTreeMap;
use alloc::string::String;

use super::event::SessionId;
use crate::time::Instant;

/// What is due at some time.
pub(super) enum Timer {
    /// A refused join has held its session long enough.
    Release(SessionId),
    /// The database answers a channel's request for row changes.
    Subscribed(SessionId, String),
    /// A channel's token may have expired.
    Token(SessionId, String),
    /// Broadcasts of the database reach a channel that wants to know, or will not.
    Ready(SessionId, String),
    /// A session may have no channel any more.
    Sweep(SessionId),
    /// A session may have been silent for too long.
    Idle(SessionId),
}

/// The name of an armed timer; timers of the same time fire in the order they were armed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TimerKey {
    at: Instant,
    count: u64,
}

/// The armed timers, each owned by one session or channel that disarms it when it goes.
#[derive(Default)]
pub(super) struct Timers {
    armed: BTreeMap<TimerKey, Timer>,
    count: u64,
}

impl Timers {
    pub(super) fn arm(&mut self, at: Instant, timer: Timer) -> TimerKey {
        self.count += 1;
        let key = TimerKey { at, count: self.count };
        self.armed.insert(key, timer);
        key
    }

    pub(super) fn disarm(&mut self, key: TimerKey) {
        self.armed.remove(&key);
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.armed.first_key_value().map(|(key, _)| key.at)
    }

    pub(super) fn pop_due(&mut self, now: Instant) -> Option<Timer> {
        let entry = self.armed.first_entry()?;
        (entry.key().at <= now).then(|| entry.remove())
    }
}
