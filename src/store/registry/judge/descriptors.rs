//! Judges descriptors against the documents that are there, or are to be.

use std::{collections::HashMap, sync::Arc};

use crate::{
    model::Invalid,
    schema::{self, Descriptor, DescriptorKind, Fault, SchemaDocument, SchemaProblem},
    store::{
        Error, Resource,
        catalog::{Catalog, NewVersion, descriptor_id, difference},
    },
};

/// A document with all that it refers to.
type Whole = (Arc<SchemaDocument>, Vec<Arc<SchemaDocument>>);

/// The documents of a catalog, and those that are to be added to it.
struct Documents<'a> {
    catalog: &'a Catalog,
    new: HashMap<&'a str, &'a Arc<SchemaDocument>>,
}

/// For each descriptor, whether it is to be added, or why it is refused.
pub(super) fn judge(
    catalog: &Catalog,
    versions: &[NewVersion],
    descriptors: &[Descriptor],
) -> Vec<Result<bool, Error>> {
    let new = versions.iter().map(|it| (it.document.id(), &it.document)).collect();
    let documents = Documents { catalog, new };
    let mut taken: Vec<&Descriptor> = Vec::new();
    let mut verdicts = Vec::with_capacity(descriptors.len());
    for descriptor in descriptors {
        let verdict = documents.judge(descriptor, &taken);
        if matches!(verdict, Ok(true)) {
            taken.push(descriptor);
        }
        verdicts.push(verdict);
    }
    verdicts
}

impl Documents<'_> {
    fn judge(&self, descriptor: &Descriptor, taken: &[&Descriptor]) -> Result<bool, Error> {
        let faults = descriptor.faults();
        if !faults.is_empty() {
            return Err(Error::Descriptor(faults));
        }
        let (document, closure) = self.whole(&descriptor.schema_id)?;
        let mut faults = descriptor.misfits(&document, &closure);
        if let DescriptorKind::Relationship(it) = &descriptor.kind {
            let (document, closure) = self.whole(&it.schema_id)?;
            faults.extend(descriptor.destination_misfits(&document, &closure));
        }
        let stored = self.catalog.descriptors_of(&descriptor.schema_id);
        let others = stored.iter().map(|it| &it.descriptor);
        let others = others.chain(taken.iter().copied());
        let others: Vec<_> = others.filter(|it| it.schema_id == descriptor.schema_id).collect();
        let same = |it: &&&Descriptor| it.key() == descriptor.key();
        if let Some(same) = others.iter().find(same) {
            if *same == descriptor {
                return Ok(false);
            }
            let (name, difference) = (descriptor_id(descriptor), difference(same, descriptor));
            return Err(Error::Exists { kind: Resource::Descriptor, name, difference });
        }
        let kind = descriptor.kind.name();
        let rival = |it: &&&Descriptor| it.kind.is_single() && it.kind.name() == kind;
        if descriptor.kind.is_single()
            && let Some(rival) = others.iter().find(rival)
        {
            let what = if kind == "identity" { "primary identity" } else { kind };
            let message = format!("`{}` is the schema's {what} already; at most one", rival.path);
            faults.push(Invalid::new("path", message));
        }
        if faults.is_empty() { Ok(true) } else { Err(Error::Descriptor(faults)) }
    }

    fn find(&self, id: &str) -> Option<Arc<SchemaDocument>> {
        let latest = || self.catalog.latest_schema(id).ok().map(|it| Arc::clone(&it.document));
        self.new.get(id).map(|it| Arc::clone(it)).or_else(latest)
    }

    fn whole(&self, id: &str) -> Result<Whole, Error> {
        let found = self.find(id).ok_or_else(|| Error::not_found(Resource::Schema, id))?;
        let closure = schema::closure(&found, |id| self.find(id))?;
        Ok((found, closure))
    }
}

/// Whether a document is still what is said about it.
pub(super) fn check(
    catalog: &Catalog,
    document: &Arc<SchemaDocument>,
    closure: &[Arc<SchemaDocument>],
) -> Result<(), SchemaProblem> {
    let mut faults = Vec::new();
    for it in catalog.descriptors_of(document.id()) {
        let kind = it.descriptor.kind.name();
        for fault in it.descriptor.misfits(document, closure) {
            let message = format!(
                "descriptor `{}` ({kind}): {}; delete the descriptor first",
                it.id, fault.message
            );
            faults.push(Fault { pointer: String::new(), message });
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(SchemaProblem::Descriptors(faults)) }
}
