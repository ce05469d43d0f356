//! What an adapter is told beside the settings of the core.

use core::time::Duration;

use crate::driver::DriverConfig;
use crate::tls::TlsConfig;

/// The settings of the adapter.
///
/// # Examples
///
/// ```
/// use core::time::Duration;
/// use realtime_smol::Options;
///
/// let options = Options::default().with_write_timeout(Duration::from_secs(5));
/// # let _ = options;
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    driver: DriverConfig,
    pub(crate) events_queued_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { driver: DriverConfig::default(), events_queued_max: 1_024 }
    }
}

impl Options {
    /// Sets whom to trust on `wss` connections. Default: the roots that browsers trust.
    #[must_use]
    pub fn with_tls(mut self, tls: TlsConfig) -> Self {
        self.driver.tls = tls;
        self
    }

    /// Sets how long a connection may take no byte at all before it counts as lost. Default 10 s.
    #[must_use]
    pub fn with_write_timeout(mut self, timeout: Duration) -> Self {
        self.driver.write_timeout = timeout;
        self
    }

    /// Sets how many events wait for one listener before more are dropped and counted. Default
    /// 1,024.
    #[must_use]
    pub const fn with_events_queued_max(mut self, events: usize) -> Self {
        self.events_queued_max = events;
        self
    }

    pub(crate) fn driver(&self) -> DriverConfig {
        self.driver.clone()
    }
}
