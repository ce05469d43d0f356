//! What a channel may have missed while it was not joined, and what a replay brought back.
//!
//! A channel carries up to two streams: the messages of its topic, and row changes. Each either
//! flows or is broken since some moment. When a broken one flows again, the application is told
//! the window, or that the server's store closed it.

use alloc::collections::VecDeque;
use core::time::Duration;

use super::slot::Slot;
use super::state::{Rows, State};
use crate::context::Context;
use crate::event::{BindingId, BindingSet, ChannelEvent};
use crate::supabase::{BroadcastMeta, Cause, CauseKind, Replay, Retry};
use crate::time::Instant;
use crate::timer::Timer;

/// A span of time in which messages may have been missed; whatever the channel carried outside of
/// such spans was delivered, once.
///
/// Fetch what changed in the meantime, or draw what depends on it anew.
///
/// One thing alone cannot be told: that a server began its row changes anew without a word of
/// error, when it says so within ten seconds of another access token, for which it says the same.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Gap {
    /// What may have been missed.
    pub stream: Stream,
    /// When the last request went out that the server still answered: all that the server had sent
    /// by then has come.
    ///
    /// Of row changes that the server itself stopped or began anew: when that held for the last
    /// time before the last of them came, for it may have said so late.
    pub from: Instant,
    /// When it flowed again.
    pub to: Instant,
    /// `from` as the time since the Unix epoch, by this machine's wall clock; `None` unless the
    /// driver told it with [`set_unix_time`](crate::Client::set_unix_time).
    pub from_unix: Option<Duration>,
    /// Why it had stopped.
    pub why: Cause,
    /// Which loss of its channel it was, counted from one; zero where no channel counts.
    pub(crate) loss: u64,
}

/// What a [`Gap`] is about.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stream {
    /// The broadcasts of a Supabase channel, or the messages of a Phoenix one.
    Messages,
    /// Row changes.
    Changes {
        /// Of these bindings, which had flowed before.
        bindings: BindingSet,
        /// When the last change that was delivered had been committed, by the database's clock,
        /// since the Unix epoch; `None` when none was delivered.
        ///
        /// This is the exact place to go on from: what was missed was committed then or later.
        last_commit: Option<Duration>,
    },
}

/// What a replay brought back after a channel was joined again.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovery {
    /// Stored broadcasts that were missed, and have been delivered by now.
    pub replayed: u32,
    /// Whether these are all the stored ones there were: the replay reached back to one that was
    /// delivered before. Otherwise a [`Gap`] follows.
    pub contiguous: bool,
    /// The begin of the window, as in [`Gap::from`].
    pub from: Instant,
    /// When the channel was joined again. Broadcasts that no server stores, those that clients
    /// send without asking for it, are missing from this window even if it is `contiguous`.
    pub to: Instant,
    /// Why the channel had stopped.
    pub why: Cause,
    /// Which loss of its channel it was, counted from one.
    pub(crate) loss: u64,
}

/// The most that a server replays at once (protocol §5.7).
const REPLAY_MAX: u32 = 25;

/// Ids that are remembered, so that a replay delivers nothing twice. A replay holds at most
/// [`REPLAY_MAX`] of them.
const IDS_MAX: usize = 64;

/// How long after the join its replay has come. It is sent right behind the reply to the join, and
/// nothing marks its end.
const REPLAY_SETTLES_AFTER: Duration = Duration::from_secs(2);

/// How much earlier than the last stored broadcast a replay is asked for, so that the broadcast
/// itself is in it although the clocks of client and server differ.
const REPLAY_MARGIN: Duration = Duration::from_secs(60);

/// How long after another token the server says again that row changes flow. Until then that
/// cannot be told from a restart; later it is taken for one, after which something may be missing.
const RENEWED_WITHIN: Duration = Duration::from_secs(10);

/// The streams of one channel.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    messages: Flow,
    changes: Flow,
    /// The bindings whose changes flowed before they stopped.
    flowed: BindingSet,
    /// Numbers the moments at which a stream may have been lost.
    losses: u64,
    /// Up to when the changes that were delivered are known to be all.
    changes_whole_until: Instant,
    last_commit: Option<Duration>,
    renewals: Renewals,
    /// The stored broadcast up to which nothing stored is missing.
    anchor: Option<Stored>,
    /// The stored broadcast that was delivered last.
    newest: Option<Stored>,
    /// The ids of the stored broadcasts that were delivered, oldest first.
    ids: VecDeque<u128>,
    replay: Option<Replaying>,
}

/// How often the server may say that row changes flow although they never stopped: once for each
/// access token that it was told, or not at all if it does not mind the token.
#[derive(Debug, Default)]
struct Renewals {
    awaited: u32,
    until: Instant,
}

impl Renewals {
    fn on_token(&mut self, now: Instant) {
        let awaited = if now < self.until { self.awaited } else { 0 };
        *self = Self { awaited: awaited + 1, until: now + RENEWED_WITHIN };
    }

    /// Takes one, if there is one.
    fn take(&mut self, now: Instant) -> bool {
        let is_one = self.awaited > 0 && now < self.until;
        self.awaited -= u32::from(is_one);
        is_one
    }
}

/// Whether a stream flows.
#[derive(Debug, Default)]
enum Flow {
    /// It never did.
    #[default]
    Idle,
    Flowing,
    Broken(Loss),
}

/// Why a stream does not flow, and since when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Loss {
    number: u64,
    /// The last moment up to which everything came.
    from: Instant,
    why: Cause,
}

/// A stored broadcast, and when it was stored: not before that, but for the delay of its delivery.
#[derive(Clone, Copy, Debug)]
struct Stored {
    id: u128,
    /// `None` when the application asked for it: some time after what it asked for.
    at: Option<Instant>,
}

/// A replay that comes in.
#[derive(Debug)]
struct Replaying {
    loss: Loss,
    to: Instant,
    /// Messages of it that came.
    seen: u32,
    /// Those of them that were new.
    new: u32,
    /// Whether the anchor was among them.
    reached: bool,
}

/// What is told when messages flow again.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Resumed {
    /// They flow for the first time: nothing was missed.
    Afresh,
    /// They may have been missed.
    Gap(Loss),
    /// A replay was asked for, which tells.
    Replaying,
}

/// What to do with a broadcast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Deliver,
    /// It was delivered before.
    Duplicate,
}

impl Streams {
    /// The join ended, or what came on it was lost: from now on things are missed. `from` is the
    /// last moment up to which everything came.
    pub(crate) fn on_lost(&mut self, served: BindingSet, from: Instant, why: &Cause) {
        let loss = self.lose(from, why);
        if let Some(replay) = self.replay.take() {
            // What is missing is asked for from the same place again; ids tell what came already.
            self.messages = Flow::Broken(Loss { number: loss.number, ..replay.loss });
        } else {
            match &mut self.messages {
                Flow::Idle => {}
                Flow::Flowing => {
                    self.anchor = self.newest;
                    self.messages = Flow::Broken(loss.clone());
                }
                // Something was lost while the channel went on, and whoever came since misses what
                // the end of the join costs.
                Flow::Broken(held) => {
                    held.number = loss.number;
                    if let Flow::Broken(held) = &mut self.changes {
                        held.number = loss.number;
                    }
                }
            }
        }
        self.on_changes_lost(served, loss);
        self.renewals = Renewals::default();
    }

    /// The server says that row changes stopped, if they flowed. It says so when it fails to begin
    /// anew, some time after they stopped without a word.
    pub(crate) fn on_changes_stopped(&mut self, served: BindingSet, why: &Cause) {
        let loss = self.lose(self.changes_whole_until, why);
        self.on_changes_lost(served, loss);
    }

    fn on_changes_lost(&mut self, served: BindingSet, loss: Loss) {
        if matches!(self.changes, Flow::Flowing) {
            self.flowed = served;
            self.changes = Flow::Broken(loss);
        }
    }

    fn lose(&mut self, from: Instant, why: &Cause) -> Loss {
        self.losses += 1;
        Loss { number: self.losses, from, why: why.clone() }
    }

    /// How often a stream was lost so far: whoever comes now missed nothing by these losses.
    pub(crate) const fn losses(&self) -> u64 {
        self.losses
    }

    /// Which stored broadcasts are to be replayed; `None` when nothing was missed, when there is
    /// none to go on from, or when `unix` does not know the wall clock. `first` is what the
    /// application asks for.
    pub(crate) fn missed(
        &self,
        first: Option<Replay>,
        unix: impl FnOnce(Instant) -> Option<Duration>,
    ) -> Option<Replay> {
        let anchor = self.anchor.filter(|_| matches!(self.messages, Flow::Broken(_)))?;
        match anchor.at {
            Some(at) => Some(Replay::since(unix(at)?.saturating_sub(REPLAY_MARGIN))),
            None => Some(Replay { limit: None, ..first? }),
        }
    }

    /// The server cannot replay what was missed, so that nobody asks for it again: the gap is told.
    pub(crate) const fn give_up_replay(&mut self) {
        self.anchor = None;
    }

    /// The join was accepted. `asked` tells whether it asked for what was
    /// [`missed`](Self::missed).
    pub(crate) fn on_joined(&mut self, asked: bool, now: Instant) -> Resumed {
        match core::mem::replace(&mut self.messages, Flow::Flowing) {
            Flow::Idle | Flow::Flowing => Resumed::Afresh,
            Flow::Broken(loss) if asked => {
                self.replay = Some(Replaying { loss, to: now, seen: 0, new: 0, reached: false });
                Resumed::Replaying
            }
            Flow::Broken(loss) => {
                self.anchor = self.newest;
                Resumed::Gap(loss)
            }
        }
    }

    /// Broadcasts of the database come, on a join that asked to be told so.
    pub(crate) fn on_replication_ready(&mut self, joined_at: Instant, now: Instant) -> Resumed {
        match self.messages {
            Flow::Idle | Flow::Broken(_) => self.on_joined(false, now),
            // A replay was asked for, which brings what was stored before the join.
            Flow::Flowing if now < joined_at + REPLAY_SETTLES_AFTER => Resumed::Afresh,
            Flow::Flowing => {
                Resumed::Gap(self.lose(joined_at, &Cause::new(CauseKind::ChangesRestarted)))
            }
        }
    }

    /// A broadcast came; `replayed` when the server itself says that it comes from its store.
    pub(crate) fn on_broadcast(
        &mut self,
        meta: Option<&BroadcastMeta>,
        replayed: bool,
        now: Instant,
    ) -> Verdict {
        let id = meta.and_then(|meta| meta.id.as_deref()).and_then(parse_uuid);
        let known = id.is_some_and(|id| self.ids.contains(&id));
        if let (Some(replay), true) = (&mut self.replay, replayed) {
            replay.seen += 1;
            replay.reached |= id.is_some() && id == self.anchor.map(|anchor| anchor.id);
            replay.new += u32::from(!known);
        }
        if known && (replayed || self.replay.is_some()) {
            return Verdict::Duplicate;
        }
        if let (Some(id), false) = (id, known) {
            if self.ids.len() >= IDS_MAX {
                self.ids.pop_front();
            }
            self.ids.push_back(id);
            let at = match &self.replay {
                // What is replayed was stored while the channel was away.
                Some(replay) if replayed => Some(replay.loss.from),
                None if replayed => None,
                Some(_) | None => Some(now),
            };
            self.newest = Some(Stored { id, at });
        }
        Verdict::Deliver
    }

    /// Whether the replay has brought as much as one can.
    pub(crate) fn is_replay_full(&self) -> bool {
        self.replay.as_ref().is_some_and(|replay| replay.seen >= REPLAY_MAX)
    }

    /// The replay is over; what it brought, if there was one.
    pub(crate) fn finish_replay(&mut self) -> Option<Recovery> {
        let Replaying { loss, to, new, reached, .. } = self.replay.take()?;
        let Loss { number, from, why } = loss;
        self.anchor = self.newest;
        Some(Recovery { replayed: new, contiguous: reached, from, to, why, loss: number })
    }

    /// The server said that row changes flow. Tells since when they may have been missed, and why.
    pub(crate) fn on_subscribed(
        &mut self,
        served: BindingSet,
        known: Instant,
        now: Instant,
    ) -> Option<Loss> {
        if matches!(self.changes, Flow::Flowing) && self.renewals.take(now) {
            return None;
        }
        let missed = match core::mem::replace(&mut self.changes, Flow::Flowing) {
            Flow::Idle => None,
            Flow::Flowing => {
                // They stopped without a word, so all that the join has are concerned.
                self.flowed = served;
                let why = Cause::new(CauseKind::ChangesRestarted);
                Some(self.lose(self.changes_whole_until, &why))
            }
            Flow::Broken(loss) => Some(loss),
        };
        self.changes_whole_until = known;
        missed
    }

    /// A row change is delivered; `known` is the moment up to which everything came.
    pub(crate) const fn on_change(&mut self, committed: Option<Duration>, known: Instant) {
        self.changes_whole_until = known;
        if committed.is_some() {
            self.last_commit = committed;
        }
    }

    /// The stream of row changes, as a gap of it names it; `None` when none of the bindings had
    /// flowed before.
    fn changes(&self) -> Option<Stream> {
        let (bindings, last_commit) = (self.flowed, self.last_commit);
        (!bindings.is_empty()).then_some(Stream::Changes { bindings, last_commit })
    }

    /// A binding is gone, and its place may be taken by another.
    pub(crate) const fn forget(&mut self, binding: BindingId) {
        self.flowed.remove(binding);
    }

    /// The server was told another token.
    pub(crate) fn on_token(&mut self, now: Instant) {
        self.renewals.on_token(now);
    }
}

impl Slot {
    /// What the join carried may be missed from now on; `from` is the last moment up to which
    /// everything came. Without effect on a channel that is not joined.
    pub(crate) fn break_streams(&mut self, from: Instant, why: &Cause, ctx: &mut Context) {
        let State::Joined(joined) = &self.state else { return };
        self.streams.on_lost(joined.served(), from, why);
        ctx.timers.cancel(Timer::Replay(self.id));
    }

    /// The server said that row changes do not flow: it tries again, or it never will.
    pub(crate) fn on_changes_stopped(&mut self, cause: Cause, ctx: &mut Context) {
        let State::Joined(joined) = &mut self.state else { return };
        if matches!(joined.rows, Rows::Unasked) {
            return;
        }
        joined.rows = match cause.kind.retry() {
            Retry::Never => Rows::Refused(cause.clone()),
            Retry::Backoff | Retry::NewToken => Rows::Awaited,
        };
        self.streams.on_changes_stopped(joined.served(), &cause);
        self.fall(ctx);
        ctx.emit(self.id, ChannelEvent::ChangesStopped { cause });
    }

    /// The channel is joined: tells what may have been missed, or waits for the replay.
    pub(super) fn on_resumed(&self, resumed: Resumed, ctx: &mut Context) {
        match resumed {
            Resumed::Afresh => {}
            Resumed::Gap(loss) => self.tell_gap(Stream::Messages, loss, ctx),
            Resumed::Replaying => {
                ctx.timers.set(Timer::Replay(self.id), ctx.now + REPLAY_SETTLES_AFTER);
            }
        }
    }

    /// Broadcasts of the database reach the channel: tells what may have been missed until now.
    pub(crate) fn on_replication_ready(&mut self, ctx: &mut Context) {
        let joined_at = self.joined_at.unwrap_or(ctx.now);
        let resumed = self.streams.on_replication_ready(joined_at, ctx.now);
        self.on_resumed(resumed, ctx);
    }

    /// The replay has come: tells what it brought, and whether something may still be missing.
    pub(crate) fn finish_replay(&mut self, ctx: &mut Context) {
        ctx.timers.cancel(Timer::Replay(self.id));
        let Some(recovery) = self.streams.finish_replay() else { return };
        let Recovery { loss: number, from, .. } = recovery;
        let gap = (!recovery.contiguous).then(|| Loss { number, from, why: recovery.why.clone() });
        ctx.emit(self.id, ChannelEvent::Recovered(recovery));
        if let Some(loss) = gap {
            self.tell_gap(Stream::Messages, loss, ctx);
        }
    }

    /// Row changes flow: tells since when they may have been missed.
    pub(crate) fn on_subscribed(&mut self, ctx: &mut Context) {
        let State::Joined(joined) = &self.state else { return };
        let served = joined.served();
        let Some(loss) = self.streams.on_subscribed(served, ctx.whole_until, ctx.now) else {
            return;
        };
        if let Some(stream) = self.streams.changes() {
            self.tell_gap(stream, loss, ctx);
        }
    }

    fn tell_gap(&self, stream: Stream, Loss { number, from, why }: Loss, ctx: &mut Context) {
        let (to, from_unix) = (ctx.now, ctx.token.unix(from));
        let gap = Gap { stream, from, to, from_unix, why, loss: number };
        ctx.emit(self.id, ChannelEvent::Gap(gap));
    }
}

/// The ids of a server's store are UUIDs; whatever else a sender calls an id is its own affair.
fn parse_uuid(text: &str) -> Option<u128> {
    let bytes = text.as_bytes();
    if bytes.len() != 36 {
        return None;
    }
    bytes.iter().enumerate().try_fold(0, |id: u128, (at, byte)| match (at, byte) {
        (8 | 13 | 18 | 23, b'-') => Some(id),
        (8 | 13 | 18 | 23, _) => None,
        _ => Some(id << 4 | u128::from(char::from(*byte).to_digit(16)?)),
    })
}
