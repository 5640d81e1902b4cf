//! An expression with its placeholders, and the parts that writes share. Every name is a placeholder, because some are
//! reserved words.

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;

use leasehold_protocol::attempt::AttemptId;
use leasehold_protocol::queue::Place;
use leasehold_protocol::record::{RECORD_VERSION, attribute};
use leasehold_protocol::slots::Slot;
use leasehold_protocol::time::ServiceTime;
use leasehold_protocol::write::{Grant, Left};

/// An expression with its placeholders.
pub(super) struct Expression {
    pub(super) update: String,
    pub(super) condition: String,
    pub(super) names: HashMap<String, String>,
    pub(super) values: HashMap<String, AttributeValue>,
}

pub(super) const KEY: (&str, &str) = ("#key", attribute::KEY);
pub(super) const CLIENT: (&str, &str) = ("#client", attribute::CLIENT_ID);
pub(super) const EXPIRES: (&str, &str) = ("#expires", attribute::EXPIRES_MS);
pub(super) const TTL: (&str, &str) = ("#ttl", attribute::TTL_SECONDS);
pub(super) const TOKEN: (&str, &str) = ("#token", attribute::TOKEN);
pub(super) const LEASE: (&str, &str) = ("#lease", attribute::LEASE_MS);
pub(super) const COUNT: (&str, &str) = ("#count", attribute::RENEW_COUNT);
pub(super) const VERSION: (&str, &str) = ("#version", attribute::VERSION);
pub(super) const LAST_FORCE: (&str, &str) = ("#force", attribute::LAST_FORCE);
pub(super) const HOLDER: (&str, &str) = ("#holder", attribute::HOLDER);
pub(super) const ACQUIRED: (&str, &str) = ("#acquired", attribute::ACQUIRED_MS);
const HELD: (&str, &str) = ("#held", attribute::HELD_MS);
pub(super) const DATA: (&str, &str) = ("#data", attribute::DATA);
pub(super) const QUEUE: (&str, &str) = ("#queue", attribute::QUEUE);
pub(super) const SLOTS: (&str, &str) = ("#slots", attribute::SLOTS);
pub(super) const LIMIT: (&str, &str) = ("#limit", attribute::LIMIT);
pub(super) const DONE: (&str, &str) = ("#done", attribute::DONE);

impl Expression {
    pub(super) fn new(update: &str, condition: &str) -> Self {
        Expression {
            update: update.to_owned(),
            condition: condition.to_owned(),
            names: HashMap::new(),
            values: HashMap::new(),
        }
    }

    pub(super) fn names(mut self, names: &[(&str, &str)]) -> Self {
        for (placeholder, name) in names {
            self.names
                .insert((*placeholder).to_owned(), (*name).to_owned());
        }
        self
    }

    pub(super) fn text(mut self, placeholder: &str, text: impl ToString) -> Self {
        self.values
            .insert(placeholder.to_owned(), AttributeValue::S(text.to_string()));
        self
    }

    pub(super) fn number(mut self, placeholder: &str, number: impl ToString) -> Self {
        self.values.insert(
            placeholder.to_owned(),
            AttributeValue::N(number.to_string()),
        );
        self
    }

    pub(super) fn place(mut self, placeholder: &str, place: Place) -> Self {
        self.values.insert(placeholder.to_owned(), binary(place));
        self
    }

    pub(super) fn list(mut self, placeholder: &str, list: Vec<AttributeValue>) -> Self {
        self.values
            .insert(placeholder.to_owned(), AttributeValue::L(list));
        self
    }

    /// That these are the first places of the queue.
    pub(super) fn begins_with(mut self, places: &[Place]) -> Self {
        for (index, place) in places.iter().enumerate() {
            self.condition
                .push_str(&format!(" AND #queue[{index}] = :place{index}"));
            self = self
                .names(&[QUEUE])
                .place(&format!(":place{index}"), *place);
        }
        self
    }

    /// Removes these attributes, and so many places from the front of the queue.
    pub(super) fn removes(mut self, attributes: &[&str], places: usize) -> Self {
        let places = (0..places).map(|index| format!("#queue[{index}]"));
        let all: Vec<String> = attributes
            .iter()
            .map(ToString::to_string)
            .chain(places)
            .collect();
        if !all.is_empty() {
            self.update.push_str(&format!(" REMOVE {}", all.join(", ")));
        }
        self
    }

    /// Sets the payload.
    pub(super) fn data(mut self, data: &[u8]) -> Self {
        self.update.push_str(", #data = :data");
        let blob = AttributeValue::B(Blob::new(data.to_vec()));
        self.values.insert(":data".to_owned(), blob);
        self.names(&[DATA])
    }

    /// Removes this attribute, so many places, and the payload, unless that is left for the next holder.
    pub(super) fn leaves(self, left: &Left, attribute: &str, places: usize) -> Self {
        match left {
            Left::Nothing => self.names(&[DATA]).removes(&[attribute, "#data"], places),
            Left::AsItIs => self.removes(&[attribute], places),
            Left::Payload(data) => self.data(data).removes(&[attribute], places),
        }
    }

    /// One more attribute to set.
    pub(super) fn sets(mut self, set: &str) -> Self {
        let before = if self.update.is_empty() { "SET " } else { ", " };
        self.update.push_str(before);
        self.update.push_str(set);
        self
    }

    /// One more condition.
    pub(super) fn and(mut self, condition: &str) -> Self {
        self.condition.push_str(condition);
        self
    }

    pub(super) fn bytes(mut self, placeholder: &str, bytes: Vec<u8>) -> Self {
        self.values
            .insert(placeholder.to_owned(), AttributeValue::B(Blob::new(bytes)));
        self
    }

    pub(super) fn entry(mut self, placeholder: &str, slot: &Slot) -> Self {
        self.values
            .insert(placeholder.to_owned(), entry_value(slot));
        self
    }

    pub(super) fn entry_name(mut self, placeholder: &str, attempt: AttemptId) -> Self {
        self.names.insert(placeholder.to_owned(), attempt.digits());
        self
    }

    pub(super) fn map(mut self, placeholder: &str, map: HashMap<String, AttributeValue>) -> Self {
        self.values
            .insert(placeholder.to_owned(), AttributeValue::M(map));
        self
    }

    /// Roughly the size of the item that it makes, as DynamoDB bills it.
    pub(super) fn item_bytes(&self, key: &str) -> usize {
        let values: usize = self
            .values
            .values()
            .map(|value| match value {
                AttributeValue::S(text) => text.len(),
                AttributeValue::N(digits) => digits.len() / 2 + 2,
                AttributeValue::B(bytes) => bytes.as_ref().len(),
                AttributeValue::L(_) | AttributeValue::M(_) => 3,
                _ => 0,
            })
            .sum();
        let names: usize = self.names.values().map(String::len).sum();
        key.len() + values + names
    }
}

pub(super) fn owned(
    mut expression: Expression,
    attempt: &AttemptId,
    token: Option<u64>,
) -> Expression {
    expression.condition.push_str("#client = :me");
    expression = expression.names(&[CLIENT]).text(":me", attempt);
    if let Some(token) = token {
        expression.condition.push_str(" AND #token = :token");
        expression = expression.names(&[TOKEN]).number(":token", token);
    }
    expression
}

/// Sets how long the grant was held, if that is known.
pub(super) fn with_hold(expression: Expression, held: Option<Duration>) -> Expression {
    let Some(held) = held else { return expression };
    expression
        .sets("#held = :held")
        .names(&[HELD])
        .number(":held", held.as_millis())
}

pub(super) fn binary(place: Place) -> AttributeValue {
    AttributeValue::B(Blob::new(place.to_bytes().to_vec()))
}

/// A grant, with this token, or with the next one of the record. These places go with it, and so does the result
/// of a run.
pub(super) fn granted(
    grant: &Grant,
    token: Option<u64>,
    condition: &str,
    places: &[Place],
    was_done: bool,
) -> Expression {
    let next = match token {
        Some(_) => ":next_token",
        None => "if_not_exists(#token, :seed) + :one",
    };
    let update = format!(
        "SET #client = :me, #expires = :expires, #ttl = :ttl, #lease = :lease, #version = :version, \
         #acquired = :acquired, \
         #count = if_not_exists(#count, :zero) + :one, #token = {next}"
    );
    let mut expression = Expression::new(&update, condition)
        .names(&[CLIENT, EXPIRES, TTL, LEASE, VERSION, ACQUIRED, COUNT, TOKEN])
        .text(":me", grant.attempt)
        .number(":expires", grant.expires_at.0)
        .number(":ttl", grant.ttl_seconds)
        .number(":lease", grant.lease.as_millis())
        .number(":version", RECORD_VERSION)
        .number(":acquired", grant.acquired_at.0)
        .number(":zero", 0)
        .number(":one", 1);
    expression = match token {
        Some(token) => expression.number(":next_token", token),
        None => expression.number(":seed", grant.seed.0.max(0)),
    };
    let data = grant.data.as_deref();
    expression = described(expression.begins_with(places), &grant.holder, data).names(&[DONE]);
    expression = forced(expression, grant);
    match was_done && data.is_none() {
        true => expression
            .names(&[DATA])
            .removes(&["#data", "#done"], places.len()),
        false => expression.removes(&["#done"], places.len()),
    }
}

/// Sets what people see of a grant. Without data, that of the record stays.
pub(super) fn described(
    mut expression: Expression,
    holder: &str,
    data: Option<&[u8]>,
) -> Expression {
    expression.update.push_str(", #holder = :holder");
    if let Some(data) = data {
        expression = expression.data(data);
    }
    expression.names(&[HOLDER]).text(":holder", holder)
}

/// Sets who ends a grant by force, and why. Otherwise that of the record stays.
pub(super) fn forced(expression: Expression, grant: &Grant) -> Expression {
    match &grant.force {
        Some(force) => expression
            .sets("#force = :force")
            .names(&[LAST_FORCE])
            .text(":force", force),
        None => expression,
    }
}

/// The entry of a slot, as it is stored.
pub(super) fn entry_value(slot: &Slot) -> AttributeValue {
    AttributeValue::B(Blob::new(slot.to_bytes()))
}

/// A released record of this library.
pub(super) const FREE: &str = "attribute_exists(#version) AND attribute_not_exists(#client)";
/// Nobody waits.
pub(super) const NO_QUEUE: &str = " AND attribute_not_exists(#queue[0])";
/// No slot is held.
pub(super) const NO_SLOTS: &str = "(attribute_not_exists(#slots) OR size(#slots) = :zero)";

/// That a guessed TTL does not shorten that of the record.
pub(super) fn lasts(grant: &Grant) -> &'static str {
    match grant.ttl_is_guess {
        true => " AND (attribute_not_exists(#ttl) OR #ttl <= :ttl)",
        false => "",
    }
}

/// The whole key goes to this place, under the next token.
pub(super) fn handed_over(
    expression: Expression,
    next: &Place,
    expires_at: ServiceTime,
    ttl_seconds: i64,
    acquired_at: ServiceTime,
) -> Expression {
    expression
        .sets("#client = :next")
        .sets("#expires = :expires")
        .sets("#ttl = :ttl")
        .sets("#lease = :lease")
        .sets("#acquired = :acquired")
        .sets("#count = #count + :one")
        .sets("#token = #token + :one")
        .names(&[CLIENT, EXPIRES, TTL, LEASE, ACQUIRED, COUNT, TOKEN, HOLDER])
        .text(":next", next.attempt())
        .number(":expires", expires_at.0)
        .number(":ttl", ttl_seconds)
        .number(":lease", next.lease().as_millis())
        .number(":acquired", acquired_at.0)
        .number(":one", 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_is_as_large_as_it_is_billed() {
        let mut expression = Expression::new("", "")
            .names(&[("#a", "Name"), ("#b", "No")])
            .text(":t", "four")
            .number(":n", 123_456);
        assert_eq!(expression.item_bytes("key"), 3 + 6 + 4 + 5);
        let blob = AttributeValue::B(Blob::new([0; 100]));
        expression.values.insert(":d".to_owned(), blob);
        assert_eq!(expression.item_bytes("key"), 118);
    }
}
