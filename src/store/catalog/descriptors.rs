//! Descriptors: what is said about fields of schemas.

use std::{collections::BTreeMap, sync::Arc};

use xxhash_rust::xxh3::xxh3_128;

use crate::{
    model::{Timestamp, limits},
    schema::{Cardinality, Descriptor, DescriptorKind, EventFields, Relationship},
    storage::{CatalogBatch, pb::DescriptorRecord},
    store::{
        Error, Resource,
        catalog::{Catalog, Change, micros},
    },
};

/// A descriptor of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredDescriptor {
    /// Follows from schema, path and kind.
    pub id: Arc<str>,
    /// What is said.
    pub descriptor: Descriptor,
    /// Since when.
    pub create_time: Timestamp,
}

impl StoredDescriptor {
    pub(super) fn load(record: DescriptorRecord) -> Result<Self, Error> {
        let kind = match record.kind {
            1 => DescriptorKind::Identity { namespace: record.namespace, primary: record.primary },
            2 => DescriptorKind::Timestamp,
            3 => DescriptorKind::Version,
            4 => DescriptorKind::Relationship(Relationship {
                schema_id: record.destination_schema_id,
                path: record.destination_path,
                namespace: record.namespace,
                cardinality: match record.cardinality {
                    1 => Cardinality::OneToZero,
                    2 => Cardinality::ManyToOne,
                    3 => Cardinality::ManyToZero,
                    _ => Cardinality::OneToOne,
                },
            }),
            5 => DescriptorKind::FriendlyName {
                titles: record.titles.into_iter().collect(),
                descriptions: record.descriptions.into_iter().collect(),
            },
            6 => DescriptorKind::Label(record.labels),
            7 => DescriptorKind::Deprecated { successor: record.successor, reason: record.reason },
            kind => {
                tracing::error!(id = record.id, kind, "stored descriptor is of no kind");
                return Err(Error::Corrupt);
            }
        };
        Ok(Self {
            id: record.id.into(),
            descriptor: Descriptor { schema_id: record.schema_id, path: record.path, kind },
            create_time: micros(record.create_time_us),
        })
    }

    fn record(&self) -> DescriptorRecord {
        let Descriptor { schema_id, path, kind } = self.descriptor.clone();
        let record = DescriptorRecord {
            id: self.id.to_string(),
            schema_id,
            path,
            create_time_us: self.create_time.micros(),
            ..DescriptorRecord::default()
        };
        match kind {
            DescriptorKind::Identity { namespace, primary } => {
                DescriptorRecord { kind: 1, namespace, primary, ..record }
            }
            DescriptorKind::Timestamp => DescriptorRecord { kind: 2, ..record },
            DescriptorKind::Version => DescriptorRecord { kind: 3, ..record },
            DescriptorKind::Relationship(it) => DescriptorRecord {
                kind: 4,
                destination_schema_id: it.schema_id,
                destination_path: it.path,
                namespace: it.namespace,
                cardinality: match it.cardinality {
                    Cardinality::OneToOne => 0,
                    Cardinality::OneToZero => 1,
                    Cardinality::ManyToOne => 2,
                    Cardinality::ManyToZero => 3,
                },
                ..record
            },
            DescriptorKind::FriendlyName { titles, descriptions } => DescriptorRecord {
                kind: 5,
                titles: titles.into_iter().collect(),
                descriptions: descriptions.into_iter().collect(),
                ..record
            },
            DescriptorKind::Label(labels) => DescriptorRecord { kind: 6, labels, ..record },
            DescriptorKind::Deprecated { successor, reason } => {
                DescriptorRecord { kind: 7, successor, reason, ..record }
            }
        }
    }

    /// Whether it is a relationship that leads to this schema.
    pub(super) fn leads_to(&self, schema: &str) -> bool {
        match &self.descriptor.kind {
            DescriptorKind::Relationship(it) => it.schema_id == schema,
            DescriptorKind::Identity { .. }
            | DescriptorKind::Timestamp
            | DescriptorKind::Version
            | DescriptorKind::FriendlyName { .. }
            | DescriptorKind::Label(_)
            | DescriptorKind::Deprecated { .. } => false,
        }
    }
}

/// The id of a descriptor: 32 hexadecimal digits.
pub(crate) fn descriptor_id(descriptor: &Descriptor) -> String {
    format!("{:032x}", xxh3_128(descriptor.key().as_bytes()))
}

impl Catalog {
    /// All descriptors, by id.
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = &Arc<StoredDescriptor>> {
        self.descriptors.values()
    }

    /// A descriptor.
    pub(crate) fn descriptor(&self, id: &str) -> Result<&Arc<StoredDescriptor>, Error> {
        self.descriptors.get(id).ok_or_else(|| Error::not_found(Resource::Descriptor, id))
    }

    /// What is said about a schema.
    pub(crate) fn descriptors_of(&self, schema: &str) -> &[Arc<StoredDescriptor>] {
        self.descriptors_of.get(schema).map_or(&[], Vec::as_slice)
    }

    /// Changes with every change of the descriptors.
    pub(crate) fn descriptors_revision(&self) -> u64 {
        self.descriptors_revision
    }

    /// The fields that descriptors speak of: those of the schema's documents, and those beside it.
    pub(crate) fn event_fields(&self, schema: &str, own: &Arc<EventFields>) -> Arc<EventFields> {
        match self.descriptors_of(schema) {
            [] => Arc::clone(own),
            found => Arc::new(own.with(found.iter().map(|it| &it.descriptor))),
        }
    }

    /// Adds a judged descriptor to the rows and to this, the next snapshot.
    pub(super) fn add_descriptor(
        &mut self,
        rows: &mut CatalogBatch,
        descriptor: Descriptor,
        now: Timestamp,
    ) -> Result<Arc<StoredDescriptor>, Error> {
        if self.descriptors.len() >= limits::DESCRIPTORS_MAX {
            return Err(Error::Limit { what: "descriptors", max: limits::DESCRIPTORS_MAX });
        }
        let id = descriptor_id(&descriptor).into();
        let stored = Arc::new(StoredDescriptor { id, descriptor, create_time: now });
        rows.put_descriptor(&stored.id, &stored.record());
        self.insert_descriptor(Arc::clone(&stored));
        Ok(stored)
    }

    /// Deletes a descriptor.
    pub(crate) fn delete_descriptor(&self, id: &str) -> Result<Change<()>, Error> {
        let descriptor = Arc::clone(self.descriptor(id)?);
        let mut rows = CatalogBatch::default();
        let mut next = self.clone();
        next.remove_descriptor(&descriptor, &mut rows);
        Ok(Change::Write { rows, next: Box::new(next), answer: () })
    }

    /// What is said about a schema goes with it.
    pub(super) fn remove_descriptors_of(&mut self, schema: &str, rows: &mut CatalogBatch) {
        for descriptor in self.descriptors_of(schema).to_vec() {
            self.remove_descriptor(&descriptor, rows);
        }
    }

    fn remove_descriptor(&mut self, descriptor: &StoredDescriptor, rows: &mut CatalogBatch) {
        rows.remove_descriptor(&descriptor.id);
        self.descriptors.remove(&descriptor.id);
        let schema = descriptor.descriptor.schema_id.as_str();
        if let Some(others) = self.descriptors_of.get_mut(schema) {
            others.retain(|it| it.id != descriptor.id);
            if others.is_empty() {
                self.descriptors_of.remove(schema);
            }
        }
        self.descriptors_changed();
    }

    pub(super) fn insert_descriptor(&mut self, descriptor: Arc<StoredDescriptor>) {
        let schema: Arc<str> = descriptor.descriptor.schema_id.as_str().into();
        self.descriptors_of.entry(schema).or_default().push(Arc::clone(&descriptor));
        self.descriptors.insert(Arc::clone(&descriptor.id), descriptor);
        self.descriptors_changed();
    }

    /// Batches are judged by descriptors, and documents that are registered as well.
    fn descriptors_changed(&mut self) {
        self.descriptors_revision += 1;
        self.schemas_revision += 1;
    }
}

/// What differs between two descriptors of one kind for one field, for people.
pub(crate) fn difference(a: &Descriptor, b: &Descriptor) -> String {
    let members = |it: &Descriptor| {
        let value = it.to_xdm();
        let members = value.as_object().cloned().unwrap_or_default();
        members.into_iter().collect::<BTreeMap<_, _>>()
    };
    let (a, b) = (members(a), members(b));
    let differs = |key: &&String| a.get(*key) != b.get(*key);
    let keys: Vec<&str> = a.keys().chain(b.keys()).filter(differs).map(String::as_str).collect();
    let mut keys = keys;
    keys.dedup();
    format!("another {}", keys.join(", "))
}
