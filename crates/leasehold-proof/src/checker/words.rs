//! Steps in plain words, for the traces of counterexamples.

use leasehold_protocol::queue::Place;
use leasehold_protocol::record::Record;
use leasehold_protocol::time::{ServiceTime, Stamp};
use leasehold_protocol::write::Write;

use super::client::Client;
use super::message::{Ask, Author, Message, Outcome};
use super::order::author_of;
use super::phase::{Choice, Lost, Phase};
use super::shape::Shape;
use super::states::State;
use super::world::{Action, Process, World};

/// What happened between two states.
pub(super) fn describe(world: &World, from: &State, action: Action, to: &State) -> Vec<String> {
    let shape = &world.shape;
    let line = match action {
        Action::Tick { missed } => {
            let at = millis(i64::from(to.time) * i64::from(shape.tick_ms));
            match missed {
                None => format!("time passes, it is {at}"),
                Some(client) => format!(
                    "time passes, it is {at}; the elapsed clock of {} has not counted it",
                    name(client)
                ),
            }
        }
        Action::Delete => "the service deletes the record, its TTL is over".to_owned(),
        Action::Choose { client, choice } => format!("{} {}", name(client), chosen(choice)),
        Action::Delay { message } => match &*world.message_of(message) {
            Message::Request(request) => format!(
                "  the network keeps it for later: {}",
                asked(&request.ask, shape)
            ),
            Message::Answer(_) => "  the network keeps the answer for later".to_owned(),
        },
        Action::Take { message } => match &*world.message_of(message) {
            Message::Answer(answer) => format!(
                "{} takes the answer: {}, {}",
                name(usize::from(answer.process)),
                outcome(&answer.outcome, shape),
                stamp(answer.stamp, shape)
            ),
            Message::Request(_) => String::new(),
        },
        Action::Serve { message, again } => match &*world.message_of(message) {
            Message::Request(request) => {
                let changed =
                    if from.stored == to.stored && !matches!(request.ask, Ask::Read { .. }) {
                        "refuses"
                    } else {
                        "carries out"
                    };
                let by = name(usize::from(request.author.process));
                let what = asked(&request.ask, shape);
                let again = if again { ", and will do so again" } else { "" };
                match request.ask {
                    Ask::Register { .. } => format!("the register gets {what} of {by}"),
                    _ => format!("the service {changed} {what} of {by}{again}"),
                }
            }
            Message::Answer(_) => String::new(),
        },
    };
    let mut lines = vec![line];
    for client in 0..shape.clients.len() {
        let (before, after) = (world.process_of(from, client), world.process_of(to, client));
        if let Some(change) = changed(&before, &after, shape) {
            lines.push(format!("  {} {change}", name(client)));
        }
    }
    lines
}

fn name(client: usize) -> String {
    ["A", "B", "C"]
        .get(client)
        .copied()
        .unwrap_or("?")
        .to_owned()
}

/// The call that a place belongs to.
fn caller(place: &Place) -> String {
    let Author { process, attempt } = author_of(place);
    format!("call {attempt:02} of {}", name(usize::from(process)))
}

fn millis(ms: i64) -> String {
    format!("{}.{:03} s", ms.div_euclid(1_000), ms.rem_euclid(1_000))
}

/// A service time, counted from tick 0.
fn clock(time: ServiceTime, shape: &Shape) -> String {
    match time.0 {
        0 => "0".to_owned(),
        ms => millis(ms - shape.service_ms(0)),
    }
}

fn chosen(choice: Choice) -> &'static str {
    match choice {
        Choice::Start => "calls acquire and sends its first request",
        Choice::Send => "sends a request",
        Choice::Poll => "sends a read",
        Choice::PollStrong => "sends a strongly consistent read",
        Choice::Join => "asks for a place in the queue",
        Choice::GiveUp => "gives up waiting",
        Choice::GiveBack => "gives back what may have landed",
        Choice::Renew => "sends a renewal",
        Choice::Release => "lets go and sends a release",
        Choice::Complete => "has done its work and sends a completion",
        Choice::Work => "sends a write to the register",
        Choice::Crash => "crashes and starts again",
        Choice::WallForward => "has its wall clock set forward",
        Choice::WallBack => "has its wall clock set back",
    }
}

fn asked(ask: &Ask, shape: &Shape) -> String {
    match ask {
        Ask::Read { strong: false } => "a read".to_owned(),
        Ask::Read { strong: true } => "a strongly consistent read".to_owned(),
        Ask::Put {
            now_ms, expires_ms, ..
        } => format!(
            "PutItem (now {}, expiry {})",
            clock(ServiceTime(*now_ms), shape),
            clock(ServiceTime(*expires_ms), shape)
        ),
        Ask::Delete { .. } => "DeleteItem".to_owned(),
        Ask::Register { token, .. } => format!("a write with token {token}"),
        Ask::Write { write, .. } => match write {
            Write::Acquire(grant) => format!("an acquire (P {})", clock(grant.expires_at, shape)),
            Write::TakeOver(grant, ..) => {
                format!("a take-over (P {})", clock(grant.expires_at, shape))
            }
            Write::Renew { expires_at, .. } => {
                format!("a renewal (P {})", clock(*expires_at, shape))
            }
            Write::Release { .. } => "a release".to_owned(),
            Write::HandOver {
                next, expires_at, ..
            } => format!(
                "a hand-over to {} (P {})",
                caller(next),
                clock(*expires_at, shape)
            ),
            Write::Join { .. } => "a join".to_owned(),
            Write::Leave { index, .. } => format!("a request to leave place {index}"),
            Write::Complete(work) => format!("a completion (P {})", clock(work.until, shape)),
            Write::Withdraw { .. } => "a withdrawal".to_owned(),
            Write::Slot(write) => write.operation().to_string(),
        },
    }
}

fn record(record: Option<&Record>, shape: &Shape) -> String {
    match record {
        None => "no record".to_owned(),
        Some(r) => {
            let owner = match &r.owner {
                None => "released".to_owned(),
                Some(owner) if owner.starts_with('f') && r.native.is_none() => {
                    format!("held by {owner}")
                }
                Some(owner) => {
                    let process = owner.get(..2).and_then(|s| s.parse::<usize>().ok());
                    let attempt = owner.get(2..4).unwrap_or("?");
                    let process = process.unwrap_or(9).wrapping_sub(1);
                    let state = if r.done.is_some() { "done" } else { "held" };
                    format!("{state} by call {attempt} of {}", name(process))
                }
            };
            let token = r
                .token()
                .map_or("no token".to_owned(), |t| format!("token {t}"));
            let queue: Vec<String> = r.queue.iter().map(caller).collect();
            let queue = match queue.is_empty() {
                true => String::new(),
                false => format!(", waiting: {}", queue.join(", ")),
            };
            format!("{owner}, P {}, {token}{queue}", clock(r.expires_at, shape))
        }
    }
}

fn outcome(outcome: &Outcome, shape: &Shape) -> String {
    match outcome {
        Outcome::Applied(r) => format!("applied ({})", record(r.as_ref(), shape)),
        Outcome::Refused(r) => format!("refused ({})", record(r.as_ref(), shape)),
        Outcome::Read(r) => format!("it reads ({})", record(r.as_ref(), shape)),
    }
}

fn stamp(stamp: Option<Stamp>, shape: &Shape) -> String {
    let Some(stamp) = stamp else {
        return "without a date".to_owned();
    };
    match stamp {
        Stamp::Exact(time) | Stamp::Host(time) => format!("stamped {}", clock(time, shape)),
        Stamp::WholeSeconds(s) => {
            format!(
                "dated {}",
                clock(ServiceTime(s.saturating_mul(1_000)), shape)
            )
        }
    }
}

/// The change of a client by a step, if it needs a line.
fn changed(before: &Process, after: &Process, shape: &Shape) -> Option<String> {
    let (Process::Ours(before), Process::Ours(after)) = (before, after) else {
        return None;
    };
    let holding = |client: &Client| match &client.phase {
        Phase::Holding {
            kept, lost, token, ..
        } => Some((kept.deadline().at, *lost, *token)),
        _ => None,
    };
    match (holding(before), holding(after)) {
        (None, Some((deadline, _, token))) => {
            let start = shape.reading(after.index, 0, 0, 0).elapsed;
            let until = deadline.since(start).as_millis();
            Some(format!(
                "holds with token {token}, until {} by its elapsed clock",
                millis(i64::try_from(until).unwrap_or(i64::MAX))
            ))
        }
        (Some((_, Lost::No, _)), Some((_, Lost::Expired | Lost::Ended, _))) => {
            Some("is told that its lease is lost".to_owned())
        }
        (Some((_, Lost::Expired | Lost::Ended, _)), Some((_, Lost::No, _))) => {
            Some("is told that it holds after all".to_owned())
        }
        _ => None,
    }
}
