//! Checking a volume: its blocks and records, and its index against them.

use std::{collections::VecDeque, sync::Arc};

use crate::{
    model::Position,
    storage::{
        Block,
        index::{self, Comparison, Part as _, Segment, Span},
        packed::PackedBlock,
        pb::EventRecord,
        verify::{
            Finding, FindingKind, Verifier,
            walk::{Lost, Walk, guard},
        },
        volume::{Volume, slot_last},
    },
};

/// Segments that are being compared, in the order of their spans.
#[derive(Default)]
struct Comparing {
    open: VecDeque<Comparison>,
    /// Those whose records have all been read.
    read: Vec<Comparison>,
}

impl Comparing {
    fn add(&mut self, position: Position, record: &EventRecord) {
        self.pass(position.previous());
        if let Some(comparison) = self.open.front_mut().filter(|it| it.span().contains(position)) {
            comparison.add(position, record);
        }
    }

    fn leave_out(&mut self, span: Span) {
        let open = self.open.iter_mut().filter(|it| !it.span().intersect(span).is_empty());
        open.for_each(|comparison| comparison.leave_out(span));
    }

    /// All up to here was read.
    fn pass(&mut self, position: Position) {
        while let Some(comparison) = self.open.pop_front_if(|it| it.span().until <= position) {
            self.read.push(comparison);
        }
    }
}

impl Verifier<'_, '_> {
    /// Counts positions of which nothing is left.
    pub(super) fn removed(&mut self, span: Span) {
        self.done.removed += span.len();
        self.reached(span.until);
    }

    /// Checks a span of a volume. Of one that has ended, all must be indexed.
    pub(super) fn volume(&mut self, volume: &Volume, span: Span, is_ended: bool) {
        self.done.volumes += 1;
        let about = |kind| Finding::new(kind, "").in_volume(volume.number);
        if let Err(message) = guard(|| volume.record()) {
            self.found(Finding { message, ..about(FindingKind::Directory) });
        }
        if let Err(message) = guard(|| volume.dictionaries.check()) {
            self.found(Finding { message, ..about(FindingKind::Directory) });
        }
        let mut comparing = self.segments(volume, span, is_ended);
        for step in Walk::new(volume, span) {
            if !self.goes_on() {
                return;
            }
            let at = match step {
                Ok(block) => {
                    self.block(&block, &about(FindingKind::Log), &mut comparing);
                    block.header.last()
                }
                Err(Lost { span, why }) => {
                    let first = span.after.next();
                    let about = about(FindingKind::Log);
                    self.lost(span, Finding { message: why, block: first, ..about });
                    comparing.leave_out(span);
                    span.until
                }
            };
            comparing.pass(at);
            self.reached(at);
            for comparison in std::mem::take(&mut comparing.read) {
                self.compare(volume, span, comparison);
            }
        }
    }

    /// The segments to compare; tells of those that cannot be read, and of what none covers.
    fn segments(&mut self, volume: &Volume, span: Span, is_ended: bool) -> Comparing {
        let mut comparing = Comparing::default();
        let about = || Finding::new(FindingKind::Index, "").in_volume(volume.number);
        let numbers = match guard(|| index::segment_numbers(volume.index())) {
            Ok(numbers) => numbers,
            Err(message) => {
                self.found(Finding { message, ..about() });
                return comparing;
            }
        };
        let mut segments: Vec<Segment> = Vec::new();
        for number in numbers {
            match guard(|| Segment::open(volume.index(), number)) {
                Ok(segment) => segments.extend(segment),
                Err(message) => {
                    self.found(Finding { message, segment: Some(number), ..about() });
                }
            }
        }
        segments.sort_by_key(|segment| segment.span().after);
        let mut covered = span.after;
        for segment in segments {
            let (own, number) = (segment.span(), Some(segment.number()));
            if own.after >= span.until || own.until > span.until {
                if is_ended {
                    let message = format!("it reaches to {}, beyond its volume", own.until);
                    self.found(Finding { message, segment: number, ..about() });
                }
                continue;
            }
            if own.after != covered {
                let message = format!("it begins after {}, wanted {covered}", own.after);
                self.found(Finding { message, segment: number, ..about() });
            }
            covered = covered.max(own.until);
            comparing.open.push_back(Comparison::with(Arc::new(segment)));
        }
        if is_ended && covered < span.until {
            let message = "no index segment covers the positions".to_owned();
            let finding = Finding { message, ..about() };
            self.found(finding.at(covered.next(), span.until));
        }
        comparing
    }

    /// Checks a sound block's records.
    fn block(&mut self, block: &PackedBlock, about: &Finding, comparing: &mut Comparing) {
        self.done.blocks += 1;
        let about = Finding { block: block.header.first, ..about.clone() };
        let mut at = block.header.first.previous();
        for run in block.runs() {
            let run = match run {
                Ok(run) => run,
                Err(error) => {
                    let span = Span { after: at, until: block.header.last() };
                    self.lost(span, Finding { message: error.to_string(), ..about });
                    comparing.leave_out(span);
                    return;
                }
            };
            let span = Span { after: at, until: run.last() };
            self.run(&run, span, &about, &mut |position, record| match record {
                Some(record) => comparing.add(position, record),
                None => comparing.leave_out(Span { after: position.previous(), until: position }),
            });
            at = run.last();
        }
    }

    /// Checks the records of a run inside a span; calls `each` with those that hold an event, or
    /// with nothing where it cannot be read.
    pub(super) fn run(
        &mut self,
        run: &Block,
        span: Span,
        about: &Finding,
        each: &mut dyn FnMut(Position, Option<&EventRecord>),
    ) {
        let positions = span.after.max(run.first.previous()).next().get()..=span.until.get();
        for position in positions.map(Position::new) {
            let wrong_time = self.records.check_time(run, position);
            let record = match run.get(position) {
                Ok(Some(record)) => record,
                Ok(None) => {
                    self.done.removed += 1;
                    continue;
                }
                Err(error) => {
                    each(position, None);
                    let span = Span { after: position.previous(), until: position };
                    self.lost(span, Finding { message: error.to_string(), ..about.clone() });
                    continue;
                }
            };
            self.done.events += 1;
            each(position, Some(&record));
            for message in self.records.check(&record).into_iter().chain(wrong_time) {
                let event_id = record.event_id().to_owned();
                let finding =
                    Finding { kind: FindingKind::Record, message, event_id, ..about.clone() };
                self.found(finding.at(position, position));
            }
        }
    }

    fn compare(&mut self, volume: &Volume, span: Span, comparison: Comparison) {
        self.done.segments += 1;
        let about = Finding {
            segment: Some(comparison.segment_number()),
            ..Finding::new(FindingKind::Index, "").in_volume(volume.number)
        };
        let mut read = |slice: Span, each: &mut dyn FnMut(Position, &EventRecord)| {
            read_again(volume, slice, span.until, each);
            Ok(())
        };
        let outcome = comparison.finish(&mut read, &mut |difference| {
            let position = difference.position.unwrap_or_default();
            let (message, term) = (difference.message, difference.term);
            self.found(Finding { message, term, ..about.clone() }.at(position, position));
        });
        if let Err(error) = outcome {
            self.found(Finding { message: error.to_string(), ..about });
        }
    }
}

/// Reads the events of a slice of a volume, but for those that cannot be read.
fn read_again(
    volume: &Volume,
    slice: Span,
    until: Position,
    each: &mut dyn FnMut(Position, &EventRecord),
) {
    let after = volume.begin(slice.after.next()).previous();
    let until = slot_last(slice.until).min(until);
    for block in Walk::new(volume, Span { after, until }).flatten() {
        for run in block.runs().flatten() {
            for (position, record) in run.iter().flatten() {
                if slice.contains(position) {
                    each(position, &record);
                }
            }
        }
    }
}
