//! What ends a grant that nobody uses.

use super::answer::{is_handed_over, is_impossible, u64_of};
use super::{Attempt, Granted, Request};
use crate::ending::Ending;
use crate::lens::{Crowd, Want};
use crate::record::Record;
use crate::time::{Reading, ServiceClock};
use crate::write::{Left, Write};

impl Attempt {
    /// The release of any grant of this attempt, even of one that no answer showed. It is refused while
    /// others wait for the key. The refusal shows the record to [`give_back`](Self::give_back).
    pub fn abandon(&self, clock: &ServiceClock, now: Reading) -> Write {
        self.end(None, None, self.own_data_goes(), clock, now)
    }

    /// The write that ends the grant of this attempt in `record`; `None` if the record is not ours. A
    /// record with an unverified or impossible seed is deleted, before another client sees its token.
    pub fn give_back(&self, record: &Record, clock: &ServiceClock, now: Reading) -> Option<Write> {
        let crowd = Crowd::of(record, self.id);
        let record = &*self.view(record);
        let native = record.native.filter(|_| self.id.owns(record))?;
        let sampled = clock.earliest(now.elapsed).is_some();
        let began = |r: &Request| {
            native.token == u64_of(r.seed).saturating_add(1)
                && (is_impossible(r.seed, clock, now) || r.unsampled && !sampled)
        };
        if native.renew_count == 1 && self.recent.iter().any(began) {
            return Some(Write::Withdraw {
                key: self.wish.key.clone(),
                attempt: self.id,
                token: native.token,
            });
        }
        let token = Some(native.token);
        let left = match is_handed_over(record) {
            true => Left::AsItIs,
            false => self.own_data_goes(),
        };
        Some(self.end(token, Some((record, crowd.as_ref())), left, clock, now))
    }

    /// The release of a grant of this attempt by its token, like [`abandon`](Self::abandon).
    pub fn release_late(&self, token: u64, clock: &ServiceClock, now: Reading) -> Write {
        self.end(Some(token), None, self.own_data_goes(), clock, now)
    }

    /// Nobody has seen a grant that is given back. So what the last holder left stays for the next one, unless it
    /// was replaced.
    fn own_data_goes(&self) -> Left {
        match self.wish.data {
            Some(_) => Left::Nothing,
            None => Left::AsItIs,
        }
    }

    /// `seen`: the record as it shows the grant, and the other holders of slots.
    fn end(
        &self,
        token: Option<u64>,
        seen: Option<(&Record, Option<&Crowd>)>,
        left: Left,
        clock: &ServiceClock,
        now: Reading,
    ) -> Write {
        let ending = Ending {
            key: &self.wish.key,
            attempt: self.id,
            token,
            terms: &self.terms,
            queue: seen.map_or(&[], |(record, _)| &record.queue),
            ttl_seconds: seen.and_then(|(record, _)| record.ttl_seconds),
            held: None,
            is_slot: self.wish.want != Want::Whole,
            crowd: seen.and_then(|(_, crowd)| crowd),
            left,
        };
        ending.write(clock, now)
    }

    /// The deletion of the record that this attempt created with an impossible seed.
    pub fn withdraw(&self, granted: &Granted) -> Write {
        Write::Withdraw {
            key: self.wish.key.clone(),
            attempt: self.id,
            token: granted.token.stored(),
        }
    }
}
