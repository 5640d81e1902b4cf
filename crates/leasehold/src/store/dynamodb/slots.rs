//! The writes on the slots of a key as DynamoDB expressions.
//!
//! The map `Slots` has an entry for each slot that is held, named by the digits of its attempt's id. The order of
//! the bytes of entries of one token is that of their expiries, so a condition can compare them.

use super::expression::{
    CLIENT, COUNT, DATA, DONE, EXPIRES, Expression, FREE, KEY, LEASE, LIMIT, NO_QUEUE, NO_SLOTS,
    QUEUE, SLOTS, TOKEN, TTL, VERSION, entry_value, forced, granted, handed_over, lasts, owned,
    with_hold,
};
use leasehold_protocol::attempt::AttemptId;
use leasehold_protocol::record::{RECORD_VERSION, Seen};
use leasehold_protocol::slot_write::{Entry, Given, Next, Over, SlotWrite};
use leasehold_protocol::slots::Slot;
use leasehold_protocol::write::Left;

/// The limit is ours, or the record is out of use.
pub(super) const HAS_LIMIT: &str =
    "(#limit = :limit OR (size(#slots) = :zero AND attribute_not_exists(#queue[0])))";

pub(super) fn update(write: &SlotWrite) -> Expression {
    match write {
        SlotWrite::Enter(entry) => enter(entry),
        SlotWrite::Extend {
            slot, ttl_seconds, ..
        } => {
            let extended = Expression::new("SET #slots.#me = :entry, #ttl = :ttl", "")
                .names(&[SLOTS, TTL])
                .number(":ttl", ttl_seconds)
                .entry(":entry", slot);
            of_token(extended, slot.attempt, Some((slot.token, Some(slot))))
        }
        SlotWrite::Exit {
            attempt,
            token,
            ttl_seconds,
            held,
            next,
            ..
        } => {
            let mut exit = Expression::new("", "");
            if let (Some(ttl), Next::Nobody(_) | Next::Others) = (ttl_seconds, next) {
                exit = exit.sets("#ttl = :ttl").names(&[TTL]).number(":ttl", ttl);
            }
            exit = with_hold(exit.names(&[SLOTS]), *held);
            exit = of_token(exit, *attempt, token.map(|token| (token, None)));
            match next {
                Next::Nobody(passed) => {
                    let end = format!(" AND attribute_not_exists(#queue[{}])", passed.len());
                    exit = exit.names(&[QUEUE]).begins_with(passed).and(&end);
                    exit.removes(&["#slots.#me"], passed.len())
                }
                Next::Others => {
                    exit = exit.number(":one", 1).and(" AND size(#slots) > :one");
                    exit.removes(&["#slots.#me"], 0)
                }
                Next::Slots(given) => {
                    let room = i64::from(given.limit) + 1 - number_of(given);
                    for (index, slot) in given.slots().enumerate() {
                        let (name, value) = (format!("#next{index}"), format!(":next{index}"));
                        exit = exit.sets(&format!("#slots.{name} = {value}"));
                        exit = exit.and(&format!(" AND attribute_not_exists(#slots.{name})"));
                        exit = exit.entry_name(&name, slot.attempt).entry(&value, &slot);
                    }
                    exit = exit.number(":room", room).and(" AND size(#slots) <= :room");
                    given_to(exit, given, &["#slots.#me"])
                }
                Next::Whole(place, given) => {
                    let places: Vec<_> = given.passed.iter().chain([place]).copied().collect();
                    handed_over(
                        exit,
                        place,
                        given.expires_at,
                        given.ttl_seconds,
                        given.acquired_at,
                    )
                    .names(&[QUEUE])
                    .and(" AND size(#slots) = :one")
                    .begins_with(&places)
                    .removes(&["#slots.#me", "#holder"], places.len())
                }
            }
        }
        SlotWrite::Open {
            attempt,
            token,
            held,
            left,
            given,
            ..
        } => {
            let entries = given
                .slots()
                .map(|slot| (slot.attempt.digits(), entry_value(&slot)));
            let opened = Expression::new("SET #slots = :slots, #expires = :zero", "")
                .names(&[SLOTS, EXPIRES])
                .map(":slots", entries.collect())
                .number(":zero", 0)
                .number(":number", number_of(given));
            let opened = owned(with_hold(opened, *held), attempt, *token);
            let opened = opened.and(" AND attribute_exists(#slots) AND #limit >= :number");
            match left {
                Left::Nothing => given_to(opened.names(&[DATA]), given, &["#client", "#data"]),
                Left::AsItIs => given_to(opened, given, &["#client"]),
                Left::Payload(data) => given_to(opened.data(data), given, &["#client"]),
            }
        }
        SlotWrite::Claim(grant, places) => {
            let waits = if places.is_empty() { NO_QUEUE } else { "" };
            let condition = format!("{FREE} AND {NO_SLOTS}{}{waits}", lasts(grant));
            granted(grant, None, &condition, places, false).names(&[SLOTS, QUEUE])
        }
        SlotWrite::Evict { slot, .. } => {
            Expression::new("REMOVE #slots.#over", "#slots.#over = :over")
                .names(&[SLOTS])
                .entry_name("#over", slot.attempt)
                .entry(":over", slot)
        }
    }
}

fn enter(entry: &Entry) -> Expression {
    let (slot, grant) = (entry.slot(), &entry.grant);
    let mut gone = Vec::new();
    let mut enter = match entry.first {
        true => Expression::new(
            "SET #slots = :slots, #version = :version, #lease = if_not_exists(#lease, :zero), \
             #count = if_not_exists(#count, :zero)",
            "attribute_not_exists(#slots) AND (attribute_not_exists(#key) OR #version = :version) \
             AND (attribute_not_exists(#token) OR #token < :token)",
        )
        .map(
            ":slots",
            [(slot.attempt.digits(), entry_value(&slot))].into(),
        )
        .names(&[VERSION, LEASE, COUNT, KEY])
        .number(":version", RECORD_VERSION)
        .number(":zero", 0),
        false => {
            let room = match entry.over {
                Some(Over::Slot(_) | Over::Adopted(_)) => "<=",
                _ => "<",
            };
            let condition = format!(
                "attribute_exists(#slots) AND attribute_not_exists(#slots.#me) AND #token < :token AND {HAS_LIMIT} AND size(#slots) {room} :limit"
            );
            Expression::new("SET #slots.#me = :entry", &condition)
                .entry_name("#me", slot.attempt)
                .entry(":entry", &slot)
                .number(":zero", 0)
                .names(&[QUEUE])
        }
    };
    enter = enter
        .sets("#limit = :limit")
        .sets("#token = :token")
        .sets("#ttl = :ttl")
        .names(&[SLOTS, LIMIT, TOKEN, TTL, CLIENT])
        .number(":limit", entry.limit)
        .number(":token", entry.token)
        .number(":ttl", grant.ttl_seconds);
    enter = forced(enter, grant);
    enter = match &entry.over {
        Some(Over::Whole(seen)) => {
            gone.extend(["#client", "#done"]);
            if seen.is_done() {
                gone.push("#data");
                enter = enter.names(&[DATA]);
            }
            enter = enter.sets("#expires = :zero").names(&[EXPIRES, DONE]);
            match seen {
                Seen::Native {
                    owner,
                    token,
                    renew_count,
                } => enter
                    .and(" AND #client = :seen_client AND #token = :seen_token AND #count = :seen_count")
                    .names(&[COUNT])
                    .text(":seen_client", owner)
                    .number(":seen_token", token)
                    .number(":seen_count", renew_count),
                // Its clients know nothing of slots.
                Seen::Foreign { owner, .. } => enter
                    .and(" AND #client = :seen_client AND attribute_exists(#version) AND attribute_not_exists(#version)")
                    .names(&[VERSION])
                    .text(":seen_client", owner),
            }
        }
        over => {
            if entry.first {
                enter = enter
                    .sets("#expires = if_not_exists(#expires, :zero)")
                    .names(&[EXPIRES]);
            }
            if let Some(Over::Slot(over) | Over::Adopted(over)) = over {
                gone.push("#slots.#over");
                enter = enter.and(" AND #slots.#over = :over");
                enter = enter.entry_name("#over", over.attempt).entry(":over", over);
            }
            enter.and(" AND attribute_not_exists(#client)")
        }
    };
    let adopts = matches!(entry.over, Some(Over::Adopted(_)));
    if entry.places.is_empty() && !adopts {
        enter = enter.and(NO_QUEUE).names(&[QUEUE]);
    }
    enter
        .begins_with(&entry.places)
        .removes(&gone, entry.places.len())
}

fn number_of(given: &Given) -> i64 {
    i64::try_from(given.places.len()).unwrap_or(i64::MAX)
}

/// That the entry of this attempt has this token, and an earlier expiry than this one; without a token, that there
/// is one.
fn of_token(
    expression: Expression,
    attempt: AttemptId,
    token: Option<(u64, Option<&Slot>)>,
) -> Expression {
    let expression = expression.entry_name("#me", attempt);
    let Some((token, before)) = token else {
        return expression.and("attribute_exists(#slots.#me)");
    };
    let (low, high) = Slot::stored_before(token, before.map(|slot| slot.expires_at));
    expression
        .and("#slots.#me >= :low AND #slots.#me < :high")
        .bytes(":low", low)
        .bytes(":high", high)
}

/// That this attempt holds a slot with this token.
pub(super) fn held(attempt: AttemptId, token: u64) -> Expression {
    let held = Expression::new("", "").names(&[SLOTS]);
    of_token(held, attempt, Some((token, None)))
}

/// Places get slots.
fn given_to(expression: Expression, given: &Given, gone: &[&str]) -> Expression {
    let places: Vec<_> = given.passed.iter().chain(&given.places).copied().collect();
    expression
        .sets("#token = :last")
        .sets("#ttl = :ttl")
        .names(&[TOKEN, TTL, LIMIT, QUEUE])
        .number(":last", given.last_token())
        .number(":first", given.token)
        .number(":ttl", given.ttl_seconds)
        .number(":limit", given.limit)
        .and(" AND #token < :first AND #limit = :limit")
        .begins_with(&places)
        .removes(gone, places.len())
}
