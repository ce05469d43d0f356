//! The inputs and outputs of a manager: what its driver calls.

use super::Manager;
use super::event::ManagerEvent;
use crate::ids::SocketId;
use crate::time::Instant;
use crate::transmit::{CloseReason, Frame, Transmit};

impl Manager {
    /// The transport is open.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::manager::{Manager, ManagerConfig, ManagerEvent};
    /// # use realtime_proto::{Config, Instant, Transmit};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut manager = Manager::new(ManagerConfig::new(config), 1, now);
    /// # manager.connect(now);
    /// # let Some(Transmit::Open { socket, .. }) = manager.poll_transmit() else { unreachable!() };
    /// manager.handle_open(socket, now);
    /// assert!(matches!(manager.poll_event(), Some(ManagerEvent::Connected { .. })));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn handle_open(&mut self, socket: SocketId, now: Instant) {
        let now = self.advance(now);
        if let Some(client) = self.pool.client_of(socket) {
            client.handle_open(socket, now);
        }
        self.pump(now);
    }

    /// A frame came.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::manager::{Manager, ManagerConfig, ManagerEvent};
    /// # use realtime_proto::{Config, Frame, Instant, Transmit};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut manager = Manager::new(ManagerConfig::new(config), 1, now);
    /// # manager.connect(now);
    /// # let Some(Transmit::Open { socket, .. }) = manager.poll_transmit() else { unreachable!() };
    /// # manager.handle_open(socket, now);
    /// # while manager.poll_event().is_some() {}
    /// manager.handle_frame(socket, Frame::text("what is this?"), now);
    /// assert!(matches!(manager.poll_event(), Some(ManagerEvent::Violation(_))));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn handle_frame(&mut self, socket: SocketId, frame: Frame, now: Instant) {
        let now = self.advance(now);
        let full = self.events.len() >= 2 * self.events_queued_max;
        match self.pool.client_of(socket) {
            Some(client) if full => return client.drop_frame(socket, now),
            Some(client) => client.handle_frame(socket, frame, now),
            None => {}
        }
        self.pump(now);
    }

    /// The transport ended, or could not be opened.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::manager::{Manager, ManagerConfig, ManagerEvent};
    /// # use realtime_proto::{CloseReason, Config, Instant, Transmit};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut manager = Manager::new(ManagerConfig::new(config), 1, now);
    /// # manager.connect(now);
    /// # let Some(Transmit::Open { socket, .. }) = manager.poll_transmit() else { unreachable!() };
    /// # manager.handle_open(socket, now);
    /// # while manager.poll_event().is_some() {}
    /// manager.handle_close(socket, CloseReason::Lost { detail: "reset by peer".into() }, now);
    /// assert!(matches!(manager.poll_event(), Some(ManagerEvent::Disconnected { .. })));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn handle_close(&mut self, socket: SocketId, reason: CloseReason, now: Instant) {
        let now = self.advance(now);
        if let Some(client) = self.pool.client_of(socket) {
            client.handle_close(socket, reason, now);
        }
        self.pump(now);
    }

    /// The deadline of [`poll_timeout`](Self::poll_timeout) came.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::manager::{Entity, EntityOptions, Manager, ManagerConfig};
    /// # use realtime_proto::{Config, Instant};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut manager = Manager::new(ManagerConfig::new(config), 1, now);
    /// # let contact = Entity::new("contact", "123");
    /// let lease = manager.subscribe_to_entity(&contact, &EntityOptions::default(), now)?;
    /// manager.release(lease, now);
    /// while manager.poll_event().is_some() {}
    /// // The channel lingers for a second, and nobody comes back.
    /// let deadline = manager.poll_timeout().ok_or("the end of the linger")?;
    /// manager.handle_timeout(deadline);
    /// assert_eq!(manager.active_channels().count(), 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn handle_timeout(&mut self, now: Instant) {
        let now = self.advance(now);
        self.pool.handle_timeout(now);
        while let Some(id) = self.registry.pop_lingered(self.now) {
            // A broadcast that waits for the join keeps the channel until it has its outcome.
            if self.is_idle(id) {
                self.leave(id, now);
            } else {
                let again = self.config.linger.max(Self::LINGER_STEP_MIN);
                self.registry.set_linger(id, Some(self.now + again));
            }
        }
        self.pump(now);
    }

    /// The next thing for the driver to do, in order.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::manager::{Manager, ManagerConfig};
    /// # use realtime_proto::{Config, Instant, Transmit};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut manager = Manager::new(ManagerConfig::new(config), 1, now);
    /// manager.connect(now);
    /// while let Some(transmit) = manager.poll_transmit() {
    ///     match transmit {
    ///         Transmit::Open { socket, url } => println!("open {url} as {socket}"),
    ///         Transmit::Frame { socket, frame } => println!("write {frame:?} to {socket}"),
    ///         Transmit::Close { socket, code, .. } => println!("close {socket} with {code}"),
    ///         _ => {}
    ///     }
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        let (transmit, tells) = self.pool.poll_transmit()?;
        if tells {
            // A push that asks for no reply ends as its frame is taken.
            self.pump(self.now);
        }
        Some(transmit)
    }

    /// The next thing that happened, in order.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::manager::{Entity, EntityOptions, Manager, ManagerConfig, ManagerEvent};
    /// # use realtime_proto::{Config, Instant};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut manager = Manager::new(ManagerConfig::new(config), 1, now);
    /// # let contact = Entity::new("contact", "123");
    /// let lease = manager.subscribe_to_entity(&contact, &EntityOptions::default(), now)?;
    /// while let Some(event) = manager.poll_event() {
    ///     match event {
    ///         ManagerEvent::Lease(to, event) if to == lease => println!("{event:?}"),
    ///         other => println!("{other:?}"),
    ///     }
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn poll_event(&mut self) -> Option<ManagerEvent> {
        let was_unheard = !self.wants_frames();
        let event = self.events.pop_front();
        if was_unheard && self.wants_frames() {
            self.pool.on_heard(self.now);
        }
        if self.events.is_empty() && self.events.capacity() > Self::EVENTS_KEPT {
            // After a burst, such as a clean-up of thousands, the room for it is given back.
            self.events.shrink_to(Self::EVENTS_KEPT);
        }
        event
    }

    /// When to call [`handle_timeout`](Self::handle_timeout), as [`Client::poll_timeout`](crate::Client::poll_timeout).
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::manager::{Manager, ManagerConfig};
    /// # use realtime_proto::{Config, Instant};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut manager = Manager::new(ManagerConfig::new(config), 1, now);
    /// assert_eq!(manager.poll_timeout(), None, "offline, there is nothing to wake for");
    /// manager.connect(now);
    /// assert_eq!(manager.poll_timeout(), Some(now), "there is something to take");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if !self.events.is_empty() {
            return Some(self.now);
        }
        [self.pool.poll_timeout(), self.registry.linger_deadline()].into_iter().flatten().min()
    }

    /// Whether frames may be fed, as [`Client::wants_frames`](crate::Client::wants_frames).
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::manager::{Manager, ManagerConfig};
    /// # use realtime_proto::{Config, Instant};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut manager = Manager::new(ManagerConfig::new(config), 1, now);
    /// if manager.wants_frames() {
    ///     // Read the next frame from the socket.
    /// }
    /// # assert!(manager.wants_frames());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn wants_frames(&self) -> bool {
        self.events.len() < self.events_queued_max
    }
}
