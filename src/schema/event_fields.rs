//! The fields of an event that are more than data: identities, its time, what orders it.

use crate::schema::{Descriptor, DescriptorKind, IdentityField};

/// The fields of an event that descriptors speak of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFields {
    /// Fields that hold identities, one for each path, at most one of them primary.
    pub identities: Vec<IdentityField>,
    /// Path of the field that is the event's time, if it is not `/timestamp`.
    pub time: Option<String>,
    /// Path of the field that orders events about one thing; every event must have it.
    pub version: Option<String>,
}

impl EventFields {
    /// These fields, and those of descriptors beside the schema, which win: where both speak of a
    /// field, and over which identity is the primary one.
    #[must_use]
    pub fn with<'a>(&self, descriptors: impl Iterator<Item = &'a Descriptor>) -> Self {
        let mut fields = Self::default();
        for descriptor in descriptors {
            let path = descriptor.path.clone();
            match &descriptor.kind {
                DescriptorKind::Identity { namespace, primary } => {
                    let (namespace, primary) = (namespace.clone(), *primary);
                    fields.identities.push(IdentityField { path, namespace, primary });
                }
                DescriptorKind::Timestamp => fields.time = Some(path),
                DescriptorKind::Version => fields.version = Some(path),
                DescriptorKind::Relationship(_)
                | DescriptorKind::FriendlyName { .. }
                | DescriptorKind::Label(_)
                | DescriptorKind::Deprecated { .. } => {}
            }
        }
        let has_primary = fields.identities.iter().any(|it| it.primary);
        for own in &self.identities {
            if fields.identities.iter().all(|it| it.path != own.path) {
                let primary = own.primary && !has_primary;
                fields.identities.push(IdentityField { primary, ..own.clone() });
            }
        }
        fields.time = fields.time.or_else(|| self.time.clone());
        fields.version = fields.version.or_else(|| self.version.clone());
        fields
    }
}
