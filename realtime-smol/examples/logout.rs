//! Clean-up on logout: what a person held ends, and the server knows before the page is gone.
//!
//! Run it with `cargo run --package realtime-smol --features dev-server --example logout`.
#![expect(clippy::print_stdout, reason = "it shows what happens")]

use core::error::Error;

use realtime_smol::proto::Config;
use realtime_smol::proto::manager::{
    Entity, EntityOptions, LeaseEvent, ManagerConfig, PresenceOptions, User,
};
use realtime_smol::{Delivery, DevServer, DevServerConfig, Lease, Manager};
use smol::stream::StreamExt;

/// A component of the application, which ends when its lease does.
async fn component(mut lease: Lease) -> &'static str {
    while let Some(delivery) = lease.next().await {
        if delivery == Delivery::Event(LeaseEvent::Ended) {
            return "ended";
        }
    }
    "the manager is gone"
}

fn main() -> Result<(), Box<dyn Error>> {
    smol::block_on(async {
        let server = DevServer::bind(([127, 0, 0, 1], 0), DevServerConfig::default())?.spawn();
        let manager = Manager::connect(ManagerConfig::new(Config::builder(server.url()).build()?));

        // Components ask for what they show, each in its own name.
        let mut components = Vec::new();
        for id in ["1", "2", "3"] {
            let contact = Entity::new("contact", id).in_tenant("acme");
            let label = Some(format!("card of contact {id}"));
            let options = EntityOptions { label, ..EntityOptions::default() };
            let card = manager.subscribe_to_entity(&contact, options).await?;
            card.live().await?;
            components.push(smol::spawn(component(card)));
            let label = Some(format!("faces on contact {id}"));
            let options = PresenceOptions { label, ..PresenceOptions::default() };
            let faces = manager.join_presence_with(&contact, User::new("u1"), options).await?;
            faces.live().await?;
            components.push(smol::spawn(component(faces)));
        }
        let stats = manager.channel_stats().await?;
        println!("{} channels before the logout", stats.total);
        for held in &stats.held {
            println!(
                "  {} is held by the {}",
                held.key.topic(),
                held.label.as_deref().unwrap_or("?")
            );
        }

        // The logout: every stream ends, and every leave is acknowledged.
        manager.cleanup_all_channels().await?;
        manager.set_access_token(None).await?;
        for component in components {
            assert_eq!(component.await, "ended");
        }
        let left = manager.channel_stats().await?;
        println!(
            "{} channels after it, {} on the server",
            left.total,
            server.stats().await?.channels
        );
        Ok(())
    })
}
