//! Who is viewing: the people who look at a document, one entry each however many tabs they have.
//!
//! Run it with `cargo run --package realtime-smol --features dev-server --example who_is_viewing`.
#![expect(clippy::print_stdout, reason = "it shows what happens")]

use core::error::Error;

use realtime_smol::proto::manager::{Entity, ManagerConfig, User};
use realtime_smol::proto::{Config, Payload};
use realtime_smol::{DevServer, DevServerConfig, DevServerHandle, Manager, PresenceCallbacks};
use smol::channel::unbounded;

/// One person's browser.
fn browser(server: &DevServerHandle) -> Result<Manager, Box<dyn Error>> {
    Ok(Manager::connect(ManagerConfig::new(Config::builder(server.url()).build()?)))
}

fn name(user: &User) -> &str {
    user.user_name.as_deref().unwrap_or(&user.user_id)
}

fn main() -> Result<(), Box<dyn Error>> {
    smol::block_on(async {
        let server = DevServer::bind(([127, 0, 0, 1], 0), DevServerConfig::default())?.spawn();
        let document = Entity::new("document", "42").in_tenant("acme");
        let (say, said) = unbounded();

        let ana = browser(&server)?;
        let seat = ana.join_presence(&document, User::new("u1").with_name("Ana")).await?;
        seat.live().await?;
        let [joined, updated, left] = [(); 3].map(|()| say.clone());
        let _listening = seat.listen(
            PresenceCallbacks::new()
                .on_join(move |user| drop(joined.try_send(format!("{} is here", name(user)))))
                .on_update(move |user| {
                    let text = format!("{} {}", name(user), user.metadata.as_json().unwrap_or(""));
                    drop(updated.try_send(text));
                })
                .on_leave(move |user| drop(left.try_send(format!("{} left", name(user)))))
                .on_error(|error| println!("{error}")),
        );
        println!("{}", said.recv().await?);

        // Ben opens the document, and begins to type.
        let ben = browser(&server)?;
        let tab = ben.join_presence(&document, User::new("u2").with_name("Ben")).await?;
        println!("{}", said.recv().await?);
        let typing = Payload::from_json(r#"{"typing":true}"#)?;
        ben.update_presence_metadata(&document, typing).await?;
        println!("{}", said.recv().await?);
        for user in ana.presence_of_others(&document).await? {
            println!("with Ana: {} on {} device", name(&user), user.devices);
        }

        // Dropping what he holds is leaving.
        drop(tab);
        println!("{}", said.recv().await?);
        ana.cleanup_all_channels().await?;
        Ok(())
    })
}
