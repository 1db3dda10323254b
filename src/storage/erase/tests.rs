//! Which erase answers which order, and the stored form.

use bolero::TypeGenerator;

use super::*;
use crate::fuzz::{Harm, Tally, Text, time};

fn order(namespace: &str, id: u128) -> EraseOrder {
    EraseOrder {
        namespace: Namespace::new(namespace.into()).unwrap(),
        id: Uuid::from_u128(id),
        operator: "olga".into(),
        reason: "the tenant left".into(),
    }
}

fn at(millis: i64) -> Moment {
    Moment::from_millis(millis)
}

fn ended(namespace: &str, id: u128, millis: i64) -> Erase {
    let begun = Erase::begun(order(namespace, id), FencingToken::new(7), at(0));
    Erase { ended_at: Some(at(millis)), ..begun }
}

#[test]
fn erases_of_different_namespaces_take_turns() {
    let mut erases = Erases::default();
    for namespace in ["a", "b"] {
        erases.note(Erase::begun(order(namespace, 1), None, at(0)));
    }
    let turns: Vec<_> = (0..4)
        .map(|_| {
            let erase = erases.next().unwrap();
            erases.note(erase.clone());
            erase.order.namespace.as_str().to_owned()
        })
        .collect();
    assert_eq!(turns, ["a", "b", "a", "b"]);
}

#[test]
fn as_many_that_have_ended_are_remembered_as_fit_and_the_oldest_are_forgotten() {
    let mut erases = Erases::default();
    for number in 0..MAX_ENDED {
        erases.note(ended(&format!("n{number}"), 1, 1_000 - number as i64));
    }
    let Begin::Anew { forgets } = erases.begin(&order("one-more", 1)).unwrap() else {
        panic!("it is another namespace")
    };
    assert_eq!(forgets, [Namespace::new(format!("n{}", MAX_ENDED - 1)).unwrap()]);
}

#[test]
fn what_is_left_begins_behind_what_was_looked_at() {
    let mut erase = Erase::begun(order("shop", 1), FencingToken::new(7), at(0));
    let (ceiling, from, to) = erase.left().unwrap();
    assert_eq!(
        (ceiling.get(), from.as_slice(), to.as_slice()),
        (7, &b"\x04shop"[..], &b"\x04shoq"[..])
    );
    erase.done_to = b"\x04shopa".to_vec();
    assert_eq!(erase.left().unwrap().1, b"\x04shopa\0");
    assert_eq!(Erase::begun(order("shop", 1), None, at(0)).left(), None);
}

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
            began_at: at(input.began_at),
            ended_at: input.ended_at.map(at),
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
