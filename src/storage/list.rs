//! Pages of records: what can be listed, in which order, and how much one page may cost.
//!
//! Both engines walk their own tables and offer what they meet to a [`Collector`], which
//! judges it, keeps what was asked for, and says when the page is over. What a page looks
//! like to a caller is not here.
//!
//! # Two orders
//!
//! Records are listed in the order of their keys: by the length of the namespace, then by
//! namespace and key. What is in doubt is listed in the order in which it came to be: by the
//! end of the lease as it is stored. A restart prolongs leases when they are read, and all of
//! those that ended while the server was down to the same moment, so among them the stored
//! end still says who was first; against a lease that was given after the restart, one of
//! them can stand too early, by at most the restart grace.
//!
//! # Why a place is a key and not a count
//!
//! A page goes on behind the last entry that the one before it has seen, whether that entry is
//! still there or not. So whatever comes and goes between two pages, no record that stays is
//! missed or shown twice, and a place is as good after a restart as before.

use crate::domain::{IdempotencyKey, Moment, Namespace, Phase, Record, RecordKey, State, phase_of};
use crate::storage::{EngineError, keys};

/// How many records one page may look at: some tens of milliseconds of reading.
const MAX_SCANNED: usize = 5_000;

/// How many bytes of records one page may read, since stored responses may be large.
const MAX_SCANNED_BYTES: usize = 64 << 20;

/// What is to be listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// Of which namespace; `None` of all.
    pub namespace: Option<Namespace>,
    /// What keys begin with.
    pub key_prefix: String,
    /// In which phase; `None` in any that is not vacant. In doubt has an order of its own.
    pub phase: Option<Phase>,
    /// How many records a page holds at most.
    pub limit: usize,
    /// Where the page before this one ended.
    pub after: Option<Place>,
}

/// How far a page came: the last entry that it looked at, in the order of its listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place(pub Vec<u8>);

/// One page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// What was found. It may be empty although there is more.
    pub records: Vec<Listed>,
    /// How many records could not be read and are left out.
    pub unreadable: usize,
    /// Where the next page begins; `None` where there is none.
    pub next: Option<Place>,
}

/// One record, without what makes records large: no checkpoint, and of the response nothing
/// but its status code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its key.
    pub key: RecordKey,
    /// The rest of it.
    pub record: Record,
}

impl Listing {
    /// Whether the order is that of leases that ended, and not that of keys.
    pub fn is_by_lease_end(&self) -> bool {
        self.phase == Some(Phase::InDoubt)
    }

    /// The record keys that it is about: from the first, which is included, to the last, which
    /// is not and may be absent.
    fn bounds(&self) -> (Vec<u8>, Option<Vec<u8>>) {
        let Some(namespace) = &self.namespace else { return (Vec::new(), None) };
        let from = keys::namespace_prefix(namespace, &self.key_prefix);
        let to = keys::behind(from.clone());
        (from, Some(to))
    }

    /// The same of what is left to do for a listing in the order of keys.
    pub fn range(&self) -> (Vec<u8>, Option<Vec<u8>>) {
        let (from, to) = self.bounds();
        match &self.after {
            Some(Place(last)) => (from.max(keys::just_behind(last)), to),
            None => (from, to),
        }
    }

    /// The index entries that are left to look at for a listing in the order of lease ends: no
    /// lease that ends later can be in doubt `now`.
    pub fn lease_ends(&self, now: Moment) -> (Vec<u8>, Vec<u8>) {
        let after = self.after.as_ref().map(|Place(last)| keys::just_behind(last));
        let past_now = Moment::from_millis(now.as_millis().saturating_add(1));
        (after.unwrap_or_default(), keys::expiry_bound(past_now).to_vec())
    }
}

/// Makes a page of what it is offered.
pub struct Collector<'a> {
    listing: &'a Listing,
    bounds: (Vec<u8>, Option<Vec<u8>>),
    now: Moment,
    page: Page,
    scanned: usize,
    scanned_bytes: usize,
}

impl<'a> Collector<'a> {
    /// An empty page of `listing`, judged at `now`.
    pub fn new(listing: &'a Listing, now: Moment) -> Self {
        let bounds = listing.bounds();
        Self { listing, bounds, now, page: Page::default(), scanned: 0, scanned_bytes: 0 }
    }

    /// Whether an entry with this record key can be asked for at all, so that its record is
    /// worth reading.
    pub fn wants(&self, record_key: &[u8]) -> bool {
        let (from, to) = &self.bounds;
        record_key >= from.as_slice()
            && to.as_ref().is_none_or(|to| record_key < to.as_slice())
            && match (&self.listing.namespace, keys::split_record_key(record_key)) {
                (None, Some((_, key))) => key.starts_with(&self.listing.key_prefix),
                _ => true,
            }
    }

    /// Takes one entry, in the order of the listing: what is stored in so many bytes under
    /// `record_key`, or `None` where it is not wanted. The flag says whether there is room for
    /// another.
    pub fn offer(
        &mut self,
        place: &[u8],
        record_key: &[u8],
        record: Option<Result<Record, EngineError>>,
        bytes: usize,
    ) -> bool {
        match record {
            Some(Ok(record)) if self.is_asked_for(&record) => match key_of(record_key) {
                Some(key) => self.page.records.push(Listed { key, record: slim(record) }),
                None => self.page.unreadable += 1,
            },
            Some(Err(_)) => self.page.unreadable += 1,
            Some(Ok(_)) | None => {}
        }
        self.scanned += 1;
        self.scanned_bytes = self.scanned_bytes.saturating_add(bytes);
        let is_full = self.page.records.len() >= self.listing.limit
            || self.scanned >= MAX_SCANNED
            || self.scanned_bytes >= MAX_SCANNED_BYTES;
        if is_full {
            self.page.next = Some(Place(place.to_vec()));
        }
        !is_full
    }

    /// The page.
    pub fn finish(self) -> Page {
        self.page
    }

    fn is_asked_for(&self, record: &Record) -> bool {
        match (phase_of(Some(record), self.now), self.listing.phase) {
            (Phase::Vacant, _) => false,
            (_, None) => true,
            (phase, Some(asked)) => phase == asked,
        }
    }
}

fn key_of(record_key: &[u8]) -> Option<RecordKey> {
    let (namespace, key) = keys::split_record_key(record_key)?;
    Some(RecordKey {
        namespace: Namespace::new(namespace.to_owned()).ok()?,
        key: IdempotencyKey::new(key.to_owned()).ok()?,
    })
}

fn slim(mut record: Record) -> Record {
    record.checkpoint = Vec::new();
    if let State::Completed(completion) = &record.state {
        record.state = State::Completed(completion.without_body().into());
    }
    record
}

#[cfg(test)]
mod tests;
