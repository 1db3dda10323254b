//! Bytes that may lie in the table of records: they are read in full, or they are damage.

use bolero::TypeGenerator;

use super::*;
use crate::fuzz::{Harm, Tally, Text, time};

/// A number as a record may hold it.
#[derive(Clone, Copy, Debug, TypeGenerator)]
enum Number {
    Likely(#[generator(1..4_000_000_000_000_i64)] i64),
    Likelier(#[generator(1..3_i64)] i64),
    Edge(#[generator(-1..4_i64)] i64),
    Any(i64),
}

impl Number {
    const fn get(self) -> i64 {
        match self {
            Self::Likely(number)
            | Self::Likelier(number)
            | Self::Edge(number)
            | Self::Any(number) => number,
        }
    }

    /// As a number of 32 bits: those of the edges are kept.
    const fn get_small(self) -> i32 {
        self.get() as i32
    }
}

/// A message whose fields may be anything.
#[derive(Clone, Debug, TypeGenerator)]
struct Draft {
    #[generator(bolero::produce_with::<Vec<u8>>().len(0..66_usize))]
    fingerprint: Vec<u8>,
    owner_token: [u8; 16],
    fencing_token: Number,
    attempt: Number,
    takeover: bool,
    holder: Text,
    moments: [Number; 3],
    #[generator(bolero::produce_with::<Vec<u8>>().len(0..64_usize))]
    checkpoint: Vec<u8>,
    run: i64,
    state: State,
}

#[derive(Clone, Debug, TypeGenerator)]
enum State {
    Reserved(Number, Number),
    Released(Number),
    Completed(Completed),
    Absent,
}

#[derive(Clone, Debug, TypeGenerator)]
struct Completed {
    result: Number,
    moments: [Number; 2],
    flags: [bool; 2],
    #[generator(bolero::produce_with::<Vec<u8>>().len(31..34_usize))]
    digest: Vec<u8>,
    size: Number,
    #[generator(bolero::produce_with::<Vec<u8>>().len(0..64_usize))]
    payload: Vec<u8>,
    content_type: Text,
    status_code: i32,
    #[generator(bolero::produce_with::<Vec<(Text, Text)>>().len(0..4_usize))]
    metadata: Vec<(Text, Text)>,
}

impl Draft {
    fn bytes(&self) -> Vec<u8> {
        let [created_at, retention, indexed_at] = self.moments.map(Number::get);
        stored::Record {
            fingerprint: self.fingerprint.clone(),
            owner_token: self.owner_token.to_vec(),
            fencing_token: self.fencing_token.get(),
            attempt: self.attempt.get_small(),
            takeover: self.takeover,
            holder: self.holder.to_text(),
            created_at_ms: created_at,
            checkpoint: self.checkpoint.clone(),
            retention_ms: retention,
            indexed_at_ms: indexed_at,
            run: self.run,
            state: self.state.message(),
        }
        .encode_to_vec()
    }
}

impl State {
    fn message(&self) -> Option<stored::record::State> {
        Some(match self {
            Self::Reserved(lease_until, action) => {
                stored::record::State::Reserved(stored::Reserved {
                    lease_until_ms: lease_until.get(),
                    lease_expiry_action: action.get_small(),
                })
            }
            Self::Released(released_at) => stored::record::State::Released(stored::Released {
                released_at_ms: released_at.get(),
            }),
            Self::Completed(completed) => stored::record::State::Completed(completed.message()),
            Self::Absent => return None,
        })
    }
}

impl Completed {
    fn message(&self) -> stored::Completed {
        let named = |(name, value): &(Text, Text)| stored::Metadata {
            name: name.to_text(),
            value: value.to_text(),
        };
        stored::Completed {
            result: self.result.get_small(),
            completed_at_ms: self.moments[0].get(),
            retained_until_ms: self.moments[1].get(),
            late: self.flags[0],
            response_omitted: self.flags[1],
            response_digest: self.digest.clone(),
            response_size_bytes: self.size.get(),
            payload: self.payload.clone(),
            content_type: self.content_type.to_text(),
            status_code: self.status_code,
            metadata: self.metadata.iter().map(named).collect(),
        }
    }
}

#[derive(Clone, Debug, TypeGenerator)]
enum Input {
    Draft(Draft),
    Damaged(Draft, Harm),
    Bytes(#[generator(bolero::produce_with::<Vec<u8>>().len(0..400_usize))] Vec<u8>),
}

#[test]
fn a_record_is_read_in_full_or_it_is_damage() {
    static TALLY: Tally = Tally::new();
    bolero::check!().with_type::<Input>().with_test_time(time()).for_each(|input| {
        let bytes = match input {
            Input::Draft(draft) => draft.bytes(),
            Input::Damaged(draft, harm) => {
                let mut bytes = draft.bytes();
                harm.apply(&mut bytes);
                bytes
            }
            Input::Bytes(bytes) => bytes.clone(),
        };
        let read = decode(&bytes);
        TALLY.count(read.is_ok());
        if let Ok(stored) = read {
            let written = encode(&stored);
            // As long as what was read: nothing was passed over, merged or made up.
            assert_eq!(written.len(), bytes.len());
            assert_eq!(decode(&written), Ok(stored));
        }
    });
    TALLY.report("stored records");
}
