//! Several accounts in one program: a manager each, so that nothing of one reaches the other.
//!
//! Run it with `cargo run --package realtime-smol --features dev-server --example accounts`.
#![expect(clippy::print_stdout, reason = "it shows what happens")]

use core::error::Error;
use std::collections::BTreeMap;

use realtime_smol::proto::manager::{Entity, EntityOptions, LeaseEvent, ManagerConfig};
use realtime_smol::proto::{Config, Payload};
use realtime_smol::{DevServer, DevServerConfig, DevServerHandle, Lease, Manager};
use smol::stream::StreamExt;

/// An account: its own connection, its own token, its own tenant.
struct Account {
    tenant: &'static str,
    manager: Manager,
    inbox: Lease,
}

impl Account {
    async fn sign_in(
        server: &DevServerHandle,
        tenant: &'static str,
    ) -> Result<Self, Box<dyn Error>> {
        let client = Config::builder(server.url()).access_token(format!("token of {tenant}"));
        // One tenant may open no more than so many channels, whatever its pages do.
        let config = ManagerConfig::new(client.build()?).with_tenant_channels_max(50);
        let manager = Manager::connect(config);
        let inbox = Self::entity(tenant);
        let inbox = manager.subscribe_to_entity(&inbox, EntityOptions::default()).await?;
        inbox.live().await?;
        Ok(Self { tenant, manager, inbox })
    }

    /// The same entity of each tenant, and no topic of one meets one of another.
    fn entity(tenant: &str) -> Entity {
        Entity::new("inbox", "1").in_tenant(tenant)
    }

    /// Waits for the next broadcast.
    async fn hear(&mut self) -> Option<String> {
        while let Some(delivery) = self.inbox.next().await {
            if let Some(LeaseEvent::Broadcast(broadcast)) = delivery.event() {
                return broadcast.payload.to().ok();
            }
        }
        None
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    smol::block_on(async {
        let server = DevServer::bind(([127, 0, 0, 1], 0), DevServerConfig::default())?.spawn();
        let mut accounts = BTreeMap::new();
        for tenant in ["acme", "initech"] {
            accounts.insert(tenant, Account::sign_in(&server, tenant).await?);
        }

        // Each hears its own only: were the first heard by both, this would print it twice.
        let from_outside =
            Manager::connect(ManagerConfig::new(Config::builder(server.url()).build()?));
        for tenant in accounts.keys() {
            let text = Payload::json(&format!("hello {tenant}"))?;
            from_outside.broadcast(&Account::entity(tenant), "mail", text).await?;
        }
        for account in accounts.values_mut() {
            let heard = account.hear().await.unwrap_or_default();
            println!("{} heard: {heard}", account.tenant);
        }

        // Signing one out leaves the other as it is.
        if let Some(account) = accounts.remove("acme") {
            account.manager.cleanup_all_channels().await?;
            account.manager.shutdown().await?;
        }
        for account in accounts.values() {
            for channel in account.manager.active_channels().await? {
                println!("{} is still {}", channel.key.topic(), channel.status);
            }
        }
        Ok(())
    })
}
