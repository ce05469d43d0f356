//! The connections of a manager as its application sees them: wanted or not, and with which token.

use core::time::Duration;

use super::Manager;
use crate::secret::Secret;
use crate::supabase::{BroadcastApi, Cause, CauseKind};
use crate::time::Instant;

impl Manager {
    /// Wants a connection from now on, as [`Client::connect`](crate::Client::connect).
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::manager::{Manager, ManagerConfig};
    /// # use realtime_proto::{Config, Instant};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut manager = Manager::new(ManagerConfig::new(config), 1, now);
    /// manager.connect(now);
    /// assert!(manager.poll_transmit().is_some(), "the driver is asked to open a socket");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn connect(&mut self, now: Instant) {
        let now = self.advance(now);
        self.pool.connect(now);
        self.pump(now);
        self.resume_all();
    }

    /// Wants no connection from now on, as [`Client::disconnect`](crate::Client::disconnect).
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::manager::{Manager, ManagerConfig};
    /// # use realtime_proto::{Config, Instant, Transmit};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut manager = Manager::new(ManagerConfig::new(config), 1, now);
    /// # manager.connect(now);
    /// # let Some(Transmit::Open { socket, .. }) = manager.poll_transmit() else { unreachable!() };
    /// manager.disconnect(now);
    /// assert!(matches!(manager.poll_transmit(), Some(Transmit::Close { .. })));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn disconnect(&mut self, now: Instant) {
        let now = self.advance(now);
        self.pool.disconnect(now);
        self.pump(now);
        // While only an attempt was planned, there was no connection whose end could be told.
        for connection in self.connections() {
            self.on_disconnected(connection.id, &Cause::new(CauseKind::Requested), None);
        }
    }

    /// Uses another access token from now on, as [`Client::set_access_token`](crate::Client::set_access_token).
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::manager::{Manager, ManagerConfig};
    /// # use realtime_proto::{Config, Instant, Secret};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut manager = Manager::new(ManagerConfig::new(config), 1, now);
    /// manager.set_access_token(Some(Secret::new("eyJhbGciOi")), now);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn set_access_token(&mut self, token: Option<Secret>, now: Instant) {
        self.token_asked_by.clear();
        let now = self.advance(now);
        self.pool.set_access_token(token, now);
        self.pump(now);
        self.resume_all();
    }

    /// Sets a query parameter of the next connection, as [`Client::set_param`](crate::Client::set_param).
    pub fn set_param(&mut self, key: &str, value: Option<Secret>, now: Instant) {
        let now = self.advance(now);
        self.pool.set_param(key, value, now);
        self.pump(now);
        self.resume_all();
    }

    /// What was given up for the connection's sake is on its way again when that is.
    fn resume_all(&mut self) {
        for id in self.registry.ids_of(None) {
            self.resume(id);
        }
    }

    /// What makes requests for broadcasts over HTTP, as
    /// [`Client::broadcast_api`](crate::Client::broadcast_api).
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::manager::{Entity, EntityKey, Manager, ManagerConfig};
    /// # use realtime_proto::supabase::HttpBroadcast;
    /// # use realtime_proto::{Config, Instant, Payload};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let manager = Manager::new(ManagerConfig::new(config), 1, Instant::EPOCH);
    /// let topic = EntityKey::subscription(Entity::new("contact", "123")).topic();
    /// let request =
    ///     manager.broadcast_api().single(&HttpBroadcast::new(topic, "bye", Payload::empty()))?;
    /// assert!(request.url().ends_with("subscription%3Acontact%3A123/events/bye"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn broadcast_api(&self) -> BroadcastApi {
        self.pool.broadcast_api()
    }

    /// Tells the wall clock's time, as [`Client::set_unix_time`](crate::Client::set_unix_time).
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::manager::{Manager, ManagerConfig};
    /// # use realtime_proto::{Config, Instant};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut manager = Manager::new(ManagerConfig::new(config), 1, now);
    /// use std::time::{SystemTime, UNIX_EPOCH};
    ///
    /// manager.set_unix_time(SystemTime::now().duration_since(UNIX_EPOCH)?, now);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn set_unix_time(&mut self, unix: Duration, now: Instant) {
        let now = self.advance(now);
        self.pool.set_unix_time(unix, now);
        self.pump(now);
    }

    /// Checks the connection now, as [`Client::probe`](crate::Client::probe).
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::manager::{Manager, ManagerConfig};
    /// # use realtime_proto::{Config, Instant, Transmit};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut manager = Manager::new(ManagerConfig::new(config), 1, now);
    /// # manager.connect(now);
    /// # let Some(Transmit::Open { socket, .. }) = manager.poll_transmit() else { unreachable!() };
    /// # manager.handle_open(socket, now);
    /// # while manager.poll_event().is_some() {}
    /// manager.probe(now);
    /// assert!(matches!(manager.poll_transmit(), Some(Transmit::Frame { .. })), "a heartbeat");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn probe(&mut self, now: Instant) {
        let now = self.advance(now);
        self.pool.probe(now);
        self.pump(now);
    }
}
