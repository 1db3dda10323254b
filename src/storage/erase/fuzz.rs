//! The fuzz target of stored erases: bytes are the erase that was stored, or refused.

use bolero::TypeGenerator;

use super::*;
use crate::fuzz::{Harm, Tally, Text, time};

#[derive(Clone, Debug, TypeGenerator)]
struct Input {
    namespace: Text,
    id: u128,
    operator: Text,
    reason: Text,
    ceiling: i64,
    began_at: i64,
    ended_at: Option<i64>,
    counts: (u32, u32),
    done_to: Vec<u8>,
    harm: Option<Harm>,
}

#[test]
fn what_was_stored_of_an_erase_is_read_back_or_refused() {
    static TALLY: Tally = Tally::new();
    bolero::check!().with_type::<Input>().with_test_time(time()).for_each(|input| {
        let Ok(namespace) = Namespace::new(input.namespace.to_text()) else { return };
        let erase = Erase {
            order: EraseOrder {
                namespace,
                id: Uuid::from_u128(input.id),
                operator: input.operator.to_text(),
                reason: input.reason.to_text(),
            },
            ceiling: FencingToken::new(input.ceiling),
            began_at: Moment::from_millis(input.began_at),
            ended_at: input.ended_at.map(Moment::from_millis),
            erased: input.counts.0.into(),
            unreadable: input.counts.1.into(),
            done_to: input.done_to.clone(),
        };
        let mut bytes = erase.encode();
        assert_eq!(Erase::decode(&bytes), Ok(erase));
        if let Some(harm) = &input.harm {
            harm.apply(&mut bytes);
        }
        let read = Erase::decode(&bytes);
        TALLY.count(read.is_ok());
        if let Ok(read) = read {
            assert_eq!(Erase::decode(&read.encode()), Ok(read));
        }
    });
    TALLY.report("erases on disk");
}
