//! What shadowed callers are told, for every command and decision, and what is counted.

use std::sync::{Arc, Mutex};

use super::*;
use crate::api::{Limits, Policy};
use crate::domain::{
    Completion, FencingToken, Fingerprint, Granted, InDoubt, InProgress, LeaseExpiryAction,
    Outcome, OwnerToken, QuotaKind, Release, Renew, Response, Span,
};

const NOW: Moment = Moment::from_millis(1_800_000_000_000);
const OWNER: OwnerToken = OwnerToken::from_bytes([7; 16]);

fn reserve() -> Command {
    Command::Reserve(Reserve {
        fingerprint: Fingerprint::default(),
        owner_token: OWNER,
        lease: Span::from_secs(30),
        lease_expiry_action: LeaseExpiryAction::Takeover,
        retention: Span::from_secs(60),
        retry_failed: false,
        holder: String::new(),
    })
}

fn complete() -> Command {
    Command::Complete(Complete {
        owner_token: OWNER,
        result: Outcome::Failed,
        response: Response {
            payload: b"declined".to_vec(),
            status_code: 402,
            ..Default::default()
        },
        response_omitted: false,
        response_digest: [9; 32],
        response_size_bytes: 8,
        retention: Span::from_secs(60),
    })
}

fn stored() -> Arc<Completion> {
    Arc::new(Completion {
        result: Outcome::Succeeded,
        response: Response::default(),
        response_omitted: false,
        response_digest: [1; 32],
        response_size_bytes: 0,
        completed_at: NOW,
        retained_until: NOW,
        attempt: 1,
        fencing_token: FencingToken::FIRST,
        late: false,
    })
}

fn tell(counts: &ShadowCounts, command: Command, decision: &Decision) -> Option<Instead> {
    counts.instead(&Namespace::default(), command, decision, NOW)
}

#[test]
fn whatever_stands_in_the_way_of_a_reserve_is_told_as_a_grant_without_a_fencing_token() {
    let busy = InProgress { lease_until: NOW, attempt: 3, holder: "other".into() };
    let doubt =
        InDoubt { lease_until: NOW, attempt: 3, holder: "other".into(), checkpoint: vec![1] };
    for (decision, would_be) in [
        (Decision::InProgress(busy), WouldBe::InProgress),
        (Decision::Replayed(stored()), WouldBe::Completed),
        (Decision::InDoubt(doubt), WouldBe::InDoubt),
        (Decision::Refused(Refusal::FingerprintMismatch), WouldBe::FingerprintMismatch),
        (Decision::Refused(Refusal::QuotaExceeded(QuotaKind::Keys)), WouldBe::QuotaExceeded),
        (Decision::Refused(Refusal::LeaseLost), WouldBe::LeaseLost),
    ] {
        let counts = ShadowCounts::default();
        let told = tell(&counts, reserve(), &decision);
        assert_eq!(
            told,
            Some(Instead::Granted(v1::Granted {
                owner_token: "07070707-0707-0707-0707-070707070707".into(),
                fencing_token: 0,
                lease_expire_time: Some(encode::timestamp(NOW.plus(Span::from_secs(30)))),
                attempt: 0,
                takeover: false,
                checkpoint: Vec::new(),
                shadow: true,
            })),
            "{decision:?}"
        );
        for other in WouldBe::ALL {
            assert_eq!(counts.tally().of(other), u64::from(other == would_be), "{decision:?}");
        }
    }
}

#[test]
fn a_grant_is_told_as_it_is_and_counted() {
    let counts = ShadowCounts::default();
    let granted = Decision::Granted(Granted {
        owner_token: OWNER,
        fencing_token: FencingToken::FIRST,
        lease_until: NOW,
        attempt: 1,
        takeover: false,
        checkpoint: Vec::new(),
    });
    assert_eq!(tell(&counts, reserve(), &granted), None);
    assert_eq!(counts.tally().of(WouldBe::Granted), 1);
}

#[test]
fn a_refused_completion_is_told_as_it_was_asked_for() {
    for refusal in [Refusal::LeaseLost, Refusal::NotFound, Refusal::ResultConflict] {
        let told = tell(&ShadowCounts::default(), complete(), &Decision::Refused(refusal));
        let Some(Instead::Completed(completion)) = told else { panic!("{told:?}") };
        assert_eq!(completion.result(), v1::Result::Failed);
        assert_eq!(completion.response.unwrap().payload, b"declined");
        assert_eq!((completion.attempt, completion.fencing_token), (0, 0));
        assert_eq!(completion.response_digest, [9; 32]);
        assert_eq!(completion.expire_time, Some(encode::timestamp(NOW.plus(Span::from_secs(60)))));
    }
}

#[test]
fn a_refused_renewal_and_a_refused_release_are_told_as_done() {
    let renew =
        Command::Renew(Renew { owner_token: OWNER, lease: Span::from_secs(5), checkpoint: None });
    let release = Command::Release(Release { owner_token: OWNER });
    for refusal in [Refusal::LeaseLost, Refusal::NotFound, Refusal::AlreadyCompleted] {
        let counts = ShadowCounts::default();
        let refused = Decision::Refused(refusal);
        let lease_until = NOW.plus(Span::from_secs(5));
        assert_eq!(tell(&counts, renew.clone(), &refused), Some(Instead::Renewed { lease_until }));
        assert_eq!(tell(&counts, release.clone(), &refused), Some(Instead::Released));
        assert_eq!(counts.tally().0.iter().sum::<u64>(), 2);
    }
}

#[test]
fn what_is_done_as_asked_is_told_as_it_is_and_not_counted() {
    let counts = ShadowCounts::default();
    let renewed = Decision::Renewed { lease_until: NOW };
    for decision in [Decision::Completed(stored()), renewed, Decision::Released] {
        assert_eq!(tell(&counts, complete(), &decision), None);
    }
    assert_eq!(counts.tally(), ShadowTally::default());
}

#[test]
fn every_outcome_has_a_place_and_a_name_of_its_own() {
    for (place, would_be) in WouldBe::ALL.into_iter().enumerate() {
        assert_eq!(would_be as usize, place);
    }
    let names: std::collections::BTreeSet<_> = WouldBe::ALL.map(WouldBe::name).into();
    assert_eq!(names.len(), WouldBe::ALL.len());
}

/// What is logged while `act` runs.
fn logged(act: impl FnOnce()) -> String {
    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);
    impl std::io::Write for Page {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let page = Page::default();
    let writer = page.clone();
    let log = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone());
    tracing::subscriber::with_default(log.finish(), act);
    let bytes = page.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn what_was_counted_since_the_last_time_is_logged_and_nothing_else() {
    let orders = Namespace::new("orders".to_owned()).unwrap();
    let shadowed = Policy { shadow: true, ..Policy::default() };
    let listed = ["orders", "mail"].map(|name| (Namespace::new(name.into()).unwrap(), shadowed));
    let policies = Policies::new(Limits::default(), false, listed);
    let mut log = ShadowLog::default();
    let refused = Decision::Refused(Refusal::LeaseLost);

    assert_eq!(logged(|| log.write(&policies)), "");
    for _ in 0..3 {
        policies.shadow(&orders).unwrap().instead(&orders, reserve(), &refused, NOW);
    }
    let line = logged(|| log.write(&policies));
    assert!(line.contains("namespace=\"orders\"") && line.contains("lease_lost=3"), "{line}");
    assert_eq!(line.lines().count(), 1, "{line}");
    assert_eq!(logged(|| log.write(&policies)), "");
    policies.shadow(&orders).unwrap().instead(&orders, reserve(), &refused, NOW);
    assert!(logged(|| log.write(&policies)).contains("lease_lost=1 "));
}
