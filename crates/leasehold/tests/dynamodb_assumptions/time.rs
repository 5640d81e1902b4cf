//! The service's clock, and TTL.

use std::time::Duration;

use aws_sdk_dynamodb::primitives::{DateTime, DateTimeFormat};
use leasehold::clock::{Clock, SystemClock};

use super::service::{Answer, KEY, Service, TTL, in_the_way, n, pause, s, unique};

/// On a success, a refusal and a read: the service's clock in whole seconds, rounded down. How far two
/// hosts of the service disagree cannot be shown here.
#[tokio::test]
async fn every_answer_has_the_services_clock_in_whole_seconds() {
    let service = Service::new().await;
    let key = unique("k");
    let claim = || {
        service
            .update(&key, "SET ClientId = :me")
            .condition_expression("attribute_not_exists(LockKey)")
            .expression_attribute_values(":me", s("one"))
            .customize()
    };
    let answers = [Answer::default(), Answer::default(), Answer::default()];
    let before = SystemClock.wall_unix_ms();
    claim()
        .interceptor(answers[0].clone())
        .send()
        .await
        .expect("new");
    in_the_way(claim().interceptor(answers[1].clone()).send().await).expect("ALL_OLD");
    let read = service
        .aws
        .get_item()
        .table_name(&service.table)
        .key(KEY, s(&key));
    let read = read
        .customize()
        .interceptor(answers[2].clone())
        .send()
        .await;
    read.expect("read");
    let after = SystemClock.wall_unix_ms();
    for answer in answers {
        let raw = answer.raw();
        assert!(raw.request_id.is_some_and(|id| !id.is_empty()));
        let date = raw.date.expect("a date");
        let parsed = DateTime::from_str(&date, DateTimeFormat::HttpDate).expect("an HTTP date");
        assert_eq!(parsed.subsec_nanos(), 0, "{date}");
        if service.is_local {
            // Its clock is ours.
            let (first, last) = (before.div_euclid(1000), after.div_euclid(1000));
            assert!((first..=last).contains(&parsed.secs()), "{date}");
        }
    }
    service.clean(&[&key]).await;
}

/// TTL must not delete what is more than five years past, 0 least of all, nor what has no number there.
///
/// That it does delete what is past is looked for, but not asserted: AWS may take days, and DynamoDB
/// Local (3.3.0), which takes a second on a fresh server, was seen to stop deleting for good in the course of
/// these tests. No rule of the protocol needs a deletion; what it needs is that none comes too early.
#[tokio::test]
async fn ttl_never_deletes_0_nor_what_is_5_years_past_nor_what_is_to_come() {
    const YEAR: i64 = 366 * 86_400;
    let service = Service::new().await;
    let now = SystemClock.wall_unix_ms() / 1000;
    let past = unique("past");
    let stay = [
        (unique("zero"), n(0)),
        (unique("old"), n(now - 6 * YEAR)),
        (unique("future"), n(now + YEAR)),
        (unique("text"), s((now - 60).to_string())),
    ];
    for (key, ttl) in &stay {
        service.plant(key, &[(TTL, ttl.clone())]).await;
    }
    service.plant(&past, &[(TTL, n(now - 60))]).await;
    // Time for a deletion where there are any.
    let limit = SystemClock.elapsed().plus(Duration::from_secs(5));
    while service.item(&past).await.is_some() && SystemClock.elapsed() < limit {
        pause(Duration::from_millis(100)).await;
    }
    for (key, _) in &stay {
        assert!(service.item(key).await.is_some(), "{key} was deleted");
    }
    let keys: Vec<&str> = stay.iter().map(|(key, _)| key.as_str()).collect();
    service.clean(&keys).await;
    service.clean(&[&past]).await;
}
