//! What requests cost, as the service reports it.

use aws_sdk_dynamodb::types::ReturnConsumedCapacity;

use super::service::{Answer, KEY, Service, check, in_the_way, n, s, set, unique};

#[tokio::test]
async fn a_write_costs_1_unit_up_to_1_kb_and_2_above() {
    let service = Service::new().await;
    let key = unique("k");
    // Of the item: names and values. Both sides of it count, the old and the new.
    let fixed = KEY.len() + key.len() + "Data".len();
    for (bytes, units) in [(1024, 1.0), (1025, 2.0), (1024, 2.0), (1024, 1.0)] {
        let answer = service
            .update(&key, "SET #data = :data")
            .expression_attribute_names("#data", "Data")
            .expression_attribute_values(":data", s("x".repeat(bytes - fixed)))
            .send()
            .await
            .expect("unconditional");
        let capacity = answer.consumed_capacity.expect("asked for");
        assert_eq!(capacity.capacity_units, Some(units), "{bytes} bytes");
    }
    service.clean(&[&key]).await;
}

#[tokio::test]
async fn an_eventual_read_costs_half_a_unit_and_a_strong_one_a_whole_also_of_nothing() {
    let service = Service::new().await;
    let key = unique("k");
    service.plant(&key, &[]).await;
    for key in [&key, "nothing here"] {
        for (strong, units) in [(false, 0.5), (true, 1.0)] {
            let answer = service
                .aws
                .get_item()
                .table_name(&service.table)
                .key(KEY, s(key))
                .consistent_read(strong)
                .return_consumed_capacity(ReturnConsumedCapacity::Total)
                .send()
                .await
                .expect("read");
            let capacity = answer.consumed_capacity.expect("asked for");
            assert_eq!(capacity.capacity_units, Some(units), "strong: {strong}");
        }
    }
    service.clean(&[&key]).await;
}

/// AWS documents 2 units for each small item of a transaction, also for one that is only checked;
/// DynamoDB Local reports 1 for each.
#[tokio::test]
async fn a_fenced_write_costs_4_units_of_which_local_reports_2() {
    let service = Service::new().await;
    let (lock, data) = (unique("lock"), unique("data"));
    service.plant(&lock, &[("ClientId", s("me"))]).await;
    let answer = service
        .aws
        .transact_write_items()
        .transact_items(check(&service, &lock, "me"))
        .transact_items(set(&service, &data, "A = :n"))
        .return_consumed_capacity(ReturnConsumedCapacity::Total)
        .send()
        .await
        .expect("ours");
    let capacity = answer.consumed_capacity.expect("asked for");
    let units: f64 = capacity.iter().filter_map(|c| c.capacity_units).sum();
    assert_eq!(units, if service.is_local { 2.0 } else { 4.0 });
    service.clean(&[&lock, &data]).await;
}

/// So a lock client has to count it as what AWS documents: the units that the write would have cost.
#[tokio::test]
async fn a_refused_write_does_not_report_what_it_cost() {
    let service = Service::new().await;
    let key = unique("k");
    let answer = Answer::default();
    let refused = service
        .update(&key, "SET A = :n")
        .condition_expression("attribute_exists(LockKey)")
        .expression_attribute_values(":n", n(1))
        .customize()
        .interceptor(answer.clone())
        .send()
        .await;
    assert_eq!(in_the_way(refused), None);
    let body = String::from_utf8(answer.raw().body).expect("JSON");
    assert!(body.contains("ConditionalCheckFailedException"), "{body}");
    assert!(!body.contains("ConsumedCapacity"), "{body}");
}
