//! Bodies of requests, bounded in size and patience.
//!
//! The node reads a body as a stream and learns of trouble only as an error of that stream. What the client is told is
//! kept beside it, in a [`Refusal`], because an I/O error cannot carry a status.

use std::{
    io,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    body::{Body, BodyDataStream},
    http::{HeaderMap, header},
};
use bytes::Bytes;
use futures::{Stream, TryStreamExt};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, Sleep},
};

use crate::problem::{Code, Problem, causes};

/// Why the body of a request was refused, once it was.
#[derive(Debug, Clone, Default)]
pub(crate) struct Refusal(Arc<OnceLock<Problem>>);

impl Refusal {
    /// The reason that was kept, or `other`: the reader saw only that the stream broke.
    pub(crate) fn or_else(&self, other: impl FnOnce() -> Problem) -> Problem {
        self.0.get().cloned().unwrap_or_else(other)
    }

    /// Keeps the first reason, which is the cause of all later ones.
    fn keep(&self, problem: Problem) -> io::Error {
        let error = io::Error::other(problem.code().name().into_owned());
        let _ = self.0.set(problem);
        error
    }
}

/// A body that ends with an error when it is larger or slower than it may be, or when the client goes away.
///
/// Only time spent waiting for the client counts against its patience, not time that the reader takes.
#[derive(Debug)]
pub(crate) struct BoundedBody {
    inner: BodyDataStream,
    max: u64,
    left: u64,
    idle: Duration,
    deadline: Pin<Box<Sleep>>,
    waiting: bool,
    ended: bool,
    refusal: Refusal,
    permit: Option<OwnedSemaphorePermit>,
}

impl BoundedBody {
    /// Bounds `body` to `max` bytes and to pauses of `idle`.
    ///
    /// # Errors
    /// [`Code::PayloadTooLarge`] if the headers announce more; nothing was read.
    pub(crate) fn new(headers: &HeaderMap, body: Body, max: u64, idle: Duration) -> Result<(Self, Refusal), Problem> {
        let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        if announced.is_some_and(|length| length > max) {
            return Err(too_large(max));
        }
        let refusal = Refusal::default();
        let body = Self {
            inner: body.into_data_stream(),
            max,
            left: max,
            idle,
            deadline: Box::pin(tokio::time::sleep(idle)),
            waiting: false,
            ended: false,
            refusal: refusal.clone(),
            permit: None,
        };
        Ok((body, refusal))
    }

    /// Keeps `permit` until the body has ended or was dropped.
    pub(crate) fn holding(mut self, permit: OwnedSemaphorePermit) -> Self {
        self.permit = Some(permit);
        self
    }

    /// The whole body in memory, at most as many bytes as it is bounded to.
    pub(crate) async fn collect(self) -> io::Result<Vec<u8>> {
        self.try_fold(Vec::new(), async |mut whole, chunk| {
            whole.extend_from_slice(&chunk);
            Ok(whole)
        })
        .await
    }

    fn end(&mut self) {
        self.ended = true;
        self.permit = None;
    }

    fn refuse(&mut self, problem: Problem) -> Poll<Option<io::Result<Bytes>>> {
        self.end();
        Poll::Ready(Some(Err(self.refusal.keep(problem))))
    }
}

impl Stream for BoundedBody {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        match Pin::new(&mut self.inner).poll_next(context) {
            Poll::Ready(None) => {
                self.end();
                Poll::Ready(None)
            }
            Poll::Ready(Some(Ok(bytes))) => {
                self.waiting = false;
                let Some(left) = self.left.checked_sub(bytes.len() as u64) else {
                    let problem = too_large(self.max);
                    return self.refuse(problem);
                };
                self.left = left;
                Poll::Ready(Some(Ok(bytes)))
            }
            Poll::Ready(Some(Err(error))) => {
                self.refuse(Problem::new(Code::Upload, format!("the body broke off: {}", causes(&error))))
            }
            Poll::Pending => {
                if !self.waiting {
                    self.waiting = true;
                    let deadline = Instant::now() + self.idle;
                    self.deadline.as_mut().reset(deadline);
                }
                ready!(self.deadline.as_mut().poll(context));
                let why = format!("nothing of the body came for {} s", self.idle.as_secs_f32());
                self.refuse(Problem::new(Code::RequestTimeout, why))
            }
        }
    }
}

/// The body is larger than it may be.
fn too_large(max: u64) -> Problem {
    Problem::new(Code::PayloadTooLarge, format!("the body is larger than the {max} bytes allowed here"))
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use axum::{
        body::Body,
        http::{HeaderMap, header},
    };
    use bytes::Bytes;
    use futures::{StreamExt, stream};
    use tokio::sync::Semaphore;

    use super::BoundedBody;
    use crate::problem::{Code, Problem};

    const IDLE: Duration = Duration::from_secs(30);

    fn code(problem: &Problem) -> Code {
        problem.code()
    }

    fn other() -> Problem {
        Problem::new(Code::Internal, "no reason was kept")
    }

    #[tokio::test]
    async fn a_body_within_its_bound_comes_through_whole() {
        let (body, _) = BoundedBody::new(&HeaderMap::new(), Body::from("abc"), 3, IDLE).unwrap();
        assert_eq!(body.collect().await.unwrap(), b"abc");
    }

    #[tokio::test]
    async fn an_announced_excess_is_refused_unread_and_a_hidden_one_when_it_comes() {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_LENGTH, 4.into());
        let refused = BoundedBody::new(&headers, Body::from("abcd"), 3, IDLE).map(drop).unwrap_err();
        assert_eq!(code(&refused), Code::PayloadTooLarge);
        let (body, refusal) = BoundedBody::new(&HeaderMap::new(), Body::from("abcd"), 3, IDLE).unwrap();
        assert!(body.collect().await.is_err());
        assert_eq!(code(&refusal.or_else(other)), Code::PayloadTooLarge);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_stops_sending_is_not_waited_for() {
        let chunks = stream::once(async { Ok::<_, std::io::Error>(Bytes::from_static(b"a")) }).chain(stream::pending());
        let (body, refusal) = BoundedBody::new(&HeaderMap::new(), Body::from_stream(chunks), 9, IDLE).unwrap();
        let begun = tokio::time::Instant::now();
        assert!(body.collect().await.is_err());
        assert_eq!(code(&refusal.or_else(other)), Code::RequestTimeout);
        assert!(begun.elapsed() >= IDLE);
    }

    #[tokio::test(start_paused = true)]
    async fn time_that_the_reader_takes_is_not_held_against_the_client() {
        let chunks = stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"a")), Ok(Bytes::from_static(b"b"))]);
        let (mut body, _) = BoundedBody::new(&HeaderMap::new(), Body::from_stream(chunks), 9, IDLE).unwrap();
        assert!(body.next().await.unwrap().is_ok());
        tokio::time::advance(IDLE * 2).await;
        assert!(body.next().await.unwrap().is_ok());
        assert!(body.next().await.is_none());
    }

    #[tokio::test]
    async fn a_client_that_goes_away_is_told_from_an_end() {
        let chunks = stream::iter([Ok(Bytes::from_static(b"a")), Err(std::io::Error::other("reset"))]);
        let (mut body, refusal) = BoundedBody::new(&HeaderMap::new(), Body::from_stream(chunks), 9, IDLE).unwrap();
        assert!(body.next().await.unwrap().is_ok());
        assert!(body.next().await.unwrap().is_err());
        assert!(body.next().await.is_none());
        let problem = refusal.or_else(other);
        assert_eq!(code(&problem), Code::Upload);
        assert!(problem.detail().contains("reset"));
    }

    #[tokio::test]
    async fn the_permit_is_given_back_when_the_body_ends_not_when_the_request_does() {
        let slots = Arc::new(Semaphore::new(1));
        let permit = Arc::clone(&slots).try_acquire_owned().unwrap();
        let (body, _) = BoundedBody::new(&HeaderMap::new(), Body::from("abc"), 3, IDLE).unwrap();
        let mut body = body.holding(permit);
        assert!(body.next().await.unwrap().is_ok());
        assert_eq!(slots.available_permits(), 0);
        assert!(body.next().await.is_none());
        assert_eq!(slots.available_permits(), 1);
    }
}
