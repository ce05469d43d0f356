//! Tokens of channels: who is there, what they may do, and until when.

use alloc::format;
use alloc::string::String;
use core::time::Duration;

use super::Server;
use super::channel::{Kind, Origin};
use super::claims::{BadToken, Claims};
use super::event::SessionId;
use super::policy::Rights;
use super::postgres::Postgres;
use super::timer::Timer;
use crate::secret::Secret;
use crate::supabase::Row;
use crate::wire::Body;

/// Looking more often would be looking all the time.
const TOKEN_CHECK_MIN: Duration = Duration::from_secs(1);
/// What a denial says before the sub-topic.
pub(super) const NO_PERMISSION: &str =
    "You do not have permissions to read from this Channel topic: ";

/// Who a channel is, and what it may do.
pub(super) struct Standing {
    pub(super) claims: Claims,
    pub(super) rights: Rights,
}

/// A token that counts: a string that is not one of the new API keys.
pub(super) fn read_token(raw: &str) -> Option<Secret> {
    let token: String = serde_json::from_str(raw).ok()?;
    (!token.starts_with("sb_")).then(|| Secret::new(token))
}

impl Server {
    /// The time since the Unix epoch.
    pub(super) fn unix_now(&self) -> Duration {
        self.now.since_epoch().saturating_add(self.config.unix_time_at_epoch)
    }

    /// Who brings a token, or the session's API key without one.
    pub(super) fn claims_of(
        &self,
        id: SessionId,
        token: Option<&Secret>,
    ) -> Result<Claims, BadToken> {
        let apikey = self.sessions.get(&id).and_then(|session| session.apikey.as_ref());
        self.claims(token.or(apikey))
    }

    pub(super) fn claims(&self, token: Option<&Secret>) -> Result<Claims, BadToken> {
        let Some(token) = token else {
            return Ok(Claims::anonymous());
        };
        if self.config.reads_tokens && self.config.apikey.as_ref() != Some(token) {
            return Claims::read(token.expose(), self.unix_now());
        }
        // Nothing has expired at the beginning of time.
        let claims = Claims::read(token.expose(), Duration::ZERO);
        Ok(claims.map_or_else(|_| Claims::anonymous(), |claims| Claims { exp: None, ..claims }))
    }

    pub(super) fn rights(&self, private: bool, sub_topic: &str, claims: &Claims) -> Rights {
        if private { self.config.policy.rights(sub_topic, claims) } else { Rights::ALL }
    }

    /// Protocol §5.9: there is never a reply, and what is no token is ignored.
    pub(super) fn take_token(&mut self, origin: Origin<'_>, body: &Body<'_>) {
        let token = match body {
            Body::Json(text) => {
                Row::read(text).and_then(|row| row.column("access_token")).and_then(read_token)
            }
            Body::Binary(_) | Body::Reply { .. } | Body::UserBroadcast { .. } => None,
        };
        let (Some(token), Some(Kind::Supabase(supabase))) = (token, self.kind_of(origin)) else {
            return;
        };
        if supabase.token.as_ref() == Some(&token) {
            return;
        }
        let (id, topic) = (origin.id, origin.topic);
        let sub_topic = topic.strip_prefix("realtime:").unwrap_or(topic);
        let claims = match self.claims(Some(&token)) {
            Ok(claims) => claims,
            Err(error) => {
                self.shut(id, topic, &error.text());
                return;
            }
        };
        let (old, new) =
            (supabase.standing.rights, self.rights(supabase.private, sub_topic, &claims));
        let presence = supabase.presence;
        let reads_any = new.read_broadcast || (presence && new.read_presence);
        let lost_any = (old.read_broadcast && !new.read_broadcast)
            || (presence && old.read_presence && !new.read_presence);
        if !reads_any {
            self.shut(id, topic, &format!("{NO_PERMISSION}{sub_topic}"));
            return;
        }
        if lost_any {
            let text = "You no longer have permission to read from this Channel topic: ";
            self.shut(id, topic, &format!("{text}{sub_topic}"));
            return;
        }
        if let Some(supabase) = self.supabase_mut(id, topic) {
            supabase.token = Some(token);
            supabase.standing = Standing { claims, rights: new };
        }
        self.confirm_changes(id, topic);
        self.watch_token(id, topic);
    }

    /// Row changes go on under the new claims, and the database says so once more.
    fn confirm_changes(&mut self, id: SessionId, topic: &str) {
        let at = self.now + self.config.subscribed_after;
        let timer = self.timers.arm(at, Timer::Subscribed(id, topic.into()));
        let unneeded = match self.supabase_mut(id, topic).map(|supabase| &mut supabase.postgres) {
            Some(Postgres::Live { confirmation, .. }) => confirmation.replace(timer),
            Some(
                Postgres::Off
                | Postgres::Subscribing { .. }
                | Postgres::Waiting { .. }
                | Postgres::Failed,
            )
            | None => Some(timer),
        };
        if let Some(timer) = unneeded {
            self.timers.disarm(timer);
        }
    }

    /// Sets when a channel's token is looked at again: at its end, and now and then before.
    pub(super) fn watch_token(&mut self, id: SessionId, topic: &str) {
        let (now, unix) = (self.now, self.unix_now());
        let interval = self.config.token_check_interval.max(TOKEN_CHECK_MIN);
        let Some(supabase) = self.supabase_mut(id, topic) else {
            return;
        };
        let old = supabase.expiry.take();
        let exp = supabase.standing.claims.exp;
        if let Some(timer) = old {
            self.timers.disarm(timer);
        }
        if let Some(exp) = exp {
            let at = now + exp.saturating_sub(unix).min(interval);
            let timer = self.timers.arm(at, Timer::Token(id, topic.into()));
            if let Some(supabase) = self.supabase_mut(id, topic) {
                supabase.expiry = Some(timer);
            }
        }
    }

    /// A channel's token may have expired.
    pub(super) fn check_token(&mut self, id: SessionId, topic: &str) {
        let unix = self.unix_now();
        let Some(supabase) = self.supabase_mut(id, topic) else {
            return;
        };
        supabase.expiry = None;
        match supabase.standing.claims.check(unix) {
            Ok(()) => self.watch_token(id, topic),
            Err(error) => {
                self.shut(id, topic, &error.text());
            }
        }
    }
}
