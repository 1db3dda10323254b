//! What a caller asks next: each workload is a few steps, again and again.

use std::time::Instant;

use clap::ValueEnum;

use super::call::{Answer, BATCH_ITEMS, Call, Step};

/// What is called, again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Workload {
    /// Reserve of a new key
    Reserve,
    /// Reserve of a new key, then Complete; a call is either of them
    Cycle,
    /// BatchReserve of a hundred new keys
    Batch,
    /// Reserve of a key that somebody else holds
    Duplicate,
    /// Reserve of a completed key
    Replay,
    /// Lookup of a completed key
    Lookup,
    /// Reserve of a new key, Complete, Reserve again, Lookup, and Reserve of a key that somebody else holds
    Mix,
    /// All callers Reserve one key; whoever is granted Releases it
    HotKey,
    /// A call that does nothing, which a server has only with --noop-call: what gRPC itself costs
    Noop,
}

impl Workload {
    /// The steps that a caller takes once, before the load begins.
    fn preparation(self) -> &'static [Step] {
        match self {
            Self::Duplicate | Self::Mix => &[Step::Hold],
            Self::Replay | Self::Lookup => &[Step::Hold, Step::Complete],
            Self::Reserve | Self::Cycle | Self::Batch | Self::HotKey | Self::Noop => &[],
        }
    }

    /// The steps that it takes again and again. They are one operation.
    fn operation(self) -> &'static [Step] {
        match self {
            Self::Reserve => &[Step::Reserve],
            Self::Cycle => &[Step::Reserve, Step::Complete],
            Self::Batch => &[Step::Batch],
            Self::Duplicate => &[Step::Duplicate],
            Self::Replay => &[Step::Replay],
            Self::Lookup => &[Step::Lookup],
            Self::Mix => {
                &[Step::Reserve, Step::Complete, Step::Replay, Step::Lookup, Step::Duplicate]
            }
            Self::HotKey => &[Step::Compete, Step::Release],
            Self::Noop => &[Step::Noop],
        }
    }
}

/// The key that everybody wants; no counter comes that far.
const HOT_KEY: u64 = u64::MAX;

/// Numbers that no other thread uses.
pub struct Numbers {
    next: u64,
    step: u64,
}

impl Numbers {
    /// Those of the thread with this index, of so many.
    pub fn of(thread: usize, threads: usize) -> Self {
        Self { next: thread as u64 * BATCH_ITEMS, step: threads as u64 * BATCH_ITEMS }
    }

    /// As many numbers as a batch takes, from the returned one on.
    fn next(&mut self) -> u64 {
        let number = self.next;
        self.next += self.step;
        number
    }
}

/// One that makes a call after the other.
pub struct Caller {
    workload: Workload,
    prepared: bool,
    /// Where it is among the steps of the preparation, or of the operation.
    at: usize,
    /// The key that it holds from the preparation on.
    own: u64,
    /// The key of its operation, or in a competition its owner token.
    current: u64,
}

/// What came of a call.
pub enum Outcome {
    /// What was expected; the flag says whether an operation ended with it.
    Right(bool),
    /// Something else.
    Fault(String),
}

impl Caller {
    /// One that has made no call yet.
    pub fn new(workload: Workload) -> Self {
        let prepared = workload.preparation().is_empty();
        Self { workload, prepared, at: 0, own: 0, current: 0 }
    }

    /// Whether its preparation is over.
    pub fn is_prepared(&self) -> bool {
        self.prepared
    }

    /// Its next call.
    pub fn next(&mut self, caller: u32, numbers: &mut Numbers, due_at: Instant) -> Call {
        let step = self.step();
        let (key, owner) = match step {
            Step::Hold => {
                self.own = numbers.next();
                self.current = self.own;
                (self.own, self.own)
            }
            Step::Reserve | Step::Batch | Step::Noop => {
                self.current = numbers.next();
                (self.current, self.current)
            }
            Step::Complete => (self.current, self.current),
            Step::Replay | Step::Lookup => (self.current, numbers.next()),
            Step::Duplicate => (self.own, numbers.next()),
            Step::Compete => {
                self.current = numbers.next();
                (HOT_KEY, self.current)
            }
            Step::Release => (HOT_KEY, self.current),
        };
        Call { caller, step, key, owner, due_at }
    }

    /// Takes the answer to its last call.
    pub fn take(&mut self, answer: Answer) -> Outcome {
        let step = self.step();
        let is_right = match step {
            Step::Reserve | Step::Hold | Step::Batch => answer == Answer::Granted,
            Step::Complete | Step::Replay | Step::Lookup => answer == Answer::Completed,
            Step::Release => answer == Answer::Released,
            Step::Duplicate => answer == Answer::InProgress,
            Step::Compete => matches!(answer, Answer::Granted | Answer::InProgress),
            Step::Noop => answer == Answer::Nothing,
        };
        if !is_right {
            // What was begun may not be there, so it begins anew.
            self.at = 0;
            return Outcome::Fault(fault(step, answer));
        }
        // Who came too late for the hot key has nothing to release.
        let ends = answer == Answer::InProgress && step == Step::Compete;
        self.at += 1;
        if self.at < self.steps().len() && !ends {
            return Outcome::Right(false);
        }
        self.at = 0;
        let was_operation = self.prepared;
        self.prepared = true;
        Outcome::Right(was_operation)
    }

    fn step(&self) -> Step {
        self.steps()[self.at]
    }

    fn steps(&self) -> &'static [Step] {
        if self.prepared { self.workload.operation() } else { self.workload.preparation() }
    }
}

/// How many new keys the server has acknowledged with the right answer to this step.
pub fn keys_stored(step: Step, answer: Answer) -> u64 {
    match (step, answer) {
        (Step::Reserve | Step::Hold, Answer::Granted) => 1,
        (Step::Batch, Answer::Granted) => BATCH_ITEMS,
        _ => 0,
    }
}

fn fault(step: Step, answer: Answer) -> String {
    match answer {
        Answer::Status(code) => {
            let code = super::code_name(code);
            format!("{step:?} was answered with the status {code}")
        }
        Answer::Wrong(problem) => format!("{step:?}: {problem}"),
        answer => format!("{step:?} was answered with {answer:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(workload: Workload, answers: &[Answer]) -> Vec<Step> {
        let (mut caller, mut numbers) = (Caller::new(workload), Numbers::of(0, 1));
        let step = |answer: &Answer| {
            let call = caller.next(0, &mut numbers, Instant::now());
            caller.take(*answer);
            call.step
        };
        answers.iter().map(step).collect()
    }

    #[test]
    fn a_preparation_is_taken_once_and_an_operation_again_and_again() {
        use Answer::{Completed, Granted, InProgress};
        assert_eq!(
            steps(Workload::Replay, &[Granted, Completed, Completed, Completed]),
            [Step::Hold, Step::Complete, Step::Replay, Step::Replay]
        );
        assert_eq!(
            steps(Workload::Mix, &[Granted, Granted, Completed, Completed, Completed, InProgress]),
            [
                Step::Hold,
                Step::Reserve,
                Step::Complete,
                Step::Replay,
                Step::Lookup,
                Step::Duplicate
            ]
        );
    }

    #[test]
    fn a_fault_begins_the_operation_anew() {
        let answers = [Answer::Status(14), Answer::Granted, Answer::Completed];
        assert_eq!(
            steps(Workload::Cycle, &answers),
            [Step::Reserve, Step::Reserve, Step::Complete]
        );
    }

    #[test]
    fn whoever_is_granted_the_hot_key_releases_it() {
        let answers = [Answer::InProgress, Answer::Granted, Answer::Released, Answer::InProgress];
        assert_eq!(
            steps(Workload::HotKey, &answers),
            [Step::Compete, Step::Compete, Step::Release, Step::Compete]
        );
    }

    #[test]
    fn no_two_threads_use_one_number() {
        let (mut one, mut other) = (Numbers::of(0, 2), Numbers::of(1, 2));
        let numbers = [one.next(), other.next(), one.next(), other.next()];
        assert_eq!(numbers, [0, 100, 200, 300]);
    }
}
