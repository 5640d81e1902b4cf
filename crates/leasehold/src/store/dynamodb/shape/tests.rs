use super::*;

fn shapes() -> Vec<TableShape> {
    let plain = TableShape::default().partition_key("PK").prefix("LOCK#");
    vec![
        TableShape::default(),
        plain.clone(),
        plain.clone().sort_key("SK", "LOCK"),
        plain.clone().sort_key_after("SK", '/'),
        plain.sort_key_after("SK", '#'),
    ]
}

fn item(pairs: &[(&str, &str)]) -> HashMap<String, AttributeValue> {
    let text = |text: &str| AttributeValue::S(text.to_owned());
    let pairs = pairs.iter().map(|(n, v)| ((*n).to_owned(), text(v)));
    pairs.collect()
}

#[test]
fn a_key_is_that_of_its_item() {
    for shape in shapes() {
        for key in ["a/b", "a/b/c", "a#b", "a#b/c", "LOCK#/x#", "a/#", "ä/ö#ü"] {
            match shape.item_key(key, "t") {
                Ok(item) => assert_eq!(shape.key_of(&item).as_deref(), Some(key), "{shape:?}"),
                Err(error) => assert_eq!(error.kind, StoreErrorKind::InvalidInput, "{key}"),
            }
        }
    }
}

#[test]
fn a_position_is_that_of_its_item() {
    let constant = TableShape::default().sort_key("SK", "LOCK");
    for (shape, key) in [
        (TableShape::default(), item(&[("LockKey", "1:ä")])),
        (
            constant.clone(),
            item(&[("LockKey", "7:ä/b"), ("SK", "1:x")]),
        ),
    ] {
        let text = shape.position_of(&key).expect("of this shape");
        assert_eq!(shape.position(&text).as_ref(), Some(&key));
    }
    for wrong in ["", "a", "3:a", "1:ä", "x:a"] {
        assert_eq!(constant.position(wrong), None, "{wrong}");
    }
}

#[test]
fn the_item_of_a_key() {
    let shape = TableShape::default().partition_key("PK").prefix("LOCK#");
    let of = |shape: &TableShape, key| shape.item_key(key, "t").expect("of the right form");
    let constant = shape.clone().sort_key("SK", "LOCK");
    assert_eq!(
        of(&constant, "customer/42"),
        item(&[("PK", "LOCK#customer/42"), ("SK", "LOCK")])
    );
    let split = shape.sort_key_after("SK", '/');
    assert_eq!(
        of(&split, "customer/42/x"),
        item(&[("PK", "LOCK#customer"), ("SK", "42/x")])
    );
}

#[test]
fn a_key_without_two_parts_is_refused_with_the_setting() {
    let shape = TableShape::default().sort_key_after("SK", '/');
    for key in ["customer", "/42", "customer/", "/"] {
        let error = shape.item_key(key, "shared").expect_err(key);
        assert_eq!(error.kind, StoreErrorKind::InvalidInput);
        for part in [&format!("`{key}`"), "`shared`", "`SK`", "`sort_key_after`"] {
            assert!(error.message.contains(part), "{}", error.message);
        }
    }
}

#[test]
fn items_of_others_have_no_key() {
    let shape = TableShape::default().partition_key("PK").prefix("LOCK#");
    let constant = shape.clone().sort_key("SK", "LOCK");
    let split = shape.sort_key_after("SK", '/');
    for (shape, foreign) in [
        (&constant, item(&[("PK", "CUSTOMER#1"), ("SK", "LOCK")])),
        (&constant, item(&[("PK", "LOCK#1"), ("SK", "PROFILE")])),
        (&constant, item(&[("PK", "LOCK#1")])),
        (&split, item(&[("PK", "LOCK#a/b"), ("SK", "c")])),
        (&split, item(&[("PK", "LOCK#"), ("SK", "c")])),
    ] {
        assert_eq!(shape.key_of(&foreign), None, "{foreign:?}");
    }
}

#[test]
fn a_shape_that_cannot_be_is_refused_with_its_setting() {
    let shape = TableShape::default;
    for (shape, setting) in [
        (shape().partition_key(""), "partition_key"),
        (shape().partition_key("x".repeat(256)), "partition_key"),
        (shape().partition_key("ClientId"), "partition_key"),
        (shape().ttl("Queue"), "ttl"),
        (shape().ttl("LockKey"), "ttl"),
        (shape().sort_key("LockKey", "x"), "sort_key"),
        (shape().sort_key("ExpireInUnixSeconds", "x"), "sort_key"),
        (shape().sort_key("SK", ""), "sort_key"),
        (shape().sort_key("SK", "x".repeat(1025)), "sort_key"),
        (shape().sort_key_after("V", '/'), "sort_key"),
        (shape().prefix("x".repeat(1025)), "prefix"),
    ] {
        let error = shape.checked().expect_err(setting);
        assert_eq!(error.kind(), ErrorKind::Configuration);
        assert_eq!(error.setting(), Some(setting), "{error}");
        assert!(error.to_string().contains(setting), "{error}");
    }
    for shape in shapes() {
        assert_eq!(shape.clone().checked().expect("valid"), shape);
    }
}
