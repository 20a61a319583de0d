//! Which positions an index finds for an event id, against a list of them, while its segments change.

use std::sync::Arc;

use proptest::prelude::*;

use crate::{
    model::Position,
    storage::{
        index::{
            Index, Part as _, Removed, RowCache, Segment, Span, Totals, id_hash, write_segment,
        },
        pb::EventRecord,
        tree::Tree,
    },
};

const TAIL_EVENTS: u64 = 40;
/// A group takes some segments of a tail; merged segments may be too large for one.
const VOLUME_EVENTS: u64 = 200;
/// Few, so that some are stored several times.
const IDS: u64 = 500;
const ALL: Span = Span { after: Position::START, until: Position::MAX };

#[derive(Clone, Debug)]
enum Step {
    /// Adds so many events.
    Add(u64),
    Freeze,
    /// Writes the oldest frozen tail.
    Seal,
    /// Makes one of some segments, from a place on, without every so manyth event.
    Replace {
        from: usize,
        segments: usize,
        removed: u64,
    },
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1..60_u64).prop_map(Step::Add),
        1 => Just(Step::Freeze),
        4 => Just(Step::Seal),
        2 => (0..20_usize, 1..8_usize, 1..5_u64)
            .prop_map(|(from, segments, removed)| Step::Replace { from, segments, removed }),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..60)
}

fn hash(id: u64) -> u64 {
    id_hash(1, id.to_string())
}

struct World {
    index: Index,
    /// Where the segments are, in order.
    stored: Vec<(Tree, u32)>,
    /// The id of each event, by position; `None` once it is removed.
    events: Vec<Option<u64>>,
}

impl World {
    fn new() -> Self {
        Self { index: Self::open(Vec::new()), stored: Vec::new(), events: Vec::new() }
    }

    fn open(segments: Vec<Segment>) -> Index {
        let rows = RowCache::new(1024 * 1024);
        Index::new(segments, Position::START, TAIL_EVENTS, VOLUME_EVENTS, rows).unwrap()
    }

    fn index_from(&self, from: usize) {
        let new = self.events.iter().enumerate().skip(from);
        let record = EventRecord { dataset: 1, ..EventRecord::default() };
        for (place, id) in new {
            let position = Position::new(place as u64 + 1);
            let event = id.map(|id| (position, hash(id), &record));
            self.index.add(position, event.into_iter());
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Add(count) => {
                let from = self.events.len();
                let ids = (from as u64..).map(|at| Some(at.wrapping_mul(0x9E37_79B9) % IDS));
                self.events.extend(ids.take(usize::try_from(count).unwrap()));
                self.index_from(from);
            }
            Step::Freeze => drop(self.index.freeze()),
            Step::Seal => {
                if let Some(tail) = self.index.first_frozen() {
                    let tree = Tree::temporary();
                    let segment = write_segment(&tree, &tail, &mut |_| Ok(())).unwrap();
                    self.stored.push((tree, segment.number()));
                    self.index.seal(segment).unwrap();
                }
            }
            Step::Replace { from, segments, removed } => {
                let all = self.index.segments_in(ALL);
                assert_eq!(all.len(), self.stored.len());
                let parts: Vec<_> = all.iter().skip(from).take(segments).cloned().collect();
                if let (Some(first), Some(last)) = (parts.first(), parts.last()) {
                    let span = Span { after: first.span().after, until: last.span().until };
                    let places = from..from + parts.len();
                    self.replace(span, &parts, removed, places);
                }
            }
            Step::Reopen => {
                let open = |(tree, number): &(Tree, u32)| Segment::open(tree, *number).unwrap();
                self.index = Self::open(self.stored.iter().filter_map(open).collect());
                let from = usize::try_from(self.index.checkpoint().get()).unwrap();
                self.index_from(from);
            }
        }
    }

    fn replace(
        &mut self,
        span: Span,
        parts: &[Arc<Segment>],
        removed_each: u64,
        places: std::ops::Range<usize>,
    ) {
        let mut removed = Removed::none_of(span);
        for place in span.after.get()..span.until.get() {
            if place % removed_each == 0 {
                removed.insert(Position::new(place + 1));
                self.events[usize::try_from(place).unwrap()] = None;
            }
        }
        let tree = Tree::temporary();
        // All are gone now and then.
        let with = (removed_each > 1).then(|| {
            Segment::merge(&tree, 1, parts, &removed, &Totals::default(), &mut |_| Ok(())).unwrap()
        });
        self.stored.splice(places, with.as_ref().map(|_| (tree, 1)));
        self.index.replace(span, with).unwrap();
    }

    fn check(&self) {
        for id in 0..IDS + 50 {
            let mut found = self.index.ids_with(hash(id)).unwrap();
            found.sort_unstable();
            let events = (1..).map(Position::new).zip(&self.events);
            let expected: Vec<_> =
                events.filter(|(_, it)| **it == Some(id)).map(|(position, _)| position).collect();
            assert_eq!(found, expected, "id {id}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn every_id_is_found_while_segments_come_and_go(steps in steps()) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
            world.check();
        }
    }
}

#[test]
fn segments_of_a_volume_are_asked_together() {
    let mut world = World::new();
    for _ in 0..VOLUME_EVENTS / TAIL_EVENTS {
        world.step(&Step::Add(TAIL_EVENTS));
        world.step(&Step::Seal);
    }
    let asked = |world: &World| {
        let sealed = world.index.sealed.load();
        (sealed.asked.groups.len(), sealed.asked.alone.len())
    };
    assert_eq!(asked(&world), (1, 0));
    world.step(&Step::Add(TAIL_EVENTS));
    world.step(&Step::Seal);
    assert_eq!(asked(&world), (2, 0));
    world.step(&Step::Reopen);
    assert_eq!(asked(&world), (2, 0));
    world.step(&Step::Replace { from: 0, segments: 5, removed: 3 });
    assert_eq!(asked(&world), (1, 1));
    world.step(&Step::Reopen);
    assert_eq!(asked(&world), (1, 1));
    world.check();
}
