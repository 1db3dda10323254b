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

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes};
use http::Response;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use tonic::body::Body;
use tonic::codegen;

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
    pub fn place(self: &Arc<Self>) -> Option<Place> {
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
pub struct Place(Option<Arc<Budget>>);

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

/// A request whose bytes are counted as they come.
pub struct Counted<B> {
    body: B,
    share: Share,
}

impl<B> Counted<B> {
    /// A request whose bytes are taken from `budget`.
    pub fn new(body: B, budget: Arc<Budget>) -> Self {
        Self { body, share: Share::of(budget) }
    }
}

impl<B> http_body::Body for Counted<B>
where
    B: http_body::Body<Data = Bytes, Error: Into<codegen::StdError>> + Unpin,
{
    type Data = Bytes;
    type Error = codegen::StdError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
            && !self.share.grow(data.remaining())
        {
            return Poll::Ready(Some(Err(status::unanswered(EngineError::Overloaded).into())));
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The answer with what is held for it until it is sent: the place of its call, and its share; where
/// there is none to be had, the refusal that it brought along for this case.
pub fn answered(
    mut response: Response<Body>,
    budget: Arc<Budget>,
    place: Option<Place>,
) -> Response<Body> {
    if let Some(LargeAnswer { bytes, otherwise }) = response.extensions_mut().remove() {
        let mut share = Share::of(budget);
        response = match share.grow(bytes) {
            true => with(response, share),
            false => status::unanswered(otherwise).into_http(),
        };
    }
    match place {
        Some(counted @ Place(Some(_))) => with(response, counted),
        Some(Place(None)) | None => response,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::MemoryPlan;

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
    fn an_answer_that_says_nothing_of_its_size_is_small_in_every_plan() {
        for limit in [None, Some(1 << 30)] {
            assert!(LargeAnswer::SMALL_BYTES <= MemoryPlan::within(limit).small_message_bytes);
        }
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
