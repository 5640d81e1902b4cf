//! What goes wrong between one process and DynamoDB: a rule for the proxy, seeded and counted.
//!
//! Each process of a fleet has a proxy and a rule of its own, so that one can be cut off alone. A kind
//! is counted when it has really happened, not when it was planned.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use async_trait::async_trait;
use aws_sdk_dynamodb::primitives::{DateTime, DateTimeFormat};
use leasehold::clock::{Clock, SystemClock};
use leasehold_proxy::{Message, Reply, Rule, Service};

use super::dice::Dice;
use super::event::now;
use super::wall::pause;

/// How long nothing is heard before the connection ends. Longer than any lease here renews for.
const SILENCE: Duration = Duration::from_secs(4);

/// One kind of fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fault {
    /// The request is lost; nothing is heard.
    DropRequest,
    /// The request is applied, and its answer is lost; nothing is heard.
    DropAnswer,
    /// The request reaches the service late, perhaps after a second try, perhaps after its lease.
    DelayRequest,
    /// The answer comes late.
    DelayAnswer,
    /// The connection is reset before the request reaches the service.
    ResetBefore,
    /// The connection is reset after the request was applied.
    ResetAfter,
    /// 500, nothing applied.
    ErrorBefore,
    /// 500, although it was applied.
    ErrorAfter,
    /// The service throttles: nothing applied.
    Throttle,
    /// `TransactionConflictException`: nothing applied.
    Conflict,
    /// The service applies the request twice, the second time late.
    Duplicate,
    /// The process is cut off for some seconds: requests are lost.
    Partition,
}

impl Fault {
    /// All of them, in the order of the table.
    pub(super) const ALL: [Fault; 12] = [
        Fault::DropRequest,
        Fault::DropAnswer,
        Fault::DelayRequest,
        Fault::DelayAnswer,
        Fault::ResetBefore,
        Fault::ResetAfter,
        Fault::ErrorBefore,
        Fault::ErrorAfter,
        Fault::Throttle,
        Fault::Conflict,
        Fault::Duplicate,
        Fault::Partition,
    ];

    /// As the table has it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Fault::DropRequest => "request lost",
            Fault::DropAnswer => "answer lost after apply",
            Fault::DelayRequest => "request delayed",
            Fault::DelayAnswer => "answer delayed",
            Fault::ResetBefore => "reset before apply",
            Fault::ResetAfter => "reset after apply",
            Fault::ErrorBefore => "500 before apply",
            Fault::ErrorAfter => "500 after apply",
            Fault::Throttle => "throttled",
            Fault::Conflict => "transaction conflict",
            Fault::Duplicate => "applied twice",
            Fault::Partition => "lost in a partition",
        }
    }
}

/// How often each kind has happened, over all processes of a fleet.
#[derive(Debug, Default)]
pub(super) struct Counts {
    kinds: [AtomicU64; Fault::ALL.len()],
    requests: AtomicU64,
}

impl Counts {
    fn add(&self, fault: Fault) {
        self.kinds[fault as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn of(&self, fault: Fault) -> u64 {
        self.kinds[fault as usize].load(Ordering::Relaxed)
    }

    /// All requests, with and without faults.
    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }
}

/// The rule of one process.
#[derive(Debug)]
pub(super) struct Faults {
    dice: Mutex<Dice>,
    counts: Arc<Counts>,
    cut_off_until: AtomicU64,
}

impl Faults {
    /// About one request in `1000 / permille` is hit.
    const PERMILLE: u64 = 220;

    pub(super) fn new(dice: Dice, counts: Arc<Counts>) -> Faults {
        Faults {
            dice: Mutex::new(dice),
            counts,
            cut_off_until: AtomicU64::new(0),
        }
    }

    /// Loses everything from now on, for this long.
    pub(super) fn cut_off(&self, length: Duration) {
        let until = now() + u64::try_from(length.as_nanos()).unwrap_or(u64::MAX);
        self.cut_off_until.store(until, Ordering::Relaxed);
    }

    fn plan(&self) -> (Option<Fault>, Duration) {
        if now() < self.cut_off_until.load(Ordering::Relaxed) {
            return (Some(Fault::Partition), Duration::ZERO);
        }
        // A panic under this mutex leaves a valid generator.
        let mut dice = self.dice.lock().unwrap_or_else(PoisonError::into_inner);
        let delay = dice.millis(50, 3000);
        // The last kind is a partition, which is not for single requests.
        let kinds = &Fault::ALL[..Fault::ALL.len() - 1];
        let fault = dice.permille(Self::PERMILLE).then(|| *dice.pick(kinds));
        (fault, delay)
    }
}

#[async_trait]
impl Rule for Faults {
    async fn carry(&self, request: Message, service: &mut Service) -> Result<Reply> {
        self.counts.requests.fetch_add(1, Ordering::Relaxed);
        let (fault, delay) = self.plan();
        let Some(fault) = fault else {
            return Ok(reply(service.ask(&request).await?));
        };
        let answer = match fault {
            Fault::DropRequest | Fault::Partition => {
                self.counts.add(fault);
                pause(SILENCE).await;
                return Ok(Reply::Close);
            }
            Fault::DropAnswer => {
                service.ask(&request).await?;
                self.counts.add(fault);
                pause(SILENCE).await;
                return Ok(Reply::Close);
            }
            Fault::DelayRequest => {
                pause(delay).await;
                reply(service.ask(&request).await?)
            }
            Fault::DelayAnswer => {
                let answer = service.ask(&request).await?;
                pause(delay).await;
                reply(answer)
            }
            Fault::ResetBefore => Reply::Reset,
            Fault::ResetAfter => {
                service.ask(&request).await?;
                Reply::Reset
            }
            Fault::ErrorBefore => error(500, "InternalServerError"),
            Fault::ErrorAfter => {
                service.ask(&request).await?;
                error(500, "InternalServerError")
            }
            // Both are how DynamoDB throttles, by the mode of the table.
            Fault::Throttle if delay.subsec_millis() % 2 == 0 => error(400, "ThrottlingException"),
            Fault::Throttle => error(400, "ProvisionedThroughputExceededException"),
            Fault::Conflict => error(400, "TransactionConflictException"),
            Fault::Duplicate => {
                let answer = service.ask(&request).await?;
                pause(delay).await;
                service.ask(&request).await?;
                reply(answer)
            }
        };
        self.counts.add(fault);
        Ok(answer)
    }
}

fn reply(answer: Option<Message>) -> Reply {
    answer.map_or(Reply::Close, Reply::Answer)
}

/// An error like the service's, with its clock, which on this machine is the same.
fn error(status: u16, code: &str) -> Reply {
    let seconds = SystemClock.wall_unix_ms().div_euclid(1000);
    let date = DateTime::from_secs(seconds).fmt(DateTimeFormat::HttpDate);
    let body = format!(
        r#"{{"__type":"com.amazonaws.dynamodb.v20120810#{code}","message":"made up by the chaos proxy"}}"#
    );
    let mut headers = vec![
        ("Content-Type", "application/x-amz-json-1.0"),
        ("x-amzn-RequestId", "chaos"),
    ];
    if let Ok(date) = &date {
        headers.push(("Date", date));
    }
    Reply::Answer(Message::answer(status, &headers, body.into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_counted_where_they_belong() {
        for (place, fault) in Fault::ALL.into_iter().enumerate() {
            assert_eq!(fault as usize, place);
        }
    }

    #[test]
    fn a_seed_plans_every_kind_and_repeats_itself() {
        let plans = |seed| {
            let rule = Faults::new(Dice::new(seed, 1), Arc::default());
            (0..1000).map(|_| rule.plan()).collect::<Vec<_>>()
        };
        assert_eq!(plans(1), plans(1));
        assert_ne!(plans(1), plans(2));
        let planned: Vec<Fault> = plans(1).into_iter().filter_map(|plan| plan.0).collect();
        assert!((150..300).contains(&planned.len()), "{}", planned.len());
        for fault in &Fault::ALL[..11] {
            assert!(planned.contains(fault), "{fault:?}");
        }
    }

    #[test]
    fn a_process_that_is_cut_off_loses_everything() {
        let rule = Faults::new(Dice::new(1, 1), Arc::default());
        rule.cut_off(Duration::from_secs(3600));
        assert!((0..100).all(|_| rule.plan().0 == Some(Fault::Partition)));
    }
}
