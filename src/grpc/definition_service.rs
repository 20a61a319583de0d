//! `milepost.v1.EventDefinitionService`: converts, calls, converts.

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::{
    grpc::{
        definitions::{self, message},
        from_proto::{self, PageRequest},
        inspections,
        pb::{self, event_definition_service_server::EventDefinitionService},
        structured,
    },
    model::{DefinitionName, Position},
    store::{Backfilling, Error, EventStore},
};

pub(crate) struct EventDefinitions {
    pub(crate) store: EventStore,
}

#[tonic::async_trait]
impl EventDefinitionService for EventDefinitions {
    async fn create_event_definition(
        &self,
        request: Request<pb::CreateEventDefinitionRequest>,
    ) -> Result<Response<pb::CreateEventDefinitionResponse>, Status> {
        let request = request.into_inner();
        let definition = definitions::required(request.event_definition)?;
        let (name, settings) = definitions::settings(definition)?;
        let created =
            self.store.create_event_definition(name, settings, request.validate_only).await?;
        let event_definition = Some(message(&self.store, &created)?);
        Ok(Response::new(pb::CreateEventDefinitionResponse { event_definition }))
    }

    async fn get_event_definition(
        &self,
        request: Request<pb::GetEventDefinitionRequest>,
    ) -> Result<Response<pb::GetEventDefinitionResponse>, Status> {
        let definition = self.store.event_definition(&request.into_inner().name)?;
        let event_definition = Some(message(&self.store, &definition)?);
        let versions = definitions::versions(&definition);
        Ok(Response::new(pb::GetEventDefinitionResponse { event_definition, versions }))
    }

    async fn list_event_definitions(
        &self,
        request: Request<pb::ListEventDefinitionsRequest>,
    ) -> Result<Response<pb::ListEventDefinitionsResponse>, Status> {
        let request = request.into_inner();
        let state = definitions::list_state(request.state)?;
        let scope = format!("event definitions {} {}", request.schema_id, request.state);
        let page = PageRequest::parse(request.page_size, &request.page_token, &scope)?;
        let mut all = self.store.event_definitions();
        all.retain(|it| {
            let spec = &it.settings.spec;
            let of_schema = request.schema_id.is_empty() || *spec.schema_id == *request.schema_id;
            of_schema && state.is_none_or(|state| spec.state == state)
        });
        let (listed, next_page_token) = page.take(all, |it| it.name.as_str());
        let listed = listed.iter().map(|it| message(&self.store, it));
        let event_definitions = listed.collect::<Result<_, Error>>()?;
        let response = pb::ListEventDefinitionsResponse { event_definitions, next_page_token };
        Ok(Response::new(response))
    }

    async fn update_event_definition(
        &self,
        request: Request<pb::UpdateEventDefinitionRequest>,
    ) -> Result<Response<pb::UpdateEventDefinitionResponse>, Status> {
        let request = request.into_inner();
        let definition = definitions::required(request.event_definition)?;
        let (name, etag) = (definition.name.clone(), from_proto::etag(definition.etag.clone()));
        let changes = definitions::changes(&definition, &request.update_mask.unwrap_or_default())?;
        let validate_only = request.validate_only;
        let updated =
            self.store.update_event_definition(name, etag, changes, validate_only).await?;
        let event_definition = Some(message(&self.store, &updated)?);
        Ok(Response::new(pb::UpdateEventDefinitionResponse { event_definition }))
    }

    async fn delete_event_definition(
        &self,
        request: Request<pb::DeleteEventDefinitionRequest>,
    ) -> Result<Response<pb::DeleteEventDefinitionResponse>, Status> {
        let pb::DeleteEventDefinitionRequest { name, etag, validate_only } = request.into_inner();
        let etag = from_proto::etag(etag);
        self.store.delete_event_definition(name, etag, validate_only).await?;
        Ok(Response::new(pb::DeleteEventDefinitionResponse {}))
    }

    async fn duplicate_event_definition(
        &self,
        request: Request<pb::DuplicateEventDefinitionRequest>,
    ) -> Result<Response<pb::DuplicateEventDefinitionResponse>, Status> {
        let request = request.into_inner();
        let new_name = DefinitionName::parse("new_name", &request.new_name).map_err(Error::from)?;
        let validate_only = request.validate_only;
        let created =
            self.store.duplicate_event_definition(&request.name, new_name, validate_only).await?;
        let event_definition = Some(message(&self.store, &created)?);
        Ok(Response::new(pb::DuplicateEventDefinitionResponse { event_definition }))
    }

    async fn preview_payload(
        &self,
        request: Request<pb::PreviewPayloadRequest>,
    ) -> Result<Response<pb::PreviewPayloadResponse>, Status> {
        let preview = self.store.preview_payload(&request.into_inner().name).await?;
        Ok(Response::new(inspections::preview(preview)))
    }

    async fn test_event_definition(
        &self,
        request: Request<pb::TestEventDefinitionRequest>,
    ) -> Result<Response<pb::TestEventDefinitionResponse>, Status> {
        let request = request.into_inner();
        let tried = inspections::tried(request.definition)?;
        let name = inspections::tried_name(&tried);
        let events = inspections::events(request.events)?;
        let history = request.history.map(inspections::history);
        let tested = self.store.test_event_definition(tried, events, history).await?;
        Ok(Response::new(inspections::tested(tested, &name)))
    }

    async fn explain_match(
        &self,
        request: Request<pb::ExplainMatchRequest>,
    ) -> Result<Response<pb::ExplainMatchResponse>, Status> {
        use pb::explain_match_request::Subject;
        let request = request.into_inner();
        let explanation = match request.subject {
            Some(Subject::Position(position)) => {
                self.store.explain_stored(&request.name, Position::new(position)).await?
            }
            Some(Subject::Event(event)) => {
                self.store.explain_given(&request.name, from_proto::event(event)).await?
            }
            None => {
                let message = "missing; wanted `position` or `event`";
                return Err(Error::invalid("subject", message).into());
            }
        };
        Ok(Response::new(inspections::explanation(explanation, &request.name)))
    }

    async fn list_discards(
        &self,
        request: Request<pb::ListDiscardsRequest>,
    ) -> Result<Response<pb::ListDiscardsResponse>, Status> {
        let pb::ListDiscardsRequest { name, after, page_size } = request.into_inner();
        let limit = PageRequest::parse(page_size, "", "")?.size();
        let after = Position::new(after);
        let (discards, scanned_to) = self.store.discards(&name, after, limit).await?;
        Ok(Response::new(pb::ListDiscardsResponse {
            discards: discards.into_iter().map(inspections::discarded).collect(),
            scanned_to: scanned_to.get(),
            last_position: self.store.last_position().get(),
        }))
    }

    type BackfillEventDefinitionStream =
        ReceiverStream<Result<pb::BackfillEventDefinitionResponse, Status>>;

    async fn backfill_event_definition(
        &self,
        request: Request<pb::BackfillEventDefinitionRequest>,
    ) -> Result<Response<Self::BackfillEventDefinitionStream>, Status> {
        let pb::BackfillEventDefinitionRequest { name, etag, validate_only } = request.into_inner();
        let etag = Some(etag.as_str()).filter(|it| !it.is_empty());
        let backfilling = self.store.backfill_event_definition(&name, etag, validate_only)?;
        let (out, responses) = mpsc::channel(1);
        tokio::spawn(send_backfill(backfilling, out));
        Ok(Response::new(ReceiverStream::new(responses)))
    }

    async fn convert_condition(
        &self,
        request: Request<pb::ConvertConditionRequest>,
    ) -> Result<Response<pb::ConvertConditionResponse>, Status> {
        Ok(Response::new(structured::convert(request.into_inner())?))
    }
}

/// Back-fills, and sends how far it has come, until it is done, fails, or the client leaves.
async fn send_backfill(
    mut backfilling: Backfilling,
    out: mpsc::Sender<Result<pb::BackfillEventDefinitionResponse, Status>>,
) {
    while let Some(progress) = backfilling.next().await.transpose() {
        let ended = progress.is_err();
        let response = progress.map(|it| pb::BackfillEventDefinitionResponse {
            version: it.version,
            scanned_to: it.scanned_to.get(),
            until: it.until.get(),
            matched: it.matched,
            done: it.done,
        });
        if out.send(response.map_err(Status::from)).await.is_err() || ended {
            return;
        }
    }
}
