//! Which erase answers which order.

use super::*;

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
