//! The writes of the protocol as DynamoDB expressions.
//!
//! Each does exactly what [`apply`](leasehold_protocol::write::apply) does; the contract suite compares
//! the two. Every name is a placeholder, because some are reserved words.

use std::collections::HashMap;

use super::expression::{
    CLIENT, COUNT, DATA, DONE, EXPIRES, Expression, FREE, KEY, LEASE, LIMIT, NO_QUEUE, NO_SLOTS,
    QUEUE, SLOTS, TOKEN, TTL, VERSION, binary, described, granted, handed_over, lasts, owned,
    with_hold,
};
use super::slots;
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;

use leasehold_protocol::done::{Completion, Done};
use leasehold_protocol::queue::Place;
use leasehold_protocol::record::{RECORD_VERSION, Seen};
use leasehold_protocol::write::{Write, taken_over};

/// The update of every write except for a withdrawal.
pub(super) fn update(write: &Write) -> Expression {
    match write {
        Write::Acquire(grant) => {
            let condition = format!(
                "attribute_not_exists(#key) OR ({FREE}{NO_QUEUE} AND {NO_SLOTS}{})",
                lasts(grant)
            );
            granted(grant, None, &condition, &[], false).names(&[KEY, QUEUE, SLOTS])
        }
        Write::TakeOver(grant, seen @ Seen::Native { owner, token, renew_count }, places) => granted(
            grant,
            // The condition fixes the old token, so the new one is known here.
            Some(taken_over(*token, grant.seed)),
            "#client = :seen_client AND #token = :seen_token AND #count = :seen_count",
            places,
            seen.is_done(),
        )
        .text(":seen_client", owner)
        .number(":seen_token", token)
        .number(":seen_count", renew_count),
        Write::TakeOver(grant, Seen::Foreign { owner, expires_at }, places) => granted(
            grant,
            None,
            "#client = :seen_client AND #expires = :seen_expires AND attribute_not_exists(#version)",
            places,
            false,
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
        Write::Release { attempt, token, ttl_seconds, passed, held, left, .. } => {
            let mut update = "SET #expires = :zero".to_owned();
            if ttl_seconds.is_some() {
                update.push_str(", #ttl = :ttl");
            }
            let expression = with_hold(Expression::new(&update, ""), *held);
            let mut expression = owned(expression, attempt, *token)
                .begins_with(passed)
                .leaves(left, "#client", passed.len())
                .names(&[EXPIRES, QUEUE])
                .number(":zero", 0);
            let end = format!(" AND attribute_not_exists(#queue[{}])", passed.len());
            expression.condition.push_str(&end);
            if let Some(ttl) = ttl_seconds {
                expression = expression.names(&[TTL]).number(":ttl", ttl);
            }
            expression
        }
        Write::HandOver { attempt, token, next, passed, expires_at, ttl_seconds, acquired_at, held, left, .. } => {
            let places: Vec<Place> = passed.iter().chain([next]).copied().collect();
            let handed = handed_over(Expression::new("", ""), next, *expires_at, *ttl_seconds, *acquired_at);
            owned(with_hold(handed, *held), attempt, *token)
                .begins_with(&places)
                .leaves(left, "#holder", places.len())
        }
        Write::Complete(completion) => completed(completion),
        Write::Join { place, limit, most, .. } => {
            let mut join = Expression::new(
                "SET #queue = list_append(if_not_exists(#queue, :empty), :places)",
                "(attribute_exists(#client) OR size(#slots) > :zero OR attribute_exists(#queue[0])) \
                 AND (attribute_not_exists(#client) OR #client <> :me) AND attribute_not_exists(#slots.#own) \
                 AND #version = :version AND attribute_not_exists(#done) \
                 AND (attribute_not_exists(#queue) OR size(#queue) < :most) AND NOT contains(#queue, :place)",
            )
            .names(&[CLIENT, VERSION, QUEUE, DONE, SLOTS])
            .entry_name("#own", place.attempt())
            .text(":me", place.attempt())
            .number(":version", RECORD_VERSION)
            .number(":zero", 0)
            .number(":most", most)
            .place(":place", *place)
            .list(":empty", Vec::new())
            .list(":places", vec![binary(*place)]);
            if let Some(limit) = limit {
                join.update.push_str(", #slots = if_not_exists(#slots, :none), #limit = :limit");
                let fits = format!(" AND (attribute_not_exists(#slots) OR {})", slots::HAS_LIMIT);
                join.condition.push_str(&fits);
                join = join.names(&[LIMIT]).number(":limit", limit).map(":none", HashMap::new());
            }
            join
        }
        Write::Slot(write) => slots::update(write),
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
