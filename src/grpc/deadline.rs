//! Answers calls whose deadline passes, before the transport does.
//!
//! tonic ends such a call with `CANCELLED` and without details. This layer is inside of tonic's own
//! and is polled first, so it is always this one that answers, and it says what can have been written.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use http::{HeaderMap, Request, Response};
use tokio::time::sleep_until;
use tonic::{Status, body::Body};
use tower::{Layer, Service};

use crate::{
    grpc::APPEND_EVENTS,
    store::{Deadline, Error},
};

/// What a client allows for its call.
const GRPC_TIMEOUT: &str = "grpc-timeout";
/// Digits of a timeout, by gRPC's protocol.
const TIMEOUT_DIGITS_MAX: usize = 8;

/// Gives every call with a timeout a [`Deadline`] among its extensions and answers it when that
/// passes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadlines;

impl<S> Layer<S> for Deadlines {
    type Service = Ending<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Ending { inner }
    }
}

/// The service made by [`Deadlines`].
#[derive(Clone, Debug)]
pub(crate) struct Ending<S> {
    inner: S,
}

impl<S, B> Service<Request<B>> for Ending<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let at = timeout(request.headers()).and_then(|it| Instant::now().checked_add(it));
        let Some(at) = at else { return Box::pin(self.inner.call(request)) };
        let deadline = Deadline::new(at);
        let appends = request.uri().path() == APPEND_EVENTS;
        request.extensions_mut().insert(deadline.clone());
        let answer = self.inner.call(request);
        Box::pin(async move {
            // Not a step of what is too late on arrival.
            if Instant::now() < at {
                tokio::select! {
                    biased;
                    answered = answer => return answered,
                    () = passed(at) => {}
                }
            }
            let begun = !(appends && deadline.give_up());
            Ok(Status::from(Error::Deadline { begun }).into_http())
        })
    }
}

/// Waits for a time. Looks at the clock whenever it is polled: tonic's timer, which is set a moment
/// later, may be the one that wakes the call.
async fn passed(at: Instant) {
    let mut sleep = pin!(sleep_until(at.into()));
    poll_fn(|cx| if Instant::now() >= at { Poll::Ready(()) } else { sleep.as_mut().poll(cx) })
        .await;
}

/// The timeout that a call carries; one that is malformed is none, as tonic has it.
fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(GRPC_TIMEOUT)?.to_str().ok()?;
    let (unit_at, unit) = text.char_indices().next_back()?;
    let digits = text.get(..unit_at)?;
    if digits.len() > TIMEOUT_DIGITS_MAX || !digits.bytes().all(|it| it.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        'H' => Duration::from_secs(number * 60 * 60),
        'M' => Duration::from_secs(number * 60),
        'S' => Duration::from_secs(number),
        'm' => Duration::from_millis(number),
        'u' => Duration::from_micros(number),
        'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_the_protocol_has_them() {
        #[track_caller]
        fn check(text: &str, expected: Option<Duration>) {
            let mut headers = HeaderMap::new();
            headers.insert(GRPC_TIMEOUT, text.parse().unwrap());
            assert_eq!(timeout(&headers), expected, "{text}");
        }
        check("2H", Some(Duration::from_hours(2)));
        check("3M", Some(Duration::from_mins(3)));
        check("42S", Some(Duration::from_secs(42)));
        check("13m", Some(Duration::from_millis(13)));
        check("2u", Some(Duration::from_micros(2)));
        check("0n", Some(Duration::ZERO));
        check("99999999n", Some(Duration::from_nanos(99_999_999)));
        for malformed in ["", "S", "1", "1x", "-1S", "+1S", "1 S", "123456789S", "1.5S"] {
            check(malformed, None);
        }
        assert_eq!(timeout(&HeaderMap::new()), None);
    }
}
