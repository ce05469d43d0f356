//! The application of the examples. It speaks to the client and knows no transport, so that it is
//! the same for both, and what is left of an example is its driver.
#![expect(clippy::print_stdout, reason = "an example shows what happens")]
#![expect(clippy::wildcard_enum_match_arm, reason = "an example looks at what it needs")]

use core::time::Duration;

use realtime_proto::supabase::JoinConfig;
use realtime_proto::{
    ChannelConfig, ChannelEvent, ChannelId, Client, Event, Instant, Outcome, Payload, PushId,
    Status,
};

use crate::host::Failure;

/// When the application gives up.
pub(crate) const DEADLINE: Instant = Instant::from_epoch(Duration::from_secs(10));

/// A room that is entered, greeted and left.
pub(crate) struct Room {
    me: String,
    channel: ChannelId,
    greeting: PushId,
    /// What has to happen before the room is left.
    unseen: Vec<&'static str>,
    left: bool,
}

impl Room {
    /// Opens the channel, shows `me` as present and greets whoever is there. Nothing is sent yet:
    /// the client does that as soon as the channel is joined.
    pub(crate) fn enter(client: &mut Client, me: String, now: Instant) -> Result<Self, Failure> {
        let mut join = JoinConfig::default();
        join.broadcast.ack = true;
        join.presence.key.clone_from(&me);
        let config = ChannelConfig::supabase(join).with_presence();
        let id = client.open_channel("realtime:room", config, now)?;
        let mut channel = client.channel(id).ok_or("the channel was just opened")?;
        channel.track(Payload::json(&serde_json::json!({ "name": me }))?, now)?;
        let greeting = channel.broadcast("hello", Payload::json(&("from", &me))?, now)?;
        let unseen = vec!["joined", "live", "own presence", "reply"];
        Ok(Self { me, channel: id, greeting, unseen, left: false })
    }

    /// Looks at what happened, and leaves when all that was waited for has.
    pub(crate) fn on_event(
        &mut self,
        event: &Event,
        client: &mut Client,
        now: Instant,
    ) -> Result<(), Failure> {
        println!("{now:>7} {event:?}");
        let seen = match event {
            Event::Disconnected { cause, retry_at: None, .. } => return Err(cause.into()),
            Event::Channel(_, ChannelEvent::Closed { cause }) if !self.unseen.is_empty() => {
                return Err(cause.into());
            }
            Event::Channel(_, ChannelEvent::Closed { .. }) => {
                self.left = true;
                return Ok(());
            }
            Event::Channel(_, ChannelEvent::Joined { .. }) => "joined",
            Event::Channel(_, ChannelEvent::Live) => "live",
            Event::Channel(_, ChannelEvent::Presence(diff)) => {
                let here = diff.joined.iter().any(|member| member.key == self.me);
                if here { "own presence" } else { return Ok(()) }
            }
            Event::Channel(_, ChannelEvent::PushEnded { push, outcome })
                if *push == self.greeting =>
            {
                match outcome {
                    Outcome::Replied { status: Status::Ok, .. } => "reply",
                    other => return Err(format!("the greeting ended as {other:?}").into()),
                }
            }
            _ => return Ok(()),
        };
        self.unseen.retain(|what| *what != seen);
        if self.unseen.is_empty() {
            client.close_channel(self.channel, now);
        }
        Ok(())
    }

    /// Whether all that was waited for happened and the room was left.
    pub(crate) const fn is_left(&self) -> bool {
        self.left
    }

    /// Complains when it is too late.
    pub(crate) fn check_deadline(&self, now: Instant) -> Result<(), Failure> {
        match self.unseen.as_slice() {
            _ if now < DEADLINE => Ok(()),
            [] => Err(format!("the server did not answer the leave by {DEADLINE}").into()),
            unseen => Err(format!("not seen by {DEADLINE}: {}", unseen.join(", ")).into()),
        }
    }
}
