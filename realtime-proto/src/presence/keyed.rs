//! A map by keys that strangers choose, in the order in which the keys came.
//!
//! Finding, adding and removing cost the same in a map of ten and of a hundred thousand, which is
//! why this is no ordered map: that one looks at more keys the more there are, and every look at a
//! key is a miss of the cache. The hash is keyed, so that nobody can make the keys of a room
//! collide, and no order depends on it (G13).

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::hash::Hasher;

/// Up to so many places are looked through one by one, which needs no table.
const SCANNED_MAX: usize = 8;

/// Values by key, in the order in which their keys came.
#[derive(Clone)]
pub(super) struct Keyed<V> {
    seed: u64,
    /// In the order of arrival; a hole is where one was removed.
    places: Vec<Option<Place<V>>>,
    len: usize,
    /// Where each key is, by open addressing: a power of two, at most three quarters full. Empty
    /// while there are few places.
    table: Vec<Cell>,
}

#[derive(Clone)]
struct Place<V> {
    hash: u32,
    key: String,
    value: V,
}

/// A cell of the table: the hash saves most looks at a key.
#[derive(Clone, Copy)]
struct Cell {
    hash: u32,
    place: u32,
}

const FREE: Cell = Cell { hash: 0, place: u32::MAX };

impl<V> Keyed<V> {
    pub(super) const fn new(seed: u64) -> Self {
        Self { seed, places: Vec::new(), len: 0, table: Vec::new() }
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn contains(&self, key: &str) -> bool {
        self.find(key, self.hash(key)).is_some()
    }

    pub(super) fn get(&self, key: &str) -> Option<&V> {
        let place = self.find(key, self.hash(key))?;
        self.places[place].as_ref().map(|place| &place.value)
    }

    pub(super) fn get_mut(&mut self, key: &str) -> Option<&mut V> {
        let place = self.find(key, self.hash(key))?;
        self.places[place].as_mut().map(|place| &mut place.value)
    }

    /// Sets the value of a key and gives the one it had; a key that is there keeps its place.
    pub(super) fn insert(&mut self, key: String, value: V) -> Option<V> {
        let hash = self.hash(&key);
        let found = self.find(&key, hash).and_then(|at| self.places[at].as_mut());
        if let Some(place) = found {
            return Some(core::mem::replace(&mut place.value, value));
        }
        self.make_room();
        let at = self.places.len();
        self.places.push(Some(Place { hash, key, value }));
        self.len += 1;
        if !self.table.is_empty() {
            self.enter(hash, at);
        }
        None
    }

    pub(super) fn remove(&mut self, key: &str) -> Option<V> {
        let at = self.find(key, self.hash(key))?;
        self.take(at).map(|(_, value)| value)
    }

    /// Removes what came last.
    pub(super) fn pop_last(&mut self) -> Option<(String, V)> {
        self.take(self.places.len().checked_sub(1)?)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &V)> {
        self.places.iter().flatten().map(|place| (place.key.as_str(), &place.value))
    }

    pub(super) fn into_entries(self) -> impl Iterator<Item = (String, V)> {
        self.places.into_iter().flatten().map(|place| (place.key, place.value))
    }

    fn hash(&self, key: &str) -> u32 {
        // `core` has one keyed hash, SipHash 2-4. It is deprecated in favour of the one in `std`,
        // which is not there without `std` and may change from version to version.
        #[expect(deprecated, reason = "the only keyed hash without std, and a fixed one")]
        let mut hasher = core::hash::SipHasher::new_with_keys(self.seed, 0);
        hasher.write(key.as_bytes());
        hasher.finish() as u32
    }

    fn find(&self, key: &str, hash: u32) -> Option<usize> {
        let is_it = |place: &Option<Place<V>>| {
            place.as_ref().is_some_and(|place| place.hash == hash && place.key == key)
        };
        if self.table.is_empty() {
            return self.places.iter().position(is_it);
        }
        let mut at = self.home(hash);
        loop {
            let cell = self.table[at];
            if cell.place == FREE.place {
                return None;
            }
            if cell.hash == hash && is_it(&self.places[cell.place as usize]) {
                return Some(cell.place as usize);
            }
            at = self.next(at);
        }
    }

    /// The cell where the search for a hash begins.
    fn home(&self, hash: u32) -> usize {
        hash as usize & (self.table.len() - 1)
    }

    fn next(&self, cell: usize) -> usize {
        (cell + 1) & (self.table.len() - 1)
    }

    /// Makes sure that one more fits: without holes if they are many, in a larger table if not.
    fn make_room(&mut self) {
        let holes = self.places.len() - self.len;
        let fits = if self.table.is_empty() {
            self.places.len() < SCANNED_MAX
        } else {
            4 * (self.len + 1) <= 3 * self.table.len()
        };
        if holes > self.len.max(SCANNED_MAX) {
            self.places.retain(Option::is_some);
        } else if fits {
            return;
        }
        self.table.clear();
        if self.places.len() >= SCANNED_MAX {
            self.table.resize((2 * (self.len + 1)).next_power_of_two(), FREE);
            for at in 0..self.places.len() {
                if let Some(hash) = self.places[at].as_ref().map(|place| place.hash) {
                    self.enter(hash, at);
                }
            }
        }
    }

    fn enter(&mut self, hash: u32, place: usize) {
        let mut at = self.home(hash);
        while self.table[at].place != FREE.place {
            at = self.next(at);
        }
        self.table[at] = Cell { hash, place: place as u32 };
    }

    /// Empties a place, and its cell with it.
    fn take(&mut self, at: usize) -> Option<(String, V)> {
        let place = self.places[at].take()?;
        self.len -= 1;
        if !self.table.is_empty() {
            self.vacate(place.hash, at);
        }
        // The last place is never a hole.
        while let Some(None) = self.places.last() {
            self.places.pop();
        }
        Some((place.key, place.value))
    }

    /// Frees the cell of a place, and moves back what would not be found behind a free one.
    fn vacate(&mut self, hash: u32, place: usize) {
        let mut hole = self.home(hash);
        while self.table[hole].place != place as u32 {
            hole = self.next(hole);
        }
        let mut at = self.next(hole);
        while self.table[at].place != FREE.place {
            let home = self.home(self.table[at].hash);
            // Whoever's search passes the hole moves into it.
            let mask = self.table.len() - 1;
            if (at.wrapping_sub(home) & mask) >= (at.wrapping_sub(hole) & mask) {
                self.table[hole] = self.table[at];
                hole = at;
            }
            at = self.next(at);
        }
        self.table[hole] = FREE;
    }
}

impl<V: fmt::Debug> fmt::Debug for Keyed<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::format;
    use std::string::ToString;

    use super::*;
    use crate::rng::Rng;

    /// Whether two maps say the same; the model is a list of pairs in the order of arrival.
    fn assert_same(keyed: &Keyed<u64>, model: &[(String, u64)]) {
        let pairs: Vec<(String, u64)> =
            keyed.iter().map(|(key, value)| (key.to_string(), *value)).collect();
        assert_eq!(pairs, model);
        assert_eq!(keyed.len(), model.len());
        assert_eq!(keyed.is_empty(), model.is_empty());
    }

    #[test]
    fn it_is_a_map_in_the_order_of_arrival_whatever_is_done_to_it() {
        for seed in 0..200 {
            let mut rng = Rng::new(seed);
            let keys = [3, 12, 100, 400][seed as usize % 4];
            let mut keyed = Keyed::new(seed);
            let mut model: Vec<(String, u64)> = Vec::new();
            for step in 0..600 {
                let key = format!("k{}", rng.next_u64() % keys);
                let held = model.iter().position(|(held, _)| *held == key);
                assert_eq!(keyed.contains(&key), held.is_some());
                match rng.next_u64() % 8 {
                    0..4 => {
                        let before = held.map(|at| core::mem::replace(&mut model[at].1, step));
                        if before.is_none() {
                            model.push((key.clone(), step));
                        }
                        assert_eq!(keyed.insert(key, step), before);
                    }
                    4..7 => assert_eq!(keyed.remove(&key), held.map(|at| model.remove(at).1)),
                    _ => assert_eq!(keyed.pop_last(), model.pop()),
                }
                if let Some((key, value)) = model.first() {
                    assert_eq!(keyed.get(key), Some(value));
                    assert_eq!(keyed.get_mut(key).copied(), Some(*value));
                }
            }
            assert_same(&keyed, &model);
            assert!(keyed.into_entries().eq(model));
        }
    }

    #[test]
    fn it_does_not_grow_by_holes() {
        let mut keyed = Keyed::new(1);
        for n in 0..10_000 {
            keyed.insert(n.to_string(), n);
            if n >= 20 {
                assert_eq!(keyed.remove(&(n - 20).to_string()), Some(n - 20));
            }
        }
        assert!(keyed.places.capacity() <= 128, "{}", keyed.places.capacity());
        assert!(keyed.table.len() <= 64, "{}", keyed.table.len());
    }

    /// How many cells the search for a key looks at, for all keys of a map.
    fn cells_searched(keyed: &Keyed<u64>) -> Vec<usize> {
        let mask = keyed.table.len() - 1;
        let cells = keyed.table.iter().enumerate().filter(|(_, cell)| cell.place != FREE.place);
        cells.map(|(at, cell)| (at.wrapping_sub(keyed.home(cell.hash)) & mask) + 1).collect()
    }

    #[test]
    fn a_key_is_found_in_as_few_steps_among_a_hundred_thousand_as_among_a_hundred() {
        for size in [100, 1_000, 100_000] {
            let mut keyed = Keyed::new(7);
            for n in 0..2 * size {
                keyed.insert(format!("0f5e1b9c-{n:012}"), n);
            }
            // Half of them go, so that what removal moves is measured too.
            for n in (0..2 * size).step_by(2) {
                assert_eq!(keyed.remove(&format!("0f5e1b9c-{n:012}")), Some(n));
            }
            let steps = cells_searched(&keyed);
            assert_eq!(steps.len(), size as usize);
            let (sum, longest) = (steps.iter().sum::<usize>(), steps.iter().max());
            // At three quarters, linear probing looks at 2.5 cells on average.
            assert!(2 * sum <= 5 * steps.len(), "{sum} steps for {size} keys");
            assert!(longest < Some(&100), "{longest:?} steps for one of {size} keys");
        }
    }

    #[test]
    fn another_seed_puts_keys_elsewhere_and_changes_no_order() {
        let [one, two] = [1, 2].map(|seed| {
            let mut keyed = Keyed::new(seed);
            (0..50).for_each(|n| assert_eq!(keyed.insert(n.to_string(), n), None));
            keyed
        });
        assert_ne!(one.hash("7"), two.hash("7"));
        assert!(one.iter().eq(two.iter()));
    }
}
