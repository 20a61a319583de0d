//! Makes instances that a schema accepts, by construction as far as its keywords tell; the caller
//! holds each against the compiled schema.

mod text;

use std::{collections::BTreeSet, sync::Arc};

use serde_json::{Map, Number, Value};

use crate::{
    model::limits,
    schema::{
        SchemaDocument,
        effective::{Facets, Place, View},
    },
};

/// Numbers that a seed decides (splitmix64).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The same seed gives the same numbers.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound.max(1)).unwrap_or(u64::MAX);
        usize::try_from(self.next() % bound).unwrap_or(0)
    }

    pub(super) fn one_of<'a, T>(&mut self, choices: &'a [T]) -> Option<&'a T> {
        let place = self.below(choices.len());
        choices.get(place)
    }
}

/// An instance with the required fields and so many percent of the others; `None` when a required
/// field cannot be made.
#[must_use]
pub fn sample(
    root: &SchemaDocument,
    closure: &[Arc<SchemaDocument>],
    random: Random,
    optional_percent: usize,
) -> Option<Value> {
    let view = View::new(root, closure);
    let mut maker = Maker { view, random, optional_percent, left: limits::SAMPLE_VALUES_MAX };
    maker.value(&[(0, 0)], &mut Vec::new())
}

/// Whether a schema requires what every event has.
#[must_use]
pub fn is_for_events(root: &SchemaDocument, closure: &[Arc<SchemaDocument>]) -> bool {
    let required = View::new(root, closure).gather(&[(0, 0)]).required;
    required.contains("_id") && required.contains("timestamp")
}

/// Levels below which only required fields are made.
const OPTIONAL_LEVELS_MAX: usize = 8;
/// Alternatives that are chosen at one place, each of which may bring others.
const CHOICES_MAX: usize = 16;
const TYPES: [&str; 6] = ["object", "array", "string", "integer", "number", "boolean"];

struct Maker<'a> {
    view: View<'a>,
    random: Random,
    optional_percent: usize,
    /// Values that may still be made.
    left: usize,
}

impl<'a> Maker<'a> {
    /// `path` holds the keys that lead here. Recursion is bounded by the depth of events.
    fn value(&mut self, places: &[Place], path: &mut Vec<String>) -> Option<Value> {
        self.left = self.left.checked_sub(1)?;
        let facets = self.choose(places);
        if facets.never || path.len() >= limits::JSON_DEPTH_MAX {
            return None;
        }
        if let Some(values) = &facets.values {
            return self.random.one_of(values).map(|it| (*it).clone());
        }
        match self.kind(&facets) {
            "object" => self.object(&facets, path),
            "array" => self.array(&facets, path),
            "integer" => number(&mut self.random, &facets, true),
            "number" => number(&mut self.random, &facets, false),
            "boolean" => Some(Value::Bool(self.random.below(2) == 0)),
            "null" => Some(Value::Null),
            _ => text::text(&mut self.random, &facets).map(Value::String),
        }
    }

    /// All that applies, with one alternative of each `anyOf` and `oneOf`.
    fn choose(&mut self, places: &[Place]) -> Facets<'a> {
        let mut places = places.to_vec();
        let mut chosen: BTreeSet<Place> = BTreeSet::new();
        loop {
            let facets = self.view.gather(&places);
            let conditions =
                ["anyOf", "oneOf"].into_iter().filter_map(|it| facets.conditions.get(it));
            let open = conditions.flatten().find(|it| {
                !it.branches.is_empty() && !it.branches.iter().any(|(_, it)| chosen.contains(it))
            });
            let branch = open.and_then(|it| self.random.one_of(&it.branches));
            match branch {
                Some((_, branch)) if chosen.len() < CHOICES_MAX => {
                    chosen.insert(*branch);
                    places.push(*branch);
                }
                _ => return facets,
            }
        }
    }

    fn kind(&mut self, facets: &Facets<'a>) -> &'a str {
        if let Some(types) = &facets.types {
            let types: Vec<&str> = types.iter().copied().filter(|it| *it != "null").collect();
            return self.random.one_of(&types).copied().unwrap_or("null");
        }
        let is_object = !facets.properties.is_empty()
            || !facets.required.is_empty()
            || !facets.additional.is_empty();
        let has = |names: &[&str]| names.iter().any(|it| facets.bounds.contains_key(it));
        let [object, array, string, _, number, _] = TYPES;
        if is_object {
            object
        } else if !facets.items.is_empty() || has(&["minItems", "maxItems"]) {
            array
        } else if has(&["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"]) {
            number
        } else {
            string
        }
    }

    fn object(&mut self, facets: &Facets<'a>, path: &mut Vec<String>) -> Option<Value> {
        let mut made = Map::new();
        let least = bound(facets, "minProperties").unwrap_or(0);
        let most = bound(facets, "maxProperties").unwrap_or(usize::MAX);
        for (name, places) in &facets.properties {
            let is_required = facets.required.contains(name);
            let wanted = path.len() < OPTIONAL_LEVELS_MAX
                && self.random.below(100) < self.optional_percent
                && made.len() < most;
            if !is_required && !wanted {
                continue;
            }
            path.push((*name).to_owned());
            let value = self.value(places, path);
            path.pop();
            match value {
                Some(value) => drop(made.insert((*name).to_owned(), value)),
                None if is_required => return None,
                None => {}
            }
        }
        // What is required without being defined, and the entries of a map.
        let undefined = facets.required.iter().filter(|it| !facets.properties.contains_key(*it));
        let mut keys: Vec<String> = undefined.map(|it| (*it).to_owned()).collect();
        let is_map = facets.properties.is_empty() && !facets.additional.is_empty();
        if is_map && made.is_empty() && keys.is_empty() && most > 0 {
            // Identity maps have namespaces for keys.
            keys.push(
                if path.last().is_some_and(|it| it == "identityMap") { "Email" } else { "key" }
                    .into(),
            );
        }
        for number in 1.. {
            if made.len() + keys.len() >= least || number > least {
                break;
            }
            keys.push(format!("key{number}"));
        }
        for key in keys {
            path.push(key.clone());
            let value = self.value(&facets.additional.clone(), path);
            path.pop();
            made.insert(key, value?);
        }
        Some(Value::Object(made))
    }

    fn array(&mut self, facets: &Facets<'a>, path: &mut Vec<String>) -> Option<Value> {
        let least = bound(facets, "minItems").unwrap_or(0);
        let most = bound(facets, "maxItems").unwrap_or(usize::MAX);
        let length = least.max(1 + self.random.below(2)).max(facets.elements.len()).min(most);
        let mut made: Vec<Value> = Vec::new();
        for place in 0..length {
            let places = facets.elements.get(&place).unwrap_or(&facets.items).clone();
            path.push(place.to_string());
            let value = self.value(&places, path);
            path.pop();
            match value {
                Some(value) if facets.unique && made.contains(&value) => {}
                Some(value) => made.push(value),
                None if place < least => return None,
                None => break,
            }
        }
        (made.len() >= least).then_some(Value::Array(made))
    }
}

fn bound(facets: &Facets<'_>, keyword: &str) -> Option<usize> {
    let bound = *facets.bounds.get(keyword)?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "saturates, and a count is neither negative nor near the bounds of a double"
    )]
    Some(bound as usize)
}

/// A number within bounds; whole if asked for.
fn number(random: &mut Random, facets: &Facets<'_>, whole: bool) -> Option<Value> {
    let get = |keyword: &str| facets.bounds.get(keyword).copied();
    let lowest = [get("minimum"), get("exclusiveMinimum")].into_iter().flatten().reduce(f64::max);
    let highest = [get("maximum"), get("exclusiveMaximum")].into_iter().flatten().reduce(f64::min);
    let (lowest, highest) = match (lowest, highest) {
        (Some(low), Some(high)) => (low, high),
        (Some(low), None) => (low, low + 100.0),
        (None, Some(high)) => (high - 100.0, high),
        (None, None) => (0.0, 100.0),
    };
    let step = facets.multiples.iter().copied().fold(if whole { 1.0 } else { 0.01 }, f64::max);
    let steps = ((highest.min(lowest + 1000.0 * step) - lowest) / step).max(0.0);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "at most a thousand steps"
    )]
    let offset = random.below(steps as usize + 1) as f64 * step;
    let mut value = ((lowest + offset) / step).ceil() * step;
    if get("exclusiveMinimum").is_some_and(|it| value <= it) {
        value += step;
    }
    if value > highest {
        value = lowest.midpoint(highest);
    }
    if get("exclusiveMaximum").is_some_and(|it| value >= it) {
        value = lowest.midpoint(highest);
    }
    if whole {
        #[expect(clippy::cast_possible_truncation, reason = "saturates")]
        return Some(Value::from(value.ceil() as i64));
    }
    // Two decimals, unless that leaves the bounds.
    let rounded = (value * 100.0).round() / 100.0;
    let value = if rounded >= lowest && rounded <= highest { rounded } else { value };
    Number::from_f64(value).map(Value::Number)
}
