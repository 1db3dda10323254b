//! Stored records of every released format, round trips, and damage by name.
//!
//! A fixture is the bytes of one record, field by field, as they were stored when its format
//! was released. It is never edited: a format that can no longer be read is a data loss.

use proptest::prelude::*;
use proptest::sample::{Index, select};
use prost::Message as _;

use super::*;

const DAY_MILLIS: i64 = 86_400_000;
/// When the records of the fixtures were made.
const THEN: i64 = 1_700_000_000_000;

// Format 1.

#[test]
fn format_1_a_reservation_with_nothing_but_the_necessary() {
    reads_and_writes(
        include_str!("../../../tests/fixtures/record-format-1/reserved-takeover.hex"),
        &Stored {
            record: Record {
                fingerprint: Fingerprint::default(),
                owner_token: OwnerToken::from_bytes([
                    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15,
                ]),
                fencing_token: FencingToken::FIRST,
                attempt: 1,
                takeover: false,
                holder: String::new(),
                created_at: Moment::from_millis(THEN),
                checkpoint: Vec::new(),
                retention: Span::from_millis(DAY_MILLIS),
                state: State::Reserved {
                    lease_until: Moment::from_millis(THEN + 30_000),
                    lease_expiry_action: LeaseExpiryAction::Takeover,
                },
            },
            indexed_at: Moment::from_millis(THEN + 30_000 + DAY_MILLIS),
            run: 1,
        },
    );
}

#[test]
fn format_1_a_reservation_with_everything() {
    reads_and_writes(
        include_str!("../../../tests/fixtures/record-format-1/reserved-hold.hex"),
        &Stored {
            record: Record {
                fencing_token: FencingToken::new((1 << 53) + 1).unwrap(),
                attempt: 3,
                takeover: true,
                holder: "worker ü".to_owned(),
                checkpoint: b"page 7\0\xff".to_vec(),
                state: State::Reserved {
                    lease_until: Moment::from_millis(THEN + 60_000),
                    lease_expiry_action: LeaseExpiryAction::Hold,
                },
                ..shop_record()
            },
            indexed_at: Moment::from_millis(THEN + 30_000 + DAY_MILLIS),
            run: 7,
        },
    );
}

#[test]
fn format_1_a_release() {
    reads_and_writes(
        include_str!("../../../tests/fixtures/record-format-1/released.hex"),
        &Stored {
            record: Record {
                fencing_token: FencingToken::new(300).unwrap(),
                attempt: 2,
                checkpoint: b"page 7".to_vec(),
                retention: Span::from_secs(3_600),
                state: State::Released { released_at: Moment::from_millis(THEN + 5_000) },
                ..shop_record()
            },
            indexed_at: Moment::from_millis(THEN + 5_000 + 3_600_000),
            run: 2,
        },
    );
}

#[test]
fn format_1_a_completion_with_its_response() {
    let metadata = [("location", "/orders/1"), ("x-empty", "")];
    reads_and_writes(
        include_str!("../../../tests/fixtures/record-format-1/completed-succeeded.hex"),
        &Stored {
            record: Record {
                state: State::Completed(Arc::new(Completion {
                    result: Outcome::Succeeded,
                    response: Response {
                        payload: b"{\"paid\": true}\0\xff".to_vec(),
                        content_type: "application/json".to_owned(),
                        status_code: 201,
                        metadata: metadata
                            .map(|(name, value)| (name.to_owned(), value.to_owned()))
                            .into(),
                    },
                    response_omitted: false,
                    response_digest: [
                        0x5e, 0x3d, 0x01, 0x9c, 0x0b, 0xbe, 0xb4, 0xae, 0xff, 0x53, 0x4e, 0xda,
                        0xfa, 0x36, 0xa0, 0xa8, 0xcf, 0xb0, 0xcf, 0x44, 0xa2, 0x19, 0x19, 0xb1,
                        0x8e, 0xb1, 0xfe, 0x6b, 0x86, 0x00, 0x43, 0x73,
                    ],
                    response_size_bytes: 16,
                    completed_at: Moment::from_millis(THEN + 1_500),
                    retained_until: Moment::from_millis(THEN + 1_500 + DAY_MILLIS),
                    attempt: 1,
                    fencing_token: FencingToken::new(42).unwrap(),
                    late: false,
                })),
                ..shop_record()
            },
            indexed_at: Moment::from_millis(THEN + 30_000 + DAY_MILLIS),
            run: 1,
        },
    );
}

#[test]
fn format_1_a_late_failure_and_the_extremes_of_the_numbers() {
    let fencing_token = FencingToken::new(i64::MAX).unwrap();
    reads_and_writes(
        include_str!("../../../tests/fixtures/record-format-1/completed-failed-late.hex"),
        &Stored {
            record: Record {
                fingerprint: Fingerprint::new(vec![1]).unwrap(),
                owner_token: OwnerToken::from_bytes([0xff; 16]),
                fencing_token,
                attempt: i32::MAX.unsigned_abs(),
                takeover: true,
                holder: String::new(),
                created_at: Moment::from_millis(0),
                checkpoint: Vec::new(),
                retention: Span::from_millis(0),
                state: State::Completed(Arc::new(Completion {
                    result: Outcome::Failed,
                    response: Response { status_code: -1, ..Response::default() },
                    response_omitted: true,
                    response_digest: [0xab; 32],
                    response_size_bytes: 5_000_000_000,
                    completed_at: Moment::from_millis(THEN),
                    retained_until: Moment::from_millis(THEN + DAY_MILLIS),
                    attempt: i32::MAX.unsigned_abs(),
                    fencing_token,
                    late: true,
                })),
            },
            indexed_at: Moment::from_millis(THEN + DAY_MILLIS),
            run: 1 << 40,
        },
    );
}

/// The record that most fixtures vary.
fn shop_record() -> Record {
    Record {
        fingerprint: Fingerprint::new((0xe0..=0xff).collect()).unwrap(),
        owner_token: OwnerToken::from_bytes(std::array::from_fn(|index| index as u8)),
        fencing_token: FencingToken::new(42).unwrap(),
        attempt: 1,
        takeover: false,
        holder: "shop-1".to_owned(),
        created_at: Moment::from_millis(THEN),
        checkpoint: Vec::new(),
        retention: Span::from_millis(DAY_MILLIS),
        state: State::Released { released_at: Moment::from_millis(THEN) },
    }
}

/// What was stored in the format that this build writes is read as what it meant, and is
/// written like that again: a build that writes other bytes writes another format.
fn reads_and_writes(fixture: &str, expected: &Stored) {
    let bytes = bytes_of(fixture);
    assert_eq!(decode(&bytes).as_ref(), Ok(expected));
    assert_eq!(encode(expected), bytes);
}

/// The bytes of a fixture: pairs of hexadecimal digits, with comments.
fn bytes_of(fixture: &str) -> Vec<u8> {
    let digits = fixture.lines().filter_map(|line| line.split('#').next());
    let bytes = digits.flat_map(str::split_whitespace);
    bytes.map(|pair| u8::from_str_radix(pair, 16).expect("it is a byte")).collect()
}

// Round trips.

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_record_is_read_as_it_was_written(stored in any_stored()) {
        let length = encoded_len(&stored.record, stored.indexed_at, stored.run);
        let bytes = encode(&stored);
        prop_assert_eq!(length, bytes.len());
        let as_prost_writes_it = stored::Record::decode(&bytes[..]).unwrap().encode_to_vec();
        prop_assert_eq!(&bytes, &as_prost_writes_it);
        prop_assert_eq!(decode(&bytes), Ok(stored));
    }
}

/// Where the length of the payload, or of the message around it, takes one more byte.
#[test]
fn the_length_is_known_without_encoding_at_every_size_of_the_payload() {
    let sizes = [0, 1, 40, 60, 100, 127, 128, 16_300, 16_383, 16_384, 2_097_000, 2_097_152];
    for size in sizes.into_iter().flat_map(|size| size..size + 64) {
        let response = Response { payload: vec![7; size], ..Response::default() };
        let completion = Completion {
            result: Outcome::Succeeded,
            response,
            response_omitted: false,
            response_digest: [7; 32],
            response_size_bytes: size as u64,
            completed_at: Moment::from_millis(THEN),
            retained_until: Moment::from_millis(THEN + DAY_MILLIS),
            attempt: 1,
            fencing_token: FencingToken::FIRST,
            late: false,
        };
        let record = Record { state: State::Completed(Arc::new(completion)), ..shop_record() };
        let stored = Stored { record, indexed_at: Moment::from_millis(THEN), run: 1 };
        let length = encoded_len(&stored.record, stored.indexed_at, stored.run);
        assert_eq!(length, encode(&stored).len(), "{size}");
    }
}

fn any_stored() -> impl Strategy<Value = Stored> {
    let who = (
        prop::collection::vec(any::<u8>(), 0..=Fingerprint::MAX_BYTES),
        any::<[u8; 16]>(),
        1..=i64::MAX,
        1..=i32::MAX.unsigned_abs(),
        any::<bool>(),
        any::<String>(),
    );
    let rest = (any_moment(), any_bytes(), 0..=i64::MAX, any_moment(), any::<i64>(), any_state());
    (who, rest).prop_map(|(who, rest)| {
        let (fingerprint, owner_token, fencing_token, attempt, takeover, holder) = who;
        let (created_at, checkpoint, retention, indexed_at, run, state) = rest;
        let fencing_token = FencingToken::new(fencing_token).unwrap();
        let state = match state {
            // A completion repeats what its record says of the attempt.
            State::Completed(completion) => State::Completed(Arc::new(Completion {
                attempt,
                fencing_token,
                ..Arc::unwrap_or_clone(completion)
            })),
            State::Reserved { .. } | State::Released { .. } => state,
        };
        Stored {
            record: Record {
                fingerprint: Fingerprint::new(fingerprint).unwrap(),
                owner_token: OwnerToken::from_bytes(owner_token),
                fencing_token,
                attempt,
                takeover,
                holder,
                created_at,
                checkpoint,
                retention: Span::from_millis(retention),
                state,
            },
            indexed_at,
            run,
        }
    })
}

fn any_state() -> impl Strategy<Value = State> {
    let action = select(vec![LeaseExpiryAction::Takeover, LeaseExpiryAction::Hold]);
    prop_oneof![
        (any_moment(), action).prop_map(|(lease_until, lease_expiry_action)| {
            State::Reserved { lease_until, lease_expiry_action }
        }),
        any_moment().prop_map(|released_at| State::Released { released_at }),
        any_completion().prop_map(|completion| State::Completed(Arc::new(completion))),
    ]
}

fn any_completion() -> impl Strategy<Value = Completion> {
    let result = select(vec![Outcome::Succeeded, Outcome::Failed]);
    let metadata = prop::collection::btree_map(any::<String>(), any::<String>(), 0..4);
    let response = (any_bytes(), any::<String>(), any::<i32>(), metadata).prop_map(
        |(payload, content_type, status_code, metadata)| Response {
            payload,
            content_type,
            status_code,
            metadata,
        },
    );
    let about = (any::<bool>(), any::<[u8; 32]>(), 0..=i64::MAX.unsigned_abs(), any::<bool>());
    (result, response, about, any_moment(), any_moment()).prop_map(
        |(result, response, about, completed_at, retained_until)| {
            let (response_omitted, response_digest, response_size_bytes, late) = about;
            Completion {
                result,
                response,
                response_omitted,
                response_digest,
                response_size_bytes,
                completed_at,
                retained_until,
                attempt: 1,
                fencing_token: FencingToken::FIRST,
                late,
            }
        },
    )
}

fn any_moment() -> impl Strategy<Value = Moment> {
    (0..=i64::MAX).prop_map(Moment::from_millis)
}

fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..64)
}

// Damage.

#[test]
fn what_no_build_has_written_is_refused_by_name() {
    type Harm = fn(&mut stored::Record);
    let harms: [(&str, Harm); 23] = [
        ("its fingerprint is too long", |record| record.fingerprint = vec![0; 65]),
        ("its owner token is no UUID", |record| record.owner_token.truncate(15)),
        ("its owner token is no UUID", |record| record.owner_token.push(0)),
        ("its owner token is no UUID", |record| record.owner_token.clear()),
        ("its fencing token is not positive", |record| record.fencing_token = 0),
        ("its fencing token is not positive", |record| record.fencing_token = -1),
        ("its attempt is not positive", |record| record.attempt = 0),
        ("its attempt is not positive", |record| record.attempt = -1),
        ("a moment is before 1970", |record| record.created_at_ms = -1),
        ("a moment is before 1970", |record| record.indexed_at_ms = i64::MIN),
        ("a span is negative", |record| record.retention_ms = -1),
        ("it has no state", |record| record.state = None),
        ("its lease expiry action is unknown", |record| reserved(record).lease_expiry_action = 0),
        ("its lease expiry action is unknown", |record| reserved(record).lease_expiry_action = 3),
        ("a moment is before 1970", |record| reserved(record).lease_until_ms = -1),
        ("a moment is before 1970", |record| {
            let released = stored::Released { released_at_ms: -1 };
            record.state = Some(stored::record::State::Released(released));
        }),
        ("its result is unknown", |record| completed(record).result = 0),
        ("its result is unknown", |record| completed(record).result = 3),
        ("a moment is before 1970", |record| completed(record).completed_at_ms = -1),
        ("a moment is before 1970", |record| completed(record).retained_until_ms = -1),
        ("its response digest is not SHA-256", |record| completed(record).response_digest.push(0)),
        ("its response size is negative", |record| completed(record).response_size_bytes = -1),
        ("it has two values for one name of metadata", |record| {
            let metadata = &mut completed(record).metadata;
            metadata.push(metadata[0].clone());
        }),
    ];
    for (index, (name, harm)) in harms.into_iter().enumerate() {
        let mut record = whole();
        harm(&mut record);
        assert_eq!(decode(&record.encode_to_vec()), Err(Damage(name)), "case {index}");
    }
}

#[test]
fn a_record_that_ends_early_is_refused_wherever_it_ends() {
    for fixture in FIXTURES {
        let bytes = bytes_of(fixture);
        for length in 0..bytes.len() {
            assert!(decode(&bytes[..length]).is_err(), "{length} bytes of\n{fixture}");
        }
    }
}

/// A field from a later build may be the one that forbids to run the operation again, and
/// the next write of this build would lose it. prost skips such fields; `decode` must not.
#[test]
fn a_field_that_this_build_does_not_know_is_refused() {
    for fixture in FIXTURES {
        let mut bytes = bytes_of(fixture);
        // Field 15, the number 1.
        bytes.extend_from_slice(&[0x78, 0x01]);
        assert!(decode(&bytes).is_err(), "field 15 behind\n{fixture}");
    }
}

#[test]
fn a_name_that_is_no_text_is_refused() {
    let mut bytes = bytes_of(FIXTURES[1]);
    let holder = b"worker";
    let at = bytes.windows(holder.len()).position(|window| window == holder).unwrap();
    bytes[at] = 0xff;
    assert_eq!(decode(&bytes), Err(Damage("it is not a record message")));
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 4_096,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn bytes_at_random_are_refused_and_never_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..128),
    ) {
        prop_assert!(decode(&bytes).is_err());
    }

    /// Not every flipped bit can be noticed here, which is why RocksDB keeps checksums. What
    /// is read all the same is at least a record, which is written as it was read.
    #[test]
    fn a_damaged_record_is_refused_or_is_another_record(
        fixture in select(&FIXTURES[..]),
        flips in prop::collection::vec((any::<Index>(), 0..8), 1..4),
    ) {
        let mut bytes = bytes_of(fixture);
        for (at, bit) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= 1_u8 << bit;
        }
        if let Ok(stored) = decode(&bytes) {
            prop_assert_eq!(decode(&encode(&stored)), Ok(stored));
        }
    }
}

const FIXTURES: [&str; 5] = [
    include_str!("../../../tests/fixtures/record-format-1/reserved-takeover.hex"),
    include_str!("../../../tests/fixtures/record-format-1/reserved-hold.hex"),
    include_str!("../../../tests/fixtures/record-format-1/released.hex"),
    include_str!("../../../tests/fixtures/record-format-1/completed-succeeded.hex"),
    include_str!("../../../tests/fixtures/record-format-1/completed-failed-late.hex"),
];

/// A message that is a record, to be damaged.
fn whole() -> stored::Record {
    let record = stored::Record::decode(&*bytes_of(FIXTURES[0])).unwrap();
    assert!(decode(&record.encode_to_vec()).is_ok());
    record
}

fn reserved(record: &mut stored::Record) -> &mut stored::Reserved {
    match &mut record.state {
        Some(stored::record::State::Reserved(reserved)) => reserved,
        state => panic!("{state:?}"),
    }
}

/// Completes `record` and hands the completion out.
fn completed(record: &mut stored::Record) -> &mut stored::Completed {
    let completed = stored::Record::decode(&*bytes_of(FIXTURES[3])).unwrap();
    assert!(decode(&completed.encode_to_vec()).is_ok());
    record.state = completed.state;
    match &mut record.state {
        Some(stored::record::State::Completed(completed)) => completed,
        state => panic!("{state:?}"),
    }
}
