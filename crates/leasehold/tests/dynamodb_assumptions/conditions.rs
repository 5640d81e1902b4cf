//! What a refused condition says.

use super::service::{Service, in_the_way, n, s, unique};

#[tokio::test]
async fn a_refused_condition_returns_the_whole_item_that_stood_in_the_way() {
    let service = Service::new().await;
    let key = unique("k");
    let attributes = [
        ("ClientId", s("one")),
        ("FencingToken", n(7)),
        ("Data", s("x")),
    ];
    service.plant(&key, &attributes).await;
    let refused = service
        .update(&key, "SET ClientId = :me")
        .condition_expression("attribute_not_exists(LockKey)")
        .expression_attribute_values(":me", s("two"))
        .send()
        .await;
    let item = in_the_way(refused).expect("ALL_OLD");
    assert_eq!(item.len(), 4);
    for (name, value) in attributes {
        assert_eq!(item[name], value);
    }
    assert_eq!(
        service.item(&key).await.expect("there")["ClientId"],
        s("one")
    );
    service.clean(&[&key]).await;
}

#[tokio::test]
async fn a_refused_condition_on_no_item_returns_none_and_creates_none() {
    let service = Service::new().await;
    let key = unique("k");
    let refused = service
        .update(&key, "SET ClientId = :me")
        .condition_expression("ClientId = :me")
        .expression_attribute_values(":me", s("one"))
        .send()
        .await;
    assert_eq!(in_the_way(refused), None);
    assert_eq!(service.item(&key).await, None);
}

#[tokio::test]
async fn a_refused_condition_returns_no_item_unless_it_is_asked_to() {
    let service = Service::new().await;
    let key = unique("k");
    service.plant(&key, &[("ClientId", s("one"))]).await;
    let refused = service
        .update(&key, "SET ClientId = :me")
        .set_return_values_on_condition_check_failure(None)
        .condition_expression("ClientId = :me")
        .expression_attribute_values(":me", s("two"))
        .send()
        .await;
    assert_eq!(in_the_way(refused), None);
    service.clean(&[&key]).await;
}
