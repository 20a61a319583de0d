//! `milepost.v1.EventService`: converts, calls, converts.

use prost::Message;
use tokio::sync::mpsc;
use tonic::{Request, Response, Status};

use crate::{
    grpc::{
        from_proto,
        intake::Held,
        pb::{self, event_service_server::EventService},
        responses::Responses,
        to_proto,
    },
    model::Position,
    store::{Deadline, Error, EventReader, EventStore, FollowEnd, FollowMessage},
};

/// Responses that wait for a client beside the one that is made and the one that is sent: with pages
/// of at most about 1 MiB, some MiB per stream.
const RESPONSES_MAX: usize = 1;

pub(crate) struct Events {
    pub(crate) store: EventStore,
}

#[tonic::async_trait]
impl EventService for Events {
    type ReadEventsStream = Responses<pb::ReadEventsResponse>;
    type FollowEventsStream = Responses<pb::FollowEventsResponse>;

    async fn append_events(
        &self,
        request: Request<pb::AppendEventsRequest>,
    ) -> Result<Response<pb::AppendEventsResponse>, Status> {
        let deadline = request.extensions().get::<Deadline>().cloned();
        if let Some(held) = request.extensions().get::<Held>() {
            held.shrink(request.get_ref().encoded_len());
        }
        let append = from_proto::append(request.into_inner(), deadline)?;
        let appended = self.store.append(append).await?;
        Ok(Response::new(to_proto::append_response(appended)))
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

    async fn read_events(
        &self,
        request: Request<pb::ReadEventsRequest>,
    ) -> Result<Response<Self::ReadEventsStream>, Status> {
        let request = request.into_inner();
        let format = from_proto::enumeration("payload_format", request.payload_format)?;
        let place = self.store.reader_place()?;
        let reader = self.store.read(&from_proto::read(request)?)?;
        let (out, responses) = mpsc::channel(RESPONSES_MAX);
        tokio::spawn(send_pages(reader, format, out));
        Ok(Response::new(Responses::new(responses, place)))
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
        let (messages, follower) = mpsc::channel(RESPONSES_MAX);
        self.store.follow(follow, messages).await?;
        let (out, responses) = mpsc::channel(1);
        tokio::spawn(send_messages(self.store.clone(), follower, format, out));
        Ok(Response::new(Responses::new(responses, place)))
    }
}

/// Sends a read's pages until it ends, fails, or the client leaves.
async fn send_pages(
    mut reader: EventReader,
    format: pb::PayloadFormat,
    out: mpsc::Sender<Result<pb::ReadEventsResponse, Status>>,
) {
    loop {
        let response = match reader.next_page().await {
            Ok(None) => return,
            Ok(Some(page)) => {
                let scanned_to = page.scanned_to.get();
                let gaps = page.gap.map(to_proto::gap).into_iter().collect();
                to_proto::recorded_events(page.events, format)
                    .map(|events| pb::ReadEventsResponse { events, scanned_to, gaps })
            }
            Err(error) => Err(error),
        };
        let failed = response.is_err();
        let gone = out.send(response.map_err(Status::from)).await.is_err();
        if gone || failed {
            return;
        }
    }
}

/// Sends a follow's messages; every end that is not the client's is announced by `Ending`.
async fn send_messages(
    store: EventStore,
    mut follower: mpsc::Receiver<Result<FollowMessage, FollowEnd>>,
    format: pb::PayloadFormat,
    out: mpsc::Sender<Result<pb::FollowEventsResponse, Status>>,
) {
    let mut sent = Position::START;
    while let Some(message) = follower.recv().await {
        let made = message.and_then(|message| {
            let position = message.position();
            let made = to_proto::follow_message(message, format, |it| store.resume_token(it));
            made.map(|it| (it, position)).map_err(|error| FollowEnd { position: sent, error })
        });
        match made {
            Ok((message, position)) => {
                if out.send(Ok(message)).await.is_err() {
                    return;
                }
                sent = position;
            }
            Err(FollowEnd { position, error }) => {
                let ending = to_proto::ending(&error, store.resume_token(position));
                drop(out.send(Ok(ending)).await);
                drop(out.send(Err(error.into())).await);
                return;
            }
        }
    }
}
