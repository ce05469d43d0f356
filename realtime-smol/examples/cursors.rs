//! Collaborative cursors: a mouse that moves a thousand times a second, sent twenty times at most.
//!
//! Run it with `cargo run --package realtime-smol --features dev-server --example cursors`.
#![expect(clippy::print_stdout, reason = "it shows what happens")]

use core::error::Error;
use core::time::Duration;
use std::sync::{Arc, Mutex};

use realtime_smol::proto::manager::{Entity, EntityOptions, LeaseEvent, ManagerConfig};
use realtime_smol::proto::{Config, Payload};
use realtime_smol::{DevServer, DevServerConfig, Manager};
use serde::{Deserialize, Serialize};
use smol::Timer;
use smol::stream::StreamExt;

const SEND_INTERVAL: Duration = Duration::from_millis(50);

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Cursor {
    x: u32,
    y: u32,
}

/// Sends the newest position, and none twice, until the mouse is gone.
async fn send(manager: Manager, board: Entity, newest: Arc<Mutex<Option<Cursor>>>) {
    let mut ticks = Timer::interval(SEND_INTERVAL);
    while ticks.next().await.is_some() {
        let moved = newest.lock().expect("nobody panics").take();
        let Some(cursor) = moved else {
            if Arc::strong_count(&newest) == 1 {
                return;
            }
            continue;
        };
        // A cursor that cannot be sent now is old by the time it could be.
        if let Ok(payload) = Payload::json(&cursor) {
            let _ = manager.broadcast(&board, "cursor", payload).await;
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    smol::block_on(async {
        let server = DevServer::bind(([127, 0, 0, 1], 0), DevServerConfig::default())?.spawn();
        let config = ManagerConfig::new(Config::builder(server.url()).build()?);
        let (ana, ben) = (Manager::connect(config.clone()), Manager::connect(config));
        let board = Entity::new("board", "7");
        let mut seen = ben.subscribe_to_entity(&board, EntityOptions::default()).await?;
        seen.live().await?;

        // Ana draws a line: five hundred moves in half a second.
        let newest = Arc::new(Mutex::new(None));
        let sender = smol::spawn(send(ana.clone(), board, Arc::clone(&newest)));
        for x in 1..=500 {
            *newest.lock().expect("nobody panics") = Some(Cursor { x, y: 2 * x });
            Timer::after(Duration::from_millis(1)).await;
        }
        drop(newest);
        sender.await;

        let last = Cursor { x: 500, y: 1_000 };
        let mut received = 0;
        while let Some(delivery) = seen.next().await {
            let Some(LeaseEvent::Broadcast(broadcast)) = delivery.event() else { continue };
            if !broadcast.matches("cursor") {
                continue;
            }
            received += 1;
            if broadcast.payload.to::<Cursor>()? == last {
                break;
            }
        }
        let few = received < 100;
        println!(
            "500 moves, {} broadcasts, the last one at {last:?}",
            if few { "few" } else { "many" }
        );
        ana.cleanup_all_channels().await?;
        ben.cleanup_all_channels().await?;
        Ok(())
    })
}
