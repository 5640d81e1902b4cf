//! The client around the protocol: acquisitions, keepers, requests.

use super::{Edit, Mutant};

const ACQUIRE: &str = "crates/leasehold/src/acquire/mod.rs";
const GRANT: &str = "crates/leasehold/src/acquire/grant.rs";
const SETTLE: &str = "crates/leasehold/src/acquire/settle.rs";
const KEEPER: &str = "crates/leasehold/src/keeper/mod.rs";
const LETTING_GO: &str = "crates/leasehold/src/keeper/letting_go.rs";
const WATCHED: &str = "crates/leasehold/src/keeper/watched.rs";
const EXCHANGE: &str = "crates/leasehold/src/exchange.rs";
const FLIGHT: &str = "crates/leasehold/src/flight.rs";
const CLIENT: &str = "crates/leasehold/src/client.rs";

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "one id for each process",
        breaks: "an attempt id is used again by the next acquisition of the same process",
        edits: &[Edit {
            file: ACQUIRE,
            old: "let id = AttemptId::from_random(core.random.attempt_bits());",
            new: "let mut bits = [0; 16];
        for (place, byte) in core.label.bytes().enumerate() {
            bits[place % 16] ^= byte;
        }
        let id = AttemptId::from_random(bits);",
        }],
    },
    Mutant {
        name: "an observation counts from the send",
        breaks: "what an answer showed is dated to its request",
        edits: &[Edit {
            file: EXCHANGE,
            old: "            result: result.map(|reply| reply.value),
            received: received.elapsed,",
            new: "            result: result.map(|reply| reply.value),
            received: sent.elapsed,",
        }],
    },
    Mutant {
        name: "an acquisition ends with its caller",
        breaks: "a dropped acquire forgets its request in flight, and what that acquires",
        edits: &[
            Edit {
                file: ACQUIRE,
                old: "    acquisition: Enduring<Result<Won, Error>>,",
                new: "    acquisition: std::pin::Pin<Box<dyn Future<Output = Result<Won, Error>> + Send>>,",
            },
            Edit {
                file: ACQUIRE,
                old: "acquisition: Enduring::new(core, acquisition.run()),",
                new: "acquisition: Box::pin(acquisition.run()),",
            },
        ],
    },
    Mutant {
        name: "a request ends with its waiter",
        breaks: "a request in flight is cancelled when its caller is dropped",
        edits: &[Edit {
            file: FLIGHT,
            old: "            let task = async move { drop(work.await) };
            self.core.tasks.spawn_on(task, &self.runtime);",
            new: "            drop((work, &self.runtime));",
        }],
    },
    Mutant {
        name: "nothing is given back",
        breaks: "what an abandoned acquisition has acquired is kept until its lease ends",
        edits: &[Edit {
            file: ACQUIRE,
            old: "tasks.spawn(self.settle());",
            new: "drop((tasks, self.settle()));",
        }],
    },
    Mutant {
        name: "what lands late beside a lease stays",
        breaks: "a second grant of one acquisition, landed after its lease was over, is not released",
        edits: &[Edit {
            file: ACQUIRE,
            old: "tasks.spawn(self.settle_beside(token));",
            new: "drop((tasks, self.settle_beside(token)));",
        }],
    },
    Mutant {
        name: "a worthless grant is handed over",
        breaks: "acquire returns a lease without looking at what is left of it (S5)",
        edits: &[Edit {
            file: GRANT,
            old: "        if left.is_zero() {
            // Whoever",
            new: "        if left > terms.lease {
            // Whoever",
        }],
    },
    Mutant {
        name: "an adopted lease is believed in unseen",
        breaks: "adopt returns a lease without looking at what is left of it (S5)",
        edits: &[Edit {
            file: CLIENT,
            old: "Ok(()) if !kept.remaining(self.core.clock.reading()).is_zero() => {",
            new: "Ok(()) if tries < 100 => {",
        }],
    },
    Mutant {
        name: "lost un-fires",
        breaks: "a lease that was lost is held again when a late renewal is acknowledged",
        edits: &[Edit {
            file: WATCHED,
            old: "            Some(_) => Duration::ZERO,
            None => truth.deadline.remaining(now, self.policy.lost_lead()),",
            new: "            _ => truth.deadline.remaining(now, self.policy.lost_lead()),",
        }],
    },
    Mutant {
        name: "a late answer is taken before the deadline is looked at",
        breaks: "a lease that is over is held again when a late renewal is acknowledged",
        edits: &[Edit {
            file: KEEPER,
            old: "        // Before the answer is looked at: what is over stays over.
        self.watch_the_deadline(now);",
            new: "",
        }],
    },
    Mutant {
        name: "a lost lease is renewed",
        breaks: "renewals go on after `lost`",
        edits: &[
            Edit {
                file: KEEPER,
                old: "let may_send = !lost && self.unanswered < IN_FLIGHT;",
                new: "let may_send = self.unanswered < IN_FLIGHT;",
            },
            Edit {
                file: KEEPER,
                old: "() = nap(&core, until), if !lost => {",
                new: "() = nap(&core, if lost { self.next_renewal } else { until }) => {",
            },
        ],
    },
    Mutant {
        name: "lost waits for an answer",
        breaks: "no timer fires `lost`: it comes with the next answer, if one comes",
        edits: &[Edit {
            file: KEEPER,
            old: "let over = now.elapsed.plus(self.kept.remaining(now));",
            new: "let over = now.elapsed.plus(self.kept.remaining(now) * 1_000);",
        }],
    },
    Mutant {
        name: "one error ends the renewal",
        breaks: "a failed renewal is not tried again",
        edits: &[Edit {
            file: KEEPER,
            old: "                self.next_renewal = now.elapsed.plus(delay);",
            new: "                self.next_renewal = Elapsed::NEVER.minus(delay);",
        }],
    },
    Mutant {
        name: "a release does not wait for a renewal",
        breaks: "release overtakes a renewal in flight (holder rule 5)",
        edits: &[Edit {
            file: LETTING_GO,
            old: "        self.settle_renewals().await;
        let loss",
            new: "        let loss",
        }],
    },
    Mutant {
        name: "a dropped guard releases nothing",
        breaks: "the key stays held until the lease ends",
        edits: &[Edit {
            file: LETTING_GO,
            old: "Finish::Dropped(DropPolicy::Release) => {
                if !matches!(loss, Some(Loss::TakenOver(_)))",
            new: "Finish::Dropped(DropPolicy::Release) => {
                if started == Elapsed::NEVER",
        }],
    },
    Mutant {
        name: "a detached lease stays bound",
        breaks: "detach leaves the grant tied to this process",
        edits: &[Edit {
            file: LETTING_GO,
            old: "match renew_once(&core, &mut self.kept, false, timeout, &bill).await {",
            new: "match renew_once(&core, &mut self.kept, true, timeout, &bill).await {",
        }],
    },
    Mutant {
        name: "what was not seen is only released",
        breaks: "an abandoned acquisition keeps a token by a wrong clock where the answer is lost",
        edits: &[Edit {
            file: SETTLE,
            old: "        for write in unseen {",
            new: "        for write in unseen.into_iter().take(0) {",
        }],
    },
];
