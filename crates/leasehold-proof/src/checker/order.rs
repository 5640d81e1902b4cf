//! S9: the order of the queue. It judges each write by the queue before and after it.
//!
//! A place names the call that took it: the checker has given out the attempt ids itself. Whether that call
//! still waits is known to the world alone. So a judgement may depend on it: see [`Judged::passed`].

use leasehold_protocol::queue::Place;
use leasehold_protocol::record::Record;
use leasehold_protocol::write::Write;

use super::message::{Author, Sight};
use super::shape::{Breach, Property};

/// What is wrong if a call that was passed over still waits.
pub(super) const PASSED: Breach = breach("a contender that waits was passed over");

const fn breach(how: &'static str) -> Breach {
    Breach {
        property: Property::S9,
        how,
    }
}

/// The truth about a write.
#[derive(Debug)]
pub(super) struct Order<'a> {
    pub(super) before: &'a [Place],
    pub(super) after: &'a [Place],
    pub(super) author: Author,
    /// What the sender of a take-over had seen.
    pub(super) seen: Sight,
    /// Until when a place had to wait for the grant before, by the earlier of both rules.
    pub(super) grant_ends_ms: i64,
    pub(super) now_ms: i64,
}

/// The judgement of a write.
#[derive(Debug, Default)]
pub(super) struct Judged {
    pub(super) breach: Option<Breach>,
    /// S9 is broken as well if any of these calls still waits.
    pub(super) passed: Vec<Author>,
}

/// The call that a place belongs to.
pub(super) fn author_of(place: &Place) -> Author {
    let bytes = place.to_bytes();
    Author {
        process: bytes[0].wrapping_sub(1),
        attempt: bytes[1],
    }
}

/// Who has a place: a bit for each call.
pub(super) fn line(record: Option<&Record>) -> u16 {
    let queue = record.map_or(&[][..], |record| &record.queue);
    queue.iter().fold(0, |line, place| line | bit(place))
}

fn bit(place: &Place) -> u16 {
    let Author { process, attempt } = author_of(place);
    assert!(process < 3 && attempt < 5, "more calls than bits");
    1 << (process * 5 + attempt)
}

impl Order<'_> {
    pub(super) fn judge(&self, write: &Write) -> Judged {
        let found = |broken: bool, how| Judged {
            breach: broken.then_some(breach(how)),
            passed: Vec::new(),
        };
        match write {
            Write::Join { place, .. } => {
                let grown = self.after.strip_prefix(self.before) == Some(&[*place][..]);
                let again = self.before.iter().any(|p| author_of(p) == self.author);
                match again {
                    true => found(true, "a call got a second place"),
                    false => found(!grown, "a join did not append a place"),
                }
            }
            Write::Leave { .. } => {
                let others = |places: &[Place]| -> Vec<Place> {
                    let other = |place: &&Place| author_of(place) != self.author;
                    places.iter().filter(other).copied().collect()
                };
                let whole = others(self.before) == others(self.after);
                found(!whole, "a leave removed the place of another call")
            }
            Write::Renew { .. } => found(self.before != self.after, "a renewal changed the queue"),
            // The record is deleted, or nobody waits for it any more.
            Write::Withdraw { .. } | Write::Complete(_) => Judged::default(),
            Write::Slot(_) => found(true, "slots have worlds of their own"),
            Write::Release { .. } => Judged {
                breach: None,
                passed: self.passed_over(None, None),
            },
            Write::Acquire(_) => self.granted(self.author, None),
            Write::TakeOver(_, _, named) => self.judge_take_over(named),
            Write::HandOver { next, .. } => {
                let next = author_of(next);
                let mut judged = self.granted(next, None);
                let own =
                    (next == self.author).then_some(breach("a call handed the key over to itself"));
                judged.breach = own.or(judged.breach);
                judged
            }
        }
    }

    fn judge_take_over(&self, named: &[Place]) -> Judged {
        self.granted(self.author, Some(named))
    }

    /// `named` are the places that a take-over removes.
    fn granted(&self, to: Author, named: Option<&[Place]>) -> Judged {
        // A join that landed after the sender of a take-over had seen the queue is behind it.
        let known = |place: &&Place| named.is_none() || self.seen.line & bit(place) != 0;
        let mut left = self.after.iter().filter(known);
        let kept = left.any(|place| author_of(place) == to);
        Judged {
            breach: kept.then_some(breach("a grant left its own place in the queue")),
            passed: self.passed_over(Some(to), named),
        }
    }

    /// The calls that a grant passes over, or that a release does, without an excuse.
    fn passed_over(&self, granted: Option<Author>, named: Option<&[Place]>) -> Vec<Author> {
        let own = self
            .before
            .iter()
            .position(|place| Some(author_of(place)) == granted);
        let mut claims_end = self.grant_ends_ms;
        let mut passed = Vec::new();
        for (at, place) in self.before.iter().enumerate() {
            let author = author_of(place);
            let ended = self.now_ms > place.until().0;
            if ended || author == self.author || Some(author) == granted {
                continue;
            }
            let claim = i64::try_from(place.claim().as_millis()).unwrap_or(i64::MAX);
            claims_end = claims_end.saturating_add(claim);
            let excused = if own.is_some_and(|own| at > own) {
                // Behind the one that is granted the key: it goes on waiting.
                self.after.contains(place)
            } else {
                // A take-over is for those that it saw. It gives each of them its claim.
                named.is_some_and(|named| {
                    let unseen = self.seen.line & bit(place) == 0 && !named.contains(place);
                    unseen || self.now_ms >= claims_end
                })
            };
            if !excused {
                passed.push(author);
            }
        }
        passed
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use leasehold_protocol::attempt::AttemptId;
    use leasehold_protocol::time::ServiceTime;

    use super::*;

    const END: i64 = 1_000;

    fn place(process: u8, until: i64) -> Place {
        let mut bits = [0; 16];
        (bits[0], bits[1]) = (process + 1, 1);
        let (lease, claim) = (Duration::from_secs(1), Duration::from_millis(300));
        Place::new(
            AttemptId::from_random(bits),
            lease,
            claim,
            ServiceTime(until),
        )
    }

    fn queue(waiting: &[u8]) -> Vec<Place> {
        waiting.iter().map(|n| place(*n, i64::MAX)).collect()
    }

    fn by(process: u8) -> Author {
        Author {
            process,
            attempt: 1,
        }
    }

    /// Who must not wait any more, if `author` takes over a grant that ended at [`END`].
    fn taken(author: u8, before: &[Place], removed: usize, now_ms: i64) -> Judged {
        let named = before[..removed].to_vec();
        let order = Order {
            before,
            after: &before[removed..],
            author: by(author),
            seen: Sight {
                version: 1,
                line: before.iter().fold(0, |line, place| line | bit(place)),
                began: 0,
            },
            grant_ends_ms: END,
            now_ms,
        };
        order.judge_take_over(&named)
    }

    #[test]
    fn a_place_names_its_call() {
        assert_eq!(author_of(&place(2, 5)), by(2));
    }

    #[test]
    fn each_place_before_has_its_claim() {
        let two = queue(&[0, 1, 2]);
        assert_eq!(taken(2, &two, 3, END + 299).passed, [by(0), by(1)]);
        assert_eq!(taken(2, &two, 3, END + 300).passed, [by(1)]);
        assert_eq!(taken(2, &two, 3, END + 600).passed, []);
        // One whose wait has ended has no claim.
        let mut ended = two;
        ended[0] = place(0, END - 1);
        assert_eq!(taken(2, &ended, 3, END + 299).passed, [by(1)]);
        assert_eq!(taken(2, &ended, 3, END + 300).passed, []);
    }

    #[test]
    fn a_place_is_used_up_and_those_behind_it_stay() {
        let two = queue(&[0, 1]);
        assert!(taken(0, &two, 1, END).breach.is_none());
        assert!(taken(0, &two, 0, END).breach.is_some());
        assert_eq!(taken(0, &two, 2, END).passed, [by(1)]);
    }

    #[test]
    fn one_without_a_place_waits_for_those_that_it_saw() {
        let two = queue(&[0, 1]);
        assert_eq!(taken(2, &two, 2, END + 300).passed, [by(1)]);
        let unseen = Order {
            before: &two,
            after: &two,
            author: by(2),
            seen: Sight {
                version: 1,
                line: 0,
                began: 0,
            },
            grant_ends_ms: END,
            now_ms: END,
        };
        assert_eq!(unseen.judge_take_over(&[]).passed, []);
    }
}
