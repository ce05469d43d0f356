//! Broadcasts that are kept, and what of them is told again.

use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use super::json;
use crate::supabase::Row;
use crate::wire::Encoding;

/// A broadcast that has an id.
#[derive(Clone)]
pub(super) struct Stored {
    pub(super) id: String,
    /// The whole topic.
    pub(super) topic: String,
    pub(super) event: String,
    pub(super) encoding: Encoding,
    pub(super) payload: Vec<u8>,
    /// Since the Unix epoch, as the other times here.
    pub(super) inserted_at: Duration,
    pub(super) expires_at: Duration,
}

/// The private broadcasts of late, oldest first.
#[derive(Default)]
pub(super) struct Store(VecDeque<Stored>);

/// What a join wants to be told again. Protocol §5.7.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Replay {
    since: Duration,
    limit: usize,
}

impl Replay {
    const LIMIT_MAX: i64 = 25;

    /// Reads `replay` of a join; `None` when the parameters are not valid.
    pub(super) fn read(raw: &str) -> Option<Self> {
        let row = Row::read(raw)?;
        let since: i64 = row.column("since")?.parse().ok()?;
        let limit: i64 = match row.column("limit") {
            None | Some("null") => Self::LIMIT_MAX,
            Some(limit) => limit.parse().ok()?,
        };
        Some(Self {
            since: Duration::from_millis(since.max(0).unsigned_abs()),
            limit: limit.clamp(1, Self::LIMIT_MAX).unsigned_abs() as usize,
        })
    }
}

impl Store {
    pub(super) fn insert(&mut self, stored: Stored, count_max: usize) {
        self.expire(stored.inserted_at);
        self.0.push_back(stored);
        while self.0.len() > count_max {
            self.0.pop_front();
        }
    }

    /// The newest that fit, oldest first.
    pub(super) fn replay(&mut self, topic: &str, wanted: Replay, now: Duration) -> Vec<Stored> {
        self.expire(now);
        let found = self
            .0
            .iter()
            .rev()
            .filter(|stored| stored.topic == topic && stored.inserted_at >= wanted.since);
        let mut newest: Vec<Stored> = found.take(wanted.limit).cloned().collect();
        newest.reverse();
        newest
    }

    fn expire(&mut self, now: Duration) {
        self.0.retain(|stored| now < stored.expires_at);
    }
}

impl Stored {
    /// What is said beside the payload.
    pub(super) fn meta(&self, is_replay: bool) -> String {
        let replayed = if is_replay { ",\"replayed\":true" } else { "" };
        format!("{{\"id\":{}{replayed}}}", json::quoted(&self.id))
    }

    /// The payload of a text message; `None` for bytes.
    pub(super) fn text(&self, is_replay: bool) -> Option<String> {
        if self.encoding == Encoding::Binary {
            return None;
        }
        let payload = core::str::from_utf8(&self.payload).ok()?;
        let (event, meta) = (json::quoted(&self.event), self.meta(is_replay));
        Some(format!(
            "{{\"event\":{event},\"meta\":{meta},\"payload\":{payload},\"type\":\"broadcast\"}}"
        ))
    }
}

/// How long a client asks to have a broadcast kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Persist {
    /// As long as the server keeps anything.
    Longest,
    /// So long, but no longer than that.
    For(Duration),
}

impl Persist {
    /// Reads the metadata of a kind-3 frame: `{"persist":true}` or `{"persist":{"ttl":60}}`.
    pub(super) fn read(metadata: &str) -> Option<Self> {
        let row = Row::read(metadata)?;
        match row.column("persist")? {
            "true" => Some(Self::Longest),
            raw => Self::seconds(Row::read(raw)?.column("ttl")?),
        }
    }

    pub(super) fn seconds(text: &str) -> Option<Self> {
        let seconds: u64 = text.parse().ok()?;
        (seconds > 0).then(|| Self::For(Duration::from_secs(seconds)))
    }

    pub(super) fn span(self, longest: Duration) -> Duration {
        match self {
            Self::Longest => longest,
            Self::For(span) => span.min(longest),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replay_parameters_are_read_as_the_protocol_has_them() {
        let read = |raw| Replay::read(raw).map(|replay| (replay.since.as_millis(), replay.limit));
        assert_eq!(read(r#"{"since":5}"#), Some((5, 25)));
        assert_eq!(read(r#"{"since":5,"limit":null}"#), Some((5, 25)));
        assert_eq!(read(r#"{"since":5,"limit":4}"#), Some((5, 4)));
        assert_eq!(read(r#"{"since":5,"limit":1000}"#), Some((5, 25)));
        assert_eq!(read(r#"{"since":-5,"limit":-1}"#), Some((0, 1)));
        for raw in ["{}", "[]", "true", r#"{"since":"x"}"#, r#"{"since":1,"limit":"x"}"#] {
            assert_eq!(read(raw), None, "{raw}");
        }
    }

    #[test]
    fn persistence_is_asked_for_with_true_or_a_time_to_live() {
        assert_eq!(Persist::read(r#"{"persist":true}"#), Some(Persist::Longest));
        let minute = Persist::For(Duration::from_secs(60));
        assert_eq!(Persist::read(r#"{"persist":{"ttl":60}}"#), Some(minute));
        assert_eq!(minute.span(Duration::from_secs(9)), Duration::from_secs(9));
        for raw in ["", "{}", r#"{"persist":false}"#, r#"{"persist":{"ttl":0}}"#] {
            assert_eq!(Persist::read(raw), None, "{raw}");
        }
    }
}
