//! What an update does: all the forms that the lock writes use.

use aws_sdk_dynamodb::types::ReturnValuesOnConditionCheckFailure;

use super::service::{KEY, Service, in_the_way, n, number, s, unique};

#[tokio::test]
async fn an_update_creates_the_item_when_its_condition_holds_of_none() {
    let service = Service::new().await;
    let key = unique("k");
    let claim = |me: &str| {
        service
            .update(&key, "SET ClientId = :me")
            .condition_expression("attribute_not_exists(LockKey)")
            .expression_attribute_values(":me", s(me))
            .send()
    };
    let created = claim("one").await.expect("there is none");
    // ALL_NEW has the key, too.
    let item = created.attributes.expect("ALL_NEW");
    assert_eq!((&item[KEY], &item["ClientId"]), (&s(&key), &s("one")));
    assert_eq!(in_the_way(claim("two").await), Some(item));
    service.clean(&[&key]).await;
}

#[tokio::test]
async fn if_not_exists_plus_one_starts_and_goes_on_in_the_same_expression() {
    let service = Service::new().await;
    let key = unique("k");
    for expected in ["1001", "1002", "1003"] {
        let answer = service
            .update(
                &key,
                "SET FencingToken = if_not_exists(FencingToken, :now) + :one, \
                 RenewCount = if_not_exists(RenewCount, :zero) + :one",
            )
            .expression_attribute_values(":now", n(1000))
            .expression_attribute_values(":one", n(1))
            .expression_attribute_values(":zero", n(0))
            .send()
            .await
            .expect("unconditional");
        let item = answer.attributes.expect("ALL_NEW");
        assert_eq!(number(&item, "FencingToken"), expected);
        assert_eq!(number(&item, "RenewCount"), expected[3..]);
    }
    service.clean(&[&key]).await;
}

#[tokio::test]
async fn an_update_sees_the_item_as_it_was_before_it() {
    let service = Service::new().await;
    let key = unique("k");
    let answer = service
        .update(&key, "SET A = :one, B = if_not_exists(A, :zero)")
        .expression_attribute_values(":one", n(1))
        .expression_attribute_values(":zero", n(0))
        .send()
        .await
        .expect("unconditional");
    let item = answer.attributes.expect("ALL_NEW");
    assert_eq!(
        (number(&item, "A"), number(&item, "B")),
        ("1".into(), "0".into())
    );
    service.clean(&[&key]).await;
}

#[tokio::test]
async fn a_condition_may_test_what_the_same_update_removes() {
    let service = Service::new().await;
    let key = unique("k");
    service
        .plant(&key, &[("ClientId", s("me")), ("Holder", s("host"))])
        .await;
    let release = || {
        service
            .update(&key, "SET ExpireInUnixMs = :zero REMOVE ClientId, Holder")
            .condition_expression("ClientId = :me")
            .expression_attribute_values(":me", s("me"))
            .expression_attribute_values(":zero", n(0))
            .send()
    };
    let item = release().await.expect("ours").attributes.expect("ALL_NEW");
    assert_eq!(item.len(), 2, "key and expiry are left: {item:?}");
    // A second one finds nothing of ours.
    assert_eq!(in_the_way(release().await), Some(item));
    service.clean(&[&key]).await;
}

#[tokio::test]
async fn removing_what_is_not_there_is_no_error() {
    let service = Service::new().await;
    let key = unique("k");
    service.plant(&key, &[("ClientId", s("me"))]).await;
    let answer = service.update(&key, "REMOVE Holder, #data");
    let answer = answer
        .expression_attribute_names("#data", "Data")
        .send()
        .await;
    let item = answer.expect("fine").attributes.expect("ALL_NEW");
    assert_eq!(item.len(), 2);
    service.clean(&[&key]).await;
}

#[tokio::test]
async fn comparing_what_is_absent_or_of_another_type_is_false_and_no_error() {
    let service = Service::new().await;
    let key = unique("k");
    service.plant(&key, &[("ExpireInUnixMs", s("5"))]).await;
    for condition in [
        "ExpireInUnixMs < :n",
        "ExpireInUnixMs >= :n",
        "ExpireInUnixMs = :n",
        "Absent < :n",
        "Absent = :n",
        "NOT Absent <> :n",
    ] {
        let answer = service
            .update(&key, "SET A = :n")
            .condition_expression(condition)
            .expression_attribute_values(":n", n(9))
            .send()
            .await;
        assert!(in_the_way(answer).is_some(), "{condition}");
    }
    service.clean(&[&key]).await;
}

#[tokio::test]
async fn a_conditional_delete_takes_only_what_it_names() {
    let service = Service::new().await;
    let key = unique("k");
    service.plant(&key, &[("ClientId", s("me"))]).await;
    let delete = |client: &str| {
        service
            .aws
            .delete_item()
            .table_name(&service.table)
            .key(KEY, s(&key))
            .condition_expression("ClientId = :me")
            .expression_attribute_values(":me", s(client))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
    };
    let refused = delete("other")
        .await
        .expect_err("not ours")
        .into_service_error();
    assert!(
        refused.is_conditional_check_failed_exception(),
        "{refused:?}"
    );
    assert!(service.item(&key).await.is_some());
    delete("me").await.expect("ours");
    assert_eq!(service.item(&key).await, None);
}
