//! Takes requests off their connections, each whole, within a bound on the bytes of all of them.
//!
//! A request may begin to arrive only when there is room for all of it, so that no two wait for each
//! other's. It is decoded when its last byte is here: nothing decoded, which can take many times its
//! bytes, waits for its sender.

mod message;

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::timeout,
};
use tonic::{Code, Status, body::Body};
use tower::{Layer, Service};

use crate::{
    grpc::{
        APPEND_EVENT_STREAM, APPEND_EVENTS, COMMIT_WORK, CONSUME,
        intake::message::{Arriving, Message, Messages},
        pb::ErrorReason,
        status::transport,
    },
    model::limits,
    store::Error,
};

/// Our own methods, each with one message per request, unless it is among `STREAMS`.
const OWN_METHODS: &str = "/milepost.v1.";
/// Those with many. Who sends them waits for room: the connection is not read.
const STREAMS: [&str; 2] = [APPEND_EVENT_STREAM, CONSUME];
/// How long a request waits for room before it is refused. Longer than for the disk: a request that
/// has not arrived costs little, and sending it again costs its client much.
const ROOM_WAIT: Duration = Duration::from_secs(2);
/// Room for the requests that are being received, decoded and carried out.
#[derive(Clone, Debug)]
pub(crate) struct Intake {
    appends: Room,
    others: Room,
}

impl Intake {
    /// `append_bytes` is the room for appends; other calls have their own, so that a full queue does
    /// not keep readers and operators out.
    pub(crate) fn new(append_bytes: usize) -> Self {
        let appends = Room::new(append_bytes, limits::SMALL_APPENDS_BYTES);
        Self { appends, others: Room::new(limits::CALL_BYTES, 0) }
    }

    fn room(&self, path: &str) -> Option<Room> {
        if [APPEND_EVENTS, APPEND_EVENT_STREAM, COMMIT_WORK].contains(&path) {
            return Some(self.appends.clone());
        }
        path.starts_with(OWN_METHODS).then(|| self.others.clone())
    }
}

impl<S> Layer<S> for Intake {
    type Service = Receiving<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Receiving { inner, intake: self.clone() }
    }
}

/// The service made by [`Intake`].
#[derive(Clone, Debug)]
pub(crate) struct Receiving<S> {
    inner: S,
    intake: Intake,
}

impl<S> Service<Request<Body>> for Receiving<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let Some(room) = self.intake.room(request.uri().path()) else {
            return Box::pin(self.inner.call(request));
        };
        // The one that is ready is the one that is called.
        let next = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, next);
        Box::pin(async move {
            let (mut parts, body) = request.into_parts();
            if STREAMS.contains(&parts.uri.path()) {
                let (body, arrivals) = receive_each(body, room);
                parts.extensions.insert(arrivals);
                return inner.call(Request::from_parts(parts, body)).await;
            }
            match receive(body, &room).await {
                Ok((message, held)) => {
                    parts.extensions.insert(held.clone());
                    let answer = inner.call(Request::from_parts(parts, Body::new(message))).await;
                    drop(held);
                    answer
                }
                Err(status) => Ok(status.into_http()),
            }
        })
    }
}

/// Takes a request's one message off the connection.
async fn receive(body: Body, room: &Room) -> Result<(Message, Held), Status> {
    let mut arriving = Arriving::new(body);
    let Some(received) = arriving.message(room, Some(ROOM_WAIT)).await? else {
        return Ok((Message::default(), Held::default()));
    };
    if !received.0.is_cut && !arriving.is_over().await? {
        let said = "request has more than one message";
        return Err(transport(Code::InvalidArgument, ErrorReason::RequestMalformed, said));
    }
    Ok(received)
}

/// Takes the messages of a request off the connection, one after the other, and hands each on when all of
/// it is here and there is room for it. The room of each is in the second value, in order.
fn receive_each(body: Body, room: Room) -> (Body, Arrivals) {
    let (to, from) = mpsc::channel(1);
    let arrivals = Arrivals::default();
    let held = arrivals.clone();
    tokio::spawn(async move {
        let mut arriving = Arriving::new(body);
        let work = async {
            while let Some((message, room)) = arriving.message(&room, None).await? {
                held.lock().push_back(room);
                let is_last = message.is_cut;
                if to.send(Ok(message)).await.is_err() || is_last {
                    break;
                }
            }
            Ok::<_, Status>(())
        };
        let received = tokio::select! {
            received = work => received,
            () = to.closed() => return,
        };
        if let Err(status) = received {
            drop(to.send(Err(status)).await);
        }
    });
    (Body::new(Messages { from, current: None }), arrivals)
}

/// The room of each message of a request that has many, in the order of their arrival.
#[derive(Clone, Debug, Default)]
pub(crate) struct Arrivals(Arc<Mutex<VecDeque<Held>>>);

impl Arrivals {
    /// The room that the next message holds.
    pub(crate) fn next(&self) -> Held {
        self.lock().pop_front().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Held>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes of requests that may be held at a time.
#[derive(Clone, Debug)]
struct Room {
    free: Arc<Semaphore>,
    bytes_max: usize,
    /// For small requests only: large ones that arrive slowly must not keep them out.
    small: Arc<Semaphore>,
}

impl Room {
    fn new(bytes_max: usize, small_bytes_max: usize) -> Self {
        let room = |bytes| Arc::new(Semaphore::new(bytes));
        Self { free: room(bytes_max), bytes_max, small: room(small_bytes_max) }
    }

    /// Waits for room, in turn; without `patience` for as long as it takes.
    async fn hold(&self, bytes: usize, patience: Option<Duration>) -> Result<Held, Status> {
        // What is larger than all of it goes alone.
        let bytes = bytes.max(limits::CALL_OVERHEAD_BYTES).min(self.bytes_max);
        let small = bytes <= limits::SMALL_APPEND_BYTES;
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let room = async {
            let free = Arc::clone(&self.free).acquire_many_owned(bytes);
            let own = Arc::clone(&self.small).acquire_many_owned(bytes);
            tokio::select! {
                biased;
                permit = own, if small => permit,
                permit = free => permit,
            }
        };
        let acquired = match patience {
            Some(patience) => timeout(patience, room).await,
            None => Ok(room.await),
        };
        match acquired {
            Ok(Ok(permit)) => Ok(Held(Arc::new(Mutex::new(Some(permit))))),
            Ok(Err(_closed)) => Err(Error::Closing.into()),
            Err(_elapsed) => Err(Error::Busy("room for requests").into()),
        }
    }
}

/// The room that one call holds, until it is answered; among the extensions of its request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Held(Arc<Mutex<Option<OwnedSemaphorePermit>>>);

impl Held {
    /// Gives back what a compressed request turned out not to need.
    pub(crate) fn shrink(&self, bytes: usize) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(permit) = held.as_mut() {
            let needed = bytes.max(limits::CALL_OVERHEAD_BYTES);
            let excess = permit.num_permits().saturating_sub(needed);
            drop(permit.split(excess));
        }
    }
}
