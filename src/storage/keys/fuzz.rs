//! Bytes that may lie in the tables: a key is split into what it was made of, or refused.

use bolero::TypeGenerator;

use super::*;
use crate::domain::{IdempotencyKey, Namespace};
use crate::fuzz::{Tally, Text, time};

#[derive(Clone, Debug, TypeGenerator)]
enum Input {
    Named { namespace: Text, key: Text, at: i64 },
    Bytes(#[generator(bolero::produce_with::<Vec<u8>>().len(0..400_usize))] Vec<u8>),
}

#[test]
fn keys_are_split_into_what_they_were_made_of_or_refused() {
    static TALLY: Tally = Tally::new();
    bolero::check!().with_type::<Input>().with_test_time(time()).for_each(|input| match input {
        Input::Named { namespace, key, at } => {
            let namespace = Namespace::new(namespace.to_text());
            let key = IdempotencyKey::new(key.to_text());
            TALLY.count(namespace.is_ok() && key.is_ok());
            if let (Ok(namespace), Ok(key)) = (namespace, key) {
                splits_back(&RecordKey { namespace, key }, Moment::from_millis(*at));
            }
        }
        Input::Bytes(bytes) => TALLY.count(joins_back(bytes)),
    });
    TALLY.report("keys on disk");
}

/// What was joined splits into its parts.
fn splits_back(key: &RecordKey, at: Moment) {
    let joined = record_key(key);
    assert_eq!(split_record_key(&joined), Some((key.namespace.as_str(), key.key.as_str())));
    let entry = expiry_key(at, &joined);
    let at = Moment::from_millis(at.as_millis().max(0));
    assert_eq!(split_expiry_key(&entry), Some((at, joined.as_slice())));
    assert!(entry.as_slice() >= expiry_bound(at).as_slice());
}

/// Whatever splits is the same bytes when it is joined. Says whether it is a key.
fn joins_back(bytes: &[u8]) -> bool {
    if let Some((at, record_key)) = split_expiry_key(bytes) {
        assert_eq!(expiry_key(at, record_key), bytes);
    }
    let Some((namespace, key)) = split_record_key(bytes) else { return false };
    let names = (Namespace::new(namespace.into()), IdempotencyKey::new(key.into()));
    let (Ok(namespace), Ok(key)) = names else { return false };
    assert_eq!(record_key(&RecordKey { namespace, key }), bytes);
    true
}
