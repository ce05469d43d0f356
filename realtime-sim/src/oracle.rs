//! What must hold for the events of every client, whatever happens to it.

use std::collections::BTreeSet;

use realtime_proto::supabase::CauseKind;
use realtime_proto::{ChannelEvent, ChannelId, Event, Instant, PushId, SocketId};

/// Watches the events of one client and panics at the first that must not be.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    connected: Option<SocketId>,
    disconnected_at: Option<Instant>,
    ended: BTreeSet<PushId>,
    joined: BTreeSet<ChannelId>,
    live: BTreeSet<ChannelId>,
    closed: BTreeSet<ChannelId>,
}

impl Oracle {
    /// # Panics
    ///
    /// When the event contradicts what was told before.
    pub(crate) fn check(&mut self, event: &Event, now: Instant) {
        match event {
            Event::Connected { socket } => {
                assert_eq!(self.connected, None, "{socket} opens while another is open");
                self.connected = Some(*socket);
            }
            Event::Disconnected { retry_at, .. } => {
                assert!(retry_at.is_none_or(|at| at > now), "a retry is planned for {retry_at:?}");
                self.connected = None;
                self.disconnected_at = Some(now);
            }
            Event::Channel(id, event) => self.check_channel(*id, event, now),
            // The rest stands for itself.
            Event::Heartbeat { .. } | Event::TokenNeeded { .. } | Event::Violation(_) | _ => {}
        }
    }

    fn check_channel(&mut self, id: ChannelId, event: &ChannelEvent, now: Instant) {
        assert!(!self.closed.contains(&id), "{id} goes on after it was closed (G3): {event:?}");
        match event {
            ChannelEvent::Joined { .. } => {
                assert!(self.connected.is_some(), "{id} is joined without a connection");
                self.live.remove(&id);
                self.joined.insert(id);
            }
            ChannelEvent::Live => {
                assert!(self.joined.contains(&id), "{id} is live without being joined");
                assert!(self.live.insert(id), "{id} is told to be live twice");
            }
            ChannelEvent::PushEnded { push, .. } => {
                assert!(self.ended.insert(*push), "{push} ends twice (G3)");
            }
            ChannelEvent::Errored { cause, retry_at } => {
                assert!(retry_at.is_none_or(|at| at > now), "a retry is planned for {retry_at:?}");
                let lost = matches!(
                    cause.kind,
                    CauseKind::ConnectionLost | CauseKind::HeartbeatTimeout | CauseKind::Requested
                );
                assert!(
                    !lost || self.disconnected_at == Some(now),
                    "{id} errors before the disconnect that causes it is told (G5)",
                );
                self.joined.remove(&id);
                self.live.remove(&id);
            }
            ChannelEvent::ChangesStopped { .. } => {
                self.live.remove(&id);
            }
            ChannelEvent::Closed { .. } => {
                self.closed.insert(id);
                self.joined.remove(&id);
                self.live.remove(&id);
            }
            // Messages come while a channel joins, too.
            ChannelEvent::Broadcast(_)
            | ChannelEvent::Change { .. }
            | ChannelEvent::Presence(_)
            | ChannelEvent::System(_)
            | ChannelEvent::Message { .. }
            | ChannelEvent::TrackRefused { .. }
            | _ => {}
        }
    }
}
