//! Schemas between messages and the model.

use crate::{
    grpc::{
        pb::{self, import_result::Outcome},
        status::inner_status,
        to_proto,
    },
    store::{Import, ImportOutcome, Imported, Others, SchemaInput},
};

/// An import, and what its sender calls the documents.
pub(crate) fn import(request: pb::ImportSchemasRequest) -> (Import, Vec<String>) {
    let pb::ImportSchemasRequest { documents, keep_going, validate_only } = request;
    let names = documents.iter().map(|it| it.name.clone()).collect();
    let input = |it: pb::SchemaDocument| SchemaInput { name: it.name, document: it.document };
    let documents = documents.into_iter().map(input).collect();
    (Import { documents, keep_going, validate_only }, names)
}

/// What came of an import of documents with these names.
pub(crate) fn imported(imported: Imported, names: Vec<String>) -> pb::ImportSchemasResponse {
    let results = imported.outcomes.into_iter().zip(names).map(|((id, outcome), name)| {
        let mut result =
            pb::ImportResult { name, id: id.unwrap_or_default(), ..Default::default() };
        let outcome = match outcome {
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
    let (renewed, left_behind) = others(imported.others);
    let imported = imported.is_taken;
    pb::ImportSchemasResponse { results, imported, renewed, left_behind }
}

/// Documents that got new versions with others, and those that did not.
pub(crate) fn others(others: Others) -> (Vec<pb::SchemaReference>, Vec<String>) {
    let renewed = others.renewed.iter().map(|it| to_proto::schema_reference(it)).collect();
    (renewed, others.left_behind.iter().map(ToString::to_string).collect())
}
