//! Reading much at a time: pages of records, and what there is to tell of the engine.
//!
//! The moment, the position and a view of the tables are taken together under the engine's
//! mutex, which takes microseconds; everything is read from that view, on a thread that no
//! call waits for. The answer is held, like any other, until its position is synced.

use std::sync::Arc;

use super::RocksEngine;
use super::batch::{GraceWindow, as_read};
use super::schema::Tables;
use super::sync::{Held, Position};
use super::threads::oneshot;
use super::view::{View, decode};
use super::writer::{Filled, Settled};
use crate::domain::{FencingToken, Moment, Phase, phase_of};
use crate::storage::list::{Collector, Listing, Page};
use crate::storage::stats::{MAX_COUNTED, MAX_USAGES, Stats};
use crate::storage::{Decided, EngineError, keys};

/// How many readers there may be at a time.
pub const MAX_READERS: usize = 4;

impl RocksEngine {
    /// Reads a page of `listing`.
    pub(super) async fn read_page(&self, listing: Listing) -> Result<Decided<Page>, EngineError> {
        self.read(move |view, now, grace, _| page(view, &listing, now, grace)).await
    }

    /// Reads what there is to tell.
    pub(super) async fn read_stats(&self) -> Result<Decided<Stats>, EngineError> {
        let erases = {
            let erases = self.erases.lock().unwrap();
            let mut running: Vec<_> = erases.running().cloned().collect();
            running.sort_by_key(|erase| erase.began_at);
            running
        };
        let (in_flight, in_flight_bytes) = self.admission.in_flight();
        let parked = self.core.writer()?.waiting.len();
        let tables = Arc::clone(&self.tables);
        self.read(move |view, now, grace, fencing_high_water| {
            let (in_doubt, in_doubt_capped) = in_doubt(view, now, grace)?;
            let mut usages = view.usages(MAX_USAGES + 1)?;
            let usages_capped = usages.len() > MAX_USAGES;
            if usages_capped {
                usages.pop_last();
            }
            Ok(Stats {
                store: "rocksdb",
                records: tables.estimated_records(),
                records_estimated: true,
                in_doubt,
                in_doubt_capped,
                in_flight,
                in_flight_bytes,
                parked,
                usages,
                usages_capped,
                fencing_high_water,
                erases,
            })
        })
        .await
    }

    /// Lets `look` see the tables at one moment, off this thread, and waits until what it saw
    /// is durable.
    async fn read<T: Send + 'static>(
        &self,
        look: impl FnOnce(
            &View<'_>,
            Moment,
            &[GraceWindow],
            Option<FencingToken>,
        ) -> Result<T, EngineError>
        + Send
        + 'static,
    ) -> Result<Decided<T>, EngineError> {
        let place =
            Arc::clone(&self.readers).try_acquire_owned().map_err(|_| EngineError::Overloaded)?;
        let (core, tables) = (Arc::clone(&self.core), Arc::clone(&self.tables));
        let reading = tokio::task::spawn_blocking(move || {
            // It reads on when its caller has left, and so keeps its place.
            let _place = place;
            let tables: &Tables = &tables;
            let Settled { value: view, setting, position } =
                core.settle(|_, _| Ok(Filled::only(tables.view()))).map_err(seen_nothing)?;
            let last = FencingToken::new(setting.next_fencing_token.get() - 1);
            let seen = look(&view, setting.now, &setting.grace, last)?;
            Ok((Decided { answer: seen, decided_at: setting.now }, position))
        });
        // The thread panicked, or the runtime ends: nothing is known, and nothing was changed.
        let (seen, position) = reading.await.unwrap_or(Err(EngineError::Unavailable))?;
        self.durable(position).await.map_err(seen_nothing)?;
        Ok(seen)
    }

    /// Waits until everything up to `position` is durable.
    pub(super) async fn durable(&self, position: Position) -> Result<(), EngineError> {
        let (leader, synced) = oneshot::channel();
        match self.core.sync.hold(Held { position, replies: Vec::new(), leader }) {
            Some(_) => Ok(()),
            // Closed without a word: the engine was poisoned.
            None => synced.await.map(drop).map_err(|_| EngineError::OutcomeUnknown),
        }
    }
}

/// A reader wrote nothing whose outcome could be in question.
fn seen_nothing(error: EngineError) -> EngineError {
    match error {
        EngineError::OutcomeUnknown => EngineError::Unavailable,
        other => other,
    }
}

fn page(
    view: &View<'_>,
    listing: &Listing,
    now: Moment,
    grace: &[GraceWindow],
) -> Result<Page, EngineError> {
    let mut collector = Collector::new(listing, now);
    if !listing.is_by_lease_end() {
        let (from, to) = listing.range();
        view.records(&from, to, |record_key, bytes| {
            let record = collector
                .wants(record_key)
                .then(|| decode(bytes).map(|stored| as_read(stored, grace)));
            collector.offer(record_key, record_key, record, bytes.len())
        })?;
        return Ok(collector.finish());
    }
    let (from, to) = listing.lease_ends(now);
    view.holds(&from, to, |place, _, record_key| {
        let (record, bytes) = match collector.wants(record_key).then(|| view.record(record_key)) {
            Some(Ok(Some((stored, bytes)))) => (Some(Ok(as_read(stored, grace))), bytes),
            Some(Ok(None)) | None => (None, 0),
            Some(Err(error)) => (Some(Err(error)), 0),
        };
        collector.offer(place, record_key, record, bytes)
    })?;
    Ok(collector.finish())
}

/// How many reservations are in doubt, and whether there may be more.
fn in_doubt(
    view: &View<'_>,
    now: Moment,
    grace: &[GraceWindow],
) -> Result<(usize, bool), EngineError> {
    let (mut count, mut looked_at) = (0, 0);
    let past_now = keys::expiry_bound(Moment::from_millis(now.as_millis().saturating_add(1)));
    view.holds(&[], past_now.to_vec(), |_, _, record_key| {
        if looked_at == MAX_COUNTED {
            looked_at += 1;
            return false;
        }
        looked_at += 1;
        if let Ok(Some((stored, _))) = view.record(record_key) {
            let record = as_read(stored, grace);
            count += usize::from(phase_of(Some(&record), now) == Phase::InDoubt);
        }
        true
    })?;
    Ok((count, looked_at > MAX_COUNTED))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::storage::{Engine as _, StoreOptions};

    #[test]
    fn past_a_number_of_readers_it_refuses_until_one_is_done() {
        let root = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(Moment::from_millis(1_000_000)));
        let options = StoreOptions::default();
        let engine = RocksEngine::open(&root.path().join("data"), clock, &options).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let listing = Listing {
            namespace: None,
            key_prefix: String::new(),
            phase: None,
            limit: 1,
            after: None,
        };

        let readers = u32::try_from(MAX_READERS).unwrap();
        let all = Arc::clone(&engine.readers).try_acquire_many_owned(readers).unwrap();
        let refused = runtime.block_on(engine.list(listing.clone()));
        assert_eq!(refused.unwrap_err(), EngineError::Overloaded);
        assert_eq!(runtime.block_on(engine.stats()).unwrap_err(), EngineError::Overloaded);
        drop(all);
        assert!(runtime.block_on(engine.list(listing)).is_ok());
    }
}
