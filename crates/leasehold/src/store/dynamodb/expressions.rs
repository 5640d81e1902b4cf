//! The writes of the protocol as DynamoDB expressions.
//!
//! Each does exactly what [`apply`](leasehold_protocol::write::apply) does; the contract suite compares
//! the two. Every name is a placeholder, because some are reserved words.

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;

use leasehold_protocol::attempt::AttemptId;
use leasehold_protocol::done::{Completion, Done};
use leasehold_protocol::queue::{PLACES, Place};
use leasehold_protocol::record::{RECORD_VERSION, Seen, attribute};
use leasehold_protocol::write::{Grant, Write, taken_over};

/// An expression with its placeholders.
pub(super) struct Expression {
    pub(super) update: String,
    pub(super) condition: String,
    pub(super) names: HashMap<String, String>,
    pub(super) values: HashMap<String, AttributeValue>,
}

const KEY: (&str, &str) = ("#key", attribute::KEY);
const CLIENT: (&str, &str) = ("#client", attribute::CLIENT_ID);
const EXPIRES: (&str, &str) = ("#expires", attribute::EXPIRES_MS);
const TTL: (&str, &str) = ("#ttl", attribute::TTL_SECONDS);
const TOKEN: (&str, &str) = ("#token", attribute::TOKEN);
const LEASE: (&str, &str) = ("#lease", attribute::LEASE_MS);
const COUNT: (&str, &str) = ("#count", attribute::RENEW_COUNT);
const VERSION: (&str, &str) = ("#version", attribute::VERSION);
const HOLDER: (&str, &str) = ("#holder", attribute::HOLDER);
const ACQUIRED: (&str, &str) = ("#acquired", attribute::ACQUIRED_MS);
const HELD: (&str, &str) = ("#held", attribute::HELD_MS);
const DATA: (&str, &str) = ("#data", attribute::DATA);
const QUEUE: (&str, &str) = ("#queue", attribute::QUEUE);
const DONE: (&str, &str) = ("#done", attribute::DONE);

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

    fn place(mut self, placeholder: &str, place: Place) -> Self {
        self.values.insert(placeholder.to_owned(), binary(place));
        self
    }

    fn list(mut self, placeholder: &str, list: Vec<AttributeValue>) -> Self {
        self.values
            .insert(placeholder.to_owned(), AttributeValue::L(list));
        self
    }

    /// That these are the first places of the queue.
    fn begins_with(mut self, places: &[Place]) -> Self {
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
    fn removes(mut self, attributes: &[&str], places: usize) -> Self {
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

    /// Roughly the size of the item that it makes, as DynamoDB bills it.
    pub(super) fn item_bytes(&self, key: &str) -> usize {
        let values: usize = self
            .values
            .values()
            .map(|value| match value {
                AttributeValue::S(text) => text.len(),
                AttributeValue::N(digits) => digits.len() / 2 + 2,
                AttributeValue::B(bytes) => bytes.as_ref().len(),
                AttributeValue::L(_) => 3,
                _ => 0,
            })
            .sum();
        let names: usize = self.names.values().map(String::len).sum();
        key.len() + values + names
    }
}

/// The update of every write except for a withdrawal.
pub(super) fn update(write: &Write) -> Expression {
    match write {
        Write::Acquire(grant) => {
            let free = "attribute_exists(#version) AND attribute_not_exists(#client)";
            let lasts = match grant.ttl_is_guess {
                true => " AND (attribute_not_exists(#ttl) OR #ttl <= :ttl)",
                false => "",
            };
            let condition = format!("attribute_not_exists(#key) OR ({free}{lasts})");
            granted(grant, None, &condition, &[]).names(&[KEY])
        }
        Write::TakeOver(grant, Seen::Native { owner, token, renew_count }, places) => granted(
            grant,
            // The condition fixes the old token, so the new one is known here.
            Some(taken_over(*token, grant.seed)),
            "#client = :seen_client AND #token = :seen_token AND #count = :seen_count",
            places,
        )
        .text(":seen_client", owner)
        .number(":seen_token", token)
        .number(":seen_count", renew_count),
        Write::TakeOver(grant, Seen::Foreign { owner, expires_at }, places) => granted(
            grant,
            None,
            "#client = :seen_client AND #expires = :seen_expires AND attribute_not_exists(#version)",
            places,
        )
        .text(":seen_client", owner)
        .number(":seen_expires", expires_at.0),
        Write::Renew { attempt, token, expires_at, ttl_seconds, lease, description, .. } => {
            let mut renewal = Expression::new(
                "SET #expires = :expires, #ttl = :ttl, #count = #count + :one",
                "#client = :me AND #token = :token AND #expires < :expires",
            )
            .names(&[CLIENT, TOKEN, EXPIRES, TTL, COUNT])
            .text(":me", attempt)
            .number(":token", token)
            .number(":expires", expires_at.0)
            .number(":ttl", ttl_seconds)
            .number(":one", 1);
            if let Some(lease) = lease {
                renewal.update.push_str(", #lease = :lease");
                renewal.condition.push_str(" AND #lease <= :lease");
                renewal = renewal.names(&[LEASE]).number(":lease", lease.as_millis());
            }
            match description {
                Some(description) => described(renewal, &description.holder, description.data.as_deref()),
                None => renewal,
            }
        }
        Write::Release { attempt, token, ttl_seconds, passed, held, .. } => {
            let mut update = "SET #expires = :zero".to_owned();
            if ttl_seconds.is_some() {
                update.push_str(", #ttl = :ttl");
            }
            let expression = with_hold(Expression::new(&update, ""), *held);
            let mut expression = owned(expression, attempt, *token)
                .begins_with(passed)
                .removes(&["#client", "#data"], passed.len())
                .names(&[EXPIRES, DATA, QUEUE])
                .number(":zero", 0);
            let end = format!(" AND attribute_not_exists(#queue[{}])", passed.len());
            expression.condition.push_str(&end);
            if let Some(ttl) = ttl_seconds {
                expression = expression.names(&[TTL]).number(":ttl", ttl);
            }
            expression
        }
        Write::HandOver { attempt, token, next, passed, expires_at, ttl_seconds, acquired_at, held, .. } => {
            let places: Vec<Place> = passed.iter().chain([next]).copied().collect();
            let update = "SET #client = :next, #expires = :expires, #ttl = :ttl, #lease = :lease, \
                 #acquired = :acquired, #count = #count + :one, #token = #token + :one";
            owned(with_hold(Expression::new(update, ""), *held), attempt, *token)
                .begins_with(&places)
                .removes(&["#holder", "#data"], places.len())
                .names(&[EXPIRES, TTL, LEASE, ACQUIRED, COUNT, TOKEN, HOLDER, DATA])
                .text(":next", next.attempt())
                .number(":expires", expires_at.0)
                .number(":ttl", ttl_seconds)
                .number(":lease", next.lease().as_millis())
                .number(":acquired", acquired_at.0)
                .number(":one", 1)
        }
        Write::Complete(completion) => completed(completion),
        Write::Join { place, .. } => {
            Expression::new(
                "SET #queue = list_append(if_not_exists(#queue, :empty), :places)",
                "attribute_exists(#client) AND #client <> :me AND #version = :version \
                 AND attribute_not_exists(#done) AND (attribute_not_exists(#queue) OR size(#queue) < :most) AND NOT contains(#queue, :place)",
            )
            .names(&[CLIENT, VERSION, QUEUE, DONE])
            .text(":me", place.attempt())
            .number(":version", RECORD_VERSION)
            .number(":most", PLACES)
            .place(":place", *place)
            .list(":empty", Vec::new())
            .list(":places", vec![binary(*place)])
        }
        Write::Leave { place, index, .. } => {
            let place_at = format!("#queue[{index}]");
            Expression::new(&format!("REMOVE {place_at}"), &format!("{place_at} = :place"))
                .names(&[QUEUE])
                .place(":place", *place)
        }
        Write::Withdraw { .. } => delete(write),
    }
}

/// Remembers the work of a grant as done.
fn completed(completion: &Completion) -> Expression {
    let Completion {
        attempt,
        token,
        until,
        keep,
        ttl_seconds,
        done,
        result,
        held,
        ..
    } = completion;
    let mut update = "SET #client = :done_client, #expires = :expires, #lease = :lease, \
         #count = #count + :one, #done = :done"
        .to_owned();
    let mut gone = vec!["#queue"];
    for (placeholder, value, kept) in [
        ("#ttl", ":ttl", ttl_seconds.is_some()),
        ("#data", ":data", result.is_some()),
    ] {
        match kept {
            true => update.push_str(&format!(", {placeholder} = {value}")),
            false => gone.push(placeholder),
        }
    }
    let expression = with_hold(Expression::new(&update, ""), *held);
    let mut expression = owned(expression, attempt, Some(*token))
        .removes(&gone, 0)
        .names(&[EXPIRES, LEASE, COUNT, DONE, QUEUE, TTL, DATA])
        .text(":done_client", attempt.when_done())
        .number(":expires", until.0)
        .number(":lease", keep.as_millis())
        .number(":one", 1)
        .list(":done", self::done(done));
    if let Some(ttl) = ttl_seconds {
        expression = expression.number(":ttl", ttl);
    }
    if let Some(result) = result {
        let result = AttributeValue::B(Blob::new(result.to_vec()));
        expression.values.insert(":data".to_owned(), result);
    }
    expression
}

fn done(done: &Done) -> Vec<AttributeValue> {
    let number = |number: i64| AttributeValue::N(number.to_string());
    let input = done.input.as_ref();
    let input = input.map(|input| AttributeValue::B(Blob::new(input.to_vec())));
    [number(done.at.0), number(done.failed.into())]
        .into_iter()
        .chain(input)
        .collect()
}

/// The condition of a withdrawal, which deletes.
pub(super) fn delete(write: &Write) -> Expression {
    match write {
        Write::Withdraw { attempt, token, .. } => {
            owned(Expression::new("", ""), attempt, Some(*token))
        }
        _ => update(write),
    }
}

fn owned(mut expression: Expression, attempt: &AttemptId, token: Option<u64>) -> Expression {
    "#client = :me".clone_into(&mut expression.condition);
    expression = expression.names(&[CLIENT]).text(":me", attempt);
    if let Some(token) = token {
        expression.condition.push_str(" AND #token = :token");
        expression = expression.names(&[TOKEN]).number(":token", token);
    }
    expression
}

/// Sets how long the grant was held, if that is known.
fn with_hold(mut expression: Expression, held: Option<Duration>) -> Expression {
    let Some(held) = held else { return expression };
    expression.update.push_str(", #held = :held");
    expression.names(&[HELD]).number(":held", held.as_millis())
}

fn binary(place: Place) -> AttributeValue {
    AttributeValue::B(Blob::new(place.to_bytes().to_vec()))
}

/// A grant, with this token, or with the next one of the record. These places go with it.
fn granted(grant: &Grant, token: Option<u64>, condition: &str, places: &[Place]) -> Expression {
    let gone: &[&str] = match grant.data.is_some() {
        true => &["#done"],
        false => &["#data", "#done"],
    };
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
    described(
        expression.begins_with(places),
        &grant.holder,
        grant.data.as_deref(),
    )
    .names(&[DATA, DONE])
    .removes(gone, places.len())
}

/// Sets what people see of a grant. Data that is none is for the caller to remove.
fn described(mut expression: Expression, holder: &str, data: Option<&[u8]>) -> Expression {
    expression.update.push_str(", #holder = :holder");
    if let Some(data) = data {
        expression.update.push_str(", #data = :data");
        let blob = AttributeValue::B(Blob::new(data.to_vec()));
        expression.values.insert(":data".to_owned(), blob);
        expression = expression.names(&[DATA]);
    }
    expression.names(&[HOLDER]).text(":holder", holder)
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
