//! A system clock that steps by hours, forward and back, under a running server and between two.

use std::time::Duration;

use onced::pb::v1::{ReserveRequest, reserve_response::Outcome};
use tempfile::TempDir;

use crate::caller::{Caller, granted, order};
use crate::process::Process;
use crate::proof::Row;
use crate::shim::Shim;

const HOUR: i64 = 3_600;

/// Another caller for the same operation.
fn rival(order: &ReserveRequest) -> ReserveRequest {
    ReserveRequest { owner_token: uuid::Uuid::new_v4().into(), ..order.clone() }
}

/// The decisions of one server and the next, whose moments must never go back.
#[derive(Default)]
struct Decisions {
    latest: Option<(i64, i32)>,
    count: u64,
}

impl Decisions {
    async fn reserve(&mut self, caller: &mut Caller, order: &ReserveRequest) -> Outcome {
        let answer = caller.reserve(order).await.unwrap();
        let decided = answer.decide_time.unwrap();
        let moment = Some((decided.seconds, decided.nanos));
        assert!(moment >= self.latest, "{moment:?} after {:?}", self.latest);
        self.latest = moment;
        self.count += 1;
        answer.outcome.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn decisions_never_go_back_in_time_whatever_the_system_clock_does() {
    let dir = TempDir::new().unwrap();
    let shim = Shim::new();
    let mut told = Decisions::default();
    let (held, done) = (order("held"), order("done"));
    let mut highest = 0;

    for (number, hours) in [0, 5, -7, 30, -48, 1].into_iter().enumerate() {
        shim.set_clock(hours * HOUR);
        let server = Process::start(shim.onced(), &dir.path().join("data"), &[]);
        let mut caller = Caller::of(&server).await;
        if number == 0 {
            granted(caller.reserve(&done).await.unwrap());
            caller.complete(&done, 100).await.unwrap();
        }
        // Within a day, so that its retention of a day is not over.
        for step in [hours, hours - 3, hours + 2] {
            shim.set_clock(step * HOUR);
            let brief = ReserveRequest {
                lease: Some(prost_types::Duration { seconds: 0, nanos: 100_000_000 }),
                ..order(&format!("brief-{number}-{step}"))
            };
            let Outcome::Granted(first) = told.reserve(&mut caller, &brief).await else {
                panic!("not granted")
            };
            assert!(first.fencing_token > highest);
            // Time goes on at its pace, also where the system's is behind what was shown.
            let rival = rival(&brief);
            let second = loop {
                match told.reserve(&mut caller, &rival).await {
                    Outcome::Granted(second) => break second,
                    Outcome::InProgress(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                    other => panic!("{other:?}"),
                }
            };
            assert!(second.takeover && second.fencing_token > first.fencing_token);
            highest = second.fencing_token;
        }
    }
    // Once more, far in the past.
    shim.set_clock(-1_000 * HOUR);
    let server = Process::start(shim.onced(), &dir.path().join("data"), &[]);
    let mut caller = Caller::of(&server).await;
    told.reserve(&mut caller, &held).await;
    assert!(matches!(told.reserve(&mut caller, &rival(&held)).await, Outcome::InProgress(_)));
    Row {
        promise: "3 fencing tokens rise, 4 expiry is judged when read",
        attack: "the system clock steps by hours, forward and back, while it runs and while it is down",
        times: &format!("25 steps, {} decisions", told.count),
        lost: 0,
    }
    .report();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_forward_ends_leases_and_a_step_back_does_not_prolong_them() {
    let dir = TempDir::new().unwrap();
    let shim = Shim::new();
    let server = Process::start(shim.onced(), &dir.path().join("data"), &[]);
    let mut caller = Caller::of(&server).await;
    let mut told = Decisions::default();
    let held = order("held");
    told.reserve(&mut caller, &held).await;

    shim.set_clock(-2 * HOUR);
    assert!(matches!(told.reserve(&mut caller, &rival(&held)).await, Outcome::InProgress(_)));

    shim.set_clock(2 * HOUR);
    let Outcome::Granted(taken) = told.reserve(&mut caller, &rival(&held)).await else {
        panic!("two hours are more than a lease")
    };
    assert!(taken.takeover);
    let lost = caller.complete(&held, 10).await;
    assert_eq!(crate::caller::refusal(lost).1, "LEASE_LOST");
}
