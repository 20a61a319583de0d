//! `milepost.v1.SchemaService`: converts, calls, converts.

use std::sync::Arc;

use tokio::sync::mpsc;
use tonic::{Request, Response, Status};

use crate::{
    grpc::{
        descriptors,
        from_proto::{self, PageRequest},
        pb::{self, schema_service_server::SchemaService, validate_event_request::Target},
        quarantine_service,
        responses::Responses,
        schemas, to_proto,
    },
    model::Direction,
    store::{CheckSchema, DescriptorFilter, Error, EventStore, RegisterSchema, SchemaRegistered},
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
        let pb::RegisterSchemaRequest { document, validate_only, force, replay_quarantined } =
            request.into_inner();
        let request = RegisterSchema { document, validate_only, force };
        let SchemaRegistered { version, created, changes, others } =
            self.store.register_schema(request).await?;
        let mut schema = to_proto::schema(&version);
        schema.references = self.references(&version);
        let mut fixed = Vec::new();
        if created && !validate_only {
            let versions: Vec<_> =
                others.renewed.iter().chain([&version]).map(Arc::clone).collect();
            fixed = self.store.fixed_by(&versions, replay_quarantined).await?;
        }
        let (renewed, left_behind) = schemas::others(&others);
        Ok(Response::new(pb::RegisterSchemaResponse {
            schema: Some(schema),
            created,
            renewed,
            left_behind,
            changes: schemas::changes(&changes.listed),
            changes_left_out: changes.left_out,
            fixed: fixed.into_iter().map(quarantine_service::fixed).collect(),
        }))
    }

    async fn check_compatibility(
        &self,
        request: Request<pb::CheckCompatibilityRequest>,
    ) -> Result<Response<pb::CheckCompatibilityResponse>, Status> {
        let pb::CheckCompatibilityRequest { document, against_history, max_events } =
            request.into_inner();
        let history = against_history.then_some(max_events);
        let checked = self.store.check_schema(CheckSchema { document, history }).await?;
        Ok(Response::new(schemas::checked(checked)))
    }

    async fn import_schemas(
        &self,
        request: Request<pb::ImportSchemasRequest>,
    ) -> Result<Response<pb::ImportSchemasResponse>, Status> {
        let (import, names) = schemas::import(request.into_inner())?;
        let imported = self.store.import_schemas(import).await?;
        Ok(Response::new(schemas::imported(imported, names)))
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
                let mut found = to_proto::summary(self.store.schema_summary(version).await?);
                let schema_id = schema.id.clone();
                let filter = DescriptorFilter { schema_id, ..DescriptorFilter::default() };
                let said = self.store.descriptors(&filter);
                found.descriptors = said.values().map(|it| descriptors::stored(it)).collect();
                summary = Some(found);
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
        let (filter, order, direction) = schemas::list(&request)?;
        let scope = format!("schemas {filter:?} {order:?} {direction:?}");
        let page = PageRequest::parse(request.page_size, &request.page_token, &scope)?;
        let listed = self.store.list_schemas(&filter, order)?;
        let (schemas, next_page_token) = page.cut(listed, direction);
        let schemas = schemas.iter().map(|it| to_proto::schema(it)).collect();
        Ok(Response::new(pb::ListSchemasResponse { schemas, next_page_token }))
    }

    async fn list_schema_versions(
        &self,
        request: Request<pb::ListSchemaVersionsRequest>,
    ) -> Result<Response<pb::ListSchemaVersionsResponse>, Status> {
        let pb::ListSchemaVersionsRequest { id, page_size, page_token } = request.into_inner();
        let page = PageRequest::parse(page_size, &page_token, &format!("versions {id}"))?;
        let versions = self.store.schema_versions(&id)?;
        let versions = versions.into_iter().map(|it| (format!("{:010}", it.version), it));
        let (schemas, next_page_token) = page.cut(versions.collect(), Direction::Forward);
        let schemas = schemas.iter().map(|it| to_proto::schema(it)).collect();
        Ok(Response::new(pb::ListSchemaVersionsResponse { schemas, next_page_token }))
    }

    async fn delete_schema(
        &self,
        request: Request<pb::DeleteSchemaRequest>,
    ) -> Result<Response<pb::DeleteSchemaResponse>, Status> {
        let pb::DeleteSchemaRequest { id, etag, validate_only } = request.into_inner();
        self.store.delete_schema(id, from_proto::etag(etag), validate_only).await?;
        Ok(Response::new(pb::DeleteSchemaResponse {}))
    }

    async fn deprecate_schema(
        &self,
        request: Request<pb::DeprecateSchemaRequest>,
    ) -> Result<Response<pb::DeprecateSchemaResponse>, Status> {
        let request = request.into_inner();
        let said = (request.successor, request.reason);
        let said = match request.undo {
            false => Some(said),
            true if said.0.is_empty() && said.1.is_empty() => None,
            true => {
                let message = "set beside `successor` or `reason`, which must be empty then";
                return Err(Error::invalid("undo", message).into());
            }
        };
        let etag = from_proto::etag(request.etag);
        let version =
            self.store.deprecate_schema(request.id, etag, said, request.validate_only).await?;
        let schema = Some(to_proto::schema(&version));
        Ok(Response::new(pb::DeprecateSchemaResponse { schema }))
    }

    async fn generate_sample(
        &self,
        request: Request<pb::GenerateSampleRequest>,
    ) -> Result<Response<pb::GenerateSampleResponse>, Status> {
        let pb::GenerateSampleRequest { id, version, seed, required_only } = request.into_inner();
        let sample = self.store.sample(&id, version, seed, required_only).await?;
        let schema = Some(to_proto::schema_reference(&sample.version));
        Ok(Response::new(pb::GenerateSampleResponse { json: sample.json, schema }))
    }

    async fn get_union(
        &self,
        request: Request<pb::GetUnionRequest>,
    ) -> Result<Response<pb::GetUnionResponse>, Status> {
        let class = request.into_inner().class_id;
        let (union, schema_ids) = self.store.union(&class).await?;
        let (document, conflicts) = (union.document.to_string(), union.conflicts);
        Ok(Response::new(pb::GetUnionResponse { document, schema_ids, conflicts }))
    }

    type ExportSchemasStream = Responses<pb::ExportSchemasResponse>;

    async fn export_schemas(
        &self,
        request: Request<pb::ExportSchemasRequest>,
    ) -> Result<Response<Self::ExportSchemasStream>, Status> {
        let begin = request.into_inner().schemas.into_iter().map(|it| (it.id, it.version));
        let place = self.store.reader_place()?;
        let versions = self.store.export_schemas(&begin.collect::<Vec<_>>())?;
        let (out, responses) = mpsc::channel(1);
        tokio::spawn(schemas::export(self.store.clone(), versions, out));
        Ok(Response::new(Responses::new(None, Some(responses), place)))
    }

    async fn create_descriptor(
        &self,
        request: Request<pb::CreateDescriptorRequest>,
    ) -> Result<Response<pb::CreateDescriptorResponse>, Status> {
        let pb::CreateDescriptorRequest { descriptor, validate_only } = request.into_inner();
        let descriptor = descriptor.ok_or_else(|| Error::invalid("descriptor", "missing"))?;
        let descriptor = descriptors::from_message("descriptor", descriptor)?;
        let created = self.store.create_descriptor(descriptor, validate_only).await?;
        let descriptor = Some(descriptors::stored(&created));
        Ok(Response::new(pb::CreateDescriptorResponse { descriptor }))
    }

    async fn get_descriptor(
        &self,
        request: Request<pb::GetDescriptorRequest>,
    ) -> Result<Response<pb::GetDescriptorResponse>, Status> {
        let found = self.store.descriptor(&request.into_inner().id)?;
        let descriptor = Some(descriptors::stored(&found));
        Ok(Response::new(pb::GetDescriptorResponse { descriptor }))
    }

    async fn list_descriptors(
        &self,
        request: Request<pb::ListDescriptorsRequest>,
    ) -> Result<Response<pb::ListDescriptorsResponse>, Status> {
        let request = request.into_inner();
        let filter = descriptors::filter(&request)?;
        let scope = format!("descriptors {filter:?}");
        let page = PageRequest::parse(request.page_size, &request.page_token, &scope)?;
        let (found, next_page_token) =
            page.cut(self.store.descriptors(&filter), Direction::Forward);
        let descriptors = found.iter().map(|it| descriptors::stored(it)).collect();
        Ok(Response::new(pb::ListDescriptorsResponse { descriptors, next_page_token }))
    }

    async fn delete_descriptor(
        &self,
        request: Request<pb::DeleteDescriptorRequest>,
    ) -> Result<Response<pb::DeleteDescriptorResponse>, Status> {
        let pb::DeleteDescriptorRequest { id, validate_only } = request.into_inner();
        self.store.delete_descriptor(id, validate_only).await?;
        Ok(Response::new(pb::DeleteDescriptorResponse {}))
    }

    async fn validate_event(
        &self,
        request: Request<pb::ValidateEventRequest>,
    ) -> Result<Response<pb::ValidateEventResponse>, Status> {
        let request = request.into_inner();
        let form = from_proto::form("form", request.form)?;
        let event = request.event.ok_or_else(|| Error::invalid("event", "missing"))?;
        let event = from_proto::event(event);
        let violations = match (request.target, event) {
            (None, _) => {
                let message = "missing; wanted `schema_id` or `dataset`";
                return Err(Error::invalid("target", message).into());
            }
            (Some(Target::SchemaId(id)), Err(unreadable)) => {
                self.store.find_schema(&id, 0)?;
                unreadable.violations
            }
            (Some(Target::Dataset(name)), Err(unreadable)) => {
                self.store.dataset(&name)?;
                unreadable.violations
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
