//! How a page fills, and where it ends.

use super::*;
use crate::domain::{FencingToken, Fingerprint, LeaseExpiryAction, OwnerToken, Span};

const NOW: Moment = Moment::from_millis(1_000_000);

fn listing(namespace: Option<&str>, prefix: &str, limit: usize) -> Listing {
    Listing {
        namespace: namespace.map(|name| Namespace::new(name.into()).unwrap()),
        key_prefix: prefix.into(),
        phase: None,
        limit,
        after: None,
    }
}

fn record(lease_until: i64) -> Record {
    Record {
        fingerprint: Fingerprint::default(),
        owner_token: OwnerToken::from_bytes([1; 16]),
        fencing_token: FencingToken::FIRST,
        attempt: 1,
        takeover: false,
        holder: String::new(),
        created_at: NOW,
        checkpoint: vec![0; 1_000],
        retention: Span::from_secs(10),
        state: State::Reserved {
            lease_until: Moment::from_millis(lease_until),
            lease_expiry_action: LeaseExpiryAction::Hold,
        },
    }
}

#[test]
fn a_listing_of_a_namespace_is_a_range_of_keys() {
    let shop = listing(Some("shop"), "a", 10);
    assert_eq!(shop.range(), (b"\x04shopa".to_vec(), Some(b"\x04shopb".to_vec())));
    let next = Listing { after: Some(Place(b"\x04shopab".to_vec())), ..shop.clone() };
    assert_eq!(next.range().0, b"\x04shopab\0");
    // A place from before the range moves nothing to before it.
    let odd = Listing { after: Some(Place(b"\x01a".to_vec())), ..shop };
    assert_eq!(odd.range().0, b"\x04shopa");
}

#[test]
fn only_what_can_be_asked_for_is_read() {
    let shop = listing(Some("shop"), "a", 10);
    let collector = Collector::new(&shop, NOW);
    assert!(collector.wants(b"\x04shopabc"));
    assert!(!collector.wants(b"\x04shopb"));
    assert!(!collector.wants(b"\x05shopsa"));
    let everywhere = listing(None, "a", 10);
    let collector = Collector::new(&everywhere, NOW);
    assert!(collector.wants(b"\x04shopabc"));
    assert!(!collector.wants(b"\x04shopb"));
}

#[test]
fn a_page_ends_when_it_is_full_or_has_read_enough() {
    let shop = listing(Some("shop"), "", 2);
    let mut collector = Collector::new(&shop, NOW);
    assert!(collector.offer(b"\x04shopa", b"\x04shopa", Some(Ok(record(1_000_001))), 1));
    assert!(collector.offer(b"\x04shopb", b"\x04shopb", Some(Ok(record(900_000))), 1), "over");
    assert!(collector.offer(b"\x04shopc", b"\x04shopc", Some(Err(EngineError::Corrupted)), 1));
    assert!(!collector.offer(b"\x04shopd", b"\x04shopd", Some(Ok(record(1_000_001))), 1));
    let page = collector.finish();
    assert_eq!((page.records.len(), page.unreadable), (2, 1));
    assert_eq!(page.records[0].record.checkpoint, b"");
    assert_eq!(page.next, Some(Place(b"\x04shopd".to_vec())));

    let mut collector = Collector::new(&shop, NOW);
    assert!(!collector.offer(b"\x04shopa", b"\x04shopa", None, MAX_SCANNED_BYTES));
    assert_eq!(collector.finish().next, Some(Place(b"\x04shopa".to_vec())));
}

#[test]
fn no_lease_is_looked_at_that_has_not_ended() {
    let (from, to) = listing(None, "", 1).lease_ends(NOW);
    assert_eq!(from, b"");
    assert!(keys::expiry_key(NOW, b"\x01aa") < to);
    assert!(keys::expiry_key(NOW.plus(Span::from_millis(1)), b"\x01aa") >= to);
}
