//! What large messages may hold in memory, those of all connections together: promise 7 for
//! what is on its way in or out.
//!
//! A request is in memory from its first byte, long before an engine can count it, and an
//! answer until its caller has read it. Streams and connections are bounded by number, but
//! thousands of each times megabytes would be more than any machine has. So what a message has
//! beyond its first [`SMALL`] bytes is taken from one budget, and refused where that is used up.
//! Small messages pass always: callers with large ones cannot shut out everybody else.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes};
use http::Response;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use tonic::body::Body;
use tonic::codegen;

use crate::api::{LargeAnswer, status};
use crate::storage::EngineError;

/// What every message may hold without asking, in bytes.
const SMALL: usize = LargeAnswer::SMALL_BYTES;

/// The bytes that large messages may hold, and those that they do.
#[derive(Debug)]
pub struct Budget {
    held: AtomicUsize,
    max: usize,
}

impl Budget {
    /// So many bytes.
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { held: AtomicUsize::new(0), max })
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
        let more = self.bytes.saturating_sub(SMALL) - self.held;
        if more == 0 {
            return true;
        }
        // Counted first and kept until the share is dropped: two at the bound may both be
        // refused, but never both be let in.
        self.held += more;
        self.budget.held.fetch_add(more, Ordering::Relaxed) + more <= self.budget.max
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

/// The answer with its share, or else the refusal that it brought along for this case.
pub fn answered(mut response: Response<Body>, budget: Arc<Budget>) -> Response<Body> {
    let Some(LargeAnswer { bytes, otherwise }) = response.extensions_mut().remove() else {
        return response;
    };
    let mut share = Share::of(budget);
    match share.grow(bytes) {
        // The share goes with the body, which goes when it is sent.
        true => response.map(|body| {
            Body::new(body.map_frame(move |frame| {
                let _held = &share;
                frame
            }))
        }),
        false => status::unanswered(otherwise).into_http(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_messages_pass_always() {
        let budget = Budget::new(0);
        let mut share = Share::of(Arc::clone(&budget));
        assert!(share.grow(SMALL));
        assert!(!share.grow(1));
        assert!(Share::of(budget).grow(SMALL));
    }

    #[test]
    fn a_share_is_given_back() {
        let budget = Budget::new(1_000);
        let mut first = Share::of(Arc::clone(&budget));
        assert!(first.grow(SMALL + 600) && first.grow(400));
        let mut second = Share::of(Arc::clone(&budget));
        assert!(!second.grow(SMALL + 1));
        drop(second);
        drop(first);
        assert_eq!(budget.held.load(Ordering::Relaxed), 0);
        assert!(Share::of(budget).grow(SMALL + 1_000));
    }
}
