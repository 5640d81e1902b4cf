//! Work that runs once: who runs it, who gets its result, what is remembered, and at which price.
#![expect(clippy::disallowed_methods, reason = "tasks and clocks of the callers")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::support::{Kit, Lab};
use leasehold::store::testing::faulty::Fault;
use leasehold::{
    Done, ErrorKind, LockClient, LockState, Once, OnceError, OnceRequest, Policy, Started,
};
use leasehold_protocol::write::Operation;

const HOUR: Duration = Duration::from_secs(3_600);

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn policy() -> Policy {
    Policy::builder().build().expect("adds up")
}

fn once(locks: &LockClient) -> OnceRequest {
    locks.once("k").expect("a key").keep(HOUR).wait_forever()
}

type Failure = OnceError<String, String>;

async fn run(request: OnceRequest, value: &str) -> Result<Once<String>, Failure> {
    let value = value.to_owned();
    request.run(|_| async { Ok(value) }).await
}

#[track_caller]
fn ran(answer: Result<Once<String>, Failure>) -> String {
    match answer {
        Ok(Once::Ran(value)) => value,
        other => panic!("did not run: {other:?}"),
    }
}

#[track_caller]
fn done(answer: Result<Once<String>, Failure>) -> Done {
    match answer {
        Ok(Once::Done(done)) => done,
        other => panic!("not done: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_first_run_is_three_requests_and_a_duplicate_is_one() {
    let lab = Lab::new();
    let locks = lab.client(policy());
    assert_eq!(ran(run(once(&locks), "first").await), "first");
    let counts = lab.counted.counts();
    let each = [Operation::Read, Operation::Acquire, Operation::Complete].map(|o| counts.of(o));
    assert_eq!((each, counts.requests()), ([1, 1, 1], 3));
    let usage = locks.usage();
    assert_eq!((usage.write_units, usage.read_units), (2.0, 0.5));

    lab.counted.reset();
    let before = locks.usage();
    let remembered = done(run(once(&locks), "second").await);
    assert_eq!(remembered.value::<String>().expect("text"), "first");
    assert!(!remembered.is_failed());
    assert_eq!(lab.counted.counts().requests(), 1);
    let usage = locks.usage();
    assert_eq!(usage.write_units, before.write_units);
    assert_eq!(usage.read_units, before.read_units + 0.5);

    // By the write itself, whose refusal shows the result.
    lab.counted.reset();
    done(run(once(&locks).acquires_first(true), "third").await);
    assert_eq!(lab.counted.counts().of(Operation::Acquire), 1);
    assert_eq!(lab.counted.counts().requests(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_later_run_is_three_requests_as_well() {
    let lab = Lab::new();
    let locks = lab.client(policy());
    ran(run(once(&locks), "first").await);
    lab.sleep(HOUR + ms(5_000)).await;
    lab.counted.reset();
    assert_eq!(ran(run(once(&locks), "second").await), "second");
    let counts = lab.counted.counts();
    assert_eq!(counts.of(Operation::TakeOver), 1);
    assert_eq!(counts.requests(), 3);
}

#[tokio::test]
async fn on_every_store_one_of_many_runs_and_all_get_its_result() {
    for kit in [
        Kit::memory_in_real_time(),
        Kit::sqlite(),
        Kit::dynamodb().await,
    ] {
        let runs = Arc::new(AtomicU32::new(0));
        let calls: Vec<_> = (0..8)
            .map(|n| {
                let locks = LockClient::builder(kit.store.clone()).build();
                let runs = runs.clone();
                tokio::spawn(async move {
                    let answer = once(&locks)
                        .run(|scope| async move {
                            runs.fetch_add(1, Ordering::Relaxed);
                            tokio::time::sleep(ms(100)).await;
                            Ok::<_, String>(format!("{n} with {}", scope.token()))
                        })
                        .await;
                    answer.expect("works").into_value().expect("text")
                })
            })
            .collect();
        let mut results = Vec::new();
        for call in calls {
            results.push(call.await.expect("no panic"));
        }
        results.dedup();
        assert_eq!(results.len(), 1, "{}: {results:?}", kit.name);
        assert_eq!(runs.load(Ordering::Relaxed), 1, "{}", kit.name);
    }
}

#[tokio::test(start_paused = true)]
async fn work_that_fails_is_free_to_run_again_or_is_remembered() {
    let lab = Lab::new();
    let locks = lab.client(policy());
    let fails =
        |request: OnceRequest| request.run(|_| async { Err::<String, _>("no disk".to_owned()) });
    let error = fails(once(&locks)).await.expect_err("fails");
    assert!(matches!(&error, OnceError::Work(why) if why == "no disk"));
    assert_eq!(lab.state("k").await, LockState::Free);
    let error = fails(once(&locks).remember_failures(true)).await;
    assert!(matches!(error, Err(OnceError::Work(_))));
    let error = run(once(&locks), "again").await.expect_err("remembered");
    let OnceError::FailedBefore(failed) = &error else {
        panic!("{error:?}");
    };
    assert_eq!(failed.result(), Some(&b"no disk"[..]));
    assert!(error.to_string().contains("no disk"), "{error}");
    let why = failed.value::<String>().expect_err("failed");
    assert_eq!(why.kind(), ErrorKind::InvalidInput);
    // A call that starts the work elsewhere sees it as well.
    let started = once(&locks).start().await.expect("works");
    assert!(matches!(started, Started::Done(done) if done.is_failed()));
}

#[tokio::test(start_paused = true)]
async fn work_that_panics_or_is_dropped_is_free_or_remembered() {
    let lab = Lab::new();
    for remember in [false, true] {
        let locks = lab.client(policy());
        let panicking = tokio::spawn({
            let request = once(&locks).remember_failures(remember);
            async move {
                let work = |_| async { panic!("on purpose") };
                request.run::<String, String, _, _>(work).await
            }
        });
        assert!(panicking.await.expect_err("panics").is_panic());
        let remembered = matches!(lab.state("k").await, LockState::Done(done) if done.is_failed());
        assert_eq!(remembered, remember);
        locks.forget("k").await.expect("works");
        {
            let request = once(&locks).remember_failures(remember);
            let call = request.run(|_| std::future::pending::<Result<String, String>>());
            let call = tokio::time::timeout(ms(500), call);
            assert!(call.await.is_err(), "it has no end");
        }
        lab.sleep(ms(500)).await;
        match lab.state("k").await {
            LockState::Done(done) if remember => assert!(done.is_failed()),
            LockState::Free if !remember => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waits_gets_the_result_without_a_write() {
    let lab = Lab::new();
    let (ours, theirs) = (lab.bystander(), lab.client(policy()));
    let Started::Run(run_) = once(&ours).start().await.expect("free") else {
        panic!("done");
    };
    let theirs_too = theirs.clone();
    assert_eq!(theirs.waits_for("k"), None);
    let waits = tokio::spawn(async move {
        let value = run(once(&theirs), "theirs").await;
        (value, theirs.usage())
    });
    lab.sleep(ms(60_000)).await;
    let seen = theirs_too.waits_for("k").expect("it waits");
    assert!(seen.token().is_some());
    run_.complete(b"ours").await.expect("held");
    let (answer, usage) = waits.await.expect("no panic");
    assert_eq!(done(answer).result(), Some(&b"ours"[..]));
    assert_eq!(theirs_too.waits_for("k"), None);
    assert_eq!(usage.write_units, 0.0);
    assert!(
        usage.requests <= 20,
        "the age of the run doubles: {usage:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_wait_has_a_bound_and_names_the_runner() {
    let lab = Lab::new();
    let (ours, theirs) = (lab.bystander(), lab.client(policy()));
    let Started::Run(_run) = once(&ours).start().await.expect("free") else {
        panic!("done");
    };
    for wait in [Duration::ZERO, ms(3_000)] {
        let before = lab.clock_now();
        let error = run(once(&theirs).wait(wait), "x").await.expect_err("runs");
        let error = error.lock_error().expect("of the lock");
        assert_eq!(error.kind(), ErrorKind::WaitExpired);
        assert_eq!(error.key(), Some("k"));
        assert!(error.held().is_some());
        let passed = lab.clock_now() - before;
        assert!(passed >= wait && passed < wait + ms(100), "{passed:?}");
    }
    // A shutdown ends a wait.
    let other = theirs.clone();
    let waits = tokio::spawn(async move { run(once(&other), "x").await });
    lab.sleep(ms(100)).await;
    theirs.shutdown(ms(1_000)).await;
    let error = waits.await.expect("no panic").expect_err("shut down");
    let error = error.lock_error().expect("of the lock");
    assert_eq!(error.kind(), ErrorKind::ShutDown);
}

#[tokio::test(start_paused = true)]
async fn a_dead_runner_is_replaced_and_completes_nothing() {
    let lab = Lab::new();
    let (ours, theirs) = (lab.client(policy()), lab.bystander());
    let Started::Run(late) = once(&ours).start().await.expect("free") else {
        panic!("done");
    };
    lab.faulty.start_outage(Fault::BlackHole);
    let answer = run(once(&theirs), "theirs").await;
    assert_eq!(ran(answer), "theirs");
    lab.faulty.end_outage();
    lab.sleep(ms(100)).await;
    let error = late.complete(b"ours").await.expect_err("lost");
    assert_eq!(error.kind(), ErrorKind::Lost);
    let LockState::Done(done) = lab.state("k").await else {
        panic!("not done");
    };
    assert_eq!(done.result(), Some(&b"theirs"[..]), "it is not replaced");
}

#[tokio::test(start_paused = true)]
async fn a_run_that_was_lost_gets_its_value_back() {
    let lab = Lab::new();
    let (ours, theirs) = (lab.client(policy()), lab.bystander());
    let answer = once(&ours)
        .run(|_| async move {
            // An operator ends the run; nothing tells the work before its next renewal.
            let status = theirs.inspect("k").await.expect("works");
            let held = status.holder().and_then(|held| held.token());
            theirs
                .force_release("k", held.expect("held"), "a test")
                .await
                .expect("works");
            Ok::<_, String>("paid".to_owned())
        })
        .await;
    let Err(OnceError::NotRecorded { value, error }) = answer else {
        panic!("{answer:?}");
    };
    assert_eq!(value.as_deref(), Some("paid"));
    assert_eq!(error.kind(), ErrorKind::Lost);
    assert_eq!(lab.state("k").await, LockState::Free);
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_to_the_completion_is_recognised() {
    let lab = Lab::new();
    let locks = lab.client(policy());
    for fault in [
        Fault::LoseAnswer,
        Fault::LoseRequest,
        Fault::Duplicate,
        Fault::Hang,
    ] {
        let key = format!("{fault:?}");
        let request = locks.once(&key).expect("a key");
        lab.faulty.plan(Operation::Complete, [fault]);
        let answer = request
            .run(|_| async { Ok::<_, String>("x".to_owned()) })
            .await;
        ran(answer);
        assert_eq!(lab.faulty.unused(), 0);
        assert!(matches!(lab.state(&key).await, LockState::Done(_)));
    }
}

#[tokio::test(start_paused = true)]
async fn another_input_for_the_same_key_is_refused() {
    let lab = Lab::new();
    let locks = lab.client(policy());
    ran(run(once(&locks).input(b"sha of a"), "a").await);
    done(run(once(&locks).input(b"sha of a"), "a").await);
    done(run(once(&locks), "no input given").await);
    let error = run(once(&locks).input(b"sha of b"), "b")
        .await
        .expect_err("refused");
    let error = error.lock_error().expect("of the lock");
    assert_eq!(
        (error.kind(), error.key()),
        (ErrorKind::InvalidInput, Some("k"))
    );
    assert!(error.to_string().contains("another input"), "{error}");
    for bad in [
        once(&locks).input([0; 65]),
        once(&locks).keep(Duration::ZERO),
    ] {
        let error = run(bad, "x").await.expect_err("refused");
        assert_eq!(
            error.lock_error().map(leasehold::Error::kind),
            Some(ErrorKind::InvalidInput)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_result_that_is_too_large_is_not_kept_and_the_work_is_done() {
    let lab = Lab::new();
    let locks = lab.client(policy());
    ran(run(locks.once("fits").expect("a key"), &"x".repeat(900)).await);
    let answer = run(once(&locks), &"x".repeat(901)).await;
    let Err(OnceError::NotRecorded { value, error }) = answer else {
        panic!("{answer:?}");
    };
    assert_eq!(value.map(|value| value.len()), Some(901));
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.hint().is_some_and(|hint| hint.contains("pointer")));
    let remembered = done(run(once(&locks), "again").await);
    assert_eq!(remembered.result(), None);
    assert!(remembered.value::<String>().is_err());
}

#[tokio::test(start_paused = true)]
async fn an_acquire_of_a_key_whose_work_is_done_is_refused_and_named() {
    let lab = Lab::new();
    let locks = lab.client(policy());
    let Started::Run(run_) = once(&locks).start().await.expect("free") else {
        panic!("done");
    };
    let waiting = lab.client(policy());
    let waits = tokio::spawn(async move { waiting.acquire("k").await });
    lab.sleep(ms(1_000)).await;
    run_.complete(b"x").await.expect("held");
    let acquired = [
        waits.await.expect("no panic").map(drop),
        locks.acquire("k").await.map(drop),
        locks.try_acquire("k").await.map(drop),
    ];
    for answer in acquired {
        let error = answer.expect_err("done");
        assert_eq!(error.kind(), ErrorKind::AlreadyDone);
        assert!(error.done().is_some_and(|done| done.key() == "k"));
        assert!(error.message().contains("`k`"), "{error}");
    }
    // After its keep the key is a lock as before.
    lab.sleep(HOUR + ms(1_000)).await;
    locks
        .acquire("k")
        .await
        .expect("free")
        .release()
        .await
        .expect("held");
    assert_eq!(lab.state("k").await, LockState::Free);
}

#[tokio::test(start_paused = true)]
async fn a_key_forgets_what_was_done_and_nothing_else() {
    let lab = Lab::new();
    let locks = lab.client(policy());
    assert_eq!(locks.forget("k").await.expect("works"), None);
    ran(run(once(&locks), "first").await);
    let forgotten = locks.forget("k").await.expect("works").expect("was done");
    assert_eq!(forgotten.result(), Some(&b"first"[..]));
    assert_eq!(lab.state("k").await, LockState::Free);
    assert_eq!(locks.forget("k").await.expect("works"), None);
    let lease = locks.acquire("k").await.expect("free");
    assert!(Some(lease.token()) > forgotten.token());
    let error = locks.forget("k").await.expect_err("it is held");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    lease.release().await.expect("held");
    assert_eq!(ran(run(once(&locks), "second").await), "second");
}

#[tokio::test(start_paused = true)]
async fn work_that_calls_itself_is_refused() {
    let lab = Lab::new();
    let locks = lab.client(policy());
    let inner = locks.clone();
    let answer = once(&locks)
        .run(|_| async move {
            match run(once(&inner), "inner").await {
                Err(OnceError::NotRun(error)) => {
                    Ok::<_, String>(error.kind() == ErrorKind::InvalidInput)
                }
                other => Err(format!("{other:?}")),
            }
            .map(|refused| refused.to_string())
        })
        .await;
    assert_eq!(ran(answer), "true");
}

#[tokio::test(start_paused = true)]
async fn nothing_but_forget_undoes_what_is_done() {
    let lab = Lab::new();
    let locks = lab.client(policy());
    let Started::Run(run_) = once(&locks).start().await.expect("free") else {
        panic!("done");
    };
    let token = run_.lease().token();
    run_.complete(b"x").await.expect("held");
    let error = locks.force_release("k", token, "a test").await;
    let error = error.expect_err("it is done");
    assert_eq!(error.kind(), ErrorKind::AlreadyDone);
    assert!(matches!(lab.state("k").await, LockState::Done(_)));
}

#[tokio::test(start_paused = true)]
async fn a_run_that_outlasts_its_keep_is_done_for_those_that_waited_for_it() {
    let lab = Lab::new();
    let (ours, theirs) = (lab.bystander(), lab.client(policy()));
    let short = |locks: &LockClient| once(locks).keep(ms(5_000));
    let Started::Run(run_) = short(&ours).start().await.expect("free") else {
        panic!("done");
    };
    let waits = tokio::spawn({
        let theirs = theirs.clone();
        async move { run(short(&theirs), "theirs").await }
    });
    lab.sleep(ms(8_000)).await;
    run_.complete(b"ours").await.expect("held");
    let remembered = done(waits.await.expect("no panic"));
    assert_eq!(remembered.result(), Some(&b"ours"[..]));
    // Whoever comes now runs it.
    assert_eq!(ran(run(short(&theirs), "theirs").await), "theirs");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_silent_does_not_lengthen_a_wait() {
    let lab = Lab::new();
    let locks = lab.client(policy());
    lab.faulty.start_outage(Fault::BlackHole);
    let before = lab.clock_now();
    let error = run(once(&locks).wait(ms(1_500)), "x").await;
    let error = error.expect_err("no answer");
    let error = error.lock_error().expect("of the lock");
    assert_eq!(
        (error.kind(), error.key()),
        (ErrorKind::Unreachable, Some("k"))
    );
    let passed = lab.clock_now() - before;
    assert!(passed < ms(2_500), "{passed:?}");
    let other = locks.clone();
    let waits = tokio::spawn(async move { run(once(&other), "x").await });
    lab.sleep(ms(100)).await;
    locks.shutdown(ms(50)).await;
    let error = waits.await.expect("no panic").expect_err("shut down");
    let error = error.lock_error().expect("of the lock");
    assert_eq!(error.kind(), ErrorKind::ShutDown);
}
