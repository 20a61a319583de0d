//! `milepost.v1.SubscriptionService`: converts, calls, converts.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{sync::mpsc, task::JoinHandle};
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    grpc::{
        from_proto::{self, PageRequest},
        intake::Arrivals,
        layer, parked,
        pb::{self, subscription_service_server::SubscriptionService},
        responses::Responses,
        subscriptions, to_proto,
    },
    model::{Position, Timestamp},
    store::{
        AppendMode, CommitWork, Connect, Connection, ConsumeMessage, Deadline, Error, EventStore,
        Handle, ReaderPlace, Subscription,
    },
};

/// Responses that wait for a client beside the one that is made and the one that is sent.
const RESPONSES_MAX: usize = 1;
/// The same for a consumer: what became of its outcomes and its next events go in one write.
const CONSUME_RESPONSES_MAX: usize = 2;
/// Digits of a position in a page token, so that tokens sort as positions do.
const POSITION_DIGITS: usize = 20;

pub(crate) struct SubscriptionsService {
    pub(crate) store: EventStore,
}

#[tonic::async_trait]
impl SubscriptionService for SubscriptionsService {
    type ConsumeStream = ConsumeResponses;
    type ExportParkedStream = Responses<pb::ExportParkedResponse>;
    type WatchParkedStream = Responses<pb::WatchParkedResponse>;

    async fn create_subscription(
        &self,
        request: Request<pb::CreateSubscriptionRequest>,
    ) -> Result<Response<pb::CreateSubscriptionResponse>, Status> {
        let create = subscriptions::create(request.into_inner())?;
        let subscription = shown(&*self.store.create_subscription(create).await?);
        Ok(Response::new(pb::CreateSubscriptionResponse { subscription }))
    }

    async fn get_subscription(
        &self,
        request: Request<pb::GetSubscriptionRequest>,
    ) -> Result<Response<pb::GetSubscriptionResponse>, Status> {
        let status = self.store.subscription_status(&request.into_inner().name).await?;
        let subscription = shown(&status.subscription);
        let status = Some(subscriptions::status(status));
        Ok(Response::new(pb::GetSubscriptionResponse { subscription, status }))
    }

    async fn list_subscriptions(
        &self,
        request: Request<pb::ListSubscriptionsRequest>,
    ) -> Result<Response<pb::ListSubscriptionsResponse>, Status> {
        let request = request.into_inner();
        let page = PageRequest::parse(request.page_size, &request.page_token, "subscriptions")?;
        let (found, next_page_token) = page.take(self.store.subscriptions(), |it| it.name.as_str());
        let subscriptions = found.iter().map(|it| subscriptions::subscription(it)).collect();
        Ok(Response::new(pb::ListSubscriptionsResponse { subscriptions, next_page_token }))
    }

    async fn update_subscription(
        &self,
        request: Request<pb::UpdateSubscriptionRequest>,
    ) -> Result<Response<pb::UpdateSubscriptionResponse>, Status> {
        let update = subscriptions::update(request.into_inner())?;
        let subscription = shown(&*self.store.update_subscription(update).await?);
        Ok(Response::new(pb::UpdateSubscriptionResponse { subscription }))
    }

    async fn delete_subscription(
        &self,
        request: Request<pb::DeleteSubscriptionRequest>,
    ) -> Result<Response<pb::DeleteSubscriptionResponse>, Status> {
        let pb::DeleteSubscriptionRequest { name, etag } = request.into_inner();
        self.store.delete_subscription(&name, from_proto::etag(etag)).await?;
        Ok(Response::new(pb::DeleteSubscriptionResponse {}))
    }

    async fn pause_subscription(
        &self,
        request: Request<pb::PauseSubscriptionRequest>,
    ) -> Result<Response<pb::PauseSubscriptionResponse>, Status> {
        let name = request.into_inner().name;
        let subscription = shown(&*self.store.pause_subscription(&name, true).await?);
        Ok(Response::new(pb::PauseSubscriptionResponse { subscription }))
    }

    async fn resume_subscription(
        &self,
        request: Request<pb::ResumeSubscriptionRequest>,
    ) -> Result<Response<pb::ResumeSubscriptionResponse>, Status> {
        let name = request.into_inner().name;
        let subscription = shown(&*self.store.pause_subscription(&name, false).await?);
        Ok(Response::new(pb::ResumeSubscriptionResponse { subscription }))
    }

    async fn seek_subscription(
        &self,
        request: Request<pb::SeekSubscriptionRequest>,
    ) -> Result<Response<pb::SeekSubscriptionResponse>, Status> {
        let seek = subscriptions::seek(request.into_inner())?;
        let position = self.store.seek_subscription(seek).await?.get();
        Ok(Response::new(pb::SeekSubscriptionResponse { position }))
    }

    async fn create_snapshot(
        &self,
        request: Request<pb::CreateSnapshotRequest>,
    ) -> Result<Response<pb::CreateSnapshotResponse>, Status> {
        let pb::CreateSnapshotRequest { subscription, name } = request.into_inner();
        let made: Timestamp = self.store.create_snapshot(&subscription, &name).await?;
        let create_time = Some(to_proto::timestamp(made));
        let snapshot = Some(pb::SubscriptionSnapshot { name, create_time });
        Ok(Response::new(pb::CreateSnapshotResponse { snapshot }))
    }

    async fn delete_snapshot(
        &self,
        request: Request<pb::DeleteSnapshotRequest>,
    ) -> Result<Response<pb::DeleteSnapshotResponse>, Status> {
        let pb::DeleteSnapshotRequest { subscription, name } = request.into_inner();
        self.store.delete_snapshot(&subscription, &name).await?;
        Ok(Response::new(pb::DeleteSnapshotResponse {}))
    }

    async fn consume(
        &self,
        request: Request<Streaming<pb::ConsumeRequest>>,
    ) -> Result<Response<Self::ConsumeStream>, Status> {
        let arrivals = request.extensions().get::<Arrivals>().cloned().unwrap_or_default();
        let mut incoming = Incoming { requests: request.into_inner(), arrivals };
        let Some(pb::consume_request::Message::Open(open)) = incoming.next().await? else {
            return Err(Error::invalid("open", "missing; the first message must be it").into());
        };
        let format = from_proto::enumeration("open.payload_format", open.payload_format)?;
        let pb::consume_request::Open { subscription, client_id, instance, credit, .. } = open;
        let (interval, deadline) = (open.heartbeat_interval, open.ack_deadline);
        let connect = Connect {
            keep_alive: open.keep_alive,
            ..subscriptions::connect("open.", client_id, instance, credit, interval, deadline)?
        };
        let place = self.store.consumer_place()?;
        let connection = self.store.consume(&subscription, connect).await?;
        let (out, responses) = mpsc::channel(CONSUME_RESPONSES_MAX);
        let taking = tokio::spawn(incoming.take(connection.handle()));
        tokio::spawn(send(connection, format, subscription, taking, out));
        Ok(Response::new(ConsumeResponses { responses, _place: place }))
    }

    async fn pull(
        &self,
        request: Request<pb::PullRequest>,
    ) -> Result<Response<pb::PullResponse>, Status> {
        let request = request.into_inner();
        let format = from_proto::enumeration("payload_format", request.payload_format)?;
        let pb::PullRequest { subscription, client_id, instance, credit, .. } = request;
        let deadline = request.ack_deadline;
        let connect = subscriptions::connect("", client_id, instance, credit, None, deadline)?;
        let events = subscriptions::pull_events(request.max_events)?;
        let wait = subscriptions::pull_wait(request.wait)?;
        let _place = self.store.consumer_place()?;
        let pulled = self.store.pull(&subscription, connect, events, wait).await?;
        let ended = pulled.end.and_then(|it| subscriptions::end_error(&it, &subscription));
        if let Some(error) = ended.filter(|_| pulled.events.is_empty()) {
            return Err(error.into());
        }
        let events = pulled.events.into_iter().map(|it| subscriptions::delivered(it, format));
        Ok(Response::new(pb::PullResponse { events: events.collect::<Result<_, _>>()? }))
    }

    async fn resolve(
        &self,
        request: Request<pb::ResolveRequest>,
    ) -> Result<Response<pb::ResolveResponse>, Status> {
        let request = request.into_inner();
        let outcomes = subscriptions::outcomes(request.outcomes)?;
        let resolved = self.store.resolve_deliveries(&request.subscription, outcomes).await?;
        let durability = subscriptions::durability(resolved.durable).into();
        let results = resolved.results.iter().map(subscriptions::result).collect();
        Ok(Response::new(pb::ResolveResponse { results, durability }))
    }

    async fn list_parked(
        &self,
        request: Request<pb::ListParkedRequest>,
    ) -> Result<Response<pb::ListParkedResponse>, Status> {
        let request = request.into_inner();
        let format = from_proto::enumeration("payload_format", request.payload_format)?;
        let filter = parked::filter("filter", request.filter)?;
        let scope = format!("parked {} {filter:?}", request.subscription);
        let page = PageRequest::parse(request.page_size, &request.page_token, &scope)?;
        let after = page.after().and_then(|it| it.parse().ok()).map(Position::new);
        let after = after.unwrap_or(Position::START);
        let (parked, more) =
            self.store.parked_events(&request.subscription, &filter, after, page.size()).await?;
        let last = parked.last().filter(|_| more);
        let next_page_token = last.map_or_else(String::new, |last| {
            page.token_after(&format!("{:0POSITION_DIGITS$}", last.position.get()))
        });
        let parked = parked.into_iter().map(|it| parked::event(it, format));
        let parked = parked.collect::<Result<_, _>>()?;
        Ok(Response::new(pb::ListParkedResponse { parked, next_page_token }))
    }

    async fn get_parked(
        &self,
        request: Request<pb::GetParkedRequest>,
    ) -> Result<Response<pb::GetParkedResponse>, Status> {
        let request = request.into_inner();
        let format = from_proto::enumeration("payload_format", request.payload_format)?;
        let position = Position::new(request.position);
        let found = self.store.parked_event(&request.subscription, position).await?;
        let parked = Some(parked::event(found, format)?);
        Ok(Response::new(pb::GetParkedResponse { parked }))
    }

    async fn export_parked(
        &self,
        request: Request<pb::ExportParkedRequest>,
    ) -> Result<Response<Self::ExportParkedStream>, Status> {
        let request = request.into_inner();
        let format = from_proto::enumeration("payload_format", request.payload_format)?;
        let filter = parked::filter("filter", request.filter)?;
        self.store.subscription(&request.subscription)?;
        let place = self.store.reader_place()?;
        let export = parked::Export {
            store: self.store.clone(),
            name: request.subscription,
            filter,
            after: Position::new(request.after_position),
            format,
        };
        let (out, responses) = mpsc::channel(RESPONSES_MAX);
        tokio::spawn(export.run(out));
        Ok(Response::new(Responses::new(None, Some(responses), place)))
    }

    async fn watch_parked(
        &self,
        request: Request<pb::WatchParkedRequest>,
    ) -> Result<Response<Self::WatchParkedStream>, Status> {
        let request = request.into_inner();
        let interval = from_proto::heartbeat(request.heartbeat_interval)?;
        let place = self.store.reader_place()?;
        let watch = self.store.watch_parked(&request.subscription, interval)?;
        let (out, responses) = mpsc::channel(RESPONSES_MAX);
        tokio::spawn(parked::tell(watch, request.subscription, out));
        Ok(Response::new(Responses::new(None, Some(responses), place)))
    }

    async fn replay_parked(
        &self,
        request: Request<pb::ReplayParkedRequest>,
    ) -> Result<Response<pb::ReplayParkedResponse>, Status> {
        let request = request.into_inner();
        let selector = parked::selector(request.selector)?;
        let reset = !request.keep_attempts;
        let replayed = self.store.replay_parked(&request.subscription, selector, reset).await?;
        Ok(Response::new(pb::ReplayParkedResponse { replayed: replayed as u64 }))
    }

    async fn discard_parked(
        &self,
        request: Request<pb::DiscardParkedRequest>,
    ) -> Result<Response<pb::DiscardParkedResponse>, Status> {
        let request = request.into_inner();
        if request.selector.is_none() {
            return Err(Error::invalid("selector", "missing").into());
        }
        let selector = parked::selector(request.selector)?;
        let discarded = self.store.discard_parked(&request.subscription, selector).await?;
        Ok(Response::new(pb::DiscardParkedResponse { discarded: discarded as u64 }))
    }

    async fn explain_delivery(
        &self,
        request: Request<pb::ExplainDeliveryRequest>,
    ) -> Result<Response<pb::ExplainDeliveryResponse>, Status> {
        let pb::ExplainDeliveryRequest { subscription, position } = request.into_inner();
        let position = Position::new(position);
        let (explained, index) = self.store.explain_delivery(&subscription, position).await?;
        let mut explained = subscriptions::explained(explained);
        explained.set_filter_index(subscriptions::filter_index(index));
        Ok(Response::new(explained))
    }

    async fn commit_work(
        &self,
        request: Request<pb::CommitWorkRequest>,
    ) -> Result<Response<pb::CommitWorkResponse>, Status> {
        let deadline = request.extensions().get::<Deadline>().cloned();
        let pb::CommitWorkRequest { subscription, outcomes, mut appends } = request.into_inner();
        let extends =
            |it: &pb::Outcome| matches!(it.outcome, Some(pb::outcome::Outcome::Extend(_)));
        if let Some(index) = outcomes.iter().position(extends) {
            let field = format!("outcomes[{index}].outcome");
            return Err(Error::invalid(field, "`extend` is no outcome of finished work").into());
        }
        if appends.len() > 1 {
            return Err(Error::invalid("appends", "more than one at present").into());
        }
        let append = appends.pop().map(|it| from_proto::append(it, deadline)).transpose()?;
        if append.as_ref().is_some_and(|it| it.mode != AppendMode::Atomic || it.validate_only) {
            let field = "appends[0].mode";
            return Err(Error::invalid(field, "wanted ATOMIC, and not `validate_only`").into());
        }
        let name = subscriptions::name("subscription", &subscription)?;
        let outcomes = subscriptions::outcomes(outcomes)?;
        let done = self.store.commit_work(CommitWork { name, outcomes, append }).await?;
        let appends = done.appended.map(to_proto::append_response).into_iter().collect();
        Ok(Response::new(pb::CommitWorkResponse { appends }))
    }
}

#[expect(clippy::unnecessary_wraps, reason = "as the field of a message takes it")]
fn shown(subscription: &Subscription) -> Option<pb::Subscription> {
    Some(subscriptions::subscription(subscription))
}

/// What a consumer sends.
struct Incoming {
    requests: Streaming<pb::ConsumeRequest>,
    arrivals: Arrivals,
}

impl Incoming {
    /// Takes what the consumer sends until it has sent its last message. It may go on to receive.
    async fn take(mut self, handle: std::sync::Arc<Handle>) -> Result<(), Status> {
        use pb::consume_request::Message;
        while let Some(message) = self.next().await? {
            match message {
                Message::Open(_) => {
                    return Err(Error::invalid("open", "sent before; once is enough").into());
                }
                Message::Outcomes(request) => match subscriptions::outcomes(request.outcomes) {
                    Ok(outcomes) => handle.outcomes(outcomes).await?,
                    Err(error) => handle.refuse(error).await?,
                },
                Message::Credit(credit) => {
                    handle.set_credit(subscriptions::credit("", Some(credit))?);
                }
                Message::Drain(drain) => handle.drain(drain.give_back),
                Message::AckUpTo(position) => handle.ack_up_to(Position::new(position)).await?,
                Message::KeepAlive(_) => handle.keep_alive()?,
            }
        }
        Ok(())
    }

    /// The next message; one without content has a field that this server does not know.
    async fn next(&mut self) -> Result<Option<pb::consume_request::Message>, Status> {
        let request = self.requests.message().await.map_err(layer::with_details)?;
        let Some(request) = request else { return Ok(None) };
        drop(self.arrivals.next());
        let message = request.message;
        message.map(Some).ok_or_else(|| Error::invalid("message", "missing").into())
    }
}

/// Sends a consumer what it is told until the end, or until it leaves.
async fn send(
    mut connection: Connection,
    format: pb::PayloadFormat,
    subscription: String,
    mut taking: JoinHandle<Result<(), Status>>,
    out: mpsc::Sender<Result<pb::ConsumeResponse, Status>>,
) {
    let mut taken = false;
    loop {
        let message = tokio::select! {
            biased;
            () = out.closed() => break,
            ended = &mut taking, if !taken => {
                taken = true;
                // A fault of the client's, or of ours; a client that has said all goes on to listen.
                match ended.unwrap_or_else(|_fault| Err(Error::Internal.into())) {
                    Ok(()) => continue,
                    Err(status) => {
                        let why = crate::store::EndReason::Failed(status.message().to_owned());
                        let ending = subscriptions::message(ConsumeMessage::Ending(why), format);
                        drop(out.send(ending.map_err(Status::from)).await);
                        drop(out.send(Err(status)).await);
                        break;
                    }
                }
            }
            message = connection.next() => message,
        };
        let Some(message) = message else { break };
        let status = if let ConsumeMessage::Ending(end) = &message {
            subscriptions::end_error(end, &subscription)
        } else {
            None
        };
        let response = subscriptions::message(message, format).map_err(Status::from);
        let failed = response.is_err();
        if out.send(response).await.is_err() || failed {
            break;
        }
        if let Some(status) = status {
            drop(out.send(Err(status.into())).await);
        }
    }
    taking.abort();
}

/// Responses on their way to a consumer.
pub(crate) struct ConsumeResponses {
    responses: mpsc::Receiver<Result<pb::ConsumeResponse, Status>>,
    _place: ReaderPlace,
}

impl Stream for ConsumeResponses {
    type Item = Result<pb::ConsumeResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.responses.poll_recv(cx)
    }
}
