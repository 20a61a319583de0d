//! Lanes: who waits in which, and for whom.

use std::collections::{BTreeMap, VecDeque};

use ahash::AHashMap;
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    delivery::{ConsumerId, LaneSelector, NoLanePolicy, Ordering, Settings},
    model::{Identity, Position},
};

/// One identity, as a hash of namespace and id. Two that share a hash are one lane: they wait for each other
/// without need, and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lane(u64);

impl Lane {
    /// Of all events, when they are ordered among each other.
    pub const ALL: Self = Self(0);
    /// Of events that have no other.
    pub const NONE: Self = Self(1);

    /// The lane with this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number in memory and on disk.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Of one identity.
    #[must_use]
    pub fn of(namespace: &str, id: &str) -> Self {
        let mut text = Vec::with_capacity(namespace.len() + 1 + id.len());
        text.extend_from_slice(namespace.as_bytes());
        text.push(0); // neither in a namespace's code
        text.extend_from_slice(id.as_bytes());
        Self(xxh3_64(&text))
    }
}

impl LaneSelector {
    /// Whether an identity is a lane.
    #[must_use]
    pub fn selects(&self, namespace: &str, primary: bool) -> bool {
        match self {
            Self::All => true,
            Self::Primary => primary,
            Self::Namespaces(codes) => codes.iter().any(|it| **it == *namespace),
        }
    }
}

/// The lanes of an event, and whether it is to be parked because it has none.
pub(crate) struct Lanes {
    pub(crate) lanes: Box<[Lane]>,
    pub(crate) lost: bool,
}

impl Settings {
    /// The lanes of an event with these identities, each once, and whether the event is to be parked
    /// for want of one.
    pub(crate) fn lanes(&self, identities: &[Identity]) -> Lanes {
        let lanes: Vec<Lane> = match self.ordering {
            Ordering::Unordered => return Lanes { lanes: Box::default(), lost: false },
            Ordering::Total => vec![Lane::ALL],
            Ordering::PerIdentity => {
                let mut lanes: Vec<_> = identities
                    .iter()
                    .filter(|it| self.lane_selector.selects(&it.namespace, it.primary))
                    .map(|it| Lane::of(&it.namespace, &it.id))
                    .collect();
                lanes.sort_unstable();
                lanes.dedup();
                lanes
            }
        };
        let lost = lanes.is_empty() && self.no_lane_policy == NoLanePolicy::Park;
        let single = lanes.is_empty() && self.no_lane_policy == NoLanePolicy::SingleLane;
        let lanes = if single { [Lane::NONE].into() } else { lanes.into() };
        Lanes { lanes, lost }
    }
}

/// What a parked event does to its lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// Nothing.
    None,
    /// Later events wait.
    Block,
    /// Later events are parked behind this one.
    Convoy(Position),
}

/// One lane's events.
#[derive(Debug, Default)]
struct LaneState {
    /// Unresolved ones, in position order.
    queue: VecDeque<Position>,
    /// How many of them are leased.
    in_flight: u32,
    /// Who has those.
    holder: ConsumerId,
    /// Parked events that hold the lane.
    parked: BTreeMap<Position, Hold>,
}

/// How an event stands in its lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Anybody may have it.
    Free,
    /// Whoever has the events before it may have it too.
    HeldBy(ConsumerId),
    /// It waits for an event in a lane.
    Behind(Position, Lane),
    /// It is to be parked behind this event.
    Convoy(Position),
}

/// All lanes with unresolved or holding events.
#[derive(Debug, Default)]
pub(crate) struct LaneTable {
    lanes: AHashMap<Lane, LaneState>,
}

impl LaneTable {
    pub(crate) fn insert(&mut self, lanes: &[Lane], position: Position) {
        for lane in lanes {
            let queue = &mut self.lanes.entry(*lane).or_default().queue;
            if queue.back().is_none_or(|last| *last < position) {
                queue.push_back(position);
            } else if let Err(at) = queue.binary_search(&position) {
                queue.insert(at, position);
            }
        }
    }

    pub(crate) fn remove(&mut self, lanes: &[Lane], position: Position) {
        self.change(lanes, |state| {
            if let Ok(at) = state.queue.binary_search(&position) {
                state.queue.remove(at);
            }
        });
    }

    pub(crate) fn take_off(&mut self, lanes: &[Lane], holder: ConsumerId) {
        for lane in lanes {
            let state = self.lanes.entry(*lane).or_default();
            state.in_flight += 1;
            state.holder = holder;
        }
    }

    pub(crate) fn land(&mut self, lanes: &[Lane]) {
        self.change(lanes, |state| state.in_flight = state.in_flight.saturating_sub(1));
    }

    pub(crate) fn hold(&mut self, lanes: &[Lane], position: Position, hold: Hold) {
        if hold != Hold::None {
            for lane in lanes {
                self.lanes.entry(*lane).or_default().parked.insert(position, hold);
            }
        }
    }

    pub(crate) fn unhold(&mut self, lanes: &[Lane], position: Position) {
        self.change(lanes, |state| {
            state.parked.remove(&position);
        });
    }

    fn change(&mut self, lanes: &[Lane], f: impl Fn(&mut LaneState)) {
        for lane in lanes {
            if let Some(state) = self.lanes.get_mut(lane) {
                f(state);
                if state.queue.is_empty() && state.parked.is_empty() {
                    self.lanes.remove(lane);
                }
            }
        }
    }

    pub(crate) fn clear(&mut self) {
        self.lanes.clear();
    }

    /// The first event of a lane that is not leased, if all before it are and there may be one more.
    pub(crate) fn candidate(
        &self,
        lane: Lane,
        most: u32,
        leased: impl Fn(Position) -> bool,
    ) -> Option<Position> {
        let state = self.lanes.get(&lane)?;
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        state.queue.iter().take(most).find(|it| !leased(**it)).copied()
    }

    /// Where an event stands that waits.
    pub(crate) fn place(
        &self,
        lanes: &[Lane],
        position: Position,
        most: u32,
        leased: impl Fn(Position) -> bool,
    ) -> Place {
        let mut holder = None;
        let mut convoy: Option<Position> = None;
        for lane in lanes {
            let Some(state) = self.lanes.get(lane) else { continue };
            let mut ahead = 0;
            for other in state.queue.iter().take_while(|it| **it < position) {
                ahead += 1;
                if ahead >= most || !leased(*other) {
                    return Place::Behind(*other, *lane);
                }
            }
            if ahead != state.in_flight {
                // Later ones are leased: this one was replayed.
                let mut later = state.queue.iter().filter(|it| **it > position && leased(**it));
                return Place::Behind(later.next().copied().unwrap_or(position), *lane);
            }
            if ahead > 0 && *holder.get_or_insert(state.holder) != state.holder {
                let first = state.queue.front().copied().unwrap_or(position);
                return Place::Behind(first, *lane);
            }
            match state.parked.first_key_value() {
                Some((first, Hold::Block)) if *first < position => {
                    return Place::Behind(*first, *lane);
                }
                Some((first, Hold::Convoy(root))) if *first < position => {
                    convoy = Some(convoy.map_or(*root, |it| it.min(*root)));
                }
                _ => {}
            }
        }
        match (convoy, holder) {
            (Some(root), _) => Place::Convoy(root),
            (None, Some(holder)) => Place::HeldBy(holder),
            (None, None) => Place::Free,
        }
    }

    /// Leased events of a lane after a position.
    pub(crate) fn leased_after(
        &self,
        lane: Lane,
        position: Position,
        leased: impl Fn(Position) -> bool,
    ) -> Vec<Position> {
        match self.lanes.get(&lane) {
            Some(state) if state.in_flight > 0 => {
                let from = state.queue.partition_point(|it| *it <= position);
                let later = state.queue.range(from..).copied();
                let most = usize::try_from(state.in_flight).unwrap_or(usize::MAX);
                later.filter(|it| leased(*it)).take(most).collect()
            }
            _ => Vec::new(),
        }
    }

    /// How many lanes there are.
    pub(crate) fn len(&self) -> usize {
        self.lanes.len()
    }

    /// Lanes whose first event cannot be delivered now, with that event and how many wait in the lane;
    /// the fullest first, at most `most`. Looks at every lane.
    pub(crate) fn blocked(
        &self,
        most: usize,
        stuck: impl Fn(Position) -> bool,
    ) -> Vec<(Lane, Position, usize)> {
        let mut found: Vec<_> = self
            .lanes
            .iter()
            .filter_map(|(lane, state)| {
                let head = state.queue.front().copied();
                let parked = state.parked.first_key_value().map(|(first, _)| *first);
                let by_parked = parked.filter(|it| head.is_none_or(|head| *it < head));
                let first = by_parked.or_else(|| head.filter(|it| stuck(*it)))?;
                let waiting = state.queue.iter().filter(|it| **it > first).count();
                (waiting > 0).then_some((*lane, first, waiting))
            })
            .collect();
        found.sort_unstable_by(|a, b| b.2.cmp(&a.2).then(a.1.cmp(&b.1)));
        found.truncate(most);
        found
    }
}
