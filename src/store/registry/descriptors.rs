//! Descriptors, from the caller's side.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    schema::Descriptor,
    store::{
        Error, EventStore,
        catalog::{StoredDescriptor, descriptor_id},
        registry::{
            import::Plan,
            judge::{Candidates, Rules},
            unless,
        },
    },
};

/// Which descriptors are listed; what is empty selects all.
#[derive(Clone, Debug, Default)]
pub struct DescriptorFilter {
    /// `$id` of the schema.
    pub schema_id: String,
    /// Name of the kind.
    pub kind: String,
}

impl EventStore {
    /// Says something about a field, or returns what says the same.
    ///
    /// # Errors
    /// When the schema does not exist, the descriptor does not fit it, another of its kind speaks of the
    /// field, or there are too many.
    pub async fn create_descriptor(
        &self,
        descriptor: Descriptor,
        validate_only: bool,
    ) -> Result<Arc<StoredDescriptor>, Error> {
        self.check_change(validate_only)?;
        let id = descriptor_id(&descriptor);
        let candidates = Candidates::of_descriptors(vec![descriptor]);
        let plan = Plan { candidates, rules: Rules::default(), validate_only };
        let (_, mut judgement, added) = self.add(plan).await?;
        judgement.descriptors.pop().ok_or(Error::Internal)??;
        match added.descriptors.into_iter().next() {
            Some(added) => Ok(added),
            None => self.descriptor(&id),
        }
    }

    /// A descriptor.
    ///
    /// # Errors
    /// When it does not exist.
    pub fn descriptor(&self, id: &str) -> Result<Arc<StoredDescriptor>, Error> {
        self.catalog().descriptor(id).cloned()
    }

    /// The descriptors that a filter selects, each with what orders it: schema, path and kind.
    #[must_use]
    pub fn descriptors(
        &self,
        filter: &DescriptorFilter,
    ) -> BTreeMap<String, Arc<StoredDescriptor>> {
        let catalog = self.catalog();
        let selects = |it: &&Arc<StoredDescriptor>| {
            let Descriptor { schema_id, kind, .. } = &it.descriptor;
            (filter.schema_id.is_empty() || filter.schema_id == *schema_id)
                && (filter.kind.is_empty() || filter.kind == kind.name())
        };
        let selected = catalog.descriptors().filter(selects);
        selected.map(|it| (it.descriptor.key(), Arc::clone(it))).collect()
    }

    /// Takes a descriptor back.
    ///
    /// # Errors
    /// When it does not exist.
    pub async fn delete_descriptor(&self, id: String, validate_only: bool) -> Result<(), Error> {
        self.change(move |catalog, _now| Ok(unless(validate_only, catalog.delete_descriptor(&id)?)))
            .await
    }
}
