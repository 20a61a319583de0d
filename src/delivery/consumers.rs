//! Consumers: their sessions, how much they can take, and who gets the next event.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use ahash::AHashMap;

use crate::{
    delivery::{
        Lane,
        meter::{Lately, Meter},
    },
    model::{Position, Timestamp, limits},
};

/// A consumer's session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConsumerId(pub u64);

/// Events and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Credit {
    /// Events.
    pub events: u32,
    /// Bytes of their payloads.
    pub bytes: u64,
}

/// How a consumer was let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Joined {
    /// Its session.
    pub consumer: ConsumerId,
    /// It was there before, and has its leases still.
    pub resumed: bool,
    /// Leases of its former instance that ended; they are to be failed.
    pub replaced: bool,
}

/// Why a consumer was not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// There are as many as there may be.
    TooMany,
}

/// What one consumer is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerFigures {
    /// Its session.
    pub consumer: ConsumerId,
    /// The client's name for itself.
    pub client_id: Arc<str>,
    /// It can be reached.
    pub connected: bool,
    /// It takes no new events.
    pub draining: bool,
    /// It gets nothing until then.
    pub quarantined_until: Option<Timestamp>,
    /// Leased to it.
    pub in_flight: Credit,
    /// Events that it was given.
    pub delivered_total: u64,
    /// Events that it resolved.
    pub resolved_total: u64,
    /// Attempts of its that failed.
    pub failed_total: u64,
    /// The same of about the last minute.
    pub lately: Lately,
}

#[derive(Debug)]
pub(crate) struct Consumer {
    pub(crate) client_id: Arc<str>,
    /// Which of the client's lives this is.
    pub(crate) instance: u64,
    /// What it may have at a time.
    pub(crate) credit: Credit,
    /// What it asked for and has not got; `None`: always more.
    pub(crate) quota: Option<u32>,
    /// How long it has for an event; `None`: as the settings say.
    pub(crate) ack_deadline: Option<Duration>,
    pub(crate) leases: BTreeSet<Position>,
    pub(crate) bytes: u64,
    /// When it left without a word.
    pub(crate) gone_since: Option<Timestamp>,
    pub(crate) draining: bool,
    /// Leases that expired in a row.
    pub(crate) expiries: u32,
    pub(crate) quarantined_until: Option<Timestamp>,
    /// Events that only it can have, for it has those before them.
    pub(crate) reserved: BTreeSet<Position>,
    /// The next event did not fit; until something comes back it gets nothing.
    full: bool,
    /// Its key in `open`.
    listed: Option<u32>,
    pub(crate) delivered_total: u64,
    pub(crate) resolved_total: u64,
    pub(crate) failed_total: u64,
    meter: Meter,
}

impl Consumer {
    /// An event was resolved.
    pub(crate) fn resolved(&mut self, now: Timestamp) {
        self.expiries = 0;
        self.resolved_total += 1;
        self.meter.add(now, |it| it.resolved += 1);
    }

    /// An attempt failed.
    pub(crate) fn failed(&mut self, now: Timestamp) {
        self.failed_total += 1;
        self.meter.add(now, |it| it.failed += 1);
    }

    fn in_flight(&self) -> u32 {
        u32::try_from(self.leases.len()).unwrap_or(u32::MAX)
    }

    fn can_take(&self) -> bool {
        self.gone_since.is_none()
            && !self.draining
            && !self.full
            && self.quarantined_until.is_none()
            && self.quota != Some(0)
            && self.in_flight() < self.credit.events
    }

    fn fits(&self, bytes: u32) -> bool {
        self.leases.is_empty() || self.bytes + u64::from(bytes) <= self.credit.bytes
    }
}

/// How many more leases the preferred consumer of a lane may have than the idlest.
const PREFERENCE_LEAD: u32 = 16;

/// All consumers of a subscription.
#[derive(Debug, Default)]
pub(crate) struct Consumers {
    all: BTreeMap<ConsumerId, Consumer>,
    by_client: AHashMap<Arc<str>, ConsumerId>,
    /// Those that can take an event, the idlest first.
    open: BTreeSet<(u32, ConsumerId)>,
    /// Those that are connected, for the choice by lane.
    ring: Vec<ConsumerId>,
    last_id: u64,
}

impl Consumers {
    /// Lets a client in, or back in.
    pub(crate) fn join(
        &mut self,
        client_id: &Arc<str>,
        instance: u64,
        credit: Credit,
        quota: Option<u32>,
        now: Timestamp,
    ) -> Result<Joined, Refused> {
        if let Some(id) = self.by_client.get(client_id).copied() {
            let mut joined = Joined { consumer: id, resumed: true, replaced: false };
            self.change(id, |it| {
                joined.replaced = it.instance != instance && !it.leases.is_empty();
                joined.resumed = it.instance == instance;
                it.instance = instance;
                it.credit = credit;
                it.quota = quota;
                it.gone_since = None;
                it.draining = false;
                it.full = false;
            });
            self.list_ring();
            return Ok(joined);
        }
        if self.all.len() >= limits::CONSUMERS_MAX {
            return Err(Refused::TooMany);
        }
        self.last_id += 1;
        let id = ConsumerId(self.last_id);
        let consumer = Consumer {
            client_id: Arc::clone(client_id),
            instance,
            credit,
            quota,
            ack_deadline: None,
            leases: BTreeSet::new(),
            bytes: 0,
            gone_since: None,
            draining: false,
            expiries: 0,
            quarantined_until: None,
            reserved: BTreeSet::new(),
            full: false,
            listed: None,
            delivered_total: 0,
            resolved_total: 0,
            failed_total: 0,
            meter: Meter::new(now),
        };
        self.by_client.insert(Arc::clone(client_id), id);
        self.all.insert(id, consumer);
        self.change(id, |_| {});
        self.list_ring();
        Ok(Joined { consumer: id, resumed: false, replaced: false })
    }

    pub(crate) fn get(&self, id: ConsumerId) -> Option<&Consumer> {
        self.all.get(&id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (ConsumerId, &Consumer)> {
        self.all.iter().map(|(id, it)| (*id, it))
    }

    pub(crate) fn name(&self, id: ConsumerId) -> Arc<str> {
        self.all.get(&id).map_or_else(|| Arc::from(""), |it| Arc::clone(&it.client_id))
    }

    /// Changes a consumer and what follows from it.
    pub(crate) fn change(&mut self, id: ConsumerId, f: impl FnOnce(&mut Consumer)) {
        let Some(consumer) = self.all.get_mut(&id) else { return };
        f(consumer);
        let wanted = consumer.can_take().then(|| consumer.in_flight());
        if wanted != consumer.listed {
            if let Some(old) = consumer.listed {
                self.open.remove(&(old, id));
            }
            if let Some(new) = wanted {
                self.open.insert((new, id));
            }
            consumer.listed = wanted;
        }
    }

    pub(crate) fn disconnect(&mut self, id: ConsumerId, now: Timestamp) {
        self.change(id, |it| {
            it.gone_since.get_or_insert(now);
            it.quota = Some(0);
        });
        self.list_ring();
    }

    pub(crate) fn remove(&mut self, id: ConsumerId) -> Option<Consumer> {
        self.change(id, |it| it.credit = Credit::default());
        let consumer = self.all.remove(&id)?;
        if self.by_client.get(&consumer.client_id) == Some(&id) {
            self.by_client.remove(&consumer.client_id);
        }
        self.list_ring();
        Some(consumer)
    }

    fn list_ring(&mut self) {
        let connected = self.all.iter().filter(|(_, it)| it.gone_since.is_none() && !it.draining);
        self.ring = connected.map(|(id, _)| *id).collect();
    }

    pub(crate) fn list_again(&mut self) {
        self.list_ring();
    }

    pub(crate) fn gave(&mut self, id: ConsumerId, position: Position, bytes: u32, now: Timestamp) {
        self.change(id, |it| {
            it.leases.insert(position);
            it.bytes += u64::from(bytes);
            it.reserved.remove(&position);
            it.quota = it.quota.map(|left| left.saturating_sub(1));
            it.delivered_total += 1;
            it.meter.add(now, |it| it.delivered += 1);
        });
    }

    pub(crate) fn got_back(&mut self, id: ConsumerId, position: Position, bytes: u32) {
        self.change(id, |it| {
            if it.leases.remove(&position) {
                it.bytes = it.bytes.saturating_sub(u64::from(bytes));
                it.full = false;
            }
        });
    }

    /// Leases are void.
    pub(crate) fn forget_leases(&mut self) {
        let ids: Vec<_> = self.all.keys().copied().collect();
        for id in ids {
            self.change(id, |it| {
                it.leases.clear();
                it.reserved.clear();
                it.bytes = 0;
                it.full = false;
            });
        }
    }

    /// Whether anybody can take anything.
    pub(crate) fn can_take_any(&self) -> bool {
        !self.open.is_empty()
    }

    /// Events that consumers could take now, as far as events are counted.
    pub(crate) fn demand(&self) -> usize {
        let free = self.open.iter().filter_map(|(_, id)| self.all.get(id)).map(|it| {
            let free = it.credit.events.saturating_sub(it.in_flight());
            free.min(it.quota.unwrap_or(u32::MAX))
        });
        free.map(|it| usize::try_from(it).unwrap_or(usize::MAX)).fold(0, usize::saturating_add)
    }

    /// Those that can take an event, and have some that only they can have.
    pub(crate) fn with_reserved(&self) -> Vec<ConsumerId> {
        let open = self.open.iter().map(|it| it.1);
        open.filter(|id| self.all.get(id).is_some_and(|it| !it.reserved.is_empty())).collect()
    }

    /// Whether one consumer can take an event of this size; if only its size is wrong, it waits.
    pub(crate) fn takes(&mut self, id: ConsumerId, bytes: u32) -> bool {
        let Some(consumer) = self.all.get(&id).filter(|it| it.can_take()) else { return false };
        if consumer.fits(bytes) {
            return true;
        }
        self.change(id, |it| it.full = true);
        false
    }

    /// Who gets an event: whoever usually has its lane, as long as it is not far busier than the
    /// idlest, who gets it otherwise.
    pub(crate) fn choose(&mut self, lane: Option<Lane>, bytes: u32) -> Option<ConsumerId> {
        let idlest = self.open.first()?.0;
        if let Some(preferred) = lane.and_then(|lane| self.preferred(lane)) {
            let listed = self.all.get(&preferred).and_then(|it| it.listed);
            if listed.is_some_and(|it| it <= idlest.saturating_add(PREFERENCE_LEAD))
                && self.takes(preferred, bytes)
            {
                return Some(preferred);
            }
        }
        while let Some((_, id)) = self.open.first().copied() {
            if self.takes(id, bytes) {
                return Some(id);
            }
        }
        None
    }

    /// By a jump hash: when the number of consumers changes, few lanes change theirs.
    fn preferred(&self, lane: Lane) -> Option<ConsumerId> {
        let buckets = u64::try_from(self.ring.len()).ok().filter(|it| *it > 0)?;
        let (mut key, mut bucket, mut next) = (lane.get(), 0, 0);
        while next < buckets {
            bucket = next;
            key = key.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
            let step = (key >> 33) + 1;
            next = (bucket + 1).saturating_mul(1 << 31) / step;
        }
        self.ring.get(usize::try_from(bucket).ok()?).copied()
    }

    pub(crate) fn figures(&self, now: Timestamp) -> Vec<ConsumerFigures> {
        let figures = |(id, it): (&ConsumerId, &Consumer)| ConsumerFigures {
            consumer: *id,
            client_id: Arc::clone(&it.client_id),
            connected: it.gone_since.is_none(),
            draining: it.draining,
            quarantined_until: it.quarantined_until,
            in_flight: Credit { events: it.in_flight(), bytes: it.bytes },
            delivered_total: it.delivered_total,
            resolved_total: it.resolved_total,
            failed_total: it.failed_total,
            lately: it.meter.lately(now),
        };
        self.all.iter().map(figures).collect()
    }
}
