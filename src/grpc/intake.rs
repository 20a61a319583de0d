//! Takes requests off their connections, each whole, within a bound on the bytes of all of them.
//!
//! A request may begin to arrive only when there is room for all of it, so that no two wait for each
//! other's. It is decoded when its last byte is here: nothing decoded, which can take many times its
//! bytes, waits for its sender.

use std::{
    collections::VecDeque,
    convert::Infallible,
    future::{Future, poll_fn},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tonic::{Code, Status, body::Body};
use tower::{Layer, Service};

use crate::{
    grpc::{APPEND_EVENTS, pb::ErrorReason, status::transport},
    model::limits,
    store::Error,
};

/// Our own methods, each with one message per request.
const OWN_METHODS: &str = "/milepost.v1.";
/// How long a request waits for room before it is refused. Longer than for the disk: a request that
/// has not arrived costs little, and sending it again costs its client much.
const ROOM_WAIT: Duration = Duration::from_secs(2);
/// How long a request may take to arrive once there is room for it: 16 MiB at 0.3 MB/s. Who sends
/// more slowly keeps room from others.
const ARRIVAL_MAX: Duration = Duration::from_mins(1);
/// Before a message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;
/// Bytes of one piece of a request on its way to the decoder, which frees each as it takes it.
const PIECE_BYTES: usize = 64 * 1024;
/// The most that a byte of gzip can become.
const GZIP_RATIO_MAX: usize = 1032;

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
        if path == APPEND_EVENTS {
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
async fn receive(mut body: Body, room: &Room) -> Result<(Message, Held), Status> {
    let mut message = Message::default();
    while message.bytes < PREFIX_BYTES {
        let Some(data) = next_data(&mut body).await? else { return Ok((message, Held::default())) };
        message.add(data);
    }
    let (compressed, length) = message.prefix();
    if length > limits::REQUEST_BYTES_MAX {
        // The decoder says so when it sees the length; the rest is not taken.
        return Ok((message, Held::default()));
    }
    let decoded = if compressed {
        length.saturating_mul(GZIP_RATIO_MAX).min(limits::REQUEST_BYTES_MAX)
    } else {
        0
    };
    let held = room.hold(length + decoded).await?;
    let whole = PREFIX_BYTES + length;
    message.whole = whole;
    let rest = async {
        while let Some(data) = next_data(&mut body).await? {
            message.add(data);
            if message.bytes > whole {
                let said = "request has more than one message";
                return Err(transport(Code::InvalidArgument, ErrorReason::RequestMalformed, said));
            }
        }
        Ok::<_, Status>(())
    };
    match timeout(ARRIVAL_MAX, rest).await {
        Ok(arrived) => arrived.map(|()| (message, held)),
        Err(_elapsed) => {
            let (bytes, seconds) = (message.bytes, ARRIVAL_MAX.as_secs());
            let said = format!("{bytes} of {whole} bytes of the request came within {seconds} s");
            Err(transport(Code::DeadlineExceeded, ErrorReason::DeadlineExceeded, &said))
        }
    }
}

/// The next bytes of a body; `None` at its end.
async fn next_data(body: &mut Body) -> Result<Option<Bytes>, Status> {
    loop {
        match poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await.transpose()? {
            None => return Ok(None),
            // Trailers, which a request has no use for, are passed over.
            Some(frame) => match frame.into_data() {
                Ok(data) => return Ok(Some(data)),
                Err(_trailers) => {}
            },
        }
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

    /// Waits a little for room, in turn.
    async fn hold(&self, bytes: usize) -> Result<Held, Status> {
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
        match timeout(ROOM_WAIT, room).await {
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

/// A message with its prefix, as it arrived but in pieces of its own: what the transport hands out
/// may be a few bytes that keep a large buffer.
#[derive(Debug, Default)]
struct Message {
    pieces: VecDeque<BytesMut>,
    bytes: usize,
    /// Its length, when that is known.
    whole: usize,
}

impl Message {
    fn add(&mut self, mut data: Bytes) {
        while data.has_remaining() {
            let free = |piece: &BytesMut| piece.capacity() - piece.len();
            match self.pieces.back_mut() {
                Some(piece) if free(piece) > 0 => {
                    let taken = data.split_to(free(piece).min(data.len()));
                    piece.extend_from_slice(&taken);
                    self.bytes += taken.len();
                }
                _ => {
                    let needed = self.whole.saturating_sub(self.bytes).max(data.len());
                    self.pieces.push_back(BytesMut::with_capacity(needed.min(PIECE_BYTES)));
                }
            }
        }
    }

    /// Whether the message is compressed, and its length.
    fn prefix(&self) -> (bool, usize) {
        let mut bytes = self.pieces.iter().flat_map(|piece| piece.iter().copied());
        let compressed = bytes.next().is_some_and(|flag| flag != 0);
        let length = bytes.take(4).fold(0, |length, byte| length << 8 | usize::from(byte));
        (compressed, length)
    }
}

impl HttpBody for Message {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.pieces.pop_front().map(|piece| Ok(Frame::data(piece.freeze()))))
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_empty()
    }
}
