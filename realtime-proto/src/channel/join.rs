//! Joining, failing and leaving: how the steps of the transition table are carried out.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use super::gap::Resumed;
use super::push::Target;
use super::slot::Slot;
use super::state::{Input, Joined, Rows, Sent, State, Step, step};
use crate::config::Flavor;
use crate::context::Context;
use crate::event::{ChannelEvent, Event};
use crate::outbox::Outgoing;
use crate::payload::Payload;
use crate::socket::Waiter;
use crate::supabase::{Binding, Cause, CauseKind, JoinResponse, Retry};
use crate::time::Instant;
use crate::timer::Timer;

/// Whether a channel is still there after an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Fate {
    Stays,
    Gone,
}

/// Why a channel that is joined joins again.
pub(crate) const PRESENCE_ENABLED: &str = "presence was enabled";
pub(crate) const BINDINGS_CHANGED: &str = "the row-change bindings changed";
pub(crate) const APPLICATION_ASKED: &str = "the application asked for it";

/// A channel that was joined this long starts its retry ladder anew.
const STABLE_AFTER: Duration = Duration::from_secs(10);

impl Slot {
    /// Takes an input for which the state is all that counts.
    pub(crate) fn on_input(&mut self, input: Input, ctx: &mut Context) -> Fate {
        self.on_trouble(input, Cause::new(CauseKind::Requested), ctx)
    }

    /// Takes an input that comes with a cause.
    pub(crate) fn on_trouble(&mut self, input: Input, cause: Cause, ctx: &mut Context) -> Fate {
        match step(self.state.name(), input) {
            Step::Ignore => {}
            Step::Stale => ctx.stats.stale_messages += 1,
            Step::Queue => {
                if let State::Joined(joined) = &mut self.state {
                    joined.rejoins.get_or_insert(cause);
                    self.fall(ctx);
                }
                self.queue(ctx);
            }
            Step::Join => self.join(ctx),
            Step::Accept => unreachable!("an accepted join comes with its response"),
            Step::Fail => self.fail(cause, ctx),
            Step::LeaveAndFail => self.leave_and_fail(cause, ctx),
            Step::Park => self.park(cause, ctx),
            Step::Shut => return self.shut(ctx),
            Step::Leave => self.leave(ctx),
            Step::End => return self.end(Cause::new(CauseKind::Requested), ctx),
        }
        Fate::Stays
    }

    /// Takes the refusal of the current join.
    pub(crate) fn on_join_refused(&mut self, mut cause: Cause, ctx: &mut Context) -> Fate {
        let replays = matches!(&self.state, State::Joining { sent, .. } if sent.replay);
        if replays && matches!(cause.kind, CauseKind::ReplayFailed | CauseKind::ReplayRefused) {
            // The application did not ask for this replay, and joins without it.
            self.streams.give_up_replay();
            cause.kind = CauseKind::ReplayFailed;
        }
        self.on_trouble(Input::JoinRefused, cause, ctx)
    }

    /// Takes the acceptance of the current join.
    pub(crate) fn on_join_accepted(&mut self, response: Payload, ctx: &mut Context) {
        if step(self.state.name(), Input::JoinAccepted) != Step::Accept {
            ctx.stats.stale_messages += 1;
            return;
        }
        let State::Joining { join_ref, sent } = &mut self.state else {
            unreachable!("only a joining channel accepts");
        };
        let (join_ref, sent) = (*join_ref, core::mem::take(sent));
        let asked = match &self.config.flavor {
            Flavor::Phoenix { .. } => Some(Vec::new()),
            Flavor::Supabase(_) => match_bindings(sent.bindings, &response),
        };
        let Some(asked) = asked else {
            let text = "the reply confirms other bindings than the join asked for";
            return self.leave_and_fail(Cause::with_text(CauseKind::BindingMismatch, text), ctx);
        };
        ctx.timers.cancel(Timer::Join(self.id));
        ctx.stats.joins_accepted += 1;
        // Replies to pushes of an older join come before the reply to this one or not at all.
        self.pushes.interrupt(self.id, ctx);
        self.joined_at = Some(ctx.now);
        let awaits_replication = self.config.awaits_replication();
        // Broadcasts of the database may be missing until the server says that they come. A replay
        // begins at once.
        let resumed = if awaits_replication && !sent.replay {
            Resumed::Afresh
        } else {
            self.streams.on_joined(sent.replay, ctx.now)
        };
        let mut joined = Joined {
            join_ref,
            presence: sent.presence,
            awaits_presence: sent.presence,
            rows: if asked.is_empty() { Rows::Unasked } else { Rows::Awaited },
            awaits_replication,
            asked,
            ids: Vec::new(),
            trouble: None,
            rejoins: None,
        };
        let served = |(place, binding)| Some((joined.id_of(binding)?, place));
        joined.ids = self.bindings().filter_map(served).collect();
        self.enter(State::Joined(joined), ctx.now);
        // Diffs that came until now were told to an older join. The snapshot has what they said,
        // and what took it back may have been told to nobody.
        if sent.renews {
            // The same holds of a snapshot, whether or not it named its join.
            self.presence.rejoin();
        } else {
            self.presence.accept();
        }
        ctx.emit(self.id, ChannelEvent::Joined { response });
        self.on_resumed(resumed, ctx);
        if self.config.is_supabase() && self.token_version != ctx.token.version {
            self.push_token(ctx);
        }
        self.track.on_joined(ctx);
        self.flush_track(ctx);
        let (channel, overflow) = (self.id, self.config.overflow);
        let target = Target { channel, topic: &self.topic, joined: Some(join_ref), overflow };
        self.pushes.flush(join_ref, target, ctx);
        // What was asked for since the join was written takes another one, and flows only then.
        if self.config.presence() != sent.presence {
            self.plan_rejoin(PRESENCE_ENABLED, ctx);
        } else if !self.serves_bindings() {
            self.plan_rejoin(BINDINGS_CHANGED, ctx);
        }
        self.check_live(ctx);
    }

    /// Emits `Live` when the last thing that was awaited has come.
    pub(crate) fn check_live(&mut self, ctx: &mut Context) {
        let live = matches!(&self.state, State::Joined(joined) if joined.is_live());
        if live && self.set_live(true, ctx.now) {
            ctx.stats.channels_live += 1;
            ctx.emit(self.id, ChannelEvent::Live);
        }
    }

    /// Stops being live.
    pub(crate) fn fall(&mut self, ctx: &mut Context) {
        if self.set_live(false, ctx.now) {
            ctx.stats.channels_live -= 1;
        }
    }

    /// Sends the current token to the server, which never answers it.
    pub(crate) fn push_token(&mut self, ctx: &mut Context) {
        let Some(connection) = ctx.socket.connection() else { return };
        self.token_version = ctx.token.version;
        self.token_told_at = Some(ctx.now);
        self.streams.on_token(ctx.now);
        if !core::mem::replace(&mut self.token_queued, true) {
            ctx.outbox.push(Outgoing::Token { socket: connection.id, channel: self.id });
        }
    }

    /// Whether the channel joins by itself as soon as there is a connection.
    pub(crate) const fn joins_on_connect(&self) -> bool {
        !self.gave_up
    }

    /// Lets the next attempt wait until `at`.
    pub(crate) fn put_off_retry(&mut self, at: Instant, ctx: &mut Context) {
        if let State::Errored { retry_at: Some(retry_at), .. } = &mut self.state {
            *retry_at = at;
            ctx.timers.set(Timer::Rejoin(self.id), at);
        }
    }

    fn queue(&mut self, ctx: &mut Context) {
        ctx.timers.cancel(Timer::Rejoin(self.id));
        self.gave_up = false;
        if ctx.socket.connection().is_some() {
            ctx.joins.push(self.id);
        }
    }

    fn join(&mut self, ctx: &mut Context) {
        let Some(connection) = ctx.socket.connection_mut() else { return };
        let socket = connection.id;
        let join_ref = connection.make_ref_for(Waiter::Join(self.id), ctx.now);
        ctx.outbox.push(Outgoing::Join { socket, channel: self.id, join_ref });
        let timeout = ctx.config.join_timeout.max(self.waits_within().unwrap_or_default());
        ctx.timers.set(Timer::Join(self.id), ctx.now + timeout);
        ctx.stats.joins += 1;
        (self.token_told_at, self.token_queued) = (None, false);
        let renews = self.left_on.take() == Some(socket);
        let mut sent = Sent { renews, ..Sent::default() };
        if let State::Joined(joined) = &mut self.state {
            (sent.replaces, sent.renews) = (Some(joined.join_ref), true);
            let cause = joined.rejoins.take();
            let cause = cause.unwrap_or_else(|| Cause::new(CauseKind::Rejoined));
            self.lower(&cause, ctx);
            ctx.emit(self.id, ChannelEvent::Rejoining { cause });
        }
        self.joins += 1;
        self.enter(State::Joining { join_ref, sent }, ctx.now);
    }

    /// Joins again in turn, because what the channel asks for changed. Another state than joined
    /// needs nothing: its next join asks for what is wanted then.
    pub(crate) fn plan_rejoin(&mut self, why: &'static str, ctx: &mut Context) {
        let cause = Cause::with_text(CauseKind::Rejoined, why);
        let fate = self.on_trouble(Input::ConfigChanged, cause, ctx);
        debug_assert_eq!(fate, Fate::Stays, "joining again does not end a channel");
    }

    fn fail(&mut self, cause: Cause, ctx: &mut Context) {
        self.lower(&cause, ctx);
        self.forget_join(ctx);
        self.pushes.interrupt(self.id, ctx);
        let mut retry = cause.kind.retry();
        if retry == Retry::NewToken && self.speaks_of_older_token(ctx) {
            retry = Retry::Backoff;
        }
        let needs_token = retry == Retry::NewToken;
        let retry_at = if retry == Retry::Backoff { self.plan_retry(&cause, ctx) } else { None };
        self.gave_up = retry_at.is_none();
        let rejected = matches!(cause.kind, CauseKind::TokenExpired | CauseKind::TokenInvalid);
        self.enter(State::Errored { cause: cause.clone(), retry_at }, ctx.now);
        ctx.emit(self.id, ChannelEvent::Errored { cause: cause.clone(), retry_at });
        if needs_token {
            if rejected {
                ctx.token.reject();
            }
            ctx.events.push_back(Event::TokenNeeded { cause, deadline: None });
        }
    }

    /// Whether the server may not have seen the current token when it rejected one: the join was
    /// written with another, or the new one may still have been on its way.
    fn speaks_of_older_token(&self, ctx: &Context) -> bool {
        let told_lately = |at| ctx.now < at + ctx.config.join_timeout;
        self.token_version != ctx.token.version || self.token_told_at.is_some_and(told_lately)
    }

    fn plan_retry(&mut self, cause: &Cause, ctx: &mut Context) -> Option<Instant> {
        self.attempts = self.attempts.saturating_add(1);
        let backoff = self.config.rejoin.as_ref().unwrap_or(&ctx.config.rejoin);
        let delay = backoff.delay(self.attempts, &mut ctx.rng)?;
        let retry_at = ctx.now + delay.max(cause.retry_after.unwrap_or_default());
        ctx.timers.set(Timer::Rejoin(self.id), retry_at);
        Some(retry_at)
    }

    fn leave_and_fail(&mut self, cause: Cause, ctx: &mut Context) {
        if let (Some(join_ref), Some(connection)) =
            (self.state.known_join_ref(), ctx.socket.connection_mut())
        {
            let (socket, msg_ref) = (connection.id, connection.make_ref());
            let topic = Arc::clone(&self.topic);
            ctx.outbox.push(Outgoing::Leave { socket, topic, join_ref, msg_ref });
            self.left_on = Some(socket);
        }
        self.fail(cause, ctx);
    }

    /// The connection went: the channel joins again when it is back, whatever it waited for.
    fn park(&mut self, cause: Cause, ctx: &mut Context) {
        self.lower(&cause, ctx);
        // The next connection counts its refs from 1 again, so none may be kept.
        self.track.forget(ctx);
        self.pushes.interrupt(self.id, ctx);
        ctx.timers.cancel(Timer::Join(self.id));
        ctx.timers.cancel(Timer::Rejoin(self.id));
        if let State::Errored { retry_at, .. } = &mut self.state {
            *retry_at = None;
            return;
        }
        self.enter(State::Errored { cause: cause.clone(), retry_at: None }, ctx.now);
        ctx.emit(self.id, ChannelEvent::Errored { cause, retry_at: None });
    }

    /// The server closed the channel. Plain Phoenix means it; Supabase said why just before.
    fn shut(&mut self, ctx: &mut Context) -> Fate {
        let trouble = match &mut self.state {
            State::Joined(joined) => joined.trouble.take(),
            State::Closed
            | State::Joining { .. }
            | State::Errored { .. }
            | State::Leaving { .. } => None,
        };
        let cause = trouble.unwrap_or_else(|| Cause::new(CauseKind::ChannelClosed));
        if cause.kind == CauseKind::ChannelClosed {
            return self.end(cause, ctx);
        }
        self.fail(cause, ctx);
        Fate::Stays
    }

    fn leave(&mut self, ctx: &mut Context) {
        let Some(join_ref) = self.state.known_join_ref() else {
            unreachable!("only a joining or joined channel leaves");
        };
        self.lower(&Cause::new(CauseKind::Requested), ctx);
        self.forget_join(ctx);
        self.pushes.discard(self.id, ctx);
        let Some(connection) = ctx.socket.connection_mut() else {
            unreachable!("a joining or joined channel has a connection");
        };
        let socket = connection.id;
        let leave_ref = connection.make_ref_for(Waiter::Leave(self.id), ctx.now);
        let topic = Arc::clone(&self.topic);
        ctx.outbox.push(Outgoing::Leave { socket, topic, join_ref, msg_ref: leave_ref });
        ctx.timers.set(Timer::Leave(self.id), ctx.now + ctx.config.leave_timeout);
        self.enter(State::Leaving { join_ref, leave_ref }, ctx.now);
    }

    pub(crate) fn end(&mut self, cause: Cause, ctx: &mut Context) -> Fate {
        self.lower(&cause, ctx);
        self.forget_join(ctx);
        if let (State::Leaving { leave_ref, .. }, Some(connection)) =
            (&self.state, ctx.socket.connection_mut())
        {
            connection.forget(*leave_ref);
        }
        self.pushes.close(self.id, ctx);
        let timers = [
            Timer::Join(self.id),
            Timer::Rejoin(self.id),
            Timer::Leave(self.id),
            Timer::Presence(self.id),
            Timer::PresenceGrace(self.id),
            Timer::Replay(self.id),
        ];
        timers.into_iter().for_each(|timer| ctx.timers.cancel(timer));
        ctx.emit(self.id, ChannelEvent::Closed { cause });
        Fate::Gone
    }

    /// The channel stops being joined: what it shows is out of date from here on.
    fn lower(&mut self, why: &Cause, ctx: &mut Context) {
        self.break_streams(ctx.whole_until, why, ctx);
        self.fall(ctx);
        let joined_for = self.joined_at.take().map(|at| ctx.now.saturating_duration_since(at));
        if joined_for.is_some_and(|span| span >= STABLE_AFTER) {
            self.attempts = 0;
        }
        ctx.joins.remove(self.id);
        ctx.timers.cancel(Timer::Presence(self.id));
        ctx.timers.cancel(Timer::PresenceGrace(self.id));
        self.presence.rejoin();
    }

    /// A reply to the current join, or to what was shown on it, that still comes is stale.
    fn forget_join(&mut self, ctx: &mut Context) {
        self.track.forget(ctx);
        ctx.timers.cancel(Timer::Join(self.id));
        if let (State::Joining { join_ref, .. }, Some(connection)) =
            (&self.state, ctx.socket.connection_mut())
        {
            connection.forget(*join_ref);
        }
    }
}

/// The bindings with the ids of the server's reply; `None` when it confirms other bindings.
///
/// Protocol §5.2.
fn match_bindings(sent: Vec<Binding>, response: &Payload) -> Option<Vec<(Binding, Option<u64>)>> {
    let Ok(response) = response.to::<JoinResponse<'_>>() else {
        // Without ids no change could be told.
        return sent.is_empty().then(Vec::new);
    };
    // Before row changes existed, and on a channel without them, the reply says nothing.
    let Some(accepted) = response.postgres_changes else {
        return Some(sent.into_iter().map(|binding| (binding, None)).collect());
    };
    let accepted: Vec<_> = accepted.into_iter().flatten().collect();
    let confirmed = accepted.len() == sent.len()
        && accepted.iter().zip(&sent).all(|(accepted, sent)| accepted.answers(sent));
    let ids = accepted.into_iter().map(|accepted| Some(accepted.id));
    confirmed.then(|| sent.into_iter().zip(ids).collect())
}
