//! The view of one channel, through which an application speaks on it.

use alloc::string::String;

use super::Client;
use crate::channel::{
    APPLICATION_ASKED, BINDINGS_CHANGED, ChannelState, Input, Joined, Rows, Slot, State,
};
use crate::config::Flavor;
use crate::context::Context;
use crate::error::{BindError, PushError};
use crate::event::BindingId;
use crate::ids::{ChannelId, PushId};
use crate::outbox::Message;
use crate::payload::{Payload, PayloadError};
use crate::presence::Presence;
use crate::push::{BroadcastOptions, PushOptions};
use crate::supabase::{Binding, Cause};
use crate::time::Instant;
use crate::wire::Vsn;

/// A borrowed view of one channel, from [`Client::channel`].
#[derive(Debug)]
pub struct Channel<'a> {
    client: &'a mut Client,
    id: ChannelId,
}

impl<'a> Channel<'a> {
    /// A view of a channel that is there.
    pub(crate) const fn new(client: &'a mut Client, id: ChannelId) -> Self {
        Self { client, id }
    }

    /// The topic, as it is on the wire.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::supabase::JoinConfig;
    /// # use realtime_proto::{ChannelConfig, Client, Config, Instant};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut client = Client::new(config, 1, now);
    /// # let room = ChannelConfig::supabase(JoinConfig::default()).with_presence();
    /// # let id = client.open_channel("realtime:room", room, now)?;
    /// # let mut room = client.channel(id).ok_or("it was just opened")?;
    /// assert_eq!(room.topic(), "realtime:room");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.slot().topic
    }

    /// The state.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::supabase::JoinConfig;
    /// # use realtime_proto::{ChannelConfig, ChannelState, Client, Config, Instant};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut client = Client::new(config, 1, now);
    /// # let room = ChannelConfig::supabase(JoinConfig::default()).with_presence();
    /// # let id = client.open_channel("realtime:room", room, now)?;
    /// # let mut room = client.channel(id).ok_or("it was just opened")?;
    /// assert_eq!(room.state(), ChannelState::Closed, "there is no connection yet");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn state(&self) -> ChannelState {
        self.slot().state.name()
    }

    /// Whether everything the channel asked for flows.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::supabase::JoinConfig;
    /// # use realtime_proto::{ChannelConfig, Client, Config, Instant};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut client = Client::new(config, 1, now);
    /// # let room = ChannelConfig::supabase(JoinConfig::default()).with_presence();
    /// # let id = client.open_channel("realtime:room", room, now)?;
    /// # let mut room = client.channel(id).ok_or("it was just opened")?;
    /// assert!(!room.is_live(), "there is no connection yet");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.slot().live
    }

    /// Why the channel is errored, or why it is joined and yet its row changes will not flow; `None`
    /// otherwise.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::supabase::JoinConfig;
    /// # use realtime_proto::{ChannelConfig, Client, Config, Instant};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut client = Client::new(config, 1, now);
    /// # let room = ChannelConfig::supabase(JoinConfig::default()).with_presence();
    /// # let id = client.open_channel("realtime:room", room, now)?;
    /// # let mut room = client.channel(id).ok_or("it was just opened")?;
    /// if let Some(cause) = room.error() {
    ///     println!("{cause}");
    /// }
    /// # assert_eq!(room.error(), None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn error(&self) -> Option<&Cause> {
        match &self.slot().state {
            State::Errored { cause, .. } => Some(cause),
            State::Joined(joined) => match &joined.rows {
                Rows::Refused(cause) => Some(cause),
                Rows::Unasked | Rows::Awaited | Rows::Flowing => None,
            },
            State::Closed | State::Joining { .. } | State::Leaving { .. } => None,
        }
    }

    /// The members of the channel, kept across reconnects and marked stale meanwhile.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::supabase::JoinConfig;
    /// # use realtime_proto::{ChannelConfig, Client, Config, Instant};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut client = Client::new(config, 1, now);
    /// # let room = ChannelConfig::supabase(JoinConfig::default()).with_presence();
    /// # let id = client.open_channel("realtime:room", room, now)?;
    /// # let mut room = client.channel(id).ok_or("it was just opened")?;
    /// for (key, metas) in room.presence().members() {
    ///     println!("{key} is here {} times", metas.len());
    /// }
    /// assert!(room.presence().is_stale(), "the server told nothing yet");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn presence(&self) -> &Presence {
        &self.slot().presence
    }

    /// Sends an event and waits for the reply: now when the channel is joined, else after the
    /// join. Ends in one `PushEnded`.
    ///
    /// # Errors
    ///
    /// [`PushError`] when it cannot be sent; nothing was kept then.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::{ChannelConfig, Client, Config, Instant, Payload};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut client = Client::new(config, 1, now);
    /// let id = client.open_channel("room:lobby", ChannelConfig::phoenix(Payload::empty()), now)?;
    /// let mut room = client.channel(id).expect("it was just opened");
    /// let push = room.push("new_msg", Payload::from_json(r#"{"body":"hi"}"#)?, now)?;
    /// # let _ = push;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn push(
        &mut self,
        event: impl Into<String>,
        payload: Payload,
        now: Instant,
    ) -> Result<PushId, PushError> {
        self.push_with(event, payload, PushOptions::new(), now)
    }

    /// Sends an event as [`push`](Self::push) does, with a deadline, a time to live or a key of its
    /// own.
    ///
    /// # Errors
    ///
    /// As [`push`](Self::push).
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::{ChannelConfig, Client, Config, Instant, Payload, PushOptions};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut client = Client::new(config, 1, now);
    /// # let id = client.open_channel("room:lobby", ChannelConfig::phoenix(Payload::empty()), now)?;
    /// let mut room = client.channel(id).expect("it was just opened");
    /// let newest_only = PushOptions::new().coalesced_by("typing");
    /// room.push_with("typing", Payload::from_json("{}")?, newest_only, now)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn push_with(
        &mut self,
        event: impl Into<String>,
        payload: Payload,
        options: PushOptions,
        now: Instant,
    ) -> Result<PushId, PushError> {
        self.send(Message::Event { event: event.into(), payload }, options, now)
    }

    /// Sends an event for which no reply is expected; the outcome is `Sent` as soon as the driver
    /// takes its frame.
    ///
    /// # Errors
    ///
    /// As [`push`](Self::push).
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::supabase::JoinConfig;
    /// # use realtime_proto::{ChannelConfig, Client, Config, Instant, Payload};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut client = Client::new(config, 1, now);
    /// # let room = ChannelConfig::supabase(JoinConfig::default()).with_presence();
    /// # let id = client.open_channel("realtime:room", room, now)?;
    /// # let mut room = client.channel(id).ok_or("it was just opened")?;
    /// room.cast("typing", Payload::empty(), now)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn cast(
        &mut self,
        event: impl Into<String>,
        payload: Payload,
        now: Instant,
    ) -> Result<PushId, PushError> {
        self.push_with(event, payload, PushOptions::new().without_reply(), now)
    }

    /// Broadcasts to the other members of a Supabase channel.
    ///
    /// With `ack` in the channel's [`BroadcastConfig`] the outcome is the server's reply, without
    /// it is `Sent`. Bytes travel as a binary frame, which needs protocol version 2.
    ///
    /// [`BroadcastConfig`]: crate::supabase::BroadcastConfig
    ///
    /// # Errors
    ///
    /// As [`push`](Self::push), and [`PushError::NotSupabase`] on a plain Phoenix channel.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::supabase::JoinConfig;
    /// # use realtime_proto::{ChannelConfig, Client, Config, Instant, Payload};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut client = Client::new(config, 1, now);
    /// # let config = ChannelConfig::supabase(JoinConfig::default());
    /// let id = client.open_channel("realtime:room", config, now)?;
    /// let mut room = client.channel(id).expect("it was just opened");
    /// room.broadcast("cursor", Payload::json(&(3, 4))?, now)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn broadcast(
        &mut self,
        event: impl Into<String>,
        payload: Payload,
        now: Instant,
    ) -> Result<PushId, PushError> {
        self.broadcast_with(event, payload, PushOptions::new(), now)
    }

    /// Broadcasts as [`broadcast`](Self::broadcast) does, with a deadline, a time to live or a key
    /// of its own, or to be kept by the server. Whether there is a reply is decided by `ack` alone.
    ///
    /// # Errors
    ///
    /// As [`broadcast`](Self::broadcast), and [`PushError::PersistOnPublic`] or
    /// [`PushError::PersistOnV1`] where no server could be asked to keep it.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::supabase::JoinConfig;
    /// # use realtime_proto::{ChannelConfig, Client, Config, Instant, Payload, PushOptions};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut client = Client::new(config, 1, now);
    /// # let room = ChannelConfig::supabase(JoinConfig::default()).with_presence();
    /// # let id = client.open_channel("realtime:room", room, now)?;
    /// # let mut room = client.channel(id).ok_or("it was just opened")?;
    /// let newest_only = PushOptions::new().coalesced_by("cursor");
    /// room.broadcast_with("cursor", Payload::json(&(3, 4))?, newest_only, now)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn broadcast_with(
        &mut self,
        event: impl Into<String>,
        payload: Payload,
        options: impl Into<BroadcastOptions>,
        now: Instant,
    ) -> Result<PushId, PushError> {
        let Flavor::Supabase(config) = &self.slot().config.flavor else {
            return Err(PushError::NotSupabase);
        };
        let BroadcastOptions { push, persist } = options.into();
        if persist.is_some() && !config.private {
            return Err(PushError::PersistOnPublic);
        }
        if persist.is_some() && self.client.vsn() == Vsn::V1 {
            return Err(PushError::PersistOnV1);
        }
        let options = PushOptions { reply: config.broadcast.ack, ..push };
        let event = event.into();
        // JSON goes as text, which every server relays as it is, unless there is more to say.
        let message = if payload.is_binary() || persist.is_some() {
            Message::UserBroadcast { event, payload, persist }
        } else {
            Message::Broadcast { event, payload }
        };
        self.send(message, options, now)
    }

    /// Shows `payload`, a JSON object, as this client's presence, now and after every rejoin,
    /// until [`untrack`](Self::untrack).
    ///
    /// Calls beyond the server's budget wait, and only the newest value is sent. Presence is enabled
    /// if it was off, as by [`enable_presence`](Self::enable_presence).
    ///
    /// # Errors
    ///
    /// [`PushError::NotSupabase`] on a plain Phoenix channel, [`PushError::Closing`] when it is
    /// being closed, [`PushError::Payload`] when it is not a JSON object.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::supabase::JoinConfig;
    /// # use realtime_proto::{ChannelConfig, Client, Config, Instant, Payload};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut client = Client::new(config, 1, now);
    /// let config = ChannelConfig::supabase(JoinConfig::default()).with_presence();
    /// let id = client.open_channel("realtime:room", config, now)?;
    /// let mut room = client.channel(id).expect("it was just opened");
    /// room.track(Payload::from_json(r#"{"name":"Ana"}"#)?, now)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn track(&mut self, payload: Payload, now: Instant) -> Result<(), PushError> {
        if !payload.is_object() {
            return Err(PushError::Payload(PayloadError::NotAnObject));
        }
        self.with_presence(now, |slot, ctx| {
            slot.track.set(Some(payload));
            slot.enable_presence(ctx);
            slot.flush_track(ctx);
        })
    }

    /// Stops showing this client's presence. Others are still seen.
    ///
    /// # Errors
    ///
    /// As [`track`](Self::track).
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::supabase::JoinConfig;
    /// # use realtime_proto::{ChannelConfig, Client, Config, Instant, Payload};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut client = Client::new(config, 1, now);
    /// # let room = ChannelConfig::supabase(JoinConfig::default()).with_presence();
    /// # let id = client.open_channel("realtime:room", room, now)?;
    /// # let mut room = client.channel(id).ok_or("it was just opened")?;
    /// room.track(Payload::from_json(r#"{"name":"Ana"}"#)?, now)?;
    /// room.untrack(now)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn untrack(&mut self, now: Instant) -> Result<(), PushError> {
        self.with_presence(now, |slot, ctx| {
            slot.track.set(None);
            slot.flush_track(ctx);
        })
    }

    /// Follows the presence of a Supabase channel that was opened without it.
    ///
    /// A server sends who is here right after the join and only if the join asked for it. So
    /// before the join this costs nothing, and a channel that is joined joins again for it, once:
    /// [`Rejoining`](crate::ChannelEvent::Rejoining) tells.
    ///
    /// # Errors
    ///
    /// [`PushError::NotSupabase`] on a plain Phoenix channel, [`PushError::Closing`] when it is
    /// being closed.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::supabase::JoinConfig;
    /// # use realtime_proto::{ChannelConfig, Client, Config, Instant};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut client = Client::new(config, 1, now);
    /// let config = ChannelConfig::supabase(JoinConfig::default());
    /// let id = client.open_channel("realtime:room", config, now)?;
    /// let mut room = client.channel(id).expect("it was just opened");
    /// room.enable_presence(now)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn enable_presence(&mut self, now: Instant) -> Result<(), PushError> {
        self.with_presence(now, Slot::enable_presence)
    }

    /// Adds a row-change binding. A channel that is joined joins again for it, once; changes for
    /// its other bindings may be missed meanwhile.
    ///
    /// # Errors
    ///
    /// [`BindError`] when the channel is full, being closed, or not a Supabase one, and when a server
    /// would refuse the binding.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::supabase::{Binding, ChangeEvent, JoinConfig};
    /// # use realtime_proto::{ChannelConfig, Client, Config, Instant};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut client = Client::new(config, 1, now);
    /// # let room = ChannelConfig::supabase(JoinConfig::default()).with_presence();
    /// # let id = client.open_channel("realtime:room", room, now)?;
    /// # let mut room = client.channel(id).ok_or("it was just opened")?;
    /// let inserts = Binding::new(ChangeEvent::Insert, "public", "messages");
    /// let id = room.bind(inserts, now)?;
    /// assert_eq!(room.bindings().map(|(id, _)| id).collect::<Vec<_>>(), [id]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn bind(&mut self, binding: Binding, now: Instant) -> Result<BindingId, BindError> {
        let max = self.client.limits().bindings_max;
        let slot = self.slot_mut();
        if !slot.config.is_supabase() {
            return Err(BindError::NotSupabase);
        }
        if matches!(slot.state, State::Leaving { .. }) {
            return Err(BindError::Closing);
        }
        binding.check()?;
        let id = slot.add_binding(binding, max).ok_or(BindError::TooMany { max })?;
        self.serve_bindings(now);
        Ok(id)
    }

    /// Removes a binding, and tells whether it was there. The server goes on sending its changes
    /// until the next join; they are not delivered. Where the server had refused the bindings, the
    /// channel joins again for those that are left.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::supabase::{Binding, ChangeEvent, JoinConfig};
    /// # use realtime_proto::{ChannelConfig, Client, Config, Instant};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut client = Client::new(config, 1, now);
    /// # let room = ChannelConfig::supabase(JoinConfig::default()).with_presence();
    /// # let id = client.open_channel("realtime:room", room, now)?;
    /// # let mut room = client.channel(id).ok_or("it was just opened")?;
    /// let id = room.bind(Binding::new(ChangeEvent::All, "public", "messages"), now)?;
    /// assert!(room.unbind(id, now));
    /// assert!(!room.unbind(id, now));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn unbind(&mut self, binding: BindingId, now: Instant) -> bool {
        let was_there = self.slot_mut().remove_binding(binding);
        self.serve_bindings(now);
        was_there
    }

    /// The bindings of the channel.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::supabase::{Binding, ChangeEvent, JoinConfig};
    /// # use realtime_proto::{ChannelConfig, Client, Config, Instant};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut client = Client::new(config, 1, now);
    /// # let room = ChannelConfig::supabase(JoinConfig::default()).with_presence();
    /// # let id = client.open_channel("realtime:room", room, now)?;
    /// # let mut room = client.channel(id).ok_or("it was just opened")?;
    /// room.bind(Binding::new(ChangeEvent::All, "public", "messages"), now)?;
    /// for (id, binding) in room.bindings() {
    ///     println!("{id:?} is for {:?}", binding.table);
    /// }
    /// # assert_eq!(room.bindings().count(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn bindings(&self) -> impl Iterator<Item = (BindingId, &Binding)> {
        self.slot().bindings()
    }

    /// Joins again now, when the channel is errored: after giving up, or before its delay is over.
    /// So does a channel whose row changes were refused for good.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::supabase::JoinConfig;
    /// # use realtime_proto::{ChannelConfig, Client, Config, Instant};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut client = Client::new(config, 1, now);
    /// # let room = ChannelConfig::supabase(JoinConfig::default()).with_presence();
    /// # let id = client.open_channel("realtime:room", room, now)?;
    /// # let mut room = client.channel(id).ok_or("it was just opened")?;
    /// if room.error().is_some() {
    ///     room.rejoin(now);
    /// }
    /// # room.rejoin(now);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn rejoin(&mut self, now: Instant) {
        self.client.resume_joins();
        let refused =
            matches!(self.slot().state, State::Joined(Joined { rows: Rows::Refused(_), .. }));
        if refused {
            self.plan_rejoin(APPLICATION_ASKED, now);
        } else {
            self.client.on_channel_input(self.id, Input::RetryDue, now);
        }
    }

    /// Joins again if the current join does not do for the bindings.
    fn serve_bindings(&mut self, now: Instant) {
        if !self.slot().serves_bindings() {
            self.plan_rejoin(BINDINGS_CHANGED, now);
        }
    }

    fn plan_rejoin(&mut self, why: &'static str, now: Instant) {
        self.client.with_slot(self.id, now, |slot, ctx| slot.plan_rejoin(why, ctx));
    }

    fn send(
        &mut self,
        message: Message,
        options: PushOptions,
        now: Instant,
    ) -> Result<PushId, PushError> {
        self.client.with_slot(self.id, now, |slot, ctx| slot.push(message, options, ctx))
    }

    /// Changes the presence of a Supabase channel that is not being left.
    fn with_presence(
        &mut self,
        now: Instant,
        command: impl FnOnce(&mut Slot, &mut Context),
    ) -> Result<(), PushError> {
        let slot = self.slot();
        if !slot.config.is_supabase() {
            return Err(PushError::NotSupabase);
        }
        if matches!(slot.state, State::Leaving { .. }) {
            return Err(PushError::Closing);
        }
        self.client.with_slot(self.id, now, command);
        Ok(())
    }

    fn slot(&self) -> &Slot {
        self.client.slot(self.id).expect("the view borrows the client, so its channel stays")
    }

    fn slot_mut(&mut self) -> &mut Slot {
        self.client.slot_mut(self.id).expect("the view borrows the client, so its channel stays")
    }
}
