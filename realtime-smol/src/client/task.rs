//! The machine of a client, and whom its events concern.

use std::collections::BTreeMap;

use realtime_proto::supabase::Retry;
use realtime_proto::{
    Awaits, ChannelEvent, ChannelId, Client, CloseReason, Event, Frame, Instant, Outcome, PushId,
    Secret, SocketId,
};

use crate::clock;
use crate::driver::{Machine, Request};
use crate::error::Error;
use crate::mailbox::Sender;
use crate::tokens::{Due, TokenUser};
use crate::waiters::{Waiters, Waiting};

/// The machine and whom its events concern, owned by one task.
pub(super) struct Task {
    pub(super) client: Client,
    pub(super) channels: BTreeMap<ChannelId, Sender<ChannelEvent>>,
    pub(super) answers: BTreeMap<PushId, smol::channel::Sender<Outcome>>,
    live: BTreeMap<ChannelId, Waiters>,
    connection: Vec<Sender<Event>>,
    /// The last word on whether there is a connection.
    last: Option<Event>,
    /// Who is told that an access token may be due.
    tokens: Option<Due>,
}

impl Task {
    pub(super) fn new(client: Client, tokens: Option<Due>) -> Self {
        Self {
            client,
            channels: BTreeMap::new(),
            answers: BTreeMap::new(),
            live: BTreeMap::new(),
            connection: Vec::new(),
            last: None,
            tokens,
        }
    }

    pub(super) fn listen(&mut self, listener: Sender<Event>) {
        if let Some(event) = &self.last {
            listener.send(event.clone());
        }
        self.connection.push(listener);
    }

    /// A place to wait at until the channel is live; none when it is.
    pub(super) fn wait_until_live(&mut self, id: ChannelId) -> Result<Option<Waiting>, Error> {
        let awaits = self.client.channel_info(id).ok_or(Error::Closed)?.awaits;
        let channel = self.client.channel(id).ok_or(Error::Closed)?;
        if channel.is_live() {
            return Ok(None);
        }
        if let (Some(Awaits::Application | Awaits::Token), Some(cause)) = (awaits, channel.error())
        {
            return Err(Error::NotLive(cause.clone()));
        }
        Ok(Some(self.live.entry(id).or_default().wait()))
    }

    fn on_channel_event(&mut self, id: ChannelId, event: ChannelEvent) {
        if event == ChannelEvent::Live {
            self.end_wait(id, &Ok(()));
        }
        if let ChannelEvent::Errored { cause, retry_at: None } = &event {
            // Without a connection the channel is back when the connection is.
            if self.client.is_connected() {
                self.end_wait(id, &Err(Error::NotLive(cause.clone())));
            }
        }
        if let ChannelEvent::ChangesStopped { cause } = &event {
            // Otherwise the server tries again by itself.
            if cause.kind.retry() == Retry::Never {
                self.end_wait(id, &Err(Error::NotLive(cause.clone())));
            }
        }
        if let ChannelEvent::Closed { cause } = &event {
            self.end_wait(id, &Err(Error::NotLive(cause.clone())));
        }
        if let ChannelEvent::PushEnded { push, outcome } = &event {
            if let Some(answers) = self.answers.remove(push) {
                // The caller may have stopped waiting, which is no fault.
                let _ = answers.try_send(outcome.clone());
            }
        }
        let last = matches!(event, ChannelEvent::Closed { .. });
        if let Some(sender) = self.channels.get(&id) {
            sender.send(event);
        }
        if last {
            self.channels.remove(&id);
        }
    }

    fn ask_for_token(&self, event: &Event) {
        let Some(tokens) = &self.tokens else { return };
        if let Event::TokenNeeded { .. } = event {
            tokens.tell_needed();
        } else if let Event::Heartbeat { .. } | Event::Disconnected { retry_at: Some(_), .. } =
            event
        {
            tokens.tell();
        }
    }

    fn end_wait(&mut self, id: ChannelId, result: &Result<(), Error>) {
        if let Some(waiters) = self.live.remove(&id) {
            waiters.end(result);
        }
    }
}

impl TokenUser for Task {
    fn set_access_token(&mut self, token: Option<Secret>, now: Instant) {
        self.client.set_access_token(token, now);
    }

    fn connect(&mut self, now: Instant) {
        self.client.connect(now);
    }
}

impl Machine for Task {
    type Event = ();
    type Socket = SocketId;

    fn handle_open(&mut self, socket: SocketId, now: Instant) {
        // The wall clock may have been corrected since the last connection.
        self.client.set_unix_time(clock::unix_time(), now);
        self.client.handle_open(socket, now);
    }

    fn handle_frame(&mut self, socket: SocketId, frame: Frame, now: Instant) {
        self.client.handle_frame(socket, frame, now);
    }

    fn handle_close(&mut self, socket: SocketId, reason: CloseReason, now: Instant) {
        self.client.handle_close(socket, reason, now);
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.client.handle_timeout(now);
    }

    fn poll_transmit(&mut self) -> Option<Request<SocketId>> {
        self.client.poll_transmit().map(Request::from)
    }

    fn poll_event(&mut self) -> Option<()> {
        let event = self.client.poll_event()?;
        if let Event::Channel(id, event) = event {
            self.on_channel_event(id, event);
        } else {
            self.ask_for_token(&event);
            self.connection.retain(|listener| listener.is_wanted());
            for listener in &self.connection {
                listener.send(event.clone());
            }
            if matches!(event, Event::Connected { .. } | Event::Disconnected { .. }) {
                self.last = Some(event);
            }
        }
        Some(())
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.client.poll_timeout()
    }

    fn wants_frames(&self) -> bool {
        self.client.wants_frames()
    }
}
