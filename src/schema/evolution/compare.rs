//! What values a place takes, before and now.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::schema::{
    effective::{BOUNDS, Facets},
    evolution::{At, ChangeKind, Comparison},
};

impl Comparison<'_> {
    pub(super) fn values(&mut self, at: &At, old: &Facets<'_>, new: &Facets<'_>) {
        let types = |it: &Facets<'_>| it.types.as_ref().map_or("any".to_owned(), join);
        if old.types != new.types {
            self.tell(at, ChangeKind::TypeChanged, types(old), types(new));
        }
        if new.never && !old.never {
            self.tell(at, ChangeKind::TypeChanged, "something", "nothing");
        }
        self.listed(at, old, new);
        self.bounds(at, old, new);
        for pattern in new.patterns.difference(&old.patterns) {
            self.tell(at, ChangeKind::PatternChanged, join(&old.patterns), *pattern);
        }
        if new.patterns.is_subset(&old.patterns) && new.patterns != old.patterns {
            self.tell(at, ChangeKind::PatternDropped, join(&old.patterns), join(&new.patterns));
        }
        self.formats(at, old, new);
        if new.deprecated && !old.deprecated {
            self.tell(at, ChangeKind::FieldDeprecated, "", "");
        }
    }

    /// Closed and open lists of values.
    fn listed(&mut self, at: &At, old: &Facets<'_>, new: &Facets<'_>) {
        match (&old.values, &new.values) {
            (None, Some(new)) => self.tell(at, ChangeKind::EnumAdded, "any value", show(new)),
            (Some(old), None) => self.tell(at, ChangeKind::EnumDropped, show(old), "any value"),
            (Some(old), Some(new)) => {
                let gone: Vec<_> = old.iter().filter(|it| !new.contains(it)).copied().collect();
                let added: Vec<_> = new.iter().filter(|it| !old.contains(it)).copied().collect();
                if !gone.is_empty() {
                    self.tell(at, ChangeKind::EnumNarrowed, show(&gone), "");
                }
                if !added.is_empty() {
                    self.tell(at, ChangeKind::EnumWidened, "", show(&added));
                }
            }
            (None, None) => {}
        }
        if old.values.is_none() && new.values.is_none() {
            for value in new.suggested.difference(&old.suggested) {
                self.tell(at, ChangeKind::SuggestionAdded, "", *value);
            }
            for value in old.suggested.difference(&new.suggested) {
                self.tell(at, ChangeKind::SuggestionRemoved, *value, "");
            }
        }
    }

    fn bounds(&mut self, at: &At, old: &Facets<'_>, new: &Facets<'_>) {
        let shown = |keyword: &str, bound: Option<&f64>| {
            bound.map_or("unbounded".to_owned(), |it| format!("{keyword} {it}"))
        };
        for (keyword, is_lower) in BOUNDS {
            let (was, is) = (old.bounds.get(keyword), new.bounds.get(keyword));
            let kind = match (was, is) {
                (None, None) => continue,
                (None, Some(_)) => ChangeKind::BoundNarrowed,
                (Some(was), Some(is)) if was.total_cmp(is).is_eq() => continue,
                (Some(was), Some(is)) if (is > was) == is_lower => ChangeKind::BoundNarrowed,
                (Some(_), _) => ChangeKind::BoundWidened,
            };
            self.tell(at, kind, shown(keyword, was), shown(keyword, is));
        }
        // Every number that the new step allows must be one of the old.
        let fits = |new: f64, old: f64| (old / new).fract().abs() < f64::EPSILON;
        for step in &new.multiples {
            if !old.multiples.iter().any(|old| fits(*step, *old)) {
                self.tell(at, ChangeKind::BoundNarrowed, "", format!("multipleOf {step}"));
            }
        }
        if new.unique && !old.unique {
            self.tell(at, ChangeKind::BoundNarrowed, "", "uniqueItems");
        }
    }

    fn formats(&mut self, at: &At, old: &Facets<'_>, new: &Facets<'_>) {
        if old.formats == new.formats {
            return;
        }
        // Without it a date is a mere text.
        let makes_date = |it: &&str| ["date", "date-time", "time"].contains(it);
        let only_dropped = new.formats.is_subset(&old.formats);
        let lost_date = old.formats.difference(&new.formats).any(makes_date);
        let kind = if only_dropped && !lost_date {
            ChangeKind::FormatDropped
        } else {
            ChangeKind::FormatChanged
        };
        self.tell(at, kind, join(&old.formats), join(&new.formats));
    }
}

fn join(names: &BTreeSet<&str>) -> String {
    names.iter().copied().collect::<Vec<_>>().join(", ")
}

/// The first few values.
fn show(values: &[&Value]) -> String {
    let shown: Vec<String> = values.iter().take(8).map(ToString::to_string).collect();
    let more = if values.len() > 8 { ", …" } else { "" };
    format!("{}{more}", shown.join(", "))
}
