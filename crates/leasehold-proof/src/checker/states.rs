//! States as small numbers, and the set of those that were reached.
//!
//! A state is a handful of numbers: the tick, the faults left, and the numbers of its parts (record,
//! ledger, clients, messages), each part kept once in an [`Interner`]. Invariants: equal parts have
//! one number, so two states are equal exactly if their words are; [`Reached`] keeps every state in
//! full and compares in full, so none is ever taken for another (no hash compaction).

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::rc::Rc;

use super::shape::CLIENTS;

/// A quick hash for maps that no stranger fills.
#[derive(Default)]
pub(super) struct Quick(u64);

const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

impl Quick {
    fn mix(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(23) ^ word).wrapping_mul(FACTOR);
    }
}

impl Hasher for Quick {
    fn finish(&self) -> u64 {
        let folded = self.0 ^ (self.0 >> 32);
        folded.wrapping_mul(FACTOR) ^ (folded >> 29)
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.mix(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, i: u8) {
        self.mix(u64::from(i));
    }

    fn write_u32(&mut self, i: u32) {
        self.mix(u64::from(i));
    }

    fn write_u64(&mut self, i: u64) {
        self.mix(i);
    }

    fn write_i64(&mut self, i: i64) {
        self.mix(i.cast_unsigned());
    }

    fn write_usize(&mut self, i: usize) {
        self.mix(i as u64);
    }

    fn write_isize(&mut self, i: isize) {
        self.mix(i as u64);
    }
}

/// A map with that hash.
pub(super) type Map<K, V> = HashMap<K, V, BuildHasherDefault<Quick>>;

/// Values, each once, and their numbers.
#[derive(Debug)]
pub(super) struct Interner<T> {
    numbers: Map<Rc<T>, u32>,
    values: Vec<Rc<T>>,
}

impl<T: Eq + Hash> Interner<T> {
    pub(super) fn new() -> Self {
        Interner {
            numbers: Map::default(),
            values: Vec::new(),
        }
    }

    /// The number of a value, and whether it is a new one.
    pub(super) fn number(&mut self, value: T) -> (u32, bool) {
        if let Some(number) = self.numbers.get(&value) {
            return (*number, false);
        }
        let number = u32::try_from(self.values.len()).unwrap_or(u32::MAX);
        let value = Rc::new(value);
        self.values.push(value.clone());
        self.numbers.insert(value, number);
        (number, true)
    }

    pub(super) fn value(&self, number: u32) -> Rc<T> {
        self.values[number as usize].clone()
    }
}

/// Messages under way at the same time, at most. More fail the run.
pub(super) const BAG: usize = 24;
/// Words of one state, at most.
const WORDS: usize = 5 + CLIENTS + BAG;

/// One state. The bag is sorted: the network keeps no order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct State {
    pub(super) time: u8,
    /// Faults left: duplicates, pauses, crashes, steps of a wall clock, late messages.
    pub(super) faults: [u8; 5],
    pub(super) stored: u32,
    /// The record before its last change, if reads may show it.
    pub(super) previous: u32,
    pub(super) ledger: u32,
    pub(super) clients: [u32; CLIENTS],
    bag: [u32; BAG],
    in_bag: u8,
    /// Where in the bag the message is that is delivered next, unless it is late; plus one, or 0.
    fresh: u8,
}

impl State {
    pub(super) fn new(faults: [u8; 5], stored: u32, ledger: u32, clients: [u32; CLIENTS]) -> State {
        State {
            time: 0,
            faults,
            stored,
            previous: stored,
            ledger,
            clients,
            bag: [0; BAG],
            in_bag: 0,
            fresh: 0,
        }
    }

    /// The message that is delivered next.
    pub(super) fn fresh(&self) -> Option<u32> {
        let at = usize::from(self.fresh).checked_sub(1)?;
        self.bag().get(at).copied()
    }

    /// Makes a message of the bag the one that is delivered next; `None` leaves all of them late.
    pub(super) fn set_fresh(&mut self, message: Option<u32>) {
        let at = message.and_then(|message| self.bag().binary_search(&message).ok());
        self.fresh = at.map_or(0, |at| at as u8 + 1);
    }

    pub(super) fn bag(&self) -> &[u32] {
        &self.bag[..usize::from(self.in_bag)]
    }

    /// Puts a message into the network. Two equal ones are one: only answers can be equal, and the
    /// first that is taken makes the other one void.
    ///
    /// # Panics
    ///
    /// When the bag is full: a configuration that needs more is not explored, so it must not pass.
    pub(super) fn put(&mut self, message: u32) {
        let at = self.bag().partition_point(|other| *other < message);
        let len = usize::from(self.in_bag);
        if self.bag().get(at) == Some(&message) {
            return;
        }
        assert!(len < BAG, "more than {BAG} messages under way");
        self.bag.copy_within(at..len, at + 1);
        self.bag[at] = message;
        self.in_bag += 1;
    }

    pub(super) fn remove(&mut self, message: u32) {
        if let Ok(at) = self.bag().binary_search(&message) {
            let len = usize::from(self.in_bag);
            self.bag.copy_within(at + 1..len, at);
            self.in_bag -= 1;
            self.bag[usize::from(self.in_bag)] = 0;
        }
    }

    pub(super) fn retain(&mut self, mut keep: impl FnMut(u32) -> bool) {
        let before = *self;
        self.bag = [0; BAG];
        self.in_bag = 0;
        for message in before.bag() {
            if keep(*message) {
                self.bag[usize::from(self.in_bag)] = *message;
                self.in_bag += 1;
            }
        }
    }

    fn words(&self) -> ([u32; WORDS], usize) {
        let mut words = [0; WORDS];
        words[0] = u32::from(self.time) << 5 | u32::from(self.in_bag);
        for fault in self.faults {
            words[0] = words[0] << 3 | u32::from(fault);
        }
        words[0] = words[0] << 5 | u32::from(self.fresh);
        words[1] = self.stored;
        words[2] = self.previous;
        words[3] = self.ledger;
        words[4..4 + CLIENTS].copy_from_slice(&self.clients);
        let len = 4 + CLIENTS + self.bag().len();
        words[4 + CLIENTS..len].copy_from_slice(self.bag());
        (words, len)
    }

    fn from_words(words: &[u32]) -> State {
        let mut rest = words[0];
        let mut take = |bits: u32| {
            let low = rest & ((1 << bits) - 1);
            rest >>= bits;
            low as u8
        };
        let fresh = take(5);
        let mut faults = [0; 5];
        faults.iter_mut().rev().for_each(|fault| *fault = take(3));
        let (in_bag, time) = (take(5), take(7));
        let mut clients = [0; CLIENTS];
        clients.copy_from_slice(&words[4..4 + CLIENTS]);
        let mut bag = [0; BAG];
        bag[..usize::from(in_bag)].copy_from_slice(&words[4 + CLIENTS..]);
        State {
            time,
            faults,
            stored: words[1],
            previous: words[2],
            ledger: words[3],
            clients,
            bag,
            in_bag,
            fresh,
        }
    }
}

/// All states that were reached, in the order in which they were, each with the one it came from.
#[derive(Debug)]
pub(super) struct Reached {
    words: Vec<u32>,
    starts: Vec<u32>,
    parents: Vec<u32>,
    /// Half of a state's hash, and its number + 1; 0 is an empty place.
    table: Vec<(u32, u32)>,
}

impl Reached {
    pub(super) fn new() -> Reached {
        Reached {
            words: Vec::new(),
            starts: Vec::new(),
            parents: Vec::new(),
            table: vec![(0, 0); 1 << 16],
        }
    }

    pub(super) fn len(&self) -> usize {
        self.starts.len()
    }

    fn slice(&self, index: usize) -> &[u32] {
        let end = self
            .starts
            .get(index + 1)
            .map_or(self.words.len(), |e| *e as usize);
        &self.words[self.starts[index] as usize..end]
    }

    pub(super) fn state(&self, index: usize) -> State {
        State::from_words(self.slice(index))
    }

    pub(super) fn parent(&self, index: usize) -> Option<usize> {
        let parent = self.parents[index] as usize;
        (parent != index).then_some(parent)
    }

    /// Adds a state; whether it is a new one. The first one is its own parent.
    pub(super) fn add(&mut self, state: &State, parent: usize) -> bool {
        let (words, len) = state.words();
        let words = &words[..len];
        let hash = hash(words);
        let (place, found) = self.find(words, hash);
        if found {
            return false;
        }
        let number = u32::try_from(self.starts.len() + 1).unwrap_or(u32::MAX);
        self.table[place] = ((hash >> 32) as u32, number);
        self.starts
            .push(u32::try_from(self.words.len()).unwrap_or(u32::MAX));
        self.words.extend_from_slice(words);
        self.parents.push(u32::try_from(parent).unwrap_or(u32::MAX));
        if self.starts.len() * 3 > self.table.len() * 2 {
            self.grow();
        }
        true
    }

    fn find(&self, words: &[u32], hash: u64) -> (usize, bool) {
        let mask = self.table.len() - 1;
        let mut place = (hash as usize) & mask;
        loop {
            let (half, number) = self.table[place];
            if number == 0 {
                return (place, false);
            }
            if half == (hash >> 32) as u32 && self.slice(number as usize - 1) == words {
                return (place, true);
            }
            place = (place + 1) & mask;
        }
    }

    fn grow(&mut self) {
        let mask = self.table.len() * 2 - 1;
        let mut table = vec![(0, 0); mask + 1];
        for index in 0..self.starts.len() {
            let hash = hash(self.slice(index));
            let mut place = (hash as usize) & mask;
            while table[place].1 != 0 {
                place = (place + 1) & mask;
            }
            table[place] = ((hash >> 32) as u32, index as u32 + 1);
        }
        self.table = table;
    }
}

fn hash(words: &[u32]) -> u64 {
    let mut hasher = Quick::default();
    for word in words {
        hasher.mix(u64::from(*word));
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(messages: &[u32]) -> State {
        let mut state = State::new([1, 2, 3, 4, 5], 7, 8, [1, 2, 3]);
        for message in messages {
            state.put(*message);
        }
        state
    }

    #[test]
    fn the_order_of_messages_makes_no_state() {
        assert_eq!(state(&[5, 1, 9]), state(&[9, 5, 1]));
        let mut less = state(&[5, 1, 9]);
        less.remove(5);
        assert_eq!(less, state(&[1, 9]));
        less.retain(|message| message != 1);
        assert_eq!(less, state(&[9]));
    }

    #[test]
    fn states_read_back_and_are_found_again() {
        let mut reached = Reached::new();
        let states: Vec<State> = (0..200_000).map(|n| state(&[n, n + 1])).collect();
        for (index, state) in states.iter().enumerate() {
            assert!(reached.add(state, index / 2));
        }
        for (index, state) in states.iter().enumerate() {
            assert!(!reached.add(state, 0));
            assert_eq!(reached.state(index), *state);
        }
        assert_eq!(reached.parent(0), None);
        assert_eq!(reached.parent(7), Some(3));
    }
}
