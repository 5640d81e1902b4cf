//! The writes of the protocol as DynamoDB expressions.
//!
//! Each says exactly what [`apply`](leasehold_protocol::write::apply) does; the contract suite holds
//! the two together. Every name is a placeholder, because some are reserved words.

use std::collections::HashMap;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;

use leasehold_protocol::attempt::AttemptId;
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
const DATA: (&str, &str) = ("#data", attribute::DATA);

impl Expression {
    fn new(update: &str, condition: &str) -> Self {
        Expression {
            update: update.to_owned(),
            condition: condition.to_owned(),
            names: HashMap::new(),
            values: HashMap::new(),
        }
    }

    fn names(mut self, names: &[(&str, &str)]) -> Self {
        for (placeholder, name) in names {
            self.names
                .insert((*placeholder).to_owned(), (*name).to_owned());
        }
        self
    }

    fn text(mut self, placeholder: &str, text: impl ToString) -> Self {
        self.values
            .insert(placeholder.to_owned(), AttributeValue::S(text.to_string()));
        self
    }

    fn number(mut self, placeholder: &str, number: impl ToString) -> Self {
        self.values.insert(
            placeholder.to_owned(),
            AttributeValue::N(number.to_string()),
        );
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
                _ => 0,
            })
            .sum();
        let names: usize = self.names.values().map(String::len).sum();
        key.len() + values + names
    }
}

/// An update for every write but a withdrawal.
pub(super) fn update(write: &Write) -> Expression {
    match write {
        Write::Acquire(grant) => {
            let free = "attribute_exists(#version) AND attribute_not_exists(#client)";
            let lasts = match grant.ttl_is_guess {
                true => " AND (attribute_not_exists(#ttl) OR #ttl <= :ttl)",
                false => "",
            };
            let condition = format!("attribute_not_exists(#key) OR ({free}{lasts})");
            granted(grant, None, &condition).names(&[KEY])
        }
        Write::TakeOver(grant, Seen::Native { owner, token, renew_count }) => granted(
            grant,
            // The condition fixes the token, so what it becomes is known here.
            Some(taken_over(*token, grant.seed)),
            "#client = :seen_client AND #token = :seen_token AND #count = :seen_count",
        )
        .text(":seen_client", owner)
        .number(":seen_token", token)
        .number(":seen_count", renew_count),
        Write::TakeOver(grant, Seen::Foreign { owner, expires_at }) => granted(
            grant,
            None,
            "#client = :seen_client AND #expires = :seen_expires AND attribute_not_exists(#version)",
        )
        .text(":seen_client", owner)
        .number(":seen_expires", expires_at.0),
        Write::Renew { attempt, token, expires_at, ttl_seconds, .. } => Expression::new(
            "SET #expires = :expires, #ttl = :ttl, #count = #count + :one",
            "#client = :me AND #token = :token AND #expires < :expires",
        )
        .names(&[CLIENT, TOKEN, EXPIRES, TTL, COUNT])
        .text(":me", attempt)
        .number(":token", token)
        .number(":expires", expires_at.0)
        .number(":ttl", ttl_seconds)
        .number(":one", 1),
        Write::Release { attempt, token, ttl_seconds, .. } => {
            let (ttl, placeholders): (_, &[_]) = match ttl_seconds {
                Some(_) => (", #ttl = :ttl", &[EXPIRES, HOLDER, DATA, TTL]),
                None => ("", &[EXPIRES, HOLDER, DATA]),
            };
            let update = format!("SET #expires = :zero{ttl} REMOVE #client, #holder, #data");
            let mut expression = Expression::new(&update, "")
                .names(placeholders)
                .number(":zero", 0);
            if let Some(ttl) = ttl_seconds {
                expression = expression.number(":ttl", ttl);
            }
            owned(expression, attempt, *token)
        }
        Write::Withdraw { .. } => delete(write),
    }
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

/// A grant, with this token, or with the next one of the record.
fn granted(grant: &Grant, token: Option<u64>, condition: &str) -> Expression {
    let next = match token {
        Some(_) => ":next_token",
        None => "if_not_exists(#token, :seed) + :one",
    };
    let update = format!(
        "SET #client = :me, #expires = :expires, #ttl = :ttl, #lease = :lease, #version = :version, \
         #holder = :holder, #acquired = :acquired, \
         #count = if_not_exists(#count, :zero) + :one, #token = {next}"
    );
    let mut expression = Expression::new(&update, condition)
        .names(&[
            CLIENT, EXPIRES, TTL, LEASE, VERSION, HOLDER, ACQUIRED, COUNT, TOKEN, DATA,
        ])
        .text(":me", grant.attempt)
        .number(":expires", grant.expires_at.0)
        .number(":ttl", grant.ttl_seconds)
        .number(":lease", grant.lease.as_millis())
        .number(":version", RECORD_VERSION)
        .text(":holder", &grant.holder)
        .number(":acquired", grant.acquired_at.0)
        .number(":zero", 0)
        .number(":one", 1);
    expression = match token {
        Some(token) => expression.number(":next_token", token),
        None => expression.number(":seed", grant.seed.0.max(0)),
    };
    match &grant.data {
        Some(data) => {
            expression.update.push_str(", #data = :data");
            let blob = AttributeValue::B(Blob::new(data.to_vec()));
            expression.values.insert(":data".to_owned(), blob);
        }
        None => expression.update.push_str(" REMOVE #data"),
    }
    expression
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
