//! The connections of a manager: more of them as there are more channels, fewer again when idle.

use alloc::collections::BTreeMap;
use core::num::NonZeroU32;
use core::time::Duration;

use super::config::ManagerError;
use super::stats::Connection;
use crate::client::Client;
use crate::config::{ChannelConfig, Config};
use crate::event::Event;
use crate::ids::{ChannelId, ConnectionId, SocketId};
use crate::rng::Rng;
use crate::secret::Secret;
use crate::stats::Stats;
use crate::supabase::BroadcastApi;
use crate::time::Instant;
use crate::transmit::Transmit;

/// How many connections there may be, and how many channels on each.
#[derive(Clone, Copy, Debug)]
pub(super) struct PoolLimits {
    pub(super) channels_per_connection_max: usize,
    pub(super) connections_max: usize,
}

/// A channel and the connection it is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Wire {
    pub(super) connection: ConnectionId,
    pub(super) channel: ChannelId,
}

impl Wire {
    /// The least of those on a connection.
    pub(super) const fn first_on(connection: ConnectionId) -> Self {
        Self { connection, channel: ChannelId { index: 0, generation: NonZeroU32::MIN } }
    }
}

/// Clients that share nothing but their settings, so that one's fault is not another's.
///
/// The first is always there. A further one is made when all are full, and goes after it had no
/// channel for a while.
#[derive(Debug)]
pub(super) struct Pool {
    /// What the next connection is made with; tokens and parameters are kept up to date in it.
    config: Config,
    limits: PoolLimits,
    rng: Rng,
    clients: BTreeMap<ConnectionId, Client>,
    next: u32,
    /// Whether the application wants to be connected.
    wanted: bool,
    /// The wall clock's time and when it was told.
    unix: Option<(Duration, Instant)>,
    /// What connections did that are gone.
    retired: Stats,
}

impl Pool {
    /// How long a further connection stays without a channel when the settings do not tell.
    const IDLE_AFTER: Duration = Duration::from_secs(50);

    pub(super) fn new(config: Config, limits: PoolLimits, seed: u64, now: Instant) -> Self {
        let mut rng = Rng::new(seed);
        let first = Client::new(config.clone(), rng.next_u64(), now);
        Self {
            config,
            limits,
            rng,
            clients: BTreeMap::from([(ConnectionId::FIRST, first)]),
            next: 1,
            wanted: false,
            unix: None,
            retired: Stats::default(),
        }
    }

    /// Opens a channel on the first connection that has room, which may be a new one.
    pub(super) fn open_channel(
        &mut self,
        topic: &str,
        config: ChannelConfig,
        now: Instant,
    ) -> Result<Wire, ManagerError> {
        let connection = self.room(now)?;
        let client = self.clients.get_mut(&connection).expect("it has room");
        let channel = client.open_channel(topic, config, now)?;
        // A connection that gave up is asked again by whoever asks for a channel on it, and so is a
        // further one that was not wanted back when it had none.
        if client.is_stopped() || (self.wanted && !client.is_wanted()) {
            client.connect(now);
        }
        Ok(Wire { connection, channel })
    }

    fn room(&mut self, now: Instant) -> Result<ConnectionId, ManagerError> {
        let per_connection = self.limits.channels_per_connection_max.max(1);
        let with_room = self.clients.iter().find(|(_, it)| it.channel_count() < per_connection);
        if let Some((id, _)) = with_room {
            return Ok(*id);
        }
        if self.clients.len() >= self.limits.connections_max {
            let max = per_connection.saturating_mul(self.limits.connections_max);
            return Err(ManagerError::Full { max });
        }
        let id = ConnectionId(self.next);
        self.next += 1;
        let mut config = self.config.clone();
        config.disconnect_when_empty_after.get_or_insert(Self::IDLE_AFTER);
        let mut client = Client::on_connection(id, config, self.rng.next_u64(), now);
        if let Some((unix, told_at)) = self.unix {
            client.set_unix_time(unix.saturating_add(now.saturating_duration_since(told_at)), now);
        }
        if self.wanted {
            client.connect(now);
        }
        self.clients.insert(id, client);
        Ok(id)
    }

    /// Drops further connections that have no channel, no socket and nothing left to say. A delay
    /// that a server asked for runs to its end before, lest a new connection came earlier.
    fn retire(&mut self) {
        if self.clients.len() == 1 {
            return;
        }
        let retired = &mut self.retired;
        self.clients.retain(|id, client| {
            let needed = *id == ConnectionId::FIRST || client.channel_count() > 0;
            if !needed {
                client.rest_after_delay();
            }
            let stays = needed || !client.is_at_rest() || client.has_output();
            if !stays {
                retired.add(&client.stats());
            }
            stays
        });
    }

    pub(super) fn client(&self, id: ConnectionId) -> Option<&Client> {
        self.clients.get(&id)
    }

    /// The client a socket belongs to; none when its connection is gone.
    pub(super) fn client_of(&mut self, socket: SocketId) -> Option<&mut Client> {
        let client = self.clients.get_mut(&socket.connection);
        if client.is_none() {
            self.retired.stale_sockets += 1;
        }
        client
    }

    /// A view of a channel; none once it is gone.
    pub(super) fn channel(&mut self, wire: Wire) -> Option<crate::client::Channel<'_>> {
        self.clients.get_mut(&wire.connection)?.channel(wire.channel)
    }

    pub(super) fn slot(&self, wire: Wire) -> Option<&crate::channel::Slot> {
        self.clients.get(&wire.connection)?.slot(wire.channel)
    }

    pub(super) fn close_channel(&mut self, wire: Wire, now: Instant) {
        if let Some(client) = self.clients.get_mut(&wire.connection) {
            client.close_channel(wire.channel, now);
        }
    }

    /// Tries to connect again where that was given up.
    pub(super) fn revive(&mut self, wire: Option<Wire>, now: Instant) {
        let connection = wire.map_or(ConnectionId::FIRST, |wire| wire.connection);
        if let Some(client) = self.clients.get_mut(&connection) {
            if client.is_stopped() {
                client.connect(now);
            }
        }
    }

    pub(super) fn connect(&mut self, now: Instant) {
        self.wanted = true;
        for (id, client) in &mut self.clients {
            // A further one that lost its last channel while offline is not wanted back.
            if *id == ConnectionId::FIRST || client.channel_count() > 0 {
                client.connect(now);
            }
        }
    }

    pub(super) fn disconnect(&mut self, now: Instant) {
        self.wanted = false;
        self.clients.values_mut().for_each(|client| client.disconnect(now));
    }

    pub(super) fn set_access_token(&mut self, token: Option<Secret>, now: Instant) {
        self.config.access_token.clone_from(&token);
        for client in self.clients.values_mut() {
            client.set_access_token(token.clone(), now);
        }
    }

    pub(super) fn set_param(&mut self, key: &str, value: Option<Secret>, now: Instant) {
        self.config.set_param(key, value.clone());
        for client in self.clients.values_mut() {
            client.set_param(key, value.clone(), now);
        }
    }

    pub(super) fn broadcast_api(&self) -> BroadcastApi {
        self.config.broadcast_api(self.config.access_token.as_ref())
    }

    pub(super) fn set_unix_time(&mut self, unix: Duration, now: Instant) {
        self.unix = Some((unix, now));
        self.clients.values_mut().for_each(|client| client.set_unix_time(unix, now));
    }

    /// The wall clock's time, if it was told.
    pub(super) fn unix_now(&self, now: Instant) -> Option<Duration> {
        self.unix.map(|(unix, told_at)| unix.saturating_add(now.saturating_duration_since(told_at)))
    }

    pub(super) fn probe(&mut self, now: Instant) {
        self.clients.values_mut().for_each(|client| client.probe(now));
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        for client in self.clients.values_mut() {
            if client.poll_timeout().is_some_and(|deadline| deadline <= now) {
                client.handle_timeout(now);
            }
        }
    }

    /// The next thing for the driver of any connection, and whether that connection has something to
    /// tell now.
    pub(super) fn poll_transmit(&mut self) -> Option<(Transmit, bool)> {
        let take = |client: &mut Client| Some((client.poll_transmit()?, client.has_events()));
        let transmit = self.clients.values_mut().find_map(take);
        if transmit.is_none() {
            self.retire();
        }
        transmit
    }

    /// The next event of any connection, and which it is of.
    pub(super) fn poll_event(&mut self) -> Option<(ConnectionId, Event)> {
        self.clients.iter_mut().find_map(|(id, client)| Some((*id, client.poll_event()?)))
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.clients.values().filter_map(Client::poll_timeout).min()
    }

    /// The application has too many events to take already.
    pub(super) fn on_unheard(&mut self) {
        self.clients.values_mut().for_each(Client::on_unheard);
    }

    /// The application has taken so many events that there is room for more.
    pub(super) fn on_heard(&mut self, now: Instant) {
        self.clients.values_mut().for_each(|client| client.on_heard(now));
    }

    /// What all connections did so far, those included that are gone.
    pub(super) fn stats(&self) -> Stats {
        let mut stats = self.retired.clone();
        self.clients.values().for_each(|client| stats.add(&client.stats()));
        stats
    }

    /// The connections there are, in the order they were made.
    pub(super) fn connections(&self) -> impl Iterator<Item = Connection> {
        self.clients.iter().map(|(id, client)| Connection {
            id: *id,
            state: client.connection_state(),
            channels: client.channel_count(),
        })
    }
}
