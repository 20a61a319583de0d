//! What must stand in an event for a condition to hold: by this conditions are found without asking
//! each one.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "no other expression says what must stand somewhere"
)]

use std::collections::{BTreeMap, BTreeSet};

use crate::condition::{
    expr::{Expr, Path, Step},
    syntax::{Literal, Operator},
};

/// By paths of names: texts of which one must stand there.
pub(super) type Anchors = BTreeMap<Vec<String>, BTreeSet<String>>;

/// All paths where one of a few texts must stand, or the condition does not hold.
pub(super) fn anchors(expr: &Expr) -> Anchors {
    match expr {
        Expr::And(terms) => {
            let mut all = Anchors::new();
            for (path, texts) in terms.iter().flat_map(anchors) {
                match all.get(&path) {
                    Some(fewer) if fewer.len() <= texts.len() => {}
                    _ => drop(all.insert(path, texts)),
                }
            }
            all
        }
        Expr::Or(terms) => {
            let mut terms = terms.iter().map(anchors);
            let mut all = terms.next().unwrap_or_default();
            for mut term in terms {
                all.retain(|path, texts| match term.remove(path) {
                    Some(more) => {
                        texts.extend(more);
                        true
                    }
                    None => false,
                });
            }
            all
        }
        Expr::Compare(Operator::Equal, both) => match both.as_ref() {
            [Expr::Path(path), Expr::Literal(Literal::String(text))]
            | [Expr::Literal(Literal::String(text)), Expr::Path(path)] => {
                one(path, BTreeSet::from([text.clone()]))
            }
            _ => Anchors::new(),
        },
        Expr::Compare(Operator::In, both) => match both.as_ref() {
            [Expr::Path(path), Expr::List(items)] => {
                let texts = items.iter().map(|it| match it {
                    Expr::Literal(Literal::String(text)) => Some(text.clone()),
                    _ => None,
                });
                texts.collect::<Option<_>>().map(|texts| one(path, texts)).unwrap_or_default()
            }
            _ => Anchors::new(),
        },
        _ => Anchors::new(),
    }
}

fn one(path: &Path, texts: BTreeSet<String>) -> Anchors {
    let names: Option<Vec<String>> = path
        .steps
        .iter()
        .map(|it| match it {
            Step::Member(name) => Some(name.to_string()),
            Step::Element(_) => None,
        })
        .collect();
    match names {
        Some(names) if path.variable.is_none() && !path.is_time => Anchors::from([(names, texts)]),
        _ => Anchors::new(),
    }
}
