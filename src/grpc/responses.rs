//! The responses of a read or a follow.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use tokio::sync::mpsc;
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::Status;

use crate::store::ReaderPlace;

/// Responses on their way to a client. Whatever makes them may have ended: the place is given back
/// only when the client has taken them, or has left.
pub(crate) struct Responses<T> {
    responses: ReceiverStream<Result<T, Status>>,
    _place: ReaderPlace,
}

impl<T> Responses<T> {
    pub(crate) fn new(responses: mpsc::Receiver<Result<T, Status>>, place: ReaderPlace) -> Self {
        Self { responses: ReceiverStream::new(responses), _place: place }
    }
}

impl<T> Stream for Responses<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.responses).poll_next(cx)
    }
}
