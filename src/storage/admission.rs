//! How much may wait for an engine: the bound behind promise 7.
//!
//! Commands are counted from their arrival until their answer is handed over, by number and
//! by bytes, because a few thousand responses of a megabyte would be gigabytes: those that they
//! bring, and those that they are answered with.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::EngineError;

/// The bound, and what is in flight.
#[derive(Debug)]
pub struct Admission {
    commands: AtomicUsize,
    bytes: AtomicUsize,
    max_commands: usize,
    max_bytes: usize,
}

impl Admission {
    /// Lets in so many commands, of so many bytes together.
    pub fn new(max_commands: usize, max_bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            commands: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            max_commands,
            max_bytes,
        })
    }

    /// How many commands are in flight, and how many bytes they hold.
    pub fn in_flight(&self) -> (usize, usize) {
        (self.commands.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }

    /// Lets so many `commands` of so many `bytes` together in, until the permit is dropped.
    pub fn admit(self: &Arc<Self>, commands: usize, bytes: usize) -> Result<Permit, EngineError> {
        // Counted first and taken back when it was too much: two callers at the bound may
        // both be refused, but never both be let in.
        let permit = Permit { admission: Arc::clone(self), commands, bytes };
        let commands = self.commands.fetch_add(commands, Ordering::Relaxed) + commands;
        let bytes = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if commands > self.max_commands || bytes > self.max_bytes {
            return Err(EngineError::Overloaded);
        }
        Ok(permit)
    }
}

impl Permit {
    /// Lets so many more bytes in, for what the answer carries. Whether they were to be had.
    pub fn grow(&mut self, bytes: usize) -> bool {
        if bytes == 0 {
            return true;
        }
        let held = self.admission.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let is_let_in = held <= self.admission.max_bytes;
        match is_let_in {
            true => self.bytes += bytes,
            false => drop(self.admission.bytes.fetch_sub(bytes, Ordering::Relaxed)),
        }
        is_let_in
    }
}

/// The place of what was let in together; dropping it makes room.
#[derive(Debug)]
pub struct Permit {
    admission: Arc<Admission>,
    commands: usize,
    bytes: usize,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.admission.commands.fetch_sub(self.commands, Ordering::Relaxed);
        self.admission.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_past_the_number_and_lets_in_again_after() {
        let admission = Admission::new(2, 1_000);
        let first = admission.admit(1, 1).unwrap();
        let _second = admission.admit(1, 1).unwrap();
        assert_eq!(admission.admit(1, 1).unwrap_err(), EngineError::Overloaded);
        drop(first);
        assert!(admission.admit(1, 1).is_ok());
    }

    #[test]
    fn commands_that_come_together_are_counted_one_by_one() {
        let admission = Admission::new(3, 1_000);
        let two = admission.admit(2, 1).unwrap();
        assert_eq!(admission.admit(2, 1).unwrap_err(), EngineError::Overloaded);
        let _one = admission.admit(1, 1).unwrap();
        drop(two);
        assert!(admission.admit(2, 1).is_ok());
    }

    #[test]
    fn what_an_answer_carries_is_let_in_with_its_question() {
        let admission = Admission::new(10, 1_000);
        let mut first = admission.admit(1, 400).unwrap();
        let mut second = admission.admit(1, 100).unwrap();
        assert!(first.grow(500));
        assert!(!second.grow(1));
        assert_eq!(admission.in_flight(), (2, 1_000));
        drop(first);
        assert!(second.grow(900));
        drop(second);
        assert_eq!(admission.in_flight(), (0, 0));
    }

    #[test]
    fn refuses_past_the_bytes() {
        let admission = Admission::new(100, 1_000);
        let _large = admission.admit(1, 900).unwrap();
        assert_eq!(admission.admit(1, 101).unwrap_err(), EngineError::Overloaded);
        assert!(admission.admit(1, 100).is_ok());
    }
}
