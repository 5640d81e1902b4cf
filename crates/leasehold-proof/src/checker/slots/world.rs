//! The record, the clients, and what is in flight; and every next step.

use leasehold_protocol::lens::Want;
use leasehold_protocol::record::{Native, Record, State as RecordState};
use leasehold_protocol::slot_write::{Next as After, Over, SlotWrite};
use leasehold_protocol::slots::{MOST, Slots};
use leasehold_protocol::write::{ConditionFailed, Write, apply};

use super::client::{Client, LEASE, Phase, Step};
use super::numbers::Numbers;
use super::variants::{Broken, Case};

/// Milliseconds of a tick. A claim is one tick, a lease four.
const TICK: u64 = 5_500;

/// Parts by their numbers.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct State {
    time: u8,
    record: u32,
    /// The record before, where reads may show it.
    before: u32,
    clients: Vec<u32>,
    /// Requests that may still arrive.
    late: Vec<u32>,
    faults: u8,
    deaths: u8,
}

#[derive(Debug)]
pub(super) struct World {
    case: Case,
    records: Numbers<Option<Record>>,
    clients: Numbers<Client>,
    writes: Numbers<Write>,
}

/// What becomes of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Prompt,
    /// Carried out, and the answer is lost.
    Silent,
    /// Carried out later, without an answer.
    Late,
    /// Answered, and carried out once more later.
    Twice,
}

impl World {
    pub(super) fn new(case: &Case) -> World {
        World {
            case: case.clone(),
            records: Numbers::new(),
            clients: Numbers::new(),
            writes: Numbers::new(),
        }
    }

    pub(super) fn beginning(&mut self) -> State {
        let case = self.case.clone();
        let first = self.records.number(case.used.then(|| used(case.limit())));
        let clients = case.wants.iter().zip(0..);
        let clients =
            clients.map(|(want, index)| self.clients.number(Client::new(index, *want, &case)));
        State {
            clients: clients.collect(),
            time: 0,
            record: first,
            before: first,
            late: Vec::new(),
            faults: case.faults,
            deaths: case.deaths,
        }
    }

    fn ms(time: u8) -> u64 {
        u64::from(time) * TICK
    }

    /// What is wrong with a state.
    pub(super) fn judge(&self, state: &State) -> Option<String> {
        let ms = Self::ms(state.time);
        let clients = state
            .clients
            .iter()
            .map(|client| self.clients.value(*client));
        let holds: Vec<Want> = clients
            .filter(|client| client.believes(ms))
            .map(|client| client.want)
            .collect();
        let limit = holds.iter().filter_map(|want| want.limit()).min();
        let limit = usize::try_from(limit.unwrap_or(1)).unwrap_or(usize::MAX);
        let beside = holds.contains(&Want::Whole) && holds.len() > 1;
        if beside || holds.len() > limit {
            return Some(format!("S8: these hold at once: {holds:?}"));
        }
        let record = self.records.value(state.record).as_ref()?;
        let slots = record.slots.as_ref()?;
        let most = usize::try_from(slots.limit).unwrap_or(usize::MAX);
        let odd = slots.held.len() > most || record.owner.is_some() && !slots.held.is_empty();
        odd.then(|| format!("S8: the record says: {}", words(Some(record))))
    }

    pub(super) fn successors(&mut self, state: &State) -> Vec<(String, State)> {
        let mut all = Vec::new();
        if state.time < self.case.ticks {
            let mut next = state.clone();
            next.time += 1;
            for client in &mut next.clients {
                let mut ticked = self.clients.value(*client).clone();
                ticked.tick(Self::ms(next.time));
                *client = self.clients.number(ticked);
            }
            all.push(("a tick passes".to_owned(), next));
        }
        for at in 0..state.late.len() {
            let mut next = state.clone();
            let write = self.writes.value(next.late.remove(at)).clone();
            let (record, _) = self.carry_out(state.record, &write);
            self.changes(&mut next, record);
            all.push((format!("a late {} arrives", write.operation()), next));
        }
        for index in 0..state.clients.len() {
            for step in [
                Step::Poll,
                Step::Ask,
                Step::Join,
                Step::Renew,
                Step::End,
                Step::Die,
            ] {
                self.step(state, index, step, &mut all);
            }
        }
        all
    }

    fn step(&mut self, state: &State, index: usize, step: Step, all: &mut Vec<(String, State)>) {
        let client = self.clients.value(state.clients[index]).clone();
        let ms = Self::ms(state.time);
        let mut next = state.clone();
        match step {
            Step::Die => {
                if state.deaths == 0 || matches!(client.phase, Phase::Gone) {
                    return;
                }
                next.deaths -= 1;
                let gone = Client {
                    phase: Phase::Gone,
                    left: 0,
                    ..client
                };
                next.clients[index] = self.clients.number(gone);
                all.push((format!("client {index} dies"), next));
            }
            Step::Poll => {
                if !matches!(client.phase, Phase::Contends { .. }) || client.polls == 0 {
                    return;
                }
                for read in [state.record, state.before] {
                    let (mut client, mut next) = (client.clone(), next.clone());
                    client.polls -= 1;
                    let record = self.records.value(read).clone();
                    client.sees(step, record.as_ref(), None, ms);
                    let told = format!("client {index} reads {}", words(record.as_ref()));
                    next.clients[index] = self.clients.number(client);
                    all.push((told, next));
                    if state.before == state.record {
                        break;
                    }
                }
            }
            Step::Ask | Step::Join | Step::Renew | Step::End => {
                let mut sender = client;
                let Some(write) = sender.write(step, ms) else {
                    return;
                };
                let fates = [Fate::Prompt, Fate::Silent, Fate::Late, Fate::Twice];
                let fates = fates.into_iter().take(if state.faults > 0 { 4 } else { 1 });
                for fate in fates {
                    let mut next = state.clone();
                    let mut client = sender.clone();
                    next.faults -= u8::from(fate != Fate::Prompt);
                    let mut applied = None;
                    if fate != Fate::Late {
                        let (record, landed) = self.carry_out(state.record, &write);
                        self.changes(&mut next, record);
                        applied = Some(landed);
                    }
                    if matches!(fate, Fate::Late | Fate::Twice) {
                        next.late.push(self.writes.number(write.clone()));
                        next.late.sort_unstable();
                    }
                    if let (Fate::Prompt | Fate::Twice, Some(applied)) = (fate, applied) {
                        let record = self.records.value(next.record).clone();
                        client.sees(step, record.as_ref(), Some(applied), ms);
                    }
                    next.clients[index] = self.clients.number(client);
                    let told = format!(
                        "client {index} sends {} ({fate:?}, applied: {applied:?}): {}",
                        write.operation(),
                        words(self.records.value(next.record).as_ref())
                    );
                    all.push((told, next));
                }
            }
        }
    }

    fn changes(&self, state: &mut State, record: u32) {
        if self.case.old_reads && record != state.record {
            state.before = state.record;
        }
        state.record = record;
        if !self.case.old_reads {
            state.before = record;
        }
    }

    /// The record after a write, and whether it was applied.
    fn carry_out(&mut self, record: u32, write: &Write) -> (u32, bool) {
        let before = self.records.value(record).clone();
        match carried_out(before, write, self.case.broken) {
            Ok(after) => (self.records.number(after), true),
            Err(ConditionFailed) => (record, false),
        }
    }
}

/// [`apply`], or without one of its rules.
fn carried_out(
    before: Option<Record>,
    write: &Write,
    broken: Option<Broken>,
) -> Result<Option<Record>, ConditionFailed> {
    let mut write = write.clone();
    let Some(mut record) = before else {
        return apply(None, &write);
    };
    let mut aside = Vec::new();
    if let (Some(broken), Some(slots)) = (broken, &mut record.slots) {
        match (broken, &mut write) {
            (Broken::NoSize, Write::Slot(SlotWrite::Enter(entry))) => {
                aside.clone_from(&slots.held);
                if let Some(Over::Slot(_) | Over::Adopted(_)) = entry.over {
                    aside.clear();
                } else {
                    slots.held.clear();
                }
            }
            (Broken::NotExclusive, Write::Acquire(_) | Write::Slot(SlotWrite::Claim(..))) => {
                aside.append(&mut slots.held);
            }
            (Broken::OverBlind, Write::Slot(SlotWrite::Enter(entry))) => {
                if let Some(Over::Slot(over) | Over::Adopted(over)) = &mut entry.over
                    && let Some(now) = slots.of(over.attempt)
                {
                    over.clone_from(now);
                }
            }
            (Broken::OverBlind, Write::Slot(SlotWrite::Evict { slot, .. })) => {
                if let Some(now) = slots.of(slot.attempt) {
                    slot.clone_from(now);
                }
            }
            (Broken::RenewalRevives, Write::Slot(SlotWrite::Extend { slot, .. }))
                if slots.of(slot.attempt).is_none() =>
            {
                slots.held.push(slot.clone());
                return Ok(Some(record));
            }
            (Broken::LimitChanges, Write::Slot(SlotWrite::Enter(entry))) => {
                slots.limit = entry.limit;
            }
            (
                Broken::WholeBesideOthers,
                Write::Slot(SlotWrite::Exit {
                    attempt,
                    next: After::Others,
                    ..
                }),
            ) if matches!(record.queue.first(), Some(first) if !first.is_for_slot()) => {
                // As if it were the last: the whole key goes to the first place.
                slots.held.retain(|slot| slot.attempt != *attempt);
                let first = record.queue.remove(0);
                record.owner = Some(first.attempt().to_string());
                record.holder = None;
                record.expires_at = slots
                    .held
                    .first()
                    .map_or(record.expires_at, |slot| slot.expires_at);
                if let Some(native) = &mut record.native {
                    native.lease = first.lease();
                    native.token += 1;
                }
                return Ok(Some(record));
            }
            (
                Broken::GivenBeyondLimit,
                Write::Slot(SlotWrite::Exit {
                    next: After::Slots(given),
                    ..
                }),
            ) => {
                // Whoever waits gets a slot.
                let named = given.places.clone();
                let rest = record.queue.iter().skip(given.passed.len());
                given.places = rest.copied().filter(|place| place.is_for_slot()).collect();
                debug_assert!(given.places.starts_with(&named), "the first places");
                let limit = slots.limit;
                (slots.limit, given.limit) = (MOST, MOST);
                let mut after = apply(Some(&record), &write)?;
                if let Some(slots) = after.as_mut().and_then(|record| record.slots.as_mut()) {
                    slots.limit = limit;
                }
                return Ok(after);
            }
            _ => {}
        }
    }
    let mut after = apply(Some(&record), &write)?;
    if let Some(slots) = after.as_mut().and_then(|record| record.slots.as_mut())
        && !aside.is_empty()
    {
        aside.append(&mut slots.held);
        slots.held = aside;
    }
    Ok(after)
}

/// The record of a key whose slots were held before.
fn used(limit: u32) -> Record {
    Record {
        native: Some(Native {
            token: 1,
            lease: LEASE,
            renew_count: 1,
        }),
        slots: Some(Slots {
            limit,
            held: Vec::new(),
        }),
        ..Record::unused("k")
    }
}

fn words(record: Option<&Record>) -> String {
    let Some(record) = record else {
        return "no record".to_owned();
    };
    let whole = match record.state() {
        RecordState::Granted(_) => "the whole key is held",
        RecordState::Released => "free",
    };
    let slots = record.slots.as_ref().map_or(0, |slots| slots.held.len());
    format!("{whole}, {slots} slots, {} wait", record.queue.len())
}
