//! The payload: who writes it, and what of it the next holder finds.

use std::time::Duration;

use super::{Bench, attempt, later, seen, token};
use leasehold_protocol::attempt::AttemptId;
use leasehold_protocol::done::{Completion, Done};
use leasehold_protocol::record::Record;
use leasehold_protocol::write::{Description, Grant, Left, Write};

impl Bench {
    /// A grant with this payload, on a key that is free or whose grant is taken over.
    async fn granted(&self, me: AttemptId, before: Option<&Record>, data: Option<&[u8]>) -> Record {
        let grant = Grant {
            data: data.map(Into::into),
            ..self.grant(me)
        };
        self.applied(match before {
            None => Write::Acquire(grant),
            Some(record) => Write::TakeOver(grant, seen(record), Vec::new()),
        })
        .await
    }
}

pub(super) async fn a_payload_is_stored_replaced_and_left(bench: &Bench) {
    let all_bytes: Vec<u8> = (0..=255).collect();
    let large = vec![7; 10_000];
    let (all_bytes, large) = (Some(all_bytes.as_slice()), Some(large.as_slice()));
    let mut before = None;
    for (data, expected) in [
        (None, None),
        (all_bytes, all_bytes),
        (None, all_bytes),
        (large, large),
        (Some(&[][..]), Some(&[][..])),
        (None, Some(&[][..])),
    ] {
        let record = bench.granted(attempt(), before.as_ref(), data).await;
        assert!(
            record.data.as_deref() == expected,
            "the payload was changed"
        );
        before = Some(record);
    }
}

pub(super) async fn a_renewal_writes_a_payload(bench: &Bench) {
    let me = attempt();
    let mut record = bench.granted(me, None, Some(b"first")).await;
    for (data, expected) in [(Some("second"), "second"), (None, "second")] {
        let later = record.expires_at.plus(Duration::from_secs(1));
        let mut renewal = bench.renewal(me, token(&record), later);
        if let Write::Renew { description, .. } = &mut renewal {
            *description = Some(Description {
                holder: "another label".into(),
                data: data.map(|data| data.as_bytes().into()),
            });
        }
        record = bench.applied(renewal).await;
        assert_eq!(record.data.as_deref(), Some(expected.as_bytes()));
        assert_eq!(record.holder.as_deref(), Some("another label"));
    }
}

/// What the end of a grant leaves, of a record with the payload `kept`.
const LEFT: [(&str, Option<&[u8]>); 3] = [
    ("nothing", None),
    ("as it is", Some(b"kept")),
    ("a payload", Some(b"new")),
];

fn left(name: &str) -> Left {
    match name {
        "nothing" => Left::Nothing,
        "as it is" => Left::AsItIs,
        _ => Left::Payload(b"new"[..].into()),
    }
}

pub(super) async fn a_release_leaves_the_payload_that_it_is_to(bench: &Bench) {
    for (name, expected) in LEFT {
        let me = attempt();
        let record = bench.granted(me, None, Some(b"kept")).await;
        let mut release = bench.release(me, Some(token(&record)));
        if let Write::Release { left: payload, .. } = &mut release {
            *payload = left(name);
        }
        let released = bench.applied(release).await;
        assert_eq!((released.owner, released.data.as_deref()), (None, expected));
        let next = attempt();
        let record = bench.granted(next, None, None).await;
        assert_eq!(record.data.as_deref(), expected, "{name}");
        bench.applied(bench.release(next, None)).await;
    }
}

pub(super) async fn a_hand_over_leaves_the_payload_that_it_is_to(bench: &Bench) {
    for (name, expected) in LEFT {
        let (me, next) = (attempt(), attempt());
        bench.granted(me, None, Some(b"kept")).await;
        let place = super::queue::place(next);
        let record = bench.applied(bench.join(place)).await;
        let mut hand_over = bench.hand_over(&record, me, &[], place);
        if let Write::HandOver { left: payload, .. } = &mut hand_over {
            *payload = left(name);
        }
        let handed = bench.applied(hand_over).await;
        assert!(next.owns(&handed));
        assert_eq!(handed.data.as_deref(), expected, "{name}");
        bench.applied(bench.release(next, None)).await;
    }
}

pub(super) async fn the_result_of_a_run_is_no_payload(bench: &Bench) {
    let mut before = None;
    for own in [None, Some(&b"own"[..]), None] {
        let me = attempt();
        let record = bench.granted(me, before.as_ref(), own).await;
        assert_eq!(record.data.as_deref(), own);
        let completion = Write::Complete(Completion {
            key: bench.key.clone(),
            attempt: me,
            token: token(&record),
            until: later(),
            keep: Duration::from_secs(60),
            ttl_seconds: record.ttl_seconds,
            done: Done {
                at: later(),
                failed: false,
                input: None,
            },
            result: Some(b"result"[..].into()),
            held: None,
        });
        before = Some(bench.applied(completion).await);
    }
}
