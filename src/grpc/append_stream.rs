//! A stream of appends: takes requests as long as the client has credit, answers them in order.

use std::{sync::Arc, time::Duration};

use prost::Message as _;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use crate::{
    grpc::{
        from_proto,
        intake::{Arrivals, Held},
        layer,
        pb::{self, append_event_stream_response::Message, append_stream_result::Outcome},
        refused::Sent,
        status::inner_status,
        to_proto,
    },
    model::{Invalid, limits},
    store::{Append, AppendStream, Appended, Error, EventStore},
};

type Response = Result<pb::AppendEventStreamResponse, Status>;

/// Responses that wait for the client beside the one that is sent.
const RESPONSES_MAX: usize = 1;

/// How long a client that goes on sending gets to read that the server closes, before the connection may
/// go, and what it has not read with it.
const PARTING: Duration = Duration::from_millis(500);

/// Requests under way, in the order in which they are answered.
struct UnderWay {
    correlation_id: String,
    /// Bytes of the request.
    bytes: u64,
    halts: bool,
    outcome: JoinHandle<Option<Result<Appended, Error>>>,
    _credit: OwnedSemaphorePermit,
}

/// Takes requests and answers them until the client is done or has left, or the stream has to end.
pub(crate) fn serve(
    store: &EventStore,
    requests: Streaming<pb::AppendEventStreamRequest>,
    arrivals: Arrivals,
) -> Result<mpsc::Receiver<Response>, Error> {
    let stream = store.append_stream()?;
    let (to_answer, under_way) = mpsc::channel(limits::STREAM_APPENDS_MAX);
    let (out, responses) = mpsc::channel(RESPONSES_MAX);
    let closing = store.closing();
    let incoming = Incoming { requests, arrivals };
    let taking = tokio::spawn(incoming.take(stream, to_answer, closing.clone()));
    tokio::spawn(answer(under_way, taking, closing, out));
    Ok(responses)
}

/// What the client sends.
struct Incoming {
    requests: Streaming<pb::AppendEventStreamRequest>,
    arrivals: Arrivals,
}

impl Incoming {
    /// Takes requests, each as soon as there is credit and room for it, until the client has sent its
    /// last one, or the server closes. Then it only keeps the connection read, so that the client gets to
    /// read how the stream ends.
    async fn take(
        mut self,
        stream: AppendStream,
        to_answer: mpsc::Sender<UnderWay>,
        closing: CancellationToken,
    ) -> Result<(), Status> {
        self.take_until(stream, to_answer, &closing).await?;
        while self.next().await?.is_some() {}
        Ok(())
    }

    async fn take_until(
        &mut self,
        mut stream: AppendStream,
        to_answer: mpsc::Sender<UnderWay>,
        closing: &CancellationToken,
    ) -> Result<(), Status> {
        let credit = Arc::new(Semaphore::new(limits::STREAM_CREDIT_BYTES));
        loop {
            // Only here: what has been taken is answered.
            let next = tokio::select! {
                next = self.next() => next?,
                () = closing.cancelled() => None,
            };
            let Some((request, held)) = next else { return Ok(()) };
            let bytes = request.encoded_len();
            held.shrink(bytes);
            // What is larger than all of it goes alone.
            let needed = u32::try_from(bytes.min(limits::STREAM_CREDIT_BYTES)).unwrap_or(u32::MAX);
            let credit = Arc::clone(&credit).acquire_many_owned(needed).await;
            let credit = credit.map_err(|_closed| Error::Closing)?;
            let (correlation_id, halts) = (request.correlation_id.clone(), request.stop_on_error);
            let append = append(request);
            let sent = append.as_ref().map(Sent::of).ok();
            let work = stream.send(append, halts).await;
            let store = stream.store().clone();
            let outcome = tokio::spawn(async move {
                let outcome = work.await;
                if let (Some(sent), Some(outcome)) = (sent, &outcome) {
                    sent.note(&store, outcome);
                }
                drop(held);
                outcome
            });
            let bytes = bytes as u64;
            let next = UnderWay { correlation_id, bytes, halts, outcome, _credit: credit };
            if to_answer.send(next).await.is_err() {
                return Ok(());
            }
        }
    }

    /// The next request, and the room that it holds.
    async fn next(&mut self) -> Result<Option<(pb::AppendEventStreamRequest, Held)>, Status> {
        let request = self.requests.message().await.map_err(layer::with_details)?;
        Ok(request.map(|request| (request, self.arrivals.next())))
    }
}

fn append(request: pb::AppendEventStreamRequest) -> Result<Append, Error> {
    let (found, most) = (request.correlation_id.len(), limits::CORRELATION_ID_BYTES_MAX);
    if found > most {
        let message = format!("{found} bytes; at most {most}");
        return Err(Error::OutOfBounds(Invalid::new("correlation_id", message)));
    }
    let append = request.append.ok_or_else(|| Error::invalid("append", "missing"))?;
    from_proto::append(append, None)
}

/// Answers requests in order, and says why the stream ends.
async fn answer(
    mut under_way: mpsc::Receiver<UnderWay>,
    mut taking: JoinHandle<Result<(), Status>>,
    closing: CancellationToken,
    out: mpsc::Sender<Response>,
) {
    let credit_bytes = limits::STREAM_CREDIT_BYTES as u64;
    let started = Message::Started(pb::AppendStreamStarted { credit_bytes });
    if send(&out, started).await.is_err() {
        return taking.abort();
    }
    while let Some(next) = under_way.recv().await {
        let UnderWay { correlation_id, bytes, halts, outcome, _credit } = next;
        // Only a fault of ours ends it without an outcome.
        let outcome = outcome.await.unwrap_or(Some(Err(Error::Internal)));
        let Some(outcome) = outcome else { continue };
        let failed = outcome.is_err();
        let outcome = match outcome {
            Ok(appended) => Outcome::Response(to_proto::append_response(appended)),
            Err(error) => Outcome::Error(inner_status(error)),
        };
        let ends = (failed && halts).then(|| outcome.clone());
        let (outcome, credit_bytes) = (Some(outcome), bytes);
        let result = pb::AppendStreamResult { correlation_id, outcome, credit_bytes };
        if send(&out, Message::Result(result)).await.is_err() {
            return taking.abort();
        }
        if let Some(Outcome::Error(error)) = ends {
            taking.abort();
            return end(&out, pb::ending::Reason::RequestFailed, from_inner(&error)).await;
        }
    }
    if closing.is_cancelled() {
        let ending = to_proto::ending_message(pb::ending::Reason::Shutdown, Vec::new());
        if send(&out, Message::Ending(ending)).await.is_ok() {
            drop(timeout(PARTING, &mut taking).await);
            drop(out.send(Err(Error::Closing.into())).await);
        }
        return taking.abort();
    }
    // A task that panicked has nothing to say.
    let ended = taking.await.unwrap_or_else(|_fault| Err(Error::Internal.into()));
    if let Err(status) = ended {
        end(&out, pb::ending::Reason::Error, status).await;
    }
}

/// A client that has left.
struct Gone;

async fn send(out: &mpsc::Sender<Response>, message: Message) -> Result<(), Gone> {
    let response = pb::AppendEventStreamResponse { message: Some(message) };
    out.send(Ok(response)).await.map_err(|_closed| Gone)
}

async fn end(out: &mpsc::Sender<Response>, reason: pb::ending::Reason, status: Status) {
    let ending = to_proto::ending_message(reason, Vec::new());
    if send(out, Message::Ending(ending)).await.is_ok() {
        drop(out.send(Err(status)).await);
    }
}

fn from_inner(error: &tonic_types::Status) -> Status {
    let details = tonic_types::Status { ..error.clone() }.encode_to_vec();
    Status::with_details(error.code.into(), error.message.clone(), details.into())
}
