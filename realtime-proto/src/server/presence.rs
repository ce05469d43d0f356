//! Who is present in a topic, as the server keeps it.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::event::SessionId;
use super::json;
use crate::rng::Rng;

/// The presences of one topic, in the order in which they were first tracked.
#[derive(Default)]
pub(super) struct Presences(Vec<Presence>);

struct Presence {
    session: SessionId,
    key: String,
    phx_ref: String,
    phx_ref_prev: Option<String>,
    /// The tracked object, raw.
    tracked: String,
}

/// What a `track` did.
pub(super) enum Track {
    /// The same payload as before: nobody is told.
    Same,
    /// Something to tell, as the payload of a `presence_diff`.
    Diff(String),
}

impl Presences {
    /// Tracks `payload`, a JSON object, for a session; one session is present once per topic.
    pub(super) fn track(
        &mut self,
        session: SessionId,
        key: &str,
        payload: &str,
        phx_ref: String,
    ) -> Track {
        let found = self.0.iter_mut().find(|entry| entry.session == session);
        let Some(entry) = found else {
            let entry = Presence {
                session,
                key: key.into(),
                phx_ref,
                phx_ref_prev: None,
                tracked: payload.into(),
            };
            let joins = entry.as_map();
            self.0.push(entry);
            return Track::Diff(diff(&joins, "{}"));
        };
        if json::same(&entry.tracked, payload) {
            return Track::Same;
        }
        let leaves = entry.as_map();
        entry.phx_ref_prev = Some(core::mem::replace(&mut entry.phx_ref, phx_ref));
        entry.tracked = payload.into();
        Track::Diff(diff(&entry.as_map(), &leaves))
    }

    /// Forgets a session; its key and the payload of the `presence_diff`, if it was present.
    pub(super) fn untrack(&mut self, session: SessionId) -> Option<(String, String)> {
        let at = self.0.iter().position(|entry| entry.session == session)?;
        let entry = self.0.remove(at);
        let told = diff("{}", &entry.as_map());
        Some((entry.key, told))
    }

    /// The payload of a `presence_state`.
    pub(super) fn state(&self) -> String {
        let mut keys: Vec<(&str, Vec<String>)> = Vec::new();
        let mut index = alloc::collections::BTreeMap::new();
        for entry in &self.0 {
            let at = *index.entry(&*entry.key).or_insert_with(|| {
                keys.push((&*entry.key, Vec::new()));
                keys.len() - 1
            });
            keys[at].1.push(entry.meta());
        }
        let entries: Vec<String> = keys
            .into_iter()
            .map(|(key, metas)| {
                format!("{}:{{\"metas\":[{}]}}", json::quoted(key), metas.join(","))
            })
            .collect();
        format!("{{{}}}", entries.join(","))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

impl Presence {
    fn meta(&self) -> String {
        let mut meta = format!("{{\"phx_ref\":{}", json::quoted(&self.phx_ref));
        if let Some(prev) = &self.phx_ref_prev {
            meta.push_str(",\"phx_ref_prev\":");
            meta.push_str(&json::quoted(prev));
        }
        // The server's own keys win over the client's.
        json::extend_object(&mut meta, &self.tracked, &["phx_ref", "phx_ref_prev"]);
        meta.push('}');
        meta
    }

    fn as_map(&self) -> String {
        format!("{{{}:{{\"metas\":[{}]}}}}", json::quoted(&self.key), self.meta())
    }
}

fn diff(joins: &str, leaves: &str) -> String {
    format!("{{\"joins\":{joins},\"leaves\":{leaves}}}")
}

/// A presence ref: 48 random bits and 48 bits of a counter, so that no two are ever the same.
pub(super) fn phx_ref(rng: &mut Rng, count: u64) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let random = rng.next_u64();
    let digit = |bits: u64, at: u32| char::from(ALPHABET[(bits >> (6 * at)) as usize & 63]);
    (0..8).map(|at| digit(random, at)).chain((0..8).rev().map(|at| digit(count, at))).collect()
}

/// A key for a channel that named none, in the form of a UUID.
pub(super) fn generated_key(rng: &mut Rng) -> String {
    let (high, low) = (rng.next_u64(), rng.next_u64());
    format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        high >> 32,
        high >> 16 & 0xFFFF,
        high & 0xFFF,
        low >> 48 & 0x3FFF | 0x8000,
        low & 0xFFFF_FFFF_FFFF,
    )
}
