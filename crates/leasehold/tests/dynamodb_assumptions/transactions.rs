//! Transactions: what a fence is made of.

use std::sync::Arc;

use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;

use super::service::{Service, check, n, number, s, set, unique};

#[tokio::test]
async fn a_failed_check_cancels_all_and_says_which_and_what_stood_in_the_way() {
    let service = Service::new().await;
    let (lock, data) = (unique("lock"), unique("data"));
    service.plant(&lock, &[("ClientId", s("other"))]).await;
    let canceled = service
        .aws
        .transact_write_items()
        .transact_items(check(&service, &lock, "me"))
        .transact_items(set(&service, &data, "A = :n"))
        .send()
        .await
        .expect_err("not ours");
    let TransactWriteItemsError::TransactionCanceledException(canceled) =
        canceled.into_service_error()
    else {
        panic!("canceled, nothing else");
    };
    let reasons = canceled.cancellation_reasons();
    let codes: Vec<_> = reasons.iter().filter_map(|reason| reason.code()).collect();
    assert_eq!(codes, ["ConditionalCheckFailed", "None"]);
    let item = reasons[0].item.clone().expect("ALL_OLD");
    assert_eq!(item["ClientId"], s("other"));
    assert_eq!(service.item(&data).await, None, "nothing was written");
    service.clean(&[&lock]).await;
}

/// AWS refuses an update of an item that a transaction is at work on, with
/// `TransactionConflictException`, and cancels transactions with the reason `TransactionConflict`;
/// DynamoDB Local takes one after the other and never does. Whatever was refused was not applied, on
/// both: the counter says so.
#[tokio::test]
async fn a_conflict_with_a_transaction_is_not_applied_and_never_seen_on_local() {
    const TASKS: usize = 8;
    const EACH: usize = 25;
    let service = Arc::new(Service::new().await);
    let key = unique("k");
    service.plant(&key, &[("A", n(0))]).await;
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..TASKS {
        let (service, key) = (service.clone(), key.clone());
        tasks.spawn(async move {
            let mut outcomes = Vec::new();
            for _ in 0..EACH {
                outcomes.push(if task % 2 == 0 {
                    add_in_transaction(&service, &key).await
                } else {
                    add(&service, &key).await
                });
            }
            outcomes
        });
    }
    let outcomes: Vec<Outcome> = tasks.join_all().await.into_iter().flatten().collect();
    let count = |which| outcomes.iter().filter(|outcome| **outcome == which).count();
    let (applied, conflicts) = (count(Outcome::Applied), count(Outcome::Conflict));
    assert_eq!(applied + conflicts, TASKS * EACH);
    let item = service.item(&key).await.expect("there");
    assert_eq!(number(&item, "A"), applied.to_string());
    if service.is_local {
        assert_eq!(conflicts, 0, "DynamoDB Local has learnt it: say so above");
    } else {
        assert!(conflicts > 0, "none of {applied} met another");
    }
    service.clean(&[&key]).await;
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Outcome {
    Applied,
    Conflict,
}

async fn add(service: &Service, key: &str) -> Outcome {
    let answer = service
        .update(key, "SET A = A + :n")
        .expression_attribute_values(":n", n(1))
        .send()
        .await;
    match answer {
        Ok(_) => Outcome::Applied,
        Err(error) => {
            assert_eq!(
                error.code(),
                Some("TransactionConflictException"),
                "{error:?}"
            );
            Outcome::Conflict
        }
    }
}

async fn add_in_transaction(service: &Service, key: &str) -> Outcome {
    let transaction = service.aws.transact_write_items();
    let answer = transaction
        .transact_items(set(service, key, "A = A + :n"))
        .send()
        .await;
    match answer.map_err(SdkError::into_service_error) {
        Ok(_) => Outcome::Applied,
        Err(TransactWriteItemsError::TransactionCanceledException(canceled)) => {
            let reasons = canceled.cancellation_reasons();
            assert_eq!(reasons[0].code(), Some("TransactionConflict"));
            Outcome::Conflict
        }
        Err(other) => panic!("{other:?}"),
    }
}
