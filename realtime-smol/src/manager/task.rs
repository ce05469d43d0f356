//! The machine of a manager, and whom its events concern.

use std::collections::BTreeMap;
use std::sync::Arc;

use realtime_proto::manager::{
    ChannelStatus, CleanupId, EntityKey, LeaseEvent, LeaseId, Manager, ManagerEvent,
};
use realtime_proto::{
    CloseReason, ConnectionId, Frame, Instant, Outcome, PushId, Secret, SocketId,
};

use super::log;
use crate::clock;
use crate::driver::{Machine, Request};
use crate::error::Error;
use crate::mailbox::Sender;
use crate::tokens::{Due, TokenUser};
use crate::waiters::{Waiters, Waiting};

/// The machine and whom its events concern, owned by one task.
pub(super) struct Task {
    pub(super) manager: Manager,
    pub(super) listeners: BTreeMap<LeaseId, Listener>,
    pub(super) answers: BTreeMap<PushId, smol::channel::Sender<Outcome>>,
    /// Who listens to the manager as a whole.
    observers: Vec<Sender<ManagerEvent>>,
    /// The last word on each connection.
    connections: BTreeMap<ConnectionId, ManagerEvent>,
    /// Who waits for the end of a clean-up.
    pub(super) cleanups: BTreeMap<CleanupId, smol::channel::Sender<()>>,
    /// Who is told that an access token may be due.
    tokens: Option<Due>,
}

/// The holder of a lease.
pub(super) struct Listener {
    key: Arc<EntityKey>,
    sender: Sender<LeaseEvent>,
    status: ChannelStatus,
    waiting: Waiters,
}

impl Listener {
    pub(super) fn new(key: Arc<EntityKey>, sender: Sender<LeaseEvent>) -> Self {
        Self { key, sender, status: ChannelStatus::Connecting, waiting: Waiters::default() }
    }
}

impl Task {
    pub(super) fn new(manager: Manager, tokens: Option<Due>) -> Self {
        Self {
            manager,
            listeners: BTreeMap::new(),
            answers: BTreeMap::new(),
            observers: Vec::new(),
            connections: BTreeMap::new(),
            cleanups: BTreeMap::new(),
            tokens,
        }
    }

    /// Adds an observer, who is told first how the connections are.
    pub(super) fn observe(&mut self, observer: Sender<ManagerEvent>) {
        self.forget_connections();
        for event in self.connections.values() {
            observer.send(event.clone());
        }
        self.observers.push(observer);
    }

    /// A place to wait at until the lease's channel is live; none when it is.
    pub(super) fn wait_until_live(&mut self, id: LeaseId) -> Result<Option<Waiting>, Error> {
        let listener = self.listeners.get_mut(&id).ok_or(Error::Closed)?;
        match verdict(&listener.status) {
            Some(result) => result.map(|()| None),
            None => Ok(Some(listener.waiting.wait())),
        }
    }

    fn on_lease_event(&mut self, id: LeaseId, event: LeaseEvent) {
        let Some(listener) = self.listeners.get_mut(&id) else { return };
        log::lease(id, &listener.key, &event);
        let last = event == LeaseEvent::Ended;
        let mut over = last.then_some(Err(Error::Closed));
        if let LeaseEvent::Status(status) = &event {
            listener.status = status.clone();
            over = verdict(status);
        }
        if let Some(result) = over {
            core::mem::take(&mut listener.waiting).end(&result);
        }
        if listener.sender.send(event) {
            log::slow(id, &listener.key);
        }
        if last {
            self.listeners.remove(&id);
        }
    }

    /// Forgets the last word on connections that are gone.
    fn forget_connections(&mut self) {
        let there = self.manager.connections();
        self.connections.retain(|id, _| there.iter().any(|connection| connection.id == *id));
    }

    fn ask_for_token(&self, event: &ManagerEvent) {
        let Some(tokens) = &self.tokens else { return };
        if let ManagerEvent::TokenNeeded { .. } = event {
            tokens.tell_needed();
        } else if let ManagerEvent::Heartbeat { .. }
        | ManagerEvent::Disconnected { retry_at: Some(_), .. } = event
        {
            tokens.tell();
        }
    }

    fn on_manager_event(&mut self, event: ManagerEvent) {
        log::manager(&event);
        self.ask_for_token(&event);
        self.observers.retain(Sender::is_wanted);
        for observer in &self.observers {
            observer.send(event.clone());
        }
        if let ManagerEvent::Connected { connection }
        | ManagerEvent::Disconnected { connection, .. } = event
        {
            self.connections.insert(connection, event);
            // Connections come and go for as long as the manager lives.
            if self.connections.len() > 2 * self.manager.connections().len() {
                self.forget_connections();
            }
        }
    }
}

impl TokenUser for Task {
    fn set_access_token(&mut self, token: Option<Secret>, now: Instant) {
        self.manager.set_access_token(token, now);
    }

    fn connect(&mut self, now: Instant) {
        self.manager.connect(now);
    }
}

/// What a status means to whoever waits for the channel to be live; none while it may become so.
fn verdict(status: &ChannelStatus) -> Option<Result<(), Error>> {
    if let ChannelStatus::Error { cause } = status {
        return Some(Err(Error::NotLive(cause.clone())));
    }
    (*status == ChannelStatus::Live).then_some(Ok(()))
}

impl Machine for Task {
    type Event = ();
    type Socket = SocketId;

    fn handle_open(&mut self, socket: SocketId, now: Instant) {
        // The wall clock may have been corrected since the last connection.
        self.manager.set_unix_time(clock::unix_time(), now);
        self.manager.handle_open(socket, now);
    }

    fn handle_frame(&mut self, socket: SocketId, frame: Frame, now: Instant) {
        self.manager.handle_frame(socket, frame, now);
    }

    fn handle_close(&mut self, socket: SocketId, reason: CloseReason, now: Instant) {
        self.manager.handle_close(socket, reason, now);
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.manager.handle_timeout(now);
    }

    fn poll_transmit(&mut self) -> Option<Request<SocketId>> {
        self.manager.poll_transmit().map(Request::from)
    }

    fn poll_event(&mut self) -> Option<()> {
        let event = self.manager.poll_event()?;
        if let ManagerEvent::Lease(id, event) = event {
            self.on_lease_event(id, event);
        } else if let ManagerEvent::PushEnded { push, outcome } = event {
            log::push(push, &outcome);
            if let Some(answers) = self.answers.remove(&push) {
                // The caller may have stopped waiting, which is no fault.
                let _ = answers.try_send(outcome);
            }
        } else if let ManagerEvent::CleanedUp { cleanup } = event {
            if let Some(done) = self.cleanups.remove(&cleanup) {
                let _ = done.try_send(());
            }
        } else {
            self.on_manager_event(event);
        }
        Some(())
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.manager.poll_timeout()
    }

    fn wants_frames(&self) -> bool {
        self.manager.wants_frames()
    }
}
