//! The channels of a client, by handle and by topic.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::num::NonZeroU32;

use super::slot::Slot;
use crate::ids::ChannelId;

/// A slab whose handles carry a generation, so that a stale one finds nothing.
#[derive(Debug, Default)]
pub(crate) struct Table {
    entries: Vec<Entry>,
    free: Vec<u32>,
    /// The channel that receives the messages of a topic; one that is being left does not.
    topics: BTreeMap<Arc<str>, ChannelId>,
    len: usize,
}

#[derive(Debug)]
struct Entry {
    generation: NonZeroU32,
    slot: Option<Slot>,
}

impl Table {
    /// Takes in the channel that `make` builds for a fresh handle.
    pub(crate) fn insert(
        &mut self,
        topic: &Arc<str>,
        make: impl FnOnce(ChannelId) -> Slot,
    ) -> ChannelId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.entries.push(Entry { generation: NonZeroU32::MIN, slot: None });
            (self.entries.len() - 1) as u32
        });
        let entry = &mut self.entries[index as usize];
        let id = ChannelId { index, generation: entry.generation };
        entry.slot = Some(make(id));
        self.topics.insert(Arc::clone(topic), id);
        self.len += 1;
        id
    }

    pub(crate) fn remove(&mut self, id: ChannelId) {
        let Some(topic) = self.get(id).map(|slot| Arc::clone(&slot.topic)) else { return };
        self.release_topic(id, &topic);
        let entry = &mut self.entries[id.index as usize];
        entry.slot = None;
        self.len -= 1;
        // An index whose generations are used up is retired: its handles must stay stale.
        if let Some(generation) = entry.generation.checked_add(1) {
            entry.generation = generation;
            self.free.push(id.index);
        }
    }

    /// Lets another channel have the topic of one that is being left.
    pub(crate) fn release_topic(&mut self, id: ChannelId, topic: &Arc<str>) {
        if self.topics.get(topic) == Some(&id) {
            self.topics.remove(topic);
        }
    }

    pub(crate) fn get(&self, id: ChannelId) -> Option<&Slot> {
        let entry = self.entries.get(id.index as usize)?;
        if entry.generation == id.generation { entry.slot.as_ref() } else { None }
    }

    pub(crate) fn get_mut(&mut self, id: ChannelId) -> Option<&mut Slot> {
        let entry = self.entries.get_mut(id.index as usize)?;
        if entry.generation == id.generation { entry.slot.as_mut() } else { None }
    }

    pub(crate) fn by_topic(&self, topic: &str) -> Option<ChannelId> {
        self.topics.get(topic).copied()
    }

    /// Whether a channel that is being left had the topic. The cost is that of a look at each channel,
    /// while one is being left.
    pub(crate) fn is_left(&self, topic: &str) -> bool {
        self.len > self.topics.len() && self.iter().any(|slot| *slot.topic == *topic)
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// The channels in the order of their handles.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Slot> {
        self.entries.iter().filter_map(|entry| entry.slot.as_ref())
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Slot> {
        self.entries.iter_mut().filter_map(|entry| entry.slot.as_mut())
    }
}
