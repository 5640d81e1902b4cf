//! The loss of one answer: the service applies a write, and the client never hears of it.

use std::sync::atomic::{AtomicU32, Ordering};

/// Which of the next applied writes loses its answer.
#[derive(Debug, Default)]
pub(crate) struct Loss(AtomicU32);

impl Loss {
    /// The `nth` from now on, counted from one.
    pub(crate) fn arm(&self, nth: u32) {
        self.0.store(nth, Ordering::SeqCst);
    }

    /// Whether it is still to come; then it is called off.
    pub(crate) fn disarm(&self) -> bool {
        self.0.swap(0, Ordering::SeqCst) > 0
    }

    /// Counts an applied write; whether it is the one.
    pub(crate) fn hits(&self) -> bool {
        let less = |left: u32| left.checked_sub(1);
        self.0
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, less)
            == Ok(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_answer_is_lost_and_none_before_or_after() {
        let loss = Loss::default();
        assert!(!loss.hits(), "nothing was asked for");
        loss.arm(2);
        assert_eq!([(); 4].map(|()| loss.hits()), [false, true, false, false]);
        assert!(!loss.disarm(), "it has happened");
        loss.arm(2);
        assert!(!loss.hits());
        assert!(loss.disarm(), "it was still to come");
        assert!(!loss.hits(), "and comes no more");
    }
}
