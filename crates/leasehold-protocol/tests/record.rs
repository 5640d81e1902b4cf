//! Records, as a table has them.

use std::collections::BTreeMap;
use std::time::Duration;

use leasehold_protocol::id::AttemptId;
use leasehold_protocol::record::{Malformed, Record, Value};
use leasehold_protocol::slots::Slot;
use leasehold_protocol::time::ServiceTime;
use leasehold_protocol::token::FencingToken;

fn attributes(entries: &[(&'static str, Value)]) -> BTreeMap<&'static str, Value> {
    let number = |n: i64| Value::Number(n.to_string());
    let mut all: BTreeMap<_, _> = [
        ("LockKey", Value::Text("k".into())),
        ("ClientId", Value::Text("c".into())),
        ("ExpireInUnixMs", number(1_500)),
        ("V", number(3)),
        ("FencingToken", number(7)),
        ("LeaseMs", number(20_000)),
        ("RenewCount", number(3)),
    ]
    .into();
    all.extend(entries.iter().cloned());
    all
}

#[test]
fn a_payload_is_text_or_bytes() {
    for (value, expected) in [
        (Value::Binary(vec![1, 2]), Some(vec![1, 2])),
        (Value::Text("ab".into()), Some(b"ab".to_vec())),
        (Value::Other, None),
    ] {
        let record = Record::parse(&attributes(&[("Data", value)])).expect("well formed");
        assert_eq!(record.data, expected);
    }
}

#[test]
fn tokens_up_to_53_bits_are_read_and_larger_ones_are_not() {
    let parse = |token: u64| {
        let token = Value::Number(token.to_string());
        Record::parse(&attributes(&[("FencingToken", token)]))
    };
    let most = (1 << 53) - 1;
    assert_eq!(parse(most).expect("well formed").token(), Some(most));
    assert!(parse(1 << 53).is_err());
}

#[test]
fn slots_are_a_map_of_entries_and_have_a_limit() {
    let slot = |n: u8, token| {
        let attempt = AttemptId::from_random([n; 16]);
        Slot::new(attempt, token, ServiceTime(9), Duration::from_secs(1), "me")
    };
    let entry = |slot: &Slot| (slot.attempt.digits(), Value::Binary(slot.to_bytes()));
    let (first, second) = (slot(2, 5), slot(1, 6));
    let map = Value::Map(vec![entry(&second), entry(&first)]);
    let limit = ("Limit", Value::Number("3".into()));
    let parse = |entries: &[(&'static str, Value)]| Record::parse(&attributes(entries));
    let slots = parse(&[("Slots", map.clone()), limit.clone()])
        .expect("well formed")
        .slots;
    let slots = slots.expect("slots");
    assert_eq!((slots.limit, slots.held), (3, vec![first.clone(), second]));
    assert_eq!(parse(&[]).expect("well formed").slots, None);
    let odd_entry = Value::Map(vec![(first.attempt.digits(), Value::Other)]);
    let odd_name = Value::Map(vec![("?".to_owned(), Value::Binary(first.to_bytes()))]);
    for odd in [odd_entry, odd_name, Value::Other] {
        let error = parse(&[("Slots", odd), limit.clone()]).expect_err("odd");
        assert_eq!(error.attribute, "Slots");
    }
    let error = parse(&[("Slots", map)]).expect_err("no limit");
    assert_eq!(error.attribute, "Limit");
}

#[test]
fn what_is_malformed_says_where() {
    let malformed = Malformed {
        key: "k".into(),
        attribute: "V",
        problem: "is missing",
    };
    let text = malformed.to_string();
    assert!(
        ["`k`", "`V`", "is missing"]
            .iter()
            .all(|part| text.contains(part)),
        "{text}"
    );
}

#[test]
fn a_token_has_its_parts() {
    for (pass, best_effort) in [(0, false), (5, true), (1023, false)] {
        let token = FencingToken::new(9, pass, best_effort);
        assert_eq!((token.stored(), token.pass()), (9, pass));
        assert_eq!(token.is_best_effort(), best_effort);
        assert_eq!(token.get(), 9 * 1024 + u64::from(pass));
    }
}

#[cfg(feature = "serde")]
#[test]
fn f8_a_token_is_a_number_for_serde() {
    let token = FencingToken::new(1_800_000_000_000, 3, false);
    let text = serde_json::to_string(&token).expect("a number");
    assert_eq!(text, token.get().to_string());
    assert_eq!(
        serde_json::from_str::<FencingToken>(&text).expect("a token"),
        token
    );
}
