//! Work that is done: who may record it, and what changes the record afterwards.

use std::time::Duration;

use super::{Bench, FAR, attempt, later, renew_count, seen, token};
use leasehold_protocol::attempt::AttemptId;
use leasehold_protocol::done::{Completion, Done};
use leasehold_protocol::record::Record;
use leasehold_protocol::time::ServiceTime;
use leasehold_protocol::write::{Grant, Write};

impl Bench {
    fn completion(&self, me: AttemptId, record: &Record) -> Completion {
        Completion {
            key: self.key.clone(),
            attempt: me,
            token: token(record),
            until: later(),
            keep: Duration::from_secs(3_600),
            ttl_seconds: Some(FAR + 4),
            done: Done {
                at: later(),
                failed: false,
                input: Some(b"input"[..].into()),
            },
            result: Some(b"result"[..].into()),
            held: Some(Duration::from_millis(1_234)),
        }
    }
}

pub(super) async fn a_completion_replaces_the_grant(bench: &Bench) {
    let me = attempt();
    let before = bench.acquired(me).await;
    let waits = super::queue::place(attempt());
    bench.applied(bench.join(waits)).await;
    let completion = bench.completion(me, &before);
    let record = bench.applied(Write::Complete(completion.clone())).await;
    let expected = Record {
        owner: Some(me.when_done().to_string()),
        expires_at: completion.until,
        native: before
            .native
            .map(|native| leasehold_protocol::record::Native {
                lease: completion.keep,
                renew_count: native.renew_count + 1,
                ..native
            }),
        ttl_seconds: completion.ttl_seconds,
        data: Some(b"result".to_vec()),
        last_hold: completion.held,
        done: Some(completion.done),
        ..before
    };
    assert_eq!(record, expected, "the queue goes, and the label stays");
}

pub(super) async fn a_completion_needs_our_id_and_token(bench: &Bench) {
    let me = attempt();
    let before = bench.acquired(me).await;
    let completion = bench.completion(me, &before);
    for wrong in [
        Completion {
            attempt: attempt(),
            ..completion.clone()
        },
        Completion {
            token: completion.token + 1,
            ..completion.clone()
        },
    ] {
        assert_eq!(
            bench.refused(Write::Complete(wrong)).await,
            Some(before.clone())
        );
    }
    bench.applied(bench.release(me, Some(token(&before)))).await;
    bench.refused(Write::Complete(completion)).await;
}

pub(super) async fn what_is_not_kept_is_removed(bench: &Bench) {
    let me = attempt();
    let grant = Grant {
        data: Some(b"payload"[..].into()),
        ..bench.grant(me)
    };
    let before = bench.applied(Write::Acquire(grant)).await;
    let completion = bench.completion(me, &before);
    let bare = Completion {
        ttl_seconds: None,
        result: None,
        held: None,
        done: Done {
            failed: true,
            input: None,
            ..completion.done
        },
        ..completion
    };
    let record = bench.applied(Write::Complete(bare.clone())).await;
    assert_eq!((record.ttl_seconds, record.data), (None, None));
    assert_eq!(record.done, Some(bare.done));
}

pub(super) async fn only_a_take_over_changes_what_is_done(bench: &Bench) {
    let me = attempt();
    let before = bench.acquired(me).await;
    let completion = Write::Complete(bench.completion(me, &before));
    let record = bench.applied(completion.clone()).await;
    let far = ServiceTime(FAR * 1_000);
    for write in [
        completion,
        Write::Acquire(bench.grant(attempt())),
        bench.renewal(me, token(&before), far),
        bench.release(me, Some(token(&before))),
        bench.release(me, None),
        bench.withdrawal(me, token(&before)),
        bench.join(super::queue::place(attempt())),
        Write::TakeOver(bench.grant(attempt()), seen(&before), Vec::new()),
    ] {
        assert_eq!(bench.refused(write).await, Some(record.clone()));
    }
    let other = attempt();
    let take_over = Write::TakeOver(bench.grant(other), seen(&record), Vec::new());
    let taken = bench.applied(take_over).await;
    assert!(other.owns(&taken));
    assert_eq!((taken.done.clone(), taken.data.clone()), (None, None));
    assert_eq!(renew_count(&taken), renew_count(&record) + 1);
    assert!(token(&taken) > token(&record));
}
