//! Live row updates into a view model: a list of contacts that follows its table.
//!
//! Run it with `cargo run --package realtime-smol --features dev-server --example live_rows`.
#![expect(clippy::print_stdout, reason = "it shows what happens")]

use core::error::Error;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use realtime_smol::proto::manager::{Entity, EntityOptions, ManagerConfig};
use realtime_smol::proto::server::RowChange;
use realtime_smol::proto::{Config, Payload};
use realtime_smol::{DevServer, DevServerConfig, EntityCallbacks};
use serde::Deserialize;
use smol::channel::{Sender, unbounded};

#[derive(Clone, Debug, Deserialize)]
struct Contact {
    id: u64,
    name: String,
}

/// What the screen shows: the rows, and whether they can be trusted to be all.
#[derive(Debug)]
struct ViewModel {
    contacts: Mutex<BTreeMap<u64, Contact>>,
    redraw: Sender<String>,
}

impl ViewModel {
    fn put(&self, contact: Option<&Contact>) {
        let Some(contact) = contact else { return };
        self.contacts.lock().expect("no callback panics").insert(contact.id, contact.clone());
        self.redraw();
    }

    fn remove(&self, id: u64) {
        self.contacts.lock().expect("no callback panics").remove(&id);
        self.redraw();
    }

    fn redraw(&self) {
        let contacts = self.contacts.lock().expect("no callback panics");
        let names: Vec<&str> = contacts.values().map(|contact| &*contact.name).collect();
        // The screen may be gone, which is no fault.
        let _ = self.redraw.try_send(format!("contacts: {}", names.join(", ")));
    }
}

#[derive(Deserialize)]
struct Key {
    id: u64,
}

fn main() -> Result<(), Box<dyn Error>> {
    smol::block_on(async {
        let server = DevServer::bind(([127, 0, 0, 1], 0), DevServerConfig::default())?.spawn();
        let config = ManagerConfig::new(Config::builder(server.url()).build()?);
        let manager = realtime_smol::set_up(config)?;

        let (redraw, screen) = unbounded();
        let model = Arc::new(ViewModel { contacts: Mutex::default(), redraw: redraw.clone() });
        let list = Entity::new("contact", "all");
        let filter = Some("org=eq.7".into());
        let rows = manager
            .subscribe_to_entity(&list, EntityOptions { filter, ..EntityOptions::default() })
            .await?;
        rows.live().await?;

        let [inserted, updated, deleted] = [(); 3].map(|()| Arc::clone(&model));
        let _listening = rows.listen(
            EntityCallbacks::<Contact>::new()
                .on_insert(move |change| inserted.put(change.new_row()))
                .on_update(move |change| updated.put(change.new_row()))
                .on_delete(move |change| {
                    if let Ok(Key { id }) = change.old_row() {
                        deleted.remove(id);
                    }
                })
                .on_gap(|gap| println!("fetch the list anew: {}", gap.why))
                .on_error(|error| println!("{error}")),
        );

        // What somebody else does to the table.
        let row =
            |id, name| Payload::json(&serde_json::json!({ "id": id, "name": name, "org": 7 }));
        server.change(RowChange::insert("contacts", row(1, "Ana")?)?).await?;
        server.change(RowChange::insert("contacts", row(2, "Ben")?)?).await?;
        server
            .change(RowChange::update("contacts", row(2, "Benno")?, Some(row(2, "Ben")?))?)
            .await?;
        server.change(RowChange::delete("contacts", row(1, "Ana")?)?).await?;
        for _ in 0..4 {
            println!("{}", screen.recv().await?);
        }
        manager.cleanup_all_channels().await?;
        Ok(())
    })
}
