//! Random operations, reopening included, against a store that is a vector.

use std::{collections::BTreeSet, env};

use crate::{
    model::{
        DatasetName, Direction, EventFilter, EventTypePattern, IdentityPattern, RecordedEvent,
        TimeRange, Timestamp,
    },
    store::{
        AppendMode, AppendOutcome, DatasetStats, Error, TrimBefore,
        tests::harness::{Harness, event},
    },
};

const TYPES: &[&str] =
    &["web.view", "web.click", "commerce.purchase", "commerce.cart.add", "visit"];
const DATASETS: &[&str] = &["one", "two", "three"];
const STEPS: usize = 400;

/// The generator `SplitMix64` (Steele, Lea and Flood 2014).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((z ^ (z >> 31)) % bound as u64).unwrap()
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }
}

#[derive(Clone, Debug)]
struct Stored {
    position: u64,
    time_us: i64,
    dataset: String,
    id: String,
    event_type: String,
    identities: Vec<(String, String)>,
    text: String,
    /// Trimmed, or its dataset was deleted.
    gone: bool,
}

/// What the store should hold.
#[derive(Default)]
struct Model {
    events: Vec<Stored>,
    datasets: BTreeSet<String>,
    last_time_us: i64,
}

impl Model {
    fn find(&self, dataset: &str, id: &str) -> Option<&Stored> {
        self.events.iter().find(|it| !it.gone && it.dataset == dataset && it.id == id)
    }

    fn select(&self, filter: &EventFilter) -> Vec<&Stored> {
        let any = |list_is_empty: bool, found: bool| list_is_empty || found;
        self.events
            .iter()
            .filter(|it| !it.gone)
            .filter(|it| {
                let named = filter.datasets.iter().any(|name| name.as_str() == it.dataset);
                let typed = filter.event_types.iter().any(|pattern| match pattern {
                    EventTypePattern::Exact(name) => **name == it.event_type,
                    EventTypePattern::Prefix(prefix) => it.event_type.starts_with(&**prefix),
                });
                let identified = filter.identities.iter().any(|wanted| {
                    it.identities.iter().any(|(namespace, id)| {
                        *namespace == *wanted.namespace
                            && wanted.id.as_ref().is_none_or(|wanted| **wanted == **id)
                    })
                });
                any(filter.datasets.is_empty(), named)
                    && any(filter.event_types.is_empty(), typed)
                    && any(filter.identities.is_empty(), identified)
                    && filter.record_time.contains(Timestamp::from_micros(it.time_us))
            })
            .collect()
    }
}

struct World {
    random: Random,
    harness: Harness,
    model: Model,
    now_us: i64,
}

impl World {
    /// An event, often with an id that is taken, sometimes invalid.
    fn make_event(&mut self) -> (String, String, String, Vec<(String, String)>) {
        let id = format!("e{}", self.random.below(300));
        let event_type = self.random.pick(TYPES).to_owned();
        let mut identities = BTreeSet::new();
        for _ in 0..self.random.below(4) {
            let namespace = self.random.pick(&["Email", "GAID", "CRM"]).to_owned();
            identities.insert((namespace, format!("p{}", self.random.below(20))));
        }
        let identities: Vec<_> = identities.into_iter().collect();
        let pairs: Vec<_> = identities.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        let mut text = event(&id, &event_type, &pairs, self.random.below(2) as u64);
        if self.random.below(20) == 0 {
            text = text.replace("\"timestamp\"", "\"time\"");
        }
        (id, event_type, text, identities)
    }

    async fn append(&mut self) {
        let dataset = self.random.pick(DATASETS);
        let mode =
            if self.random.below(2) == 0 { AppendMode::Atomic } else { AppendMode::PerEvent };
        let size = 1 + self.random.below(30);
        let events: Vec<_> = (0..size).map(|_| self.make_event()).collect();
        let texts = events.iter().map(|it| it.2.clone()).collect();
        let outcome = self.harness.append(dataset, texts, mode).await;
        if !self.model.datasets.contains(dataset) {
            assert!(matches!(outcome, Err(Error::NotFound { .. })), "{outcome:?}");
            return;
        }
        let record_time_us = self.model.last_time_us.max(self.now_us);
        let (mut new, mut expected) = (Vec::new(), Vec::new());
        let mut next = self.model.events.len() as u64 + 1;
        for (id, event_type, text, identities) in events {
            let earlier = new
                .iter()
                .find(|it: &&Stored| it.id == id)
                .or_else(|| self.model.find(dataset, &id));
            expected.push(match earlier {
                _ if text.contains("\"time\"") => None,
                Some(it) if it.text == text => Some(AppendOutcome::Duplicate(at(it.position))),
                Some(_) => None,
                None => {
                    let position = next;
                    next += 1;
                    let (dataset, time_us) = (dataset.to_owned(), record_time_us);
                    let gone = false;
                    new.push(Stored {
                        position,
                        time_us,
                        dataset,
                        id,
                        event_type,
                        identities,
                        text,
                        gone,
                    });
                    Some(AppendOutcome::Appended(at(position)))
                }
            });
        }
        if mode == AppendMode::Atomic && expected.contains(&None) {
            assert!(matches!(outcome, Err(Error::Events(_))), "{outcome:?}");
            return;
        }
        for (outcome, expected) in outcome.unwrap().outcomes.into_iter().zip(expected) {
            match expected {
                Some(expected) => assert_eq!(outcome, expected),
                None => assert!(matches!(outcome, AppendOutcome::Rejected(_)), "{outcome:?}"),
            }
        }
        if !new.is_empty() {
            self.model.last_time_us = record_time_us;
        }
        self.model.events.extend(new);
    }

    fn make_filter(&mut self) -> EventFilter {
        let mut filter = EventFilter::default();
        if self.random.below(3) == 0 && !self.model.datasets.is_empty() {
            let known: Vec<_> = self.model.datasets.iter().map(String::as_str).collect();
            let name = self.random.pick(&known);
            filter.datasets.push(DatasetName::parse("", name).unwrap());
        }
        if self.random.below(2) == 0 {
            filter.event_types.push(match self.random.below(3) {
                0 => EventTypePattern::Prefix("commerce.".into()),
                1 => EventTypePattern::Prefix("commerce.cart.".into()),
                _ => EventTypePattern::Exact(self.random.pick(TYPES).into()),
            });
        }
        for _ in 0..self.random.below(3) {
            let namespace = self.random.pick(&["Email", "GAID", "CRM"]).into();
            let id = format!("p{}", self.random.below(20));
            let id = (self.random.below(4) > 0).then(|| id.into());
            filter.identities.push(IdentityPattern { namespace, id });
        }
        if self.random.below(3) == 0 {
            let mut bound = || {
                let us = self.random.below(usize::try_from(self.now_us).unwrap() + 1000);
                let us = i64::try_from(us).unwrap();
                (self.random.below(3) > 0).then(|| Timestamp::from_micros(us))
            };
            filter.record_time = TimeRange { start: bound(), end: bound() };
        }
        filter
    }

    async fn read(&mut self) {
        let filter = self.make_filter();
        let last = self.model.events.len();
        let after = self.random.below(last + 2) as u64 * (self.random.below(2) as u64);
        let before = self.random.below(last + 3) as u64 * (self.random.below(2) as u64);
        let limit =
            if self.random.below(2) == 0 { u64::MAX } else { self.random.below(20) as u64 + 1 };
        let backward = self.random.below(2) == 0;
        let selected = self.model.select(&filter);
        assert_eq!(self.harness.store.count(&filter).await.unwrap(), selected.len() as u64);
        let mut expected: Vec<_> = selected
            .into_iter()
            .filter(|it| it.position > after && (before == 0 || it.position < before))
            .collect();
        if backward {
            expected.reverse();
        }
        expected.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        let direction = if backward { Direction::Backward } else { Direction::Forward };
        let found =
            self.harness.read(filter.clone(), direction, after, before, limit).await.unwrap();
        compare(&found, &expected, &filter);
    }

    /// Trims a dataset by position or by time, sometimes only to look.
    async fn trim(&mut self) {
        let name = self.random.pick(DATASETS).to_owned();
        let bound = self.random.below(self.model.events.len() + 1) as u64 + 1;
        // Mostly a little: large trims leave nothing to look at.
        let bound = if self.random.below(4) == 0 { bound } else { bound / 8 + 1 };
        let time_us =
            i64::try_from(self.random.below(usize::try_from(self.now_us).unwrap())).unwrap();
        let by_time = self.random.below(4) == 0;
        let before = if by_time {
            TrimBefore::RecordTime(Timestamp::from_micros(time_us))
        } else {
            TrimBefore::Position(at(bound))
        };
        let only_look = self.random.below(5) == 0;
        let outcome = self.harness.store.trim_dataset(name.clone(), before, None, only_look).await;
        if !self.model.datasets.contains(&name) {
            assert!(matches!(outcome, Err(Error::NotFound { .. })), "{outcome:?}");
            return;
        }
        let goes = |it: &Stored| {
            let below = if by_time { it.time_us < time_us } else { it.position < bound };
            !it.gone && it.dataset == name && below
        };
        let going: Vec<_> = self.model.events.iter_mut().filter(|it| goes(it)).collect();
        let outcome = outcome.unwrap();
        assert_eq!(outcome.removed, going.len() as u64);
        if let Some(last) = going.last().filter(|_| !only_look) {
            assert_eq!(outcome.dataset.floor, at(last.position));
        }
        if !only_look {
            for it in going {
                it.gone = true;
            }
        }
        let held: Vec<_> =
            self.model.events.iter().filter(|it| !it.gone && it.dataset == name).collect();
        let position = |it: Option<&&Stored>| at(it.map_or(0, |it| it.position));
        let expected = DatasetStats {
            quarantined: 0,
            tagged: 0,
            events: held.len() as u64,
            first: position(held.first()),
            last: position(held.last()),
            payload_bytes: held.iter().map(|it| it.text.len() as u64).sum(),
        };
        assert_eq!(outcome.stats, expected);
    }

    async fn get(&mut self) {
        let (dataset, id) = (self.random.pick(DATASETS), format!("e{}", self.random.below(300)));
        let found = self.harness.store.event_with_id(dataset, &id).await.ok();
        let expected = self.model.find(dataset, &id);
        assert_eq!(found.map(|it| it.position.get()), expected.map(|it| it.position));
    }

    async fn change_datasets(&mut self) {
        let name = self.random.pick(DATASETS).to_owned();
        if self.model.datasets.contains(&name) {
            if self.random.below(3) > 0 {
                return;
            }
            self.harness.store.delete_dataset(name.clone(), None, true, false).await.unwrap();
            self.model.datasets.remove(&name);
            self.model
                .events
                .iter_mut()
                .filter(|it| it.dataset == name)
                .for_each(|it| it.gone = true);
        } else {
            self.harness.create_dataset(&name).await.unwrap();
            self.model.datasets.insert(name);
        }
    }
}

fn at(position: u64) -> crate::model::Position {
    crate::model::Position::new(position)
}

#[track_caller]
fn compare(found: &[RecordedEvent], expected: &[&Stored], filter: &EventFilter) {
    let shown: Vec<_> = found.iter().map(|it| it.position.get()).collect();
    let wanted: Vec<_> = expected.iter().map(|it| it.position).collect();
    assert_eq!(shown, wanted, "{filter:?}");
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found.payload, expected.text.as_bytes());
        assert_eq!(found.record_time.micros(), expected.time_us);
        assert_eq!(
            (&*found.dataset, &*found.event_id),
            (expected.dataset.as_str(), expected.id.as_str())
        );
        let identities: Vec<_> = found
            .identities
            .iter()
            .map(|it| (it.namespace.to_string(), it.id.to_string()))
            .collect();
        assert_eq!(identities, expected.identities);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn random_operations_agree_with_a_vector() {
    let seed = env::var("MILEPOST_SEED").ok().and_then(|it| it.parse().ok()).unwrap_or(1);
    let rounds: u64 = env::var("MILEPOST_ROUNDS").ok().and_then(|it| it.parse().ok()).unwrap_or(3);
    for seed in seed..seed + rounds {
        eprintln!("MILEPOST_SEED={seed}");
        let harness = Harness::new().await;
        let mut world =
            World { random: Random(seed), harness, model: Model::default(), now_us: 1_000_000 };
        for _ in 0..STEPS {
            match world.random.below(21) {
                0 => world.harness.reopen().await,
                20 => world.harness.compact().await,
                1 | 2 => world.change_datasets().await,
                3..=5 => {
                    let by = i64::try_from(world.random.below(1000)).unwrap() - 300; // clocks step back too
                    world.now_us += by;
                    world.harness.advance(by);
                }
                6..=10 => world.append().await,
                11 | 12 => world.get().await,
                13 | 14 => world.trim().await,
                _ => world.read().await,
            }
        }
        world.harness.reopen().await;
        let expected = world.model.select(&EventFilter::default());
        compare(&world.harness.read_all().await, &expected, &EventFilter::default());
    }
}
