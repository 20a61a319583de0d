//! Which definitions an event matches, without asking each one.
//!
//! Most conditions say that some text must stand at some path (`eventType`, the id of a place, of a
//! definition). Of each, one such path is chosen; an event is looked at once for each path, and only
//! those definitions are asked that want the text it has there.

use std::{collections::BTreeMap, sync::Arc};

use ahash::AHashMap;

use crate::{
    model::{TimeRange, Timestamp, json::Node},
    storage::pb::MatchRecord,
    store::definitions::{Compiled, DefinitionState, EventDefinition},
};

/// Paths that an event is looked at for; definitions with others are asked each time.
const PATHS_MAX: usize = 16;

/// Definitions in force, by a text that they want at some path.
type ByText = AHashMap<String, Vec<Arc<Live>>>;

/// A definition in force.
#[derive(Debug)]
pub(crate) struct Live {
    number: u32,
    version: u32,
    compiled: Arc<Compiled>,
    effective: TimeRange,
}

/// The definitions in force on one schema.
#[derive(Debug, Default)]
pub(crate) struct Matchers {
    by_path: Vec<(Vec<String>, ByText)>,
    /// Those that may match whatever stands anywhere.
    others: Vec<Arc<Live>>,
}

/// What an event matches.
#[derive(Debug, Default)]
pub(crate) struct Matches {
    /// For certain.
    pub(crate) records: Vec<MatchRecord>,
    /// If its record time says so, too.
    pub(crate) open: Vec<Arc<Live>>,
}

impl Live {
    fn of(definition: &EventDefinition) -> Option<Self> {
        let version = definition.versions.last()?;
        let is_live = version.spec.state == DefinitionState::Live;
        Some(Self {
            number: definition.number,
            version: version.version,
            compiled: version.compiled.clone().filter(|_| is_live)?,
            effective: version.spec.effective,
        })
    }

    fn record(&self) -> MatchRecord {
        MatchRecord { definition: self.number, version: self.version }
    }

    /// Whether the record time has a say.
    fn is_timed(&self) -> bool {
        !self.effective.is_unbounded() || self.compiled.condition.uses_now()
    }

    /// Whether an event that is stored at `time` matches.
    pub(crate) fn matches(&self, event: Node<'_>, time: Timestamp) -> Option<MatchRecord> {
        let holds = self.effective.contains(time)
            && self.compiled.condition.holds(event, time).is_ok_and(|it| it);
        holds.then(|| self.record())
    }
}

impl Matchers {
    /// Those of the definitions that are in force; `None` when none is.
    pub(crate) fn of<'a>(definitions: impl Iterator<Item = &'a EventDefinition>) -> Option<Self> {
        let live: Vec<Arc<Live>> = definitions.filter_map(Live::of).map(Arc::new).collect();
        if live.is_empty() {
            return None;
        }
        // How many texts definitions want at each path: the more, the fewer want the same.
        let mut wanted: BTreeMap<Vec<String>, BTreeMap<String, usize>> = BTreeMap::new();
        let anchors: Vec<_> = live.iter().map(|it| it.compiled.condition.anchors()).collect();
        for (path, texts) in anchors.iter().flatten() {
            let counts = wanted.entry(path.clone()).or_default();
            for text in texts {
                *counts.entry(text.clone()).or_default() += 1;
            }
        }
        let mut paths: Vec<_> = wanted.iter().map(|(path, texts)| (texts.len(), path)).collect();
        paths.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(b.1)));
        paths.truncate(PATHS_MAX);
        let mut by_path: Vec<(Vec<String>, ByText)> =
            paths.into_iter().map(|(_, path)| (path.clone(), AHashMap::new())).collect();
        let mut others = Vec::new();
        for (live, anchors) in live.into_iter().zip(anchors) {
            let crowd = |path: &Vec<String>| {
                let counts = wanted.get(path)?;
                let texts = anchors.get(path)?;
                Some(texts.iter().filter_map(|it| counts.get(it)).sum::<usize>())
            };
            let place = by_path
                .iter_mut()
                .filter_map(|entry| Some((crowd(&entry.0)?, entry)))
                .min_by_key(|(crowd, _)| *crowd);
            match place {
                Some((_, (path, by_text))) => {
                    for text in anchors.get(path).into_iter().flatten() {
                        by_text.entry(text.clone()).or_default().push(Arc::clone(&live));
                    }
                }
                None => others.push(live),
            }
        }
        by_path.retain(|(_, by_text)| !by_text.is_empty());
        Some(Self { by_path, others })
    }

    /// Which of them an event matches, as far as that can be said before its record time is known.
    pub(crate) fn matches(&self, event: Node<'_>) -> Matches {
        let mut found = Matches::default();
        for (path, by_text) in &self.by_path {
            let mut node = Some(event);
            for name in path {
                node = node.and_then(|it| it.get(name));
            }
            let text = node.and_then(|it| it.as_str());
            for live in text.and_then(|it| by_text.get(it)).into_iter().flatten() {
                found.ask(live, event);
            }
        }
        for live in &self.others {
            found.ask(live, event);
        }
        found.records.sort_unstable_by_key(|it| it.definition);
        found
    }
}

impl Matches {
    fn ask(&mut self, live: &Arc<Live>, event: Node<'_>) {
        if live.is_timed() {
            self.open.push(Arc::clone(live));
        } else {
            self.records.extend(live.matches(event, Timestamp::EPOCH));
        }
    }
}
