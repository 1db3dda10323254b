//! How long a call may be parked: as long as its caller says and the server allows, and no
//! longer than leaves time for an answer before the call's deadline, nor past the moment at
//! which the server begins to drain.
//!
//! Being parked is for the engine; this is only when it is to end, and where there is a place.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, watch};
use tonic::Extensions;

use crate::domain::Span;
use crate::storage::Patience;

/// How long before its deadline a call is answered that waited in vain: the answer has to be
/// asked for, synced and delivered. A quarter of the time where that is less.
const MARGIN: Duration = Duration::from_millis(250);

/// Places for parked calls, those of one connection. A server puts them beside its requests;
/// where there are none, only the engine's own bounds hold.
#[derive(Clone, Debug)]
pub struct WaitingPlaces(Arc<Semaphore>);

impl WaitingPlaces {
    /// So many.
    pub fn new(count: usize) -> Self {
        Self(Arc::new(Semaphore::new(count.min(Semaphore::MAX_PERMITS))))
    }
}

/// When the waits of a server end before their time.
#[derive(Clone, Debug)]
pub struct Waits {
    draining: watch::Receiver<bool>,
}

impl Waits {
    /// They end, and none begins, once `draining` shows true.
    pub fn until(draining: watch::Receiver<bool>) -> Self {
        Self { draining }
    }

    /// They end by themselves alone.
    pub fn unbroken() -> Self {
        // Without its sender a channel never changes.
        Self { draining: watch::Sender::new(false).subscribe() }
    }

    /// The patience of a call that asks to `wait`, with the `extensions` that it came with; `None`
    /// where it is to be answered at once.
    pub fn patience(
        &self,
        wait: Span,
        deadline: Option<Instant>,
        extensions: &Extensions,
    ) -> Option<Patience> {
        if wait == Span::default() {
            return None;
        }
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let wait = within(wait, left);
        if wait.is_zero() || *self.draining.borrow() {
            return None;
        }
        let place = match extensions.get::<WaitingPlaces>() {
            Some(WaitingPlaces(places)) => Some(Arc::clone(places).try_acquire_owned().ok()?),
            None => None,
        };
        let mut draining = self.draining.clone();
        Some(Box::pin(async move {
            // The place is taken for as long as this is kept.
            let _place = place;
            let drained = async {
                if draining.wait_for(|draining| *draining).await.is_err() {
                    std::future::pending().await
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = drained => {}
            }
        }))
    }
}

/// How long a call waits that has so much time `left`.
fn within(wait: Span, left: Option<Duration>) -> Duration {
    let longest = left.map_or(Duration::MAX, |left| left - MARGIN.min(left / 4));
    wait.to_std().min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Span = Span::from_secs(1);

    fn extensions(places: usize) -> Extensions {
        let mut extensions = Extensions::new();
        extensions.insert(WaitingPlaces::new(places));
        extensions
    }

    #[test]
    fn no_wait_and_no_time_are_no_patience() {
        let waits = Waits::unbroken();
        let none = extensions(9);
        assert!(waits.patience(Span::default(), None, &none).is_none());
        assert!(waits.patience(SECOND, Some(Instant::now()), &none).is_none());
        assert!(waits.patience(SECOND, None, &none).is_some());
        assert!(waits.patience(SECOND, None, &Extensions::new()).is_some());
    }

    #[test]
    fn a_connection_has_so_many_places_and_gets_them_back() {
        let waits = Waits::unbroken();
        let two = extensions(2);
        let first = waits.patience(SECOND, None, &two);
        let second = waits.patience(SECOND, None, &two);
        assert!(first.is_some() && second.is_some());
        assert!(waits.patience(SECOND, None, &two).is_none());
        drop(first);
        assert!(waits.patience(SECOND, None, &two).is_some());
    }

    #[test]
    fn it_ends_when_the_caller_says_and_before_the_deadline() {
        let millis = Duration::from_millis;
        assert_eq!(within(SECOND, None), millis(1_000));
        assert_eq!(within(SECOND, Some(millis(5_000))), millis(1_000));
        assert_eq!(within(Span::from_secs(60), Some(millis(5_000))), millis(4_750));
        assert_eq!(within(SECOND, Some(millis(100))), millis(75));
        assert_eq!(within(SECOND, Some(Duration::ZERO)), Duration::ZERO);
    }

    #[tokio::test]
    async fn it_ends_with_the_drain_and_does_not_begin_then() {
        let (drain, draining) = watch::channel(false);
        let waits = Waits::until(draining);
        let patience = waits.patience(Span::from_secs(60), None, &Extensions::new()).unwrap();
        let waiting = tokio::spawn(patience);
        tokio::task::yield_now().await;
        drain.send_replace(true);
        tokio::time::timeout(Duration::from_secs(30), waiting).await.unwrap().unwrap();
        assert!(waits.patience(Span::from_secs(60), None, &Extensions::new()).is_none());
    }
}
