//! A log, its consumers and a subscription between them, driven step by step.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use proptest::prelude::*;

use super::judge::{History, Said, Seen, Verdict, Word};
use crate::{
    delivery::{
        Answer, Arrival, Backoff, ConsumerId, Credit, Delivery, Durable, Hold, LeaseId,
        NoLanePolicy, Note, Ordering, Outcome, ParkPolicy, ParkedState, SeekTarget, Settings,
        Subscription, entries::State, lane::Place,
    },
    model::{Identity, Position, Timestamp},
};

/// What happens next. Numbers choose among what there is.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Events are stored; each number says whom one is about, 0 that it does not match.
    Append(Vec<u8>),
    Feed(usize),
    Deliver(usize),
    Ack(usize),
    Nack(usize, Option<u16>),
    Park(usize),
    Skip(usize),
    Extend(usize, u16),
    KeepAlive(u8),
    /// An outcome of a lease that is not valid any more, if there is one.
    Late(usize),
    Wait(u16),
    Join(u8, bool),
    Leave(u8),
    Vanish(u8),
    Drain(u8),
    Credit(u8, u8),
    /// The server is killed.
    Kill,
    SeekAfter(u8),
    Save,
    SeekSaved,
    Replay(usize, bool),
    Discard(usize),
    Pause(bool),
    RaiseFloor,
}

/// The steps of ordinary days.
pub(super) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let index = 0..64_usize;
    let client = 0..5_u8;
    let step = prop_oneof![
        6 => prop::collection::vec(0..24_u8, 1..6).prop_map(Step::Append),
        6 => (1..10_usize).prop_map(Step::Feed),
        10 => (1..8_usize).prop_map(Step::Deliver),
        14 => index.clone().prop_map(Step::Ack),
        4 => (index.clone(), prop::option::of(0..3000_u16)).prop_map(|(a, b)| Step::Nack(a, b)),
        1 => index.clone().prop_map(Step::Park),
        1 => index.clone().prop_map(Step::Skip),
        1 => (index.clone(), 0..3000_u16).prop_map(|(a, b)| Step::Extend(a, b)),
        2 => client.clone().prop_map(Step::KeepAlive),
        2 => index.clone().prop_map(Step::Late),
        5 => (0..4000_u16).prop_map(Step::Wait),
        3 => (client.clone(), any::<bool>()).prop_map(|(a, b)| Step::Join(a, b)),
        1 => client.clone().prop_map(Step::Leave),
        1 => client.clone().prop_map(Step::Vanish),
        1 => client.clone().prop_map(Step::Drain),
        1 => (client, 0..5_u8).prop_map(|(a, b)| Step::Credit(a, b)),
        1 => Just(Step::Kill),
        1 => (index.clone(), any::<bool>()).prop_map(|(a, b)| Step::Replay(a, b)),
        1 => index.prop_map(Step::Discard),
        1 => any::<bool>().prop_map(Step::Pause),
        1 => Just(Step::RaiseFloor),
    ];
    prop::collection::vec(step, 1..160)
}

/// Those, and seeks.
pub(super) fn steps_and_seeks() -> impl Strategy<Value = Vec<Step>> {
    let seek = prop_oneof![
        2 => any::<u8>().prop_map(Step::SeekAfter),
        1 => Just(Step::Save),
        1 => Just(Step::SeekSaved),
    ];
    (steps(), prop::collection::vec((any::<prop::sample::Index>(), seek), 0..6)).prop_map(
        |(mut steps, seeks)| {
            for (at, seek) in seeks {
                steps.insert(at.index(steps.len()), seek);
            }
            steps
        },
    )
}

/// Settings of which every kind occurs.
pub(super) fn any_settings() -> impl Strategy<Value = Settings> {
    let ordering =
        prop_oneof![Just(Ordering::Unordered), Just(Ordering::PerIdentity), Just(Ordering::Total)];
    let no_lane = prop_oneof![
        Just(NoLanePolicy::Unordered),
        Just(NoLanePolicy::SingleLane),
        Just(NoLanePolicy::Park)
    ];
    let park =
        prop_oneof![Just(ParkPolicy::Skip), Just(ParkPolicy::Block), Just(ParkPolicy::Convoy)];
    (ordering, no_lane, park, 1..4_u32, 0..4_u32, 3..40_usize).prop_map(
        |(ordering, no_lane_policy, park_policy, per_lane, max_attempts, window_limit)| Settings {
            ordering,
            no_lane_policy,
            park_policy,
            max_in_flight_per_lane: per_lane,
            max_attempts,
            window_limit,
            ack_deadline: Duration::from_secs(2),
            backoff: Backoff { min: Duration::from_millis(500), max: Duration::from_secs(4) },
            quarantine_after: 3,
            ..Settings::default()
        },
    )
}

/// Ordered by identity, one event of a lane at a time, as by default.
pub(super) fn default_order() -> impl Strategy<Value = Settings> {
    any_settings().prop_map(|settings| Settings {
        ordering: Ordering::PerIdentity,
        max_in_flight_per_lane: 1,
        ..settings
    })
}

pub(super) struct Simulation {
    pub(super) machine: Subscription,
    /// What the notes alone come to.
    pub(super) kept: Durable,
    pub(super) now: Timestamp,
    /// The log: the lanes of each event; `None` does not match.
    pub(super) log: Vec<Option<Vec<Identity>>>,
    pub(super) history: History,
    /// Deliveries under way and since.
    pub(super) leases: Vec<Delivery>,
    pub(super) names: BTreeMap<ConsumerId, String>,
    instance: u64,
    /// By what the consumers were told.
    pub(super) done: BTreeSet<Position>,
    pub(super) floor_before: Position,
    saved: bool,
    /// Seeks went by.
    pub(super) sought: bool,
    /// What was kept when the history began.
    begun: Durable,
    /// Notes are kept now and then only: when the floor is raised, and before a kill.
    pub(super) lazy: bool,
}

impl Simulation {
    pub(super) fn new(settings: Settings) -> Self {
        let per_lane = match settings.ordering {
            Ordering::Unordered => usize::MAX,
            Ordering::PerIdentity | Ordering::Total => {
                usize::try_from(settings.max_in_flight_per_lane).unwrap()
            }
        };
        let mut machine = Subscription::restore(Durable::default(), settings, 7, Timestamp::EPOCH);
        let mut kept = Durable::default();
        machine.take_notes().into_iter().for_each(|it| kept.apply(it));
        machine.kept();
        let mut simulation = Self {
            machine,
            kept,
            now: Timestamp::from_micros(1_000_000),
            log: Vec::new(),
            history: History::default(),
            leases: Vec::new(),
            names: BTreeMap::new(),
            instance: 0,
            done: BTreeSet::new(),
            floor_before: Position::START,
            saved: false,
            sought: false,
            begun: Durable::default(),
            lazy: false,
        };
        simulation.history.per_lane = per_lane;
        simulation
    }

    /// Runs steps and looks at the promises after each.
    pub(super) fn run(&mut self, steps: Vec<Step>) {
        for step in steps {
            let shown = format!("{step:?}");
            let keeps = !self.lazy || matches!(step, Step::RaiseFloor);
            self.step(step);
            if keeps {
                self.keep_notes();
                self.check(&shown);
            }
            self.now = self.now.plus(Duration::from_micros(1));
        }
    }

    pub(super) fn step(&mut self, step: Step) {
        let now = self.now;
        match step {
            Step::Append(events) => {
                self.log.extend(events.into_iter().map(identities));
            }
            Step::Feed(count) => self.feed(count),
            Step::Deliver(most) => self.deliver(most),
            Step::Ack(at) => self.say(at, Outcome::Ack),
            Step::Nack(at, delay) => {
                let delay = delay.map(|ms| Duration::from_millis(u64::from(ms)));
                self.say(at, Outcome::Nack { delay, reason: "no".into() });
            }
            Step::Park(at) => self.say(at, Outcome::Park { reason: "look".into() }),
            Step::Skip(at) => self.say(at, Outcome::Skip { reason: "old".into() }),
            Step::Extend(at, ms) => {
                self.say(at, Outcome::Extend(Duration::from_millis(u64::from(ms))));
            }
            Step::KeepAlive(client) => self.keep_alive(client),
            Step::Late(at) => self.say_late(at),
            Step::Wait(ms) => {
                self.now = now.plus(Duration::from_millis(u64::from(ms)));
                self.machine.wake(self.now);
                self.machine.expire(self.now);
                self.machine.park_some(self.now, 4);
            }
            Step::Join(client, again) => self.join(client, again),
            Step::Leave(client) => {
                for (id, had) in self.of_client(client) {
                    self.machine.leave(id);
                    for it in had {
                        self.released(it);
                    }
                }
            }
            Step::Vanish(client) => {
                let ids: Vec<_> = self.of_client(client).into_iter().map(|it| it.0).collect();
                for id in ids {
                    self.machine.disconnect(id, now);
                }
            }
            Step::Drain(client) => {
                let ids: Vec<_> = self.of_client(client).into_iter().map(|it| it.0).collect();
                for id in ids {
                    self.machine.drain(id);
                }
            }
            Step::Credit(client, events) => {
                let credit = Credit { events: u32::from(events), bytes: 300 };
                let ids: Vec<_> = self.of_client(client).into_iter().map(|it| it.0).collect();
                for id in ids {
                    self.machine.set_credit(id, credit);
                }
            }
            Step::Kill => self.kill(),
            Step::SeekAfter(at) => {
                let at = u64::from(at) % (self.log.len() as u64 + 1);
                self.seek(&SeekTarget::After(Position::new(at)));
            }
            Step::Save => {
                self.machine.save(&"here".into(), now);
                self.saved = true;
            }
            Step::SeekSaved if self.saved => self.seek(&SeekTarget::Saved("here".into())),
            Step::SeekSaved => {
                assert!(!self.machine.seek(&SeekTarget::Saved("here".into()), now));
            }
            Step::Replay(at, reset) => {
                if let Some(position) = self.parked(at) {
                    self.machine.replay(position, reset);
                }
            }
            Step::Discard(at) => {
                if let Some(position) = self.parked(at)
                    && self.machine.discard(position)
                {
                    self.history.parked.insert(position.get());
                }
            }
            Step::Pause(paused) => self.machine.set_paused(paused),
            Step::RaiseFloor => self.machine.raise_floor(),
        }
    }

    fn feed(&mut self, count: usize) {
        for _ in 0..count.min(self.machine.room()) {
            let position = self.machine.scanned_to().next();
            let Some(event) = self.log.get(usize::try_from(position.get()).unwrap() - 1) else {
                return;
            };
            match event {
                Some(identities) => {
                    let bytes = 40 + 30 * u32::try_from(position.get() % 7).unwrap();
                    let digest = digest(position);
                    self.machine.enter(&Arrival { position, identities, bytes, digest });
                }
                None => self.machine.scanned(position),
            }
        }
    }

    pub(super) fn deliver(&mut self, most: usize) {
        for delivery in self.machine.deliver(self.now, most) {
            let position = delivery.lease.position;
            self.check_rests_on_what_is_kept(&delivery);
            self.history.seen.push(Seen {
                at: self.now.micros(),
                position: position.get(),
                consumer: format!("{}", delivery.consumer.0),
                epoch: delivery.lease.generation,
                attempt: delivery.total_attempts,
                deadline: delivery.deadline.micros(),
                replay: delivery.replay,
            });
            self.leases.push(delivery);
        }
    }

    fn valid(&self) -> Vec<Delivery> {
        self.leases.iter().filter(|it| self.machine.is_valid(it.lease)).cloned().collect()
    }

    fn say(&mut self, at: usize, outcome: Outcome) {
        let valid = self.valid();
        if valid.is_empty() {
            return;
        }
        let delivery = valid[at % valid.len()].clone();
        let (word, done) = match &outcome {
            Outcome::Ack => (Word::Ack, true),
            Outcome::Skip { .. } => (Word::Skip, true),
            Outcome::Nack { .. } => (Word::Nack, false),
            Outcome::Park { .. } => (Word::Park, false),
            Outcome::Extend(by) => (Word::Extend(self.now.plus(*by).micros()), false),
        };
        let answer = self.machine.apply(delivery.lease, outcome.clone(), self.now);
        assert!(!matches!(answer, Answer::Stale(_)), "{answer:?}");
        if !matches!(outcome, Outcome::Extend(_)) {
            let again = self.machine.apply(delivery.lease, outcome, self.now);
            assert_eq!(again, Answer::Done, "the same outcome again");
        }
        self.heard(&delivery, word, Verdict::Done);
        if done {
            self.done.insert(delivery.lease.position);
        }
    }

    /// Leases of one client end later, or as they would have; nothing else is different.
    fn keep_alive(&mut self, client: u8) {
        let before = self.machine.durable().clone();
        let deadline = |it: &Self, lease: &Delivery| {
            it.machine.entries.lease(lease.lease.position).map(|it| it.deadline)
        };
        let valid = self.valid();
        let ends: Vec<_> = valid.iter().map(|it| deadline(self, it)).collect();
        for (id, _) in self.of_client(client) {
            let reached = self.machine.consumers.get(id).unwrap().gone_since.is_none();
            self.machine.keep_alive(id, self.now);
            let renewed = self.now.plus(self.machine.settings().ack_deadline);
            for (delivery, end) in valid.iter().zip(&ends) {
                let now = deadline(self, delivery);
                if delivery.consumer == id && reached {
                    assert_eq!(now, Some(renewed).max(*end));
                    self.heard(delivery, Word::Extend(renewed.micros()), Verdict::Done);
                } else {
                    assert_eq!(now, *end, "a lease of somebody else, or of who is gone");
                }
            }
        }
        assert_eq!(valid, self.valid(), "leases are over, or valid again");
        assert_eq!(&before, self.machine.durable());
    }

    fn say_late(&mut self, at: usize) {
        let late: Vec<_> =
            self.leases.iter().filter(|it| !self.machine.is_valid(it.lease)).cloned().collect();
        if late.is_empty() {
            return;
        }
        let delivery = late[at % late.len()].clone();
        self.keep_notes();
        let before = self.machine.durable().clone();
        let was_acked = self.was_acked(delivery.lease);
        match self.machine.apply(delivery.lease, Outcome::Ack, self.now) {
            Answer::Done => assert!(was_acked, "an outcome that was not applied was taken"),
            Answer::Stale(_) => self.heard(&delivery, Word::Ack, Verdict::Stale),
            Answer::Extended(_) => unreachable!(),
        }
        assert_eq!(&before, self.machine.durable(), "a late outcome changed something");
        assert!(!self.machine.has_notes());
    }

    fn was_acked(&self, lease: LeaseId) -> bool {
        self.done.contains(&lease.position)
    }

    fn heard(&mut self, delivery: &Delivery, word: Word, result: Verdict) {
        self.history.said.push(Said {
            sent: self.now.micros(),
            position: delivery.lease.position.get(),
            epoch: delivery.lease.generation,
            attempt: delivery.total_attempts,
            word,
            result,
        });
    }

    fn released(&mut self, position: Position) {
        let last = self.leases.iter().rev().find(|it| it.lease.position == position).cloned();
        if let Some(delivery) = last {
            self.heard(&delivery, Word::Release, Verdict::Done);
        }
    }

    fn join(&mut self, client: u8, again: bool) {
        if !again {
            self.instance += 1;
        }
        let instance = if again { u64::from(client) } else { 100 + self.instance };
        let had: Vec<_> = self.of_client(client).into_iter().flat_map(|it| it.1).collect();
        let credit = Credit { events: 1 + u32::from(client), bytes: 400 };
        let name: Arc<str> = format!("c{client}").into();
        let joined = self.machine.join(&name, instance, credit, None, self.now).unwrap();
        self.names.insert(joined.consumer, name.to_string());
        if joined.replaced {
            for it in had {
                self.released(it);
            }
        }
    }

    /// A client's session and leases.
    fn of_client(&self, client: u8) -> Vec<(ConsumerId, Vec<Position>)> {
        let name = format!("c{client}");
        let consumers = self.machine.consumers.iter().filter(|(_, it)| *it.client_id == *name);
        consumers.map(|(id, it)| (id, it.leases.iter().copied().collect())).collect()
    }

    fn parked(&self, at: usize) -> Option<Position> {
        let parked: Vec<_> = self.kept.parked.keys().copied().collect();
        if parked.is_empty() { None } else { Some(parked[at % parked.len()]) }
    }

    /// Nothing is left but what was kept.
    pub(super) fn kill(&mut self) {
        self.keep_notes();
        let settings = self.machine.settings().clone();
        self.machine = Subscription::restore(self.kept.clone(), settings, 8, Timestamp::EPOCH);
    }

    fn seek(&mut self, target: &SeekTarget) {
        self.judge();
        assert!(self.machine.seek(target, self.now));
        self.keep_notes();
        self.sought = true;
        self.begun = self.kept.clone();
        self.floor_before = Position::START;
        // What came before is another story.
        self.done.retain(|it| self.kept.is_done(*it));
        let per_lane = self.history.per_lane;
        self.history = History { per_lane, ..History::default() };
    }

    pub(super) fn keep_notes(&mut self) {
        for note in self.machine.take_notes() {
            if let Note::Parked { position, .. } = &note {
                self.history.once_parked.insert(position.get());
            }
            if let Note::Discarded(position) = &note {
                self.history.parked.insert(position.get());
            }
            self.kept.apply(note);
        }
        self.machine.kept();
    }

    /// A crash now would not make this delivery one that should not have been.
    fn check_rests_on_what_is_kept(&self, delivery: &Delivery) {
        let LeaseId { position, generation, .. } = delivery.lease;
        assert_eq!(generation, self.kept.generation, "of {position}");
        let failed = self.kept.attempts(position).map_or(0, |it| it.count);
        assert_eq!(delivery.attempt, failed + 1, "of {position}");
        let lanes = |it: Position| {
            let event = self.log[usize::try_from(it.get()).unwrap() - 1].as_deref();
            event.map_or_else(Box::default, |it| self.machine.settings().lanes(it).lanes)
        };
        let own = lanes(position);
        for earlier in (1..position.get()).map(Position::new) {
            if self.machine.entries.is_leased(earlier)
                || !lanes(earlier).iter().any(|it| own.contains(it))
            {
                continue;
            }
            assert!(self.kept.is_done(earlier), "{position} is delivered before {earlier} is done");
            let parked = self.kept.parked.get(&earlier);
            let holds =
                parked.is_some_and(|it| it.state == ParkedState::Waiting && it.hold != Hold::None);
            assert!(!holds, "{position} is delivered, which parked {earlier} holds");
        }
    }

    /// Works everything off with one consumer that never fails; parked events are discarded.
    pub(super) fn finish(&mut self) {
        self.kill();
        let credit = Credit { events: 1000, bytes: u64::MAX };
        let mut rounds = 0;
        loop {
            self.now = self.now.plus(Duration::from_secs(700));
            self.machine.set_paused(false);
            self.machine.wake(self.now);
            self.machine.expire(self.now);
            self.machine.park_some(self.now, 1000);
            self.machine.join(&"last".into(), 1, credit, None, self.now).unwrap();
            self.feed(1000);
            self.deliver(1000);
            let valid = self.valid();
            if valid.is_empty() && !self.machine.has_to_park() {
                self.keep_notes();
                let waiting: Vec<_> = self
                    .kept
                    .parked
                    .iter()
                    .filter(|it| it.1.state == ParkedState::Waiting)
                    .map(|it| *it.0)
                    .collect();
                for position in &waiting {
                    assert!(self.machine.discard(*position));
                }
                let at_end = self.machine.scanned_to().get() == self.log.len() as u64;
                let idle = self.machine.unresolved().next().is_none();
                if waiting.is_empty() && at_end && idle {
                    break;
                }
            }
            for _ in valid {
                self.say(0, Outcome::Ack);
            }
            self.machine.raise_floor();
            self.keep_notes();
            self.check("finishing");
            rounds += 1;
            assert!(rounds < 10_000, "it comes to no end: {:?}", self.machine.figures(self.now));
        }
        self.machine.raise_floor();
        self.keep_notes();
        self.history.finished = !self.sought;
    }

    pub(super) fn judge(&mut self) {
        let lanes = |identities: &Vec<Identity>| match self.machine.settings().ordering {
            Ordering::Unordered => Vec::new(),
            Ordering::Total => vec!["all".to_owned()],
            Ordering::PerIdentity if identities.is_empty() => {
                match self.machine.settings().no_lane_policy {
                    NoLanePolicy::SingleLane => vec!["none".to_owned()],
                    NoLanePolicy::Unordered | NoLanePolicy::Park => Vec::new(),
                }
            }
            Ordering::PerIdentity => {
                identities.iter().map(|it| format!("{}:{}", it.namespace, it.id)).collect()
            }
        };
        let events = self.log.iter().zip(1..);
        self.history.events = events
            .filter(|(_, position)| !self.begun.is_done(Position::new(*position)))
            .filter_map(|(event, position)| Some((position, lanes(event.as_ref()?))))
            .collect();
        self.history.parked.extend(self.kept.parked.keys().map(|it| it.get()));
        assert_eq!(self.history.judge(), Vec::<String>::new());
    }

    /// What holds after every step.
    fn check(&mut self, step: &str) {
        let machine = &self.machine;
        assert_eq!(&self.kept, machine.durable(), "notes and state differ after {step}");
        assert!(machine.room() <= machine.settings().window_limit);
        self.check_floor(step);
        self.check_counters(step);
        self.check_ready(step);
        self.check_digests(step);
        self.floor_before = self.machine.durable().floor;
    }

    /// A parked event is known by the payload that it was stored with, however often it is parked.
    fn check_digests(&self, step: &str) {
        for (position, parked) in &self.machine.durable().parked {
            assert_eq!(parked.digest, Some(digest(*position)), "of {position} after {step}");
        }
    }

    fn check_floor(&self, step: &str) {
        let durable = self.machine.durable();
        assert!(durable.floor >= self.floor_before, "the floor went back after {step}");
        assert!(durable.floor.get() <= self.log.len() as u64, "the floor is foreign after {step}");
        if self.sought {
            return;
        }
        for (event, number) in self.log.iter().zip(1..=durable.floor.get()) {
            let position = Position::new(number);
            let ended = self.done.contains(&position)
                || self.history.once_parked.contains(&number)
                || event.is_none();
            assert!(ended, "the floor passed {position} after {step}");
        }
    }

    fn check_counters(&self, step: &str) {
        let machine = &self.machine;
        let leased: BTreeSet<Position> = machine
            .entries
            .iter()
            .filter(|(_, it)| matches!(it.state, State::Leased(_)))
            .map(|it| it.0)
            .collect();
        let listed: BTreeSet<Position> = machine.leases.iter().map(|it| it.1).collect();
        assert_eq!(leased, listed, "leases after {step}");
        for (deadline, position) in &machine.leases {
            let lease = machine.entries.lease(*position).unwrap();
            assert_eq!(lease.deadline, *deadline, "of {position} after {step}");
        }
        let mut held = BTreeSet::new();
        for (id, consumer) in machine.consumers.iter() {
            let bytes: u64 = consumer
                .leases
                .iter()
                .map(|it| u64::from(machine.entries.get(*it).unwrap().bytes))
                .sum();
            assert_eq!(consumer.bytes, bytes, "bytes of {id:?} after {step}");
            for position in &consumer.leases {
                assert_eq!(machine.entries.lease(*position).unwrap().consumer, id);
                assert!(held.insert(*position));
            }
        }
        assert_eq!(held, leased, "consumers' leases after {step}");
        let retrying: BTreeSet<_> = machine
            .entries
            .iter()
            .filter_map(|(position, it)| match it.state {
                State::Retry(at) => Some((at, position)),
                State::Waiting | State::Leased(_) => None,
            })
            .collect();
        assert_eq!(retrying, machine.retries, "retries after {step}");
    }

    /// Whoever may be delivered can be found.
    fn check_ready(&self, step: &str) {
        let machine = &self.machine;
        for (position, entry) in machine.entries.iter() {
            if !matches!(entry.state, State::Waiting) {
                continue;
            }
            let found = match machine.place(position, entry) {
                _ if entry.lost => machine.to_park.contains(&position),
                Place::Free => machine.ready.contains(&position),
                Place::HeldBy(consumer) => {
                    machine.consumers.get(consumer).unwrap().reserved.contains(&position)
                }
                Place::Convoy(_) => machine.to_park.contains(&position),
                Place::Behind(..) => true,
            };
            assert!(found, "{position} is forgotten after {step}");
        }
    }
}

/// What an event's payload is known by.
fn digest(position: Position) -> u64 {
    position.get() * 31
}

/// Whom the event with this number is about: one person often, several sometimes, nobody seldom.
fn identities(number: u8) -> Option<Vec<Identity>> {
    let identity = |namespace: &str, id: u8| Identity {
        namespace: namespace.to_owned().into(),
        id: id.to_string().into(),
        primary: namespace == "ECID",
    };
    match number {
        0 | 1 => None,
        2 => Some(Vec::new()),
        3..=11 => Some(vec![identity("ECID", number % 3)]),
        12..=17 => Some(vec![identity("ECID", number % 3), identity("Email", number % 2)]),
        _ => Some(vec![
            identity("ECID", number % 3),
            identity("Email", number % 2),
            identity("Phone", number % 5),
        ]),
    }
}
