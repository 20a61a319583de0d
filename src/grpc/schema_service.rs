//! `milepost.v1.SchemaService`: converts, calls, converts.

use tonic::{Request, Response, Status};

use crate::{
    grpc::{
        from_proto::{self, PageRequest},
        pb::{self, schema_service_server::SchemaService, validate_event_request::Target},
        schemas, to_proto,
    },
    store::{Error, EventStore, RegisterSchema, SchemaRegistered},
};

pub(crate) struct Schemas {
    pub(crate) store: EventStore,
}

#[tonic::async_trait]
impl SchemaService for Schemas {
    async fn register_schema(
        &self,
        request: Request<pb::RegisterSchemaRequest>,
    ) -> Result<Response<pb::RegisterSchemaResponse>, Status> {
        let pb::RegisterSchemaRequest { document, validate_only, .. } = request.into_inner();
        let request = RegisterSchema { document, validate_only };
        let SchemaRegistered { version, created, others } =
            self.store.register_schema(request).await?;
        let mut schema = to_proto::schema(&version);
        schema.references = self.references(&version);
        let (renewed, left_behind) = schemas::others(others);
        let schema = Some(schema);
        Ok(Response::new(pb::RegisterSchemaResponse { schema, created, renewed, left_behind }))
    }

    async fn import_schemas(
        &self,
        request: Request<pb::ImportSchemasRequest>,
    ) -> Result<Response<pb::ImportSchemasResponse>, Status> {
        let (import, names) = schemas::import(request.into_inner());
        let imported = self.store.import_schemas(import).await?;
        Ok(Response::new(schemas::imported(imported, names)))
    }

    async fn get_schema(
        &self,
        request: Request<pb::GetSchemaRequest>,
    ) -> Result<Response<pb::GetSchemaResponse>, Status> {
        let request = request.into_inner();
        let version = self.store.schema(&request.id, request.version)?;
        let mut schema = to_proto::schema(&version);
        schema.document = version.document.text().to_string();
        schema.references = self.references(&version);
        Ok(Response::new(pb::GetSchemaResponse { schema: Some(schema) }))
    }

    async fn list_schemas(
        &self,
        request: Request<pb::ListSchemasRequest>,
    ) -> Result<Response<pb::ListSchemasResponse>, Status> {
        let request = request.into_inner();
        let kind: pb::SchemaKind = from_proto::enumeration("kind", request.kind)?;
        let scope = format!("schemas {} {}", request.kind, request.exclude_built_in);
        let page = PageRequest::parse(request.page_size, &request.page_token, &scope)?;
        let wanted = self.store.schemas().into_iter().filter(|it| {
            let is_kind = to_proto::schema_kind(it.document.kind()) == kind;
            (kind == pb::SchemaKind::Unspecified || is_kind)
                && !(request.exclude_built_in && it.built_in)
        });
        let (schemas, next_page_token) = page.take(wanted, |it| it.id.as_ref());
        let schemas = schemas.iter().map(|it| to_proto::schema(it)).collect();
        Ok(Response::new(pb::ListSchemasResponse { schemas, next_page_token }))
    }

    async fn validate_event(
        &self,
        request: Request<pb::ValidateEventRequest>,
    ) -> Result<Response<pb::ValidateEventResponse>, Status> {
        let request = request.into_inner();
        let event = request.event.ok_or_else(|| Error::invalid("event", "missing"))?;
        let event = from_proto::event(event);
        let violations = match (request.target, event) {
            (None, _) => {
                let message = "missing; wanted `schema_id` or `dataset`";
                return Err(Error::invalid("target", message).into());
            }
            (Some(Target::SchemaId(id)), Err(violations)) => {
                self.store.schema(&id, 0)?;
                violations
            }
            (Some(Target::Dataset(name)), Err(violations)) => {
                self.store.dataset(&name)?;
                violations
            }
            (Some(Target::SchemaId(id)), Ok(text)) => {
                self.store.validate_for_schema(&id, text).await?
            }
            (Some(Target::Dataset(name)), Ok(text)) => {
                self.store.validate_for_dataset(&name, text).await?
            }
        };
        let violations: Vec<_> = violations.into_iter().map(to_proto::violation).collect();
        let valid = violations.is_empty();
        Ok(Response::new(pb::ValidateEventResponse { valid, violations }))
    }
}

impl Schemas {
    fn references(&self, version: &crate::store::SchemaVersion) -> Vec<pb::SchemaReference> {
        let references = self.store.schema_references(version);
        references.iter().map(|it| to_proto::schema_reference(it)).collect()
    }
}
