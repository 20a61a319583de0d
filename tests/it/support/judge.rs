//! Judges the history of a subscription as its consumers saw it. Knows the promises and nothing of how they are
//! kept, so it uses the standard library alone: unit tests of the state machine include this file, too.
//!
//! Times are microseconds of one clock. What a consumer sees comes after what the server did, and what
//! it says comes before; every rule below holds whatever the delay.

use std::collections::{BTreeMap, BTreeSet};

/// One attempt, as a consumer got it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// When it arrived.
    pub at: i64,
    pub position: u64,
    pub consumer: String,
    pub epoch: u64,
    /// Which attempt of the event it is in all, whatever was replayed.
    pub attempt: u32,
    /// When its lease ends.
    pub deadline: i64,
    pub replay: bool,
}

/// What a consumer said about an attempt.
#[derive(Clone, Debug)]
pub struct Said {
    /// Before it was sent.
    pub sent: i64,
    pub position: u64,
    pub epoch: u64,
    pub attempt: u32,
    pub word: Word,
    pub result: Verdict,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    Ack,
    Nack,
    Park,
    Skip,
    /// The lease ends then.
    Extend(i64),
    /// Given back without an outcome, as when a consumer leaves.
    Release,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Done,
    Stale,
    /// No answer came.
    Unknown,
}

/// A history between two seeks.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Matching events and their lanes.
    pub events: BTreeMap<u64, Vec<String>>,
    pub seen: Vec<Seen>,
    pub said: Vec<Said>,
    /// Parked at the end, or discarded.
    pub parked: BTreeSet<u64>,
    /// Parked at some time: their lanes need not have waited for them.
    pub once_parked: BTreeSet<u64>,
    /// Events of one lane that a consumer may have at a time.
    pub per_lane: usize,
    /// Outcomes were answered before they were durable: a kill may have taken them back.
    pub early: bool,
    /// Whether the subscription has come to an end of its events.
    pub finished: bool,
}

impl History {
    /// Everything that breaks a promise.
    pub fn judge(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        self.only_matching(&mut wrong);
        self.one_outcome(&mut wrong);
        self.nothing_after_an_ack(&mut wrong);
        self.no_overlap(&mut wrong);
        self.in_order(&mut wrong);
        self.failures_count(&mut wrong);
        if self.early {
            self.not_overtaken(&mut wrong);
        }
        if self.finished {
            self.nothing_lost(&mut wrong);
        }
        wrong
    }

    fn resolves(said: &Said) -> bool {
        matches!(said.word, Word::Ack | Word::Skip)
    }

    /// What an outcome of this epoch counts for: always, or until the next kill.
    fn remembered(&self, epoch: u64) -> u64 {
        if self.early { epoch } else { 0 }
    }

    fn only_matching(&self, wrong: &mut Vec<String>) {
        let foreign = |it: &&Seen| !it.replay && !self.events.contains_key(&it.position);
        for seen in self.seen.iter().filter(foreign) {
            wrong.push(format!("{} does not match and was delivered", seen.position));
        }
    }

    /// At most one attempt of an event is acknowledged.
    fn one_outcome(&self, wrong: &mut Vec<String>) {
        let mut done: BTreeMap<(u64, u64), (u64, u32)> = BTreeMap::new();
        for said in self.said.iter().filter(|it| Self::resolves(it)) {
            if said.result == Verdict::Done {
                let attempt = (said.epoch, said.attempt);
                let key = (said.position, self.remembered(said.epoch));
                let first = *done.entry(key).or_insert(attempt);
                if first != attempt {
                    wrong.push(format!(
                        "{} was acknowledged as attempt {first:?} and as {attempt:?}",
                        said.position
                    ));
                }
            }
        }
    }

    /// After an acknowledged ack no later attempt begins.
    fn nothing_after_an_ack(&self, wrong: &mut Vec<String>) {
        let acked: BTreeMap<(u64, u64), (u64, u32)> = self
            .said
            .iter()
            .filter(|it| Self::resolves(it) && it.result == Verdict::Done)
            .map(|it| ((it.position, self.remembered(it.epoch)), (it.epoch, it.attempt)))
            .collect();
        for seen in &self.seen {
            if let Some(acked) = acked.get(&(seen.position, self.remembered(seen.epoch)))
                && (seen.epoch, seen.attempt) > *acked
            {
                wrong.push(format!(
                    "{} was acknowledged as attempt {acked:?} and delivered as {:?}",
                    seen.position,
                    (seen.epoch, seen.attempt)
                ));
            }
        }
    }

    /// While a lease lasts, the event is delivered to nobody else. Where a lane may have several under way,
    /// a failure also ends the leases behind it.
    fn no_overlap(&self, wrong: &mut Vec<String>) {
        if (2..usize::MAX).contains(&self.per_lane) {
            return;
        }
        let mut by_position: BTreeMap<u64, Vec<&Seen>> = BTreeMap::new();
        for seen in &self.seen {
            by_position.entry(seen.position).or_default().push(seen);
        }
        let mut said: BTreeMap<u64, Vec<&Said>> = BTreeMap::new();
        for it in &self.said {
            said.entry(it.position).or_default().push(it);
        }
        for (position, mut attempts) in by_position {
            // A consumer that stalls reads an attempt after it is over, and after the next one was read.
            attempts.sort_by_key(|it| (it.epoch, it.attempt));
            let said = said.get(&position).map(Vec::as_slice).unwrap_or_default();
            for pair in attempts.windows(2) {
                let (first, second) = (pair[0], pair[1]);
                if first.epoch != second.epoch || first.consumer == second.consumer {
                    continue; // A restart ends leases; a consumer may be given what it gave back.
                }
                let about_first =
                    |it: &&&Said| (it.epoch, it.attempt) == (first.epoch, first.attempt);
                let ended = said
                    .iter()
                    .filter(about_first)
                    .any(|it| !matches!(it.word, Word::Extend(_)) && it.sent <= second.at);
                let extended = said.iter().filter(about_first).filter_map(|it| match it.word {
                    Word::Extend(until) if it.result == Verdict::Done => Some(until),
                    Word::Ack
                    | Word::Nack
                    | Word::Park
                    | Word::Skip
                    | Word::Release
                    | Word::Extend(_) => None,
                });
                let deadline = extended.fold(first.deadline, i64::max);
                if !ended && second.at < deadline {
                    wrong.push(format!(
                        "{position} was delivered to {} (attempt {}) at {} while {} had it (attempt {}) until {deadline}",
                        second.consumer, second.attempt, second.at, first.consumer, first.attempt
                    ));
                }
            }
        }
    }

    /// An event begins when all earlier ones of its lanes are done, or are with the same consumer as far as
    /// that is allowed.
    fn in_order(&self, wrong: &mut Vec<String>) {
        let mut done_at: BTreeMap<u64, i64> = BTreeMap::new();
        for said in self.said.iter().filter(|it| Self::resolves(it) && it.result != Verdict::Stale)
        {
            let at = done_at.entry(said.position).or_insert(said.sent);
            *at = said.sent.min(*at);
        }
        let mut lanes: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
        for (position, names) in &self.events {
            for name in names {
                lanes.entry(name).or_default().push(*position);
            }
        }
        let mut by_position: BTreeMap<u64, Vec<&Seen>> = BTreeMap::new();
        for seen in self.seen.iter().filter(|it| !it.replay) {
            by_position.entry(seen.position).or_default().push(seen);
        }
        for (lane, positions) in lanes {
            // When all earlier events were done, and the one that took longest.
            let mut before: (i64, u64) = (i64::MIN, 0);
            let mut earlier: Vec<u64> = Vec::new();
            for position in positions {
                for seen in by_position.get(&position).map(Vec::as_slice).unwrap_or_default() {
                    if self.per_lane <= 1 && seen.at < before.0 {
                        wrong.push(format!(
                            "{position} was delivered at {} before {} of lane {lane} was done",
                            seen.at, before.1
                        ));
                    }
                    if self.per_lane > 1 {
                        self.behind_its_own(seen, &earlier, &done_at, &by_position, wrong);
                    }
                }
                if !self.once_parked.contains(&position) {
                    let done = done_at.get(&position).copied().unwrap_or(i64::MAX);
                    before = before.max((done, position));
                    earlier.push(position);
                }
            }
        }
    }

    fn behind_its_own(
        &self,
        seen: &Seen,
        earlier: &[u64],
        done_at: &BTreeMap<u64, i64>,
        by_position: &BTreeMap<u64, Vec<&Seen>>,
        wrong: &mut Vec<String>,
    ) {
        let open = earlier.iter().filter(|it| done_at.get(it).is_none_or(|at| *at > seen.at));
        let mut count = 1;
        for other in open {
            count += 1;
            let same = by_position.get(other).is_some_and(|attempts| {
                attempts.iter().any(|it| it.at <= seen.at && it.consumer == seen.consumer)
            });
            if !same || count > self.per_lane {
                wrong.push(format!(
                    "{} was delivered to {} before {other} was done",
                    seen.position, seen.consumer
                ));
            }
        }
    }

    /// A failed attempt is counted, also by a server that was killed since.
    fn failures_count(&self, wrong: &mut Vec<String>) {
        let attempts: BTreeMap<(u64, u64, u32), u32> =
            self.seen.iter().map(|it| ((it.position, it.epoch, it.attempt), it.attempt)).collect();
        for said in
            self.said.iter().filter(|it| it.word == Word::Nack && it.result == Verdict::Done)
        {
            let key = (said.position, said.epoch, said.attempt);
            let Some(failed) = attempts.get(&key) else { continue };
            let later = attempts.range(key..).skip(1).take_while(|it| it.0.0 == said.position);
            let later = later.filter(|it| self.remembered(it.0.1) == self.remembered(said.epoch));
            for ((_, epoch, attempt), total) in later {
                if total <= failed {
                    wrong.push(format!(
                        "{}: attempt {:?} failed, and {:?} came as number {total} in all",
                        said.position,
                        (said.epoch, said.attempt),
                        (epoch, attempt)
                    ));
                }
            }
        }
    }

    /// An event that a kill brought back comes before all later ones of its lanes: they have waited until it
    /// was durably done.
    fn not_overtaken(&self, wrong: &mut Vec<String>) {
        // The first and the last epoch in which an event was delivered.
        let mut epochs: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
        for seen in self.seen.iter().filter(|it| !it.replay) {
            let known = epochs.entry(seen.position).or_insert((seen.epoch, seen.epoch));
            *known = (known.0.min(seen.epoch), known.1.max(seen.epoch));
        }
        // From the newest event back: the first epoch in which one behind was delivered, for each lane.
        let mut behind: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
        for (position, lanes) in self.events.iter().rev() {
            let Some((first, last)) = epochs.get(position) else { continue };
            for lane in lanes {
                if let Some((epoch, later)) = behind.get(lane.as_str())
                    && epoch < last
                    && !self.once_parked.contains(position)
                {
                    wrong.push(format!(
                        "{position} came in epoch {last}, {later} of lane {lane} in {epoch} before"
                    ));
                }
                let known = behind.entry(lane).or_insert((*first, *position));
                *known = (*known).min((*first, *position));
            }
        }
    }

    fn nothing_lost(&self, wrong: &mut Vec<String>) {
        let done: BTreeSet<u64> = self
            .said
            .iter()
            .filter(|it| Self::resolves(it) && it.result != Verdict::Stale)
            .map(|it| it.position)
            .collect();
        for position in self.events.keys() {
            if !done.contains(position) && !self.parked.contains(position) {
                wrong.push(format!("{position} was never done, and is not parked"));
            }
        }
    }
}
