//! How long a call may be parked: as long as its caller says and the server allows, and no
//! longer than leaves time for an answer before the call's deadline, nor past the moment at
//! which the server begins to drain.
//!
//! Being parked is for the engine; this is only when it is to end, and where there is a place.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, watch};

use crate::domain::Span;
use crate::storage::Patience;

/// How long before its deadline a call is answered that waited in vain: the answer has to be
/// asked for, synced and delivered. A quarter of the time where that is less.
const MARGIN: Duration = Duration::from_millis(250);

/// Places for parked calls, those of one connection.
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
    /// Where there are none, only the engine's own bounds hold.
    places: Option<WaitingPlaces>,
}

impl Waits {
    /// They end, and none begins, once `draining` shows true.
    pub fn until(draining: watch::Receiver<bool>) -> Self {
        Self { draining, places: None }
    }

    /// They end by themselves alone.
    pub fn unbroken() -> Self {
        // Without its sender a channel never changes.
        Self::until(watch::Sender::new(false).subscribe())
    }

    /// The same for the calls of one connection, which share `places`.
    #[must_use]
    pub fn within(&self, places: WaitingPlaces) -> Self {
        Self { draining: self.draining.clone(), places: Some(places) }
    }

    /// The patience of a call that asks to `wait`; `None` where it is to be answered at once.
    pub fn patience(&self, wait: Span, deadline: Option<Instant>) -> Option<Patience> {
        if wait == Span::default() {
            return None;
        }
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let wait = longest(wait, left);
        if wait.is_zero() || *self.draining.borrow() {
            return None;
        }
        let place = match &self.places {
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
fn longest(wait: Span, left: Option<Duration>) -> Duration {
    let bound = left.map_or(Duration::MAX, |left| left - MARGIN.min(left / 4));
    wait.to_std().min(bound)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Span = Span::from_secs(1);

    #[test]
    fn no_wait_and_no_time_are_no_patience() {
        let waits = Waits::unbroken();
        assert!(waits.patience(Span::default(), None).is_none());
        assert!(waits.patience(SECOND, Some(Instant::now())).is_none());
        assert!(waits.patience(SECOND, None).is_some());
        assert!(waits.within(WaitingPlaces::new(9)).patience(SECOND, None).is_some());
    }

    #[test]
    fn a_connection_has_so_many_places_and_gets_them_back() {
        let waits = Waits::unbroken();
        let two = waits.within(WaitingPlaces::new(2));
        let first = two.patience(SECOND, None);
        let second = two.patience(SECOND, None);
        assert!(first.is_some() && second.is_some());
        assert!(two.patience(SECOND, None).is_none());
        assert!(waits.within(WaitingPlaces::new(2)).patience(SECOND, None).is_some());
        drop(first);
        assert!(two.patience(SECOND, None).is_some());
    }

    #[test]
    fn it_ends_when_the_caller_says_and_before_the_deadline() {
        let millis = Duration::from_millis;
        assert_eq!(longest(SECOND, None), millis(1_000));
        assert_eq!(longest(SECOND, Some(millis(5_000))), millis(1_000));
        assert_eq!(longest(Span::from_secs(60), Some(millis(5_000))), millis(4_750));
        assert_eq!(longest(SECOND, Some(millis(100))), millis(75));
        assert_eq!(longest(SECOND, Some(Duration::ZERO)), Duration::ZERO);
    }

    #[tokio::test]
    async fn it_ends_with_the_drain_and_does_not_begin_then() {
        let (drain, draining) = watch::channel(false);
        let waits = Waits::until(draining);
        let patience = waits.patience(Span::from_secs(60), None).unwrap();
        let waiting = tokio::spawn(patience);
        tokio::task::yield_now().await;
        drain.send_replace(true);
        tokio::time::timeout(Duration::from_secs(30), waiting).await.unwrap().unwrap();
        assert!(waits.patience(Span::from_secs(60), None).is_none());
    }
}
