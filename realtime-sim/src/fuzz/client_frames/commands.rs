//! What an application asks for.

use core::time::Duration;
use std::collections::BTreeMap;

use realtime_proto::manager::{Entity, EntityKey, EntityOptions, Kind, User};
use realtime_proto::supabase::{Binding, ChangeEvent, JoinConfig};
use realtime_proto::{ChannelConfig, Overflow, Payload, PushOptions};

use super::{Machine, Siege};
use crate::fuzz::Input;

const TOPICS: [&str; 6] =
    ["realtime:a", "realtime:b", "realtime:room1", "room:a", "room:b", "phoenix"];

impl Siege {
    pub(super) fn command_client(&mut self, input: &mut Input<'_>) {
        let (verb, choice, now) = (input.byte(), input.byte(), self.now);
        let Machine::Client(client) = &mut self.machine else { return };
        if verb % 16 < 4 {
            let topic = TOPICS[usize::from(choice) % TOPICS.len()];
            let mut config = if topic.starts_with("realtime:") {
                let mut join = JoinConfig::default();
                join.broadcast.ack = choice & 8 != 0;
                join.postgres_changes.extend((choice & 16 != 0).then(|| binding(choice)));
                ChannelConfig::supabase(join)
            } else {
                ChannelConfig::phoenix(Payload::empty())
            };
            if choice & 32 != 0 {
                config = config.with_presence();
            }
            config = config.with_overflow(match choice >> 6 {
                0 | 1 => Overflow::Refuse,
                2 => Overflow::DropOldest,
                _ => Overflow::DropNewest,
            });
            if let Ok(id) = client.open_channel(topic, config, now) {
                assert!(self.channels.insert(id, Vec::new()).is_none(), "{id} was used before");
            }
            return;
        }
        let nth = usize::from(choice) % self.channels.len().max(1);
        let Some((id, bindings)) = self.channels.iter_mut().nth(nth) else { return };
        if verb % 16 == 4 {
            assert!(client.close_channel(*id, now), "{id} is not closed");
            return;
        }
        let mut channel = client.channel(*id).expect("a channel that is not closed");
        let payload = Payload::json(&choice).expect("a number is JSON");
        // What is refused was not kept, so nothing is owed for it.
        match verb % 16 {
            5 | 6 => self.pushes.extend(channel.push("e", payload, now)),
            7 => {
                let options = PushOptions::new()
                    .coalesced_by(if choice & 1 == 0 { "x" } else { "y" })
                    .with_time_to_live(Duration::from_millis(u64::from(choice)))
                    .with_timeout(Duration::from_secs(u64::from(choice)));
                self.pushes.extend(channel.push_with("e", payload, options, now));
            }
            8 => self.pushes.extend(channel.cast("e", Payload::binary(vec![choice]), now)),
            9 | 10 => self.pushes.extend(channel.broadcast("e", payload, now)),
            11 | 12 => {
                let shown = Payload::json(&[("n", choice)].into_iter().collect::<BTreeMap<_, _>>());
                let _ = channel.track(shown.expect("a map of texts is JSON"), now);
            }
            13 => {
                let _ = channel.untrack(now);
            }
            14 if choice & 64 == 0 => bindings.extend(channel.bind(binding(choice), now)),
            14 => {
                if let Some(binding) = bindings.pop() {
                    assert!(channel.unbind(binding, now), "{binding:?} was bound");
                }
            }
            _ => channel.rejoin(now),
        }
    }

    pub(super) fn command_manager(&mut self, input: &mut Input<'_>) {
        let (verb, choice, now) = (input.byte(), input.byte(), self.now);
        let Machine::Manager(manager) = &mut self.machine else { return };
        let entity = Entity::new("contact", (choice % 3).to_string());
        let nth = usize::from(choice) % self.leases.len().max(1);
        let lease = self.leases.keys().nth(nth).copied();
        let payload = Payload::json(&[("n", choice)].into_iter().collect::<BTreeMap<_, _>>());
        let payload = payload.expect("a map of texts is JSON");
        let held = match verb % 16 {
            0..=2 => {
                let table = (choice & 8 != 0).then(|| format!("t{}", choice >> 4));
                let options = EntityOptions { table, ..EntityOptions::default() };
                manager.subscribe_to_entity(&entity, &options, now).ok()
            }
            3 | 4 => {
                let user = User::new(if choice & 8 == 0 { "ana" } else { "ben" });
                manager.join_presence(&entity, user, now).ok()
            }
            5..=8 => {
                if let Some(lease) = lease {
                    assert!(manager.release(lease, now), "{lease} is held");
                }
                None
            }
            9 => {
                let _ = manager.update_presence_metadata(&entity, &payload, now);
                None
            }
            10..=12 => {
                self.pushes.extend(manager.broadcast(&entity, "e", payload, now));
                None
            }
            13 | 14 => {
                let kind = if choice & 8 == 0 { Kind::Subscription } else { Kind::Presence };
                let key = EntityKey { kind, entity };
                if choice & 16 == 0 {
                    let _ = manager.retry(&key, now);
                } else {
                    manager.unsubscribe(&key, now);
                }
                None
            }
            _ => {
                assert!(manager.presence_state(&entity).len() <= self.limits.presence_keys_max);
                None
            }
        };
        if let Some(lease) = held {
            assert!(self.leases.insert(lease, false).is_none(), "{lease} was used before");
        }
    }
}

pub(super) fn binding(choice: u8) -> Binding {
    let table = if choice & 1 == 0 { "t" } else { "u" };
    let binding = Binding::new(ChangeEvent::All, "public", table);
    if choice & 2 == 0 { binding } else { binding.with_filter("id=eq.1") }
}
