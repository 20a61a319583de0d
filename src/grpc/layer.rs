//! Completes errors that the transport makes by itself: every error has an `ErrorInfo`.
//!
//! tonic answers a message that does not decode, is too large, or names an unknown method before any
//! of our code runs. Such a status has no details; this layer adds them.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http::{HeaderMap, Request, Response};
use tonic::{Code, Status, body::Body};
use tower::{Layer, Service};

use crate::grpc::{pb::ErrorReason, status::transport};

/// Adds details to statuses that have none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CompleteErrors;

impl<S> Layer<S> for CompleteErrors {
    type Service = Completing<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Completing { inner }
    }
}

/// The service made by [`CompleteErrors`].
#[derive(Clone, Debug)]
pub(crate) struct Completing<S> {
    inner: S,
}

impl<S, B> Service<Request<B>> for Completing<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let answer = self.inner.call(request);
        Box::pin(async move { answer.await.map(complete) })
    }
}

fn complete(response: Response<Body>) -> Response<Body> {
    match bare_status(response.headers()) {
        Some(status) => with_details(status).into_http(),
        None => response,
    }
}

/// A status that the transport has made, with the details that every status has.
pub(super) fn with_details(status: Status) -> Status {
    if !status.details().is_empty() {
        return status;
    }
    let message = status.message().trim_end_matches('.');
    match status.code() {
        Code::Unimplemented => {
            transport(Code::Unimplemented, ErrorReason::MethodUnknown, "no such method")
        }
        Code::OutOfRange | Code::ResourceExhausted => {
            transport(Code::ResourceExhausted, ErrorReason::RequestTooLarge, message)
        }
        // What a client sends must not look like a fault of the server.
        Code::Internal | Code::InvalidArgument => {
            transport(Code::InvalidArgument, ErrorReason::RequestMalformed, message)
        }
        Code::DeadlineExceeded | Code::Cancelled => {
            transport(status.code(), ErrorReason::DeadlineExceeded, message)
        }
        Code::Ok
        | Code::Unknown
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::Unavailable
        | Code::DataLoss
        | Code::Unauthenticated => transport(status.code(), ErrorReason::Internal, message),
    }
}

/// The status of an error that was answered without any message and without details.
fn bare_status(headers: &HeaderMap) -> Option<Status> {
    let status = Status::from_header_map(headers)?;
    (status.code() != Code::Ok && status.details().is_empty()).then_some(status)
}
