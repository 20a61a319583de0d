//! Everything that a document refers to, directly or through others.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};

use crate::{
    model::limits,
    schema::{Reference, SchemaDocument, SchemaProblem},
};

/// Collects the documents that `root` refers to, directly or through others, without `root`.
///
/// `find` looks a document up by its `$id`.
///
/// # Errors
///
/// `Unresolved` names the first reference that leads to no document; `TooLarge` above
/// `limits::SCHEMA_CLOSURE_MAX` documents.
pub fn closure(
    root: &SchemaDocument,
    find: impl Fn(&str) -> Option<Arc<SchemaDocument>>,
) -> Result<Vec<Arc<SchemaDocument>>, SchemaProblem> {
    let mut seen = HashSet::from([root.id().to_owned()]);
    let mut found = Vec::new();
    let mut queue = VecDeque::new();
    add_targets(root, &find, &mut seen, &mut queue)?;
    while let Some(document) = queue.pop_front() {
        if found.len() == limits::SCHEMA_CLOSURE_MAX {
            let max = limits::SCHEMA_CLOSURE_MAX;
            let message = format!("`{}` refers to more than {max} documents", root.id());
            return Err(SchemaProblem::TooLarge { pointer: String::new(), message });
        }
        add_targets(&document, &find, &mut seen, &mut queue)?;
        found.push(document);
    }
    Ok(found)
}

fn add_targets(
    document: &SchemaDocument,
    find: &impl Fn(&str) -> Option<Arc<SchemaDocument>>,
    seen: &mut HashSet<String>,
    queue: &mut VecDeque<Arc<SchemaDocument>>,
) -> Result<(), SchemaProblem> {
    for reference in document.references() {
        let target = reference.target.as_str();
        if document.outline.resources.contains_key(target) || seen.contains(target) {
            continue;
        }
        let Some(next) = find(target).filter(|it| it.id() == target) else {
            let problem = unresolved(document, reference, "which is not registered");
            return Err(problem.told_of(document));
        };
        seen.insert(target.to_owned());
        queue.push_back(next);
    }
    Ok(())
}

pub(super) fn unresolved(
    document: &SchemaDocument,
    reference: &Reference,
    message: &str,
) -> SchemaProblem {
    let hash = if reference.fragment.is_empty() { "" } else { "#" };
    SchemaProblem::Unresolved {
        document: document.id().to_owned(),
        pointer: reference.pointer.clone(),
        reference: format!("{}{hash}{}", reference.target, reference.fragment),
        message: message.to_owned(),
    }
}
