//! The pauses between a term and the next candidacy.

use std::time::Duration;

/// The first pause. Too short: a command that fails at once keeps others from leading. Too long: nobody leads meanwhile if
/// there is no other.
const FIRST: Duration = Duration::from_secs(1);
/// The longest pause.
const LONGEST: Duration = Duration::from_secs(60);
/// After a term of this length, the next pause is the first one again.
const LASTED: Duration = Duration::from_secs(10);

/// Pauses that double while terms are short.
#[derive(Debug, Default)]
pub(super) struct Pace {
    last: Option<Duration>,
}

impl Pace {
    /// The pause after a term that lasted so long.
    pub(super) fn after(&mut self, lasted: Duration) -> Duration {
        let pause = match self.last {
            Some(last) if lasted < LASTED => (last * 2).min(LONGEST),
            _ => FIRST,
        };
        self.last = Some(pause);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_while_terms_are_short() {
        let mut pace = Pace::default();
        let mut after = |ms| pace.after(Duration::from_millis(ms)).as_secs();
        let short: Vec<_> = (0..9).map(|_| after(3)).collect();
        assert_eq!(short, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!([after(10_000), after(9_999), after(0)], [1, 2, 4]);
        assert_eq!([after(3_600_000), after(86_400_000)], [1, 1]);
    }
}
