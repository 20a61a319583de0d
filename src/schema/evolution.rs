//! What a new version of a schema changes for events and their readers, by XDM's rules of evolution:
//! fields may be added and rules relaxed; nothing may go, change its meaning, or accept less.

mod change;
mod compare;

use std::{
    collections::{BTreeMap, BTreeSet, HashSet, VecDeque},
    sync::Arc,
};

use crate::{
    model::{json::push_token, limits},
    schema::{
        SchemaDocument,
        effective::{Condition, Facets, Place, View},
        identity,
    },
};

pub use change::{Change, ChangeKind, Changes, Verdict};

/// A document with all that it refers to.
pub type Version<'a> = (&'a SchemaDocument, &'a [Arc<SchemaDocument>]);

/// What differs for events between two versions of a schema, as they come out with all they refer to.
/// What is used at several places is told once, at the place nearest to the top.
#[must_use]
pub fn changes(old: Version<'_>, new: Version<'_>) -> Changes {
    let views = (View::new(old.0, old.1), View::new(new.0, new.1));
    let mut comparison = Comparison {
        same: (untouched(&views.0, &views.1), untouched(&views.1, &views.0)),
        old: views.0,
        new: views.1,
        seen: HashSet::new(),
        left: VecDeque::new(),
        steps: 0,
        found: Changes::default(),
    };
    comparison.primary_identity(old, new);
    comparison.look_at(
        At { path: String::new(), levels: 0, strict: false },
        vec![(0, 0)],
        vec![(0, 0)],
    );
    while let Some((at, old, new)) = comparison.left.pop_front() {
        if !comparison.step(&at, &old, &new) {
            comparison.tell(&at, ChangeKind::TooComplex, "", "");
            break;
        }
    }
    comparison.found
}

/// Documents of a view that are the same in the other one, with all they refer to.
fn untouched(view: &View<'_>, other: &View<'_>) -> HashSet<usize> {
    let digests: BTreeMap<&str, &[u8; 32]> =
        other.documents.iter().map(|it| (it.id(), it.digest())).collect();
    let is_same =
        |it: &SchemaDocument| digests.get(it.id()).is_some_and(|digest| *digest == it.digest());
    let mut touched: HashSet<&str> =
        view.documents.iter().filter(|it| !is_same(it)).map(|it| it.id()).collect();
    loop {
        let before = touched.len();
        for document in &view.documents {
            if document.references().iter().any(|it| touched.contains(it.target.as_str())) {
                touched.insert(document.id());
            }
        }
        if touched.len() == before {
            break;
        }
    }
    let places = view.documents.iter().enumerate();
    places.filter(|(_, it)| !touched.contains(it.id())).map(|(place, _)| place).collect()
}

/// Where in an event two versions are compared.
#[derive(Clone)]
struct At {
    path: String,
    levels: usize,
    /// Under a condition, where accepting more can mean accepting less.
    strict: bool,
}

impl At {
    fn below(&self, token: &str) -> Self {
        let mut path = self.path.clone();
        if path.len() < limits::VIOLATION_PATH_BYTES_MAX {
            push_token(&mut path, token.get(..token.floor_char_boundary(256)).unwrap_or(token));
        }
        Self { path, levels: self.levels + 1, strict: self.strict }
    }
}

struct Comparison<'a> {
    old: View<'a>,
    new: View<'a>,
    /// Documents in which nothing can differ.
    same: (HashSet<usize>, HashSet<usize>),
    seen: HashSet<(Vec<Place>, Vec<Place>, bool)>,
    left: VecDeque<(At, Vec<Place>, Vec<Place>)>,
    steps: usize,
    found: Changes,
}

impl Comparison<'_> {
    fn look_at(&mut self, at: At, old: Vec<Place>, new: Vec<Place>) {
        // No event goes deeper.
        if at.levels <= limits::JSON_DEPTH_MAX {
            self.left.push_back((at, old, new));
        }
    }

    fn tell(&mut self, at: &At, kind: ChangeKind, old: impl Into<String>, new: impl Into<String>) {
        let mut change = Change::new(&at.path, kind, &old.into(), &new.into());
        if at.strict && kind.matters() {
            change.verdict = Verdict::Breaking;
        }
        self.found.add(change);
    }

    /// Compares one place; false when there is too much to compare.
    fn step(&mut self, at: &At, old: &[Place], new: &[Place]) -> bool {
        let (old, new) = (self.old.gather(old), self.new.gather(new));
        self.steps += old.places.len() + new.places.len();
        if self.steps > limits::EVOLUTION_STEPS_MAX {
            return false;
        }
        let key = (old.places.clone(), new.places.clone(), at.strict);
        if self.is_same(&old.places, &new.places) || !self.seen.insert(key) {
            return true;
        }
        self.values(at, &old, &new);
        self.fields(at, &old, &new);
        self.required(at, &old, &new);
        self.other_keys(at, &old, &new);
        self.elements(at, &old, &new);
        self.conditions(at, &old, &new);
        true
    }

    fn is_same(&self, old: &[Place], new: &[Place]) -> bool {
        let name = |view: &View<'_>, same: &HashSet<usize>, places: &[Place]| {
            let one = |(document, schema): &Place| {
                let id = view.documents.get(*document).map(|it| it.id().to_owned())?;
                same.contains(document).then_some((id, *schema))
            };
            places.iter().map(one).collect::<Option<BTreeSet<_>>>()
        };
        let old = name(&self.old, &self.same.0, old);
        old.is_some() && old == name(&self.new, &self.same.1, new)
    }

    fn fields(&mut self, at: &At, old: &Facets<'_>, new: &Facets<'_>) {
        let gone: Vec<&str> =
            old.properties.keys().filter(|it| !new.properties.contains_key(*it)).copied().collect();
        let mut added: Vec<&str> =
            new.properties.keys().filter(|it| !old.properties.contains_key(*it)).copied().collect();
        for name in gone {
            let here = at.below(name);
            let definition = old.properties.get(name).map_or(&[][..], Vec::as_slice);
            let renamed = added.iter().position(|it| {
                let new = new.properties.get(it).map_or(&[][..], Vec::as_slice);
                self.is_alike(definition, new)
            });
            match renamed {
                Some(place) => {
                    let to = added.swap_remove(place);
                    self.tell(&here, ChangeKind::FieldRenamed, name, to);
                }
                None => self.tell(&here, ChangeKind::FieldRemoved, name, ""),
            }
        }
        for name in added {
            let lower = name.to_lowercase();
            let variant = old.properties.keys().find(|it| it.to_lowercase() == lower);
            let kind =
                if variant.is_some() { ChangeKind::CaseVariant } else { ChangeKind::FieldAdded };
            self.tell(&at.below(name), kind, variant.copied().unwrap_or_default(), name);
        }
        for (name, old) in &old.properties {
            if let Some(new) = new.properties.get(name) {
                self.look_at(at.below(name), old.clone(), new.clone());
            }
        }
        for (pattern, old) in &old.pattern_properties {
            let here = at.below(pattern);
            match new.pattern_properties.get(pattern) {
                Some(new) => self.look_at(here, old.clone(), new.clone()),
                None => self.tell(&here, ChangeKind::FieldRemoved, *pattern, ""),
            }
        }
        for pattern in new.pattern_properties.keys() {
            if !old.pattern_properties.contains_key(pattern) {
                self.tell(&at.below(pattern), ChangeKind::ConditionChanged, "", *pattern);
            }
        }
    }

    /// Whether a field is the same under another name.
    fn is_alike(&self, old: &[Place], new: &[Place]) -> bool {
        let (old, new) = (self.old.gather(old), self.new.gather(new));
        let text =
            |it: &Facets<'_>| (it.title.map(str::to_owned), it.description.map(str::to_owned));
        let names =
            |it: &Facets<'_>| it.properties.keys().map(|it| (*it).to_owned()).collect::<Vec<_>>();
        old.types == new.types
            && (old.types.is_some() || !old.properties.is_empty())
            && text(&old) == text(&new)
            && names(&old) == names(&new)
            && old.formats == new.formats
            && old.values == new.values
    }

    fn required(&mut self, at: &At, old: &Facets<'_>, new: &Facets<'_>) {
        for name in new.required.difference(&old.required) {
            let is_new = new.properties.contains_key(name) && !old.properties.contains_key(name);
            let kind =
                if is_new { ChangeKind::RequiredFieldAdded } else { ChangeKind::RequiredAdded };
            self.tell(&at.below(name), kind, "optional", "required");
        }
        for name in old.required.difference(&new.required) {
            self.tell(&at.below(name), ChangeKind::RequiredDropped, "required", "optional");
        }
    }

    /// Keys without a definition of their own.
    fn other_keys(&mut self, at: &At, old: &Facets<'_>, new: &Facets<'_>) {
        let shown = |closed| if closed { "only defined keys" } else { "any keys" };
        match (old.closed, new.closed) {
            (false, true) => self.tell(at, ChangeKind::Closed, shown(false), shown(true)),
            (true, false) => self.tell(at, ChangeKind::Opened, shown(true), shown(false)),
            _ => {}
        }
        let here = at.below("*");
        match (old.additional.is_empty(), new.additional.is_empty()) {
            (false, false) => self.look_at(here, old.additional.clone(), new.additional.clone()),
            (true, false) if !old.closed => {
                self.tell(&here, ChangeKind::ConditionChanged, "any value", "a schema");
            }
            (false, true) if !new.closed => {
                self.tell(&here, ChangeKind::FieldRemoved, "a schema", "any value");
            }
            _ => {}
        }
    }

    fn elements(&mut self, at: &At, old: &Facets<'_>, new: &Facets<'_>) {
        let here = at.below("*");
        match (old.items.is_empty(), new.items.is_empty()) {
            (false, false) => self.look_at(here, old.items.clone(), new.items.clone()),
            (true, true) => {}
            (was_any, _) => {
                let shown = |any| if any { "any elements" } else { "a schema" };
                self.tell(&here, ChangeKind::ElementsChanged, shown(was_any), shown(!was_any));
            }
        }
        let places: BTreeSet<usize> =
            old.elements.keys().chain(new.elements.keys()).copied().collect();
        for place in places {
            let here = at.below(&place.to_string());
            match (old.elements.get(&place), new.elements.get(&place)) {
                (Some(old), Some(new)) => self.look_at(here, old.clone(), new.clone()),
                _ => self.tell(&here, ChangeKind::ElementsChanged, "", ""),
            }
        }
    }

    fn conditions(&mut self, at: &At, old: &Facets<'_>, new: &Facets<'_>) {
        let keywords: BTreeSet<&str> =
            old.conditions.keys().chain(new.conditions.keys()).copied().collect();
        for keyword in keywords {
            let none = Vec::new();
            let old = old.conditions.get(keyword).unwrap_or(&none);
            let new = new.conditions.get(keyword).unwrap_or(&none);
            match (old.is_empty(), new.is_empty()) {
                (true, _) => self.tell(at, ChangeKind::ConditionChanged, "", keyword),
                (_, true) => self.tell(at, ChangeKind::ConditionDropped, keyword, ""),
                _ if old.len() == new.len() => {
                    for (old, new) in old.iter().zip(new) {
                        self.condition(at, keyword, old, new);
                    }
                }
                _ => self.tell(at, ChangeKind::ConditionChanged, keyword, keyword),
            }
        }
    }

    fn condition(&mut self, at: &At, keyword: &str, old: &Condition<'_>, new: &Condition<'_>) {
        let changed = |it: &mut Self| it.tell(at, ChangeKind::ConditionChanged, keyword, keyword);
        if old.branches.is_empty() || new.branches.is_empty() {
            if old.value != new.value {
                changed(self);
            }
            return;
        }
        // One more alternative accepts more, but for `oneOf`, where two may match then.
        let more = new.branches.len() > old.branches.len();
        if new.branches.len() < old.branches.len() || more && keyword != "anyOf" {
            return changed(self);
        }
        if more {
            self.tell(at, ChangeKind::ConditionDropped, keyword, keyword);
        }
        let strict = at.strict || keyword != "anyOf";
        for ((old_name, old), (new_name, new)) in old.branches.iter().zip(&new.branches) {
            if old_name != new_name {
                return changed(self);
            }
            let here = At { path: at.path.clone(), levels: at.levels, strict };
            self.look_at(here, vec![*old], vec![*new]);
        }
    }

    fn primary_identity(&mut self, old: Version<'_>, new: Version<'_>) {
        let primary = |(root, closure): Version<'_>| {
            let fields = identity::collect(root, closure.iter().map(Arc::as_ref)).ok()?;
            let field = fields.into_iter().find(|it| it.primary)?;
            Some(format!("{} ({})", field.path, field.namespace))
        };
        if let (Some(old), new) = (primary(old), primary(new))
            && new.as_ref() != Some(&old)
        {
            let at = At { path: String::new(), levels: 0, strict: false };
            self.tell(&at, ChangeKind::PrimaryIdentityChanged, old, new.unwrap_or_default());
        }
    }
}

#[cfg(test)]
mod tests;
