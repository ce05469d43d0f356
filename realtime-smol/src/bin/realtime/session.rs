//! One connection of the command to a server, and its proper end.

use core::future::Future;
use core::time::Duration;

use async_signal::{Signal, Signals};
use realtime_proto::Config;
use realtime_proto::manager::{ChannelStatus, ManagerConfig, ManagerEvent};
use realtime_proto::supabase::Cause;
use realtime_smol::{Delivery, Manager, ManagerEvents, Options};
use serde_json::{Value, json};
use smol::Task;
use smol::future::FutureExt;
use smol::stream::StreamExt;

use crate::arguments::ServerArguments;
use crate::output::Failure;

/// How long the leaves may take at the end.
pub(crate) const FAREWELL: Duration = Duration::from_secs(3);

/// A manager that is connected, and the task that drives it.
pub(crate) struct Session {
    pub(crate) manager: Manager,
    driver: Task<()>,
    connection: ManagerEvents,
}

impl Session {
    /// Connects, or says why that is not possible.
    pub(crate) async fn open(server: &ServerArguments) -> Result<Self, Failure> {
        let mut config = Config::builder(&server.url);
        if let Some(apikey) = &server.key.apikey {
            config = config.apikey(apikey.as_str());
        }
        let config = ManagerConfig::new(config.build()?);
        let (manager, driver) = Manager::connect_with_driver(config, &Options::default());
        let driver = smol::spawn(driver);
        let mut connection = manager.events().await?;
        loop {
            match connection.next().await {
                Some(Delivery::Event(ManagerEvent::Connected { .. })) => break,
                Some(Delivery::Event(ManagerEvent::Disconnected { cause, .. })) => {
                    return Err(Failure::new(format!("cannot connect to {}: {cause}", server.url)));
                }
                Some(_) => {}
                None => return Err(Failure::new("the connection task ended by itself")),
            }
        }
        Ok(Self { manager, driver, connection })
    }

    /// Runs `work` until it ends or the person interrupts it; then leaves every channel.
    pub(crate) async fn run<T>(
        self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<Option<T>, Failure> {
        let interrupted = async {
            interrupt().await?;
            Ok(None)
        };
        let result = async { work.await.map(Some) }.or(interrupted).await;
        self.close().await?;
        result
    }

    /// Leaves every channel, closes the connection, and waits for both a little.
    pub(crate) async fn close(self) -> Result<(), Failure> {
        let Self { manager, driver, connection } = self;
        let farewell = async {
            manager.cleanup_all_channels().await?;
            drop((manager, connection));
            driver.await;
            Ok(())
        };
        let too_slow = async {
            smol::Timer::after(FAREWELL).await;
            // The server does not answer; it will notice that the connection is gone.
            Ok(())
        };
        farewell.or(too_slow).await
    }
}

/// Returns when the person presses Ctrl-C, or the process is asked to end.
pub(crate) async fn interrupt() -> Result<(), Failure> {
    let mut signals = Signals::new([Signal::Int, Signal::Term])?;
    signals.next().await;
    Ok(())
}

/// A status as an object and as words.
pub(crate) fn describe(status: &ChannelStatus) -> (Value, String) {
    let word = status.as_str();
    let mut object = json!({ "event": "status", "status": word });
    let text = if let ChannelStatus::Reconnecting { attempt, cause, .. } = status {
        object["attempt"] = json!(attempt);
        object["cause"] = cause_json(cause);
        format!("{word:<13} attempt {attempt}: {} ({})", cause.kind, cause.text)
    } else if let ChannelStatus::Error { cause } = status {
        object["cause"] = cause_json(cause);
        format!("{word:<13} {cause}")
    } else {
        word.to_owned()
    };
    (object, text)
}

fn cause_json(cause: &Cause) -> Value {
    json!({ "kind": cause.kind.to_string(), "text": cause.text, "advice": cause.kind.advice() })
}
