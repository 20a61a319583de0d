//! `milepost.v1.SchemaService`: converts, calls, converts.

use tonic::{Request, Response, Status};

use crate::{
    grpc::{
        from_proto::{self, PageRequest},
        pb::{self, schema_service_server::SchemaService, validate_event_request::Target},
        to_proto,
    },
    store::{Error, EventStore},
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
        let request = request.into_inner();
        let registered =
            self.store.register_schema(request.document, request.validate_only).await?;
        let mut schema = to_proto::schema(&registered.version);
        schema.references = self.references(&registered.version);
        let created = registered.created;
        Ok(Response::new(pb::RegisterSchemaResponse { schema: Some(schema), created }))
    }

    async fn get_schema(
        &self,
        request: Request<pb::GetSchemaRequest>,
    ) -> Result<Response<pb::GetSchemaResponse>, Status> {
        let request = request.into_inner();
        let view = from_proto::enumeration("view", request.view)?;
        let form = from_proto::form("form", request.form)?;
        let version = self.store.find_schema(&request.id, request.version)?;
        let mut schema = to_proto::schema(&version);
        schema.references = self.references(&version);
        let mut summary = None;
        match (view, form) {
            (pb::SchemaView::Unspecified | pb::SchemaView::Raw, None) => {
                schema.document = version.document.text().to_string();
            }
            (pb::SchemaView::Unspecified | pb::SchemaView::Raw, Some(form)) => {
                schema.document = version.document.in_form(form).to_string();
            }
            (pb::SchemaView::Resolved, None) => {
                schema.document = self.store.resolved_schema(version).await?;
            }
            (pb::SchemaView::Summary, None) => {
                summary = Some(to_proto::summary(self.store.schema_summary(version).await?));
            }
            (pb::SchemaView::Resolved | pb::SchemaView::Summary, Some(_)) => {
                return Err(Error::invalid("form", "only the view `RAW` has a form").into());
            }
        }
        Ok(Response::new(pb::GetSchemaResponse { schema: Some(schema), summary }))
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
        let form = from_proto::form("form", request.form)?.unwrap_or_default();
        let event = request.event.ok_or_else(|| Error::invalid("event", "missing"))?;
        let event = from_proto::event(event);
        let violations = match (request.target, event) {
            (None, _) => {
                let message = "missing; wanted `schema_id` or `dataset`";
                return Err(Error::invalid("target", message).into());
            }
            (Some(Target::SchemaId(id)), Err(violations)) => {
                self.store.find_schema(&id, 0)?;
                violations
            }
            (Some(Target::Dataset(name)), Err(violations)) => {
                self.store.dataset(&name)?;
                violations
            }
            (Some(Target::SchemaId(id)), Ok(text)) => {
                self.store.validate_for_schema(&id, text, form).await?
            }
            (Some(Target::Dataset(name)), Ok(text)) => {
                self.store.validate_for_dataset(&name, text, form).await?
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
