//! The manager of the process: set up once, asked for anywhere.

use std::sync::OnceLock;

use realtime_proto::manager::ManagerConfig;

use super::Manager;
use crate::error::Error;

static SHARED: OnceLock<Manager> = OnceLock::new();

/// Sets up the manager that [`manager`] hands out, and has it connect, on smol's global executor.
///
/// A program with several accounts, or a test, makes its own with [`Manager::connect`].
///
/// # Errors
///
/// [`Error::AlreadySetUp`] the second time; the first manager goes on as it is.
///
/// # Examples
///
/// ```
/// use realtime_smol::proto::Config;
/// use realtime_smol::proto::manager::ManagerConfig;
///
/// let config = ManagerConfig::new(Config::builder("ws://127.0.0.1:4010/socket").build()?);
/// realtime_smol::set_up(config.clone())?;
/// assert!(realtime_smol::set_up(config).is_err(), "there is one a process");
/// let manager = realtime_smol::manager()?;
/// # let _ = manager;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn set_up(config: ManagerConfig) -> Result<Manager, Error> {
    let mut config = Some(config);
    let shared = SHARED.get_or_init(|| {
        Manager::connect(config.take().expect("a cell is initialised at most once a call"))
    });
    if config.is_some() { Err(Error::AlreadySetUp) } else { Ok(shared.clone()) }
}

/// The manager of the process.
///
/// # Errors
///
/// [`Error::NotSetUp`] before [`set_up`] was called.
pub fn manager() -> Result<Manager, Error> {
    SHARED.get().cloned().ok_or(Error::NotSetUp)
}
