//! Values by number.

use std::collections::HashMap;
use std::hash::Hash;

/// Values by number, so that a state is small.
#[derive(Debug)]
pub(super) struct Numbers<T> {
    of: HashMap<T, u32>,
    values: Vec<T>,
}

impl<T: Clone + Eq + Hash> Numbers<T> {
    pub(super) fn new() -> Self {
        Numbers {
            of: HashMap::new(),
            values: Vec::new(),
        }
    }

    pub(super) fn number(&mut self, value: T) -> u32 {
        if let Some(number) = self.of.get(&value) {
            return *number;
        }
        let number = u32::try_from(self.values.len()).unwrap_or(u32::MAX);
        self.of.insert(value.clone(), number);
        self.values.push(value);
        number
    }

    pub(super) fn value(&self, number: u32) -> &T {
        &self.values[usize::try_from(number).unwrap_or(usize::MAX)]
    }
}
