//! Descriptors between messages and the model.

use crate::{
    grpc::{
        from_proto,
        pb::{self, descriptor::Kind, import_result::Outcome},
        status::inner_status,
        to_proto::timestamp,
    },
    model::shorten,
    schema::{Cardinality, Descriptor, DescriptorKind, Relationship},
    store::{DescriptorFilter, Error, StoredDescriptor},
};

/// A descriptor of a request, in a field of this path.
pub(crate) fn from_message(at: &str, message: pb::Descriptor) -> Result<Descriptor, Error> {
    let kind = match message.kind {
        None => return Err(Error::invalid(format!("{at}.kind"), "missing")),
        Some(Kind::Identity(it)) => {
            DescriptorKind::Identity { namespace: it.namespace, primary: it.primary }
        }
        Some(Kind::Timestamp(_)) => DescriptorKind::Timestamp,
        Some(Kind::Version(_)) => DescriptorKind::Version,
        Some(Kind::Relationship(it)) => {
            let field = format!("{at}.relationship.cardinality");
            let cardinality = match from_proto::enumeration(&field, it.cardinality)? {
                pb::Cardinality::Unspecified | pb::Cardinality::OneToOne => Cardinality::OneToOne,
                pb::Cardinality::OneToZero => Cardinality::OneToZero,
                pb::Cardinality::ManyToOne => Cardinality::ManyToOne,
                pb::Cardinality::ManyToZero => Cardinality::ManyToZero,
            };
            DescriptorKind::Relationship(Relationship {
                schema_id: it.destination_schema_id,
                path: it.destination_path,
                namespace: it.destination_namespace,
                cardinality,
            })
        }
        Some(Kind::FriendlyName(it)) => DescriptorKind::FriendlyName {
            titles: it.titles.into_iter().collect(),
            descriptions: it.descriptions.into_iter().collect(),
        },
        Some(Kind::Label(it)) => DescriptorKind::Label(it.labels),
        Some(Kind::Deprecated(it)) => {
            DescriptorKind::Deprecated { successor: it.successor_path, reason: it.reason }
        }
    };
    Ok(Descriptor { schema_id: message.schema_id, path: message.path, kind })
}

/// A descriptor without id and time.
pub(crate) fn to_message(descriptor: &Descriptor) -> pb::Descriptor {
    let kind = match descriptor.kind.clone() {
        DescriptorKind::Identity { namespace, primary } => {
            Kind::Identity(pb::IdentityDescriptor { namespace, primary })
        }
        DescriptorKind::Timestamp => Kind::Timestamp(pb::TimestampDescriptor {}),
        DescriptorKind::Version => Kind::Version(pb::VersionDescriptor {}),
        DescriptorKind::Relationship(it) => {
            let cardinality = match it.cardinality {
                Cardinality::OneToOne => pb::Cardinality::OneToOne,
                Cardinality::OneToZero => pb::Cardinality::OneToZero,
                Cardinality::ManyToOne => pb::Cardinality::ManyToOne,
                Cardinality::ManyToZero => pb::Cardinality::ManyToZero,
            };
            Kind::Relationship(pb::RelationshipDescriptor {
                destination_schema_id: it.schema_id,
                destination_path: it.path,
                destination_namespace: it.namespace,
                cardinality: cardinality.into(),
            })
        }
        DescriptorKind::FriendlyName { titles, descriptions } => {
            Kind::FriendlyName(pb::FriendlyNameDescriptor {
                titles: titles.into_iter().collect(),
                descriptions: descriptions.into_iter().collect(),
            })
        }
        DescriptorKind::Label(labels) => Kind::Label(pb::LabelDescriptor { labels }),
        DescriptorKind::Deprecated { successor, reason } => {
            Kind::Deprecated(pb::DeprecatedDescriptor { successor_path: successor, reason })
        }
    };
    pb::Descriptor {
        id: String::new(),
        schema_id: descriptor.schema_id.clone(),
        path: descriptor.path.clone(),
        kind: Some(kind),
        create_time: None,
    }
}

/// A descriptor of the store.
pub(crate) fn stored(descriptor: &StoredDescriptor) -> pb::Descriptor {
    pb::Descriptor {
        id: descriptor.id.to_string(),
        create_time: Some(timestamp(descriptor.create_time)),
        ..to_message(&descriptor.descriptor)
    }
}

const KINDS: [&str; 7] =
    ["identity", "timestamp", "version", "relationship", "friendly_name", "label", "deprecated"];

/// Which descriptors a list has.
pub(crate) fn filter(request: &pb::ListDescriptorsRequest) -> Result<DescriptorFilter, Error> {
    let (schema_id, kind) = (request.schema_id.clone(), request.kind.clone());
    if !kind.is_empty() && !KINDS.contains(&kind.as_str()) {
        let message = format!("`{}`; wanted one of {}", shorten(&kind), KINDS.join(", "));
        return Err(Error::invalid("kind", message));
    }
    Ok(DescriptorFilter { schema_id, kind })
}

/// What came of the descriptors of an import, each with its id.
pub(crate) fn imported(
    verdicts: Vec<(String, Result<bool, Error>)>,
    is_taken: bool,
) -> Vec<pb::DescriptorResult> {
    let result = |(id, verdict): (String, Result<bool, Error>)| {
        let (outcome, error) = match verdict {
            Ok(true) if is_taken => (Outcome::Created, None),
            Ok(true) => (Outcome::Held, None),
            Ok(false) => (Outcome::Unchanged, None),
            Err(error) => (Outcome::Refused, Some(inner_status(error))),
        };
        pb::DescriptorResult { id, outcome: outcome.into(), error }
    };
    verdicts.into_iter().map(result).collect()
}
