//! A call that waits for a key outside of its queue: it is told of by [`Queues::seen`](super::Queues::seen), and gets
//! no turn.

use std::sync::Arc;

use super::registry::Queue;
use crate::holder::HolderInfo;

/// Such a call. Its drop ends the wait.
#[derive(Debug)]
pub(crate) struct Looker(Arc<Queue>);

impl Looker {
    pub(crate) fn new(queue: Arc<Queue>) -> Looker {
        queue.with(|state, _| state.lookers += 1);
        Looker(queue)
    }

    /// Records the holder that was seen.
    pub(crate) fn saw(&self, held: &HolderInfo) {
        let held = Box::new(held.clone());
        let _old = self.0.with(|state, _| state.held.replace(held));
    }
}

impl Drop for Looker {
    fn drop(&mut self) {
        self.0.with(|state, _| state.lookers -= 1);
    }
}
