//! Who is here: the members of a channel, kept equal to the server's.
//!
//! The server sends a snapshot after each join and diffs from then on. Diffs that come before the
//! snapshot of the current join are held and applied on top of it, since they may not be part of
//! it. Across a reconnect the old members are kept, and the next snapshot is compared with them
//! once. Whoever is missing from it is told as gone only after a grace, so that a client that
//! rejoins by itself does not appear to leave and come back.
//!
//! Protocol §4.2.

mod calls;
mod diff;
mod fold;
mod keyed;
mod member;
mod payload;
#[cfg(test)]
mod tests;

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

use serde::Deserialize;

pub use self::calls::PresenceCall;
use self::diff::Log;
pub use self::fold::PresenceDiff;
use self::keyed::Keyed;
use self::member::Entry;
pub use self::member::{Member, Meta};
use self::payload::Diff;
use crate::limits::Limits;
use crate::payload::{Payload, PayloadError};
use crate::time::Instant;

/// How long a member may be missing after a reconnect before it is told as gone, by default.
pub(crate) const GRACE: Duration = Duration::from_secs(5);

/// The members of one channel, by key.
///
/// A [`Channel`](crate::Channel) has one and feeds it. It also works on its own, for whoever has
/// the payloads from elsewhere: feed it each `presence_state` and `presence_diff`, call
/// [`rejoin`](Self::rejoin) when a join is sent and [`accept`](Self::accept) when it is accepted,
/// and [`handle_timeout`](Self::handle_timeout) at [`poll_timeout`](Self::poll_timeout). Each change
/// is told in two views: folded, as who came, changed and went, and as the calls that the
/// `Presence` of phoenix.js makes.
///
/// Whatever is done to one member costs the same in a channel of ten and of a hundred thousand.
///
/// # Examples
///
/// ```
/// use realtime_proto::{Instant, Limits, Payload, Presence, PresenceCall};
///
/// let now = Instant::EPOCH;
/// let mut presence = Presence::new(&Limits::default(), 42).with_calls();
/// let state = Payload::from_json(r#"{"u1": {"metas": [{"phx_ref": "a"}]}}"#)?;
/// let told = presence.handle_state(&state, now)?;
/// assert_eq!(told.diff.joined[0].key, "u1");
/// assert!(matches!(&told.calls[..], [PresenceCall::Join { .. }, PresenceCall::Sync]));
///
/// // An update is a join and a leave on the wire and in phoenix.js, and one `updated` when folded.
/// let update = Payload::from_json(
///     r#"{"joins": {"u1": {"metas": [{"phx_ref": "b", "phx_ref_prev": "a"}]}},
///         "leaves": {"u1": {"metas": [{"phx_ref": "a"}]}}}"#,
/// )?;
/// let told = presence.handle_diff(&update)?;
/// assert_eq!(told.diff.updated[0].metas, presence.metas("u1"));
/// let [PresenceCall::Join { .. }, PresenceCall::Leave { current, left }, PresenceCall::Sync] =
///     &told.calls[..]
/// else {
///     panic!("{told:?}");
/// };
/// assert_eq!((current.metas.len(), &*left.metas[0].phx_ref), (1, "a"));
/// # Ok::<(), realtime_proto::PayloadError>(())
/// ```
#[derive(Debug)]
pub struct Presence {
    members: Keyed<Entry>,
    /// Those that were told as present and are missing since the last snapshot.
    missed: Keyed<Entry>,
    snapshot: Snapshot,
    grace: Duration,
    calls: bool,
    seed: u64,
    keys_max: usize,
    metas_max: usize,
    diffs_held_max: usize,
}

/// Whether the members are those of the current join.
#[derive(Debug)]
enum Snapshot {
    /// The snapshot of the current join has not come; diffs are held, oldest first.
    Awaited { held: VecDeque<Diff> },
    /// The snapshot came, and diffs are applied as they come.
    Taken {
        /// When those that are missed count as gone; `None` when there are none.
        gone_at: Option<Instant>,
    },
}

impl Snapshot {
    const fn awaited() -> Self {
        Self::Awaited { held: VecDeque::new() }
    }
}

/// What a presence message did, in both views.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PresenceUpdate {
    /// Who came, changed and went; empty for a diff that is held.
    pub diff: PresenceDiff,
    /// The calls of phoenix.js, if [`with_calls`](Presence::with_calls) asked for them; none for
    /// a diff that is held.
    pub calls: Vec<PresenceCall>,
    /// Whether more came than the limits allow, so that the members are incomplete.
    pub overflow: bool,
}

impl Default for Presence {
    fn default() -> Self {
        Self::new(&Limits::default(), 0)
    }
}

impl Presence {
    /// Nobody, and a snapshot that is awaited. `seed` keeps strangers from choosing keys that
    /// collide, and decides nothing that can be seen.
    ///
    /// # Examples
    ///
    /// ```
    /// use realtime_proto::{Limits, Presence};
    ///
    /// let presence = Presence::new(&Limits::default(), 42);
    /// assert!(presence.is_empty() && presence.is_stale());
    /// ```
    #[must_use]
    pub const fn new(limits: &Limits, seed: u64) -> Self {
        Self {
            members: Keyed::new(seed),
            missed: Keyed::new(seed),
            snapshot: Snapshot::awaited(),
            grace: GRACE,
            calls: false,
            seed,
            keys_max: limits.presence_keys_max,
            metas_max: limits.presence_metas_max,
            diffs_held_max: limits.presence_diffs_held_max,
        }
    }

    /// The same, telling the calls of phoenix.js too, which copies every member they name.
    ///
    /// # Examples
    ///
    /// ```
    /// use realtime_proto::{Instant, Payload, Presence, PresenceCall};
    ///
    /// let mut presence = Presence::default().with_calls();
    /// let told = presence.handle_state(&Payload::empty(), Instant::EPOCH)?;
    /// assert_eq!(told.calls, [PresenceCall::Sync]);
    /// # Ok::<(), realtime_proto::PayloadError>(())
    /// ```
    #[must_use]
    pub const fn with_calls(mut self) -> Self {
        self.calls = true;
        self
    }

    /// The same, with another span for which a member may be missing after a reconnect before it is
    /// told as gone. Default 5 s; zero tells at once.
    ///
    /// # Examples
    ///
    /// ```
    /// use core::time::Duration;
    /// use realtime_proto::{Instant, Payload, Presence};
    ///
    /// let now = Instant::EPOCH;
    /// let mut presence = Presence::default().with_grace(Duration::from_secs(2));
    /// let state = Payload::from_json(r#"{"u1": {"metas": [{"phx_ref": "a"}]}}"#)?;
    /// presence.handle_state(&state, now)?;
    /// presence.rejoin();
    /// let told = presence.handle_state(&Payload::empty(), now)?;
    /// assert!(presence.is_empty() && told.diff.left.is_empty());
    /// assert_eq!(presence.poll_timeout(), Some(now + Duration::from_secs(2)));
    /// let diff = presence.handle_timeout(now + Duration::from_secs(2));
    /// assert_eq!(diff.left[0].key, "u1");
    /// # Ok::<(), realtime_proto::PayloadError>(())
    /// ```
    #[must_use]
    pub const fn with_grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// The members in the order in which they came.
    pub fn members(&self) -> impl Iterator<Item = (&str, &[Meta])> {
        self.members.iter().map(|(key, entry)| (key, entry.metas.as_slice()))
    }

    /// Each member with its metas read as `T`s, in the order in which they came. A member whose
    /// metas do not fit is an error of its own.
    ///
    /// # Examples
    ///
    /// ```
    /// use realtime_proto::{Instant, Payload, Presence};
    ///
    /// #[derive(serde::Deserialize)]
    /// struct Viewer<'a> {
    ///     name: &'a str,
    /// }
    ///
    /// let state = r#"{"u1": {"metas": [{"name": "Ana", "phx_ref": "a"}]},
    ///                 "u2": {"metas": [{"phx_ref": "b"}]}}"#;
    /// let mut presence = Presence::default();
    /// presence.handle_state(&Payload::from_json(state)?, Instant::EPOCH)?;
    /// for (key, viewers) in presence.members_as::<Viewer<'_>>() {
    ///     match viewers {
    ///         Ok(viewers) => println!("{key} is {}", viewers[0].name),
    ///         Err(error) => println!("{key} is nobody we know: {error}"),
    ///     }
    /// }
    /// # assert_eq!(presence.members_as::<Viewer<'_>>().filter(|(_, v)| v.is_ok()).count(), 1);
    /// # Ok::<(), realtime_proto::PayloadError>(())
    /// ```
    pub fn members_as<'a, T: Deserialize<'a>>(
        &'a self,
    ) -> impl Iterator<Item = (&'a str, Result<Vec<T>, PayloadError>)> {
        self.members().map(|(key, metas)| (key, metas.iter().map(Meta::to).collect()))
    }

    /// The appearances of one member, oldest first; empty when it is not here.
    #[must_use]
    pub fn metas(&self, key: &str) -> &[Meta] {
        self.members.get(key).map_or(&[], |entry| entry.metas.as_slice())
    }

    /// A member with all that the server said of it; `None` when it is not here.
    #[must_use]
    pub fn member(&self, key: &str) -> Option<Member> {
        self.members.get(key).map(|entry| entry.to_member(key))
    }

    /// The members with all that the server said of them, in the order in which they came.
    pub fn list(&self) -> impl Iterator<Item = Member> {
        self.members.iter().map(|(key, entry)| entry.to_member(key))
    }

    /// Those that are missing since a reconnect and have not been told as gone, with the metas they
    /// had. Whoever follows what is told has them besides the [`members`](Self::members).
    pub fn missed(&self) -> impl Iterator<Item = Member> {
        self.missed.iter().map(|(key, entry)| entry.to_member(key))
    }

    /// How many members there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there is no member.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Whether the members may differ from the server's, because the snapshot of the current join
    /// has not come.
    #[must_use]
    pub const fn is_stale(&self) -> bool {
        matches!(self.snapshot, Snapshot::Awaited { .. })
    }

    /// A join was sent or the connection went: the members are stale, and the next snapshot decides.
    ///
    /// Diffs that were held for the snapshot of an older join are dropped, for the next snapshot
    /// has what they said. phoenix.js would apply them on top of it.
    ///
    /// # Examples
    ///
    /// ```
    /// use realtime_proto::{Instant, Payload, Presence};
    ///
    /// let mut presence = Presence::default();
    /// presence.handle_state(&Payload::empty(), Instant::EPOCH)?;
    /// presence.rejoin();
    /// assert!(presence.is_stale());
    /// # Ok::<(), realtime_proto::PayloadError>(())
    /// ```
    pub fn rejoin(&mut self) {
        self.snapshot = Snapshot::awaited();
    }

    /// The join was accepted, or the close of an older one came: diffs that came before were told to
    /// that one, and are dropped.
    ///
    /// The snapshot has what they said, and what took it back may have been told to nobody: a
    /// server shuts the older channel down before it makes the next. phoenix.js would apply them,
    /// and keep whoever left in between.
    ///
    /// # Examples
    ///
    /// ```
    /// use realtime_proto::{Instant, Payload, Presence};
    ///
    /// let mut presence = Presence::default();
    /// let diff = r#"{"joins": {"u1": {"metas": [{"phx_ref": "a"}]}}, "leaves": {}}"#;
    /// presence.handle_diff(&Payload::from_json(diff)?)?;
    /// presence.accept();
    /// presence.handle_state(&Payload::empty(), Instant::EPOCH)?;
    /// assert!(presence.is_empty());
    /// # Ok::<(), realtime_proto::PayloadError>(())
    /// ```
    pub fn accept(&mut self) {
        if let Snapshot::Awaited { held } = &mut self.snapshot {
            held.clear();
        }
    }

    /// Takes the payload of a `presence_state`. The cost is that of the snapshot.
    ///
    /// # Errors
    ///
    /// [`PayloadError`] when it is not one; nothing has changed then.
    ///
    /// # Examples
    ///
    /// ```
    /// use realtime_proto::{Instant, Payload, Presence};
    ///
    /// let mut presence = Presence::default();
    /// let state = Payload::from_json(r#"{"u1": {"metas": [{"phx_ref": "a"}]}}"#)?;
    /// let told = presence.handle_state(&state, Instant::EPOCH)?;
    /// assert!(told.diff.synced && told.diff.joined.len() == 1);
    /// assert!(!presence.is_stale());
    /// # Ok::<(), realtime_proto::PayloadError>(())
    /// ```
    pub fn handle_state(
        &mut self,
        payload: &Payload,
        now: Instant,
    ) -> Result<PresenceUpdate, PayloadError> {
        let snapshot = payload::read_state(payload, self.seed)?;
        let mut log = Log::new(self.seed, self.calls);
        diff::sync_state(&mut self.members, snapshot, &mut log);
        let rejoined = match &mut self.snapshot {
            Snapshot::Awaited { held } => {
                for diff in core::mem::take(held) {
                    diff::sync_diff(&mut self.members, diff, &mut log);
                }
                self.snapshot = Snapshot::Taken { gone_at: None };
                true
            }
            Snapshot::Taken { .. } => false,
        };
        let mut told = self.tell(log);
        told.diff.synced = true;
        if rejoined {
            self.begin_grace(&mut told.diff, now);
        }
        Ok(told)
    }

    /// Takes the payload of a `presence_diff`, or holds it for the snapshot. The cost is that of
    /// the members it names.
    ///
    /// # Errors
    ///
    /// [`PayloadError`] when it is not one; nothing has changed then.
    ///
    /// # Examples
    ///
    /// ```
    /// use realtime_proto::{Instant, Payload, Presence};
    ///
    /// let now = Instant::EPOCH;
    /// let mut presence = Presence::default();
    /// let diff = r#"{"joins": {"u1": {"metas": [{"phx_ref": "a"}]}}, "leaves": {}}"#;
    /// let told = presence.handle_diff(&Payload::from_json(diff)?)?;
    /// assert!(told.diff.is_empty(), "the snapshot has not come");
    /// let told = presence.handle_state(&Payload::empty(), now)?;
    /// assert_eq!(told.diff.joined[0].key, "u1");
    /// # Ok::<(), realtime_proto::PayloadError>(())
    /// ```
    pub fn handle_diff(&mut self, payload: &Payload) -> Result<PresenceUpdate, PayloadError> {
        let diff = payload::read_diff(payload, self.seed)?;
        if let Snapshot::Awaited { held } = &mut self.snapshot {
            let overflow = held.len() >= self.diffs_held_max;
            if !overflow {
                held.push_back(diff);
            }
            return Ok(PresenceUpdate { overflow, ..PresenceUpdate::default() });
        }
        let mut log = Log::new(self.seed, self.calls);
        diff::sync_diff(&mut self.members, diff, &mut log);
        Ok(self.tell(log))
    }

    /// When to call [`handle_timeout`](Self::handle_timeout): the end of the grace for those that
    /// are missing since a reconnect. `None` while nobody is missing, and while the members are
    /// stale, when nothing can be said about who is gone.
    ///
    /// # Examples
    ///
    /// ```
    /// use realtime_proto::Presence;
    ///
    /// assert_eq!(Presence::default().poll_timeout(), None);
    /// ```
    #[must_use]
    pub const fn poll_timeout(&self) -> Option<Instant> {
        match &self.snapshot {
            Snapshot::Awaited { .. } => None,
            Snapshot::Taken { gone_at } => *gone_at,
        }
    }

    /// The deadline of [`poll_timeout`](Self::poll_timeout) came: whoever is still missing has
    /// left. Early or repeated calls tell nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// use realtime_proto::{Instant, Presence};
    ///
    /// assert!(Presence::default().handle_timeout(Instant::EPOCH).is_empty());
    /// ```
    pub fn handle_timeout(&mut self, now: Instant) -> PresenceDiff {
        let mut diff = PresenceDiff::default();
        if let Snapshot::Taken { gone_at } = &mut self.snapshot {
            if gone_at.is_some_and(|at| at <= now) {
                *gone_at = None;
                self.forget_missed(0, &mut diff);
            }
        }
        diff
    }

    /// What was merged, in both views, within the limits.
    fn tell(&mut self, mut log: Log) -> PresenceUpdate {
        log.call(|| PresenceCall::Sync);
        let overflow = self.enforce(&log);
        let diff = fold::fold(log.before, &self.members, &mut self.missed);
        if let (Snapshot::Taken { gone_at }, true) = (&mut self.snapshot, self.missed.is_empty()) {
            *gone_at = None;
        }
        PresenceUpdate { diff, calls: log.calls.unwrap_or_default(), overflow }
    }

    /// Leaves out what is beyond the limits: of what was touched the newest metas, and the members
    /// that came last, which were touched too.
    fn enforce(&mut self, log: &Log) -> bool {
        let mut overflow = false;
        for (key, _) in log.before.iter() {
            if let Some(entry) = self.members.get_mut(key) {
                overflow |= entry.metas.len() > self.metas_max;
                entry.metas.truncate(self.metas_max);
            }
        }
        while self.members.len() > self.keys_max {
            overflow = true;
            self.members.pop_last();
        }
        overflow
    }

    /// Keeps those that the first snapshot after a rejoin made leave, until the grace is over.
    fn begin_grace(&mut self, diff: &mut PresenceDiff, now: Instant) {
        if self.grace.is_zero() {
            return;
        }
        for Member { key, metas, extra } in core::mem::take(&mut diff.left) {
            self.missed.insert(key, Entry { metas, extra });
        }
        self.forget_missed(self.keys_max, diff);
        let gone_at = (!self.missed.is_empty()).then(|| now + self.grace);
        self.snapshot = Snapshot::Taken { gone_at };
    }

    /// Tells of all but the first `max` that are missed that they left.
    fn forget_missed(&mut self, max: usize, diff: &mut PresenceDiff) {
        if self.missed.len() > max {
            let missed = core::mem::replace(&mut self.missed, Keyed::new(self.seed));
            for (key, entry) in missed.into_entries() {
                if self.missed.len() < max {
                    self.missed.insert(key, entry);
                } else {
                    diff.left.push(entry.into_member(key));
                }
            }
        }
    }
}
