//! One channel: what it asks for, its state, and what it holds.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use super::gap::Streams;
use super::join::PRESENCE_ENABLED;
use super::push::{Pushes, Target};
use super::state::{Joined, Rows, State};
use super::track::Track;
use crate::config::{ChannelConfig, Flavor};
use crate::context::Context;
use crate::error::PushError;
use crate::event::BindingId;
use crate::ids::{ChannelId, PushId, Ref, SocketId};
use crate::outbox::Message;
use crate::presence::Presence;
use crate::push::PushOptions;
use crate::supabase::Binding;
use crate::time::Instant;

/// A channel that is wanted, or is being left.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) id: ChannelId,
    pub(crate) topic: Arc<str>,
    /// The settings but for the bindings, which change while the channel lives.
    pub(crate) config: ChannelConfig,
    /// The row-change bindings by their [`BindingId`]; a hole is free.
    bindings: Vec<Option<Binding>>,
    pub(crate) state: State,
    pub(crate) pushes: Pushes,
    pub(crate) streams: Streams,
    pub(crate) presence: Presence,
    pub(crate) track: Track,
    /// Failed attempts in a row.
    pub(crate) attempts: u32,
    /// Since when it is in its state.
    pub(crate) since: Instant,
    /// Since when it is not live.
    down_since: Instant,
    /// How long it took to become live the last time.
    pub(crate) time_to_live: Option<Duration>,
    /// Joins that were sent.
    pub(crate) joins: u64,
    /// The connection on which the topic was left before; the server may have accepted that join.
    pub(crate) left_on: Option<SocketId>,
    /// When the current join was accepted.
    pub(crate) joined_at: Option<Instant>,
    /// Whether `Live` was told and still holds.
    pub(crate) live: bool,
    /// Whether only the application or another token makes the channel join again.
    pub(crate) gave_up: bool,
    /// The version of the token the server was told last.
    pub(crate) token_version: u64,
    /// When the server was told another token than the one of the join.
    pub(crate) token_told_at: Option<Instant>,
    /// Whether that waits for the driver, to be written with the token of then.
    pub(crate) token_queued: bool,
}

impl Slot {
    pub(crate) fn new(
        id: ChannelId,
        topic: Arc<str>,
        mut config: ChannelConfig,
        ctx: &Context,
    ) -> Self {
        let now = ctx.now;
        let presence = Presence::new(&ctx.config.limits, ctx.key_seed);
        let mut presence = presence.with_grace(config.presence_grace);
        if config.presence_calls {
            presence = presence.with_calls();
        }
        let bindings = match &mut config.flavor {
            Flavor::Supabase(join) => core::mem::take(&mut join.postgres_changes),
            Flavor::Phoenix { .. } => Vec::new(),
        };
        Self {
            id,
            topic,
            config,
            bindings: bindings.into_iter().map(Some).collect(),
            state: State::Closed,
            pushes: Pushes::default(),
            streams: Streams::default(),
            presence,
            track: Track::default(),
            attempts: 0,
            since: now,
            down_since: now,
            time_to_live: None,
            joins: 0,
            left_on: None,
            joined_at: None,
            live: false,
            gave_up: false,
            token_version: 0,
            token_told_at: None,
            token_queued: false,
        }
    }

    /// Goes to another state.
    pub(crate) fn enter(&mut self, state: State, now: Instant) {
        self.state = state;
        self.since = now;
    }

    /// Goes up or down, and tells whether that is news.
    pub(crate) fn set_live(&mut self, live: bool, now: Instant) -> bool {
        if self.live == live {
            return false;
        }
        self.live = live;
        if live {
            self.time_to_live = Some(now.saturating_duration_since(self.down_since));
        } else {
            self.down_since = now;
        }
        true
    }

    /// The current join, once it is accepted.
    pub(crate) const fn joined(&self) -> Option<Ref> {
        match &self.state {
            State::Joined(joined) => Some(joined.join_ref),
            State::Closed
            | State::Joining { .. }
            | State::Errored { .. }
            | State::Leaving { .. } => None,
        }
    }

    pub(crate) fn bindings(&self) -> impl Iterator<Item = (BindingId, &Binding)> {
        let slots = self.bindings.iter().enumerate();
        slots.filter_map(|(slot, binding)| Some((BindingId(slot as u8), binding.as_ref()?)))
    }

    /// What the join asks for: each binding once, however many places of the channel hold it.
    pub(crate) fn distinct_bindings(&self) -> Vec<Binding> {
        let mut distinct: Vec<Binding> = Vec::new();
        for (_, binding) in self.bindings() {
            if !distinct.contains(binding) {
                distinct.push(binding.clone());
            }
        }
        distinct
    }

    /// How long the answer to the join may take, if the server waits for the row changes to flow.
    pub(crate) fn waits_within(&self) -> Option<Duration> {
        let Flavor::Supabase(config) = &self.config.flavor else { return None };
        config.waits_within(self.bindings().count())
    }

    /// Takes a free place for a binding, if there is one.
    pub(crate) fn add_binding(&mut self, binding: Binding, max: usize) -> Option<BindingId> {
        let slot = match self.bindings.iter().position(Option::is_none) {
            Some(free) => free,
            None if self.bindings.len() < max => {
                self.bindings.push(None);
                self.bindings.len() - 1
            }
            None => return None,
        };
        self.bindings[slot] = Some(binding);
        let id = BindingId(slot as u8);
        // Whoever asks for what the join has already is served from now on.
        if let (State::Joined(joined), Some(binding)) = (&mut self.state, &self.bindings[slot]) {
            let server_id = joined.id_of(binding);
            joined.ids.extend(server_id.map(|server_id| (server_id, id)));
        }
        Some(id)
    }

    /// Frees the place of a binding; changes that still come for it are not delivered.
    pub(crate) fn remove_binding(&mut self, id: BindingId) -> bool {
        let Some(place) = self.bindings.get_mut(usize::from(id.0)) else { return false };
        self.streams.forget(id);
        if let State::Joined(joined) = &mut self.state {
            joined.ids.retain(|(_, held)| *held != id);
        }
        place.take().is_some()
    }

    /// The close of an older join came, and with it the last that was told to that one: a server
    /// answers a join at once, and what the channel before it had to say comes behind that. Behind
    /// the snapshot it means nothing any more.
    pub(crate) fn on_older_closed(&mut self) {
        self.presence.accept();
    }

    /// Asks for presence from the next join on, which is made now if there is one without it.
    pub(crate) fn enable_presence(&mut self, ctx: &mut Context) {
        if let Flavor::Supabase(config) = &mut self.config.flavor {
            config.presence.enabled = true;
        }
        if matches!(self.state, State::Joined(Joined { presence: false, .. })) {
            self.plan_rejoin(PRESENCE_ENABLED, ctx);
        }
    }

    /// Whether the current join does for every binding of the channel what can be done. Without
    /// those that were removed since it may do better, if it was refused with them.
    pub(crate) fn serves_bindings(&self) -> bool {
        match &self.state {
            State::Joined(joined) => {
                let asks_for = |binding| joined.asked.iter().any(|(asked, _)| asked == binding);
                let wants = |asked| self.bindings().any(|(_, binding)| binding == asked);
                let refused = matches!(joined.rows, Rows::Refused(_));
                self.bindings().all(|(_, binding)| asks_for(binding))
                    && !(refused && joined.asked.iter().any(|(asked, _)| !wants(asked)))
            }
            State::Closed
            | State::Joining { .. }
            | State::Errored { .. }
            | State::Leaving { .. } => true,
        }
    }

    pub(crate) fn push(
        &mut self,
        message: Message,
        options: PushOptions,
        ctx: &mut Context,
    ) -> Result<PushId, PushError> {
        if matches!(self.state, State::Leaving { .. }) {
            return Err(PushError::Closing);
        }
        let target = Target {
            channel: self.id,
            topic: &self.topic,
            joined: self.joined(),
            overflow: self.config.overflow,
        };
        self.pushes.push(message, options, target, ctx)
    }

    /// Tells the server what is tracked, if the channel is joined.
    pub(crate) fn flush_track(&mut self, ctx: &mut Context) {
        // On a join without presence others would see it, and this client would not see them.
        if let State::Joined(Joined { presence: true, .. }) = self.state {
            self.track.flush(self.id, ctx);
        }
    }
}
