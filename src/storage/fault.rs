//! Faults on purpose: what a test makes go wrong under an engine.
//!
//! An engine asks before and after each operation on its disk. Nothing asks in production,
//! where there is no plan. The two halves of the question matter: a commit that failed may
//! have happened, and no caller may be told otherwise.

use std::sync::Mutex;

/// What an engine is about to do, or has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Hand a batch to the log.
    Write,
    /// Make the log durable.
    Sync,
    /// Read a record.
    Read,
}

/// How an operation goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It does not happen, and reports failure.
    NotDone,
    /// It happens, and reports failure all the same.
    DoneButReported,
}

/// Which operation goes wrong next.
#[derive(Debug, Default)]
pub struct FaultPlan {
    next: Mutex<Option<(Operation, Fault)>>,
}

impl FaultPlan {
    /// Makes the next `operation` go wrong in the way of `fault`.
    pub fn fail_next(&self, operation: Operation, fault: Fault) {
        *self.next.lock().unwrap() = Some((operation, fault));
    }

    /// Whether the next `operation` meets a fault.
    pub fn awaits(&self, operation: Operation) -> bool {
        self.next.lock().unwrap().is_some_and(|(planned, _)| planned == operation)
    }

    /// The fault that `operation` meets; it is met once.
    pub fn meet(&self, operation: Operation) -> Option<Fault> {
        let mut next = self.next.lock().unwrap();
        match *next {
            Some((planned, fault)) if planned == operation => {
                *next = None;
                Some(fault)
            }
            _ => None,
        }
    }
}
