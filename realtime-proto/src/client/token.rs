//! Access tokens: setting them, asking for them, and holding back what has none.

use alloc::vec::Vec;
use core::time::Duration;

use super::Client;
use crate::channel::{Input, State};
use crate::event::Event;
use crate::ids::ChannelId;
use crate::secret::Secret;
use crate::socket::Socket;
use crate::supabase::{BroadcastApi, Cause, CauseKind, Retry};
use crate::time::Instant;
use crate::timer::Timer;

impl Client {
    /// Uses another access token from now on, or none: joins carry it, joined channels are told,
    /// and what waited for a token tries again.
    ///
    /// The same token has no effect.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::{Client, Config, Instant};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut client = Client::new(config, 42, now);
    /// client.set_access_token(Some("a.new.token".into()), now);
    /// client.set_access_token(None, now); // signed out
    /// # Ok::<(), realtime_proto::ConfigError>(())
    /// ```
    pub fn set_access_token(&mut self, token: Option<Secret>, now: Instant) {
        self.advance(now);
        if !self.ctx.token.set(token) {
            return;
        }
        self.ctx.joins.release();
        let mut waiting: Vec<ChannelId> = Vec::new();
        for slot in self.channels.iter_mut() {
            match &slot.state {
                State::Joined(_) if slot.config.is_supabase() => slot.push_token(&mut self.ctx),
                State::Errored { cause, .. } if cause.kind.retry() == Retry::NewToken => {
                    waiting.push(slot.id);
                }
                State::Closed
                | State::Joining { .. }
                | State::Joined(_)
                | State::Errored { .. }
                | State::Leaving { .. } => {}
            }
        }
        for id in waiting {
            self.on_channel_input(id, Input::RetryDue, now);
        }
        self.retry_with_new_credentials();
        self.schedule_token_warning();
        self.settle();
    }

    /// Sets a query parameter of the next connection, or takes it out. A connection that was given
    /// up because of its credentials is tried again.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::{Client, Config, Instant};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut client = Client::new(config, 42, now);
    /// client.set_param("apikey", Some("a-new-key".into()), now);
    /// # Ok::<(), realtime_proto::ConfigError>(())
    /// ```
    pub fn set_param(&mut self, key: &str, value: Option<Secret>, now: Instant) {
        self.advance(now);
        self.ctx.config.set_param(key, value);
        self.retry_with_new_credentials();
        self.settle();
    }

    /// What makes requests for broadcasts over HTTP, to the same server and as the same user: with
    /// the API key and the access token of this moment.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::supabase::HttpBroadcast;
    /// # use realtime_proto::{Client, Config, Instant, Payload};
    /// let config = Config::builder("wss://project.supabase.co/realtime/v1").apikey("anon-key");
    /// let client = Client::new(config.build()?, 42, Instant::EPOCH);
    /// let bye = HttpBroadcast::new("realtime:room", "bye", Payload::empty());
    /// let request = client.broadcast_api().single(&bye)?;
    /// assert!(request.headers().any(|header| header == ("apikey", "anon-key")));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn broadcast_api(&self) -> BroadcastApi {
        self.ctx.config.broadcast_api(self.ctx.token.current())
    }

    /// Tells the wall clock's time, since the Unix epoch, so that the expiry of tokens is known
    /// beforehand. Without it, a token is dead when the server says so.
    ///
    /// Call it at the start and whenever the wall clock was corrected. A wall clock that is ahead
    /// makes a good token look expired, and joins then wait for another one.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::{Client, Config, Instant};
    /// use std::time::{SystemTime, UNIX_EPOCH};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut client = Client::new(config, 42, now);
    /// client.set_unix_time(SystemTime::now().duration_since(UNIX_EPOCH)?, now);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn set_unix_time(&mut self, unix: Duration, now: Instant) {
        self.advance(now);
        self.ctx.token.set_unix_time(unix, self.ctx.now);
        if !self.ctx.token.is_dead(self.ctx.now) {
            self.ctx.joins.release();
        }
        self.schedule_token_warning();
        self.settle();
    }

    /// The token is about to expire: another one is needed before that.
    pub(super) fn on_token_expiring(&mut self) {
        let deadline = self.ctx.token.expires_at();
        if self.ctx.token.warn() {
            let cause = Cause::new(CauseKind::TokenExpiring);
            self.ctx.events.push_back(Event::TokenNeeded { cause, deadline });
        }
    }

    /// Whether joins of Supabase channels wait for another token; tells the application, once.
    pub(super) fn awaits_token(&mut self) -> bool {
        if !self.ctx.token.is_dead(self.ctx.now) {
            return false;
        }
        if self.ctx.token.expire() {
            let cause = Cause::new(CauseKind::TokenExpired);
            self.ctx.events.push_back(Event::TokenNeeded { cause, deadline: None });
        }
        true
    }

    fn retry_with_new_credentials(&mut self) {
        let stopped = matches!(&self.ctx.socket,
            Socket::Stopped { cause } if cause.kind.retry() == Retry::NewToken);
        if stopped {
            self.open_socket();
        }
    }

    fn schedule_token_warning(&mut self) {
        self.ctx.timers.cancel(Timer::TokenExpiring);
        if let Some(at) = self.ctx.token.expires_at() {
            let before = self.ctx.config.token_needed_before;
            let warn_at = at.since_epoch().saturating_sub(before);
            let warn_at = Instant::from_epoch(warn_at).max(self.ctx.now);
            self.ctx.timers.set(Timer::TokenExpiring, warn_at);
        }
    }
}
