//! `milepost.v1.EventService`: converts, calls, converts.

use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    grpc::{
        append_stream, from_proto,
        intake::{Arrivals, Held},
        pb::{self, event_service_server::EventService},
        refused::{self, Sent},
        responses::{End, FollowResponses, Responses},
        to_proto,
    },
    model::Position,
    store::{Deadline, Error, EventReader, EventStore},
};

/// Responses that wait for a client beside the one that is sent and the pages that are made ahead: with pages
/// of at most about 1 MiB, some MiB per stream.
const RESPONSES_MAX: usize = 1;

pub(crate) struct Events {
    pub(crate) store: EventStore,
}

#[tonic::async_trait]
impl EventService for Events {
    type ReadEventsStream = Responses<pb::ReadEventsResponse>;
    type FollowEventsStream = FollowResponses;
    type AppendEventStreamStream = ReceiverStream<Result<pb::AppendEventStreamResponse, Status>>;

    async fn append_events(
        &self,
        request: Request<pb::AppendEventsRequest>,
    ) -> Result<Response<pb::AppendEventsResponse>, Status> {
        let deadline = request.extensions().get::<Deadline>().cloned();
        if let Some(held) = request.extensions().get::<Held>() {
            held.shrink(request.get_ref().encoded_len());
        }
        let append = from_proto::append(request.into_inner(), deadline)?;
        let sent = Sent::of(&append);
        let appended = self.store.append(append).await;
        sent.note(&self.store, &appended);
        Ok(Response::new(to_proto::append_response(appended?)))
    }

    async fn append_event_stream(
        &self,
        request: Request<Streaming<pb::AppendEventStreamRequest>>,
    ) -> Result<Response<Self::AppendEventStreamStream>, Status> {
        let arrivals = request.extensions().get::<Arrivals>().cloned().unwrap_or_default();
        let responses = append_stream::serve(&self.store, request.into_inner(), arrivals)?;
        Ok(Response::new(ReceiverStream::new(responses)))
    }

    async fn get_event(
        &self,
        request: Request<pb::GetEventRequest>,
    ) -> Result<Response<pb::GetEventResponse>, Status> {
        let request = request.into_inner();
        let format = from_proto::enumeration("payload_format", request.payload_format)?;
        let event = match request.key {
            Some(pb::get_event_request::Key::Position(position)) => {
                self.store.event_at(Position::new(position)).await?
            }
            Some(pb::get_event_request::Key::Event(key)) => {
                self.store.event_with_id(&key.dataset, &key.event_id).await?
            }
            None => {
                return Err(Error::invalid("key", "missing; wanted `position` or `event`").into());
            }
        };
        let event = to_proto::recorded_event(event, format)?;
        Ok(Response::new(pb::GetEventResponse { event: Some(event) }))
    }

    async fn trace_event(
        &self,
        request: Request<pb::TraceEventRequest>,
    ) -> Result<Response<pb::TraceEventResponse>, Status> {
        let key = request.into_inner().event.ok_or_else(|| Error::invalid("event", "missing"))?;
        let trace = self.store.trace(&key.dataset, &key.event_id).await?;
        Ok(Response::new(refused::trace(trace)))
    }

    async fn read_events(
        &self,
        request: Request<pb::ReadEventsRequest>,
    ) -> Result<Response<Self::ReadEventsStream>, Status> {
        let request = request.into_inner();
        let format = from_proto::enumeration("payload_format", request.payload_format)?;
        let place = self.store.reader_place()?;
        let mut reader = self.store.read(&from_proto::read(request)?)?;
        let first = next_response(&mut reader, format).await;
        let more = (!reader.is_done()).then(|| {
            let (out, responses) = mpsc::channel(RESPONSES_MAX);
            tokio::spawn(send_pages(reader, format, out));
            responses
        });
        Ok(Response::new(Responses::new(first, more, place)))
    }

    async fn count_events(
        &self,
        request: Request<pb::CountEventsRequest>,
    ) -> Result<Response<pb::CountEventsResponse>, Status> {
        let filter = from_proto::filter(request.into_inner().filter)?;
        let count = self.store.count(&filter).await?;
        Ok(Response::new(pb::CountEventsResponse { count }))
    }

    async fn follow_events(
        &self,
        request: Request<pb::FollowEventsRequest>,
    ) -> Result<Response<Self::FollowEventsStream>, Status> {
        let request = request.into_inner();
        let format = from_proto::enumeration("payload_format", request.payload_format)?;
        let follow = from_proto::follow(request)?;
        let place = self.store.reader_place()?;
        let (out, messages) = mpsc::channel(RESPONSES_MAX);
        self.store.follow(follow, out).await?;
        let (store, sent, end) = (self.store.clone(), Position::START, End::None);
        let responses = FollowResponses { store, messages, format, sent, end, _place: place };
        Ok(Response::new(responses))
    }
}

/// Sends what is left of a read until it ends, fails, or the client leaves.
async fn send_pages(
    mut reader: EventReader,
    format: pb::PayloadFormat,
    out: mpsc::Sender<Result<pb::ReadEventsResponse, Status>>,
) {
    while let Some(response) = next_response(&mut reader, format).await {
        if out.send(response).await.is_err() {
            return;
        }
    }
}

/// The next page of a read; nothing follows an error.
async fn next_response(
    reader: &mut EventReader,
    format: pb::PayloadFormat,
) -> Option<Result<pb::ReadEventsResponse, Status>> {
    let page = reader.next_page().await.transpose()?;
    let response = page.and_then(|page| {
        let scanned_to = page.scanned_to.get();
        let gaps = page.gap.map(to_proto::gap).into_iter().collect();
        let events = to_proto::recorded_events(page.events, format)?;
        Ok(pb::ReadEventsResponse { events, scanned_to, gaps })
    });
    if response.is_err() {
        reader.end();
    }
    Some(response.map_err(Status::from))
}
