//! Descriptors: what is said about a field of a schema, beside the schema.

mod check;
mod xdm;

use std::collections::BTreeMap;

/// What is said about one field of a schema. There is at most one of a kind for a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// `$id` of the schema.
    pub schema_id: String,
    /// JSON Pointer into an event, in wire form; `*` stands for any element, or any key of a map.
    pub path: String,
    /// What is said.
    pub kind: DescriptorKind,
}

/// What a descriptor says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DescriptorKind {
    /// The field is an identity.
    Identity {
        /// Code of the identity namespace.
        namespace: String,
        /// Whether it is the primary identity: then every event must have it.
        primary: bool,
    },
    /// The field is the event's time; every event must have it.
    Timestamp,
    /// The field orders the events about one thing; every event must have it.
    Version,
    /// The field leads to things of another schema.
    Relationship(Relationship),
    /// What the field is called for people.
    FriendlyName {
        /// Titles by language.
        titles: BTreeMap<String, String>,
        /// Descriptions by language.
        descriptions: BTreeMap<String, String>,
    },
    /// How the field's data must be treated: labels such as `I1` for what identifies a person.
    Label(Vec<String>),
    /// The field is not for new uses; it stays valid.
    Deprecated {
        /// Path of the field to use instead; may be empty.
        successor: String,
        /// For people; may be empty.
        reason: String,
    },
}

/// Where a field leads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Relationship {
    /// `$id` of the other schema.
    pub schema_id: String,
    /// Path of the field there; empty: what identifies it.
    pub path: String,
    /// Code of the identity namespace of the field there; may be empty.
    pub namespace: String,
    /// How many lead to how many.
    pub cardinality: Cardinality,
}

/// How many things of a schema belong to how many of another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cardinality {
    /// Each to one.
    #[default]
    OneToOne,
    /// Each to at most one.
    OneToZero,
    /// Many to one.
    ManyToOne,
    /// Many to at most one.
    ManyToZero,
}

impl DescriptorKind {
    /// The kind's name: what a descriptor is known by, beside its field.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Identity { .. } => "identity",
            Self::Timestamp => "timestamp",
            Self::Version => "version",
            Self::Relationship(_) => "relationship",
            Self::FriendlyName { .. } => "friendly_name",
            Self::Label(_) => "label",
            Self::Deprecated { .. } => "deprecated",
        }
    }

    /// Whether a schema has at most one of the kind.
    #[must_use]
    pub fn is_single(&self) -> bool {
        matches!(self, Self::Timestamp | Self::Version | Self::Identity { primary: true, .. })
    }
}

impl Descriptor {
    /// Where a list has it.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{}\0{}\0{}", self.schema_id, self.path, self.kind.name())
    }
}
