//! The line of a key and the hand-off from guard to guard (`PROTOCOL.md` section 9).

use super::{Edit, Mutant};

const LINE: &str = "crates/leasehold/src/line.rs";
const HAND_ON: &str = "crates/leasehold/src/keeper/hand_on.rs";
const ASK: &str = "crates/leasehold/src/acquire/ask.rs";
const IDENTITY: &str = "crates/leasehold/src/identity.rs";

const OVER: &str = "        // Over, before the next one begins.
        self.watched.lose(Loss::Released);
";
/// The last word of a keeper's guard ends that guard as well.
const LAST_WORD: &str = "        self.last_word = LastWord(self.watched.clone());";
const SPARED: &str = "        let next_word = LastWord(self.watched.clone());
        std::mem::forget(std::mem::replace(&mut self.last_word, next_word));";
const WANTS: &str = "self.policy.grants_like(policy) && self.data.as_ref() == data";

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "a guard that was handed on lives on",
        breaks: "two guards of one grant are held at once",
        edits: &[
            Edit {
                file: HAND_ON,
                old: OVER,
                new: "",
            },
            Edit {
                file: HAND_ON,
                old: LAST_WORD,
                new: SPARED,
            },
        ],
    },
    Mutant {
        name: "the next guard is given before the old one is over",
        breaks: "the order of the two, which another thread can see",
        edits: &[
            Edit {
                file: HAND_ON,
                old: OVER,
                new: "        let before = self.watched.clone();
",
            },
            Edit {
                file: HAND_ON,
                old: LAST_WORD,
                new: SPARED,
            },
            Edit {
                file: HAND_ON,
                old: "        if let Err(parcel) = given {",
                new: "        before.lose(Loss::Released);
        if let Err(parcel) = given {",
            },
        ],
    },
    Mutant {
        name: "handed on after a fence",
        breaks: "a condition check of the old guard passes under the next one",
        edits: &[Edit {
            file: HAND_ON,
            old: "if !ready || !self.watched.id.mark_handed_on() {",
            new: "let _ = self.watched.id.mark_handed_on();
        if !ready {",
        }],
    },
    Mutant {
        name: "a guard that was handed on can be fenced",
        breaks: "a condition check is made for a guard that is over",
        edits: &[Edit {
            file: IDENTITY,
            old: "self.mark.set(PINNED)",
            new: "self.mark.set(PINNED) || self.token.pass() < u16::MAX",
        }],
    },
    Mutant {
        name: "handed on with little left",
        breaks: "the next guard is given a lease that is nearly over, without a renewal",
        edits: &[Edit {
            file: HAND_ON,
            old: "if self.kept.remaining(now) >= whole / 2 {",
            new: "if self.kept.remaining(now) >= whole / 1_000 {",
        }],
    },
    Mutant {
        name: "handed on although it is lost",
        breaks: "the next guard is given a grant that is over",
        edits: &[
            Edit {
                file: HAND_ON,
                old: "            && self.watched.loss().is_none()
",
                new: "",
            },
            Edit {
                file: HAND_ON,
                old: "            if self.watched.loss().is_some() {
                return false;",
                new: "            if self.watched.loss().is_some() {
                return true;",
            },
        ],
    },
    Mutant {
        name: "handed on after a shutdown has begun",
        breaks: "a client that is shut down goes on with its line",
        edits: &[Edit {
            file: HAND_ON,
            old: "            && !core.shut.is_cancelled()
",
            new: "",
        }],
    },
    Mutant {
        name: "handed on although that is turned off",
        breaks: "`hand_off(false)` is ignored",
        edits: &[Edit {
            file: HAND_ON,
            old: "        self.policy.is_handing_off()
            && ",
            new: "        ",
        }],
    },
    Mutant {
        name: "a grant is handed on without end",
        breaks: "no cap on the hand-offs of a grant",
        edits: &[Edit {
            file: HAND_ON,
            old: "self.watched.id.token().pass() < self.most_passes()",
            new: "self.watched.id.token().pass() < self.most_passes() * 4",
        }],
    },
    Mutant {
        name: "the pass stands still",
        breaks: "two guards of a grant have the same token",
        edits: &[Edit {
            file: IDENTITY,
            old: "FencingToken::new(token.stored(), token.pass() + 1, token.is_best_effort())",
            new: "FencingToken::new(token.stored(), token.pass(), token.is_best_effort())",
        }],
    },
    Mutant {
        name: "a process keeps the key for ever",
        breaks: "the hand-off ignores for how long the process has had the key",
        edits: &[Edit {
            file: LINE,
            old: "now.since(since) < tenure",
            new: "now.since(since) < tenure * 1_000",
        }],
    },
    Mutant {
        name: "the line does not sit out",
        breaks: "a process that has had the key for long asks again at once",
        edits: &[Edit {
            file: LINE,
            old: "(true, false) => turns.pause,",
            new: "(true, false) => Duration::ZERO,",
        }],
    },
    Mutant {
        name: "a process alone does not sit out",
        breaks: "one that comes back at once leaves the others no time in which the key is free",
        edits: &[Edit {
            file: LINE,
            old: "(true, true) => turns.short_pause,",
            new: "(true, true) => Duration::ZERO,",
        }],
    },
    Mutant {
        name: "no courtesy to others that are known",
        breaks: "a process that has waited for others takes all turns that follow",
        edits: &[Edit {
            file: LINE,
            old: "(false, _) if courteous => turns.short_pause,",
            new: "(false, _) if courteous => Duration::ZERO,",
        }],
    },
    Mutant {
        name: "a line is forgotten at once",
        breaks: "who comes back at once is taken for a newcomer",
        edits: &[Edit {
            file: LINE,
            old: "if last && let Some(lines) = self.line.lines.upgrade() {",
            new: "if last && let Some(lines) = self.line.lines.upgrade().filter(|_| false) {",
        }],
    },
    Mutant {
        name: "sitting out takes the whole wait",
        breaks: "a call with a bound gives up without having asked",
        edits: &[Edit {
            file: ASK,
            old: "now.plus(self.limit.since(now) / 2)",
            new: "now.plus(self.limit.since(now))",
        }],
    },
    Mutant {
        name: "handed on under another policy",
        breaks: "a waiter is given a grant with another lease than it asks for",
        edits: &[Edit {
            file: LINE,
            old: WANTS,
            new: "policy.is_handing_off() && self.data.as_ref() == data",
        }],
    },
    Mutant {
        name: "handed on with another's data",
        breaks: "a waiter is given a grant whose record says what it did not",
        edits: &[Edit {
            file: LINE,
            old: WANTS,
            new: "self.policy.grants_like(policy) && (self.data.as_ref() == data || data.is_some())",
        }],
    },
    Mutant {
        name: "handed on to the last in line",
        breaks: "the line is not first come, first served",
        edits: &[Edit {
            file: LINE,
            old: "            .iter_mut()
            .find(|(_, waiter)| matches!(waiter.turn, None | Some(Turn::Head)))",
            new: "            .iter_mut()
            .rev()
            .find(|(_, waiter)| matches!(waiter.turn, None | Some(Turn::Head)))",
        }],
    },
    Mutant {
        name: "a head beside a guard",
        breaks: "a waiter asks the store for a key that its own client holds",
        edits: &[Edit {
            file: LINE,
            old: "if self.head.is_some() || !self.holders.is_empty() {",
            new: "if self.head.is_some() {",
        }],
    },
    Mutant {
        name: "the head looks although a guard here holds the key",
        breaks: "a head that waits for its own client asks the store",
        edits: &[Edit {
            file: ASK,
            old: ".filter(|head| head.is_held_here())",
            new: ".filter(|head| head.is_held_here() && head.requests() == u32::MAX)",
        }],
    },
    Mutant {
        name: "the head's role leaves with its waiter",
        breaks: "a waiter that goes before it has taken up the role does not lay it down",
        edits: &[Edit {
            file: LINE,
            old: "                inner.lay_down_head(self.number, wake);
            }
            left",
            new: "                wake.clear();
            }
            left",
        }],
    },
    Mutant {
        name: "a head that is done keeps its role",
        breaks: "nobody asks the store after the first head",
        edits: &[Edit {
            file: LINE,
            old: "            .with(|inner, wake| inner.lay_down_head(self.number, wake));",
            new: "            .with(|_, wake| wake.clear());",
        }],
    },
    Mutant {
        name: "a guard in a place that was left is kept",
        breaks: "what a waiter was given is not given back when it has left without looking",
        edits: &[
            Edit {
                file: LINE,
                old: "let _left = self.line.with(|inner, wake| {",
                new: "let _left = std::mem::ManuallyDrop::new(self.line.with(|inner, wake| {",
            },
            Edit {
                file: LINE,
                old: "            left
        });",
                new: "            left
        }));",
            },
        ],
    },
    Mutant {
        name: "the next head begins anew",
        breaks: "what the head before it has seen and planned is forgotten",
        edits: &[Edit {
            file: LINE,
            old: "self.line.with(|inner, _| inner.start = start);",
            new: "self.line.with(|_, _| drop(start));",
        }],
    },
    Mutant {
        name: "the head is not told that the key is free",
        breaks: "a head that waits for a guard of its client waits on when that has let go",
        edits: &[Edit {
            file: LINE,
            old: "            if inner.holders.is_empty() {
                wake.extend(inner.bell.take());
                inner.choose_head(wake);",
            new: "            if inner.holders.is_empty() {
                inner.choose_head(wake);",
        }],
    },
];
