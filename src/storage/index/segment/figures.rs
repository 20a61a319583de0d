//! What questions cost, printed:
//! `cargo test --release --lib segment::figures -- --ignored --nocapture`.

use std::{fs, hint::black_box, sync::Arc, time::Duration};

use super::{
    tests::{Random, events, tail_of, tree},
    *,
};
use crate::storage::index::{
    merge::Removed,
    part::Totals,
    term::{Lookup, Span, Term},
};

const SEGMENTS: u64 = 16;
const EVENTS: u64 = 64 * 1024;
const PERSONS: u64 = 200_000;
const ROUNDS: u32 = 20_000;

/// What this thread has used of a processor; other work on the machine does not count.
fn cpu_time() -> Duration {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

fn show(what: &str, rounds: u32, mut work: impl FnMut(u64)) {
    let mut random = Random(9);
    let begun = cpu_time();
    (0..rounds).for_each(|_| work(random.below(u64::MAX)));
    let each = (cpu_time() - begun) / rounds;
    println!("{what:56} {:>9.2} µs", each.as_secs_f64() * 1e6);
}

fn questions(name: &str, segments: &[Arc<Segment>]) {
    let until = segments.last().unwrap().span().until;
    let all = Span { after: Position::START, until };
    let person = |id: u64| Term::identity("ECID", &format!("person-{id:04}@example.com"));
    println!("{name}: {} segments, {} events", segments.len(), until);
    let mut found = 0;
    show("events of a random identity", ROUNDS, |random| {
        let lookup = Lookup::Exact(person(random % PERSONS));
        segments.iter().for_each(|it| found += it.lookup(&lookup, all).unwrap().len());
    });
    println!("{:56} {:>9.2}", "  found each time", found as f64 / f64::from(ROUNDS));
    show("events of an absent identity", ROUNDS, |random| {
        let lookup = Lookup::Exact(person(PERSONS + random));
        segments.iter().for_each(|it| _ = black_box(it.lookup(&lookup, all).unwrap()));
    });
    show("an absent event id", ROUNDS, |random| {
        let mut found = Vec::new();
        segments.iter().for_each(|it| it.ids_with(random, &mut found).unwrap());
        black_box(found);
    });
    let web = Lookup::Exact(Term::event_type("web.view"));
    show("all events of a frequent type", 20, |_| {
        segments.iter().for_each(|it| _ = black_box(it.lookup(&web, all).unwrap()));
    });
    show("count of a frequent type", 100, |_| {
        segments.iter().for_each(|it| _ = black_box(it.count_of(&web, all).unwrap()));
    });
    show("events of a frequent type among 100 positions", 1_000, |random| {
        let after = Position::new(random % until.get());
        let span = Span { after, until: after.plus(100) };
        segments.iter().for_each(|it| _ = black_box(it.lookup(&web, span).unwrap()));
    });
    show("100 far candidates of a frequent type", 200, |random| {
        for segment in segments {
            let span = segment.span();
            let step = span.until.since(span.after) / 100;
            let first = span.after.plus(1 + random % step);
            let candidates: Vec<_> = (0..100).map(|it| first.plus(it * step)).collect();
            black_box(segment.among(&web, &candidates).unwrap());
        }
    });
}

#[test]
#[ignore = "prints figures"]
fn lookups_and_merging() {
    let target = tree();
    let (mut segments, mut writing) = (Vec::new(), Duration::ZERO);
    for number in 0..SEGMENTS {
        let after = Position::new(number * EVENTS);
        let tail = tail_of(after, &events(number, EVENTS, PERSONS));
        let begun = cpu_time();
        let number = u32::try_from(number + 1).unwrap();
        segments.push(Arc::new(Segment::write(&target, number, &tail).unwrap()));
        writing += cpu_time() - begun;
    }
    let bytes = |tree: &sled::Tree| -> usize { tree.iter().map(|it| it.unwrap().1.len()).sum() };
    let events = (SEGMENTS * EVENTS) as f64;
    let per_event = |what: &str, time: Duration, bytes: usize| {
        let us = time.as_secs_f64() * 1e6 / events;
        println!("{what}: {us:.2} µs and {:.1} bytes per event", bytes as f64 / events);
    };
    per_event("written", writing, bytes(&target));
    questions("small", &segments[..4]);

    let (other, removed) = (tree(), Removed::none_of(segments[0].span()));
    let begun = cpu_time();
    let merged = Segment::merge(&other, 1, &segments, &removed, &Totals::new(), &mut || ());
    per_event("merged", cpu_time() - begun, bytes(&other));
    questions("large", &[Arc::new(merged.unwrap())]);
}
