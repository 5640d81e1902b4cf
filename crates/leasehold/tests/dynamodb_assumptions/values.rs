//! Numbers, text, bytes and keys.

use aws_sdk_dynamodb::error::ProvideErrorMetadata;
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;

use super::service::{Service, n, number, s, unique};

#[tokio::test]
async fn numbers_are_exact_to_38_digits_which_is_more_than_any_token_has() {
    let service = Service::new().await;
    let key = unique("k");
    let long = "9".repeat(38);
    for (start, next) in [
        ("9007199254740991", "9007199254740992"),
        ("18446744073709551615", "18446744073709551616"),
        (&long[..37], &format!("1{}", "0".repeat(37))),
    ] {
        service.plant(&key, &[("FencingToken", n(start))]).await;
        let answer = service
            .update(&key, "SET FencingToken = FencingToken + :one")
            .condition_expression("FencingToken = :start")
            .expression_attribute_values(":one", n(1))
            .expression_attribute_values(":start", n(start))
            .send()
            .await;
        let item = answer.expect("exact").attributes.expect("ALL_NEW");
        assert_eq!(number(&item, "FencingToken"), *next);
    }
    let too_long = service
        .update(&key, "SET FencingToken = :long")
        .expression_attribute_values(":long", n(format!("1{}1", "0".repeat(37))))
        .send()
        .await
        .expect_err("39 digits");
    assert_eq!(too_long.code(), Some("ValidationException"));
    service.clean(&[&key]).await;
}

#[tokio::test]
async fn text_and_bytes_come_back_as_what_they_were() {
    let service = Service::new().await;
    let key = unique("k");
    let bytes = AttributeValue::B(Blob::new([0, 255, 10]));
    for data in [s("text \u{1F512} \0"), bytes, s("")] {
        service.plant(&key, &[("Data", data.clone())]).await;
        assert_eq!(service.item(&key).await.expect("there")["Data"], data);
    }
    service.clean(&[&key]).await;
}

#[tokio::test]
async fn keys_have_1_to_2048_bytes() {
    let service = Service::new().await;
    let tail = unique("k");
    let sized = |bytes: usize| format!("{}{tail}", "\u{e9}".repeat((bytes - tail.len()) / 2));
    let even = |bytes: usize| {
        let key = sized(bytes);
        format!("{key}{}", "x".repeat(bytes - key.len()))
    };
    // What leasehold allows, and what the service does.
    for bytes in [1024, 2048] {
        let key = even(bytes);
        assert_eq!(key.len(), bytes);
        service.plant(&key, &[]).await;
        assert!(service.item(&key).await.is_some());
        service.clean(&[&key]).await;
    }
    for key in [even(2049), String::new()] {
        let answer = service.update(&key, "SET A = :a");
        let answer = answer.expression_attribute_values(":a", n(1)).send().await;
        let error = answer.expect_err("not a key");
        assert_eq!(
            error.code(),
            Some("ValidationException"),
            "{} bytes",
            key.len()
        );
    }
}
