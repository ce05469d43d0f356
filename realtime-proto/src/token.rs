//! The access token: which one is current, when it expires, and whether joins may use it.

use core::time::Duration;

use crate::secret::Secret;
use crate::supabase::token_expiry;
use crate::time::Instant;

/// The access token of a client.
#[derive(Debug)]
pub(crate) struct Token {
    current: Option<Secret>,
    /// How often it changed: what was written with an older one is out of date.
    pub(crate) version: u64,
    /// The claim `exp`, since the Unix epoch.
    expiry: Option<Duration>,
    /// The Unix time at the driver's epoch, when the driver told it.
    unix_at_epoch: Option<Duration>,
    standing: Standing,
}

/// What is known of the token's worth, beside its expiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Nothing speaks against it.
    Good,
    /// The application was told that it needs another one soon.
    Expiring,
    /// It expired by the driver's clock, and the application was told.
    Expired,
    /// The server rejected it, and the application was told.
    Rejected,
}

impl Token {
    pub(crate) fn new(current: Option<Secret>) -> Self {
        let expiry = current.as_ref().and_then(|token| token_expiry(token.expose()));
        Self { current, version: 0, expiry, unix_at_epoch: None, standing: Standing::Good }
    }

    pub(crate) const fn current(&self) -> Option<&Secret> {
        self.current.as_ref()
    }

    /// Takes another token, and tells whether it is one.
    pub(crate) fn set(&mut self, token: Option<Secret>) -> bool {
        if self.current == token {
            return false;
        }
        let (version, unix_at_epoch) = (self.version + 1, self.unix_at_epoch);
        *self = Self { version, unix_at_epoch, ..Self::new(token) };
        true
    }

    /// Takes the wall clock's time. A token that is seen not to have expired is as good as before.
    pub(crate) fn set_unix_time(&mut self, unix: Duration, now: Instant) {
        self.unix_at_epoch = unix.checked_sub(now.since_epoch());
        if self.standing == Standing::Expired && !self.is_dead(now) {
            self.standing = Standing::Good;
        }
    }

    /// An instant as the time since the Unix epoch, when the driver told the wall clock.
    pub(crate) fn unix(&self, at: Instant) -> Option<Duration> {
        self.unix_at_epoch?.checked_add(at.since_epoch())
    }

    /// When the token expires on the driver's clock; `None` when that cannot be told.
    pub(crate) fn expires_at(&self) -> Option<Instant> {
        let expiry = self.expiry?.saturating_sub(self.unix_at_epoch?);
        Some(Instant::from_epoch(expiry))
    }

    /// Whether a join with it would be refused for sure.
    pub(crate) fn is_dead(&self, now: Instant) -> bool {
        self.standing == Standing::Rejected || self.expires_at().is_some_and(|at| at <= now)
    }

    /// Notes that the application is told of the coming expiry, unless it was told before.
    pub(crate) fn warn(&mut self) -> bool {
        let news = self.standing == Standing::Good;
        if news {
            self.standing = Standing::Expiring;
        }
        news
    }

    /// Notes that the application is told that the token expired, unless it knows.
    pub(crate) fn expire(&mut self) -> bool {
        let news = !matches!(self.standing, Standing::Expired | Standing::Rejected);
        if news {
            self.standing = Standing::Expired;
        }
        news
    }

    /// The server rejected the token.
    pub(crate) const fn reject(&mut self) {
        self.standing = Standing::Rejected;
    }

    /// The application insists on trying with it.
    pub(crate) const fn rehabilitate(&mut self) {
        self.standing = Standing::Good;
    }
}
