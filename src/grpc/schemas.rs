//! Schemas between messages and the model.

use std::{collections::BTreeSet, sync::Arc};

use tokio::sync::mpsc;
use tonic::Status;

use crate::{
    grpc::{
        descriptors, from_proto,
        pb::{self, import_result::Outcome},
        status::inner_status,
        to_proto,
    },
    model::{Direction, shorten},
    schema::{Change, ChangeKind, Fault, SchemaKind, Verdict},
    store::{
        Affected, AuditEntry, DescriptorFilter, Error, EventStore, HistoryCheck, HistorySample,
        Import, ImportOutcome, Imported, Others, SchemaChecked, SchemaFilter, SchemaInput,
        SchemaOrder, SchemaVersion,
    },
};

/// Bytes of text in one response of an export.
const EXPORT_BYTES: usize = 1024 * 1024;

/// Which documents a list has, and in which order.
pub(crate) fn list(
    request: &pb::ListSchemasRequest,
) -> Result<(SchemaFilter, SchemaOrder, Direction), Error> {
    let kind = match from_proto::enumeration("kind", request.kind)? {
        pb::SchemaKind::Unspecified => None,
        pb::SchemaKind::Behavior => Some(SchemaKind::Behavior),
        pb::SchemaKind::Class => Some(SchemaKind::Class),
        pb::SchemaKind::FieldGroup => Some(SchemaKind::FieldGroup),
        pb::SchemaKind::DataType => Some(SchemaKind::DataType),
        pb::SchemaKind::Schema => Some(SchemaKind::Schema),
    };
    let deprecated = match from_proto::enumeration("status", request.status)? {
        pb::SchemaStatus::Unspecified | pb::SchemaStatus::Active => Some(false),
        pb::SchemaStatus::Deprecated => Some(true),
        pb::SchemaStatus::Any => None,
    };
    let filter = SchemaFilter {
        kind,
        text: request.text.clone(),
        class: request.class.clone(),
        deprecated,
        exclude_built_in: request.exclude_built_in,
    };
    let (field, direction) = match request.order_by.strip_suffix(" desc") {
        Some(field) => (field, Direction::Backward),
        None => (request.order_by.as_str(), Direction::Forward),
    };
    let order = match field {
        "id" | "" => SchemaOrder::Id,
        "title" => SchemaOrder::Title,
        "create_time" => SchemaOrder::CreateTime,
        other => {
            let wanted = "wanted `id`, `title` or `create_time`, perhaps with ` desc`";
            return Err(Error::invalid("order_by", format!("`{}`; {wanted}", shorten(other))));
        }
    };
    Ok((filter, order, direction))
}

/// A version with its text and references.
pub(crate) fn whole(store: &EventStore, version: &SchemaVersion) -> pb::Schema {
    let mut schema = to_proto::schema(version);
    schema.document = version.document.text().to_string();
    let references = store.schema_references(version);
    schema.references = references.iter().map(|it| to_proto::schema_reference(it)).collect();
    schema
}

/// Sends versions until all are sent or the client leaves.
pub(crate) async fn export(
    store: EventStore,
    versions: Vec<Arc<SchemaVersion>>,
    out: mpsc::Sender<Result<pb::ExportSchemasResponse, Status>>,
) {
    let total = u32::try_from(versions.len()).unwrap_or(u32::MAX);
    let ids: BTreeSet<Arc<str>> = versions.iter().map(|it| Arc::clone(&it.id)).collect();
    let (mut schemas, mut bytes) = (Vec::new(), 0);
    for version in versions {
        bytes += version.document.text().len();
        schemas.push(whole(&store, &version));
        if bytes >= EXPORT_BYTES {
            bytes = 0;
            let schemas = std::mem::take(&mut schemas);
            let response = pb::ExportSchemasResponse { schemas, total, ..Default::default() };
            if out.send(Ok(response)).await.is_err() {
                return;
            }
        }
    }
    let said = store.descriptors(&DescriptorFilter::default());
    let said = said.values().filter(|it| ids.contains(it.descriptor.schema_id.as_str()));
    let descriptors = said.map(|it| descriptors::stored(it)).collect();
    drop(out.send(Ok(pb::ExportSchemasResponse { schemas, total, descriptors })).await);
}

/// An import, and what its sender calls the documents.
pub(crate) fn import(request: pb::ImportSchemasRequest) -> Result<(Import, Vec<String>), Error> {
    let pb::ImportSchemasRequest { documents, keep_going, validate_only, force, descriptors } =
        request;
    let descriptor = |(place, it): (usize, pb::Descriptor)| {
        descriptors::from_message(&format!("descriptors[{place}]"), it)
    };
    let descriptors =
        descriptors.into_iter().enumerate().map(descriptor).collect::<Result<_, _>>()?;
    let names = documents.iter().map(|it| it.name.clone()).collect();
    let input = |it: pb::SchemaDocument| SchemaInput { name: it.name, document: it.document };
    let documents = documents.into_iter().map(input).collect();
    Ok((Import { documents, descriptors, keep_going, validate_only, force }, names))
}

/// What came of an import of documents with these names.
pub(crate) fn imported(imported: Imported, names: Vec<String>) -> pb::ImportSchemasResponse {
    let results = imported.documents.into_iter().zip(names).map(|(document, name)| {
        let id = document.id.unwrap_or_default();
        let mut result = pb::ImportResult { name, id, ..Default::default() };
        if let Some(Fault { pointer, message }) = document.warning {
            result.warning = format!("{pointer}: {message}");
        }
        let outcome = match document.outcome {
            ImportOutcome::Created(version) => {
                result.version = version.version;
                Outcome::Created
            }
            ImportOutcome::Unchanged(version) => {
                result.version = version.version;
                Outcome::Unchanged
            }
            ImportOutcome::Held => Outcome::Held,
            ImportOutcome::Refused(error) => {
                result.error = Some(inner_status(error));
                Outcome::Refused
            }
        };
        result.set_outcome(outcome);
        result
    });
    let results = results.collect();
    let (renewed, left_behind) = others(&imported.others);
    let descriptor_results = descriptors::imported(imported.descriptors, imported.is_taken);
    let imported = imported.is_taken;
    pb::ImportSchemasResponse { results, imported, renewed, left_behind, descriptor_results }
}

/// Documents that got new versions with others, and those that did not.
pub(crate) fn others(others: &Others) -> (Vec<pb::SchemaReference>, Vec<String>) {
    let renewed = others.renewed.iter().map(|it| to_proto::schema_reference(it)).collect();
    (renewed, others.left_behind.iter().map(ToString::to_string).collect())
}

/// What a check found.
pub(crate) fn checked(checked: SchemaChecked) -> pb::CheckCompatibilityResponse {
    let SchemaChecked { own, affected, history } = checked;
    let own = own.map(|it| it.changes).unwrap_or_default();
    let all = affected.iter().map(|it| it.changes.verdict()).chain([own.verdict()]);
    let worst = all.max().unwrap_or(Verdict::Compatible);
    pb::CheckCompatibilityResponse {
        verdict: verdict(worst).into(),
        changes_left_out: own.left_out,
        changes: changes(&own.listed),
        affected: affected.iter().map(affected_schema).collect(),
        history: history.into_iter().map(history_check).collect(),
    }
}

fn affected_schema(affected: &Affected) -> pb::AffectedSchema {
    pb::AffectedSchema {
        schema_id: affected.schema_id.to_string(),
        version: affected.old_version,
        datasets: affected.datasets.clone(),
        verdict: verdict(affected.changes.verdict()).into(),
        changes: changes(&affected.changes.listed),
        changes_left_out: affected.changes.left_out,
        event_definitions: affected.event_definitions.iter().map(|it| it.0.clone()).collect(),
    }
}

fn history_check(check: HistoryCheck) -> pb::HistoryCheck {
    let sample = |it: HistorySample| pb::HistorySample {
        position: it.position.get(),
        event_id: it.event_id,
        violations: it.violations.into_iter().map(to_proto::violation).collect(),
    };
    pb::HistoryCheck {
        dataset: check.dataset,
        checked: check.checked,
        failed: check.failed,
        samples: check.samples.into_iter().map(sample).collect(),
    }
}

pub(crate) fn changes(changes: &[Change]) -> Vec<pb::SchemaChange> {
    let change = |it: &Change| pb::SchemaChange {
        path: it.path.clone(),
        kind: change_kind(it.kind).into(),
        old: it.old.clone(),
        new: it.new.clone(),
        verdict: verdict(it.verdict).into(),
    };
    changes.iter().map(change).collect()
}

fn verdict(verdict: Verdict) -> pb::CompatibilityVerdict {
    match verdict {
        Verdict::Compatible => pb::CompatibilityVerdict::Compatible,
        Verdict::Warning => pb::CompatibilityVerdict::Warning,
        Verdict::Breaking => pb::CompatibilityVerdict::Breaking,
    }
}

/// The two enumerations have the same names; a test holds them against each other.
fn change_kind(kind: ChangeKind) -> pb::SchemaChangeKind {
    pb::SchemaChangeKind::from_str_name(kind.name()).unwrap_or_default()
}

pub(crate) fn audit_record(entry: &AuditEntry) -> pb::AuditRecord {
    pb::AuditRecord {
        number: entry.number,
        time: Some(to_proto::timestamp(entry.time)),
        schema_id: entry.schema_id.clone(),
        old_version: entry.old_version,
        new_version: entry.new_version,
        datasets: entry.datasets.clone(),
        event_definitions: entry.event_definitions.clone(),
        changes: changes(&entry.changes),
        changes_left_out: entry.changes_left_out,
        subscription: entry.subscription.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::{ChangeKind, change_kind, pb};

    #[test]
    fn every_kind_of_change_has_a_name_in_the_api() {
        for kind in ChangeKind::ALL {
            assert_ne!(change_kind(*kind), pb::SchemaChangeKind::Unspecified, "{kind:?}");
        }
    }
}
