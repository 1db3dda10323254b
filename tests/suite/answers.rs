//! What large answers hold in the engine, all callers together.

use onced::domain::Decision;
use onced::storage::EngineError;

use crate::engines::{ANN, BOB, Kind, Lab, complete_with, reserve};

#[test]
fn large_answers_that_are_on_their_way_together_are_bounded() {
    let mut lab = Lab::new(Kind::Rocks);
    lab.options.max_in_flight_bytes = 4 << 20;
    let store = lab.open();
    let keys: Vec<_> = (0..10).map(|number| format!("order-{number}")).collect();
    for key in &keys {
        store.granted(key, reserve(ANN));
        let payload = vec![b'x'; 1 << 20];
        store.decide(key, complete_with(ANN, |it| it.response.payload = payload));
    }

    // Asked for at once, some are answered and the others told to come back;
    let answers = store.together(keys.iter().map(|key| (key.clone(), reserve(BOB))).collect());
    let is_replay = |decision: &Decision| matches!(decision, Decision::Replayed(end) if end.response.payload.len() == 1 << 20);
    let replayed = answers.iter().flatten().filter(|told| is_replay(&told.answer)).count();
    let refused = answers.iter().filter(|it| **it == Err(EngineError::Overloaded)).count();
    assert_eq!((replayed + refused, replayed), (10, 3), "{refused} were refused");

    // and asked for one by one, all of them are answered: nothing is held any more.
    for key in &keys {
        assert!(is_replay(&store.decide(key, reserve(BOB))), "{key}");
        assert!(store.lookup(key).is_some());
    }
    let stats = store.runtime.block_on(store.engine.stats()).unwrap().answer;
    assert_eq!((stats.in_flight, stats.in_flight_bytes), (0, 0));
}
