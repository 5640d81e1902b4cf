use super::*;

fn attributes(entries: &[(&'static str, Value)]) -> BTreeMap<&'static str, Value> {
    entries.iter().cloned().collect()
}

fn text(s: &str) -> Value {
    Value::Text(s.into())
}

fn number(n: i64) -> Value {
    Value::Number(n.to_string())
}

fn foreign() -> BTreeMap<&'static str, Value> {
    attributes(&[
        ("LockKey", text("k")),
        ("ClientId", text("c")),
        ("ExpireInUnixSeconds", number(2)),
        ("ExpireInUnixMs", number(1_500)),
    ])
}

fn native() -> BTreeMap<&'static str, Value> {
    let mut record = foreign();
    record.extend(attributes(&[
        ("V", number(3)),
        ("FencingToken", number(7)),
        ("LeaseMs", number(20_000)),
        ("RenewCount", number(3)),
    ]));
    record
}

fn problem(record: &BTreeMap<&'static str, Value>) -> &'static str {
    Record::parse(record).expect_err("malformed").attribute
}

#[test]
fn reads_both_generations() {
    let ours = Record::parse(&native()).expect("well formed");
    assert_eq!(ours.token(), Some(7));
    assert!(matches!(
        ours.state(),
        State::Granted(Seen::Native { token: 7, .. })
    ));
    let theirs = Record::parse(&foreign()).expect("well formed");
    assert!(matches!(
        theirs.state(),
        State::Granted(Seen::Foreign { .. })
    ));
}

#[test]
fn the_length_of_the_last_hold_is_read_and_anything_else_is_ignored() {
    let mut record = native();
    let read = |record: &_| Record::parse(record).expect("well formed").last_hold;
    assert_eq!(read(&record), None);
    for (value, expected) in [
        (number(1_234), Some(Duration::from_millis(1_234))),
        (number(-1), None),
        (text("long"), None),
    ] {
        record.insert("HeldMs", value);
        assert_eq!(read(&record), expected);
    }
}

#[test]
fn a_released_record_has_no_owner() {
    let mut record = native();
    record.remove("ClientId");
    record.insert("ExpireInUnixMs", number(0));
    // With the label of the last holder, and without one, as older versions leave it.
    for label in [None, Some("host a")] {
        if let Some(label) = label {
            record.insert("Holder", text(label));
        }
        let record = Record::parse(&record).expect("well formed");
        assert_eq!(record.state(), State::Released);
        assert_eq!(record.holder.as_deref(), label);
    }
}

#[test]
fn what_cannot_be_read_for_certain_is_malformed_and_named() {
    let mut record = native();
    record.remove("ExpireInUnixMs");
    assert_eq!(problem(&record), "ExpireInUnixMs");
    record.insert("ExpireInUnixMs", text("1500"));
    assert_eq!(problem(&record), "ExpireInUnixMs");
    record.insert("ExpireInUnixMs", Value::Number("1.5".into()));
    assert_eq!(problem(&record), "ExpireInUnixMs");

    for name in ["FencingToken", "LeaseMs", "RenewCount"] {
        let mut record = native();
        record.remove(name);
        assert_eq!(problem(&record), name);
        record.insert(name, text("7"));
        assert_eq!(problem(&record), name);
    }

    let mut huge = native();
    huge.insert("FencingToken", number(1 << 53));
    assert_eq!(problem(&huge), "FencingToken");

    let mut neither = foreign();
    neither.remove("ClientId");
    assert_eq!(problem(&neither), "V");
    for version in [0, 2, 4] {
        let mut odd = native();
        odd.insert("V", number(version));
        let error = Record::parse(&odd).expect_err("malformed");
        assert_eq!(error.attribute, "V");
        assert_eq!(error.problem.contains("update"), version == 4);
    }
    let mut owner = native();
    owner.insert("ClientId", number(1));
    assert_eq!(problem(&owner), "ClientId");
}

#[test]
fn unknown_attributes_are_ignored() {
    let mut record = native();
    record.insert("SomethingNew", Value::Other);
    assert!(Record::parse(&record).is_ok());
}

#[test]
fn a_queue_reads_back_and_an_odd_one_is_malformed() {
    let id = AttemptId::from_random([7; 16]);
    let place = Place::new(id, Duration::from_secs(20), Duration::ZERO, ServiceTime(5));
    let stored = |bytes: &[u8]| Value::List(vec![Value::Binary(bytes.to_vec())]);
    let mut record = native();
    record.insert("Queue", stored(&place.to_bytes()));
    assert_eq!(Record::parse(&record).expect("well formed").queue, [place]);
    record.insert("Queue", Value::List(Vec::new()));
    assert_eq!(Record::parse(&record).expect("well formed").queue, []);
    for odd in [
        stored(&[1; 29]),
        Value::List(vec![text("x")]),
        Value::Binary(place.to_bytes().to_vec()),
    ] {
        record.insert("Queue", odd);
        assert_eq!(problem(&record), "Queue");
    }
}

#[test]
fn labels_of_the_wrong_type_block_nobody() {
    let mut record = native();
    record.insert("Holder", number(1));
    record.insert("AcquiredAtUnixMs", text("x"));
    let record = Record::parse(&record).expect("well formed");
    assert_eq!((record.holder, record.acquired_at), (None, None));
}
