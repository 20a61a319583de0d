//! The responses of a read, an export or a follow.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::sync::mpsc;
use tokio_stream::Stream;
use tonic::Status;

use crate::{
    grpc::{pb, to_proto},
    model::Position,
    store::{EventStore, FollowEnd, FollowMessage, ReaderPlace},
};

/// Responses on their way to a client. Whatever makes them may have ended: the place is given back
/// only when the client has taken them, or has left.
pub(crate) struct Responses<T> {
    first: Option<Result<T, Status>>,
    more: Option<mpsc::Receiver<Result<T, Status>>>,
    _place: ReaderPlace,
}

impl<T> Responses<T> {
    /// `first`, and then what arrives in `more`.
    pub(crate) fn new(
        first: Option<Result<T, Status>>,
        more: Option<mpsc::Receiver<Result<T, Status>>>,
        place: ReaderPlace,
    ) -> Self {
        Self { first, more, _place: place }
    }
}

impl<T: Unpin> Stream for Responses<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(first));
        }
        self.more.as_mut().map_or(Poll::Ready(None), |more| more.poll_recv(cx))
    }
}

/// The responses of a follow, made of its messages as the client takes them. Every end that is not
/// the client's is announced by `Ending`.
pub(crate) struct FollowResponses {
    pub(super) store: EventStore,
    pub(super) messages: mpsc::Receiver<Result<FollowMessage, FollowEnd>>,
    pub(super) format: pb::PayloadFormat,
    /// What has been delivered.
    pub(super) sent: Position,
    pub(super) end: End,
    pub(super) _place: ReaderPlace,
}

/// How near a follow is to its end.
#[derive(Default)]
pub(super) enum End {
    #[default]
    None,
    /// It has been announced.
    Announced(Status),
    Reached,
}

impl Stream for FollowResponses {
    type Item = Result<pb::FollowEventsResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        match std::mem::replace(&mut this.end, End::Reached) {
            End::None => this.end = End::None,
            End::Announced(status) => return Poll::Ready(Some(Err(status))),
            End::Reached => return Poll::Ready(None),
        }
        let Some(message) = ready!(this.messages.poll_recv(cx)) else {
            return Poll::Ready(None);
        };
        let made = message.and_then(|message| {
            let position = message.position();
            let made =
                to_proto::follow_message(message, this.format, |it| this.store.resume_token(it));
            made.map(|it| (it, position)).map_err(|error| FollowEnd { position: this.sent, error })
        });
        let response = match made {
            Ok((response, position)) => {
                this.sent = position;
                response
            }
            Err(FollowEnd { position, error }) => {
                let ending = to_proto::ending(&error, this.store.resume_token(position));
                this.end = End::Announced(error.into());
                ending
            }
        };
        Poll::Ready(Some(Ok(response)))
    }
}
