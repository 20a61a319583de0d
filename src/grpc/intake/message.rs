//! Messages as they arrive, in pieces.

use std::{
    collections::VecDeque,
    convert::Infallible,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use http_body::{Body as HttpBody, Frame};
use tokio::{sync::mpsc, time::timeout};
use tonic::{Code, Status, body::Body};

use crate::{
    grpc::{
        intake::{Held, Room},
        pb::ErrorReason,
        status::transport,
    },
    model::limits,
};

/// How long a request may take to arrive once there is room for it: 16 MiB at 0.3 MB/s. Who sends
/// more slowly keeps room from others.
const ARRIVAL_MAX: Duration = Duration::from_mins(1);
/// Before a message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;
/// Bytes of one piece of a request on its way to the decoder, which frees each as it takes it.
const PIECE_BYTES: usize = 64 * 1024;
/// The most that a byte of gzip can become.
const GZIP_RATIO_MAX: usize = 1032;

/// A request's messages on their way from the connection.
pub(super) struct Arriving {
    body: Body,
    /// What has come of the next message.
    rest: Bytes,
}

impl Arriving {
    pub(super) fn new(body: Body) -> Self {
        Self { body, rest: Bytes::new() }
    }

    /// The next message, when all of it is here, and the room that it holds; `None` at the end. Waits for
    /// room as long as `patience` says.
    pub(super) async fn message(
        &mut self,
        room: &Room,
        patience: Option<Duration>,
    ) -> Result<Option<(Message, Held)>, Status> {
        let mut message = Message::default();
        while message.bytes < PREFIX_BYTES {
            let Some(mut data) = self.next_data().await? else {
                return Ok((message.bytes > 0).then(|| (message, Held::default())));
            };
            message.add(data.split_to(data.len().min(PREFIX_BYTES - message.bytes)));
            self.rest = data;
        }
        let (compressed, length) = message.prefix();
        if length > limits::REQUEST_BYTES_MAX {
            // The decoder says so when it sees the length; the rest is not taken.
            message.is_cut = true;
            return Ok(Some((message, Held::default())));
        }
        let decoded = if compressed {
            length.saturating_mul(GZIP_RATIO_MAX).min(limits::REQUEST_BYTES_MAX)
        } else {
            0
        };
        let held = room.hold(length + decoded, patience).await?;
        let whole = PREFIX_BYTES + length;
        message.whole = whole;
        let rest = async {
            while message.bytes < whole {
                let Some(mut data) = self.next_data().await? else { break };
                message.add(data.split_to(data.len().min(whole - message.bytes)));
                self.rest = data;
            }
            Ok::<_, Status>(())
        };
        match timeout(ARRIVAL_MAX, rest).await {
            Ok(arrived) => arrived.map(|()| Some((message, held))),
            Err(_elapsed) => {
                let (bytes, seconds) = (message.bytes, ARRIVAL_MAX.as_secs());
                let said =
                    format!("{bytes} of {whole} bytes of the request came within {seconds} s");
                Err(transport(Code::DeadlineExceeded, ErrorReason::DeadlineExceeded, &said))
            }
        }
    }

    /// Whether nothing more comes.
    pub(super) async fn is_over(&mut self) -> Result<bool, Status> {
        let ended = async { Ok(self.next_data().await?.is_none()) };
        timeout(ARRIVAL_MAX, ended).await.unwrap_or(Ok(false))
    }

    /// The next bytes, at least one; `None` at the end.
    async fn next_data(&mut self) -> Result<Option<Bytes>, Status> {
        if self.rest.has_remaining() {
            return Ok(Some(std::mem::take(&mut self.rest)));
        }
        loop {
            match poll_fn(|cx| Pin::new(&mut self.body).poll_frame(cx)).await.transpose()? {
                None => return Ok(None),
                // Trailers, which a request has no use for, are passed over.
                Some(frame) => match frame.into_data() {
                    Ok(data) if data.has_remaining() => return Ok(Some(data)),
                    Ok(_) | Err(_) => {}
                },
            }
        }
    }
}

/// A message with its prefix, as it arrived but in pieces of its own: what the transport hands out
/// may be a few bytes that keep a large buffer.
#[derive(Debug, Default)]
pub(super) struct Message {
    pieces: VecDeque<BytesMut>,
    bytes: usize,
    /// Its length, when that is known.
    whole: usize,
    /// It is too long, and only its beginning was taken.
    pub(super) is_cut: bool,
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

    fn next_piece(&mut self) -> Option<Frame<Bytes>> {
        self.pieces.pop_front().map(|piece| Frame::data(piece.freeze()))
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
        Poll::Ready(self.next_piece().map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_empty()
    }
}

/// Messages, one after the other, as one body.
pub(super) struct Messages {
    pub(super) from: mpsc::Receiver<Result<Message, Status>>,
    pub(super) current: Option<Message>,
}

impl HttpBody for Messages {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        loop {
            if let Some(piece) = self.current.as_mut().and_then(Message::next_piece) {
                return Poll::Ready(Some(Ok(piece)));
            }
            match ready!(self.from.poll_recv(cx)) {
                None => return Poll::Ready(None),
                Some(Ok(message)) => self.current = Some(message),
                Some(Err(status)) => return Poll::Ready(Some(Err(status))),
            }
        }
    }
}
