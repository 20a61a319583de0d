//! Segments against what the events say, and merged segments against unmerged ones.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use proptest::prelude::*;

use super::*;
use crate::model::Direction;
use crate::storage::{
    index::{
        filter::bits_of,
        id_hash,
        merge::Removed,
        part::Totals,
        term::{Lookup, Span, Term, each_term},
    },
    pb::{EventRecord, IdentityRecord},
};

/// The generator `SplitMix64` (Steele, Lea and Flood 2014).
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }
}

const TYPES: &[&str] = &["web.view", "web.click", "web", "commerce.purchase", ""];

/// Events of so many persons; few event ids, so that some hashes are equal.
pub(super) fn events(seed: u64, count: u64, persons: u64) -> Vec<EventRecord> {
    let mut random = Random(seed);
    let mut event = || {
        let identity = |namespace: &str, id: u64| IdentityRecord {
            namespace: namespace.to_owned().into(),
            id: format!("person-{id:04}@example.com").into(),
            primary: false,
        };
        let mut identities = vec![identity("ECID", random.below(persons))];
        if random.below(3) > 0 {
            identities.push(identity("Email", random.below(persons)));
        }
        EventRecord {
            dataset: u32::try_from(1 + random.below(3)).unwrap(),
            schema: 7,
            event_id: format!("event-{}", random.below(count * 4)).into(),
            event_type: TYPES[usize::try_from(random.below(5)).unwrap()].into(),
            identities,
            payload: vec![b'x'; usize::try_from(random.below(50)).unwrap()].into(),
            ..EventRecord::default()
        }
    };
    (0..count).map(|_| event()).collect()
}

pub(super) fn tail_of(after: Position, events: &[EventRecord]) -> Tail {
    let mut tail = Tail::after(after);
    for (position, event) in (after.next().get()..).map(Position::new).zip(events) {
        tail.add(position, id_hash(event.dataset, &event.event_id), event);
    }
    tail
}

pub(super) fn tree() -> Tree {
    Tree::temporary()
}

/// The events' segments, cut into parts at random, each in a database of its own; and the spans.
fn parts_of(after: Position, events: &[EventRecord], parts: u64, seed: u64) -> Vec<Arc<Segment>> {
    let mut random = Random(seed);
    let mut cuts: Vec<usize> = (1..parts)
        .map(|_| usize::try_from(random.below(events.len() as u64 + 1)).unwrap())
        .chain([0, events.len()])
        .collect();
    cuts.sort_unstable();
    cuts.dedup();
    let spans = cuts.windows(2).map(|cut| {
        let tail = tail_of(after.plus(cut[0] as u64), &events[cut[0]..cut[1]]);
        let number = u32::try_from(random.below(9)).unwrap();
        let tree = tree();
        Segment::write(&tree, number, &tail, &mut |_| Ok(())).unwrap();
        Arc::new(Segment::open(&tree, number).unwrap().unwrap())
    });
    spans.collect()
}

/// What a segment of the events should hold.
#[derive(Debug, Default, PartialEq)]
struct Content {
    terms: BTreeMap<Vec<u8>, Vec<Position>>,
    ids: Vec<(u64, Position)>,
    totals: BTreeMap<u32, (u64, u64, u64, u64)>,
}

impl Content {
    fn of_events(after: Position, events: &[EventRecord], removed: &Removed) -> (Self, Totals) {
        let (mut content, mut totals) = (Self::default(), Totals::new());
        for (position, event) in (after.next().get()..).map(Position::new).zip(events) {
            if removed.contains(position) {
                continue;
            }
            each_term(event, |term| {
                let postings = content.terms.entry(term.as_bytes().to_vec()).or_default();
                postings.push(position);
            });
            content.ids.push((id_hash(event.dataset, &event.event_id), position));
            let one = DatasetTotals::of_event(position, event.payload.len() as u64);
            totals.entry(event.dataset).or_default().add(&one);
        }
        content.ids.sort_unstable();
        content.totals = Self::comparable(&totals);
        (content, totals)
    }

    fn of_segment(segment: &Segment) -> Self {
        let mut content = Self::default();
        let add = |term: &[u8], position| {
            content.terms.entry(term.to_vec()).or_default().push(position);
        };
        segment.each_posting(add).unwrap();
        segment.each_id(|hash, position| content.ids.push((hash, position))).unwrap();
        content.totals = Self::comparable(&segment.datasets().collect());
        content
    }

    fn comparable(totals: &Totals) -> BTreeMap<u32, (u64, u64, u64, u64)> {
        let all = totals.iter();
        all.map(|(dataset, it)| {
            (*dataset, (it.events, it.first.get(), it.last.get(), it.payload_bytes))
        })
        .collect()
    }
}

const TERMS_ASKED_MAX: usize = 150;

/// Every question has the answer that the content gives, over the whole span and over parts of it.
fn check_questions(segment: &Segment, content: &Content, random: &mut Random) {
    let span = segment.span();
    let length = span.until.since(span.after) + 3;
    let mut spans = vec![span, Span { after: Position::START, until: Position::new(u64::MAX) }];
    for _ in 0..4 {
        let after = Position::new((span.after.get() + random.below(length)).saturating_sub(1));
        spans.push(Span { after, until: after.plus(random.below(length)) });
    }
    let narrow = |positions: &[Position], span: Span| -> Vec<Position> {
        positions.iter().copied().filter(|it| span.contains(*it)).collect()
    };
    let check = |lookup: &Lookup, expected: &[Position]| {
        for span in &spans {
            let expected = narrow(expected, *span);
            assert_eq!(segment.lookup(lookup, *span).unwrap(), expected, "{lookup:?} {span:?}");
            let count = segment.count_of(lookup, *span).unwrap();
            assert_eq!(count, expected.len() as u64, "{lookup:?} {span:?}");
            let Lookup::Exact(term) = lookup else { continue };
            for most in [1, 5, 5_000] {
                let chunk = |direction| segment.chunk(term, *span, direction, most).unwrap();
                let (first, last) = (chunk(Direction::Forward), chunk(Direction::Backward));
                assert!(expected.starts_with(&first), "{term:?} {span:?}: {first:?}");
                assert!(expected.ends_with(&last), "{term:?} {span:?}: {last:?}");
                for chunk in [first, last] {
                    assert!(chunk.len() <= most && chunk.is_empty() == expected.is_empty());
                }
            }
        }
        for step in [1, 7, 500] {
            let all = (span.after.next().get()..=span.until.get()).map(Position::new);
            let candidates: Vec<_> = all.skip(step % 3).step_by(step).collect();
            let mut wanted = candidates.iter().copied().collect::<BTreeSet<_>>();
            wanted.retain(|it| expected.binary_search(it).is_ok());
            let found = segment.among(lookup, &candidates).unwrap();
            assert!(found.into_iter().eq(wanted), "{lookup:?} step {step}");
        }
    };
    // Of many terms some, the first and the last among them.
    let step = content.terms.len() / TERMS_ASKED_MAX + 1;
    let last = content.terms.len() - usize::from(!content.terms.is_empty());
    let asked = content.terms.iter().enumerate().filter(|(at, _)| at % step == 0 || *at == last);
    for (_, (term, positions)) in asked {
        check(&Lookup::Exact(Term::from_bytes(term)), positions);
        for absent in [[term.as_slice(), b"\0"].concat(), term[..term.len() - 1].to_vec()] {
            if !content.terms.contains_key(&absent) {
                check(&Lookup::Exact(Term::from_bytes(&absent)), &[]);
            }
        }
    }
    for prefix in ["", "w", "web", "web.", "web.click", "web.z", "commerce", "zz"] {
        let prefix = Term::event_type(prefix);
        let matching = content.terms.iter().filter(|it| it.0.starts_with(prefix.as_bytes()));
        let mut positions: Vec<_> = matching.flat_map(|it| it.1).copied().collect();
        positions.sort_unstable();
        check(&Lookup::Prefix(prefix), &positions);
    }
    let mut by_hash: BTreeMap<u64, Vec<Position>> = BTreeMap::new();
    content
        .ids
        .iter()
        .for_each(|(hash, position)| by_hash.entry(*hash).or_default().push(*position));
    for hash in by_hash.keys().copied().step_by(step).chain((0..50).map(|_| random.below(u64::MAX)))
    {
        let mut found = Vec::new();
        segment.ids_with(hash, &bits_of(hash), &mut found).unwrap();
        found.sort_unstable();
        assert_eq!(found, by_hash.get(&hash).cloned().unwrap_or_default());
    }
}

/// Rows of terms and ids, byte for byte.
fn rows_of(segment: &Segment) -> Vec<(Vec<u8>, Vec<u8>)> {
    let rows = segment.tree.scan_prefix(segment.number.to_be_bytes()).map(Result::unwrap);
    let rows = rows.map(|(key, value)| (key[4..].to_vec(), value.to_vec()));
    rows.filter(|(key, _)| key[0] == 1 || key[0] == 2).collect()
}

/// Merges parts of random events, and compares with the events and with one segment of them all.
fn check_merge(seed: u64, count: u64, persons: u64, parts: u64, removed_percent: u64) {
    let mut random = Random(seed ^ 1);
    let after = Position::new(random.below(1_000_000));
    let events = events(seed, count, persons);
    let parts = parts_of(after, &events, parts, seed);
    let span = Span { after, until: after.plus(count) };
    let mut removed = Removed::none_of(span);
    for position in (after.next().get()..=span.until.get()).map(Position::new) {
        if random.below(100) < removed_percent {
            removed.insert(position);
        }
    }
    let (expected, totals) = Content::of_events(after, &events, &removed);
    assert_eq!(removed.len() + expected.ids.len() as u64, count);

    let (target, mut paces) = (tree(), 0);
    let mut pace = |_| {
        paces += 1;
        Ok(())
    };
    let merged = Segment::merge(&target, 3, &parts, &removed, &totals, &mut pace).unwrap();
    let reopened = Segment::open(&target, 3).unwrap().unwrap();
    assert_eq!((&merged.meta, &merged.filter), (&reopened.meta, &reopened.filter));
    assert_eq!((paces, merged.span()), (target.len(), span));
    assert_eq!(Content::of_segment(&reopened), expected);
    check_questions(&reopened, &expected, &mut random);
    for (key, value) in target.iter().map(Result::unwrap) {
        assert!(value.len() < 96 * 1024, "a row of {} bytes: {key:?}", value.len());
    }
    if removed_percent == 0 {
        let whole = Segment::write(&tree(), 3, &tail_of(after, &events), &mut |_| Ok(())).unwrap();
        assert_eq!(rows_of(&whole), rows_of(&merged));
        assert_eq!(whole.meta.totals, merged.meta.totals);
        check_questions(&whole, &expected, &mut random);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_merged_segment_is_that_of_all_its_events(
        seed: u64,
        count in 1_u64..700,
        persons in 1_u64..200,
        parts in 1_u64..12,
        removed_percent in prop_oneof![Just(0), Just(3), Just(50), Just(98), Just(100)],
    ) {
        check_merge(seed, count, persons, parts, removed_percent);
    }
}

#[test]
fn long_lists_and_many_rows_merge() {
    for (removed_percent, parts) in [(0, 40), (30, 7)] {
        check_merge(11, 8_000, 20, parts, removed_percent);
    }
    check_merge(12, 3_000, 100_000, 9, 0);
}

#[test]
fn ids_with_equal_hashes_stay_together_across_rows() {
    let (target, mut pace) = (tree(), |_| Ok(()));
    let span = Span { after: Position::new(5), until: Position::new(5_000) };
    let mut writer = Writer::new(&target, 1, span, &mut pace).unwrap();
    let equal = 1_000..4_000;
    for number in 6..=5_000 {
        let hash = if equal.contains(&number) { equal.start } else { number };
        writer.id(hash, Position::new(number)).unwrap();
    }
    let segment = writer.finish(&Totals::new()).unwrap();
    for hash in [6, 999, 1_000, 1_001, 4_000, 5_000, 5_001] {
        let expected = match hash {
            1_000 => equal.clone().map(Position::new).collect(),
            1_001 | 5_001 => vec![],
            _ => vec![Position::new(hash)],
        };
        let mut found = Vec::new();
        segment.ids_with(hash, &bits_of(hash), &mut found).unwrap();
        assert!(found == expected, "{hash}: {} found", found.len());
    }
}

#[test]
fn parts_may_have_gaps_between_them_but_not_overlap() {
    let events = events(1, 30, 5);
    let merge = |second_after: u64| {
        let mut parts = parts_of(Position::START, &events, 1, 1);
        parts.extend(parts_of(Position::new(second_after), &events, 1, 1));
        let removed = Removed::none_of(parts[0].span());
        Segment::merge(&tree(), 1, &parts, &removed, &Totals::new(), &mut |_| Ok(()))
    };
    let error = merge(29).unwrap_err();
    assert!(error.to_string().contains("two index segments at 30"), "{error}");
    for after in [30, 100] {
        let merged = merge(after).unwrap();
        let until = Position::new(after + 30);
        assert_eq!(merged.span(), Span { after: Position::START, until });
        let schema = merged.lookup(&Lookup::Exact(Term::schema(7)), merged.span()).unwrap();
        let expected: Vec<_> = (1..=30).chain(after + 1..=after + 30).map(Position::new).collect();
        assert_eq!(schema, expected);
    }
}

#[test]
fn an_unfinished_segment_does_not_open() {
    let tree = tree();
    let tail = tail_of(Position::START, &events(1, 500, 50));
    Segment::write(&tree, 1, &tail, &mut |_| Ok(())).unwrap();
    tree.remove(key(1, Row::Meta, 0)).unwrap();
    assert!(Segment::open(&tree, 1).unwrap().is_none());
}

#[test]
fn damaged_rows_are_errors_or_wrong_but_never_a_panic() {
    let target = tree();
    let tail = tail_of(Position::START, &events(1, 300, 50));
    let segment = Segment::write(&target, 1, &tail, &mut |_| Ok(())).unwrap();
    let whole = target.get(key(1, Row::Terms, 0)).unwrap().unwrap();
    let mut random = Random(5);
    for _ in 0..2_000 {
        let mut damaged = whole.to_vec();
        let at = usize::try_from(random.below(damaged.len() as u64)).unwrap();
        damaged[at] ^= 1 << random.below(8);
        if random.below(4) == 0 {
            damaged.truncate(at);
        }
        target.insert(key(1, Row::Terms, 0), damaged).unwrap();
        let _ = segment.each_posting(|_, _| ());
        for term in [Term::dataset(1), Term::identity("ECID", "person-0007@example.com")] {
            let _ = segment.lookup(&Lookup::Exact(term), segment.span());
        }
        let _ = segment.count_of(&Lookup::Prefix(Term::event_type("web")), segment.span());
    }
}
