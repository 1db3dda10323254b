//! What large messages may hold in memory, those of all connections together: promise 7 for
//! what is on its way in or out.
//!
//! A request is in memory from its first byte, long before an engine can count it, and an
//! answer until its caller has read it. Streams and connections are bounded by number, but
//! thousands of each times megabytes would be more than any machine has. So what a message has
//! beyond its first bytes is taken from one budget, and refused where that is used up.
//! Small messages pass always: callers with large ones cannot shut out everybody else. Where the
//! memory of the server has a limit, calls are counted as well, from their headers until their
//! answer is sent: small messages are not small together.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes};
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use tonic::Status;
use tonic::body::Body;
use tower_layer::Layer;
use tower_service::Service;

use crate::api::{LargeAnswer, status};
use crate::storage::EngineError;

/// The bytes that large messages may hold, and those that they do; and the same of calls.
#[derive(Debug)]
pub struct Budget {
    held: AtomicUsize,
    max: usize,
    /// What every message may hold without asking, in bytes.
    small: usize,
    calls: AtomicUsize,
    max_calls: usize,
    refused: AtomicU64,
}

impl Budget {
    /// So many bytes of what messages have beyond their first `small` ones, and so many calls.
    pub fn new(max: usize, small: usize, max_calls: usize) -> Arc<Self> {
        let (held, calls) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Arc::new(Self { held, max, small, calls, max_calls, refused: AtomicU64::new(0) })
    }

    /// How many bytes large messages hold.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// How many messages found no room.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// A place for one more call; `None` where there is none left. Where calls have no bound of
    /// their own they are not counted either.
    fn place(self: &Arc<Self>) -> Option<Place> {
        if self.max_calls == usize::MAX {
            return Some(Place(None));
        }
        // Counted first and taken back when it was too much, as bytes are.
        let place = Place(Some(Arc::clone(self)));
        let is_free = self.calls.fetch_add(1, Ordering::Relaxed) < self.max_calls;
        is_free.then_some(place)
    }
}

/// The place of one call; dropping it makes room.
#[derive(Debug)]
struct Place(Option<Arc<Budget>>);

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(budget) = &self.0 {
            budget.calls.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// What one message holds of it; dropping it gives that back.
#[derive(Debug)]
struct Share {
    budget: Arc<Budget>,
    /// How large the message is so far.
    bytes: usize,
    held: usize,
}

impl Share {
    fn of(budget: Arc<Budget>) -> Self {
        Self { budget, bytes: 0, held: 0 }
    }

    /// Takes so many more bytes. The flag says whether they were to be had.
    fn grow(&mut self, bytes: usize) -> bool {
        self.bytes += bytes;
        let more = self.bytes.saturating_sub(self.budget.small) - self.held;
        if more == 0 {
            return true;
        }
        // Counted first and kept until the share is dropped: two at the bound may both be
        // refused, but never both be let in.
        self.held += more;
        let has_room =
            self.budget.held.fetch_add(more, Ordering::Relaxed) + more <= self.budget.max;
        if !has_room {
            self.budget.refused.fetch_add(1, Ordering::Relaxed);
        }
        has_room
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if self.held > 0 {
            self.budget.held.fetch_sub(self.held, Ordering::Relaxed);
        }
    }
}

/// A message whose bytes are counted.
struct Counted {
    body: Body,
    share: Share,
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
            && !self.share.grow(data.remaining())
        {
            return Poll::Ready(Some(Err(status::unanswered(EngineError::Overloaded))));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Puts a budget around what serves a connection.
#[derive(Clone)]
pub struct Within(pub Arc<Budget>);

impl<S> Layer<S> for Within {
    type Service = Budgeted<S>;

    fn layer(&self, inner: S) -> Budgeted<S> {
        Budgeted { inner, budget: Arc::clone(&self.0) }
    }
}

/// A service within a budget.
#[derive(Clone)]
pub struct Budgeted<S> {
    inner: S,
    budget: Arc<Budget>,
}

impl<S> Service<Request<Body>> for Budgeted<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let budget = Arc::clone(&self.budget);
        let Some(place) = budget.place() else {
            let refused = status::unanswered(EngineError::Overloaded).into_http();
            return Box::pin(async { Ok(refused) });
        };
        let share = Share::of(Arc::clone(&budget));
        let calling = self.inner.call(request.map(|body| Body::new(Counted { body, share })));
        Box::pin(async move {
            let response = answered(calling.await?, budget);
            Ok(match place {
                Place(None) => response,
                counted => with(response, counted),
            })
        })
    }
}

/// The answer with what is held for it, which goes with the body: when it is sent.
fn with(response: Response<Body>, held: impl Send + 'static) -> Response<Body> {
    response.map(|body| {
        Body::new(body.map_frame(move |frame| {
            let _held = &held;
            frame
        }))
    })
}

/// The answer with its share, or else the refusal that it brought along for this case.
fn answered(mut response: Response<Body>, budget: Arc<Budget>) -> Response<Body> {
    let Some(LargeAnswer { bytes, otherwise }) = response.extensions_mut().remove() else {
        return response;
    };
    let mut share = Share::of(budget);
    match share.grow(bytes) {
        true => with(response, share),
        false => status::unanswered(otherwise).into_http(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: usize = 64 << 10;

    #[test]
    fn calls_are_counted_where_they_are_bounded() {
        let budget = Budget::new(0, SMALL, 2);
        let first = budget.place().unwrap();
        let _second = budget.place().unwrap();
        assert!(budget.place().is_none());
        drop(first);
        assert!(budget.place().is_some());
        assert!(budget.place().is_some(), "a place that was refused is given back");

        let unbounded = Budget::new(0, SMALL, usize::MAX);
        let _places: Vec<_> = (0..10).map(|_| unbounded.place().unwrap()).collect();
        assert_eq!(unbounded.calls.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn small_messages_pass_always() {
        let budget = Budget::new(0, SMALL, usize::MAX);
        let mut share = Share::of(Arc::clone(&budget));
        assert!(share.grow(SMALL));
        assert!(!share.grow(1));
        assert!(Share::of(budget).grow(SMALL));
    }

    #[test]
    fn a_share_is_given_back() {
        let budget = Budget::new(1_000, SMALL, usize::MAX);
        let mut first = Share::of(Arc::clone(&budget));
        assert!(first.grow(SMALL + 600) && first.grow(400));
        let mut second = Share::of(Arc::clone(&budget));
        assert!(!second.grow(SMALL + 1));
        assert_eq!(budget.refused(), 1);
        drop(second);
        drop(first);
        assert_eq!(budget.held.load(Ordering::Relaxed), 0);
        assert!(Share::of(budget).grow(SMALL + 1_000));
    }
}
