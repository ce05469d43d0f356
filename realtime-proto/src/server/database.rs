//! The database behind the channels: what it says, and how it fails.

use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use super::Server;
use super::channel::Kind;
use super::event::SessionId;
use super::postgres::Postgres;
use super::timer::Timer;
use super::topic::system;
use crate::time::Instant;

/// How long a channel waits for the connection that brings broadcasts of the database.
const REPLICATION_TIMEOUT: Duration = Duration::from_secs(60);

impl Server {
    /// Lets the row changes of a topic fail: its channels get a `system` error with `message` and
    /// no changes; to how many channels that happened.
    ///
    /// A real server tries again after an error that may pass, which `again_after` does: the
    /// channels are subscribed anew then, and told so. With `None` they stay without changes until
    /// they join again. Protocol §5.4 lists the messages of both kinds.
    ///
    /// # Examples
    ///
    /// ```
    /// # use core::time::Duration;
    /// # use realtime_proto::server::{Server, ServerConfig};
    /// # use realtime_proto::Instant;
    /// # let now = Instant::EPOCH;
    /// # let mut server = Server::new(ServerConfig::default(), 0, now);
    /// let again_after = Some(Duration::from_secs(5));
    /// server.fail_changes("realtime:room", "Too many database timeouts", again_after, now);
    /// ```
    pub fn fail_changes(
        &mut self,
        topic: &str,
        message: &str,
        again_after: Option<Duration>,
        now: Instant,
    ) -> usize {
        self.advance(now);
        let listening = self.listening(topic);
        for &id in &listening {
            self.fail_changes_of(id, topic, again_after);
            self.push_system(id, topic, &system("postgres_changes", "error", message, topic));
        }
        self.settle();
        listening.len()
    }

    /// Lets the row changes of a topic stop without a word, as a restart of what follows the
    /// database does: its channels get none, and are told that they flow when `again_after` is
    /// over; to how many channels that happens. Protocol §5.4.
    ///
    /// # Examples
    ///
    /// ```
    /// # use core::time::Duration;
    /// # use realtime_proto::server::{Server, ServerConfig};
    /// # use realtime_proto::Instant;
    /// # let now = Instant::EPOCH;
    /// # let mut server = Server::new(ServerConfig::default(), 0, now);
    /// server.restart_changes("realtime:room", Duration::from_secs(5), now);
    /// ```
    pub fn restart_changes(&mut self, topic: &str, again_after: Duration, now: Instant) -> usize {
        self.advance(now);
        let listening = self.listening(topic);
        for &id in &listening {
            self.fail_changes_of(id, topic, Some(again_after));
        }
        self.settle();
        listening.len()
    }

    /// Takes the database away: row changes stop, whoever has them or asks for them meanwhile gets a
    /// `system` error, and a join that wants a replay is refused. Nothing happens when it is away
    /// already. Protocol §5.4.
    ///
    /// A real server does not always tell; [`restart_changes`](Self::restart_changes) is silent.
    ///
    /// # Examples
    ///
    /// ```
    /// # use core::time::Duration;
    /// # use realtime_proto::server::{Server, ServerConfig};
    /// # use realtime_proto::Instant;
    /// # let mut now = Instant::EPOCH;
    /// # let mut server = Server::new(ServerConfig::default(), 0, now);
    /// server.stop_database(now);
    /// now = now + Duration::from_secs(30);
    /// server.start_database(now);
    /// ```
    pub fn stop_database(&mut self, now: Instant) {
        self.advance(now);
        self.is_database_away = true;
        for (id, topic) in self.channels_with(|postgres| {
            matches!(postgres, Postgres::Subscribing { outcome: Ok(_), .. } | Postgres::Live { .. })
        }) {
            let Some(supabase) = self.supabase_mut(id, &topic) else { continue };
            let old = core::mem::replace(&mut supabase.postgres, Postgres::Failed);
            let timer = old.timer();
            if let Some(bindings) = old.into_bindings() {
                supabase.postgres = Postgres::Waiting { bindings };
            }
            if let Some(timer) = timer {
                self.timers.disarm(timer);
            }
            self.tell_database_away(id, &topic);
        }
        self.settle();
    }

    /// Brings the database back: channels that were to have row changes are subscribed anew, and
    /// told so.
    ///
    /// [`stop_database`](Self::stop_database) has an example.
    pub fn start_database(&mut self, now: Instant) {
        self.advance(now);
        self.is_database_away = false;
        let at = self.now + self.config.subscribed_after;
        let is_waiting = |postgres: &Postgres| matches!(postgres, Postgres::Waiting { .. });
        for (id, topic) in self.channels_with(is_waiting) {
            let timer = self.timers.arm(at, Timer::Subscribed(id, topic.clone()));
            let Some(supabase) = self.supabase_mut(id, &topic) else { continue };
            let old = core::mem::replace(&mut supabase.postgres, Postgres::Failed);
            if let Some(bindings) = old.into_bindings() {
                supabase.postgres = Postgres::Subscribing { timer, outcome: Ok(bindings) };
            }
        }
    }

    /// A channel that is to have row changes hears that it has none for now.
    pub(super) fn tell_database_away(&mut self, id: SessionId, topic: &str) {
        let message = "Too many database timeouts";
        self.push_system(id, topic, &system("postgres_changes", "error", message, topic));
    }

    fn channels_with(&self, is_one: impl Fn(&Postgres) -> bool) -> Vec<(SessionId, String)> {
        let mut found = Vec::new();
        for (id, session) in &self.sessions {
            for (topic, channel) in &session.channels {
                if let Kind::Supabase(supabase) = &channel.kind {
                    if is_one(&supabase.postgres) {
                        found.push((*id, topic.clone()));
                    }
                }
            }
        }
        found
    }

    /// The sessions whose channel of a topic has row changes, or is about to.
    fn listening(&self, topic: &str) -> Vec<SessionId> {
        let sessions = self.sessions.iter();
        sessions
            .filter(|(_, session)| match session.channels.get(topic).map(|c| &c.kind) {
                Some(Kind::Supabase(supabase)) => {
                    matches!(
                        supabase.postgres,
                        Postgres::Subscribing { outcome: Ok(_), .. } | Postgres::Live { .. }
                    )
                }
                Some(Kind::Plain) | None => false,
            })
            .map(|(id, _)| *id)
            .collect()
    }

    fn fail_changes_of(&mut self, id: SessionId, topic: &str, again_after: Option<Duration>) {
        let at = again_after.map(|span| self.now + span);
        let timer = at.map(|at| self.timers.arm(at, Timer::Subscribed(id, topic.into())));
        let Some(supabase) = self.supabase_mut(id, topic) else {
            return;
        };
        let old = core::mem::replace(&mut supabase.postgres, Postgres::Failed);
        let old_timer = old.timer();
        if let (Some(timer), Some(bindings)) = (timer, old.into_bindings()) {
            supabase.postgres = Postgres::Subscribing { timer, outcome: Ok(bindings) };
        }
        if let Some(timer) = old_timer {
            self.timers.disarm(timer);
        }
    }

    /// Tells a channel when broadcasts of the database reach it. Protocol §5.4.
    pub(super) fn await_replication(&mut self, id: SessionId, topic: &str) {
        let span = self.config.replication_ready_after;
        if span.is_zero() {
            self.tell_ready(id, topic);
            return;
        }
        let at = self.now + span.min(REPLICATION_TIMEOUT);
        let timer = self.timers.arm(at, Timer::Ready(id, topic.into()));
        if let Some(supabase) = self.supabase_mut(id, topic) {
            supabase.ready = Some(timer);
        }
    }

    /// The connection of the database stands, or has taken too long.
    pub(super) fn tell_ready(&mut self, id: SessionId, topic: &str) {
        if self.config.replication_ready_after > REPLICATION_TIMEOUT {
            self.shut(id, topic, "Replication connection was not established in time");
            return;
        }
        if let Some(supabase) = self.supabase_mut(id, topic) {
            supabase.ready = None;
        }
        let message = "Replication connection established";
        let payload: String = system("system", "ok", message, topic);
        self.push_system(id, topic, &payload);
    }
}
