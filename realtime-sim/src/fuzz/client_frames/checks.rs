//! What has to hold of all that a client asks of its driver and tells its application.
#![expect(clippy::wildcard_enum_match_arm, reason = "each check looks for few kinds of event")]

use core::fmt::Write;

use realtime_proto::manager::{ChannelStatus, LeaseEvent, ManagerEvent};
use realtime_proto::wire::{Body, Sender, decode};
use realtime_proto::{ChannelEvent, ChannelId, Event, Frame, Transmit};

use super::{APIKEY, EVENTS_A_STEP_MAX, Machine, SENT_KEPT, Sent, Siege};
use crate::oracle::is_of_transport;

impl Siege {
    /// Takes all there is to take, and checks it.
    pub(super) fn drain(&mut self) {
        while let Some(transmit) = either!(self.machine, machine => machine.poll_transmit()) {
            self.on_transmit(transmit);
        }
        let mut events = 0;
        loop {
            let taken = match &mut self.machine {
                Machine::Client(client) => client.poll_event().map(Ok),
                Machine::Manager(manager) => manager.poll_event().map(Err),
            };
            self.shown.clear();
            match taken {
                None => break,
                Some(Ok(event)) => {
                    write!(self.shown, "{event:?}").expect("a string takes all");
                    self.on_event(event);
                }
                Some(Err(event)) => {
                    write!(self.shown, "{event:?}").expect("a string takes all");
                    self.on_manager_event(event);
                }
            }
            assert!(!self.shown.contains("hush"), "a secret shows in {}", self.shown);
            events += 1;
            assert!(events < EVENTS_A_STEP_MAX, "one operation, {events} events");
        }
        assert!(either!(self.machine, machine => machine.wants_frames()), "all was taken");
        let stats = either!(self.machine, machine => machine.stats());
        assert!(stats.channels <= self.limits.channels_max, "{stats:?}");
        assert!(stats.channels_live <= stats.channels, "{stats:?}");
        let in_flight = self.limits.pushes_in_flight_max + self.limits.pushes_buffered_max;
        assert!(self.pushes.len() <= stats.channels * in_flight, "{} pushes", self.pushes.len());
        self.check_presence();
    }

    fn check_presence(&mut self) {
        let Machine::Client(client) = &mut self.machine else { return };
        for id in self.channels.keys() {
            let Some(channel) = client.channel(*id) else { panic!("{id} is gone unheard") };
            assert!(channel.presence().len() <= self.limits.presence_keys_max);
            for (key, metas) in channel.presence().members() {
                assert!(metas.len() <= self.limits.presence_metas_max, "{key}: {metas:?}");
            }
        }
    }

    fn on_transmit(&mut self, transmit: Transmit) {
        match transmit {
            Transmit::Open { socket, url } => {
                assert_eq!(self.socket, None, "one connection at a time");
                assert!(self.stale.is_none_or(|stale| stale < socket), "{socket} is used again");
                assert!(url.expose().contains(APIKEY) && !format!("{url:?}").contains("hush"));
                self.socket = Some((socket, false));
                self.sent.clear();
            }
            Transmit::Frame { socket, frame } => {
                assert_eq!(self.socket, Some((socket, true)), "a frame for another connection");
                self.on_frame(&frame);
            }
            Transmit::Close { socket, .. } => {
                assert_eq!(self.socket.map(|(socket, _)| socket), Some(socket));
                self.stale = Some(socket);
                self.socket = None;
            }
            other => panic!("an order nobody knows: {other:?}"),
        }
    }

    fn on_frame(&mut self, frame: &Frame) {
        let envelope = decode(self.vsn, Sender::Client, frame);
        let envelope = envelope.unwrap_or_else(|e| panic!("{e} in a frame of the client"));
        let mut bindings = String::new();
        if let ("phx_join", Body::Json(payload)) = (&*envelope.event, &envelope.body) {
            let (_, rest) = payload.split_once(r#""postgres_changes":["#).unwrap_or_default();
            let (inner, _) = rest.split_once(']').unwrap_or_default();
            for (id, binding) in inner.split(r#"{"event""#).skip(1).enumerate() {
                write!(bindings, r#"{{"id":{id},"event"{binding}"#).expect("a string takes all");
            }
        }
        if self.sent.len() == SENT_KEPT {
            self.sent.remove(0);
        }
        self.sent.push(Sent {
            topic: envelope.topic.to_string(),
            join_ref: envelope.join_ref.map(|text| text.to_string()),
            msg_ref: envelope.msg_ref.map(|text| text.to_string()),
            bindings,
            answered: envelope.event == "access_token",
        });
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Connected { socket } => {
                assert_eq!(self.socket, Some((socket, true)));
                self.down = None;
            }
            Event::Disconnected { cause, .. } => self.down = Some(cause),
            Event::Channel(id, event) => self.on_channel_event(id, event),
            Event::Heartbeat { .. } | Event::TokenNeeded { .. } | Event::Violation(_) => {}
            other => panic!("an event nobody knows: {other:?}"),
        }
    }

    fn on_channel_event(&mut self, id: ChannelId, event: ChannelEvent) {
        assert!(self.channels.contains_key(&id), "{event:?} of {id}, which is closed");
        match event {
            ChannelEvent::Closed { .. } => {
                self.channels.remove(&id);
            }
            ChannelEvent::PushEnded { push, outcome } => {
                assert!(self.pushes.remove(&push), "{push} ended before; now as {outcome:?}");
            }
            ChannelEvent::Errored { cause, .. } if is_of_transport(cause.kind) => {
                assert_eq!(self.down.as_ref(), Some(&cause), "told before its disconnect");
            }
            _ => {}
        }
    }

    fn on_manager_event(&mut self, event: ManagerEvent) {
        match event {
            ManagerEvent::Connected { .. } => self.down = None,
            ManagerEvent::Disconnected { cause, .. } => self.down = Some(cause),
            ManagerEvent::PushEnded { push, outcome } => {
                assert!(self.pushes.remove(&push), "{push} ended before; now as {outcome:?}");
            }
            ManagerEvent::CleanedUp { cleanup } => {
                assert!(self.cleanups.remove(&cleanup), "the end of {cleanup} is told twice");
            }
            ManagerEvent::Lease(lease, event) => {
                let Some(told) = self.leases.get_mut(&lease) else {
                    panic!("{event:?} of {lease}, which has ended");
                };
                match event {
                    LeaseEvent::Ended => {
                        self.leases.remove(&lease);
                        return;
                    }
                    LeaseEvent::Status(ChannelStatus::Reconnecting { cause, .. })
                        if *told && is_of_transport(cause.kind) =>
                    {
                        assert_eq!(self.down.as_ref(), Some(&cause), "told before its disconnect");
                    }
                    LeaseEvent::Status(_) => {}
                    event => assert!(*told, "the first event of {lease} is {event:?}"),
                }
                *told = true;
            }
            ManagerEvent::Channel { .. }
            | ManagerEvent::Heartbeat { .. }
            | ManagerEvent::TokenNeeded { .. }
            | ManagerEvent::Violation(_) => {}
            other => panic!("an event nobody knows: {other:?}"),
        }
    }
}
